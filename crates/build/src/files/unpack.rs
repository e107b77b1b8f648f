//! ADD of an archive: what its members become below the destination.
//!
//! As BuildKit does it (containerd's `archive.Apply` in a root of its own): the destination is the
//! root of the archive, so `..`, absolute names and links never lead out of it; later members
//! replace earlier ones; `--chown` applies to members, and `--chmod` to nothing. Files of the types that it does not
//! know are refused, though the layers of a base may have them: `7`, and `S`, GNU's old way to write sparse files.
//! PAX's way has the type of a file.

use std::{
    collections::HashMap,
    io::{BufReader, Read},
    sync::Arc,
};

use ocib_image::{
    EntryKind, Error, ExpansionLimit, Identity, LayerError, Node, NodeKind, TarEntry, TarReader, Tree,
    decode_archive, is_archive,
};

use super::{
    builder::LayerBuilder,
    content::{Attributes, Content, Group},
    copy::CopyError,
    mode::Mode,
    owner::Owner,
    rootfs::{Files, follow, follow_in},
};
use crate::path;

/// Holes cost an archive nothing, so sparse members are the one way left to ask for an endless layer.
const SPARSE_BYTES_MAX: u64 = 64 << 30;
/// Headers are read from buffers of this size.
const READ_BYTES: usize = 64 << 10;

/// A file that is a tar archive, plain or compressed.
#[derive(Debug)]
pub(crate) struct Archive {
    tree: Arc<dyn Tree>,
    path: Vec<u8>,
}

/// An archive being read, and how many of its members are behind.
pub(crate) struct Members {
    reader: TarReader<BufReader<Box<dyn Read + Send>>>,
    count: u64,
}

impl Archive {
    /// The file at `path`, if its content says that it is an archive.
    pub(crate) fn at(tree: &Arc<dyn Tree>, path: &[u8]) -> Result<Option<Self>, LayerError> {
        let archive = Self { tree: Arc::clone(tree), path: path.to_vec() };
        Ok(is_archive(tree.open(path, 0)?).then_some(archive))
    }

    /// What says that the archive is the same as before without its being read.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, LayerError> {
        self.tree.identity(&self.path)
    }

    pub(crate) fn display(&self) -> String {
        self.tree.display(&self.path)
    }

    pub(crate) fn open(&self) -> Result<Members, LayerError> {
        let stored = self.tree.open(&self.path, 0)?;
        let bytes = decode_archive(stored, ExpansionLimit::ARCHIVE).map_err(|error| self.broken(error))?;
        Ok(Members { reader: TarReader::new(BufReader::with_capacity(READ_BYTES, bytes)), count: 0 })
    }

    fn unhandled(&self, name: &[u8], flag: u8) -> LayerError {
        let (name, flag) = (String::from_utf8_lossy(name), char::from(flag));
        let why = format!(
            "{name:?} in the archive is of type {flag:?}, which no builder unpacks (GNU tar: --format=posix writes \
             sparse files as others read them)"
        );
        LayerError::Read { name: self.display(), source: std::io::Error::other(why) }
    }

    fn broken(&self, error: Error) -> LayerError {
        let source = match error {
            Error::UnreadableArchive { source, .. } => source,
            error => std::io::Error::other(error),
        };
        LayerError::Read { name: self.display(), source }
    }
}

impl Members {
    fn next(&mut self, archive: &Archive) -> Result<Option<TarEntry>, LayerError> {
        let member = self.reader.next_entry().map_err(|error| archive.broken(error))?;
        self.count += u64::from(member.is_some());
        Ok(member)
    }

    /// Goes on to the member of that number, counted from 0; gives its content. `None` if the
    /// archive has fewer, because it changed.
    pub(crate) fn content(
        &mut self,
        archive: &Archive,
        number: u64,
    ) -> Result<Option<impl Read + '_>, LayerError> {
        while self.count <= number {
            if self.next(archive)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(self.reader.content()))
    }

    /// Whether the member of that number is still to come.
    pub(crate) fn is_before(&self, number: u64) -> bool {
        self.count <= number
    }
}

/// Unpacks `archive` to `destination`, which becomes a directory.
pub(crate) fn unpack(
    archive: &Arc<Archive>,
    into: &mut LayerBuilder<'_>,
    destination: &str,
    owner: Option<Owner>,
) -> Result<(), CopyError> {
    let root = follow_in(into, &path::clean(destination.as_bytes()))?;
    into.make_directories(&root, &Mode::Keep, owner)?;
    let (groups, said) = (HashMap::new(), HashMap::new());
    let mut unpacking = Unpacking { archive, into, root, owner, groups, said };
    let mut members = archive.open()?;
    let mut sparse_bytes: u64 = 0;
    while let Some(member) = members.next(archive)? {
        if let Some(flag) = member.odd_type {
            return Err(archive.unhandled(&member.entry.name, flag).into());
        }
        if member.offset.is_none() {
            sparse_bytes = sparse_bytes.saturating_add(member.entry.size());
        }
        if sparse_bytes > SPARSE_BYTES_MAX {
            let why = format!("its sparse files are larger than {SPARSE_BYTES_MAX} bytes");
            let source = std::io::Error::other(why);
            return Err(LayerError::Read { name: archive.display(), source }.into());
        }
        unpacking.member(member, members.count - 1)?;
    }
    unpacking.finish()
}

struct Unpacking<'a, 'b> {
    archive: &'a Arc<Archive>,
    into: &'a mut LayerBuilder<'b>,
    /// The tree path of the destination.
    root: Vec<u8>,
    owner: Option<Owner>,
    /// Hard links to come share the group of what they link to.
    groups: HashMap<Vec<u8>, Group>,
    /// Mode, owner and time that the last link of a group said; its other names do not have them yet.
    said: HashMap<Group, Node>,
}

impl Unpacking<'_, '_> {
    fn member(&mut self, TarEntry { entry, .. }: TarEntry, number: u64) -> Result<(), CopyError> {
        let Some(place) = self.place(&entry.name)? else { return Ok(()) };
        self.into.make_directories(path::parent(&place), &Mode::Keep, None)?;
        let owner = self.owner.unwrap_or_default();
        let attributes = Attributes {
            mode: if matches!(entry.kind, EntryKind::Symlink(_)) { 0o777 } else { entry.mode },
            uid: owner.uid.unwrap_or(entry.uid),
            gid: owner.gid.unwrap_or(entry.gid),
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
        };
        if let EntryKind::Hardlink(target) = &entry.kind {
            return self.hard_link(&place, target, &attributes);
        }
        let there = self.into.find(&place)?.map(|found| found.node.kind);
        let merges = there == Some(NodeKind::Directory) && entry.kind == EntryKind::Directory;
        if !merges {
            self.into.remove(&place);
        }
        self.groups.remove(&place);
        let content = match entry.kind {
            EntryKind::File { .. } => Content::Archived { archive: Arc::clone(self.archive), number },
            _ => Content::Nothing,
        };
        self.into.put(&place, entry.kind, attributes, content, None);
        Ok(())
    }

    /// Where a name of the archive is; `None` for its root, which is passed over: the destination keeps
    /// its mode and owner, as in BuildKit.
    fn place(&self, name: &[u8]) -> Result<Option<Vec<u8>>, CopyError> {
        let name = path::clean(name);
        if name.is_empty() {
            return Ok(None);
        }
        let kind =
            |inside: &[u8]| Ok(self.into.find(&path::join(&self.root, inside))?.map(|found| found.node.kind));
        let directory = follow(path::parent(&name), kind)?;
        Ok(Some(path::join(&self.root, &path::join(&directory, path::base(&name)))))
    }

    /// Another name of `target`. Mode, owner and time that the link says become those of what both stand for,
    /// but for a symbolic link, which has no mode.
    fn hard_link(&mut self, place: &[u8], target: &[u8], attributes: &Attributes) -> Result<(), CopyError> {
        let missing = || {
            let shown = String::from_utf8_lossy(target);
            CopyError::NotFound(format!("the target /{} of a hard link", shown.trim_start_matches('/')))
        };
        let target = self.place(target)?.ok_or_else(missing)?;
        let mut found = self.into.find(&target)?.ok_or_else(missing)?;
        if found.node.kind == NodeKind::Directory {
            return Err(CopyError::OverDirectory(target));
        }
        if *place == *target {
            return Ok(());
        }
        let Attributes { mode, uid, gid, mtime, .. } = *attributes;
        let mode = if matches!(found.node.kind, NodeKind::Symlink(_)) { found.node.mode } else { mode };
        found.node = Node { mode, uid, gid, mtime, ..found.node };
        let group = *self.groups.entry(target.clone()).or_insert_with(|| self.into.group());
        self.into.put_found(&target, &found, Some(group));
        self.into.remove(place);
        self.into.put_found(place, &found, Some(group));
        self.groups.insert(place.to_vec(), group);
        self.said.insert(group, found.node);
        Ok(())
    }

    /// Gives all names of a group what its last link said: once, as a group may have as many names as links.
    fn finish(self) -> Result<(), CopyError> {
        for (name, group) in self.groups {
            // Names that something else has taken since are no longer among them.
            let is_of_group = self.into.made.get(&*name).is_some_and(|entry| entry.group == Some(group));
            if let (true, Some(said)) = (is_of_group, self.said.get(&group))
                && let Some(mut found) = self.into.find(&name)?
            {
                let Node { mode, uid, gid, mtime, .. } = *said;
                found.node = Node { mode, uid, gid, mtime, ..found.node };
                self.into.put_found(&name, &found, Some(group));
            }
        }
        Ok(())
    }
}
