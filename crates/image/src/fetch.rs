//! Fetching: what a URL in a Dockerfile brings.

use std::{fmt, sync::Arc};

use futures_core::future::BoxFuture;

use crate::{Digest, PlaceError, Tree};

/// Brings what ADD names by a URL.
pub trait Fetch: Send + Sync {
    /// What is at `url`, found and measured but not read: its content is read whenever the tree's
    /// files are opened, from any offset and as often as needed, and must be the same each time.
    ///
    /// With `digest` the content is verified; a tree whose content turns out to be another fails
    /// while it is read, at the latest at its end, with [`crate::PlaceErrorKind::Corrupt`].
    fn fetch<'a>(
        &'a self,
        url: &'a str,
        digest: Option<&'a Digest>,
    ) -> BoxFuture<'a, Result<Fetched, PlaceError>>;
}

/// What a URL brought.
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
