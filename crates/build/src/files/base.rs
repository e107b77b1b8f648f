//! The file system of a base image, from its layers' tar headers alone.
//!
//! Layers are read at most once, as a stream, and only when a question is asked that depends on
//! them. Applied by the rules of image-spec, "layer": whiteouts, opaque directories, hard links, and
//! entries whose parent is a symbolic link, which land where it points to.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read},
    sync::{Arc, OnceLock},
};

use ocib_image::{
    EntryKind, Error, Image, LayerError, LinkGroup, Node, NodeKind, PlaceError, PlaceErrorKind, TarEntry,
    TarReader, Timestamp, Xattrs, decode,
};

use super::{
    content::{Content, Packed},
    layer::{OPAQUE, WHITEOUT},
    rootfs::{Files, Found, follow},
};
use crate::path;

/// Files that owners are looked up in; kept while the headers are read, which saves a second pass.
const ACCOUNTS: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];
/// A larger file of accounts is read again when it is needed.
const ACCOUNTS_MAX: u64 = 1 << 20;
/// More files than any real image has; a listing of more would not fit into the memory budget.
const ENTRIES_MAX: usize = 5_000_000;
/// Headers are read from buffers of this size.
const READ_BYTES: usize = 64 << 10;

/// An image whose files may be asked for.
#[derive(Debug)]
pub(crate) struct Base {
    layers: Vec<Arc<Packed>>,
    listing: OnceLock<Listing>,
}

type Listing = BTreeMap<Box<[u8]>, Listed>;

#[derive(Clone, Debug)]
struct Listed {
    node: Node,
    xattrs: Option<Box<Xattrs>>,
    content: Content,
}

impl Base {
    /// The files of `image`; nothing is read yet.
    pub(crate) fn new(image: &Image, name: &str) -> Self {
        let packed =
            |blob: &ocib_image::Blob| Arc::new(Packed { blob: blob.clone(), image: name.to_owned() });
        Self { layers: image.layers.iter().map(packed).collect(), listing: OnceLock::new() }
    }

    fn listing(&self) -> Result<&Listing, LayerError> {
        if let Some(listing) = self.listing.get() {
            return Ok(listing);
        }
        let mut listing = Listing::new();
        for (number, layer) in self.layers.iter().enumerate() {
            apply(&mut listing, number as u64, layer)?;
        }
        Ok(self.listing.get_or_init(|| listing))
    }
}

impl Files for Base {
    fn find(&self, path: &[u8]) -> Result<Option<Found>, LayerError> {
        if self.layers.is_empty() {
            return Ok(None);
        }
        Ok(self.listing()?.get(path).map(Listed::found))
    }

    fn names(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        if self.layers.is_empty() {
            return Ok(Vec::new());
        }
        Ok(children(self.listing()?, path).map(|(name, _)| name.into()).collect())
    }
}

impl Listed {
    fn found(&self) -> Found {
        Found { node: self.node.clone(), xattrs: self.xattrs.clone(), content: self.content.clone() }
    }
}

/// The direct children of `directory`, by name.
fn children<'a>(listing: &'a Listing, directory: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a Listed)> {
    let prefix = path::join(directory, b"");
    let prefix = if directory.is_empty() { Vec::new() } else { prefix };
    let length = prefix.len();
    listing
        .range(Box::<[u8]>::from(prefix.clone())..)
        .take_while(move |(name, _)| name.starts_with(&prefix))
        .map(move |(name, listed)| (&name[length..], listed))
        .filter(|(name, _)| !name.is_empty() && !name.contains(&b'/'))
}

fn apply(listing: &mut Listing, number: u64, layer: &Arc<Packed>) -> Result<(), LayerError> {
    let corrupt = |error: std::io::Error| match error.downcast::<LayerError>() {
        Ok(inner) => inner,
        Err(error) => unreadable(layer, &error),
    };
    let broken = |error: Error| match error {
        Error::UnreadableArchive { source, .. } => corrupt(source),
        error => unreadable(layer, &error),
    };
    let stored = layer.blob.source.read()?;
    let stream = decode(&layer.blob.descriptor.media_type, stored)
        .map_err(|error| PlaceError::new(PlaceErrorKind::Refused, error))?;
    let mut archive = TarReader::new(BufReader::with_capacity(READ_BYTES, stream));
    let mut mine: BTreeMap<Box<[u8]>, ()> = BTreeMap::new();
    let mut entry_number = 0;
    while let Some(entry) = archive.next_entry().map_err(broken)? {
        let name = path::clean(&entry.entry.name);
        let directory = resolve_parent(listing, path::parent(&name));
        let base = path::base(&name).to_vec();
        if base == OPAQUE {
            remove_below(listing, &directory, &mine);
        } else if let Some(hidden) = base.strip_prefix(WHITEOUT) {
            remove(listing, &path::join(&directory, hidden), &mine);
        } else if !base.is_empty() {
            let target = path::join(&directory, &base);
            let identity = (number, entry_number);
            let mut content = archive.content();
            let listed =
                read_entry(listing, entry, &mut content, layer, &target, identity).map_err(corrupt)?;
            make_parents(listing, &target, &mut mine);
            insert(listing, &target, listed, &mine);
            mine.insert(target.into(), ());
        }
        if listing.len() > ENTRIES_MAX {
            return Err(corrupt(std::io::Error::other(format!("more than {ENTRIES_MAX} files"))));
        }
        entry_number += 1;
    }
    // The stored bytes are verified where they end, which may be behind the archive's end.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map(drop).map_err(corrupt)
}

fn unreadable(layer: &Packed, error: &dyn std::fmt::Display) -> LayerError {
    LayerError::Place(PlaceError::new(PlaceErrorKind::Corrupt, format!("{layer:?} cannot be read: {error}")))
}

fn read_entry(
    listing: &Listing,
    TarEntry { entry, offset }: TarEntry,
    content: &mut dyn Read,
    layer: &Arc<Packed>,
    name: &[u8],
    identity: LinkGroup,
) -> std::io::Result<Listed> {
    let invalid = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    let kind = match entry.kind {
        EntryKind::Hardlink(link) => {
            let wanted = path::clean(&link);
            let wanted = path::join(&resolve_parent(listing, path::parent(&wanted)), path::base(&wanted));
            let found = listing.get(&wanted[..]).cloned();
            let name = String::from_utf8_lossy(&wanted).into_owned();
            return found.ok_or_else(|| invalid(format!("a hard link to /{name}, which is not there")));
        }
        EntryKind::File { size } => NodeKind::File { size },
        EntryKind::Directory => NodeKind::Directory,
        EntryKind::Symlink(target) => NodeKind::Symlink(target),
        EntryKind::Fifo => NodeKind::Fifo,
        EntryKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
        EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
    };
    let content = match (&kind, offset) {
        (NodeKind::File { size }, _) if *size <= ACCOUNTS_MAX && ACCOUNTS.contains(&name) => {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            Content::Inline(bytes.into())
        }
        (NodeKind::File { .. }, Some(offset)) => Content::Packed { layer: Arc::clone(layer), offset },
        // Nothing that writes layers writes these, and their bytes are not in one place.
        (NodeKind::File { .. }, None) => {
            return Err(invalid(format!("/{} is a sparse file", String::from_utf8_lossy(name))));
        }
        _ => Content::Nothing,
    };
    let node = Node {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        // Every file gets one: links that follow share it, and a lone one does no harm.
        link_group: matches!(kind, NodeKind::File { .. }).then_some(identity),
        kind,
    };
    Ok(Listed { node, xattrs: entry.xattrs, content })
}

/// Where a directory named by an entry really is: links on the way are followed within the root.
fn resolve_parent(listing: &Listing, directory: &[u8]) -> Vec<u8> {
    let kind = |path: &[u8]| Ok(listing.get(path).map(|listed| listed.node.kind.clone()));
    // A listing in memory cannot fail; what loops stays where its name says.
    follow(directory, kind).unwrap_or_else(|_| directory.to_vec())
}

fn make_parents(listing: &mut Listing, target: &[u8], mine: &mut BTreeMap<Box<[u8]>, ()>) {
    let missing: Vec<Vec<u8>> = path::ancestors(target)
        .filter(|parent| listing.get(*parent).is_none_or(|listed| listed.node.kind != NodeKind::Directory))
        .map(<[u8]>::to_vec)
        .collect();
    for parent in missing {
        let node = Node {
            kind: NodeKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            link_group: None,
        };
        remove(listing, &parent, mine);
        listing.insert(parent.clone().into(), Listed { node, xattrs: None, content: Content::Nothing });
        mine.insert(parent.into(), ());
    }
}

fn insert(listing: &mut Listing, target: &[u8], listed: Listed, mine: &BTreeMap<Box<[u8]>, ()>) {
    let is_directory = |listed: &Listed| listed.node.kind == NodeKind::Directory;
    let merges = is_directory(&listed) && listing.get(target).is_some_and(is_directory);
    if !merges {
        listing.remove(target);
        remove_below(listing, target, mine);
    }
    listing.insert(target.into(), listed);
}

/// Removes `target` and all below it, but what the same layer brought.
fn remove(listing: &mut Listing, target: &[u8], mine: &BTreeMap<Box<[u8]>, ()>) {
    remove_below(listing, target, mine);
    if !mine.contains_key(target) {
        listing.remove(target);
    }
}

fn remove_below(listing: &mut Listing, directory: &[u8], mine: &BTreeMap<Box<[u8]>, ()>) {
    let prefix = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
    let doomed: Vec<Box<[u8]>> = listing
        .range(Box::<[u8]>::from(prefix.clone())..)
        .map(|(name, _)| name)
        .take_while(|name| name.starts_with(&prefix))
        .filter(|name| !mine.contains_key(*name))
        .cloned()
        .collect();
    for name in doomed {
        listing.remove(&name);
    }
}
