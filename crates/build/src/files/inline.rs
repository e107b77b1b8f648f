//! Heredocs: files that stand in the Dockerfile itself.

use ocib_image::{LayerError, Node, NodeKind, Timestamp};

use super::{
    content::Content,
    rootfs::{Files, Found},
};

/// A tree of one file.
#[derive(Debug)]
pub(crate) struct InlineFile {
    name: Box<[u8]>,
    found: Found,
}

impl InlineFile {
    /// A file as BuildKit makes it from a heredoc: mode 0644, owned by root.
    pub(crate) fn new(name: &str, content: &str, mtime: Timestamp) -> Self {
        let node = Node {
            kind: NodeKind::File { size: content.len() as u64 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime,
            link_group: None,
        };
        let content = Content::Inline(content.as_bytes().into());
        Self { name: name.as_bytes().into(), found: Found { node, xattrs: None, content } }
    }
}

impl Files for InlineFile {
    fn find(&self, path: &[u8]) -> Result<Option<Found>, LayerError> {
        Ok((*self.name == *path).then(|| self.found.clone()))
    }

    fn names(&self, _: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        Ok(vec![self.name.clone()])
    }
}
