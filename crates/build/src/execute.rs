//! Making and publishing: layers into the sink, then configs, manifests, index, and the names last.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_image::{
    Blob, Codec, Compression, Descriptor, Digest, Document, Event, Events, Expected, ExpectedLayer, Index,
    Manifest, MediaType, Memory, Outcome, Placed, Progress, Reference, Sealing, Sink, TaskId,
};

use crate::{
    Error, Problem, Request, blocking,
    lower::{Make, Part, Target},
};

/// What a sink holds now.
#[derive(Clone, Debug)]
pub struct Published {
    /// The index, or the only manifest.
    pub root: Document,
    /// The images, in the order of the request's platforms.
    pub images: Vec<PublishedImage>,
    /// Digest-pinned references, one for each name of the sink.
    pub references: Vec<String>,
}

/// One platform's image.
#[derive(Clone, Debug)]
pub struct PublishedImage {
    /// Its manifest, with the platform.
    pub manifest: Descriptor,
    /// Its config.
    pub config: Descriptor,
    /// Its layers, base first.
    pub layers: Vec<PublishedLayer>,
}

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct PublishedLayer {
    /// The instruction that makes it, as progress shows it; `base layer` for one of a base's.
    pub title: String,
    /// What it is.
    pub descriptor: Descriptor,
    /// Where it comes from.
    pub origin: LayerOrigin,
}

/// Where a layer of an image comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LayerOrigin {
    /// It is one of the base's.
    Base,
    /// A backend of RUN made it.
    Ran,
    /// It was made here: how, and what became of it in the sink.
    Made(Sealing, Outcome),
}

/// What layers turned out to be, by [`Make::key`], and the repositories that have them.
pub(crate) type Made = HashMap<Digest, (Placed, Vec<Reference>)>;

/// Something that has to be in the sink before any manifest.
enum Task<'a> {
    Make(&'a Make),
    /// With what it is called.
    Copy(&'a Blob, String),
}

/// Puts `targets` into `sink`. `made` is what is known from earlier sinks, and grows.
pub(crate) async fn execute(
    targets: &[Target],
    request: &Request,
    made: &Mutex<Made>,
    sink: &dyn Sink,
    events: &Arc<dyn Events>,
) -> Result<Published, Error> {
    sink.check(&expected(targets, request, made)).await?;
    let placed = Putting { request, made, sink, events, first_task: 0 }.put_layers(targets).await?;
    let mut images = Vec::new();
    let mut documents = Vec::new();
    for target in targets {
        let (image, document) = put_image(target, request, &placed, sink).await?;
        images.push(image);
        documents.push(document);
    }
    let root = root(&images, documents, request);
    if let Document::Index(_) = root {
        sink.put_manifest(&root).await?;
    }
    let references = sink.finish(&root).await?;
    Ok(Published { root, images, references })
}

/// What the names stand for: the only manifest, or an index of all.
fn root(images: &[PublishedImage], mut documents: Vec<Document>, request: &Request) -> Document {
    match (documents.pop(), documents.is_empty()) {
        (Some(only), true) => only,
        _ => {
            let manifests = images.iter().map(|image| image.manifest.clone()).collect();
            Document::Index(Index::new(manifests, request.annotations.clone()))
        }
    }
}

/// What is known of `targets` before anything of them is made.
pub(crate) fn expected(targets: &[Target], request: &Request, made: &Mutex<Made>) -> Vec<Expected> {
    let made = made.lock().unwrap_or_else(PoisonError::into_inner);
    let known = |make: &Make| {
        let layer = made.get(&make.key).map(|(placed, _)| &placed.layer);
        let layer = layer.or(make.layer.foreknown.layer.as_ref())?.clone();
        Some(Placed { layer, outcome: Outcome::Present, sealing: Sealing::Foreknown })
    };
    let composed: Option<Vec<Composed>> =
        targets.iter().map(|target| Composed::of(target, request, known)).collect();
    let root = composed.map(|all| {
        let (images, documents): (Vec<_>, _) =
            all.into_iter().map(|composed| (composed.image, composed.document)).unzip();
        root(&images, documents, request).descriptor().digest
    });
    targets.iter().map(|target| expected_image(target, root)).collect()
}

fn expected_image(target: &Target, root: Option<Digest>) -> Expected {
    let layers = target.parts.iter().map(|part| match part {
        Part::Base(blob, _) | Part::Ran(blob, ..) => {
            ExpectedLayer { what: what(part), stored_bytes: Some(blob.descriptor.size), tar_bytes: None }
        }
        Part::Made(make) => ExpectedLayer {
            what: what(part),
            stored_bytes: match make.layer.compression {
                Compression::Fixed(Codec::Plain) => make.layer.source.bytes(),
                _ => make.layer.foreknown.layer.as_ref().map(|layer| layer.descriptor.size),
            },
            tar_bytes: make.layer.source.bytes(),
        },
    });
    Expected { platform: target.platform.clone(), layers: layers.collect(), root }
}

/// What a layer is called in progress and errors.
fn what(part: &Part) -> String {
    match part {
        Part::Base(blob, _) => format!("base layer {}", blob.descriptor.digest),
        Part::Ran(_, _, title) => title.to_string(),
        Part::Made(make) => make.title.clone(),
    }
}

/// Layers on their way into a sink.
pub(crate) struct Putting<'a> {
    pub(crate) request: &'a Request,
    /// What is known from earlier sinks.
    pub(crate) made: &'a Mutex<Made>,
    pub(crate) sink: &'a dyn Sink,
    pub(crate) events: &'a Arc<dyn Events>,
    /// The number of the first piece of work; each layer is one.
    pub(crate) first_task: usize,
}

impl Putting<'_> {
    /// Puts an image that has no name; gives the digest of its manifest.
    pub(crate) async fn image(&self, target: &Target) -> Result<Digest, Error> {
        let placed = self.put_layers(std::slice::from_ref(target)).await?;
        let (image, _) = put_image(target, self.request, &placed, self.sink).await?;
        Ok(image.manifest.digest)
    }

    /// Puts every layer once, however many platforms share it.
    async fn put_layers(&self, targets: &[Target]) -> Result<HashMap<Digest, Placed>, Error> {
        let tasks = tasks(targets);
        let puts = tasks.iter().enumerate().map(|(number, task)| {
            let progress = Progress::new(Arc::clone(self.events), TaskId(self.first_task + number));
            async move {
                match task {
                    Task::Make(make) => Ok(Some((make.key, self.make(make, &progress).await?))),
                    Task::Copy(blob, what) => {
                        progress.started(what, Some(blob.descriptor.size));
                        self.sink.put_blob(blob, &progress).await?;
                        Ok::<_, Error>(None)
                    }
                }
            }
        });
        // With a concurrency of one this is the plan's own order, which archives rely on.
        let at_a_time = self.sink.concurrency().max(1);
        let done = stream::iter(puts).buffer_unordered(at_a_time);
        let made: Vec<_> = done.try_collect().await?;
        Ok(made.into_iter().flatten().collect())
    }

    async fn make(&self, make: &Make, progress: &Progress) -> Result<Placed, Error> {
        progress.started(&make.title, make.layer.source.bytes());
        let mut layer = make.layer.clone();
        if let Some((placed, repositories)) = self.known(make.key) {
            layer.foreknown.layer = Some(placed.layer);
            layer.foreknown.repositories = repositories;
        }
        let put = self.sink.put_layer(&layer, progress).await;
        let placed = put.map_err(|error| match make.files.has_failed() {
            true => Problem::Source(error).at(make.span),
            false => Error::Place(error),
        })?;
        self.remember(make, &placed).await;
        Ok(placed)
    }

    fn known(&self, key: Digest) -> Option<(Placed, Vec<Reference>)> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Keeps what a layer turned out to be for other sinks, and for other builds.
    async fn remember(&self, make: &Make, placed: &Placed) {
        self.note(make.key, placed);
        if placed.sealing == Sealing::Foreknown {
            return;
        }
        if let Some(remembered) = make.remembered.as_ref().filter(|remembered| **remembered != placed.layer) {
            let text = format!(
                "{}: the digest cache said {}, but it is {}; the cache is mended, please report how this came about",
                make.title, remembered.descriptor.digest, placed.layer.descriptor.digest
            );
            self.events.emit(Event::Warning(&text));
        }
        if let (Some(inputs), Some(directory)) = (make.inputs.clone(), &self.request.cache) {
            let (memory, layer) = (Memory::new(directory), placed.layer.clone());
            blocking(move || inputs.remember(&memory, &layer)).await;
        }
    }

    fn note(&self, key: Digest, placed: &Placed) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, repositories) = made.entry(key).or_insert_with(|| (placed.clone(), Vec::new()));
        repositories.extend(self.sink.repository().cloned());
    }
}

/// Every distinct layer, in the order of the plan.
fn tasks(targets: &[Target]) -> Vec<Task<'_>> {
    let mut tasks = Vec::new();
    let mut seen = BTreeSet::new();
    for part in targets.iter().flat_map(|target| &target.parts) {
        let (identity, task) = match part {
            Part::Base(blob, _) | Part::Ran(blob, ..) => {
                (blob.descriptor.digest, Task::Copy(blob, what(part)))
            }
            Part::Made(make) => (make.key, Task::Make(make)),
        };
        if seen.insert(identity) {
            tasks.push(task);
        }
    }
    tasks
}

async fn put_image(
    target: &Target,
    request: &Request,
    made: &HashMap<Digest, Placed>,
    sink: &dyn Sink,
) -> Result<(PublishedImage, Document), Error> {
    let composed = Composed::of(target, request, |make| made.get(&make.key).cloned());
    let Composed { config, image, document } = composed.expect("every layer of the target was put");
    sink.put_blob(&config, &Progress::unwatched()).await?;
    sink.put_manifest(&document).await?;
    Ok((image, document))
}

/// An image's documents, once all of its layers are known.
struct Composed {
    config: Blob,
    image: PublishedImage,
    document: Document,
}

impl Composed {
    /// `None` if `known` does not know a layer.
    fn of(target: &Target, request: &Request, known: impl Fn(&Make) -> Option<Placed>) -> Option<Self> {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for part in &target.parts {
            let (title, descriptor, diff_id, origin) = match part {
                Part::Base(blob, diff_id) => {
                    ("base layer".to_owned(), blob.descriptor.clone(), *diff_id, LayerOrigin::Base)
                }
                Part::Ran(blob, diff_id, title) => {
                    (title.to_string(), blob.descriptor.clone(), *diff_id, LayerOrigin::Ran)
                }
                Part::Made(make) => {
                    let Placed { layer, outcome, sealing } = known(make)?;
                    let origin = LayerOrigin::Made(sealing, outcome);
                    (make.title.clone(), layer.descriptor, layer.diff_id, origin)
                }
            };
            layers.push(PublishedLayer { title, descriptor, origin });
            diff_ids.push(diff_id);
        }
        let mut config = target.config.clone();
        config.diff_ids = diff_ids;
        let config = Blob::in_memory(MediaType::Config, config.to_bytes());
        let descriptors = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let manifest = Manifest::new(config.descriptor.clone(), descriptors, request.annotations.clone());
        // A manifest makes all its layers' types one family's.
        for (layer, descriptor) in layers.iter_mut().zip(manifest.layers()) {
            layer.descriptor = descriptor.clone();
        }
        let mut descriptor = manifest.descriptor();
        descriptor.platform = Some(target.platform.clone());
        let image = PublishedImage { manifest: descriptor, config: config.descriptor.clone(), layers };
        Some(Self { config, image, document: Document::Manifest(manifest) })
    }
}
