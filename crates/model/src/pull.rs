//! Pulling: the files of a model image or artifact, out of wherever it is, into a directory.
//!
//! ```text
//!  layers ──▶ plain and large: a survey of its headers, then parts, several at a time ─┐
//!       └───▶ compressed or small: one stream                                          ├─▶ files under
//!                                                                                      │   temporary names
//!  ◀── nothing to fetch: the journal or the last pull has it                           │   digest verified
//!                                                                                      ▼
//!            layers upon each other: who wins at each path ──▶ contents renamed into place ──▶ record
//! ```
//!
//! Nothing gets its name before the layer that it is from was verified whole. What is remembered between
//! pulls, and where, is in `journal`; which names are refused in `entry`; how the directory is never left
//! in `place`.

mod check;
mod entry;
mod error;
mod image;
mod index;
mod install;
mod journal;
mod place;
mod present;
mod ranges;
mod source;
mod stream;
mod survey;
mod tree;

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream::iter};
use ocib_image::{Digest, Events, Image, MediaType, Outcome, Progress, TaskId};
use tokio::{sync::Semaphore, task::spawn_blocking};

pub use check::{Suitability, Way, check};
pub(crate) use entry::{RESERVED, WHITEOUT};
pub use error::PullError;
pub(crate) use image::Frame;
pub use image::{InImage, LayerInImage, open_image};
pub use index::{FileInImage, pull_index};

use entry::{Names, Scope};
use journal::{KnownLayer, Partial, Record};
use place::Place;
use present::{Present, Search};
use source::Source;
use tree::Tree;

/// How a pull is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PullOptions {
    /// The part of an ordinary image that is wanted, as an absolute path; `/` is all of it. Of artifacts
    /// all files are.
    pub path: String,
    /// Connections at a time, for all layers together; each takes up to 4 MiB of memory.
    pub connections: usize,
    /// Compressed layers that are unpacked at a time; each takes about 10 MiB of memory.
    pub decoders: usize,
    /// Whether what earlier pulls put into the directory, and the image has no more, is removed.
    pub delete: bool,
    /// Whether files that are there are read again, though nothing changed them since they were verified.
    pub verify: bool,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self { path: "/models".to_owned(), connections: 4, decoders: 2, delete: false, verify: false }
    }
}

/// What a pull did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pulled {
    /// The pinned name of what was pulled.
    pub image: String,
    /// Files that were put into place.
    pub placed: usize,
    /// Files that were there already.
    pub kept: usize,
    /// Files, links and directories of earlier pulls that were removed.
    pub removed: usize,
}

/// Puts the files of `image` into `directory`, which is made if it is missing; other files there stay. Must
/// be called within a runtime of tokio. Layers that are read are told to `events`, each as a piece of
/// work.
///
/// Whatever ends it, also `kill -9`, leaves nothing that looks complete and is not, and the next pull goes
/// on: with whole layers where they are compressed, else within 4 MiB a connection. One that finds all as it
/// should be moves no byte of a layer.
///
/// # Errors
/// See [`PullError`]. Files in place are those of before, unless it failed while putting them there.
///
/// ```no_run
/// # async fn example(image: ocib_image::Image, events: std::sync::Arc<dyn ocib_image::Events>)
/// # -> Result<(), ocib_model::PullError> {
/// use ocib_model::{PullOptions, pull};
///
/// let pulled = pull(&image, "/mnt/models".as_ref(), &PullOptions::default(), &events).await?;
/// println!("{}: {} new files", pulled.image, pulled.placed);
/// # Ok(())
/// # }
/// ```
pub async fn pull(
    image: &Image,
    directory: &Path,
    options: &PullOptions,
    events: &Arc<dyn Events>,
) -> Result<Pulled, PullError> {
    let path = entry::clean(options.path.as_bytes()).map_err(|_| nothing_there(&options.path, &[]))?;
    let sources = source::of(&image.manifest, &image.layers, &path)?;
    let place = Arc::new(Place::open(directory)?);
    let mut pull = Pull::open(place, sources, options)?;
    let (tree, present) = loop {
        pull.fetch(events).await?;
        let (tree, present) = pull.look().await?;
        if present.missing.is_empty() {
            break (tree, present);
        }
        pull.known.retain(|layer, _| !present.missing.contains(layer));
    };
    if tree.is_empty() {
        let tops: BTreeSet<&String> = pull.known.values().flat_map(|layer| &layer.tops).collect();
        journal::close(&pull.place)?;
        return Err(nothing_there(&path, &tops.into_iter().cloned().collect::<Vec<_>>()));
    }
    let name = image.pinned.clone();
    let installed = spawn_blocking(move || pull.install(&tree, present, name)).await;
    let installed = installed.map_err(|_| PullError::GivenUp)??;
    let install::Installed { placed, kept, removed } = installed;
    Ok(Pulled { image: image.pinned.clone(), placed, kept, removed })
}

fn nothing_there(path: &str, there: &[String]) -> PullError {
    PullError::NothingThere { path: path.trim_start_matches('/').to_owned(), there: there.to_vec() }
}

/// A pull on its way.
struct Pull {
    place: Arc<Place>,
    sources: Arc<Vec<Source>>,
    limits: Limits,
    record: Arc<Record>,
    known: HashMap<Digest, KnownLayer>,
    verify: bool,
    options: PullOptions,
    tasks: usize,
}

/// What all layers share.
#[derive(Clone, Debug)]
struct Limits {
    connections: Arc<Semaphore>,
    decoders: Arc<Semaphore>,
    /// Of connections.
    count: usize,
}

/// A layer to fetch.
#[derive(Clone, Debug)]
struct Job {
    source: Source,
    place: Arc<Place>,
    progress: Progress,
    limits: Limits,
    names: Names,
}

impl Pull {
    fn open(place: Arc<Place>, sources: Vec<Source>, options: &PullOptions) -> Result<Self, PullError> {
        let record = Record::read(&place).unwrap_or_else(|| Record::new(""));
        let wanted: BTreeSet<Digest> = sources.iter().map(|source| source.scope.layer).collect();
        let journaled = journal::open(&place)?;
        journal::tidy(&place, &wanted)?;
        let remembered = record.layers.iter().map(|layer| (layer.layer, layer.clone()));
        let mut known: HashMap<Digest, KnownLayer> = remembered.chain(journaled).collect();
        let is_wanted = |layer: &KnownLayer| sources.iter().any(|source| layer.is_of(&source.scope));
        known.retain(|_, layer| is_wanted(layer));
        let count = options.connections.max(1);
        let limits = Limits {
            connections: Arc::new(Semaphore::new(count)),
            decoders: Arc::new(Semaphore::new(options.decoders.max(1))),
            count,
        };
        let (sources, record) = (Arc::new(sources), Arc::new(record));
        let options = options.clone();
        Ok(Self { place, sources, limits, record, known, verify: options.verify, options, tasks: 0 })
    }

    /// Fetches the layers of which nothing is known.
    async fn fetch(&mut self, events: &Arc<dyn Events>) -> Result<(), PullError> {
        let mut seen = BTreeSet::new();
        let mut jobs = Vec::new();
        let names = Names::of(self.known.values().flat_map(|layer| &layer.entries));
        for source in self.sources.iter() {
            let layer = source.scope.layer;
            if self.known.contains_key(&layer) || !seen.insert(layer) {
                continue;
            }
            let progress = Progress::new(Arc::clone(events), TaskId(self.tasks));
            self.tasks += 1;
            let (place, limits) = (Arc::clone(&self.place), self.limits.clone());
            jobs.push(Job { source: source.clone(), place, progress, limits, names: names.clone() });
        }
        let fetched = iter(jobs.iter().map(Job::run)).buffer_unordered(self.limits.count);
        let fetched: Vec<KnownLayer> = fetched.try_collect().await?;
        self.known.extend(fetched.into_iter().map(|layer| (layer.layer, layer)));
        Ok(())
    }

    /// What is to be at each path, and which contents are here.
    async fn look(&mut self) -> Result<(Tree, Present), PullError> {
        let mut known = std::mem::take(&mut self.known);
        let (place, record, sources) =
            (Arc::clone(&self.place), Arc::clone(&self.record), Arc::clone(&self.sources));
        // Files that were read, or fetched, once in this pull need no second look.
        let verify = std::mem::replace(&mut self.verify, false);
        let looked = spawn_blocking(move || {
            let mut tree = Tree::new();
            for source in sources.iter() {
                let scope = &source.scope;
                tree::apply(&mut tree, scope, &source.entries(&known[&scope.layer].entries))?;
            }
            let search = Search { place: &place, record: &record, known: &known, verify };
            let present = search.run(&tree)?;
            for (content, path) in &present.at {
                if let Some(layer) = known.get_mut(&content.layer)
                    && *path == journal::staged(content.layer, content.entry)
                {
                    layer.staged.extend(place.state(path)?.map(|state| (content.entry, state)));
                }
            }
            Ok::<_, PullError>((tree, present, known))
        });
        let (tree, present, known) = looked.await.map_err(|_| PullError::GivenUp)??;
        self.known = known;
        Ok((tree, present))
    }

    fn install(self, tree: &Tree, present: Present, image: String) -> Result<install::Installed, PullError> {
        let Self { place, record, known, sources, options, .. } = self;
        let is_single = |source: &&Source| matches!(source.kind, source::Kind::Raw(_));
        let single = sources.iter().filter(is_single).map(|source| source.scope.layer).collect();
        let PullOptions { delete, verify, .. } = options;
        let install =
            install::Install { place: &place, tree, before: &record, single: &single, delete, verify };
        let (done, mut after) = install::install(install, present)?;
        after.image = image;
        let mut seen = BTreeSet::new();
        let layers = sources.iter().filter(|source| seen.insert(source.scope.layer));
        let layers = layers.filter_map(|source| known.get(&source.scope.layer));
        let contents = after.contents();
        after.layers = layers.map(|layer| layer.installed(&place, &contents)).collect::<Result<_, _>>()?;
        place.sync();
        after.write(&place)?;
        journal::close(&place)?;
        Ok(done)
    }
}

impl Job {
    /// Fetches the layer and says so.
    async fn run(&self) -> Result<KnownLayer, PullError> {
        let what = match &self.source.kind {
            source::Kind::Raw(path) => path.clone(),
            source::Kind::Tar(_) => format!("layer {}", &self.source.scope.layer.to_string()[..19]),
        };
        self.progress.started(&what, Some(self.source.blob.descriptor.size));
        let known = self.fetch().await?;
        self.progress.finished(Outcome::Stored);
        Ok(known)
    }

    async fn fetch(&self) -> Result<KnownLayer, PullError> {
        if ranges::is_worthwhile(self) {
            let size = self.source.blob.descriptor.size;
            let resumed = Partial::resume(&self.place, &self.source.scope, size);
            let layout = match resumed {
                Some(_) => None,
                None => survey::layout(&self.source).await?,
            };
            if resumed.is_some() || layout.is_some() {
                return ranges::fetch(self, resumed, layout).await;
            }
        }
        stream::fetch(self).await
    }
}

impl source::Kind {
    fn is_compressed(&self) -> bool {
        matches!(self, Self::Tar(media_type) if *media_type != MediaType::LayerTar)
    }
}
