//! Fetching: what is named in a Dockerfile, but is neither in a context nor an image.

use std::{fmt, sync::Arc};

use futures_core::future::BoxFuture;

use crate::{Digest, GitReference, PlaceError, Tree};

/// What ADD names from afar.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Remote {
    /// A file at a URL, or, of those that ocib adds (`hf://`), a directory.
    Url {
        /// The URL, as written.
        url: String,
        /// What its content must be.
        digest: Option<Digest>,
    },
    /// A repository, or a directory of one.
    Git(GitReference),
}

/// Brings what ADD names from afar.
pub trait Fetch: Send + Sync {
    /// What `remote` names. Of a file it is found and measured but not read: its content is read
    /// whenever the tree's files are opened. Either way, files can be read from any offset and as often
    /// as needed, and are the same each time.
    ///
    /// Content is verified against what the remote says of it; a tree whose content turns out to be
    /// another fails while it is read, at the latest at its end, with [`crate::PlaceErrorKind::Corrupt`].
    fn fetch<'a>(&'a self, remote: &'a Remote) -> BoxFuture<'a, Result<Fetched, PlaceError>>;
}

/// What was brought.
#[derive(Clone)]
pub struct Fetched {
    /// A tree with all that came.
    pub tree: Arc<dyn Tree>,
    /// The file in the tree that is meant, or nothing if the whole tree is (a git repository).
    pub file: Option<Box<[u8]>>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched").field("tree", &self.tree).field("file", &self.file).finish()
    }
}
