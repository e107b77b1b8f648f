//! What a command did to a file system, as BuildKit's differ tells it: two trees are compared, and what
//! differs is written with the directories that lead to it.
//!
//! COPY needs none of this: its layer is what it copies. A command may remove what is below, make it
//! anew, or change it back.

use std::collections::BTreeSet;

use ocib_image::{EntryKind, LayerError, NodeKind, Timestamp};

use super::{
    builder::LayerBuilder,
    content::{Attributes, Content, Entries, LayerEntry},
    layer::{FilesLayer, WHITEOUT},
    rootfs::{Files, Found},
};
use crate::path;

impl LayerBuilder<'_> {
    /// Puts something new at `path`, where nothing is.
    pub(crate) fn make(&mut self, path: &[u8], kind: EntryKind, attributes: Attributes) {
        self.put(path, kind, attributes, Content::Nothing, None);
        self.mark_fresh(path);
    }

    /// Says that what is at `path` is not what was there, however much it looks like it.
    pub(crate) fn mark_fresh(&mut self, path: &[u8]) {
        self.fresh.insert(path.into());
    }

    /// Removes what is at `path` and below, also in lower layers.
    pub(crate) fn erase(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.remove(path);
        self.fresh.retain(|fresh| !is_within(fresh, path));
        if self.below.find(path)?.is_some() {
            self.hidden.insert(path.into());
        }
        Ok(())
    }

    /// Whether anything was done to what is at `path` itself, or to a directory that leads to it.
    pub(crate) fn has_changed(&self, path: &[u8]) -> bool {
        self.made.contains_key(path) || self.is_hidden(path) || self.is_covered(path)
    }

    /// Whether what is below at `path` was removed.
    pub(super) fn is_hidden(&self, path: &[u8]) -> bool {
        let mut all = path::ancestors(path).chain([path]);
        !self.hidden.is_empty() && all.any(|above| self.hidden.contains(above))
    }

    /// The layer of everything that is not as it was.
    pub(crate) fn finish_changes(self) -> Result<FilesLayer, LayerError> {
        let mut entries = Entries::new();
        for (name, entry) in &self.made {
            if self.differs(name, entry)? {
                entries.insert(name.clone(), entry.clone());
            }
        }
        for name in self.whiteouts()? {
            let attributes = Attributes { mode: 0, uid: 0, gid: 0, mtime: self.made_time, xattrs: None };
            let kind = EntryKind::File { size: 0 };
            let whiteout = path::join(path::parent(&name), &[WHITEOUT, path::base(&name)].concat());
            entries.insert(whiteout.into(), entry(kind, attributes));
        }
        self.add_parents(&mut entries)?;
        FilesLayer::new(entries)
    }

    fn differs(&self, name: &[u8], made: &LayerEntry) -> Result<bool, LayerError> {
        let Some(Found { node, .. }) = self.below.find(name)? else { return Ok(true) };
        let Attributes { mode, uid, gid, .. } = *made.attributes;
        let is_same_type = match (&made.kind, &node.kind) {
            (EntryKind::Directory, NodeKind::Directory) => true,
            (EntryKind::Directory, _) | (_, NodeKind::Directory) => false,
            // A file that was only labelled has the content that it had.
            _ => !self.fresh.contains(name),
        };
        Ok(!is_same_type || (mode, uid, gid) != (node.mode, node.uid, node.gid))
    }

    /// Everything that is gone: a directory once, and not what was in it.
    fn whiteouts(&self) -> Result<Vec<Box<[u8]>>, LayerError> {
        let is_outermost = |path: &[u8]| !path::ancestors(path).any(|above| self.hidden.contains(above));
        let mut todo: Vec<Box<[u8]>> =
            self.hidden.iter().filter(|path| is_outermost(path)).cloned().collect();
        let mut gone = Vec::new();
        let is_directory = |found: &Found| found.node.kind == NodeKind::Directory;
        while let Some(path) = todo.pop() {
            match self.find(&path)? {
                None => gone.push(path),
                // A new directory in the place of one: each name in it is asked for.
                Some(now)
                    if is_directory(&now)
                        && self.below.find(&path)?.is_some_and(|old| is_directory(&old)) =>
                {
                    let names = self.below.names(&path)?;
                    todo.extend(names.iter().map(|name| path::join(&path, name).into()));
                }
                Some(_) => {}
            }
        }
        Ok(gone)
    }

    /// Directories that lead to a change are written as they are.
    fn add_parents(&self, entries: &mut Entries) -> Result<(), LayerError> {
        let names: BTreeSet<Box<[u8]>> = entries.keys().cloned().collect();
        for name in &names {
            for parent in path::ancestors(name) {
                let holds_other_names = parent == path::parent(name) && self.is_new_or_gone(name)?;
                if let Some(known) = entries.get_mut(parent) {
                    set_time(known, self.made_time, holds_other_names);
                    continue;
                }
                let Some(Found { node, xattrs, .. }) = self.find(parent)? else { continue };
                let attributes =
                    Attributes { mode: node.mode, uid: node.uid, gid: node.gid, mtime: node.mtime, xattrs };
                let mut directory = entry(EntryKind::Directory, attributes);
                set_time(&mut directory, self.made_time, holds_other_names);
                entries.insert(parent.into(), directory);
            }
        }
        Ok(())
    }

    /// Whether `name` makes its directory one that was changed.
    fn is_new_or_gone(&self, name: &[u8]) -> Result<bool, LayerError> {
        let is_whiteout = path::base(name).starts_with(WHITEOUT);
        Ok(is_whiteout || self.hidden.contains(name) || self.below.find(name)?.is_none())
    }
}

fn entry(kind: EntryKind, attributes: Attributes) -> LayerEntry {
    LayerEntry { kind, attributes: attributes.into(), content: Content::Nothing, group: None }
}

fn set_time(entry: &mut LayerEntry, time: Timestamp, is_changed: bool) {
    if is_changed && entry.attributes.mtime != time {
        entry.attributes = Attributes { mtime: time, ..(*entry.attributes).clone() }.into();
    }
}

fn is_within(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
