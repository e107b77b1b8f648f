//! Pushing: layers and blobs into one repository, and names at the end.

use std::time::Duration;

use futures_core::future::BoxFuture;
use ocib_image::{
    Blob, Codec, Compression, Digest, Document, Layer, LayerError, Outcome, PlaceError, Progress, Reference,
    Sealer, Sink, Unsealed,
};
use ocib_net::{Retry, Verdict};

use super::{Registries, Repository, Scopes, profile::Profile, upload::Session, verified::verified};
use crate::{Error, bridge};

/// Writes one image, or several under one index, into a repository of a registry.
///
/// A layer is made while it is sent, and never stored on the way. A transfer that breaks begins
/// again from the layer's source; one whose source fails is given up at once. Must be used within
/// a runtime of tokio.
///
/// ```
/// use ocib_image::{Budget, Codec, Limits, Sealer, Sink};
/// use ocib_store::{Registries, RegistriesOptions, RegistrySink};
///
/// let limits = Limits { memory_bytes: 64 << 20, jobs: 2, cores: 1 };
/// let sink = RegistrySink {
///     registries: Registries::new(RegistriesOptions::default()),
///     repository: "registry.example/team/app".parse()?,
///     tags: vec!["1.0".to_owned()],
///     sealer: Sealer::new(Budget::new(limits, Codec::GZIP)?),
/// };
/// assert_eq!(sink.name(), "registry.example/team/app");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RegistrySink {
    /// The client.
    pub registries: Registries,
    /// The repository; a tag or digest of the reference has no meaning here.
    pub repository: Reference,
    /// The tags that the image gets at the end, if any.
    pub tags: Vec<String>,
    /// What makes the layers.
    pub sealer: Sealer,
}

impl Sink for RegistrySink {
    fn name(&self) -> String {
        self.repository.name()
    }

    fn concurrency(&self) -> usize {
        self.sealer.budget().layers
    }

    fn put_layer<'a>(
        &'a self,
        layer: &'a Unsealed,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Layer, PlaceError>> {
        Box::pin(async move {
            let (layer, outcome) = self.push_layer(layer, progress).await?;
            progress.finished(outcome);
            Ok(layer)
        })
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Blob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), PlaceError>> {
        Box::pin(async move {
            progress.finished(self.push_blob(blob, progress).await?);
            Ok(())
        })
    }

    fn put_manifest<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<(), PlaceError>> {
        let digest = document.descriptor().digest;
        Box::pin(async move { Ok(self.name_document(&digest.to_string(), digest, document).await?) })
    }

    fn finish<'a>(&'a self, root: &'a Document) -> BoxFuture<'a, Result<Vec<String>, PlaceError>> {
        Box::pin(async move {
            let digest = root.descriptor().digest;
            self.name_document(&digest.to_string(), digest, root).await?;
            for tag in &self.tags {
                self.name_document(tag, digest, root).await?;
            }
            let pinned = self.repository.pinned(digest).to_string();
            Ok(vec![pinned; self.tags.len().max(1)])
        })
    }
}

impl RegistrySink {
    fn open(&self) -> Repository {
        self.registries.repository(&self.repository, Scopes::push(&self.repository))
    }

    fn profile(&self) -> Profile {
        Profile::of(self.repository.registry())
    }

    /// Makes `target` name the document. Where it does already nothing is sent: a registry with
    /// immutable tags refuses even the same document.
    async fn name_document(&self, target: &str, digest: Digest, document: &Document) -> Result<(), Error> {
        let repository = self.open();
        match repository.document_digest(target).await? == Some(digest) {
            true => Ok(()),
            false => repository.put_document(target, document).await,
        }
    }

    async fn push_layer(&self, layer: &Unsealed, progress: &Progress) -> Result<(Layer, Outcome), Error> {
        if let (Compression::Fixed(Codec::Plain), Some(bytes)) = (layer.compression, layer.source.bytes()) {
            self.check_size(bytes)?;
        }
        let repository = self.open();
        let mut restarts = Restarts::default();
        let mut sealed: Option<Layer> = None;
        loop {
            // A transfer can fail after its last byte, and then the layer may be there all the same.
            if let Some(layer) = &sealed
                && repository.has_blob(layer.descriptor.digest).await?
            {
                return Ok((layer.clone(), Outcome::Stored));
            }
            let session = repository.start_upload().await?;
            match self.stream_layer(session, layer, progress, &mut sealed).await {
                Ok(layer) => return Ok((layer, Outcome::Stored)),
                Err(error) => restarts.pause(error, &repository, progress).await?,
            }
        }
    }

    async fn stream_layer(
        &self,
        mut session: Session,
        layer: &Unsealed,
        progress: &Progress,
        sealed: &mut Option<Layer>,
    ) -> Result<Layer, Error> {
        let (body, made) = bridge::seal(layer.clone(), self.sealer.clone(), progress.clone());
        let sent = session.append(body).await;
        // The body is gone now, so the thread ends at its next piece at the latest.
        let layer = match (made.await, sent) {
            (Err(LayerError::Output(_)), Err(error)) | (Ok(_), Err(error)) => return Err(error),
            (Err(error), _) => {
                session.abandon().await;
                return Err(error.into());
            }
            (Ok(layer), Ok(())) => layer,
        };
        *sealed = Some(layer.clone());
        session.commit(layer.descriptor.digest).await?;
        Ok(layer)
    }

    async fn push_blob(&self, blob: &Blob, progress: &Progress) -> Result<Outcome, Error> {
        let repository = self.open();
        let mut restarts = Restarts::default();
        loop {
            if repository.has_blob(blob.descriptor.digest).await? {
                return Ok(if restarts.failures == 0 { Outcome::Present } else { Outcome::Stored });
            }
            self.check_size(blob.descriptor.size)?;
            let Some(session) = self.mount(&repository, blob).await? else { return Ok(Outcome::Mounted) };
            match stream_blob(session, blob, progress).await {
                Ok(()) => return Ok(Outcome::Stored),
                Err(error) => restarts.pause(error, &repository, progress).await?,
            }
        }
    }

    /// Gets the blob from its own repository, where that is in the same registry (`None`), or begins
    /// an upload. A registry that refuses to mount says so in many ways, and an upload is the answer
    /// to all of them.
    async fn mount(&self, repository: &Repository, blob: &Blob) -> Result<Option<Session>, Error> {
        let from = blob.source.repository().filter(|from| {
            from.registry() == self.repository.registry() && from.repository() != self.repository.repository()
        });
        if let Some(from) = from.filter(|_| self.profile().mounts)
            && let Ok(session) = repository.mount(blob.descriptor.digest, from).await
        {
            return Ok(session);
        }
        Ok(Some(repository.start_upload().await?))
    }

    fn check_size(&self, bytes: u64) -> Result<(), Error> {
        let limit = self.profile().blob_bytes_max;
        match bytes <= limit {
            true => Ok(()),
            false => {
                Err(Error::TooLarge { what: format!("a layer for {}", self.repository.name()), bytes, limit })
            }
        }
    }
}

async fn stream_blob(session: Session, blob: &Blob, progress: &Progress) -> Result<(), Error> {
    let stream = blob.source.stream(0).await?;
    let (stream, cause) = verified(stream, blob.descriptor.clone(), progress.clone());
    let sent = session.put(blob.descriptor.digest, blob.descriptor.size, stream).await;
    match (sent, cause.take()) {
        (_, Some(cause)) => {
            session.abandon().await;
            Err(cause)
        }
        (sent, None) => sent,
    }
}

/// How often a transfer began again.
#[derive(Default)]
struct Restarts {
    failures: u32,
    renewed: bool,
}

impl Restarts {
    /// Waits until the transfer may begin again, or gives `error` back.
    async fn pause(
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
