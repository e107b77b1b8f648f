//! Build contexts: trees as a Dockerfile sees them, without what their ignore files hide and with
//! the owner and time that a reproducible image needs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ocib_dockerfile::{Matches, Patterns};
use ocib_image::{LayerError, NodeKind, Timestamp, Tree};

use crate::files::{Content, Files, Found};

/// Which times files of a context get in an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timestamps {
    /// All this one.
    Fixed(Timestamp),
    /// Their own.
    Keep,
}

/// A tree that COPY takes files from.
#[derive(Debug)]
pub(crate) struct Context {
    tree: Arc<dyn Tree>,
    ignored: Patterns,
    timestamps: Timestamps,
    /// What the patterns said of directories, so that each path is matched against its parent once.
    directories: Mutex<HashMap<Box<[u8]>, Matches>>,
}

impl Context {
    pub(crate) fn new(tree: Arc<dyn Tree>, ignored: Patterns, timestamps: Timestamps) -> Self {
        Self { tree, ignored, timestamps, directories: Mutex::default() }
    }

    /// Whether the patterns mean `path`, and what they say of it.
    fn check(&self, path: &[u8]) -> (bool, Matches) {
        let parent = crate::path::parent(path);
        let known =
            |path: &[u8]| self.directories.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        let above = match parent {
            b"" => Matches::default(),
            parent => known(parent).unwrap_or_else(|| {
                let (_, matches) = self.check(parent);
                let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
                directories.insert(parent.into(), matches.clone());
                matches
            }),
        };
        self.ignored.check(path, &above)
    }

    /// Whether `path` can be seen: not ignored, or a directory that something is let in from.
    fn is_visible(&self, path: &[u8]) -> Result<bool, LayerError> {
        if path.is_empty() || self.ignored.is_empty() || !self.check(path).0 {
            return Ok(true);
        }
        if !self.ignored.exceptions_below(path) {
            return Ok(false);
        }
        match self.tree.stat(path)? {
            Some(node) if node.kind == NodeKind::Directory => {}
            _ => return Ok(false),
        }
        for name in self.tree.list(path)? {
            if self.is_visible(&crate::path::join(path, &name))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Files for Context {
    fn find(&self, path: &[u8]) -> Result<Option<Found>, LayerError> {
        let Some(mut node) = self.tree.stat(path)? else { return Ok(None) };
        if !self.is_visible(path)? {
            return Ok(None);
        }
        // BuildKit resets owners of the context, and sets the time only where it is told to.
        (node.uid, node.gid) = (0, 0);
        if let Timestamps::Fixed(time) = self.timestamps {
            node.mtime = time;
        }
        let may_have_xattrs = matches!(node.kind, NodeKind::File { .. } | NodeKind::Directory);
        let xattrs = if may_have_xattrs { self.tree.xattrs(path)? } else { Vec::new() };
        let xattrs = (!xattrs.is_empty()).then(|| Box::new(xattrs));
        Ok(Some(Found { node, xattrs, content: Content::Nothing }))
    }

    fn names(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        let mut names = self.tree.list(path)?;
        names.sort_unstable();
        if self.ignored.is_empty() {
            return Ok(names);
        }
        let mut visible = Vec::with_capacity(names.len());
        for name in names {
            if self.is_visible(&crate::path::join(path, &name))? {
                visible.push(name);
            }
        }
        Ok(visible)
    }

    fn tree(&self) -> Option<Arc<dyn Tree>> {
        Some(Arc::clone(&self.tree))
    }
}
