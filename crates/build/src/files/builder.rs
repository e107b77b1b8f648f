//! One layer while an instruction makes it: the stage's file system with the changes so far.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ocib_image::{Entry, EntryKind, LayerError, NodeKind, Timestamp, Xattrs};

use super::{
    content::{Content, LayerEntry},
    layer::FilesLayer,
    mode::Mode,
    owner::Owner,
    rootfs::{Files, Found, Rootfs, found},
};
use crate::path;

/// Setgid on a directory hands the group, and itself to directories, on to what is made in it.
const SETGID: u32 = 0o2000;

/// The changes that one instruction makes to a stage's file system.
#[derive(Debug)]
pub(crate) struct LayerBuilder<'a> {
    below: &'a Rootfs,
    made: BTreeMap<Box<[u8]>, Made>,
    made_time: Timestamp,
    groups: u32,
}

#[derive(Debug)]
struct Made {
    layer_entry: LayerEntry,
    /// Paths of one group are hard links to each other.
    group: Option<Group>,
}

/// Names a set of hard links within one layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Group(u32);

/// What something that is made looks like, but for its place and content.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Option<Box<Xattrs>>,
}

/// A path that had to be a directory and is something else.
#[derive(Debug)]
pub(crate) enum MakeError {
    NotADirectory(Vec<u8>),
    Layer(LayerError),
}

impl From<LayerError> for MakeError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

impl<'a> LayerBuilder<'a> {
    /// No changes yet to `below`; directories that are made without a source are from `made_time`.
    pub(crate) fn new(below: &'a Rootfs, made_time: Timestamp) -> Self {
        Self { below, made: BTreeMap::new(), made_time, groups: 0 }
    }

    /// Makes the directory at `path` (a tree path without links) and its missing parents.
    pub(crate) fn make_directories(
        &mut self,
        path: &[u8],
        mode: &Mode,
        owner: Option<Owner>,
    ) -> Result<(), MakeError> {
        let all: Vec<&[u8]> = path::ancestors(path).chain((!path.is_empty()).then_some(path)).collect();
        for directory in all {
            match self.find(directory)? {
                Some(found) if found.node.kind == NodeKind::Directory => {}
                Some(_) => return Err(MakeError::NotADirectory(directory.to_vec())),
                None => self.make_directory(directory, mode.of_parents(), owner)?,
            }
        }
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8], mode: u32, owner: Option<Owner>) -> Result<(), LayerError> {
        let parent = self.find(path::parent(path))?.map(|found| found.node);
        let inherited = parent.filter(|parent| parent.mode & SETGID != 0);
        let owner = owner.unwrap_or_default();
        let attributes = Attributes {
            mode: mode | inherited.as_ref().map_or(0, |_| SETGID),
            uid: owner.uid.unwrap_or(0),
            gid: owner.gid.unwrap_or_else(|| inherited.map_or(0, |parent| parent.gid)),
            mtime: self.made_time,
            xattrs: None,
        };
        self.put(path, EntryKind::Directory, attributes, Content::Nothing, None);
        Ok(())
    }

    /// Puts something at `path`, in place of whatever is there.
    pub(crate) fn put(
        &mut self,
        path: &[u8],
        kind: EntryKind,
        attributes: Attributes,
        content: Content,
        group: Option<Group>,
    ) {
        let Attributes { mode, uid, gid, mtime, xattrs } = attributes;
        // The name is the key until the layer is finished: names are most of what an entry weighs.
        let entry = Entry { name: Box::default(), kind, mode, uid, gid, mtime, xattrs };
        self.made.insert(path.into(), Made { layer_entry: LayerEntry { entry, content }, group });
    }

    /// Puts what was found elsewhere at `path`, as it is. Of a directory only itself.
    pub(crate) fn put_found(&mut self, path: &[u8], found: &Found, group: Option<Group>) {
        let node = &found.node;
        let Some(kind) = entry_kind(&node.kind) else { return };
        let attributes = Attributes {
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            xattrs: found.xattrs.clone(),
        };
        self.put(path, kind, attributes, found.content.clone(), group);
    }

    /// Takes back what this layer has at `path` and below.
    pub(crate) fn remove(&mut self, path: &[u8]) {
        self.made.remove(path);
        let prefix = [path, b"/"].concat();
        let below = self.made.range(Box::<[u8]>::from(prefix.clone())..).map(|(name, _)| name);
        let doomed: Vec<Box<[u8]>> = below.take_while(|name| name.starts_with(&prefix)).cloned().collect();
        doomed.iter().for_each(|name| drop(self.made.remove(name)));
    }

    /// A name for hard links to come.
    pub(crate) fn group(&mut self) -> Group {
        self.groups += 1;
        Group(self.groups)
    }

    /// The layer, if nothing more is to come.
    pub(crate) fn finish(self) -> Result<FilesLayer, LayerError> {
        let mut first: HashMap<Group, Box<[u8]>> = HashMap::new();
        let mut entries = Vec::with_capacity(self.made.len());
        for (name, Made { mut layer_entry, group }) in self.made {
            if let Some(group) = group {
                match first.get(&group) {
                    Some(target) => {
                        layer_entry.entry.kind = EntryKind::Hardlink(target.clone());
                        layer_entry.content = Content::Nothing;
                    }
                    None => drop(first.insert(group, name.clone())),
                }
            }
            layer_entry.entry.name = name;
            entries.push(layer_entry);
        }
        FilesLayer::new(entries)
    }

    fn is_covered(&self, path: &[u8]) -> bool {
        let is_no_directory = |ancestor: &[u8]| {
            self.made.get(ancestor).is_some_and(|made| made.layer_entry.entry.kind != EntryKind::Directory)
        };
        path::ancestors(path).any(is_no_directory)
    }
}

/// What a node is in a layer; `None` for sockets, which no archive can hold and every builder leaves
/// out.
pub(crate) fn entry_kind(kind: &NodeKind) -> Option<EntryKind> {
    Some(match kind {
        NodeKind::File { size } => EntryKind::File { size: *size },
        NodeKind::Directory => EntryKind::Directory,
        NodeKind::Symlink(target) => EntryKind::Symlink(target.clone()),
        NodeKind::Fifo => EntryKind::Fifo,
        NodeKind::CharDevice { major, minor } => EntryKind::CharDevice { major: *major, minor: *minor },
        NodeKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major: *major, minor: *minor },
        NodeKind::Socket => return None,
    })
}

impl Files for LayerBuilder<'_> {
    fn find(&self, path: &[u8]) -> Result<Option<Found>, LayerError> {
        if let Some(made) = self.made.get(path) {
            return Ok(Some(found(path, &made.layer_entry, None)));
        }
        match self.is_covered(path) {
            true => Ok(None),
            false => self.below.find(path),
        }
    }

    fn names(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let made = self.made.range(Box::<[u8]>::from(prefix.clone())..).map(|(name, _)| name);
        let mine = made.take_while(|name| name.starts_with(&prefix)).map(|name| &name[prefix.len()..]);
        let mut names: BTreeSet<Box<[u8]>> =
            mine.filter(|name| !name.contains(&b'/')).map(Box::from).collect();
        if !self.is_covered(&path::join(path, b"x")) {
            names.extend(self.below.names(path)?);
        }
        Ok(names.into_iter().collect())
    }
}
