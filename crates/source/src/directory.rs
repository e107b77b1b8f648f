//! A directory of this machine, read without ever leaving it.
//!
//! Every path is opened one component at a time, relative to an open directory and without
//! following links, so that nobody who can write into the directory can make ocib read elsewhere,
//! not even by swapping a directory for a link while the build runs.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use ocib_image::{Identity, LayerError, Node, NodeKind, Timestamp, Tree, Xattrs};
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::state::State;

/// A directory of this machine as a tree. Cheap to query in the order of a walk: the directory that
/// was asked about last stays open.
///
/// ```
/// use ocib_image::Tree;
///
/// let tree = ocib_source::Directory::open(std::path::Path::new("."))?;
/// assert!(tree.stat(b"Cargo.toml")?.is_some());
/// assert!(tree.stat(b"no/such/file")?.is_none());
/// # Ok::<(), ocib_image::LayerError>(())
/// ```
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    root: Arc<OwnedFd>,
    recent: Mutex<Option<Recent>>,
    has_xattrs: AtomicBool,
}

/// The directory that was asked about last.
#[derive(Debug)]
struct Recent {
    path: Box<[u8]>,
    directory: Arc<OwnedFd>,
}

impl Directory {
    /// Opens the directory at `path`; links in `path` itself are followed.
    pub fn open(path: &Path) -> Result<Self, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| LayerError::Read { name: path.display().to_string(), source: error.into() })?;
        Ok(Self {
            path: path.to_owned(),
            root: Arc::new(root),
            recent: Mutex::new(None),
            has_xattrs: AtomicBool::new(true),
        })
    }

    /// The directory at `path` within the tree, opened; an error `NOTDIR`, `NOENT` or `LOOP` if it
    /// is none.
    fn directory(&self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let mut recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = &*recent
            && *known.path == *path
        {
            return Ok(Arc::clone(&known.directory));
        }
        // From the last directory on, if it is a parent; else from the root.
        let (mut directory, rest) = match &*recent {
            Some(known) if path.starts_with(&known.path) && path[known.path.len()] == b'/' => {
                (Arc::clone(&known.directory), &path[known.path.len() + 1..])
            }
            _ => (Arc::clone(&self.root), path),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for component in rest.split(|&b| b == b'/') {
            directory = Arc::new(rustix::fs::openat(&*directory, component, flags, Mode::empty())?);
        }
        *recent = Some(Recent { path: path.into(), directory: Arc::clone(&directory) });
        Ok(directory)
    }

    fn parent<'a>(&self, path: &'a [u8]) -> Result<(Arc<OwnedFd>, &'a [u8]), Errno> {
        match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => Ok((self.directory(&path[..slash])?, &path[slash + 1..])),
            None => Ok((Arc::clone(&self.root), path)),
        }
    }

    fn open_at(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let (parent, name) = self.parent(path)?;
        let name = if name.is_empty() { b"." } else { name };
        rustix::fs::openat(&*parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    fn failure(&self, path: &[u8], error: impl Into<io::Error>) -> LayerError {
        LayerError::Read { name: self.display(path), source: error.into() }
    }

    fn read_xattrs(&self, path: &[u8]) -> Result<Xattrs, Errno> {
        // Only regular files and directories can have attributes of the user namespace, so what
        // cannot be opened this way (links, devices) has none.
        let file = match self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => file,
            Err(Errno::LOOP | Errno::ACCESS | Errno::NXIO) => return Ok(Xattrs::new()),
            Err(error) => return Err(error),
        };
        let names = xattr_bytes(|buffer| rustix::fs::flistxattr(&file, buffer))?;
        let mut found = Xattrs::new();
        for name in names.split(|&b| b == 0).filter(|name| name.starts_with(b"user.")) {
            match xattr_bytes(|buffer| rustix::fs::fgetxattr(&file, name, buffer)) {
                Ok(value) => found.push((name.into(), value.into())),
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Tree for Directory {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, LayerError> {
        let found = self.parent(path).and_then(|(parent, name)| {
            let stat = match name {
                b"" => rustix::fs::fstat(&*parent)?,
                name => rustix::fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW)?,
            };
            let target = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => rustix::fs::readlinkat(&*parent, name, Vec::new())?.into_bytes(),
                _ => Vec::new(),
            };
            Ok((stat, target))
        });
        match found {
            Ok((stat, target)) => Ok(Some(node(&stat, target))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(self.failure(path, error)),
        }
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        let read = || {
            let mut names = Vec::new();
            for entry in Dir::read_from(&*self.directory(path)?)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(name.into());
                }
            }
            Ok(names)
        };
        read().map_err(|error: Errno| self.failure(path, error))
    }

    fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn Read + Send>, LayerError> {
        let open = || -> io::Result<Watched> {
            // NONBLOCK: a pipe that took the file's place must not hang the build.
            let mut file = File::from(self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
            let state = State::of(&file)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(Watched { file, state, name: self.display(path) })
        };
        match open() {
            Ok(watched) => Ok(Box::new(watched)),
            Err(error) => Err(self.failure(path, error)),
        }
    }

    fn xattrs(&self, path: &[u8]) -> Result<Xattrs, LayerError> {
        if !self.has_xattrs.load(Ordering::Relaxed) {
            return Ok(Xattrs::new());
        }
        match self.read_xattrs(path) {
            Ok(found) => Ok(found),
            Err(Errno::NOTSUP | Errno::NOSYS) => {
                self.has_xattrs.store(false, Ordering::Relaxed);
                Ok(Xattrs::new())
            }
            Err(error) => Err(self.failure(path, error)),
        }
    }

    fn identity(&self, path: &[u8]) -> Result<Option<Identity>, LayerError> {
        let found = self.parent(path).and_then(|(parent, name)| match name {
            b"" => rustix::fs::fstat(&*parent),
            name => rustix::fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW),
        });
        let stat = found.map_err(|error| self.failure(path, error))?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(is_file.then(|| Identity::State {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size.cast_unsigned(),
            modified: timestamp(stat.st_mtime, stat.st_mtime_nsec),
            changed: timestamp(stat.st_ctime, stat.st_ctime_nsec),
        }))
    }

    fn display(&self, path: &[u8]) -> String {
        self.path.join(OsStr::from_bytes(path)).display().to_string()
    }
}

fn xattr_bytes(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // The kernel's limits are 64 KiB, both for the list and for a value.
            Err(Errno::RANGE) if buffer.len() < 1 << 16 => buffer.resize(1 << 16, 0),
            Err(error) => return Err(error),
        }
    }
}

fn node(stat: &Stat, target: Vec<u8>) -> Node {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File { size: stat.st_size.cast_unsigned() },
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => NodeKind::Symlink(target.into()),
        FileType::Fifo => NodeKind::Fifo,
        FileType::CharacterDevice => NodeKind::CharDevice { major, minor },
        FileType::BlockDevice => NodeKind::BlockDevice { major, minor },
        FileType::Socket | FileType::Unknown => NodeKind::Socket,
    };
    let is_linked = stat.st_nlink > 1 && kind != NodeKind::Directory;
    Node {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: timestamp(stat.st_mtime, stat.st_mtime_nsec),
        link_group: is_linked.then_some((stat.st_dev, stat.st_ino)),
    }
}

fn timestamp(seconds: i64, nanoseconds: u64) -> Timestamp {
    Timestamp { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or_default() }
}

/// A file that fails at its end if it was changed since it was opened.
struct Watched {
    file: File,
    state: State,
    name: String,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buffer)?;
        if got == 0 && !buffer.is_empty() {
            self.state.check(&self.file, || self.name.clone())?;
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn tree() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/f"), "content").unwrap();
        fs::hard_link(dir.path().join("a/b/f"), dir.path().join("a/g")).unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        let tree = Directory::open(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn sees_what_is_there_and_never_leaves() {
        let (_dir, tree) = tree();
        let kind = |path: &str| tree.stat(path.as_bytes()).unwrap().map(|node| node.kind);
        for (path, expected) in [
            ("", Some(NodeKind::Directory)),
            ("a/b", Some(NodeKind::Directory)),
            ("a/b/f", Some(NodeKind::File { size: 7 })),
            ("out", Some(NodeKind::Symlink(b"/etc"[..].into()))),
            ("out/passwd", None),
            ("a/b/f/x", None),
            ("nothing", None),
        ] {
            assert_eq!(kind(path), expected, "{path}");
        }
        assert!(tree.open(b"out/passwd", 0).is_err());
        assert!(tree.open(b"out", 0).is_err());
        let group = |path: &str| tree.stat(path.as_bytes()).unwrap().unwrap().link_group;
        assert_eq!(group("a/g"), group("a/b/f"));
        let mut names = tree.list(b"").unwrap();
        names.sort();
        assert_eq!(names, [Box::from(&b"a"[..]), Box::from(&b"out"[..])]);
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error() {
        let (dir, tree) = tree();
        let mut reader = tree.open(b"a/b/f", 2).unwrap();
        let mut half = [0; 3];
        reader.read_exact(&mut half).unwrap();
        assert_eq!(&half, b"nte");
        fs::write(dir.path().join("a/b/f"), "short").unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        let name = dir.path().join("a/b/f");
        let expected = format!("{} changed while it was read: it had 7 bytes, now it has 5", name.display());
        assert_eq!(error.to_string(), expected);
    }
}
