//! Where the bytes of a layer's files are.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ocib_image::{Blob, DiffId, Entry, EntryKind, Timestamp, Tree, Xattrs};

use super::unpack::Archive;
use crate::path;

/// What is at a path of a layer. The path is the key of [`Entries`]; what most files have in common is
/// shared, since a layer may have hundreds of thousands of them.
#[derive(Clone, Debug)]
pub(crate) struct LayerEntry {
    pub(crate) kind: EntryKind,
    pub(crate) attributes: Arc<Attributes>,
    /// What follows the header.
    pub(crate) content: Content,
    /// Paths of one group are hard links to each other.
    pub(crate) group: Option<Group>,
}

/// The entries of a layer by path: parents come before what is in them.
pub(crate) type Entries = BTreeMap<Box<[u8]>, LayerEntry>;

/// Names a set of hard links within one layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Group(pub(crate) u32);

/// What something in a layer looks like, but for its place and content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Option<Box<Xattrs>>,
}

impl LayerEntry {
    /// The entry as a tar header says it.
    pub(crate) fn at(&self, name: &[u8]) -> Entry {
        let Attributes { mode, uid, gid, mtime, xattrs } = &*self.attributes;
        Entry {
            name: name.into(),
            kind: self.kind.clone(),
            mode: *mode,
            uid: *uid,
            gid: *gid,
            mtime: *mtime,
            xattrs: xattrs.clone(),
        }
    }

    /// The bytes that follow the header.
    pub(crate) fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            _ => 0,
        }
    }
}

/// Where the bytes of a file are. All but files have [`Content::Nothing`].
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// There are none.
    Nothing,
    /// In a tree that can be read at any place.
    Tree(Arc<Origin>),
    /// In a layer of an image, which can be read only from its start on.
    Packed {
        /// The layer.
        layer: Arc<Packed>,
        /// Where the bytes start in the uncompressed tar.
        offset: u64,
    },
    /// In an archive that ADD unpacks, which can be read only from its start on.
    Archived {
        /// The archive.
        archive: Arc<Archive>,
        /// Which of its members, counted from 0.
        number: u64,
    },
    /// Here (heredocs).
    Inline(Arc<[u8]>),
}

/// One source of a COPY in a tree. All entries below it share it: the path in the tree is
/// [`Origin::root`] and what follows [`Origin::strip`] bytes of the
/// entry's name (nothing, if the name is shorter).
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) tree: Arc<dyn Tree>,
    pub(crate) root: Box<[u8]>,
    pub(crate) strip: usize,
}

impl Origin {
    /// The path in the tree of the entry called `name`.
    pub(crate) fn path(&self, name: &[u8]) -> Vec<u8> {
        let rest = name.get(self.strip..).unwrap_or_default();
        match rest.strip_prefix(b"/").unwrap_or(rest) {
            b"" => self.root.to_vec(),
            rest => path::join(&self.root, rest),
        }
    }
}

/// A layer of an image that files are taken out of.
pub(crate) struct Packed {
    /// Type, digest and place of the stored bytes.
    pub(crate) blob: Blob,
    /// The digest of its tar.
    pub(crate) diff_id: DiffId,
    /// What the user calls the image.
    pub(crate) image: String,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {} of {}", self.blob.descriptor.digest, self.image)
    }
}
