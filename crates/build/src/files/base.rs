//! The file system of a base image, from its layers' tar headers alone.
//!
//! Layers are read at most once, as a stream, and only when a question is asked that depends on
//! them. Applied by the rules of image-spec, "layer": whiteouts, opaque directories, hard links, and
//! entries whose parent is a symbolic link, which land where it points to.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use ocib_image::{
    Blob, DiffId, EntryKind, Image, LayerError, LinkGroup, Memory, Node, NodeKind, Timestamp, Xattrs,
};

use super::{
    content::{Content, Packed},
    headers::{Header, headers, unreadable},
    layer::{OPAQUE, WHITEOUT},
    rootfs::{Files, Found, follow},
};
use crate::path;

/// An image whose files may be asked for.
#[derive(Debug)]
pub(crate) struct Base {
    layers: Vec<Arc<Packed>>,
    memory: Option<Memory>,
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
    /// The files of `image`, whose layers have these diff IDs; nothing is read yet.
    pub(crate) fn new(image: &Image, diff_ids: &[DiffId], name: &str, memory: Option<Memory>) -> Self {
        let packed = |(blob, diff_id): (&Blob, &DiffId)| {
            Arc::new(Packed { blob: blob.clone(), diff_id: *diff_id, image: name.to_owned() })
        };
        let layers = image.layers.iter().zip(diff_ids).map(packed).collect();
        Self { layers, memory, listing: OnceLock::new() }
    }

    fn listing(&self) -> Result<&Listing, LayerError> {
        if let Some(listing) = self.listing.get() {
            return Ok(listing);
        }
        let mut listing = Listing::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let headers = headers(layer, self.memory.as_ref())?;
            apply(&mut listing, number as u64, layer, headers)?;
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

fn apply(
    listing: &mut Listing,
    number: u64,
    layer: &Arc<Packed>,
    headers: Vec<Header>,
) -> Result<(), LayerError> {
    let mut mine: BTreeMap<Box<[u8]>, ()> = BTreeMap::new();
    for (entry_number, header) in headers.into_iter().enumerate() {
        let name = header.entry.name.clone();
        let directory = resolve_parent(listing, path::parent(&name));
        let base = path::base(&name);
        if base == OPAQUE {
            remove_below(listing, &directory, &mine);
        } else if let Some(hidden) = base.strip_prefix(WHITEOUT) {
            remove(listing, &path::join(&directory, hidden), &mine);
        } else if !base.is_empty() {
            let target = path::join(&directory, base);
            let listed = listed(listing, header, layer, (number, entry_number as u64))?;
            make_parents(listing, &target, &mut mine);
            insert(listing, &target, listed, &mine);
            mine.insert(target.into(), ());
        }
    }
    Ok(())
}

fn listed(
    listing: &Listing,
    Header { entry, offset, content }: Header,
    layer: &Arc<Packed>,
    identity: LinkGroup,
) -> Result<Listed, LayerError> {
    let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let kind = match entry.kind {
        EntryKind::Hardlink(link) => {
            let wanted = path::clean(&link);
            let wanted = path::join(&resolve_parent(listing, path::parent(&wanted)), path::base(&wanted));
            let missing = || format!("a hard link to /{}, which is not there", shown(&wanted));
            return listing.get(&wanted[..]).cloned().ok_or_else(|| unreadable(layer, &missing()));
        }
        EntryKind::File { size } => NodeKind::File { size },
        EntryKind::Directory => NodeKind::Directory,
        EntryKind::Symlink(target) => NodeKind::Symlink(target),
        EntryKind::Fifo => NodeKind::Fifo,
        EntryKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
        EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
    };
    let content = match (&kind, content, offset) {
        (NodeKind::File { .. }, Some(content), _) => Content::Inline(content.into()),
        (NodeKind::File { .. }, None, Some(offset)) => Content::Packed { layer: Arc::clone(layer), offset },
        // Nothing that writes layers writes these, and their bytes are not in one place.
        (NodeKind::File { .. }, None, None) => {
            return Err(unreadable(layer, &format!("/{} is a sparse file", shown(&entry.name))));
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ocib_image::{
        Annotations, Config, ContainerConfig, Digest, Entry, Manifest, MediaType, Platform, TarWriter,
    };

    use super::*;

    /// A layer of entries `KIND NAME[ -> TARGET]`: d directory, f file, l symbolic link, h hard link.
    fn layer(entries: &[&str]) -> Blob {
        let mut tar = TarWriter::new(Vec::new());
        for text in entries {
            let (kind, rest) = text.split_once(' ').unwrap();
            let (name, target) = rest.split_once(" -> ").unwrap_or((rest, ""));
            let target = || Box::from(target.as_bytes());
            let kind = match kind {
                "d" => EntryKind::Directory,
                "f" => EntryKind::File { size: 0 },
                "l" => EntryKind::Symlink(target()),
                _ => EntryKind::Hardlink(target()),
            };
            let (name, mtime) = (name.as_bytes().into(), Timestamp::default());
            tar.entry(&Entry { name, kind, mode: 0o700, uid: 1, gid: 2, mtime, xattrs: None }).unwrap();
        }
        Blob::in_memory(MediaType::LayerTar, Bytes::from(tar.finish().unwrap()))
    }

    fn base(layers: &[&[&str]]) -> Base {
        let layers: Vec<Blob> = layers.iter().map(|entries| layer(entries)).collect();
        let diff_ids: Vec<DiffId> = layers.iter().map(|blob| DiffId(blob.descriptor.digest)).collect();
        let config = ContainerConfig::scratch(&Platform::linux_amd64());
        let descriptor = Blob::in_memory(MediaType::Config, config.to_bytes()).descriptor;
        let manifest = Manifest::new(descriptor, Vec::new(), Annotations::new());
        let config = Config::Container(Box::new(config));
        let image = Image { manifest, config, layers, pinned: Digest::of(b"").to_string() };
        Base::new(&image, &diff_ids, "base", None)
    }

    /// Every path, directories with their mode, links with their target.
    fn tree(base: &Base) -> Vec<String> {
        let mut shown = Vec::new();
        for (name, listed) in base.listing().unwrap() {
            let name = String::from_utf8_lossy(name);
            shown.push(match &listed.node.kind {
                NodeKind::Directory => format!("{name}/ {:o}", listed.node.mode),
                NodeKind::Symlink(target) => format!("{name} -> {}", String::from_utf8_lossy(target)),
                _ => name.into_owned(),
            });
        }
        shown
    }

    #[test]
    fn layers_are_applied_as_a_runtime_would() {
        for (layers, expected) in [
            (&[&["d a", "f a/x", "f a/y"][..], &["f a/.wh.x", "f a/z"]][..], &["a/ 700", "a/y", "a/z"][..]),
            (&[&["d a", "f a/x"], &["d a", "f a/.wh..wh..opq", "f a/y"]], &["a/ 700", "a/y"]),
            // What a layer itself brings is spared, whatever the order.
            (&[&["d a", "f a/x"], &["f a/y", "f a/.wh..wh..opq"]], &["a/ 700", "a/y"]),
            (&[&["d a", "f a/x"], &["f .wh.a"]], &[]),
            (&[&["d a", "f a/x"], &["f a"]], &["a"]),
            (&[&["f a"], &["d a", "f a/x"]], &["a/ 700", "a/x"]),
            (
                &[&["d usr", "d usr/lib", "l lib -> usr/lib"], &["f lib/x"]],
                &["lib -> usr/lib", "usr/ 700", "usr/lib/ 700", "usr/lib/x"],
            ),
            (&[&["f deep/er/x"]], &["deep/ 755", "deep/er/ 755", "deep/er/x"]),
            (&[&["f ../../x"]], &["x"]),
        ] {
            assert_eq!(tree(&base(layers)), expected, "{layers:?}");
        }
    }

    #[test]
    fn hard_links_are_the_same_file() {
        let base = base(&[&["f a", "h b -> a"], &["h c -> /b"]]);
        let group = |name: &[u8]| base.find(name).unwrap().unwrap().node.link_group;
        assert!(group(b"a").is_some() && group(b"a") == group(b"b") && group(b"b") == group(b"c"));
        let names: Vec<_> = base.names(b"").unwrap().iter().map(|name| name.to_vec()).collect();
        assert_eq!(names, [b"a", b"b", b"c"]);
    }

    #[test]
    fn a_hard_link_to_nothing_is_an_error() {
        let error = base(&[&["h b -> a"]]).find(b"b").unwrap_err();
        assert!(
            error.to_string().ends_with("cannot be read: a hard link to /a, which is not there"),
            "{error}"
        );
    }
}
