//! Answers: headers at once, the body in pieces or whole within a limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, StatusCode, Url,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::{Error, Redacted};

/// An answer whose body was not read yet. Dropping it ends the transfer.
#[derive(Debug)]
pub struct Response {
    inner: reqwest::Response,
    method: Method,
    idle: Duration,
    /// What was read of the body to see what it says.
    peeked: Bytes,
}

/// How much of an error's body is kept; registries' errors are a few hundred bytes.
const SAID_BYTES: usize = 16 << 10;
const SAID_CHARS: usize = 500;

impl Response {
    pub(crate) fn new(inner: reqwest::Response, method: Method, idle: Duration) -> Self {
        Self { inner, method, idle, peeked: Bytes::new() }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// The URL that answered, after redirects.
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// A header as text, unless it is missing or no visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// What the server asked for in `Retry-After`, where it gave seconds; no known registry sends
    /// the form with a date.
    pub fn retry_after(&self) -> Option<Duration> {
        self.header(RETRY_AFTER.as_str())?.trim().parse().ok().map(Duration::from_secs)
    }

    /// The next piece of the body, `None` after the last. A body that ends too early is an error.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.peeked.is_empty() {
            return Ok(Some(std::mem::take(&mut self.peeked)));
        }
        let piece = tokio::time::timeout(self.idle, self.inner.chunk()).await;
        let (method, url) = (&self.method, self.inner.url());
        match piece {
            Ok(piece) => piece.map_err(|error| Error::of_client(method, url, &error)),
            Err(_) => {
                Err(Error::Stalled { method: method.clone(), url: Redacted::of(url), limit: self.idle })
            }
        }
    }

    /// The whole body, if it has no more than `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if all.len() + piece.len() > limit {
                let url = Redacted::of(self.url());
                return Err(Error::TooLong { method: self.method, url, limit });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// The beginning of the body, for messages: whatever arrives of its first 16 KiB.
    pub async fn said(mut self) -> Bytes {
        let mut all = BytesMut::new();
        while let Ok(Some(piece)) = self.piece().await {
            all.extend_from_slice(&piece[..piece.len().min(SAID_BYTES - all.len())]);
            if all.len() == SAID_BYTES {
                break;
            }
        }
        all.freeze()
    }

    /// The beginning of the body, as far as it arrives, without taking it away.
    pub async fn peek(&mut self) -> &Bytes {
        let mut all = BytesMut::new();
        while let Ok(Some(piece)) = self.piece().await {
            all.extend_from_slice(&piece);
            if all.len() >= SAID_BYTES {
                break;
            }
        }
        self.peeked = all.freeze();
        &self.peeked
    }

    /// The answer as an error.
    pub async fn into_error(self) -> Error {
        let (method, url) = (self.method.clone(), Redacted::of(self.url()));
        let (status, retry_after) = (self.status(), self.retry_after());
        let said = crate::printable(&self.said().await, SAID_CHARS);
        Error::Status { method, url, status, said, retry_after }
    }
}
