//! Entries: what a layer's tar says of one path.

/// A time as archives know it: seconds since 1970 and nanoseconds within the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z, negative before.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// A whole second.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }
}

/// Extended attributes: names and values, in the order of the names.
pub type Xattrs = Vec<(Box<[u8]>, Box<[u8]>)>;

/// One path of a layer. Kept small: a layer may have a hundred thousand of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The path, without leading or trailing slash.
    pub name: Box<[u8]>,
    /// Its type.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Timestamp,
    /// Extended attributes, boxed because few entries have any.
    pub xattrs: Option<Box<Xattrs>>,
}

/// The type of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A regular file of so many bytes, which follow the header.
    File {
        /// Size in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Box<[u8]>),
    /// Another name for the file of this path, which came before.
    Hardlink(Box<[u8]>),
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
}

impl Entry {
    /// The bytes that follow the header, without padding.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            _ => 0,
        }
    }
}
