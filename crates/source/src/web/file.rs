//! A remote file as a tree.

use std::{
    fmt,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use flate2::read::MultiGzDecoder;
use ocib_image::{Digest, Digester, Identity, LayerError, Node, NodeKind, Timestamp, Tree, Xattrs};
use ocib_net::{Backoff, Response, read_blocking};
use tokio::runtime::Handle;

use super::remote::Remote;
use crate::{
    Error,
    transfer::{Download, Part, Stored, changed},
    watched::{Watch, watched},
};

/// BuildKit's mode of what it fetched (`source/http`, `save`).
const MODE: u32 = 0o600;
/// Content that is only measured passes in pieces of this size.
const MEASURE_BYTES: usize = 64 << 10;

/// A tree of one file, which is fetched whenever it is read.
pub(super) struct WebFile {
    found: Found,
    /// The answer that the file was found with, for whoever reads it first.
    first: Mutex<Option<Response>>,
    size: u64,
    expected: Option<Expected>,
}

/// What a URL led to.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) name: Box<[u8]>,
    pub(super) remote: Arc<Remote>,
    pub(super) backoff: Backoff,
    /// Drives the transfers.
    pub(super) runtime: Handle,
}

/// The digest that the whole content must have, and where it is from.
#[derive(Clone, Copy)]
enum Expected {
    Given(Digest),
    Measured(Digest),
}

impl WebFile {
    /// What `found` is, whose size the server said; `first` is the answer with its content.
    pub(super) fn new(found: Found, size: u64, first: Response, digest: Option<Digest>) -> Self {
        Self { found, first: Mutex::new(Some(first)), size, expected: digest.map(Expected::Given) }
    }

    /// What `found` is, read to its end to know its size and digest.
    pub(super) async fn measure(
        found: Found,
        first: Response,
        digest: Option<Digest>,
    ) -> Result<Self, Error> {
        let (size, actual) = measured(&found, Some(first)).await?;
        let expected = match digest {
            Some(expected) if expected != actual => return Err(Error::WrongDigest { expected, actual }),
            Some(expected) => Expected::Given(expected),
            None => Expected::Measured(actual),
        };
        Ok(Self { found, first: Mutex::default(), size, expected: Some(expected) })
    }

    fn missing(&self, path: &[u8], kind: io::ErrorKind) -> LayerError {
        LayerError::Read { name: self.display(path), source: kind.into() }
    }
}

/// Size and digest of the content, which may begin with the body of `first`. Dropping the future ends the
/// transfer at its next piece.
pub(super) async fn measured(found: &Found, first: Option<Response>) -> Result<(u64, Digest), Error> {
    let work = found.clone();
    watched(move |watch| measure_blocking(&work, first, watch), || found.broken_off()).await
}

fn measure_blocking(found: &Found, first: Option<Response>, watch: &Watch) -> Result<(u64, Digest), Error> {
    let download = found.download(0);
    let mut content = found.content(match first {
        Some(first) => download.with(first),
        None => download,
    });
    let (mut digester, mut size) = (Digester::new(), 0);
    let mut buffer = vec![0; MEASURE_BYTES];
    loop {
        if watch.is_over() {
            return Err(found.broken_off());
        }
        match content.read(&mut buffer).map_err(|error| found.failure(error))? {
            0 => return Ok((size, digester.finish())),
            got => {
                digester.update(&buffer[..got]);
                size += got as u64;
            }
        }
    }
}

impl Found {
    fn download(&self, from: u64) -> Download {
        let stored: Arc<dyn Stored> = Arc::clone(&self.remote) as _;
        Download::new(stored, self.backoff, Part { from, until: None })
    }

    /// The content, once its encoding is undone.
    fn content(&self, stored: Download) -> Box<dyn Read + Send> {
        let stored = read_blocking(stored.stream(), &self.runtime);
        match self.remote.is_gzip() {
            true => Box::new(MultiGzDecoder::new(stored)),
            false => Box::new(stored),
        }
    }

    /// What an error of [`Found::content`] means: the download's, or one of those around it.
    fn failure(&self, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) if self.remote.is_gzip() => {
                Error::Encoding { url: self.remote.shown(), why: error.to_string() }
            }
            Err(_) => self.broken_off(),
        }
    }

    fn broken_off(&self) -> Error {
        Error::BrokenOff { url: self.remote.shown() }
    }
}

impl Tree for WebFile {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, LayerError> {
        let node = |kind, mode, mtime| Node { kind, mode, uid: 0, gid: 0, mtime, link_group: None };
        Ok(match path {
            b"" => Some(node(NodeKind::Directory, 0o755, Timestamp::default())),
            path if *path == *self.found.name => {
                Some(node(NodeKind::File { size: self.size }, MODE, self.found.remote.modified()))
            }
            _ => None,
        })
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        match path {
            b"" => Ok(vec![self.found.name.clone()]),
            path if *path == *self.found.name => Err(self.missing(path, io::ErrorKind::NotADirectory)),
            path => Err(self.missing(path, io::ErrorKind::NotFound)),
        }
    }

    fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn Read + Send>, LayerError> {
        match path {
            b"" => return Err(self.missing(path, io::ErrorKind::IsADirectory)),
            path if *path == *self.found.name => {}
            path => return Err(self.missing(path, io::ErrorKind::NotFound)),
        }
        let offset = offset.min(self.size);
        // Ranges are of stored bytes, so of compressed ones all that come before must be read too.
        let start = if self.found.remote.is_gzip() { 0 } else { offset };
        let download = self.found.download(start);
        let first = match start {
            0 => self.first.lock().unwrap_or_else(PoisonError::into_inner).take(),
            _ => None,
        };
        let download = match first {
            Some(first) => download.with(first),
            None => download,
        };
        Ok(Box::new(Reading {
            content: self.found.content(download),
            found: self.found.clone(),
            offset,
            at: start,
            size: self.size,
            check: self.expected.filter(|_| start == 0).map(|expected| (Digester::new(), expected)),
        }))
    }

    fn xattrs(&self, _: &[u8]) -> Result<Xattrs, LayerError> {
        Ok(Xattrs::new())
    }

    fn identity(&self, path: &[u8]) -> Result<Option<Identity>, LayerError> {
        let expected = self.expected.filter(|_| *path == *self.found.name);
        Ok(expected.map(|(Expected::Given(digest) | Expected::Measured(digest))| {
            Identity::Content(digest.to_string().into_bytes().into())
        }))
    }

    fn display(&self, _: &[u8]) -> String {
        self.found.remote.shown().to_string()
    }
}

impl fmt::Debug for WebFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebFile({}, {} bytes)", self.found.remote.shown(), self.size)
    }
}

/// A reader that fails at its end unless the content was what it was said to be.
struct Reading {
    content: Box<dyn Read + Send>,
    found: Found,
    /// Where whoever reads begins.
    offset: u64,
    /// Where the content is.
    at: u64,
    size: u64,
    check: Option<(Digester, Expected)>,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| io::Error::other(LayerError::from(error)))
    }
}

impl Reading {
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let got = self.content.read(buffer).map_err(|error| self.found.failure(error))?;
            if got == 0 {
                return self.end();
            }
            if let Some((digester, _)) = &mut self.check {
                digester.update(&buffer[..got]);
            }
            self.at += got as u64;
            let wanted = usize::try_from(self.at.saturating_sub(self.offset)).unwrap_or(got).min(got);
            buffer.copy_within(got - wanted..got, 0);
            if wanted > 0 {
                return Ok(wanted);
            }
        }
    }

    fn end(&mut self) -> Result<usize, Error> {
        let remote = &self.found.remote;
        let actual = self.check.take().map(|(digester, expected)| (digester.finish(), expected));
        match actual {
            Some((actual, Expected::Given(expected))) if actual != expected => {
                Err(Error::WrongDigest { expected, actual })
            }
            Some((actual, Expected::Measured(before))) if actual != before => {
                Err(changed(&**remote, "it has another content now".to_owned()))
            }
            _ if self.at != self.size => {
                let (at, size) = (self.at, self.size);
                Err(changed(&**remote, format!("it had {size} bytes, now it has {at}")))
            }
            _ => Ok(0),
        }
    }
}
