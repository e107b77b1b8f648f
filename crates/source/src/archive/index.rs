//! Where each path of an archive is, once all its members are placed.

use std::{collections::BTreeMap, io::Read, ops::Bound};

use ocib_image::{Entry, EntryKind, LinkGroup, Node, NodeKind, TarEntry, TarReader, Timestamp, Xattrs};

use crate::Error;

/// Linux gives up after 40 links; containerd's limit within a root is 255.
const LINKS_MAX: usize = 255;
/// Linux's `PATH_MAX`: no system that made the archive had longer ones.
const PATH_BYTES_MAX: usize = 4096;
/// Names and what is kept for each of them, in bytes: five million files of usual names. Hostile
/// archives make parents out of little.
const INDEX_BYTES_MAX: usize = 1 << 30;
/// What a path weighs besides its name.
const PLACE_BYTES: usize = 128;
/// Holes cost an archive nothing, so sparse members are the one way left to ask for endless files.
const SPARSE_BYTES_MAX: u64 = 64 << 30;
const BLOCK: u64 = 512;

/// All paths of an archive. Every one but the root is in a directory that is there too.
pub(super) struct Index {
    root: Place,
    places: BTreeMap<Box<[u8]>, Place>,
    /// What all of it weighs, in bytes.
    weight: usize,
    groups: u32,
}

/// What is at a path. Kept small: there may be millions.
#[derive(Clone)]
pub(super) struct Place {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    /// Paths of one group are hard links to each other; 0 is none.
    group: u32,
    mtime: Timestamp,
    xattrs: Option<Box<Xattrs>>,
}

#[derive(Clone)]
enum Kind {
    File(Content),
    Directory,
    /// Boxed because most members are files and directories.
    Other(Box<NodeKind>),
}

/// Where the content of a file is.
#[derive(Clone)]
pub(super) enum Content {
    /// In one piece: that many bytes from there on.
    Plain { offset: u64, size: u64 },
    /// With holes.
    Sparse(Box<SparseFile>),
}

/// A file that only a reader of the archive can put together.
#[derive(Clone, Copy)]
pub(super) struct SparseFile {
    pub(super) size: u64,
    /// Where the header of some member is, this one or one before it.
    pub(super) start: u64,
    /// How many members from there on come before this one.
    pub(super) members: u64,
}

/// What a member asks for.
enum Member {
    Place(Place),
    Link(Box<[u8]>),
}

impl Index {
    /// Reads all of an archive. `name` is what it is called in messages.
    pub(super) fn read(archive: &mut TarReader<impl Read>, name: &str) -> Result<Self, Error> {
        let mut index = Self { root: Place::directory(), places: BTreeMap::new(), weight: 0, groups: 0 };
        let mut contents = Contents::default();
        while let Some(member) = archive.next_entry().map_err(|error| Error::of_archive(name, error))? {
            let member_name = member.entry.name.clone();
            let put = contents.of(&member).and_then(|content| index.put(member.entry, content));
            put.map_err(|why| Error::BadMember {
                archive: name.to_owned(),
                member: ocib_net::printable(&member_name, 200),
                why,
            })?;
        }
        index.forget_single_groups();
        Ok(index)
    }

    pub(super) fn find(&self, path: &[u8]) -> Option<&Place> {
        if path.is_empty() { Some(&self.root) } else { self.places.get(path) }
    }

    /// The names in the directory at `path`, sorted as bytes of whole paths are.
    pub(super) fn names(&self, path: &[u8]) -> Vec<Box<[u8]>> {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut from = prefix.clone();
        loop {
            let mut rest = self.places.range::<[u8], _>((Bound::Included(&*from), Bound::Unbounded));
            let Some(name) = rest.next().and_then(|(key, _)| key.strip_prefix(&*prefix)) else {
                return names;
            };
            from = match name.iter().position(|&b| b == b'/') {
                // Below a directory that was given already. What follows all of it: 0 is next to the slash.
                Some(slash) => [&prefix, &name[..slash], b"0"].concat(),
                None => {
                    names.push(name.into());
                    [&prefix, name, b"\0"].concat()
                }
            };
        }
    }

    fn put(&mut self, entry: Entry, content: Content) -> Result<(), &'static str> {
        let name = entry.name.clone();
        let member = Member::of(entry, content);
        let Some(path) = self.place(&name)? else {
            // Of the root, only what a directory says of itself can count.
            if let Member::Place(place) = member
                && place.is_directory()
            {
                self.root = place;
            }
            return Ok(());
        };
        self.make_parents(&path)?;
        let place = match member {
            Member::Place(place) => place,
            Member::Link(target) => match self.linked(&target)? {
                (target, _) if target == path => return Ok(()),
                (_, place) => place,
            },
        };
        let merges = place.is_directory() && self.find(&path).is_some_and(Place::is_directory);
        if !merges {
            self.remove(&path);
        }
        self.insert(path, place)
    }

    /// Where a name of the archive is; `None` for the root.
    fn place(&self, name: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
        if name.len() > PATH_BYTES_MAX || name.contains(&0) {
            return Err("its name is longer than 4096 bytes or holds a zero byte");
        }
        let mut parts = Vec::new();
        for part in name.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part.to_vec()),
            }
        }
        let Some(last) = parts.pop() else { return Ok(None) };
        let mut path = self.follow(parts)?;
        push(&mut path, &last);
        match path.len() {
            0..=PATH_BYTES_MAX => Ok(Some(path)),
            _ => Err("links in its name make it longer than 4096 bytes"),
        }
    }

    /// Follows the links in a directory's path, within the root; what does not exist is kept.
    fn follow(&self, mut todo: Vec<Vec<u8>>) -> Result<Vec<u8>, &'static str> {
        todo.reverse();
        let mut out = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                out.truncate(parent(&out).len());
                continue;
            }
            let before = out.len();
            push(&mut out, &part);
            let Some(target) = self.places.get(&*out).and_then(Place::target) else { continue };
            links += 1;
            if links > LINKS_MAX {
                return Err("too many symbolic links lead there, or they point to each other");
            }
            out.truncate(if target.starts_with(b"/") { 0 } else { before });
            let parts = target.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
            todo.extend(parts.rev().map(<[u8]>::to_vec));
        }
        Ok(out)
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<(), &'static str> {
        let slashes = path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| at);
        for slash in slashes {
            match self.places.get(&path[..slash]).map(Place::is_directory) {
                Some(true) => {}
                Some(false) => return Err("it is below something that is no directory"),
                None => self.insert(path[..slash].to_vec(), Place::directory())?,
            }
        }
        Ok(())
    }

    /// What a hard link to `target` is, and where that target is.
    fn linked(&mut self, target: &[u8]) -> Result<(Vec<u8>, Place), &'static str> {
        const MISSING: &str = "it is a hard link to nothing that came before";
        let path = self.place(target)?.ok_or(MISSING)?;
        let place = self.places.get_mut(&*path).ok_or(MISSING)?;
        if place.is_directory() {
            return Err("it is a hard link to a directory");
        }
        if place.group == 0 {
            self.groups += 1;
            place.group = self.groups;
        }
        Ok((path, place.clone()))
    }

    fn insert(&mut self, path: Vec<u8>, place: Place) -> Result<(), &'static str> {
        self.weight += path.len() + place.weight();
        if self.weight > INDEX_BYTES_MAX {
            return Err("the names before it need more than 1 GiB of memory");
        }
        let name_bytes = path.len();
        if let Some(replaced) = self.places.insert(path.into(), place) {
            self.weight -= name_bytes + replaced.weight();
        }
        Ok(())
    }

    fn remove(&mut self, path: &[u8]) {
        let Some(removed) = self.places.remove(path) else { return };
        self.weight -= path.len() + removed.weight();
        if !removed.is_directory() {
            return;
        }
        let prefix = [path, b"/"].concat();
        let below = self.places.range::<[u8], _>((Bound::Excluded(&*prefix), Bound::Unbounded));
        let doomed: Vec<Box<[u8]>> =
            below.map(|(name, _)| name).take_while(|name| name.starts_with(&prefix)).cloned().collect();
        for name in doomed {
            if let Some(removed) = self.places.remove(&name) {
                self.weight -= name.len() + removed.weight();
            }
        }
    }

    /// Paths whose hard links were all replaced have no other name any more.
    fn forget_single_groups(&mut self) {
        let mut paths = vec![0_u32; self.groups as usize + 1];
        self.places.values().for_each(|place| paths[place.group as usize] += 1);
        for place in self.places.values_mut().filter(|place| paths[place.group as usize] == 1) {
            place.group = 0;
        }
    }
}

impl Place {
    /// A directory that no member describes.
    fn directory() -> Self {
        let mtime = Timestamp::default();
        Self { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, group: 0, mtime, xattrs: None }
    }

    pub(super) fn node(&self) -> Node {
        let &Self { mode, uid, gid, group, mtime, .. } = self;
        let kind = match &self.kind {
            Kind::File(content) => NodeKind::File { size: content.size() },
            Kind::Directory => NodeKind::Directory,
            Kind::Other(kind) => NodeKind::clone(kind),
        };
        let link_group: Option<LinkGroup> = (group > 0).then_some((0, group.into()));
        Node { kind, mode, uid, gid, mtime, link_group }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }

    /// Where its content is, if it is a file.
    pub(super) fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }

    /// Attributes of the user namespace: the others are the system's that made the archive.
    pub(super) fn xattrs(&self) -> Xattrs {
        let all = self.xattrs.as_deref().into_iter().flatten();
        all.filter(|(name, _)| name.starts_with(b"user.")).cloned().collect()
    }

    /// Where it leads, if it is a symbolic link.
    fn target(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Other(kind) => match &**kind {
                NodeKind::Symlink(target) => Some(target),
                _ => None,
            },
            _ => None,
        }
    }

    /// Bytes of memory, but for the name.
    fn weight(&self) -> usize {
        let xattrs = self.xattrs.as_deref().into_iter().flatten();
        let xattrs: usize = xattrs.map(|(name, value)| name.len() + value.len()).sum();
        PLACE_BYTES + xattrs + self.target().map_or(0, <[u8]>::len)
    }
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Plain { size, .. } => *size,
            Self::Sparse(file) => file.size,
        }
    }
}

impl Member {
    fn of(entry: Entry, content: Content) -> Self {
        let Entry { kind, mode, uid, gid, mtime, xattrs, .. } = entry;
        let mode = if matches!(kind, EntryKind::Symlink(_)) { 0o777 } else { mode };
        let other = |kind| Kind::Other(Box::new(kind));
        let kind = match kind {
            EntryKind::Hardlink(target) => return Self::Link(target),
            EntryKind::File { .. } => Kind::File(content),
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink(target) => other(NodeKind::Symlink(target)),
            EntryKind::Fifo => other(NodeKind::Fifo),
            EntryKind::CharDevice { major, minor } => other(NodeKind::CharDevice { major, minor }),
            EntryKind::BlockDevice { major, minor } => other(NodeKind::BlockDevice { major, minor }),
        };
        Self::Place(Place { kind, mode, uid, gid, group: 0, mtime, xattrs })
    }
}

/// Keeps count of where contents are.
#[derive(Default)]
struct Contents {
    /// Where the header of a member is for certain.
    start: u64,
    /// How many members came since then.
    members: u64,
    sparse_bytes: u64,
}

impl Contents {
    /// Where the content of the next member is.
    fn of(&mut self, member: &TarEntry) -> Result<Content, &'static str> {
        let size = member.entry.size();
        if let Some(offset) = member.offset {
            (self.start, self.members) = (offset + size.next_multiple_of(BLOCK), 0);
            return Ok(Content::Plain { offset, size });
        }
        let file = SparseFile { size, start: self.start, members: self.members };
        self.members += 1;
        self.sparse_bytes = self.sparse_bytes.saturating_add(size);
        match self.sparse_bytes {
            0..=SPARSE_BYTES_MAX => Ok(Content::Sparse(Box::new(file))),
            _ => Err("it and the sparse files before it are larger than 64 GiB"),
        }
    }
}

/// The tree path of the directory that holds `path`.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&b| b == b'/').map_or(&[], |slash| &path[..slash])
}

/// Appends a name to a tree path.
fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
