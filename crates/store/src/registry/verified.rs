//! Streams that end well only if they were what they should be.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ocib_image::{ByteStream, Descriptor, Digester, PlaceError, PlaceErrorKind, Progress};

use crate::Error;

/// Why a [`verified`] stream broke off: the connection that took it knows only that it did.
#[derive(Clone, Default)]
pub(super) struct Cause(Arc<Mutex<Option<Error>>>);

impl Cause {
    /// The error, if the stream was what failed.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn give(&self, error: Error) -> PlaceError {
        let told = PlaceError::new(PlaceErrorKind::Input, error.to_string());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        told
    }
}

/// `stream` as it is, counted to `progress`. Its last piece is held back until size and digest are
/// found to be those of `descriptor`, so that a transfer of wrong bytes never completes.
pub(super) fn verified(
    stream: ByteStream,
    descriptor: Descriptor,
    progress: Progress,
) -> (ByteStream, Cause) {
    let cause = Cause::default();
    let verifying = Verifying {
        stream,
        descriptor,
        progress,
        digester: Digester::new(),
        held: None,
        cause: cause.clone(),
    };
    let stream = stream::try_unfold(Some(verifying), async |verifying| match verifying {
        Some(verifying) => verifying.next().await,
        None => Ok(None),
    });
    (Box::pin(stream), cause)
}

struct Verifying {
    stream: ByteStream,
    descriptor: Descriptor,
    progress: Progress,
    digester: Digester,
    held: Option<Bytes>,
    cause: Cause,
}

impl Verifying {
    /// The next piece and what comes after it: nothing, after the last one.
    async fn next(mut self) -> Result<Option<(Bytes, Option<Self>)>, PlaceError> {
        while let Some(piece) = self.stream.next().await {
            let piece = piece.map_err(|error| self.cause.give(error.into()))?;
            self.digester.update(&piece);
            self.progress.advanced(piece.len() as u64);
            if self.digester.bytes() > self.descriptor.size {
                return Err(self.wrong_size());
            }
            if let Some(ready) = self.held.replace(piece) {
                return Ok(Some((ready, Some(self))));
            }
        }
        if self.digester.bytes() != self.descriptor.size {
            return Err(self.wrong_size());
        }
        let (expected, actual) = (self.descriptor.digest, self.digester.finish());
        match actual == expected {
            true => Ok(self.held.map(|last| (last, None))),
            false => Err(self.cause.give(Error::WrongDigest { what: WHAT.to_owned(), expected, actual })),
        }
    }

    fn wrong_size(&self) -> PlaceError {
        let (expected, actual) = (self.descriptor.size, self.digester.bytes());
        let what = format!("{WHAT} {}", self.descriptor.digest);
        self.cause.give(Error::WrongSize { what, expected, actual })
    }
}

/// What the bytes are called in messages.
const WHAT: &str = "the blob";
