//! Blobs in a registry, as streams that outlive their connections.

use std::{
    fmt,
    io::{self, Read},
    ops::Range,
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::stream;
use ocib_image::{BlobSource, ByteStream, Descriptor, Digester, PlaceError, Reference};
use ocib_net::{
    Failures, Method, Request, Response, StatusCode,
    header::{CONTENT_RANGE, HeaderValue, RANGE},
    read_blocking,
};
use tokio::runtime::Handle;

use super::Repository;
use crate::Error;

/// A blob that a registry holds. A connection that breaks is made again and goes on where it was.
#[derive(Clone)]
pub struct RegistryBlob {
    repository: Repository,
    descriptor: Descriptor,
    runtime: Handle,
}

impl RegistryBlob {
    pub(super) fn new(repository: Repository, descriptor: Descriptor, runtime: Handle) -> Self {
        Self { repository, descriptor, runtime }
    }

    /// What the blob is called in messages.
    fn name(&self) -> String {
        self.repository.name.pinned(self.descriptor.digest).to_string()
    }

    fn download(&self, range: Range<u64>) -> ByteStream {
        let failures = Failures::new(self.repository.backoff);
        let Range { start, end } = range;
        let download = Download { blob: self.clone(), at: start, end, response: None, skip: 0, failures };
        Box::pin(stream::try_unfold(download, async |mut download| {
            let piece = download.next().await.map_err(PlaceError::from)?;
            Ok(piece.map(|piece| (piece, download)))
        }))
    }
}

impl fmt::Debug for RegistryBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryBlob({})", self.name())
    }
}

impl BlobSource for RegistryBlob {
    /// The size is verified; the digest is up to whoever takes the bytes from the start.
    fn stream(&self, offset: u64) -> BoxFuture<'_, Result<ByteStream, PlaceError>> {
        Box::pin(async move { Ok(self.download(offset..self.descriptor.size)) })
    }

    /// One request for these bytes alone, so that the connection is free for the next one.
    fn range(&self, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, PlaceError>> {
        let end = range.end.min(self.descriptor.size);
        Box::pin(async move { Ok(self.download(range.start.min(end)..end)) })
    }

    /// Size and digest are verified: a reader that reached the end without an error had the blob.
    fn read(&self) -> Result<Box<dyn Read + Send>, PlaceError> {
        let bytes = read_blocking(self.download(0..self.descriptor.size), &self.runtime);
        Ok(Box::new(VerifyingRead { bytes, digester: Some(Digester::new()), blob: self.clone() }))
    }

    fn repository(&self) -> Option<&Reference> {
        Some(&self.repository.name)
    }
}

/// A transfer, over as many connections as it takes.
struct Download {
    blob: RegistryBlob,
    at: u64,
    /// Where it ends, which may be before the end of the blob.
    end: u64,
    response: Option<Response>,
    /// Bytes to pass over, where the registry ignored a range.
    skip: u64,
    /// Since the last byte.
    failures: Failures,
}

impl Download {
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
        let size = self.blob.descriptor.size;
        let mut response = match self.response.take() {
            Some(response) => response,
            // A connection that broke behind the last byte: there is no range to ask for.
            None if self.at == self.end && (self.at > 0 || self.end < size) => return Ok(None),
            None => self.open().await?,
        };
        loop {
            // A registry that ignores ranges has more, which nobody wants.
            if self.at == self.end && self.end < size {
                return Ok(None);
            }
            let Some(mut piece) = response.piece().await? else {
                return if self.at == self.end { Ok(None) } else { Err(self.wrong_size(self.at)) };
            };
            let skipped = piece.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            let piece = piece.split_off(skipped);
            if piece.is_empty() {
                continue;
            }
            let end = self.at + piece.len() as u64;
            if end > size {
                return Err(self.wrong_size(end));
            }
            let piece =
                piece.slice(..piece.len() - usize::try_from(end.saturating_sub(self.end)).unwrap_or(0));
            self.at = end.min(self.end);
            self.response = Some(response);
            return Ok(Some(piece));
        }
    }

    async fn open(&mut self) -> Result<Response, Error> {
        let RegistryBlob { repository, descriptor, .. } = &self.blob;
        let mut request =
            Request::new(Method::GET, repository.url(&format!("blobs/{}", descriptor.digest)).await?);
        let range = match self.end == descriptor.size {
            true if self.at == 0 => None,
            true => Some(format!("bytes={}-", self.at)),
            false => Some(format!("bytes={}-{}", self.at, self.end - 1)),
        };
        if let Some(range) = range {
            let range = HeaderValue::from_str(&range).expect("digits are visible");
            request.headers.insert(RANGE, range);
        }
        let response = match repository.expect(request, &[]).await {
            // URLs of foreign layers could lead anywhere, so they are never asked.
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) && !descriptor.urls.is_empty() => {
                return Err(Error::ForeignLayer { name: self.blob.name() });
            }
            response => response?,
        };
        self.skip = self.at - start(&response).filter(|start| *start <= self.at).unwrap_or(0);
        Ok(response)
    }

    fn wrong_size(&self, actual: u64) -> Error {
        Error::WrongSize { what: self.blob.name(), expected: self.blob.descriptor.size, actual }
    }
}

/// Where in the blob the body of `response` begins (RFC 9110, section 14.4). No `If-Range` was sent: the
/// same digest is the same bytes, whatever their entity tag, and all of them are verified at the end.
fn start(response: &Response) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let range = response.header(CONTENT_RANGE.as_str())?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}

/// A reader whose end is an error unless all that was read has the blob's digest.
struct VerifyingRead<R> {
    bytes: R,
    digester: Option<Digester>,
    blob: RegistryBlob,
}

impl<R: Read> Read for VerifyingRead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        if let Some(digester) = &mut self.digester {
            digester.update(&buffer[..read]);
        }
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        let expected = self.blob.descriptor.digest;
        match self.digester.take().map(Digester::finish) {
            Some(actual) if actual != expected => {
                let error = Error::WrongDigest { what: self.blob.name(), expected, actual };
                Err(io::Error::new(io::ErrorKind::InvalidData, PlaceError::from(error)))
            }
            _ => Ok(0),
        }
    }
}
