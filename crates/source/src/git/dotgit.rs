//! The `.git` directory of `--keep-git-dir`, which is nowhere but in the image.
//!
//! What is in it depends on the commit, the reference and the URL alone, never on how a server packed
//! what it sent: a detached HEAD as BuildKit leaves it, the branch or tag that was asked for, one commit
//! without its history, an index without times, and each object by itself. Git programs take it for a
//! shallow clone. Submodules have none.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read},
    sync::Arc,
};

use sha1::{Digest as _, Sha1};

use super::{
    directory::{Directory, Item},
    oid::Oid,
    store::{Object, Store},
    stored::{Stored, stored_bytes},
};

/// A `.git` directory.
pub(super) struct DotGit {
    store: Arc<Store>,
    /// All directories, with the names in them.
    directories: BTreeMap<Vec<u8>, BTreeSet<Box<[u8]>>>,
    files: BTreeMap<Vec<u8>, Arc<[u8]>>,
    /// Names of all objects.
    objects: BTreeSet<Oid>,
}

/// What it is made for.
pub(super) struct Head<'a> {
    /// What the reference leads to, the commit last: before it there may be annotated tags.
    pub(super) chain: &'a [Oid],
    /// The full name of the reference; none if it was the digits of a commit.
    pub(super) name: Option<&'a str>,
    pub(super) has_parents: bool,
    /// Without user and password.
    pub(super) url: &'a str,
}

/// What is at a path in it.
pub(super) enum Part<'a> {
    Directory(&'a BTreeSet<Box<[u8]>>),
    File(&'a Arc<[u8]>),
    Object(&'a Object),
}

impl DotGit {
    pub(super) fn new(store: Arc<Store>, root: &Directory, head: &Head<'_>) -> Self {
        let commit = head.chain.last().copied().unwrap_or(root.oid);
        let mut git = Self {
            store,
            directories: BTreeMap::from([(Vec::new(), BTreeSet::new())]),
            files: BTreeMap::new(),
            objects: head.chain.iter().copied().collect(),
        };
        for directory in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
            git.make_directory(directory.as_bytes());
        }
        git.put("HEAD", format!("{commit}\n"));
        git.put("config", config(head.url));
        if let (Some(name), Some(oid)) = (head.name.filter(|name| is_safe(name)), head.chain.first()) {
            git.put(name, format!("{oid}\n"));
        }
        if head.has_parents {
            git.put("shallow", format!("{commit}\n"));
        }
        let mut index = Index::default();
        index.add(root, &mut Vec::new());
        git.put("index", index.finish());
        git.collect(root);
        let objects: Vec<Vec<u8>> = git.objects.iter().map(|oid| loose(*oid)).collect();
        objects.iter().for_each(|path| git.name(path));
        git
    }

    pub(super) fn find(&self, path: &[u8]) -> Option<Part<'_>> {
        if let Some(names) = self.directories.get(path) {
            return Some(Part::Directory(names));
        }
        if let Some(bytes) = self.files.get(path) {
            return Some(Part::File(bytes));
        }
        let (start, rest) = path.strip_prefix(b"objects/")?.split_at_checked(2)?;
        let oid = Oid::parse(&[start, rest.strip_prefix(b"/")?].concat())?;
        let object = self.objects.get(&oid).and_then(|oid| self.store.find(*oid).ok())?;
        Some(Part::Object(object))
    }

    /// All bytes of a file of it.
    pub(super) fn open(&self, part: &Part<'_>) -> Box<dyn Read + Send> {
        match part {
            Part::Directory(_) => Box::new(std::io::empty()),
            Part::File(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
            Part::Object(object) => {
                let head = object.kind.header(object.size);
                let bytes = head.len() as u64 + object.size;
                let content = Cursor::new(head.into_bytes()).chain(self.store.open(object, 0));
                Box::new(Stored::new(content, bytes))
            }
        }
    }

    fn put(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.name(path.as_bytes());
        self.files.insert(path.into(), content.into().into());
    }

    /// Enters a path into its directory, which is made if it is missing.
    fn name(&mut self, path: &[u8]) {
        let slash = path.iter().rposition(|&b| b == b'/');
        let (parent, name) = slash.map_or((&[][..], path), |slash| (&path[..slash], &path[slash + 1..]));
        self.make_directory(parent);
        if let Some(names) = self.directories.get_mut(parent) {
            names.insert(name.into());
        }
    }

    fn make_directory(&mut self, path: &[u8]) {
        if !self.directories.contains_key(path) {
            self.directories.insert(path.to_vec(), BTreeSet::new());
            self.name(path);
        }
    }

    /// The names of all objects below `directory`.
    fn collect(&mut self, directory: &Directory) {
        if !self.objects.insert(directory.oid) {
            return;
        }
        for entry in &directory.entries {
            match &entry.item {
                Item::Directory(below) => self.collect(below),
                Item::File { oid, .. } | Item::Symlink { oid, .. } => drop(self.objects.insert(*oid)),
                Item::Submodule(_) => {}
            }
        }
    }
}

impl Part<'_> {
    /// Bytes of a file.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Directory(_) => 0,
            Self::File(bytes) => bytes.len() as u64,
            Self::Object(object) => stored_bytes(object.kind.header(object.size).len() as u64 + object.size),
        }
    }
}

/// Where an object is kept by itself.
fn loose(oid: Oid) -> Vec<u8> {
    let name = oid.to_string();
    format!("objects/{}/{}", &name[..2], &name[2..]).into_bytes()
}

/// Whether the name of a reference, which a server chose, can be that of a file below `.git`.
fn is_safe(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    name.starts_with("refs/") && name.split('/').all(is_part) && !name.contains('\0')
}

fn config(url: &str) -> String {
    let url = url.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
         [remote \"origin\"]\n\turl = \"{url}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    )
}

/// The index (gitformat-index, version 2) as `git read-tree` leaves it: without times and sizes, so
/// git looks at each file itself.
#[derive(Default)]
struct Index {
    /// By path: git's order is that of the bytes of whole paths.
    entries: BTreeMap<Vec<u8>, (u32, Oid)>,
}

impl Index {
    /// From the name on, entries are aligned to so many bytes.
    const ALIGNMENT: usize = 8;
    /// Longer names are found by their end.
    const NAME_LENGTH_MAX: u16 = 0xfff;
    /// Times, device, inode, before the mode; owner, group and size after it.
    const BEFORE_MODE: [u8; 24] = [0; 24];
    const AFTER_MODE: [u8; 12] = [0; 12];

    fn add(&mut self, directory: &Directory, path: &mut Vec<u8>) {
        let parent = path.len();
        for entry in &directory.entries {
            if parent > 0 {
                path.push(b'/');
            }
            path.extend(&*entry.name);
            let (mode, oid) = match &entry.item {
                Item::Directory(below) => {
                    self.add(below, path);
                    path.truncate(parent);
                    continue;
                }
                Item::File { oid, is_executable: false, .. } => (0o100_644, *oid),
                Item::File { oid, is_executable: true, .. } => (0o100_755, *oid),
                Item::Symlink { oid, .. } => (0o120_000, *oid),
                Item::Submodule(oid) => (0o160_000, *oid),
            };
            self.entries.insert(path.clone(), (mode, oid));
            path.truncate(parent);
        }
    }

    fn finish(self) -> Vec<u8> {
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let mut bytes = [&b"DIRC"[..], &2_u32.to_be_bytes(), &count.to_be_bytes()].concat();
        for (path, (mode, oid)) in self.entries {
            let start = bytes.len();
            bytes.extend(Self::BEFORE_MODE);
            bytes.extend(mode.to_be_bytes());
            bytes.extend(Self::AFTER_MODE);
            bytes.extend(oid.as_bytes());
            let length = u16::try_from(path.len()).unwrap_or(u16::MAX).min(Self::NAME_LENGTH_MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(path);
            // At least one zero ends the name.
            let end = (bytes.len() - start + 1).next_multiple_of(Self::ALIGNMENT);
            bytes.resize(start + end, 0);
        }
        let sum = Sha1::digest(&bytes);
        bytes.extend(sum);
        bytes
    }
}
