//! Archives that are read: where each blob lies in the file, found out from the headers alone.
//!
//! Three programs write them in three ways. An OCI layout in a tar has `index.json`, and so has what
//! `docker save` writes since version 25: it is read as it is. Older ones have `manifest.json`, a
//! config and plain tars, but no manifest: one is made of those, the same each time.

mod docker;
mod members;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ocib_image::{Descriptor, Digest, Index, MAX_DOCUMENT_BYTES, MediaType, PlaceError};

use self::members::Members;
use crate::{
    Error,
    blocking::Wanted,
    layout::{BLOBS, FileBlob, INDEX, Part},
};

/// An archive of images whose headers were read.
#[derive(Debug)]
pub(crate) struct Archived {
    path: PathBuf,
    index: Index,
    blobs: BTreeMap<Digest, Part>,
}

impl Archived {
    /// Reads the headers of the archive at `path`; blocks.
    pub(crate) fn open(path: &Path, wanted: &Wanted) -> Result<Self, PlaceError> {
        let members = Members::read(path, wanted)?;
        let mut blobs = BTreeMap::new();
        for (name, start, bytes) in members.files() {
            let hex = name.strip_prefix(BLOBS).and_then(|rest| rest.strip_prefix('/'));
            if let Some(digest) = hex.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                blobs.insert(digest, Part::Member { start, bytes });
            }
        }
        let index = match members.small(INDEX, MAX_DOCUMENT_BYTES)? {
            Some(raw) => Index::parse(&MediaType::Index, raw.into()).map_err(|source| Error::Document {
                name: format!("{INDEX} in {}", path.display()),
                source,
            })?,
            None => docker::index(&members, &mut blobs, wanted)?,
        };
        Ok(Self { path: path.to_owned(), index, blobs })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The images that the archive has.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn blob(&self, descriptor: &Descriptor) -> FileBlob {
        let part = self.blobs.get(&descriptor.digest).cloned().unwrap_or(Part::Missing);
        FileBlob { path: self.path.clone(), part, descriptor: descriptor.clone() }
    }
}
