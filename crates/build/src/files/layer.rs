//! A layer made of files: the source that all native instructions end in.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ocib_image::{
    Compression, Content as Stored, Digest, Digester, Entry, EntryKind, Inputs, LayerError, LayerSource,
    Marked, Memory, Place, Resumable, Segment, TarWriter, archive_bytes, decode, encode_header, is_lasting,
    segments, segments_identity, write_segments,
};

use super::{
    content::{Content, Entries, LayerEntry, Packed},
    known::Telling,
    rootfs::{Found, found},
    unpack::{Archive, Members},
};
use crate::{LayerSize, path};

/// Names that begin so remove what lower layers have; see image-spec, "Whiteouts".
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// A name that removes all that lower layers have in its directory.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Pieces of this size are compressed to judge a layer; small ones would flatter no codec.
const SAMPLE_PIECE: usize = 16 << 10;
const SAMPLE_PIECES: u64 = 64;
/// Of trees that are asked over a network, one of so many.
const SAMPLE_DISTANT: u64 = 8;

/// The entries of a layer and where their bytes are: what is written, and at the same time what a
/// stage's file system looks up, so that a large layer is in memory once.
#[derive(Debug)]
pub(crate) struct FilesLayer {
    entries: Entries,
    /// In which order they are written, as places in the order by name, if not in that.
    order: Option<Vec<u32>>,
    bytes: u64,
    has_failed: AtomicBool,
}

impl FilesLayer {
    /// A layer of `entries`; hard links must sort after what they link to.
    pub(crate) fn new(entries: Entries) -> Result<Self, LayerError> {
        let bytes = archive_bytes(entries.iter().map(|(name, entry)| entry.at(name)))?;
        let order = unpacking_order(&entries);
        Ok(Self { entries, order, bytes, has_failed: AtomicBool::new(false) })
    }

    /// Whether a file of it could not be read when the layer was written: then that is why whatever
    /// took the bytes failed, too.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// How much is in it.
    pub(crate) fn size(&self) -> LayerSize {
        let is_file = |entry: &&LayerEntry| matches!(entry.kind, EntryKind::File { .. });
        LayerSize {
            entries: self.entries.len() as u64,
            files: self.entries.values().filter(is_file).count() as u64,
            content_bytes: self.entries.values().map(LayerEntry::size).sum(),
            tar_bytes: self.bytes,
        }
    }

    /// Whose all is that is below `directory`.
    pub(crate) fn owners_below(&self, directory: &[u8]) -> BTreeSet<(u32, u32)> {
        let prefix = [directory, b"/"].concat();
        let below = self.entries.range(Box::<[u8]>::from(prefix.clone())..);
        let below = below.take_while(|(name, _)| name.starts_with(&prefix));
        below.map(|(_, entry)| (entry.attributes.uid, entry.attributes.gid)).collect()
    }

    pub(crate) fn in_order(&self) -> Box<dyn Iterator<Item = (&[u8], &LayerEntry)> + '_> {
        let by_name = self.entries.iter().map(|(name, entry)| (&**name, entry));
        match &self.order {
            None => Box::new(by_name),
            Some(order) => {
                let all: Vec<_> = by_name.collect();
                Box::new(order.iter().map(move |&at| all[at as usize]))
            }
        }
    }

    /// What the layer can be told by before it is made; with its inputs if `memory` will be asked
    /// about them.
    pub(crate) fn keys(&self, compression: Compression, memory: Option<&Memory>) -> Result<Keys, LayerError> {
        let (mut digester, mut recipe) = (Digester::new(), Digester::new());
        let mut inputs = memory.map(|_| Telling::new(compression));
        recipe.update(compression.to_string().as_bytes());
        let mut header = Vec::new();
        for (name, entry) in self.in_order() {
            header.clear();
            encode_header(&mut header, &entry.at(name))?;
            let place = match &entry.content {
                Content::Nothing => String::new(),
                Content::Tree(origin) => origin.tree.display(&origin.path(name)),
                Content::Packed { layer, offset } => format!("{} {offset}", layer.blob.descriptor.digest),
                Content::Archived { archive, number } => format!("{} {number}", archive.display()),
                Content::Inline(bytes) => Digest::of(bytes).to_string(),
            };
            recipe.update(&header);
            digester.update(&header);
            digester.update(place.as_bytes());
            if let Some(inputs) = &mut inputs {
                inputs.entry(&header, name, &entry.content)?;
            }
        }
        let inputs = inputs.and_then(Telling::finish);
        Ok(Keys { same_files: digester.finish(), recipe: recipe.finish(), inputs })
    }

    fn write_all(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        let mut tar = TarWriter::new(out);
        let mut open = Open::default();
        for (name, found) in self.in_order() {
            let entry = found.at(name);
            match found.kind {
                EntryKind::File { .. } => write_file(&mut tar, &mut open, &entry, &found.content)?,
                _ => tar.entry(&entry)?,
            }
        }
        open.layer.map_or(Ok(()), Unpacking::verify)?;
        tar.finish().map(drop)
    }
}

/// What tells a layer before it is made.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// Equal for layers of one build that will have equal bytes because they are made of the same
    /// files: headers and places of the content, not the content itself.
    pub(crate) same_files: Digest,
    /// See [`ocib_image::Foreknown::recipe`].
    pub(crate) recipe: Digest,
    /// What the digest cache knows the layer by, if every file has something that says that it is the same.
    pub(crate) inputs: Option<Inputs>,
}

/// As a level of a file system.
impl FilesLayer {
    /// What the layer itself has at `path`.
    pub(crate) fn find(&self, path: &[u8]) -> Option<Found> {
        if path::base(path).starts_with(WHITEOUT) {
            return None;
        }
        let (mut name, mut entry) = self.entries.get_key_value(path)?;
        if let EntryKind::Hardlink(target) = &entry.kind {
            (name, entry) = self.entries.get_key_value(target)?;
        }
        // Groups are unique within a layer, and layers in memory.
        let layer = std::ptr::from_ref(self) as u64;
        Some(found(name, entry, entry.group.map(|group| (layer, u64::from(group.0)))))
    }

    /// Whether what lower layers have at `path` is gone.
    pub(crate) fn hides(&self, path: &[u8]) -> bool {
        let is_whited_out = |path: &[u8]| {
            let parent = path::parent(path);
            let whiteout = path::join(parent, &[WHITEOUT, path::base(path)].concat());
            self.entries.contains_key(&*whiteout) || self.entries.contains_key(&*path::join(parent, OPAQUE))
        };
        let is_covered = |ancestor: &[u8]| {
            self.entries.get(ancestor).is_some_and(|entry| entry.kind != EntryKind::Directory)
        };
        is_whited_out(path)
            || path::ancestors(path).any(|ancestor| is_covered(ancestor) || is_whited_out(ancestor))
    }

    /// The names that the layer itself has in `directory`, whiteouts included.
    pub(crate) fn names<'a>(&'a self, directory: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let prefix = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
        let length = prefix.len();
        self.entries
            .range(Box::<[u8]>::from(prefix.clone())..)
            .map(|(name, _)| &**name)
            .take_while(move |name| name.starts_with(&prefix))
            .map(move |name| &name[length..])
            .filter(|name| !name.contains(&b'/'))
    }
}

/// Files out of an image's layers are written in the order in which those can be read, after all
/// that can be read at any time; hard links come last.
fn unpacking_order(entries: &Entries) -> Option<Vec<u32>> {
    let mut layers: Vec<&Arc<Packed>> = Vec::new();
    let mut archives: Vec<&Arc<Archive>> = Vec::new();
    let mut keys = Vec::with_capacity(entries.len());
    for LayerEntry { kind, content, .. } in entries.values() {
        keys.push(match (content, kind) {
            (Content::Packed { layer, offset }, _) => {
                let known = layers.iter().position(|known| Arc::ptr_eq(known, layer));
                let number = known.unwrap_or_else(|| {
                    layers.push(layer);
                    layers.len() - 1
                });
                (1, number, *offset)
            }
            (Content::Archived { archive, number }, _) => {
                let known = archives.iter().position(|known| Arc::ptr_eq(known, archive));
                let at = known.unwrap_or_else(|| {
                    archives.push(archive);
                    archives.len() - 1
                });
                (2, at, *number)
            }
            (_, EntryKind::Hardlink(_)) => (3, 0, 0),
            _ => (0, 0, 0),
        });
    }
    if layers.is_empty() && archives.is_empty() {
        return None;
    }
    let mut order: Vec<u32> = (0..u32::try_from(entries.len()).ok()?).collect();
    order.sort_by_key(|&at| keys[at as usize]);
    Some(order)
}

fn write_file(
    tar: &mut TarWriter<&mut dyn Write>,
    open: &mut Open,
    entry: &Entry,
    content: &Content,
) -> Result<(), LayerError> {
    let name = || String::from_utf8_lossy(&entry.name).into_owned();
    match content {
        Content::Nothing => tar.file(entry, &mut io::empty(), &name),
        Content::Inline(bytes) => tar.file(entry, &mut &bytes[..], &name),
        Content::Tree(origin) => {
            let path = origin.path(&entry.name);
            let mut file = origin.tree.open(&path, 0)?;
            tar.file(entry, &mut file, &|| origin.tree.display(&path))
        }
        Content::Packed { layer, offset } => {
            let display = || format!("/{} in {}", name(), layer.image);
            let stream = Unpacking::at(&mut open.layer, layer, *offset)?;
            tar.file(entry, &mut stream.take(entry.size()), &display)
        }
        Content::Archived { archive, number } => {
            let display = || format!("/{} in {}", name(), archive.display());
            let members = match &mut open.archive {
                Some((current, members)) if Arc::ptr_eq(current, archive) && members.is_before(*number) => {
                    members
                }
                other => &mut other.insert((Arc::clone(archive), archive.open()?)).1,
            };
            let fewer =
                || LayerError::Changed { name: archive.display(), what: "it has fewer members".to_owned() };
            let mut content = members.content(archive, *number)?.ok_or_else(fewer)?;
            tar.file(entry, &mut content, &display)
        }
    }
}

impl LayerSource for FilesLayer {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        self.noting_failure(self.write_all(out))
    }

    /// What comes out of images and archives is unpacked from their start.
    fn resumable(&self) -> Option<&dyn Resumable> {
        let mut entries = self.entries.iter();
        let is_resumable = entries.all(|(name, entry)| match &entry.content {
            Content::Nothing | Content::Inline(_) => true,
            Content::Tree(origin) => is_lasting(&*origin.tree, &origin.path(name)),
            Content::Packed { .. } | Content::Archived { .. } => false,
        });
        is_resumable.then_some(self)
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn sample(&self, take: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        let total: u64 = self.entries.values().map(LayerEntry::size).sum();
        let step = (total / SAMPLE_PIECES).max(SAMPLE_PIECE as u64);
        let (mut before, mut next, mut number) = (0, 0, 0_u64);
        for (name, entry) in &self.entries {
            let end = before + entry.size();
            while next < end {
                let mut piece = Vec::new();
                match &entry.content {
                    Content::Tree(origin)
                        if origin.tree.is_distant() && !number.is_multiple_of(SAMPLE_DISTANT) => {}
                    Content::Tree(origin) => {
                        let path = origin.path(name);
                        let file = origin.tree.open(&path, next - before)?;
                        let read = file.take(SAMPLE_PIECE as u64).read_to_end(&mut piece);
                        read.map_err(|error| match error.downcast::<LayerError>() {
                            Ok(inner) => inner,
                            Err(source) => LayerError::Read { name: origin.tree.display(&path), source },
                        })?;
                    }
                    Content::Inline(bytes) => piece.extend(bytes.iter().take(SAMPLE_PIECE)),
                    // Packed files would cost a download to look at; as stored they were judged before.
                    Content::Packed { .. } | Content::Archived { .. } | Content::Nothing => {}
                }
                take(&piece);
                next += step;
                number += 1;
            }
            before = end;
        }
        Ok(())
    }
}

impl Resumable for FilesLayer {
    fn identity(&self) -> Result<Digest, LayerError> {
        segments_identity(self.segments())
    }

    fn write_from(&self, place: &Place, out: &mut dyn Marked) -> Result<(), LayerError> {
        self.noting_failure(write_segments(self.segments(), place, out))
    }
}

impl FilesLayer {
    /// Of a layer that is resumable.
    fn segments(&self) -> impl Iterator<Item = Result<Segment<'_>, LayerError>> {
        segments(self.in_order().map(|(name, entry)| {
            let content = match &entry.content {
                Content::Tree(origin) => Stored::Tree(&*origin.tree, origin.path(name)),
                Content::Inline(bytes) => Stored::Inline(bytes),
                Content::Nothing | Content::Packed { .. } | Content::Archived { .. } => Stored::Inline(&[]),
            };
            (entry.at(name), content)
        }))
    }

    fn noting_failure(&self, result: Result<(), LayerError>) -> Result<(), LayerError> {
        if result.as_ref().is_err_and(|error| !matches!(error, LayerError::Output(_))) {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// What is being read from front to back while a layer is written.
#[derive(Default)]
struct Open {
    layer: Option<Unpacking>,
    archive: Option<(Arc<Archive>, Members)>,
}

/// An image's layer being read from front to back.
struct Unpacking {
    layer: Arc<Packed>,
    stream: Box<dyn Read + Send>,
    position: u64,
}

impl Unpacking {
    /// The stream at `offset` of `layer`: the current one if it is not past that, else a new one.
    fn at<'a>(
        current: &'a mut Option<Self>,
        layer: &Arc<Packed>,
        offset: u64,
    ) -> Result<&'a mut Self, LayerError> {
        let fits = |open: &Self| Arc::ptr_eq(&open.layer, layer) && open.position <= offset;
        if !current.as_ref().is_some_and(fits) {
            if let Some(done) = current.take() {
                done.verify()?;
            }
            *current = Some(Self::open(layer)?);
        }
        let stream = current.as_mut().expect("it was opened above if it was not open");
        let skip = offset - stream.position;
        let skipped = io::copy(&mut stream.by_ref().take(skip), &mut io::sink());
        match skipped.map_err(|error| read_error(layer, error))? {
            skipped if skipped == skip => Ok(stream),
            _ => Err(read_error(layer, io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn open(layer: &Arc<Packed>) -> Result<Self, LayerError> {
        let stored = layer.blob.source.read()?;
        let stream = decode(&layer.blob.descriptor.media_type, stored)
            .map_err(|error| read_error(layer, io::Error::other(error)))?;
        Ok(Self { layer: Arc::clone(layer), stream, position: 0 })
    }

    /// Reads to the end, where the stored bytes are compared with their digest.
    fn verify(mut self) -> Result<(), LayerError> {
        let rest = io::copy(&mut self.stream, &mut io::sink());
        rest.map(drop).map_err(|error| read_error(&self.layer, error))
    }
}

impl Read for Unpacking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.stream.read(buffer)?;
        self.position += got as u64;
        Ok(got)
    }
}

fn read_error(layer: &Packed, error: io::Error) -> LayerError {
    match error.downcast::<LayerError>() {
        Ok(inner) => inner,
        Err(source) => LayerError::Read { name: format!("{layer:?}"), source },
    }
}

/// `length` bytes at `offset` of a packed layer.
pub(crate) fn read_packed(layer: &Arc<Packed>, offset: u64, length: u64) -> Result<Vec<u8>, LayerError> {
    let mut unpacking = None;
    let stream = Unpacking::at(&mut unpacking, layer, offset)?;
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes).map_err(|error| read_error(layer, error))?;
    unpacking.map_or(Ok(()), Unpacking::verify)?;
    Ok(bytes)
}
