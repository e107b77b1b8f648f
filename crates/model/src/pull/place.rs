//! The directory that files are put into, written without ever leaving it.
//!
//! As [`ocib_source::Directory`] reads: a component at a time, relative to an open directory, without
//! following links. A link that is in the way, from an earlier pull or from whoever can write there, is
//! replaced or refused, never followed.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Timespec, Timestamps},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::PullError;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that this process alone pulls to, as long as the value lives.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    root: OwnedFd,
    umask: u32,
}

/// What changes whenever a file's content does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) inode: u64,
    pub(super) bytes: u64,
    pub(super) mtime: (i64, u64),
    pub(super) ctime: (i64, u64),
}

impl State {
    /// Whether it is of the same file with the same content, which may have got another mode or one more name.
    pub(super) fn is_same_content(&self, other: &Self) -> bool {
        let content = |state: &Self| (state.inode, state.bytes, state.mtime);
        content(self) == content(other)
    }
}

/// What is at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum There {
    File(State),
    Directory,
    Other,
}

impl Place {
    /// Opens the directory, which is made if it is missing; links in `path` itself are followed.
    pub(super) fn open(path: &Path) -> Result<Self, PullError> {
        let failed = |verb, source| PullError::File { verb, path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(|error| failed("make", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed("open", error.into()))?;
        // File systems without locks are no reason to fail.
        if rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(PullError::Busy { directory: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), root, umask: umask() })
    }

    /// A mode as this process would give it to a new file.
    pub(super) fn masked(&self, mode: u32) -> u32 {
        mode & 0o777 & !self.umask
    }

    /// Fails if `bytes` more do not fit. Where the file system does not say, they do.
    pub(super) fn check_room(&self, name: &str, needed: u64) -> Result<(), PullError> {
        let Ok(found) = rustix::fs::fstatvfs(&self.root) else { return Ok(()) };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        match needed > free && found.f_blocks > 0 {
            true => {
                let (directory, name) = (self.path.clone(), name.to_owned());
                Err(PullError::NoRoom { directory, name, needed, free })
            }
            false => Ok(()),
        }
    }

    /// What is at `path`; `None` if there is nothing, or only something behind a link.
    pub(super) fn there(&self, path: &str) -> Result<Option<There>, PullError> {
        let found = self
            .parent(path)
            .and_then(|(parent, name)| rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => There::File(State {
                    inode: stat.st_ino,
                    bytes: stat.st_size.cast_unsigned(),
                    mtime: (stat.st_mtime, stat.st_mtime_nsec),
                    ctime: (stat.st_ctime, stat.st_ctime_nsec),
                }),
                FileType::Directory => There::Directory,
                _ => There::Other,
            })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(self.failed("look at", path, error)),
        }
    }

    /// The state of a regular file.
    pub(super) fn state(&self, path: &str) -> Result<Option<State>, PullError> {
        Ok(self.there(path)?.and_then(|there| match there {
            There::File(state) => Some(state),
            _ => None,
        }))
    }

    /// Where a link points to, if there is one.
    pub(super) fn target(&self, path: &str) -> Option<String> {
        let (parent, name) = self.parent(path).ok()?;
        rustix::fs::readlinkat(&parent, name, Vec::new()).ok()?.into_string().ok()
    }

    /// A new file, or one that is there and was not finished.
    pub(super) fn write(&self, path: &str) -> Result<File, PullError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = self
            .parent(path)
            .and_then(|(parent, name)| rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)));
        opened.map(File::from).map_err(|error| self.failed("write", path, error))
    }

    pub(super) fn read(&self, path: &str) -> Result<File, PullError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = self
            .parent(path)
            .and_then(|(parent, name)| rustix::fs::openat(&parent, name, flags, Mode::empty()));
        opened.map(File::from).map_err(|error| self.failed("read", path, error))
    }

    /// A directory at `path`, in the place of whatever else is there, with its parents. Its owner can
    /// always write there, or the next pull could not.
    pub(super) fn directory(&self, path: &str, mode: Option<u32>) -> Result<(), PullError> {
        let made = self.made(path).and_then(|made| match mode {
            Some(mode) => {
                taken(rustix::fs::fchmod(&made, Mode::from_raw_mode(self.masked(mode) | 0o700))).map(drop)
            }
            None => Ok(()),
        });
        made.map_err(|error| self.failed("make", path, error))
    }

    /// Moves a file to its place, over a file or link that is there.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), PullError> {
        self.clear(to)?;
        let renamed = self.parent(from).and_then(|(old, name)| {
            let (new, renamed) = self.parent(to)?;
            rustix::fs::renameat(&old, name, &new, renamed)
        });
        renamed.map_err(|error| self.failed("put into place", to, error))
    }

    /// Gives the file at `from` another name. Whether the file system took it: FAT and many network file systems have
    /// one name for each file, and others a limit.
    pub(super) fn link(&self, from: &str, temporary: &str, to: &str) -> Result<bool, PullError> {
        self.remove(temporary)?;
        let linked = self.parent(from).and_then(|(old, name)| {
            let (new, linked) = self.parent(temporary)?;
            rustix::fs::linkat(&old, name, &new, linked, AtFlags::empty())
        });
        if !taken(linked).map_err(|error| self.failed("link", to, error))? {
            return Ok(false);
        }
        self.rename(temporary, to)?;
        // Two names of one file: renaming one over the other does nothing, says POSIX.
        self.remove(temporary)?;
        Ok(true)
    }

    /// Puts a file with the content, mode and time of the one at `from` to `to`. File systems that can share blocks
    /// do, as the kernel copies; others take the room of another file.
    pub(super) fn copy(&self, from: &str, temporary: &str, to: &str) -> Result<(), PullError> {
        self.remove(temporary)?;
        let copied = self.copied(from, temporary, to);
        if copied.is_err() {
            // Half of a copy would only take room.
            let _ = self.remove(temporary);
        }
        copied?;
        self.rename(temporary, to)
    }

    fn copied(&self, from: &str, temporary: &str, to: &str) -> Result<(), PullError> {
        let (mut old, mut new) = (self.read(from)?, self.write(temporary)?);
        let copied = io::copy(&mut old, &mut new);
        copied.map_err(|error| self.failed("copy to", to, error))?;
        let stat = rustix::fs::fstat(&old).map_err(|error| self.failed("look at", from, error))?;
        self.dress(temporary, stat.st_mode, (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)))
    }

    /// Whether both are names of one file.
    pub(super) fn is_one_file(&self, one: &str, other: &str) -> bool {
        let found = |path: &str| {
            let (parent, name) = self.parent(path).ok()?;
            rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()
        };
        // Where files have one name each, inodes need not say anything.
        match (found(one), found(other)) {
            (Some(one), Some(other)) => {
                one.st_nlink > 1 && (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
            }
            _ => false,
        }
    }

    /// Whether the same bytes are in both.
    pub(super) fn is_equal(&self, one: &str, other: &str) -> Result<bool, PullError> {
        let (Some(state), Some(of_other)) = (self.state(one)?, self.state(other)?) else { return Ok(false) };
        if state.bytes != of_other.bytes {
            return Ok(false);
        }
        let digest = |path: &str| {
            let digest = super::stream::file_digest(&self.read(path)?, state.bytes);
            digest.map_err(|error| self.failed("read", path, error))
        };
        Ok(digest(one)? == digest(other)?)
    }

    pub(super) fn symlink(&self, target: &str, temporary: &str, to: &str) -> Result<(), PullError> {
        self.remove(temporary)?;
        let made =
            self.parent(temporary).and_then(|(parent, name)| rustix::fs::symlinkat(target, &parent, name));
        if !taken(made).map_err(|error| self.failed("link", to, error))? {
            return Err(PullError::NoSymlinks { path: self.path.join(to) });
        }
        self.rename(temporary, to)
    }

    /// Gives a file its mode and time, as far as the file system has such.
    pub(super) fn dress(&self, path: &str, mode: u32, mtime: (i64, u32)) -> Result<(), PullError> {
        let file = self.read(path)?;
        let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        let dressed = taken(rustix::fs::futimens(&file, &times))
            .and_then(|_| taken(rustix::fs::fchmod(&file, Mode::from_raw_mode(self.masked(mode)))));
        dressed.map(drop).map_err(|error| self.failed("set mode and time of", path, error))
    }

    /// Removes a file or link; nothing there is no error.
    pub(super) fn remove(&self, path: &str) -> Result<(), PullError> {
        let removed = self
            .parent(path)
            .and_then(|(parent, name)| rustix::fs::unlinkat(&parent, name, AtFlags::empty()));
        match removed {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(self.failed("remove", path, error)),
        }
    }

    /// Removes a directory if it is empty; whether it did.
    pub(super) fn remove_empty(&self, path: &str) -> bool {
        let removed = self
            .parent(path)
            .and_then(|(parent, name)| rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR));
        removed.is_ok()
    }

    /// Names in a directory; none if it is not there.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, PullError> {
        let read = || {
            let directory = self.walk(path)?;
            let entries = Dir::read_from(&directory)?;
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        match read() {
            Ok(names) => {
                let mut names: Vec<String> = names;
                names.retain(|name| name != "." && name != "..");
                Ok(names)
            }
            Err(Errno::NOENT) => Ok(Vec::new()),
            Err(error) => Err(self.failed("list", path, error)),
        }
    }

    /// Waits until what was written is on the disk: what is remembered of it is believed later.
    pub(super) fn sync(&self) {
        // Where that fails nothing better can be done, and the files were verified as they are.
        let _ = rustix::fs::syncfs(&self.root);
    }

    pub(super) fn failed(&self, verb: &'static str, path: &str, error: impl Into<io::Error>) -> PullError {
        PullError::File { verb, path: self.path.join(path), source: error.into() }
    }

    /// Makes room for something that is no directory: an empty directory goes, a full one stays.
    fn clear(&self, path: &str) -> Result<(), PullError> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent, None)?;
        }
        match self.there(path)? {
            Some(There::Directory) if !self.remove_empty(path) => {
                let why = "a file or link belongs there, and the directory is not empty";
                Err(PullError::InTheWay { path: self.path.join(path), why })
            }
            _ => Ok(()),
        }
    }

    fn made(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut directory = self.root.try_clone().map_err(|_| Errno::MFILE)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            directory = match rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => make_and_open(&directory, name)?,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
                    make_and_open(&directory, name)?
                }
                opened => opened?,
            };
        }
        Ok(directory)
    }

    fn walk(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut directory = self.root.try_clone().map_err(|_| Errno::MFILE)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            directory = rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty())?;
        }
        Ok(directory)
    }

    fn parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str), Errno> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.walk(parent)?, if name.is_empty() { "." } else { name }))
    }
}

fn make_and_open(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(directory, name, DIRECTORY, Mode::empty()),
        Err(error) => Err(error),
    }
}

/// Whether it was done; `false` where the file system has no such thing. Each has its own word for that (vfs.rst, fuse,
/// cifs, afs, and ext4 with 65,000 names of a file).
fn taken(done: Result<(), Errno>) -> Result<bool, Errno> {
    match done {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::XDEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What this process takes from modes of new files. Asked of the kernel's files, because the system call
/// changes it for all threads.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_that_are_in_the_way_are_replaced_and_never_followed() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("file"), "untouched").unwrap();
        symlink(outside.path(), inside.path().join("d")).unwrap();
        symlink(outside.path().join("file"), inside.path().join("f")).unwrap();
        let place = Place::open(inside.path()).unwrap();
        assert!(place.write("f").is_err());
        assert!(place.write("d/new").is_err());
        assert_eq!(place.there("d/file").unwrap(), None);
        fs::write(inside.path().join("t"), "content").unwrap();
        place.rename("t", "f").unwrap();
        place.write("t").unwrap();
        place.rename("t", "d/file").unwrap();
        assert_eq!(fs::read_to_string(inside.path().join("f")).unwrap(), "content");
        assert!(inside.path().join("d").symlink_metadata().unwrap().is_dir());
        assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_pull_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Place::open(directory.path()).unwrap();
        assert!(matches!(Place::open(directory.path()), Err(PullError::Busy { .. })));
    }
}
