//! The stored bytes of a remote file, over as many connections as it takes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use ocib_net::{Backoff, Failures, Response};

use super::remote::{Answer, Remote};
use crate::Error;

/// A transfer. A connection that breaks is made again and goes on where it was.
pub(super) struct Download {
    remote: Arc<Remote>,
    /// Where the next byte is.
    at: u64,
    response: Option<Response>,
    /// Bytes to pass over, where the server ignored a range.
    skip: u64,
    /// Since the last byte.
    failures: Failures,
}

impl Download {
    /// The stored bytes of `remote` from `at` on.
    pub(super) fn new(remote: Arc<Remote>, backoff: Backoff, at: u64) -> Self {
        Self { remote, at, response: None, skip: 0, failures: Failures::new(backoff) }
    }

    /// Begins with `response`, which must start at the same byte.
    pub(super) fn with(self, response: Response) -> Self {
        Self { response: Some(response), ..self }
    }

    pub(super) fn stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        stream::try_unfold(self, async |mut download| {
            let piece = download.next().await?;
            Ok(piece.map(|piece| (piece, download)))
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.piece().await {
                Ok(piece) => {
                    self.failures.forget();
                    return Ok(piece);
                }
                Err(error) => {
                    self.response = None;
                    self.failures.wait(error).await?;
                }
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        let length = self.remote.length();
        let mut response = match self.response.take() {
            Some(response) => response,
            None if length == Some(self.at) => return Ok(None),
            None => self.open().await?,
        };
        loop {
            let Some(mut piece) = response.piece().await? else { return self.end(length) };
            let skipped = piece.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            let piece = piece.split_off(skipped);
            if piece.is_empty() {
                continue;
            }
            let end = self.at + piece.len() as u64;
            if let Some(length) = length.filter(|&length| end > length) {
                return Err(self.remote.changed(format!("it is longer than the {length} bytes it had")));
            }
            self.at = end;
            self.response = Some(response);
            return Ok(Some(piece));
        }
    }

    /// What the end of an answer means.
    fn end(&self, length: Option<u64>) -> Result<Option<Bytes>, Error> {
        let at = self.at;
        match length {
            Some(length) if at < length => {
                Err(self.remote.broken(format!("it ended after {at} of {length} bytes")))
            }
            None if self.skip > 0 => Err(self.remote.changed(format!("it has no byte {at} any more"))),
            _ => Ok(None),
        }
    }

    async fn open(&mut self) -> Result<Response, Error> {
        let Answer { response, skip } = self.remote.get(self.at).await?;
        self.skip = skip;
        Ok(response)
    }
}
