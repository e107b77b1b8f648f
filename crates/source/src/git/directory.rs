//! The directories of a commit, all read before a file is asked for.
//!
//! Directories that are the same are one in memory, so a small repository can claim endless paths.
//! How many there are is therefore counted here, and bounded before anybody walks them.

use std::{collections::HashMap, iter::Peekable, sync::Arc, vec::IntoIter};

use super::{
    object::{EntryKind, TreeEntry, parse_tree},
    oid::{Kind, Oid},
    problem::{Failure, GitProblem},
    store::Store,
};

/// Paths at one commit; the largest public repositories have a million.
const PATHS_MAX: u64 = 8_000_000;
/// Lengths of all paths at one commit.
const PATH_BYTES_MAX: u64 = 1 << 30;
/// Sizes of all files at one commit.
const BYTES_MAX: u64 = 16 << 40;
/// Names and what is kept for each, in bytes.
const MEMORY_BYTES_MAX: usize = 1 << 30;
/// What an entry weighs besides what stands in its tree.
const ENTRY_BYTES: usize = 80;
/// Directories within each other: more than `PATH_MAX` lets anybody use are of no use.
const DEPTH_MAX: usize = 512;
/// Linux's `PATH_MAX`: a longer target can be in no file system.
const TARGET_BYTES_MAX: u64 = 4095;
/// Linux's `NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;

/// A directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) oid: Oid,
    /// Sorted by name.
    pub(super) entries: Vec<Entry>,
    /// Paths below it.
    paths: u64,
    /// Bytes of all paths below it.
    path_bytes: u64,
    /// Bytes of all files below it.
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Box<[u8]>,
    pub(super) item: Item,
}

#[derive(Debug)]
pub(super) enum Item {
    File { oid: Oid, size: u64, is_executable: bool },
    Symlink { oid: Oid, target: Box<[u8]> },
    Directory(Arc<Directory>),
    Submodule(Oid),
}

impl Directory {
    /// Reads the tree `root` of `store` with everything below.
    pub(super) fn read(store: &Store, root: Oid) -> Result<Arc<Self>, Failure> {
        Reader { store, done: HashMap::new(), weight: 0, path: Vec::new() }.directory(root)
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&Item> {
        let at = self.entries.binary_search_by(|entry| (*entry.name).cmp(name)).ok()?;
        Some(&self.entries[at].item)
    }

    /// Ready to be searched.
    fn sorted(mut self) -> Result<Self, Failure> {
        self.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        match self.entries.windows(2).any(|pair| pair[0].name == pair[1].name) {
            true => Err(GitProblem::of_object(self.oid, "two of its names are the same").into()),
            false => Ok(self),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let counts = [
            ("paths", self.paths, PATHS_MAX),
            ("bytes of all paths", self.path_bytes, PATH_BYTES_MAX),
            ("bytes of all files", self.bytes, BYTES_MAX),
        ];
        let past = counts.into_iter().find(|(_, count, most)| count > most);
        past.map_or(Ok(()), |(what, _, most)| Err(limit(what, most)))
    }
}

struct Reader<'a> {
    store: &'a Store,
    done: HashMap<Oid, Arc<Directory>>,
    weight: usize,
    /// The names that lead to what is being read.
    path: Vec<Box<[u8]>>,
}

/// A directory that is being read. They are on a stack of their own: the thread's has no room for as
/// many as there may be.
struct Level {
    directory: Directory,
    rest: Peekable<IntoIter<TreeEntry>>,
}

impl Reader<'_> {
    fn directory(&mut self, root: Oid) -> Result<Arc<Directory>, Failure> {
        let mut above: Vec<Level> = Vec::new();
        let mut level = self.level(root)?;
        loop {
            let next = level.rest.next_if(|entry| self.is_ready(entry));
            if let Some(entry) = next {
                self.put(&mut level.directory, entry)?;
                continue;
            }
            if let Some(below) = level.rest.peek() {
                self.path.push(below.name.clone());
                self.check_path()?;
                if above.len() == DEPTH_MAX {
                    return Err(limit("directories within each other", DEPTH_MAX as u64));
                }
                let below = self.level(below.oid)?;
                above.push(std::mem::replace(&mut level, below));
                continue;
            }
            let done = Arc::new(level.directory.sorted()?);
            self.done.insert(done.oid, Arc::clone(&done));
            self.path.pop();
            match above.pop() {
                // Whose next entry is now ready.
                Some(parent) => level = parent,
                None => return Ok(done),
            }
        }
    }

    /// Whether all that is below an entry was read.
    fn is_ready(&self, entry: &TreeEntry) -> bool {
        entry.kind != EntryKind::Directory || self.done.contains_key(&entry.oid)
    }

    fn level(&mut self, oid: Oid) -> Result<Level, Failure> {
        let bytes = self.store.document(self.store.find_kind(oid, Kind::Tree)?)?;
        let entries = parse_tree(&bytes).map_err(|why| GitProblem::of_object(oid, why))?;
        self.weigh(bytes.len() + entries.len() * ENTRY_BYTES)?;
        let directory = Directory { oid, entries: Vec::new(), paths: 0, path_bytes: 0, bytes: 0 };
        Ok(Level { directory, rest: entries.into_iter().peekable() })
    }

    fn put(&mut self, directory: &mut Directory, entry: TreeEntry) -> Result<(), Failure> {
        let name_bytes = entry.name.len() as u64 + 1;
        self.path.push(entry.name);
        self.check_path()?;
        let item = self.item(entry.kind, entry.oid)?;
        directory.paths += 1;
        directory.path_bytes += name_bytes;
        match &item {
            Item::File { size, .. } => directory.bytes = directory.bytes.saturating_add(*size),
            Item::Symlink { target, .. } => self.weigh(target.len())?,
            Item::Directory(below) => {
                directory.paths += below.paths;
                directory.path_bytes += below.path_bytes + below.paths * name_bytes;
                directory.bytes = directory.bytes.saturating_add(below.bytes);
            }
            Item::Submodule(_) => {}
        }
        directory.check()?;
        directory.entries.extend(self.path.pop().map(|name| Entry { name, item }));
        Ok(())
    }

    fn item(&self, kind: EntryKind, oid: Oid) -> Result<Item, Failure> {
        Ok(match kind {
            EntryKind::Directory => {
                let below = self.done.get(&oid).cloned();
                Item::Directory(below.ok_or_else(|| GitProblem::of_object(oid, "it was not read"))?)
            }
            EntryKind::Submodule => Item::Submodule(oid),
            EntryKind::File { is_executable } => {
                let size = self.store.find_kind(oid, Kind::Blob)?.size;
                Item::File { oid, size, is_executable }
            }
            EntryKind::Symlink => {
                let object = self.store.find_kind(oid, Kind::Blob)?;
                if object.size > TARGET_BYTES_MAX {
                    return Err(self.bad_path("it is a symbolic link to more than 4095 bytes").into());
                }
                let target = self.store.document(object)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(self.bad_path("it is a symbolic link to nothing that could exist").into());
                }
                Item::Symlink { oid, target: target.into() }
            }
        })
    }

    fn weigh(&mut self, bytes: usize) -> Result<(), Failure> {
        self.weight += bytes;
        match self.weight {
            0..=MEMORY_BYTES_MAX => Ok(()),
            _ => Err(limit("bytes of memory for names", MEMORY_BYTES_MAX as u64)),
        }
    }

    fn check_path(&self) -> Result<(), GitProblem> {
        let name = self.path.last().map_or(&b""[..], |name| name);
        check_name(name).map_err(|why| self.bad_path(why))
    }

    fn bad_path(&self, why: &'static str) -> GitProblem {
        GitProblem::BadPath { path: ocib_net::printable(&self.path.join(&b'/'), 200), why }
    }
}

/// What git refuses too (`verify_path`), or no file system could hold.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"" | b"." | b".." => Err("it is no name of a file"),
        name if name.contains(&b'/') => Err("a name of it has a slash"),
        name if name.eq_ignore_ascii_case(b".git") => Err("only git itself may have that name"),
        name if name.len() > NAME_BYTES_MAX => Err("a name of it is longer than 255 bytes"),
        _ => Ok(()),
    }
}

fn limit(what: &'static str, limit: u64) -> Failure {
    GitProblem::Limit { what, limit }.into()
}
