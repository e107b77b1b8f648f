//! What shall be *done*, then do it: from a Dockerfile and a context to published images.
//!
//! ```text
//!  Dockerfile ── stages ──▶ which images? ── resolve ──▶ Images      (network, all at once)
//!                                 │
//!                               plan     pure: words expanded, bases pinned, configs complete
//!                                 │
//!                               lower    headers only: which files, from where, to where
//!                                 │
//!                              execute   layers into a sink, then manifests, then names
//! ```
//!
//! [`prepare`] and [`publish`] are that path, top to bottom; [`Request`] is what goes in. [`outline`]
//! goes as far as the headers and says what would be done. The crate
//! knows no registry and no directory: it is given an [`ImageSource`], a [`Fetch`],
//! [`Tree`](ocib_image::Tree)s and [`Sink`]s, and needs no async runtime of its own.

mod context;
mod delegate;
mod error;
mod execute;
mod files;
mod lower;
mod outline;
mod path;
mod plan;
mod request;
mod stages;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::AtomicUsize},
    thread,
};

use futures_channel::oneshot;
use futures_util::{TryStreamExt, future::try_join_all, lock::Mutex as AsyncMutex, stream::FuturesUnordered};
use ocib_dockerfile::{Command, Instruction, Span};
use ocib_image::{Events, Fetch, Image, ImageName, ImageSource, Platform, RunBackend, Sink};

pub use context::Timestamps;
pub use delegate::Runs;
pub use error::{Error, Problem};
pub use execute::{LayerOrigin, Published, PublishedImage, PublishedLayer};
pub use outline::{
    BaseOutline, DelegatedOutline, FilesFrom, InputOutline, InstructionOutline, JobOutline, LayerOutline,
    LayerSize, Outline, PartOutline, StageOutline, StepOutline, StepSize, TargetOutline,
};
pub use plan::Warning;
pub use request::{NamedContext, NativeRun, Request};

use delegate::{CarryingOut, Results};
use lower::{Lowering, Remotes, Target};
use plan::{Doubts, Plan};
use stages::{ImageKey, Images, Stages};

/// Images that are ready to be made, as often and into as many places as wanted.
#[derive(Debug)]
pub struct Prepared {
    request: Arc<Request>,
    targets: Vec<Target>,
    warnings: Vec<Warning>,
    /// What the layers turned out to be in the sinks so far.
    made: Mutex<execute::Made>,
}

impl Prepared {
    /// What the user should look at, each thing once.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What the images will be, as far as that is known before a layer is made.
    pub fn expected(&self) -> Vec<ocib_image::Expected> {
        execute::expected(&self.targets, &self.request, &self.made)
    }
}

/// What a build is supplied with.
#[derive(Clone, Copy)]
pub struct Supplies<'a> {
    /// Where images come from.
    pub images: &'a dyn ImageSource,
    /// What fetches; without it an ADD of a URL or repository is an error.
    pub fetch: Option<&'a dyn Fetch>,
    /// Who carries out RUN; without it a RUN is an error.
    pub runs: Option<&'a Runs>,
}

impl std::fmt::Debug for Supplies<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supplies").field("runs", &self.runs).finish_non_exhaustive()
    }
}

/// Finds out all that is to be done: resolves the bases, plans, looks at every file's header, and has carried
/// out what needs a container. Without a RUN nothing has been written anywhere when it returns; what RUNs
/// need and make is in the run repository then. Every error that a Dockerfile or context can cause has been
/// found, but for files that change later.
///
/// Dropping the future ends it; work on files that is under way ends by itself soon after.
pub async fn prepare(request: Arc<Request>, supplies: Supplies<'_>) -> Result<Prepared, Error> {
    let images = resolve_all(&request, supplies.images).await?;
    let plans = plans(&request, &images)?;
    if supplies.runs.is_none() {
        plans.iter().try_for_each(Plan::require_native)?;
    }
    let warnings = warnings(&plans);
    let remotes = fetch_all(&plans, supplies.fetch).await?;
    let lowering = Lowering::new(Arc::clone(&request), images, remotes);
    // What inputs of RUN turned out to be is known when the images are made.
    let made = Mutex::default();
    let targets = targets(&request, lowering, plans, supplies, &made).await?;
    Ok(Prepared { request, targets, warnings, made })
}

/// Lowers the plans as far as they go, has carried out what is wanted for more, and goes on with each result.
async fn targets(
    request: &Arc<Request>,
    mut lowering: Lowering,
    plans: Vec<Plan>,
    supplies: Supplies<'_>,
    made: &Mutex<execute::Made>,
) -> Result<Vec<Target>, Error> {
    if let Some(runs) = supplies.runs {
        lowering = lowering.for_backend(lower::Backend::of(&*runs.backend));
    }
    let carrying_out = supplies.runs.map(|runs| CarryingOut {
        runs,
        request,
        source: supplies.images,
        made,
        tasks: AtomicUsize::new(0),
        putting: AsyncMutex::new(()),
    });
    let mut stages: Vec<_> = plans.into_iter().map(lower::Stages::new).collect();
    let has_backend = supplies.runs.is_some();
    let (mut results, mut asked) = (Results::new(), BTreeSet::new());
    let mut under_way = FuturesUnordered::new();
    loop {
        let wanted;
        (lowering, stages, results, wanted) = blocking(move || {
            let mut wanted = Vec::new();
            for stages in &mut stages {
                wanted.extend(stages.advance(&mut lowering, &results)?);
                // A RUN may have turned out to need a container.
                if !has_backend {
                    stages.plan().require_native()?;
                }
            }
            Ok::<_, Error>((lowering, stages, results, wanted))
        })
        .await?;
        for wanted in wanted.into_iter().filter(|wanted| asked.insert(wanted.key)) {
            let carrying_out = carrying_out.as_ref().expect("without a backend plans with RUN are refused");
            under_way.push(async move {
                let image = carrying_out.image(&wanted).await?;
                Ok::<_, Error>((wanted.key, image))
            });
        }
        match under_way.try_next().await? {
            Some((key, image)) => drop(results.insert(key, image)),
            None => return Ok(stages.into_iter().map(lower::Stages::target).collect()),
        }
    }
}

/// Finds out what [`prepare`] and [`publish`] would do, and goes on where they cannot: a RUN is no
/// error but a part that would be delegated, and what depends on what it makes is said to. Makes no
/// layer and writes nothing, not even to the request's cache; reads no more than `prepare` does, and
/// its errors are the same.
///
/// Dropping the future ends it; work on files that is under way ends by itself soon after.
///
/// Without `fetch`, an ADD of a URL or repository is an error. With `backend`, so is what it cannot do.
pub async fn outline(
    request: Arc<Request>,
    source: &dyn ImageSource,
    fetch: Option<&dyn Fetch>,
    backend: Option<&dyn RunBackend>,
) -> Result<Outline, Error> {
    let images = resolve_all(&request, source).await?;
    let plans = plans(&request, &images)?;
    let (compression, warnings) = (request.compression, warnings(&plans));
    let remotes = fetch_all(&plans, fetch).await?;
    let backend = backend.map(lower::Backend::of);
    let targets = blocking(move || {
        let mut lowering = Lowering::new(request, images, remotes).only_looking();
        if let Some(backend) = backend {
            lowering = lowering.for_backend(backend);
        }
        plans.into_iter().map(|plan| lowering.survey(plan)).collect::<Result<_, _>>()
    });
    Ok(Outline { targets: targets.await?, compression, warnings })
}

/// How many bytes of the build's contexts each COPY and ADD of the first platform takes, by where it stands, as
/// far as that can be told without asking for an image: what stages begin with is taken for empty, an archive counts
/// as the file that it is, and what a build would refuse is left out. Nothing is looked at where nothing is run:
/// then it does not matter. Blocks while it looks at the headers of files.
pub fn copied(request: &Arc<Request>) -> BTreeMap<Span, u64> {
    let is_run = |instruction: &Instruction| matches!(instruction.command, Command::Run(_));
    if !request.dockerfile.stages.iter().flat_map(|stage| &stage.instructions).any(is_run) {
        return BTreeMap::new();
    }
    let copied = || {
        let stages = Stages::new(request, request.platforms.first()?).ok()?;
        let mut images = Images::new();
        for (key, _) in stages.missing(&images).ok()? {
            let nothing = Image::empty(&key.1);
            images.insert(key, nothing);
        }
        let plan = plan::plan(&stages, &images, &Doubts::new()).ok()?;
        let lowering = Lowering::new(Arc::clone(request), images, Remotes::new());
        Some(lowering.only_looking().copied(&plan))
    };
    copied().unwrap_or_default()
}

/// Makes the images in `sink`: layers first, names last. May be called for one sink after another:
/// layers that an earlier one has need not be made again where the next can tell that it has them too,
/// or can mount them.
pub async fn publish(
    prepared: &Prepared,
    sink: &dyn Sink,
    events: &Arc<dyn Events>,
) -> Result<Published, Error> {
    execute::execute(&prepared.targets, &prepared.request, &prepared.made, sink, events).await
}

/// Resolves every image that is needed. Triggers of those that come back may need more.
async fn resolve_all(request: &Request, source: &dyn ImageSource) -> Result<Images, Error> {
    let mut images = Images::new();
    loop {
        let missing = missing(request, &images)?;
        if missing.is_empty() {
            return Ok(images);
        }
        let resolved = missing.into_iter().map(|(key, span)| async move {
            let image = source.resolve(&key.0, &key.1).await.map_err(|source| {
                Problem::Base { name: key.0.to_string(), platform: key.1.clone(), source }.at(span)
            })?;
            Ok::<_, Error>((key, image))
        });
        images.extend(try_join_all(resolved).await?);
    }
}

fn warnings(plans: &[Plan]) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = plans.iter().flat_map(|plan| plan.warnings.clone()).collect();
    warnings.dedup();
    warnings
}

/// The images that the Dockerfile names, with the platforms that they are wanted for; nothing is asked.
/// Triggers of a base may name more.
pub fn bases(request: &Request) -> Result<Vec<(ImageName, Platform)>, Error> {
    let named = missing(request, &Images::new())?;
    Ok(named.into_iter().map(|((name, platform), _)| (name, platform)).collect())
}

fn missing(request: &Request, images: &Images) -> Result<Vec<(ImageKey, Span)>, Error> {
    let mut missing: Vec<(ImageKey, Span)> = Vec::new();
    for platform in &request.platforms {
        for (key, span) in Stages::new(request, platform)?.missing(images)? {
            if !missing.iter().any(|(known, _)| *known == key) {
                missing.push((key, span));
            }
        }
    }
    Ok(missing)
}

fn plans(request: &Request, images: &Images) -> Result<Vec<Plan>, Error> {
    let plan = |platform| plan::plan(&Stages::new(request, platform)?, images, &Doubts::new());
    request.platforms.iter().map(plan).collect()
}

/// Fetches everything that the plans name, each thing once.
async fn fetch_all(plans: &[Plan], fetch: Option<&dyn Fetch>) -> Result<Remotes, Error> {
    let all = plans.iter().flat_map(Plan::remotes).map(|remote| (&remote.value, remote.span));
    let distinct: BTreeMap<_, _> = all.collect();
    let fetched = distinct.into_iter().map(|(remote, span)| async move {
        let fetch = fetch.ok_or_else(|| Problem::NoFetch.at(span))?;
        let fetched = fetch.fetch(remote).await;
        Ok::<_, Error>((remote.clone(), fetched.map_err(|source| Problem::Fetch { source }.at(span))?))
    });
    Ok(try_join_all(fetched).await?.into_iter().collect())
}

/// Does blocking work on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = oneshot::channel();
    let thread = thread::spawn(move || {
        // Nobody waits any more if the build was given up.
        let _ = done.send(work());
    });
    match result.await {
        Ok(result) => result,
        // Only a panic keeps the thread from answering; it goes on here.
        Err(_) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("a thread that ends has answered"),
        },
    }
}
