//! The file system of a stage while it is built: its base and the layers made so far.

use std::{collections::BTreeSet, sync::Arc};

use ocib_image::{EntryKind, LayerError, LinkGroup, Node, NodeKind, Tree, Xattrs};

use super::{
    base::Base,
    content::{Attributes, Content, LayerEntry},
    layer::{FilesLayer, WHITEOUT},
};
use crate::path;

/// Linux gives up after 40 links; BuildKit's own limit within a root is 255.
const LINKS_MAX: usize = 255;

/// Files that COPY can take or that it lands among.
pub(crate) trait Files {
    /// What is at a tree path, the last part not followed.
    fn find(&self, path: &[u8]) -> Result<Option<Found>, LayerError>;
    /// The names in a directory, sorted.
    fn names(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError>;
    /// The tree that all contents are in, at the paths that they have here; `None` if each file
    /// that is found says itself where its content is.
    fn tree(&self) -> Option<Arc<dyn Tree>> {
        None
    }
}

/// What is at a path, with all that is needed to copy it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) node: Node,
    pub(crate) xattrs: Option<Box<Xattrs>>,
    pub(crate) content: Content,
}

/// Follows the symbolic links in every part of `path`, within the root; what does not exist is kept
/// as it is written. As containerd's `fs.RootPath`.
pub(crate) fn follow(
    path: &[u8],
    kind: impl Fn(&[u8]) -> Result<Option<NodeKind>, LayerError>,
) -> Result<Vec<u8>, LayerError> {
    let mut out = Vec::new();
    let mut links = 0;
    let mut todo: Vec<Vec<u8>> = parts(path);
    while let Some(part) = todo.pop() {
        if part == b".." {
            out.truncate(path::parent(&out).len());
            continue;
        }
        let here = path::join(&out, &part);
        match kind(&here)? {
            Some(NodeKind::Symlink(target)) => {
                links += 1;
                if links > LINKS_MAX {
                    let name = format!("/{}", String::from_utf8_lossy(path));
                    let source = std::io::Error::other("too many symbolic links, they point to each other");
                    return Err(LayerError::Read { name, source });
                }
                if target.first() == Some(&b'/') {
                    out.clear();
                }
                todo.extend(parts(&target));
            }
            _ => out = here,
        }
    }
    Ok(out)
}

/// The parts of a written path, the first one last.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let part = path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
    let mut parts: Vec<_> = part.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

/// [`follow`] in any files.
pub(crate) fn follow_in(files: &dyn Files, path: &[u8]) -> Result<Vec<u8>, LayerError> {
    follow(path, |path| Ok(files.find(path)?.map(|found| found.node.kind)))
}

/// A stage's file system: a base and layers on it. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rootfs {
    base: Option<Arc<Base>>,
    layers: Vec<Arc<FilesLayer>>,
}

impl Rootfs {
    /// The file system of an image.
    pub(crate) fn of(base: Arc<Base>) -> Self {
        Self { base: Some(base), layers: Vec::new() }
    }

    /// Whether nothing was ever put into it.
    pub(crate) fn is_bare(&self) -> bool {
        self.base.is_none() && self.layers.is_empty()
    }

    /// Puts one more layer on top.
    pub(crate) fn push(&mut self, layer: Arc<FilesLayer>) {
        self.layers.push(layer);
    }
}

impl Files for Rootfs {
    fn find(&self, path: &[u8]) -> Result<Option<Found>, LayerError> {
        for layer in self.layers.iter().rev() {
            if let Some(found) = layer.find(path) {
                return Ok(Some(found));
            }
            if layer.hides(path) {
                return Ok(None);
            }
        }
        self.base.as_ref().map_or(Ok(None), |base| base.find(path))
    }

    fn names(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        let mut names = BTreeSet::new();
        let mut hidden = BTreeSet::new();
        for layer in self.layers.iter().rev() {
            for name in layer.names(path) {
                match name.strip_prefix(WHITEOUT) {
                    Some(whiteout) => drop(hidden.insert(Box::from(whiteout))),
                    None if !hidden.contains(name) => drop(names.insert(Box::from(name))),
                    None => {}
                }
            }
            if layer.hides(&path::join(path, b"\0")) {
                return Ok(names.into_iter().collect());
            }
        }
        if let Some(base) = &self.base {
            names.extend(base.names(path)?.into_iter().filter(|name| !hidden.contains(name)));
        }
        Ok(names.into_iter().collect())
    }
}

/// What an entry of a layer looks like in a file system.
pub(crate) fn found(name: &[u8], entry: &LayerEntry, link_group: Option<LinkGroup>) -> Found {
    let LayerEntry { kind, attributes, content, .. } = entry;
    let kind = match kind {
        EntryKind::File { size } => NodeKind::File { size: *size },
        EntryKind::Directory => NodeKind::Directory,
        EntryKind::Symlink(target) => NodeKind::Symlink(target.clone()),
        // Hard links are replaced by what they link to before they come here.
        EntryKind::Hardlink(_) => NodeKind::File { size: 0 },
        EntryKind::Fifo => NodeKind::Fifo,
        EntryKind::CharDevice { major, minor } => NodeKind::CharDevice { major: *major, minor: *minor },
        EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major: *major, minor: *minor },
    };
    let link_group = if kind == NodeKind::Directory { None } else { link_group };
    let content = match content {
        // The entry's name is about to change, so the place must not depend on it any more.
        Content::Tree(origin) => Content::Tree(Arc::new(super::Origin {
            tree: Arc::clone(&origin.tree),
            root: origin.path(name).into(),
            strip: usize::MAX,
        })),
        other => other.clone(),
    };
    let Attributes { mode, uid, gid, mtime, xattrs } = (**attributes).clone();
    Found { node: Node { kind, mode, uid, gid, mtime, link_group }, xattrs, content }
}
