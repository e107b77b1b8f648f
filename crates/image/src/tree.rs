//! Trees: directories that are read but need not be directories of this machine (a build context,
//! the file system of an image, an archive).

use std::{fmt, io::Read};

use crate::{Digest, Entered, LayerError, Timestamp, Xattrs};

/// A tree of files. Paths are bytes relative to the root, `a/b`, without `.`, `..`, a leading or a
/// trailing slash; the root is the empty path. No call follows a symbolic link in any component:
/// who wants a link followed reads it and asks again.
pub trait Tree: Send + Sync + fmt::Debug {
    /// What is at `path`; `None` if nothing is there.
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, LayerError>;

    /// The names in the directory at `path`, in any order.
    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError>;

    /// The content of the regular file at `path` from `offset` on. The reader fails when the file
    /// is found to have changed while it was read, at the latest at its end.
    fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn Read + Send>, LayerError>;

    /// The extended attributes of what is at `path`, in the order of their names; none where the
    /// tree has none.
    fn xattrs(&self, path: &[u8]) -> Result<Xattrs, LayerError>;

    /// What says that the regular file at `path` is the same as at another time without its being
    /// read; `None` where nothing does.
    fn identity(&self, path: &[u8]) -> Result<Option<Identity>, LayerError> {
        let _ = path;
        Ok(None)
    }

    /// The digest of the content of the regular file at `path`, where whoever keeps the file knows it and
    /// every reading from its start is checked against it; `None` where it shows only when it is read.
    fn digest(&self, path: &[u8]) -> Result<Option<Digest>, LayerError> {
        let _ = path;
        Ok(None)
    }

    /// The same as [`Tree::open`], but what checks the content goes on from where it was when an earlier reader, maybe
    /// another process's, said `check` at this very `offset` of a file of the same identity; nothing was said at 0.
    /// `None` where no reader says that. Fails if `check` is not what one says.
    fn enter(
        &self,
        path: &[u8],
        offset: u64,
        check: &[u8],
    ) -> Result<Option<Box<dyn Entered + Send>>, LayerError> {
        let _ = (path, offset, check);
        Ok(None)
    }

    /// Whether each opening of a file costs a request to a server: who only wants a look should take few.
    fn is_distant(&self) -> bool {
        false
    }

    /// The path as a user would name it in a message.
    fn display(&self, path: &[u8]) -> String;
}

/// Equal for files of equal content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    /// A name that only this content has, such as a digest of it and what it is a digest of.
    Content(Box<[u8]>),
    /// The state of a file of this machine. A file that was changed so lately that its clock may not
    /// have ticked since can have the same state and other content.
    State {
        /// The device that holds the file.
        device: u64,
        /// Its number there.
        inode: u64,
        /// Size in bytes.
        size: u64,
        /// Time of the last change of the content.
        modified: Timestamp,
        /// Time of the last change of anything, which nobody can set.
        changed: Timestamp,
    },
}

/// What is at a path of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its type, with what only that type has.
    pub kind: NodeKind,
    /// Permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of the content.
    pub mtime: Timestamp,
    /// Equal for paths that are hard links to each other; `None` if there is only one path.
    pub link_group: Option<LinkGroup>,
}

/// Names a file that has several paths: device and inode, or whatever else is unique in its tree.
pub type LinkGroup = (u64, u64);

/// The type of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// A regular file of so many bytes.
    File {
        /// Size in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A socket: no archive can hold it.
    Socket,
}
