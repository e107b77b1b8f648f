//! One layer while an instruction makes it: the stage's file system with the changes so far.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ocib_image::{EntryKind, LayerError, NodeKind, Timestamp};

use super::{
    content::{Attributes, Content, Entries, Group, LayerEntry},
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
    pub(super) below: &'a Rootfs,
    pub(super) made: Entries,
    /// What `below` has there is gone.
    pub(super) hidden: BTreeSet<Box<[u8]>>,
    /// What was made anew in its place, and is no longer the same file.
    pub(super) fresh: BTreeSet<Box<[u8]>>,
    /// Those of the entry made last, which the next one mostly shares.
    recent: Option<Arc<Attributes>>,
    pub(super) made_time: Timestamp,
    groups: u32,
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
        let (hidden, fresh) = (BTreeSet::new(), BTreeSet::new());
        Self { below, made: Entries::new(), hidden, fresh, recent: None, made_time, groups: 0 }
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
        let attributes = match &self.recent {
            Some(recent) if **recent == attributes => Arc::clone(recent),
            _ => Arc::new(attributes),
        };
        self.recent = Some(Arc::clone(&attributes));
        self.made.insert(path.into(), LayerEntry { kind, attributes, content, group });
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
    pub(crate) fn finish(mut self) -> Result<FilesLayer, LayerError> {
        let mut first: HashMap<Group, Box<[u8]>> = HashMap::new();
        for (name, entry) in &mut self.made {
            let Some(group) = entry.group else { continue };
            match first.get(&group) {
                Some(target) => {
                    entry.kind = EntryKind::Hardlink(target.clone());
                    entry.content = Content::Nothing;
                }
                None => drop(first.insert(group, name.clone())),
            }
        }
        FilesLayer::new(self.made)
    }

    pub(super) fn is_covered(&self, path: &[u8]) -> bool {
        let is_no_directory =
            |ancestor: &[u8]| self.made.get(ancestor).is_some_and(|made| made.kind != EntryKind::Directory);
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
            return Ok(Some(found(path, made, None)));
        }
        match self.is_covered(path) || self.is_hidden(path) {
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
        if !self.is_covered(&path::join(path, b"x")) && !self.is_hidden(path) {
            let below = self.below.names(path)?;
            names.extend(below.into_iter().filter(|name| !self.hidden.contains(&*path::join(path, name))));
        }
        Ok(names.into_iter().collect())
    }
}
