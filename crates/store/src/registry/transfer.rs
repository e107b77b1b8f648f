//! Transfers: the bytes of a layer or blob on their way into an upload, once or again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use ocib_image::{
    Blob, ByteStream, Layer, LayerError, PlaceError, PlaceErrorKind, Progress, Sealer, Unsealed,
};
use ocib_net::{Retry, Verdict};

use super::{
    Repository,
    upload::{Sent, Session},
    verified::verified,
};
use crate::{Error, bridge};

/// How often a registry may send an upload elsewhere.
const MOVES_MAX: usize = 4;

/// A layer that is made while it is sent.
pub(super) struct LayerTransfer<'a> {
    pub(super) layer: &'a Unsealed,
    pub(super) sealer: &'a Sealer,
    /// As many bytes as the registry takes.
    pub(super) limit: u64,
    pub(super) progress: &'a Progress,
}

impl LayerTransfer<'_> {
    /// Sends the layer. `sealed` is what it is, where that is known, and becomes that with the last
    /// byte. `None`: it is larger than the limit, and the upload was given up.
    pub(super) async fn send(
        &self,
        mut session: Session,
        sealed: &mut Option<Layer>,
    ) -> Result<Option<Layer>, Error> {
        for _ in 0..MOVES_MAX {
            let (body, made) = bridge::seal(self.layer.clone(), self.sealer.clone(), self.progress.clone());
            let (body, is_too_large) = limited(body, self.limit);
            let known = sealed.clone();
            let sent = match known.as_ref().map(|layer| &layer.descriptor) {
                None => session.append(body).await,
                Some(known) => session.put(known.digest, known.size, body).await,
            };
            // The body is gone now, so the thread ends at its next piece at the latest.
            let made = made.await;
            if is_too_large.load(Ordering::Relaxed) {
                session.abandon().await;
                return Ok(None);
            }
            let layer = match (made, sent) {
                (_, Ok(Sent::Elsewhere)) => continue,
                (Ok(layer), _) if known.as_ref().is_some_and(|known| *known != layer) => {
                    session.abandon().await;
                    return Err(changed().into());
                }
                (Err(LayerError::Output(_)) | Ok(_), Err(error)) => return Err(error),
                (Err(error), _) => {
                    session.abandon().await;
                    return Err(error.into());
                }
                (Ok(layer), Ok(Sent::Whole)) => layer,
            };
            *sealed = Some(layer.clone());
            if known.is_none() {
                session.commit(layer.descriptor.digest).await?;
            }
            return Ok(Some(layer));
        }
        Err(session.lost())
    }
}

fn changed() -> LayerError {
    let what = "it has another digest than a moment ago".to_owned();
    LayerError::Changed { name: "the layer's content".to_owned(), what }
}

/// The same stream, which breaks off where it gets longer than `limit`; the flag then says so.
pub(crate) fn limited(stream: ByteStream, limit: u64) -> (ByteStream, Arc<AtomicBool>) {
    let is_exceeded = Arc::new(AtomicBool::new(false));
    let (told, mut bytes) = (Arc::clone(&is_exceeded), 0);
    let stream = stream.map(move |piece| {
        let piece = piece?;
        bytes += piece.len() as u64;
        if bytes > limit {
            told.store(true, Ordering::Relaxed);
            return Err(PlaceError::new(PlaceErrorKind::Refused, "the layer is too large"));
        }
        Ok(piece)
    });
    (Box::pin(stream), is_exceeded)
}

/// Sends a blob of known digest, verified while it passes.
pub(super) async fn send_blob(mut session: Session, blob: &Blob, progress: &Progress) -> Result<(), Error> {
    for _ in 0..MOVES_MAX {
        let stream = blob.source.stream(0).await?;
        let (stream, cause) = verified(stream, blob.descriptor.clone(), progress.clone());
        let sent = session.put(blob.descriptor.digest, blob.descriptor.size, stream).await;
        match (sent, cause.take()) {
            (_, Some(cause)) => {
                session.abandon().await;
                return Err(cause);
            }
            (Ok(Sent::Elsewhere), None) => {}
            (sent, None) => return sent.map(drop),
        }
    }
    Err(session.lost())
}

/// How often a transfer began again.
#[derive(Default)]
pub(super) struct Restarts {
    pub(super) failures: u32,
    renewed: bool,
}

impl Restarts {
    /// Waits until the transfer may begin again, or gives `error` back.
    pub(super) async fn pause(
        &mut self,
        error: Error,
        repository: &Repository,
        progress: &Progress,
    ) -> Result<(), Error> {
        self.failures += 1;
        // A proof that turned stale while the bytes passed is renewed by now, but only once.
        let is_stale = error.is_stale() && !std::mem::replace(&mut self.renewed, true);
        let delay = match is_stale {
            true => Some(Duration::ZERO),
            false => repository.options().backoff.jittered_delay(self.failures, verdict(&error)),
        };
        let Some(delay) = delay else { return Err(error) };
        progress.restarted(&error.to_string());
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// What a failed transfer means: besides what is transient anyway, a session that the registry
/// has lost, as one of several replicas does, is worth a new one.
fn verdict(error: &Error) -> Verdict {
    match error.has_code("BLOB_UPLOAD_UNKNOWN") || error.has_code("BLOB_UPLOAD_INVALID") {
        true => Verdict::Again { after: None },
        false => error.verdict(),
    }
}
