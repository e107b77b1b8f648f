//! Verifying: every digest and size of an image, computed again from its bytes.

use std::{
    collections::HashSet,
    fmt,
    io::{self, Read},
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt, stream};
use ocib_image::{
    Blob, Config, Descriptor, DiffId, Digest, Digester, Document, Error as ImageError, Event, Events,
    Manifest, Origin, Outcome, PlaceError, PlaceErrorKind, Platform, Progress, TaskId, decode,
};

use crate::{
    blocking::{Wanted, blocking},
    layout::source_error,
    origin,
};

/// What to verify, and how fast.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The platform to pick out of an index; all of the image without one.
    pub platform: Option<Platform>,
    /// Layers that are read at a time, at least one.
    pub layers: usize,
}

impl Default for VerifyOptions {
    /// All of the image, two layers at a time.
    fn default() -> Self {
        Self { platform: None, layers: 2 }
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// What it is.
    pub kind: CheckedKind,
    /// What it should be.
    pub digest: Digest,
    /// How many bytes it should have, stored.
    pub size: u64,
    /// What is wrong with it; nothing if it is what it should be.
    pub wrong: Option<String>,
}

/// What kind of thing was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CheckedKind {
    /// An index.
    Index,
    /// A manifest.
    Manifest,
    /// A config.
    Config,
    /// A layer, whose diff ID was compared with the config's.
    Layer,
    /// A blob of an artifact, which has no diff ID.
    Blob,
    /// A layer that its owner keeps elsewhere, and that was not looked at.
    Foreign,
}

impl fmt::Display for CheckedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Index => "index",
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Layer => "layer",
            Self::Blob => "blob",
            Self::Foreign => "foreign layer",
        })
    }
}

/// Reads all of the image that `origin` names and compares it with what its own documents say: digests
/// and sizes of manifests, configs and layers as they are stored, and diff IDs of what the layers
/// hold. Layers are read once each, as streams.
///
/// What is wrong is in the list and no error; after an error nothing is known: the place could not be
/// reached, or refused. Every item is told to `events` as a piece of work.
///
/// # Errors
/// Those of the origin but for [`PlaceErrorKind::Corrupt`] and, below the root,
/// [`PlaceErrorKind::NotFound`].
pub async fn verify_image(
    origin: &Arc<dyn Origin>,
    options: &VerifyOptions,
    events: &Arc<dyn Events>,
) -> Result<Vec<Checked>, PlaceError> {
    let mut walk = Walk::new(origin, events);
    walk.start(options.platform.as_ref()).await?;
    let Walk { mut checked, layers, .. } = walk;
    let reads = layers.into_iter().enumerate().map(|(number, layer)| {
        let progress = Progress::new(Arc::clone(events), TaskId(number));
        async move { layer.check(progress).await }
    });
    let done = stream::iter(reads).buffered(options.layers.max(1));
    let done: Vec<_> = done.collect().await;
    for layer in done {
        checked.push(layer?);
    }
    Ok(checked)
}

/// The way down from the root.
struct Walk<'a> {
    origin: &'a dyn Origin,
    events: &'a dyn Events,
    seen: HashSet<Digest>,
    checked: Vec<Checked>,
    layers: Vec<Layer>,
}

/// A hostile index can lead to any number of documents.
const DOCUMENTS_MAX: usize = 2000;

impl<'a> Walk<'a> {
    fn new(origin: &'a Arc<dyn Origin>, events: &'a Arc<dyn Events>) -> Self {
        let (origin, events) = (&**origin, &**events);
        Self { origin, events, seen: HashSet::new(), checked: Vec::new(), layers: Vec::new() }
    }

    async fn start(&mut self, platform: Option<&Platform>) -> Result<(), PlaceError> {
        let root = self.origin.root().await?;
        let root = match (root, platform) {
            (Document::Index(index), Some(platform)) => {
                self.note(CheckedKind::Index, &index.descriptor(), None);
                Document::Manifest(origin::chosen(self.origin, &index, platform).await?)
            }
            (root, _) => root,
        };
        let mut todo = vec![root];
        while let Some(document) = todo.pop() {
            match document {
                Document::Manifest(manifest) => {
                    self.note(CheckedKind::Manifest, &manifest.descriptor(), None);
                    self.manifest(&manifest).await?;
                }
                Document::Index(index) => {
                    self.note(CheckedKind::Index, &index.descriptor(), None);
                    let children = index.manifests().iter().rev();
                    let children: Vec<_> = children.filter(|entry| self.seen.insert(entry.digest)).collect();
                    for entry in children {
                        todo.extend(self.child(entry).await?);
                    }
                }
            }
        }
        Ok(())
    }

    async fn child(&mut self, entry: &Descriptor) -> Result<Option<Document>, PlaceError> {
        let kind = if entry.media_type.is_index() { CheckedKind::Index } else { CheckedKind::Manifest };
        if self.seen.len() > DOCUMENTS_MAX {
            self.note(kind, entry, Some(format!("it comes after {DOCUMENTS_MAX} others, which is too many")));
            return Ok(None);
        }
        match self.origin.document(entry).await {
            Ok(document) => Ok(Some(document)),
            Err(error) => {
                self.note(kind, entry, Some(finding(error)?));
                Ok(None)
            }
        }
    }

    async fn manifest(&mut self, manifest: &Manifest) -> Result<(), PlaceError> {
        let descriptor = manifest.config();
        let mut diff_ids: Option<Vec<DiffId>> = None;
        let wrong = match origin::config(self.origin, manifest).await {
            Ok(Config::Container(config)) => {
                let (layers, ids) = (manifest.layers().len(), config.diff_ids.len());
                diff_ids = (layers == ids).then_some(config.diff_ids);
                (layers != ids)
                    .then(|| format!("it has {ids} diff IDs, but its manifest has {layers} layers"))
            }
            Ok(Config::Artifact(..)) => None,
            Err(error) => Some(finding(error)?),
        };
        if self.seen.insert(descriptor.digest) || wrong.is_some() {
            self.note(CheckedKind::Config, descriptor, wrong);
        }
        for (at, layer) in manifest.layers().iter().enumerate() {
            let diff_id = diff_ids.as_ref().map(|ids| ids[at]);
            self.layer(layer, diff_id);
        }
        Ok(())
    }

    fn layer(&mut self, descriptor: &Descriptor, diff_id: Option<DiffId>) {
        if descriptor.media_type.is_foreign() && !descriptor.urls.is_empty() {
            if self.seen.insert(descriptor.digest) {
                self.note(CheckedKind::Foreign, descriptor, None);
            }
            return;
        }
        let known = self.layers.iter_mut().find(|known| known.blob.descriptor.digest == descriptor.digest);
        match known {
            Some(known) => known.diff_ids.extend(diff_id),
            None => {
                let blob = self.origin.blob(descriptor);
                self.layers.push(Layer { blob, diff_ids: diff_id.into_iter().collect() });
            }
        }
    }

    fn note(&mut self, kind: CheckedKind, descriptor: &Descriptor, wrong: Option<String>) {
        if let Some(wrong) = &wrong {
            self.events.emit(Event::Warning(&format!("{kind} {}: {wrong}", descriptor.digest)));
        }
        self.checked.push(Checked { kind, digest: descriptor.digest, size: descriptor.size, wrong });
    }
}

/// What an error says of the content; an error that says nothing of it is given back.
fn finding(error: PlaceError) -> Result<String, PlaceError> {
    match error.kind {
        PlaceErrorKind::Corrupt | PlaceErrorKind::NotFound => Ok(error.to_string()),
        _ => Err(error),
    }
}

/// A layer to read, and what the configs say of it: one that several images share has several.
struct Layer {
    blob: Blob,
    diff_ids: Vec<DiffId>,
}

impl Layer {
    async fn check(self, progress: Progress) -> Result<Checked, PlaceError> {
        let Descriptor { digest, size, .. } = self.blob.descriptor;
        let kind = if self.diff_ids.is_empty() { CheckedKind::Blob } else { CheckedKind::Layer };
        progress.started(&format!("{kind} {}", &digest.to_string()[..19]), Some(size));
        let watched = progress.clone();
        let read = blocking(move |wanted| self.read(&watched, wanted)).await;
        let wrong = match read {
            Ok(wrong) => wrong,
            Err(error) => Some(finding(error)?),
        };
        progress.finished(Outcome::Stored);
        Ok(Checked { kind, digest, size, wrong })
    }

    /// Reads the layer once, for both of its digests.
    fn read(&self, progress: &Progress, wanted: &Wanted) -> Result<Option<String>, PlaceError> {
        let stored = Stored(Arc::new(Mutex::new(Tee {
            inner: self.blob.source.read()?,
            digester: Digester::new(),
            progress: progress.clone(),
            failed: None,
        })));
        let decoded = match self.diff_ids.is_empty() {
            true => Ok(None),
            false => diff_id(&self.blob, stored.clone(), wanted),
        };
        // What a decoder left unread, or all of it where there is nothing to decode.
        let rest = drain(&mut stored.clone(), wanted);
        let (digest, bytes, failed) = stored.end();
        if let Some(failed) = failed.or(rest.err()) {
            return Err(source_error(failed));
        }
        let Descriptor { digest: expected, size, .. } = self.blob.descriptor;
        if bytes != size {
            return Ok(Some(format!("it has {bytes} bytes, expected {size}")));
        }
        if digest != expected {
            return Ok(Some(format!("it has digest {digest}, expected {expected}")));
        }
        Ok(match decoded {
            Err(why) => Some(why),
            Ok(actual) => {
                let others = self.diff_ids.iter().filter(|diff_id| Some(**diff_id) != actual);
                others.zip([actual]).find_map(|(expected, actual)| {
                    actual.map(|actual| format!("it has diff ID {actual}, expected {expected} by its config"))
                })
            }
        })
    }
}

/// The digest of what a layer holds, or why it cannot be known.
fn diff_id(blob: &Blob, stored: Stored, wanted: &Wanted) -> Result<Option<DiffId>, String> {
    let mut tar = match decode(&blob.descriptor.media_type, Box::new(stored)) {
        Ok(tar) => tar,
        // Its bytes are right or wrong all the same; encrypted layers are such.
        Err(ImageError::UnknownLayer { .. }) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let digester = drain(&mut tar, wanted).map_err(|error| format!("it cannot be decompressed: {error}"))?;
    Ok(Some(DiffId(digester.finish())))
}

fn drain(reader: &mut dyn Read, wanted: &Wanted) -> io::Result<Digester> {
    let (mut digester, mut buffer) = (Digester::new(), vec![0; 128 << 10]);
    loop {
        wanted.check()?;
        match reader.read(&mut buffer)? {
            0 => return Ok(digester),
            got => digester.update(&buffer[..got]),
        }
    }
}

/// Stored bytes, digested on their way into a decoder, which need not read all of them.
#[derive(Clone)]
struct Stored(Arc<Mutex<Tee>>);

struct Tee {
    inner: Box<dyn Read + Send>,
    digester: Digester,
    progress: Progress,
    /// Why there is nothing more to read: a decoder would tell it as its own trouble.
    failed: Option<io::Error>,
}

impl Stored {
    fn lock(&self) -> std::sync::MutexGuard<'_, Tee> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn end(&self) -> (Digest, u64, Option<io::Error>) {
        let mut tee = self.lock();
        let digester = tee.digester.clone();
        let bytes = digester.bytes();
        (digester.finish(), bytes, tee.failed.take())
    }
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut tee = self.lock();
        if tee.failed.is_some() {
            return Ok(0);
        }
        match tee.inner.read(buffer) {
            Ok(got) => {
                tee.digester.update(&buffer[..got]);
                tee.progress.advanced(got as u64);
                Ok(got)
            }
            Err(error) => {
                tee.failed = Some(error);
                Ok(0)
            }
        }
    }
}
