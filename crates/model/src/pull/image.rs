//! The files of an image or artifact as a tree, so that they can be packaged anew without a disk.
//!
//! ```text
//!  layers ──▶ a file as it is, or one in a plain tar: headers alone ──┐
//!       └───▶ any other: read through, for the digest of each file ───┴─▶ layers upon each other ──▶ a tree
//! ```
//!
//! What is read of the tree is verified: a file that a layer was read through for by its digest; one that is a layer,
//! or alone in a plain one, by the layer's. Compressed layers are decoded one at a time and from front to back, so files
//! of one are best taken in their order, which is what packaging does.

mod content;

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::iter};
use ocib_image::{
    Digest, Digester, Event, Events, Identity, Image, Layer, LayerError, MediaType, Node, NodeKind, Outcome,
    Progress, Reference, TarReader, TaskId, Timestamp, Xattrs, decode,
};
use tokio::{runtime::Handle, sync::Mutex, task::spawn_blocking};

pub(crate) use self::content::Frame;
use self::content::{At, Kept, Proof, Running};
use super::{
    PullError, Scope,
    entry::{self, Entry, Holes, Kind, Names},
    nothing_there,
    source::{self, Source},
    stream::{self, COPY_BYTES, Stored},
    survey::{self, Layout, Segment},
    tree::{self, Content, Tree},
};
use crate::plain;

/// Smaller plain layers are read through: that is less than asking for their headers.
const SURVEYED_BYTES_MIN: u64 = 1 << 20;
/// Layers that are looked into at a time; a decoder takes about 10 MiB of memory.
const LOOKS: usize = 2;
/// What is kept of the beginning of a file in a layer that was read through: most headers, and small files whole.
const HEAD_BYTES: usize = 128 << 10;
/// The same of all files.
const HEADS_BYTES: usize = 4 << 20;
/// Reading through a layer of this size takes long enough to say why.
const NOTED_BYTES: u64 = 256 << 20;

/// The files of a model in an image.
#[derive(Debug)]
pub struct InImage {
    /// The files, as they are named below the path that was asked for.
    pub tree: Arc<dyn ocib_image::Tree>,
    /// Layers that hold one of them each: what is packaged in the same way need not be made.
    pub layers: Vec<LayerInImage>,
    /// Whether large files are in compressed layers, so that they are best read one after another.
    pub is_sequential: bool,
}

/// A layer that is one file of a tree with what is around it.
#[derive(Clone, Debug)]
pub struct LayerInImage {
    /// The file's path in the tree.
    pub(crate) path: Box<[u8]>,
    /// Its bytes before the file's content, and behind it.
    pub(crate) frame: Arc<Frame>,
    /// What it is, as a layer of a tar.
    pub(crate) layer: Layer,
    /// Where a registry can take it from.
    pub(crate) repository: Option<Reference>,
}

/// Finds the files of `image`: those below `path`, which is absolute, of an ordinary image, all of an artifact. Layers
/// that hold one file in a plain tar, or are one, are not read but for headers; others are read through, which is told
/// to `events`. Must be called within a runtime of tokio, which drives what is read of the tree later.
///
/// Reading the tree blocks, and must not be done where futures are polled.
///
/// # Errors
/// See [`PullError`].
///
/// ```no_run
/// # async fn example(image: ocib_image::Image, events: std::sync::Arc<dyn ocib_image::Events>)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use ocib_model::{Model, Options, open_image};
///
/// let found = open_image(&image, "/models", &events).await?;
/// let options = Options {
///     source_layers: found.layers,
///     is_sequential: found.is_sequential,
///     ..Options::default()
/// };
/// let model = Model::open(found.tree, options).await?;
/// # Ok(())
/// # }
/// ```
pub async fn open_image(image: &Image, path: &str, events: &Arc<dyn Events>) -> Result<InImage, PullError> {
    let wanted = entry::clean(path.as_bytes()).map_err(|_| nothing_there(path, &[]))?;
    let sources = source::of(&image.manifest, &image.layers, &wanted)?;
    let distinct: BTreeMap<Digest, &Source> =
        sources.iter().map(|source| (source.scope.layer, source)).collect();
    let room = Room { heads: Arc::new(AtomicUsize::new(HEADS_BYTES)), names: Names::default() };
    let looks = distinct.into_iter().enumerate().map(|(number, (layer, source))| {
        let (progress, room) = (Progress::new(Arc::clone(events), TaskId(number)), room.clone());
        async move { Ok::<_, PullError>((layer, look(source, &progress, room, events).await?)) }
    });
    let looked: HashMap<Digest, Looked> = iter(looks).buffer_unordered(LOOKS).try_collect().await?;
    let mut paths = Tree::new();
    for source in &sources {
        tree::apply(&mut paths, &source.scope, &source.entries(&looked[&source.scope.layer].entries))?;
    }
    if paths.is_empty() {
        let mut tops: Vec<String> = looked.into_values().flat_map(|layer| layer.tops).collect();
        tops.sort();
        tops.dedup();
        return Err(nothing_there(&wanted, &tops));
    }
    let kept = looked.into_iter().flat_map(|(layer, looked)| {
        looked.files.into_iter().map(move |(entry, kept)| (Content { layer, entry }, Arc::new(kept)))
    });
    let tree = Files {
        name: image.pinned.clone(),
        paths,
        kept: kept.collect(),
        runtime: Handle::current(),
        running: Arc::default(),
    };
    let is_sequential = tree.kept.values().any(|kept| kept.is_decoded());
    Ok(InImage { layers: tree.layers(), tree: Arc::new(tree), is_sequential })
}

/// What a layer holds.
#[derive(Default)]
struct Looked {
    entries: Vec<Entry>,
    tops: Vec<String>,
    /// By entry.
    files: HashMap<usize, Kept>,
}

/// What is kept of all layers together.
#[derive(Clone)]
struct Room {
    /// Bytes that are left for beginnings of files.
    heads: Arc<AtomicUsize>,
    names: Names,
}

async fn look(
    source: &Source,
    progress: &Progress,
    room: Room,
    events: &Arc<dyn Events>,
) -> Result<Looked, PullError> {
    let size = source.blob.descriptor.size;
    let media_type = match &source.kind {
        source::Kind::Raw(_) => MediaType::LayerTar,
        source::Kind::Tar(media_type) => media_type.clone(),
    };
    let is_surveyed = matches!(source.kind, source::Kind::Raw(_)) || size >= SURVEYED_BYTES_MIN;
    if is_surveyed
        && let Some(layout) = survey::layout(source).await?
        && let Some(looked) = Looked::of_headers(source, layout)?
    {
        return Ok(looked);
    }
    let layer = source.scope.layer;
    if size >= NOTED_BYTES {
        let text =
            format!("layer {layer} is read through once before: only that shows which files are in it");
        events.emit(Event::Note(&text));
    }
    progress.started(&format!("looking into layer {layer}"), Some(size));
    let (_feeding, pieces) = stream::feed_while(&source.blob, 0..size);
    let (source, stored) = (source.clone(), Stored::new(pieces, progress.clone()));
    let looked = spawn_blocking(move || {
        let result = decode(&media_type, Box::new(stored.clone()))
            .map_err(|source| PullError::Archive { layer, source })
            .and_then(|reader| Looked::of_bytes(&source, &media_type, reader, &room));
        match result {
            Err(error @ PullError::Place(_)) => Err(error),
            // What breaks the reader may be that its bytes are wrong: then that is what matters.
            result => stored.verify(layer).and(result),
        }
    });
    let looked = looked.await.map_err(|_| PullError::GivenUp)??;
    progress.finished(Outcome::Stored);
    Ok(looked)
}

impl Looked {
    /// What a layer holds whose headers were asked for; `None` unless that can be verified later, since there is
    /// one file in it, or now, since there is none.
    fn of_headers(source: &Source, layout: Layout) -> Result<Option<Self>, PullError> {
        let Layout { entries, tops, segments } = layout;
        let layer = source.scope.layer;
        let (mut before, mut after, mut file) = (Vec::new(), Vec::new(), None);
        for segment in segments {
            match segment {
                Segment::File { .. } if file.is_some() => return Ok(None),
                Segment::File { entry, bytes } => file = Some((entry, bytes)),
                Segment::Gap(gap) if file.is_some() => after.extend(gap),
                Segment::Gap(gap) => before.extend(gap),
            }
        }
        let Some((entry, bytes)) = file else {
            let actual = Digest::of(&before);
            return match actual == layer {
                true => Ok(Some(Self { entries, tops, ..Self::default() })),
                false => Err(PullError::WrongDigest { layer, actual }),
            };
        };
        let at = At::Offset(before.len() as u64);
        let frame = Arc::new(Frame { before, after });
        let proof = match source.kind {
            source::Kind::Raw(_) => Proof::Digest(layer),
            source::Kind::Tar(_) => Proof::Layer(layer),
        };
        let kept = Kept { blob: Arc::new(source.blob.clone()), bytes, at, proof, frame: Some(frame) };
        Ok(Some(Self { entries, tops, files: HashMap::from([(entry, kept)]) }))
    }

    /// What a layer holds that is read through.
    fn of_bytes(
        source: &Source,
        media_type: &MediaType,
        reader: Box<dyn Read + Send>,
        room: &Room,
    ) -> Result<Self, PullError> {
        let layer = source.scope.layer;
        let blob = Arc::new(source.blob.clone());
        let mut tar = TarReader::new(BufReader::with_capacity(64 << 10, reader));
        let (mut looked, mut holes) = (Self::default(), Holes::default());
        let mut number = 0;
        while let Some(found) = tar.next_entry().map_err(|error| stream::archive_error(layer, error))? {
            holes.count(&source.scope, &found)?;
            Scope::note_top(&found, &mut looked.tops);
            number += 1;
            let Some(mut entry) = source.scope.entry(&found)? else { continue };
            room.names.count(&source.scope, &found)?;
            if let Kind::File { bytes, digest } = &mut entry.kind {
                let read = digest_and_head(&mut tar.content(), *bytes, &room.heads);
                let (actual, head) = read.map_err(|error| stream::read_error(layer, error))?;
                *digest = Some(actual);
                let at = match found.offset.filter(|_| *media_type == MediaType::LayerTar) {
                    Some(offset) => At::Offset(offset),
                    None => At::Entry { number, media_type: media_type.clone(), head },
                };
                let (blob, proof) = (Arc::clone(&blob), Proof::Digest(actual));
                let kept = Kept { blob, bytes: *bytes, at, proof, frame: None };
                looked.files.insert(looked.entries.len(), kept);
            }
            looked.entries.push(entry);
        }
        // Decoders check what is behind the end of the archive, too.
        let rest = io::copy(&mut tar.into_inner(), &mut io::sink());
        rest.map_err(|error| stream::read_error(layer, error))?;
        Ok(looked)
    }
}

/// The digest of a file, and as much of its beginning as there is room for.
fn digest_and_head(content: &mut dyn Read, bytes: u64, heads: &AtomicUsize) -> io::Result<(Digest, Bytes)> {
    let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(HEAD_BYTES);
    let take = |left: usize| left.checked_sub(wanted);
    let has_room = heads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
    let (mut digester, mut head) = (Digester::new(), Vec::new());
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let got = content.read(&mut buffer)?;
        if got == 0 {
            return match digester.bytes() == bytes {
                true => Ok((digester.finish(), head.into())),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        digester.update(&buffer[..got]);
        if has_room && head.len() < wanted {
            head.extend_from_slice(&buffer[..got.min(wanted - head.len())]);
        }
    }
}

/// The files of an image.
#[derive(Debug)]
struct Files {
    /// The image, in messages.
    name: String,
    paths: Tree,
    kept: HashMap<Content, Arc<Kept>>,
    /// Drives the transfers.
    runtime: Handle,
    /// The compressed layer that is decoded now.
    running: Arc<Mutex<Option<Running>>>,
}

impl Files {
    fn kept(&self, path: &[u8]) -> Option<&Arc<Kept>> {
        match self.paths.get(std::str::from_utf8(path).ok()?)? {
            tree::Node::File(content) => self.kept.get(content),
            _ => None,
        }
    }

    /// Paths below that of a directory, without it.
    fn below<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a str> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let all = self.paths.range(prefix.clone()..).map(|(path, _)| path.as_str());
        all.map_while(move |path| path.strip_prefix(prefix.as_str()))
    }

    fn missing(&self, path: &[u8], kind: io::ErrorKind) -> LayerError {
        LayerError::Read { name: ocib_image::Tree::display(self, path), source: kind.into() }
    }

    fn layers(&self) -> Vec<LayerInImage> {
        let layer = |(path, node): (&String, &tree::Node)| {
            let tree::Node::File(content) = node else { return None };
            let kept = self.kept.get(content)?;
            let descriptor = &kept.blob.descriptor;
            Some(LayerInImage {
                path: path.as_bytes().into(),
                frame: Arc::clone(kept.frame.as_ref()?),
                layer: plain(descriptor.digest, descriptor.size),
                repository: kept.blob.source.repository().cloned(),
            })
        };
        self.paths.iter().filter_map(layer).collect()
    }
}

impl ocib_image::Tree for Files {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, LayerError> {
        let Ok(text) = std::str::from_utf8(path) else { return Ok(None) };
        let (kind, mode) = match self.paths.get(text) {
            Some(tree::Node::File(content)) => {
                (NodeKind::File { size: self.kept.get(content).map_or(0, |kept| kept.bytes) }, 0o644)
            }
            Some(tree::Node::Symlink(target)) => (NodeKind::Symlink(target.as_bytes().into()), 0o777),
            Some(tree::Node::Directory { mode }) => (NodeKind::Directory, *mode),
            // Archives need not name directories.
            None if self.below(text).next().is_some() => (NodeKind::Directory, 0o755),
            None => return Ok(None),
        };
        Ok(Some(Node { kind, mode, uid: 0, gid: 0, mtime: Timestamp::default(), link_group: None }))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        match self.stat(path)?.map(|node| node.kind) {
            Some(NodeKind::Directory) => {
                let path = String::from_utf8_lossy(path);
                let first = |below: &str| below.split('/').next().unwrap_or_default().to_owned();
                let mut names: Vec<String> = self.below(&path).map(first).collect();
                // Not only neighbours: `a-b` stands between `a` and `a/b`.
                names.sort_unstable();
                names.dedup();
                Ok(names.into_iter().map(|name| name.into_bytes().into()).collect())
            }
            Some(_) => Err(self.missing(path, io::ErrorKind::NotADirectory)),
            None => Err(self.missing(path, io::ErrorKind::NotFound)),
        }
    }

    fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn Read + Send>, LayerError> {
        let kept = self.kept(path).ok_or_else(|| self.missing(path, io::ErrorKind::NotFound))?;
        Ok(content::open(kept, offset, &self.running, &self.runtime))
    }

    fn xattrs(&self, _: &[u8]) -> Result<Xattrs, LayerError> {
        Ok(Xattrs::new())
    }

    fn identity(&self, path: &[u8]) -> Result<Option<Identity>, LayerError> {
        Ok(self.kept(path).map(|kept| Identity::Content(kept.identity().into_bytes().into())))
    }

    fn digest(&self, path: &[u8]) -> Result<Option<Digest>, LayerError> {
        Ok(self.kept(path).and_then(|kept| match kept.proof {
            Proof::Digest(digest) => Some(digest),
            Proof::Layer(_) => None,
        }))
    }

    fn is_distant(&self) -> bool {
        true
    }

    fn display(&self, path: &[u8]) -> String {
        match String::from_utf8_lossy(path) {
            path if path.is_empty() => self.name.clone(),
            path => format!("{path} in {}", self.name),
        }
    }
}
