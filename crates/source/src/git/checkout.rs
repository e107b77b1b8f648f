//! A commit as a tree of files, as git would check it out.

use std::{
    fmt,
    io::{self, Read},
};

use ocib_image::{LayerError, Node, NodeKind, Timestamp, Tree, Xattrs};

use super::{
    dotgit::{DotGit, Part},
    worktree::{Found, Worktree},
};

const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
const EXECUTABLE_MODE: u32 = 0o755;
const LINK_MODE: u32 = 0o777;
/// Git makes its objects so.
const OBJECT_MODE: u32 = 0o444;

/// The files of a commit, below a directory of it. Modes are those of a checkout under umask 022, owners
/// 0:0; everything has the time of the commit.
pub(super) struct Checkout {
    pub(super) worktree: Worktree,
    /// The directory that is the root; empty for all of it.
    pub(super) subdir: Vec<u8>,
    pub(super) git_dir: Option<DotGit>,
    pub(super) time: Timestamp,
    /// What it is called in messages.
    pub(super) name: String,
}

/// What is at a path.
enum Place<'a> {
    Work(Found<'a>),
    Git(&'a DotGit, Part<'a>),
}

impl Checkout {
    fn place(&self, path: &[u8]) -> Option<Place<'_>> {
        if let (Some(git), Some(rest)) = (&self.git_dir, path.strip_prefix(b".git")) {
            let rest = if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") };
            if let Some(rest) = rest {
                return git.find(rest).map(|part| Place::Git(git, part));
            }
        }
        let full = match (&*self.subdir, path) {
            (b"", path) => path.to_vec(),
            (subdir, b"") => subdir.to_vec(),
            (subdir, path) => [subdir, b"/", path].concat(),
        };
        self.worktree.find(&full).map(Place::Work)
    }

    fn existing(&self, path: &[u8]) -> Result<Place<'_>, LayerError> {
        self.place(path).ok_or_else(|| self.failure(path, io::ErrorKind::NotFound.into()))
    }

    fn failure(&self, path: &[u8], source: io::Error) -> LayerError {
        LayerError::Read { name: self.display(path), source }
    }
}

impl Place<'_> {
    fn kind_and_mode(&self) -> (NodeKind, u32) {
        match self {
            Self::Work(Found::Directory(_) | Found::Empty) | Self::Git(_, Part::Directory(_)) => {
                (NodeKind::Directory, DIRECTORY_MODE)
            }
            Self::Work(Found::File { size, is_executable, .. }) => {
                (NodeKind::File { size: *size }, if *is_executable { EXECUTABLE_MODE } else { FILE_MODE })
            }
            Self::Work(Found::Symlink(target)) => (NodeKind::Symlink((*target).into()), LINK_MODE),
            Self::Git(_, part @ Part::File(_)) => (NodeKind::File { size: part.size() }, FILE_MODE),
            Self::Git(_, part @ Part::Object(_)) => (NodeKind::File { size: part.size() }, OBJECT_MODE),
        }
    }
}

impl Tree for Checkout {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, LayerError> {
        Ok(self.place(path).map(|place| {
            let (kind, mode) = place.kind_and_mode();
            Node { kind, mode, uid: 0, gid: 0, mtime: self.time, link_group: None }
        }))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        match self.existing(path)? {
            Place::Work(Found::Directory(directory)) => {
                let git = self.git_dir.iter().filter(|_| path.is_empty()).map(|_| b".git"[..].into());
                Ok(git.chain(directory.entries.iter().map(|entry| entry.name.clone())).collect())
            }
            Place::Work(Found::Empty) => Ok(Vec::new()),
            Place::Git(_, Part::Directory(names)) => Ok(names.iter().cloned().collect()),
            _ => Err(self.failure(path, io::ErrorKind::NotADirectory.into())),
        }
    }

    fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn Read + Send>, LayerError> {
        match self.existing(path)? {
            Place::Work(Found::File { store, oid, .. }) => {
                let object = store.find(oid).map_err(|error| self.failure(path, io::Error::other(error)))?;
                Ok(Box::new(store.open(object, offset)))
            }
            Place::Git(git, part @ (Part::File(_) | Part::Object(_))) => {
                let mut content = git.open(&part);
                let skipped = io::copy(&mut content.by_ref().take(offset), &mut io::sink());
                skipped.map_err(|error| self.failure(path, error))?;
                Ok(content)
            }
            _ => Err(self.failure(path, io::ErrorKind::InvalidInput.into())),
        }
    }

    fn xattrs(&self, _: &[u8]) -> Result<Xattrs, LayerError> {
        Ok(Xattrs::new())
    }

    fn display(&self, path: &[u8]) -> String {
        match path {
            b"" => self.name.clone(),
            path => format!("{} in {}", String::from_utf8_lossy(path), self.name),
        }
    }
}

impl fmt::Debug for Checkout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout").field("name", &self.name).finish_non_exhaustive()
    }
}
