//! A commit with its submodules: what is at which path.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    directory::{Directory, Item},
    oid::Oid,
    problem::GitProblem,
    store::Store,
};

/// As many links as containerd follows within a root.
const LINKS_MAX: usize = 255;

/// The files of a commit.
pub(super) struct Worktree {
    pub(super) store: Arc<Store>,
    pub(super) root: Arc<Directory>,
    /// Commits of other repositories, by their path in this one. Where there is none, a submodule is an
    /// empty directory.
    pub(super) modules: BTreeMap<Box<[u8]>, Worktree>,
}

/// What is at a path.
pub(super) enum Found<'a> {
    Directory(&'a Directory),
    /// A submodule that was left out.
    Empty,
    File {
        store: &'a Arc<Store>,
        oid: Oid,
        size: u64,
        is_executable: bool,
    },
    Symlink(&'a [u8]),
}

impl Worktree {
    pub(super) fn find(&self, path: &[u8]) -> Option<Found<'_>> {
        let (mut tree, mut directory) = (self, &*self.root);
        let (mut start, mut at) = (0, 0);
        for name in path.split(|&b| b == b'/').filter(|_| !path.is_empty()) {
            let end = at + name.len();
            let is_last = end == path.len();
            let found = match directory.find(name)? {
                Item::Directory(below) => {
                    directory = below;
                    Found::Directory(directory)
                }
                Item::Submodule(_) => match tree.modules.get(&path[start..end]) {
                    Some(module) => {
                        (tree, directory, start) = (module, &*module.root, end + 1);
                        Found::Directory(directory)
                    }
                    None if is_last => return Some(Found::Empty),
                    None => return None,
                },
                &Item::File { oid, size, is_executable } => {
                    let found = Found::File { store: &tree.store, oid, size, is_executable };
                    return is_last.then_some(found);
                }
                Item::Symlink { target, .. } => return is_last.then_some(Found::Symlink(target)),
            };
            if is_last {
                return Some(found);
            }
            at = end + 1;
        }
        Some(Found::Directory(directory))
    }

    /// The directory that is meant by `subdir`, with links followed that stay in the repository.
    pub(super) fn subdir(&self, subdir: &str) -> Result<Vec<u8>, GitProblem> {
        let refused = |why| GitProblem::Subdir { subdir: ocib_net::printable(subdir.as_bytes(), 200), why };
        let mut todo = names(subdir.as_bytes());
        let mut path: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                if path.is_empty() {
                    return Err(refused("it leads out of the repository"));
                }
                path.truncate(path.iter().rposition(|&b| b == b'/').unwrap_or(0));
                continue;
            }
            let parent = path.len();
            if parent > 0 {
                path.push(b'/');
            }
            path.extend(&name);
            match self.find(&path) {
                Some(Found::Directory(_) | Found::Empty) => {}
                Some(Found::File { .. }) => return Err(refused("it is no directory")),
                Some(Found::Symlink(target)) if target.starts_with(b"/") => {
                    return Err(refused("a link in it leads out of the repository"));
                }
                Some(Found::Symlink(target)) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(refused("too many symbolic links lead there"));
                    }
                    path.truncate(parent);
                    todo.extend(names(target));
                }
                None => return Err(refused("there is no such directory")),
            }
        }
        Ok(path)
    }
}

/// The names of a path, the last one first.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let mut names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
    names.reverse();
    names
}
