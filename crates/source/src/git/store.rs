//! The objects of a pack, found by name.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::Arc,
};

use flate2::bufread::ZlibDecoder;

use super::{
    oid::{Kind, Oid},
    problem::{Failure, GitProblem},
};
use crate::span::Span;

/// Commits, tags and trees are read whole. The largest directories known have some ten thousand names.
const DOCUMENT_BYTES_MAX: u64 = 32 << 20;

/// Objects in a file that has no name.
pub(super) struct Store {
    file: Arc<File>,
    /// Sorted by name, each once.
    objects: Vec<Object>,
}

/// An object and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Object {
    pub(super) oid: Oid,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Deflated, from there on.
    Deflated(u64),
    /// As it is, from there on.
    Plain(u64),
}

impl Store {
    pub(super) fn new(file: Arc<File>, mut objects: Vec<Object>) -> Self {
        objects.sort_unstable_by_key(|object| object.oid);
        objects.dedup_by_key(|object| object.oid);
        Self { file, objects }
    }

    pub(super) fn find(&self, oid: Oid) -> Result<&Object, GitProblem> {
        let found = self.objects.binary_search_by_key(&oid, |object| object.oid);
        let missing = || GitProblem::of_object(oid, "the server did not send it");
        found.ok().map(|at| &self.objects[at]).ok_or_else(missing)
    }

    /// The same, if it is of that kind.
    pub(super) fn find_kind(&self, oid: Oid, kind: Kind) -> Result<&Object, GitProblem> {
        let why = match kind {
            Kind::Commit => "it is no commit, as it must be",
            Kind::Tree => "it is no tree, as it must be",
            Kind::Blob => "it is no file, as it must be",
            Kind::Tag => "it is no tag, as it must be",
        };
        self.find(oid).and_then(|object| match object.kind == kind {
            true => Ok(object),
            false => Err(GitProblem::of_object(oid, why)),
        })
    }

    /// The content of `object` from `offset` on.
    pub(super) fn open(&self, object: &Object, offset: u64) -> Content {
        let offset = offset.min(object.size);
        let bytes = |from, to| Span::new(Arc::clone(&self.file), from, to);
        match object.place {
            Place::Plain(at) => Content::Plain(bytes(at + offset, at + object.size)),
            Place::Deflated(at) => {
                let inflated = ZlibDecoder::new(BufReader::new(bytes(at, u64::MAX)));
                Content::Deflated { inflated, skip: offset }
            }
        }
    }

    /// All of a commit, tag, tree or link.
    pub(super) fn document(&self, object: &Object) -> Result<Vec<u8>, Failure> {
        if object.size > DOCUMENT_BYTES_MAX {
            let what = "bytes of a commit, tag, tree or link";
            return Err(GitProblem::Limit { what, limit: DOCUMENT_BYTES_MAX }.into());
        }
        let mut bytes = Vec::new();
        self.open(object, 0).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads an object. What it says was inflated and named before, so it has its size and no error but
/// the disk's.
pub(super) enum Content {
    Plain(Span),
    Deflated { inflated: ZlibDecoder<BufReader<Span>>, skip: u64 },
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(span) => span.read(buffer),
            Self::Deflated { inflated, skip } => {
                let skip = std::mem::take(skip);
                if skip > 0 {
                    io::copy(&mut inflated.take(skip), &mut io::sink())?;
                }
                inflated.read(buffer)
            }
        }
    }
}
