//! `ocib build`: reads what the flags name, wires the rooms together, and waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use ocib_build::{
    NamedContext, NativeRun, Published, Request, Runs, Supplies, Timestamps, Warning, copied, prepare,
    publish,
};
use ocib_dockerfile::{Dockerfile, Linter, Span};
use ocib_image::{Event, Events, ImageName, Remote, Sealer, Sink, Timestamp};
use ocib_net::{Backoff, HttpOptions};
use ocib_source::Fetcher;
use ocib_store::Images;
use tokio::runtime::Runtime;

use crate::{
    args::{self, Epoch},
    diagnostic::{self, Failure},
    dockerfile::{self, Inputs, Places},
    environment, git,
    output::{Means, Output},
    progress,
    registries::Clients,
    report, run, sources, tree, wiring,
};

/// Runs the command.
pub(crate) fn run(build: &args::Build) -> Result<(), Failure> {
    let outputs = Output::all(&build.image)?;
    let prints = !outputs.iter().any(Output::is_stdout);
    let events = progress::watch(build.shared.progress, build.shared.quiet);
    #[cfg(feature = "ecr")]
    if build.image.ecr.print_iam_policy {
        let (wired, _) = Wired::new(build, events, &wiring::http(&build.shared)?, Backoff::default())?;
        let bases = ocib_build::bases(&wired.request).map_err(|error| wired.failure(&error))?;
        let bases = bases.into_iter().map(|(name, _)| name);
        return build.image.ecr.print_policy(&build.image.tags, bases, &wired.clients.ecr);
    }
    let published = publish_into(build, events, |wired| {
        let means = Means::of(&build.image, wired.clients.clone(), wired.sealer(build)?)?;
        let mut sinks = Vec::new();
        for output in outputs {
            sinks.extend(output.sinks(&build.image.tags, &means)?);
        }
        Ok(sinks.into_iter().map(Arc::from).collect())
    })?;
    if let Some(last) = published.last() {
        report::files(build, last)?;
    }
    if prints {
        report::references(&published);
    }
    Ok(())
}

/// Builds as the flags say, into the sinks that `sinks` makes.
pub(crate) fn publish_into(
    build: &args::Build,
    events: Arc<dyn Events>,
    sinks: impl FnOnce(&Wired) -> Result<Vec<Arc<dyn Sink>>, Failure>,
) -> Result<Vec<Published>, Failure> {
    let (wired, runtime) = Wired::new(build, events, &wiring::http(&build.shared)?, Backoff::default())?;
    let runs = run::runs(build, &wired)?;
    let backend = runs.as_ref().map(|runs| Arc::clone(&runs.backend));
    let job = Job { sinks: sinks(&wired)?, runs, wired };
    wiring::finish_tidily(runtime, async move { job.publish_all().await }, async {
        if let Some(backend) = &backend {
            backend.tidied().await;
        }
    })
}

/// What is built, and all that takes part in finding it out.
pub(crate) struct Wired {
    pub(crate) request: Arc<Request>,
    /// What the Dockerfile is called in messages.
    pub(crate) name: String,
    pub(crate) clients: Clients,
    pub(crate) images: Images,
    pub(crate) fetcher: Fetcher,
    pub(crate) events: Arc<dyn Events>,
}

impl Wired {
    /// Reads what the flags name; the runtime is what everything waits on.
    pub(crate) fn new(
        build: &args::Build,
        events: Arc<dyn Events>,
        http: &HttpOptions,
        backoff: Backoff,
    ) -> Result<(Self, Runtime), Failure> {
        build.buildx.answer(&*events, build.run.is_given())?;
        if let Some(flag) = build.run.secrets.given().filter(|_| !build.run.is_given()) {
            events.emit(Event::Note(&format!("{flag} makes no difference: no --run carries out a RUN")));
        }
        let scratch = build.scratch_dir.clone().unwrap_or_else(std::env::temp_dir);
        let note = |text: &str| events.emit(Event::Note(text));
        let git = git::git(http.clone(), scratch.clone(), Arc::clone(&events));
        let runtime = wiring::runtime()?;
        let fetcher = sources::fetcher(http, backoff, wiring::read_ahead(&build.shared), git)?;
        let fetch = |remote: &Remote| sources::tree(&runtime, &fetcher, remote);
        let keeps_git_dir = git::keeps_git_dir(&dockerfile::build_args(&build.build_args)?)?;
        let places = Places { scratch: &scratch, note: &note, fetch: &fetch, keeps_git_dir };
        let inputs = Inputs::read(&build.context, build.file.as_deref(), &places)?;
        let name = inputs.source.name.clone();
        let request = Arc::new(request(build, inputs, &places)?);
        remark(build, &request, &name, &*events)?;
        let clients = Clients::new(&build.shared, http, backoff, Arc::clone(&events))?;
        let images = Images { registries: clients.registries.clone() };
        Ok((Self { request, name, clients, images, fetcher, events }, runtime))
    }

    /// What makes the build's layers within the budget that its flags give.
    pub(crate) fn sealer(&self, build: &args::Build) -> Result<Sealer, Failure> {
        let is_distant =
            |context: &NamedContext| matches!(context, NamedContext::Tree(tree, _) if tree.is_distant());
        let has_distant = self.request.context.iter().any(|tree| tree.is_distant())
            || self.request.contexts.values().any(is_distant)
            || sources::are_distant(&self.request.dockerfile)
            || build.run.is_by_bucket();
        match has_distant {
            true => wiring::distant_sealer(&build.shared, build.compression),
            false => wiring::sealer(&build.shared, build.compression),
        }
    }

    /// An error of the build, placed in its Dockerfile.
    pub(crate) fn failure(&self, error: &ocib_build::Error) -> Failure {
        let text = ocib_dockerfile::redacted(&self.request.dockerfile);
        self.clients.explained(Failure::of_build(error, &self.name, &text))
    }
}

/// A build and where it goes.
struct Job {
    wired: Wired,
    sinks: Vec<Arc<dyn Sink>>,
    /// Who carries out RUN.
    runs: Option<Runs>,
}

impl Job {
    async fn publish_all(&self) -> Result<Vec<Published>, Failure> {
        let Wired { request, name, images, fetcher, events, .. } = &self.wired;
        let supplies = Supplies { images, fetch: Some(fetcher), runs: self.runs.as_ref() };
        let prepared = prepare(Arc::clone(request), supplies).await;
        let prepared = prepared.map_err(|error| self.wired.failure(&error))?;
        warn_of(prepared.warnings(), request, name, &**events)?;
        let mut published = Vec::new();
        for sink in &self.sinks {
            let images = publish(&prepared, &**sink, events).await;
            published.push(images.map_err(|error| self.wired.failure(&error))?);
        }
        Ok(published)
    }
}

/// Shows what planning found; an error if the Dockerfile wants none.
pub(crate) fn warn_of(
    warnings: &[Warning],
    request: &Request,
    name: &str,
    events: &dyn Events,
) -> Result<(), Failure> {
    let found = warnings.iter().map(|found| (found.rule, &*found.message, found.span));
    warn(&request.dockerfile, name, events, &found.collect::<Vec<_>>())
}

/// Shows what was found, rules with messages and places; an error if the Dockerfile wants none.
fn warn(
    dockerfile: &Dockerfile,
    name: &str,
    events: &dyn Events,
    found: &[(&str, &str, Span)],
) -> Result<(), Failure> {
    for (rule, message, span) in found {
        let line = dockerfile.position(span.start).line;
        events.emit(Event::Warning(&diagnostic::warning(rule, message, name, line)));
    }
    if found.is_empty() || !ocib_dockerfile::warnings_are_errors(dockerfile) {
        return Ok(());
    }
    let rules: BTreeSet<&str> = found.iter().map(|(rule, ..)| *rule).collect();
    let rules: Vec<&str> = rules.into_iter().collect();
    Err(Failure::input(format!("lint violation found for rules: {}", rules.join(", ")))
        .help("the Dockerfile says check=error=true: mend what the warnings name, or skip their rules there"))
}

/// What is said of a build before anything is done: what lint finds, and what may not be meant.
fn remark(
    build: &args::Build,
    request: &Arc<Request>,
    name: &str,
    events: &dyn Events,
) -> Result<(), Failure> {
    let dockerfile = &*request.dockerfile;
    let target = build.target.as_deref().and_then(|name| dockerfile.stage(name));
    let linter = Linter { copied: Some(&copied(request)), target, ..Linter::default() };
    let warnings = linter.check(dockerfile);
    let found = warnings.iter().map(|found| (found.rule, &*found.message, found.span));
    warn(dockerfile, name, events, &found.collect::<Vec<_>>())?;
    if let Some(bad) = ocib_dockerfile::bad_check_option(dockerfile) {
        return Err(Failure::input(format!("failed to parse check options: {}", bad.message))
            .at(name, &dockerfile.text, bad.span)
            .help("mend the line # check=… at the beginning of the Dockerfile"));
    }
    if build.image.platforms.is_empty() {
        events.emit(Event::Note("building for linux/amd64; --platform chooses another"));
    }
    for name in request.unused_build_args() {
        let text = format!("--build-arg {name}: no ARG of the Dockerfile has this name");
        events.emit(Event::Warning(&text));
    }
    Ok(())
}

/// The time of everything. BuildKit knows it by this build arg only, so scripts give it so, and buildx hands the
/// environment's on: an ARG of that name sees it, however it was given.
fn epoch(build: &args::Build, build_args: &mut BTreeMap<String, String>) -> Result<i64, Failure> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let Epoch(seconds) = match build_args.remove(NAME) {
        None => build.image.source_date_epoch,
        Some(given) => {
            given.parse().map_err(|why| Failure::usage(format!("--build-arg {NAME}={given}: {why}")))?
        }
    };
    build_args.extend(seconds.map(|seconds| (NAME.to_owned(), seconds.to_string())));
    Ok(seconds.unwrap_or_default())
}

fn request(build: &args::Build, inputs: Inputs, places: &Places<'_>) -> Result<Request, Failure> {
    let Inputs { source, tree, ignored } = inputs;
    let dockerfile =
        source.parse().map_err(|error| Failure::of_build(&error.into(), &source.name, &source.text()))?;
    let mut build_args = dockerfile::build_args(&build.build_args)?;
    let epoch = epoch(build, &mut build_args)?;
    let mut request = Request::new(dockerfile);
    request.context = tree;
    request.ignored = ignored;
    for text in &build.build_contexts {
        let (name, value) = pair("--build-context", text)?;
        request.contexts.insert(name, named_context(&value, places)?);
    }
    if !build.image.platforms.is_empty() {
        request.platforms = build.image.distinct_platforms();
    }
    request.build_args = build_args;
    request.target.clone_from(&build.target);
    request.labels = pairs("--label", &build.image.labels)?;
    request.annotations = pairs("--annotation", &build.image.annotations)?;
    request.compression = build.compression;
    if build.run.is_given() {
        request.secrets = build.run.secrets.read()?;
    }
    request.epoch = epoch;
    request.verify_reuse = build.image.verify_reuse;
    request.cache = environment::cache_directory().filter(|_| !build.buildx.no_cache());
    request.timestamps = match build.timestamps {
        args::Timestamps::Epoch => Timestamps::Fixed(Timestamp::from_seconds(epoch)),
        args::Timestamps::Keep => Timestamps::Keep,
    };
    request.native_run = match build.native_run {
        args::NativeRun::Auto => NativeRun::Auto,
        args::NativeRun::Off => NativeRun::Off,
    };
    Ok(request)
}

fn named_context(value: &str, places: &Places<'_>) -> Result<NamedContext, Failure> {
    if value.starts_with("docker-image://") || value.starts_with("oci-layout://") {
        let name: ImageName =
            value.parse().map_err(|error| Failure::usage(format!("--build-context: {error}")))?;
        return Ok(NamedContext::Image(name));
    }
    if let Some(remote) = sources::remote(value)? {
        let tree = (places.fetch)(&remote)?;
        let ignored = tree::ignored(&*tree, None)?;
        return Ok(NamedContext::Tree(tree, ignored));
    }
    let path = Path::new(value);
    let ignored = dockerfile::ignore_file(&path.join(".dockerignore"))?;
    Ok(NamedContext::Tree(dockerfile::open_directory(path)?, ignored))
}

pub(crate) fn pairs(flag: &str, texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    texts.iter().map(|text| pair(flag, text)).collect()
}

fn pair(flag: &str, text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("{flag} {text:?}: expected NAME=VALUE"))),
    }
}
