//! Trees of files that a server has listed: fetched whenever they are read, and verified.

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
};

use ocib_image::{
    Digest, Digester, Entered, Fetched, Identity, LayerError, Node, NodeKind, Timestamp, Tree, Xattrs,
};
use ocib_net::Backoff;
use tokio::runtime::Handle;

use crate::{
    Error,
    flat::{Flat, Place},
    git::oid::{Kind, Namer, Oid},
    transfer::{Ahead, Stored, read},
};

/// A tree of files that a server has listed. Owner 0:0, modes 0644 and 0755.
pub(crate) struct Listed {
    /// What comes before a path in messages.
    pub(crate) name: String,
    pub(crate) files: Flat<Member>,
    pub(crate) transfers: Transfers,
}

/// How files are fetched.
#[derive(Clone, Debug)]
pub(crate) struct Transfers {
    pub(crate) backoff: Backoff,
    pub(crate) ahead: Ahead,
    /// Drives the transfers, so it must live as long as the tree.
    pub(crate) runtime: Handle,
}

/// A file of a tree.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) stored: Arc<dyn Stored>,
    pub(crate) size: u64,
    pub(crate) modified: Timestamp,
    /// What the content must be.
    pub(crate) expected: Option<Expected>,
    /// A name that only this content has.
    pub(crate) identity: Option<Box<[u8]>>,
}

/// More bytes than any store keeps of a file. So many files as lists may have, all of that size, can be counted.
const FILE_BYTES_MAX: u64 = 1 << 46;

/// The size that a server says a file has, unless that cannot be.
pub(crate) fn said_size(bytes: u64) -> Result<u64, &'static str> {
    match bytes <= FILE_BYTES_MAX {
        true => Ok(bytes),
        false => Err("a file has more bytes than any store keeps"),
    }
}

/// What whoever listed a file said of its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    Sha256(Digest),
    /// The same, as whoever wants the file has it.
    Given(Digest),
    /// Git's name of it.
    Blob(Oid),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) | Self::Given(digest) => digest.fmt(f),
            Self::Blob(oid) => write!(f, "git blob {oid}"),
        }
    }
}

impl Listed {
    /// The tree and the file in it that is meant, whose content must have `digest`.
    pub(crate) fn fetched(
        mut self,
        file: Option<Box<[u8]>>,
        digest: Option<&Digest>,
    ) -> Result<Fetched, Error> {
        if let Some(&expected) = digest {
            let Some(member) = file.as_ref().and_then(|file| self.files.get_mut(file)) else {
                return Err(Error::BadUrl {
                    url: self.name,
                    why: "it is a directory, expected a file for a checksum",
                });
            };
            match member.expected {
                Some(Expected::Sha256(actual)) if actual != expected => {
                    return Err(Error::WrongDigest { expected, actual });
                }
                _ => member.expected = Some(Expected::Given(expected)),
            }
        }
        Ok(Fetched { tree: Arc::new(self), file })
    }

    fn file(&self, path: &[u8]) -> Result<&Member, LayerError> {
        let missing =
            |kind: io::ErrorKind| LayerError::Read { name: self.display(path), source: kind.into() };
        match self.files.find(path) {
            Some(Place::File(member)) => Ok(member),
            Some(Place::Directory) => Err(missing(io::ErrorKind::IsADirectory)),
            None => Err(missing(io::ErrorKind::NotFound)),
        }
    }
}

impl Listed {
    fn read(&self, path: &[u8], member: &Member, offset: u64, check: Option<Check>) -> Verified {
        let from = offset.min(member.size);
        let Transfers { backoff, ahead, runtime } = &self.transfers;
        Verified {
            content: read(Arc::clone(&member.stored), (from, member.size), *backoff, ahead, runtime),
            name: self.display(path),
            at: from,
            size: member.size,
            check,
            is_given: matches!(member.expected, Some(Expected::Given(_))),
        }
    }
}

impl Tree for Listed {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, LayerError> {
        let node = |kind, mode, mtime| Node { kind, mode, uid: 0, gid: 0, mtime, link_group: None };
        Ok(self.files.find(path).map(|place| match place {
            Place::File(member) => node(NodeKind::File { size: member.size }, 0o644, member.modified),
            Place::Directory => node(NodeKind::Directory, 0o755, Timestamp::default()),
        }))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        match self.files.find(path) {
            Some(Place::Directory) => Ok(self.files.names(path)),
            Some(Place::File(_)) => {
                let source = io::ErrorKind::NotADirectory.into();
                Err(LayerError::Read { name: self.display(path), source })
            }
            None => {
                let source = io::ErrorKind::NotFound.into();
                Err(LayerError::Read { name: self.display(path), source })
            }
        }
    }

    fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn Read + Send>, LayerError> {
        let member = self.file(path)?;
        let check = member.expected.filter(|_| offset == 0).map(|expected| Check::new(expected, member.size));
        Ok(Box::new(self.read(path, member, offset, check)))
    }

    fn enter(
        &self,
        path: &[u8],
        offset: u64,
        check: &[u8],
    ) -> Result<Option<Box<dyn Entered + Send>>, LayerError> {
        let member = self.file(path)?;
        let restored = match (member.expected, offset) {
            (Some(expected), 0) => Some(Check::new(expected, member.size)),
            (Some(expected), _) => Some(Check::restore(expected, check).ok_or_else(|| Error::Changed {
                name: self.display(path),
                what: "what was noted of it is not its".to_owned(),
            })?),
            (None, _) => None,
        };
        Ok(Some(Box::new(self.read(path, member, offset, restored))))
    }

    fn xattrs(&self, _: &[u8]) -> Result<Xattrs, LayerError> {
        Ok(Xattrs::new())
    }

    fn identity(&self, path: &[u8]) -> Result<Option<Identity>, LayerError> {
        Ok(self.files.get(path).and_then(|member| member.identity.clone()).map(Identity::Content))
    }

    fn digest(&self, path: &[u8]) -> Result<Option<Digest>, LayerError> {
        Ok(self.files.get(path).and_then(|member| match member.expected {
            Some(Expected::Sha256(digest) | Expected::Given(digest)) => Some(digest),
            _ => None,
        }))
    }

    fn is_distant(&self) -> bool {
        true
    }

    fn display(&self, path: &[u8]) -> String {
        let path = String::from_utf8_lossy(path);
        if path.is_empty() { self.name.clone() } else { format!("{}/{path}", self.name) }
    }
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listed({}, {} files)", self.name, self.files.iter().count())
    }
}

/// A reader that fails at its end unless the content was what it was said to be.
struct Verified {
    content: Box<dyn Read + Send>,
    name: String,
    at: u64,
    size: u64,
    check: Option<Check>,
    is_given: bool,
}

/// A running digest of the kind that is expected.
enum Check {
    Sha256(Digester, Digest),
    Blob(Namer, Oid),
}

impl Check {
    fn new(expected: Expected, size: u64) -> Self {
        match expected {
            Expected::Sha256(digest) | Expected::Given(digest) => Self::Sha256(Digester::new(), digest),
            Expected::Blob(oid) => Self::Blob(Namer::new(Kind::Blob, size), oid),
        }
    }

    /// A check in the state that [`Check::state`] gave; `None` if that is none of its kind.
    fn restore(expected: Expected, state: &[u8]) -> Option<Self> {
        Some(match expected {
            Expected::Sha256(digest) | Expected::Given(digest) => {
                Self::Sha256(Digester::restore(state)?, digest)
            }
            Expected::Blob(oid) => Self::Blob(Namer::restore(state)?, oid),
        })
    }

    fn state(&self) -> Vec<u8> {
        match self {
            Self::Sha256(digester, _) => digester.state(),
            Self::Blob(namer, _) => namer.state(),
        }
    }

    fn update(&mut self, content: &[u8]) {
        match self {
            Self::Sha256(digester, _) => digester.update(content),
            Self::Blob(namer, _) => namer.update(content),
        }
    }

    /// What was expected and what came.
    fn finish(self) -> (Expected, Expected) {
        match self {
            Self::Sha256(digester, expected) => {
                (Expected::Sha256(expected), Expected::Sha256(digester.finish()))
            }
            Self::Blob(namer, expected) => (Expected::Blob(expected), Expected::Blob(namer.finish())),
        }
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| io::Error::other(LayerError::from(error)))
    }
}

impl Entered for Verified {
    fn check(&self) -> Vec<u8> {
        self.check.as_ref().map(Check::state).unwrap_or_default()
    }
}

impl Verified {
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let got = self.content.read(buffer).map_err(|error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => LayerError::Read { name: self.name.clone(), source }.into(),
        })?;
        self.at += got as u64;
        if let Some(check) = &mut self.check {
            check.update(&buffer[..got]);
        }
        if got == 0 {
            self.end()?;
        }
        Ok(got)
    }

    fn end(&mut self) -> Result<(), Error> {
        let Self { name, at, size, .. } = self;
        if at != size {
            let what = format!("it had {size} bytes, now it has {at}");
            return Err(Error::Changed { name: name.clone(), what });
        }
        match self.check.take().map(Check::finish) {
            Some((expected, actual)) if expected != actual => Err(Error::WrongContent {
                name: self.name.clone(),
                expected: expected.to_string(),
                actual: actual.to_string(),
                is_given: self.is_given,
            }),
            _ => Ok(()),
        }
    }
}
