//! From instructions to entries: what each step of a plan really copies, found out from headers.
//!
//! This is where files are looked at: directories of the context are listed, and a base's layers are
//! read (once, headers only) if an answer depends on them. No content is read but what tells an
//! archive, and nothing is written. Everything here blocks.

mod blame;
mod commands;
mod delegate;
mod stages;
mod survey;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use ocib_dockerfile::{Patterns, Span, Spanned};
use ocib_image::{
    Annotations, Blob, Config, ContainerConfig, DiffId, Digest, Digester, Fetched, Foreknown, Inputs, Layer,
    LayerError, LayerSource, Memory, Platform, RECIPE_ANNOTATION, Remote, RunBackend, RunFeatures, RunFiles,
    Timestamp, Unsealed,
};

use crate::{
    Error, NamedContext, Problem, Request, Timestamps,
    context::Context,
    files::{
        Archive, Base, Copy, CopyError, Files, FilesLayer, Found, InlineFile, Keys, LayerBuilder, Mode,
        Owner, OwnerError, Rootfs, copy, expand_wildcards, follow_in, resolve_owner, unpack,
    },
    path,
    plan::{self, Action, CopyPlan, Doubts, Plan, Source, Step},
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

/// What is known of a layer before it is made.
struct Recalled {
    keys: Keys,
    /// What its inputs became the last time.
    remembered: Option<Layer>,
    foreknown: Foreknown,
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

    /// What is known of a layer before it is made.
    fn recall(&self, layer: &FilesLayer) -> Result<Recalled, Error> {
        let keys = layer.keys(self.request.compression, self.memory.as_ref())?;
        let remembered = self.memory.as_ref().and_then(|memory| keys.inputs.as_ref()?.recall(memory));
        let foreknown = Foreknown {
            recipe: Some(keys.recipe),
            layer: remembered.clone().filter(|_| !self.request.verify_reuse),
            repositories: Vec::new(),
        };
        Ok(Recalled { keys, remembered, foreknown })
    }

    fn part(&self, step: &Step, layer: Arc<FilesLayer>) -> Result<Part, Error> {
        let Recalled { keys, remembered, foreknown } = self.recall(&layer)?;
        let Keys { same_files, recipe, inputs } = keys;
        let title = step.title().to_owned();
        let compression = self.request.compression;
        let files = Arc::clone(&layer);
        let annotations = recipe_annotation(recipe);
        let mut layer = Unsealed { source: layer, compression, annotations, foreknown };
        if layer.foreknown.layer.is_none()
            && layer.source.bytes().is_some_and(|bytes| bytes >= LIMITED_BYTES_MIN)
        {
            // What cannot be read now fails at its instruction when it is made.
            let _ = layer.settle();
        }
        Ok(Part::Made(Arc::new(Make {
            title,
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
                let mut builder = LayerBuilder::new(rootfs, self.made_time());
                let blame = |error| Blame { step_span: step.span, from: None }.make(error);
                let place = follow_in(&builder, &path::clean(path.as_bytes()))?;
                builder.make_directories(&place, &Mode::Keep, owner).map_err(blame)?;
                Ok(builder.finish()?)
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

    fn copy(
        &mut self,
        span: Span,
        plan: &CopyPlan,
        rootfs: &Rootfs,
        stages: &BTreeMap<usize, Rootfs>,
    ) -> Result<FilesLayer, Error> {
        let owned;
        let from: &dyn Files = match &plan.from {
            None => {
                let needs_context = plan.sources.iter().any(|source| matches!(source, Source::Path(_)));
                match &self.main {
                    Some(context) => &**context,
                    None if needs_context => return Err(Problem::NoContext.at(span)),
                    None => &Rootfs::default(),
                }
            }
            Some(Origin::Stage(index)) => &stages[index],
            Some(Origin::Tree(name)) => &*self.contexts[name],
            Some(Origin::Scratch) => &Rootfs::default(),
            Some(Origin::Image(key)) => {
                owned = self.image_files(key);
                &owned
            }
        };
        self.copy_from(span, plan, from, rootfs)
    }

    fn copy_from(
        &self,
        span: Span,
        plan: &CopyPlan,
        from: &dyn Files,
        rootfs: &Rootfs,
    ) -> Result<FilesLayer, Error> {
        // A linked layer is made as if nothing was below it.
        let nothing = Rootfs::default();
        let below = if plan.link { &nothing } else { rootfs };
        let owner = plan
            .chown
            .as_ref()
            .map(|written| owner(&written.value, (!plan.link).then_some(rootfs), written.span));
        let owner = owner.transpose()?;
        let exclude = patterns(&plan.exclude)?;
        let mut builder = LayerBuilder::new(below, self.made_time());
        let fixed_time = match self.request.timestamps {
            Timestamps::Fixed(time) => Some(time),
            Timestamps::Keep => None,
        };
        for source in &plan.sources {
            let request = Copy {
                destination: &plan.destination,
                owner,
                mode: &plan.chmod,
                include: None,
                exclude: (!exclude.is_empty()).then_some(&exclude),
                follows_links: true,
            };
            match source {
                Source::Path(path) => self.path(from, &mut builder, path, &request, plan)?,
                Source::Remote(remote) => self.remote(&mut builder, remote, &request, plan)?,
            }
        }
        for (name, content) in &plan.inline {
            let file = InlineFile::new(name, content, fixed_time.unwrap_or_else(|| self.made_time()));
            let request = Copy {
                destination: &plan.destination,
                owner,
                mode: &plan.chmod,
                include: None,
                exclude: None,
                follows_links: false,
            };
            let blame = Blame { step_span: span, from: None };
            copy(&file, &mut builder, name.as_bytes(), &request).map_err(|error| blame.copy(error))?;
        }
        Ok(builder.finish()?)
    }

    fn path(
        &self,
        from: &dyn Files,
        into: &mut LayerBuilder<'_>,
        source: &Spanned<String>,
        request: &Copy<'_>,
        plan: &CopyPlan,
    ) -> Result<(), Error> {
        let blame = Blame { step_span: source.span, from: Some((from, &source.value)) };
        if !plan.parents {
            let root = format!("/{}", source.value);
            return copy_all(from, into, &root, request, plan.unpack).map_err(|error| blame.copy(error));
        }
        let (root, include) = pivot(source)?;
        require_plain(from, &root, source).map_err(|error| blame.copy(error))?;
        let request = Copy { include: Some(&include), ..*request };
        copy_all(from, into, &root, &request, false).map_err(|error| blame.copy(error))
    }

    fn remote(
        &self,
        into: &mut LayerBuilder<'_>,
        remote: &Spanned<Remote>,
        request: &Copy<'_>,
        plan: &CopyPlan,
    ) -> Result<(), Error> {
        let Fetched { tree, file } = &self.remotes[&remote.value];
        // What a server says of times is part of what it serves, and a commit's is part of the commit.
        let from = Context::new(Arc::clone(tree), Patterns::default(), Timestamps::Keep);
        let blame = Blame { step_span: remote.span, from: None };
        let mut put = || -> Result<(), CopyError> {
            let place = file.as_deref().unwrap_or_default();
            let archive = if plan.unpack_remote && file.is_some() { archive(&from, place)? } else { None };
            match archive {
                Some(archive) => unpack(&Arc::new(archive), into, request.destination, request.owner),
                None => copy(&from, into, place, request),
            }
        };
        put().map_err(|error| blame.copy(error))
    }
}

fn owner(written: &str, rootfs: Option<&Rootfs>, span: Span) -> Result<Owner, Error> {
    resolve_owner(written, rootfs).map_err(|error| match error {
        OwnerError::NoAccounts => Problem::NoAccounts { owner: written.to_owned() }.at(span),
        OwnerError::Layer(error) => Problem::Layer(error).at(span),
    })
}

fn patterns(written: &[Spanned<String>]) -> Result<Patterns, Error> {
    let Some(first) = written.first() else { return Ok(Patterns::default()) };
    let words = written.iter().map(|word| &word.value);
    Patterns::new(words).map_err(|error| Problem::BadPattern(error).at(first.span))
}

/// `--parents`: the directory before `/./` is the source, what follows is included.
fn pivot(source: &Spanned<String>) -> Result<(String, Patterns), Error> {
    let (root, pattern) = source.value.split_once("/./").unwrap_or(("", &source.value));
    let pattern = String::from_utf8_lossy(&path::clean(pattern.as_bytes())).into_owned();
    // The root itself as a pattern means all of it.
    let pattern = if pattern.is_empty() { "**".to_owned() } else { pattern };
    let include = Patterns::new([pattern]).map_err(|error| Problem::BadPattern(error).at(source.span))?;
    Ok((format!("/{root}"), include))
}

/// A source of `--parents` without a wildcard has to be there; links in it are not followed.
fn require_plain(from: &dyn Files, root: &str, source: &Spanned<String>) -> Result<(), CopyError> {
    let pattern = source.value.split_once("/./").map_or(&*source.value, |(_, pattern)| pattern);
    let clean = path::clean(pattern.as_bytes());
    if ocib_dockerfile::glob::has_wildcard(&clean) || clean.is_empty() {
        return Ok(());
    }
    for root in expand_wildcards(from, root)? {
        let place = path::join(&follow_in(from, &root)?, &clean);
        if from.find(&place)?.is_none() {
            return Err(CopyError::NotFound(format!("/{}", String::from_utf8_lossy(&place))));
        }
    }
    Ok(())
}

/// Copies all that `source` names; of archives, what is in them if `unpacks`. A wildcard that matches
/// nothing copies nothing, not even the destination.
fn copy_all(
    from: &dyn Files,
    into: &mut LayerBuilder<'_>,
    source: &str,
    request: &Copy<'_>,
    unpacks: bool,
) -> Result<(), CopyError> {
    for place in expand_wildcards(from, source)? {
        match if unpacks { archive(from, &place)? } else { None } {
            Some(archive) => unpack(&Arc::new(archive), into, request.destination, request.owner)?,
            None => copy(from, into, &place, request)?,
        }
    }
    Ok(())
}

fn archive(from: &dyn Files, place: &[u8]) -> Result<Option<Archive>, LayerError> {
    let is_file = |found: &Found| matches!(found.node.kind, ocib_image::NodeKind::File { .. });
    let place = follow_in(from, place)?;
    match (from.find(&place)?, from.tree()) {
        (Some(found), Some(tree)) if is_file(&found) => Archive::at(&tree, &place),
        _ => Ok(None),
    }
}
