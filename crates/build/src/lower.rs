//! From instructions to entries: what each step of a plan really copies, found out from headers.
//!
//! This is where files are looked at: directories of the context are listed, and a base's layers are
//! read (once, headers only) if an answer depends on them. No content is read but what tells an
//! archive, and nothing is written. Everything here blocks.

mod blame;
mod commands;
mod copied;
mod copy;
mod delegate;
mod stages;
mod survey;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use ocib_dockerfile::{Patterns, Span};
use ocib_image::{
    Annotations, Blob, Config, ContainerConfig, DiffId, Digest, Digester, Fetched, Foreknown, Inputs, Layer,
    LayerError, LayerSource, Memory, Platform, RECIPE_ANNOTATION, Remote, RunBackend, RunFeatures, RunFiles,
    Timestamp, Unsealed,
};

use crate::{
    Error, NamedContext, Problem, Request, Timestamps,
    context::Context,
    files::{
        Base, FilesLayer, Keys, LayerBuilder, Mode, Owner, OwnerError, Rootfs, follow_in, resolve_owner,
    },
    path,
    plan::{self, Action, Doubts, Plan, Step},
    stages::{ImageKey, Images, Origin},
};
use blame::Blame;
use commands::Stop;
pub(crate) use stages::Stages;

/// An image that is ready to be made: every layer is either there or can be written at any time.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) platform: Platform,
    pub(crate) parts: Vec<Part>,
    /// Complete but for the diff IDs.
    pub(crate) config: ContainerConfig,
}

/// Places limit layers, none that is known to less than 10 GB: of larger ones it must be known how they are stored to
/// tell whether they are too large.
const LIMITED_BYTES_MIN: u64 = 8 << 30;

/// A layer of the image to be.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// One of the base's.
    Base(Box<Blob>, DiffId),
    /// One that a backend made, by the instruction of this text.
    Ran(Box<Blob>, DiffId, Arc<str>),
    /// One that is made here.
    Made(Arc<Make>),
}

/// A layer that is made here.
#[derive(Debug)]
pub(crate) struct Make {
    /// As progress shows it.
    pub(crate) title: String,
    /// Equal for layers that hold the same files, for whatever platform.
    pub(crate) key: Digest,
    pub(crate) layer: Unsealed,
    /// The layer's own source, and the words to blame if it cannot be read.
    pub(crate) files: Arc<FilesLayer>,
    pub(crate) span: Span,
    /// What it is made of, where what that becomes can be remembered.
    pub(crate) inputs: Option<Inputs>,
    /// What that became the last time.
    pub(crate) remembered: Option<Layer>,
    /// What its bytes are, once that was asked for.
    diff_id: OnceLock<DiffId>,
}

impl Make {
    /// What its bytes are: as remembered, or from a pass over them.
    fn diff_id(&self) -> Result<DiffId, LayerError> {
        if let Some(known) = self.diff_id.get() {
            return Ok(*known);
        }
        let diff_id = match &self.layer.foreknown.layer {
            Some(layer) => layer.diff_id,
            None => {
                let mut hashing = Hashing(Digester::new());
                self.files.write(&mut hashing)?;
                DiffId(hashing.0.finish())
            }
        };
        Ok(*self.diff_id.get_or_init(|| diff_id))
    }
}

struct Hashing(Digester);

impl std::io::Write for Hashing {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.0.update(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A layer, and what is known of it before it is made.
struct Recalled {
    layer: Unsealed,
    same_files: Digest,
    inputs: Option<Inputs>,
    /// What its inputs became the last time.
    remembered: Option<Layer>,
}

/// Why a plan was not lowered.
#[derive(Debug)]
pub(crate) enum Unlowered {
    /// It takes the RUN there to be simple, which is not certain: it has to be made again without that.
    Doubt(Span, String),
    /// It cannot be carried out.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Unlowered {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Lowers the plans of all platforms, sharing what they share.
#[derive(Debug)]
pub(crate) struct Lowering {
    request: Arc<Request>,
    images: Images,
    bases: HashMap<ImageKey, Arc<Base>>,
    contexts: BTreeMap<String, Arc<Context>>,
    main: Option<Arc<Context>>,
    remotes: Remotes,
    memory: Option<Memory>,
    /// Whether no content is read.
    only_looks: bool,
    /// Whom delegated parts are written for, if that is known.
    backend: Option<Backend>,
}

/// Whom delegated parts are written for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backend {
    pub(crate) name: &'static str,
    pub(crate) features: RunFeatures,
    pub(crate) files: RunFiles,
}

impl Backend {
    pub(crate) fn of(backend: &dyn RunBackend) -> Self {
        Self { name: backend.name(), features: backend.features(), files: backend.files() }
    }
}

/// What ADD fetches.
pub(crate) type Remotes = BTreeMap<Remote, Fetched>;

/// What a later build knows the layer by, on whatever machine.
fn recipe_annotation(recipe: Digest) -> Annotations {
    [(RECIPE_ANNOTATION.to_owned(), recipe.to_string())].into()
}

impl Lowering {
    pub(crate) fn new(request: Arc<Request>, images: Images, remotes: Remotes) -> Self {
        let context = |tree: &Arc<dyn ocib_image::Tree>, ignored: &Patterns| {
            Arc::new(Context::new(Arc::clone(tree), ignored.clone(), request.timestamps))
        };
        let contexts = request.contexts.iter().filter_map(|(name, named)| match named {
            NamedContext::Tree(tree, ignored) => Some((name.clone(), context(tree, ignored))),
            NamedContext::Image(_) => None,
        });
        Self {
            bases: HashMap::new(),
            contexts: contexts.collect(),
            main: request.context.as_ref().map(|tree| context(tree, &request.ignored)),
            memory: request.cache.as_deref().map(Memory::new),
            only_looks: false,
            backend: None,
            request,
            images,
            remotes,
        }
    }

    /// The same, writing for this backend.
    pub(crate) fn for_backend(self, backend: Backend) -> Self {
        Self { backend: Some(backend), ..self }
    }

    /// The same, but no layer's content is read, and nothing that is found out is remembered on disk.
    pub(crate) fn only_looking(self) -> Self {
        Self { memory: self.memory.map(Memory::only_reading), only_looks: true, ..self }
    }

    /// The plan for a platform, made again.
    fn planned(&self, platform: &Platform, doubts: &Doubts) -> Result<Plan, Error> {
        plan::plan(&crate::stages::Stages::new(&self.request, platform)?, &self.images, doubts)
    }

    /// The layers that a stage begins with.
    fn base_parts(&self, origin: &Origin) -> Result<Vec<Part>, Error> {
        let Origin::Image(key) = origin else { return Ok(Vec::new()) };
        let image = &self.images[&**key];
        let Config::Container(config) = &image.config else { return Ok(Vec::new()) };
        if config.diff_ids.len() != image.layers.len() {
            return Err(Error::Image(ocib_image::Error::BadDocument {
                media_type: image.manifest.config().media_type.clone(),
                why: format!(
                    "{} has {} layers, but its config has {} diff IDs",
                    image.pinned,
                    image.layers.len(),
                    config.diff_ids.len()
                ),
            }));
        }
        let layers = image.layers.iter().cloned().zip(config.diff_ids.iter().copied());
        Ok(layers.map(|(blob, diff_id)| Part::Base(Box::new(blob), diff_id)).collect())
    }

    /// The files that a stage begins with; `stages` has those of earlier ones.
    fn base_files(&mut self, origin: &Origin, stages: &BTreeMap<usize, Rootfs>) -> Rootfs {
        match origin {
            Origin::Stage(earlier) => stages[earlier].clone(),
            Origin::Image(key) => self.image_files(key),
            Origin::Scratch | Origin::Tree(_) => Rootfs::default(),
        }
    }

    fn image_files(&mut self, key: &ImageKey) -> Rootfs {
        let image = &self.images[key];
        let diff_ids = match &image.config {
            Config::Container(config) => &config.diff_ids[..],
            Config::Artifact(..) => &[],
        };
        if image.layers.is_empty() {
            return Rootfs::default();
        }
        let memory = self.memory.clone();
        let base = || Arc::new(Base::new(image, diff_ids, &key.0.to_string(), memory));
        Rootfs::of(Arc::clone(self.bases.entry(key.clone()).or_insert_with(base)))
    }

    /// What is known of a layer before it is made; of a large one also how it will be stored.
    fn recall(&self, files: &Arc<FilesLayer>) -> Result<Recalled, Error> {
        let compression = self.request.compression;
        let Keys { same_files, recipe, inputs } = files.keys(compression, self.memory.as_ref())?;
        let remembered = self.memory.as_ref().and_then(|memory| inputs.as_ref()?.recall(memory));
        let foreknown = Foreknown {
            recipe: Some(recipe),
            layer: remembered.clone().filter(|_| !self.request.verify_reuse),
            repositories: Vec::new(),
        };
        let (source, annotations) = (Arc::<FilesLayer>::clone(files), recipe_annotation(recipe));
        let mut layer = Unsealed { source, compression, annotations, foreknown };
        if layer.foreknown.layer.is_none()
            && layer.source.bytes().is_some_and(|bytes| bytes >= LIMITED_BYTES_MIN)
        {
            // What cannot be read now fails at its instruction when it is made.
            let _ = layer.settle();
        }
        Ok(Recalled { layer, same_files, inputs, remembered })
    }

    fn part(&self, step: &Step, files: Arc<FilesLayer>) -> Result<Part, Error> {
        let Recalled { layer, same_files, inputs, remembered } = self.recall(&files)?;
        Ok(Part::Made(Arc::new(Make {
            title: step.title().to_owned(),
            key: same_files,
            layer,
            files,
            span: step.span,
            inputs,
            remembered,
            diff_id: OnceLock::new(),
        })))
    }

    /// The time of what is made without a source.
    fn made_time(&self) -> Timestamp {
        match self.request.timestamps {
            Timestamps::Fixed(time) => time,
            Timestamps::Keep => Timestamp::from_seconds(self.request.epoch),
        }
    }

    fn step(
        &mut self,
        step: &Step,
        rootfs: &Rootfs,
        stages: &BTreeMap<usize, Rootfs>,
    ) -> Result<FilesLayer, Unlowered> {
        match &step.action {
            Action::Directory { path, user } => {
                let owner = match &**user {
                    "" => None,
                    user => Some(owner(user, Some(rootfs), step.span)?),
                };
                Ok(self.directory(step, path, owner, rootfs)?)
            }
            Action::Run(run) => {
                commands::carry_out(run, rootfs, self.made_time()).map_err(|stop| match stop {
                    Stop::Doubt(why) => Unlowered::Doubt(step.span, why),
                    Stop::NoShell => Problem::NoShell.at(step.span).into(),
                    Stop::Layer(error) => Problem::Layer(error).at(step.span).into(),
                })
            }
            Action::Copy(plan) => Ok(self.copy(step.span, plan, rootfs, stages)?),
        }
    }

    /// The layer of a directory and its parents.
    fn directory(
        &self,
        step: &Step,
        path: &str,
        owner: Option<Owner>,
        rootfs: &Rootfs,
    ) -> Result<FilesLayer, Error> {
        let mut builder = LayerBuilder::new(rootfs, self.made_time());
        let blame = |error| Blame { step_span: step.span, from: None }.make(error);
        let place = follow_in(&builder, &path::clean(path.as_bytes()))?;
        builder.make_directories(&place, &Mode::Keep, owner).map_err(blame)?;
        Ok(builder.finish()?)
    }
}

fn owner(written: &str, rootfs: Option<&Rootfs>, span: Span) -> Result<Owner, Error> {
    resolve_owner(written, rootfs).map_err(|error| match error {
        OwnerError::NoAccounts => Problem::NoAccounts { owner: written.to_owned() }.at(span),
        OwnerError::Layer(error) => Problem::Layer(error).at(span),
    })
}
