//! `ocib build`: reads what the flags name, wires the rooms together, and waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use ocib_build::{NamedContext, Published, Request, Timestamps, Warning, prepare, publish};
use ocib_dockerfile::{Dockerfile, Span};
use ocib_image::{Event, Events, GitReference, ImageName, Sink, Timestamp};
use ocib_net::Backoff;
use ocib_source::{Fetcher, Git, Web};
use ocib_store::{Images, PushOptions};
use tokio::runtime::Runtime;

use crate::{
    args,
    diagnostic::{self, Failure},
    dockerfile::{self, Inputs, Places},
    environment, git,
    output::{Means, Output},
    progress,
    registries::{self, registries},
    report, tree, wiring,
};

/// Runs the command.
pub(crate) fn run(build: &args::Build) -> Result<(), Failure> {
    let outputs = Output::all(build)?;
    let events = progress::watch(build.shared.progress, build.shared.quiet);
    build.buildx.answer(&*events)?;
    let http = wiring::http(&build.shared)?;
    let git = git::git(http.clone(), scratch(build), Arc::clone(&events));
    let runtime = wiring::runtime()?;
    let Asked { request, name } = Asked::read(build, &runtime, &git, &*events)?;
    let sealer = wiring::sealer(&build.shared, build.compression)?;
    let registries = registries(&build.shared, http.clone(), Arc::clone(&events));
    let sink = |options: PushOptions| registries::sink(build, &http, &*events, options);
    let means = Means::of(build, registries.clone(), sealer, &sink)?;
    let prints = !outputs.iter().any(Output::is_stdout);
    let mut sinks = Vec::new();
    for output in outputs {
        sinks.extend(output.sinks(&build.tags, &means)?);
    }
    let job = Job {
        request,
        name,
        sinks,
        images: Images { registries },
        fetcher: Fetcher { web: Web::new(http.clone(), Backoff::default()), git: git.clone() },
        events,
    };
    let published = wiring::finish(runtime, async move { job.publish_all().await })?;
    if let Some(last) = published.last() {
        report::files(build, last)?;
    }
    if prints {
        report::references(&published);
    }
    Ok(())
}

/// Where what cannot be read twice is written to.
pub(crate) fn scratch(build: &args::Build) -> PathBuf {
    build.scratch_dir.clone().unwrap_or_else(std::env::temp_dir)
}

/// What the flags ask for.
pub(crate) struct Asked {
    pub(crate) request: Arc<Request>,
    /// What the Dockerfile is called in messages.
    pub(crate) name: String,
}

impl Asked {
    /// Reads the Dockerfile and opens the contexts, of which `git` fetches some.
    pub(crate) fn read(
        build: &args::Build,
        runtime: &Runtime,
        git: &Git,
        events: &dyn Events,
    ) -> Result<Self, Failure> {
        let scratch = scratch(build);
        let note = |text: &str| events.emit(Event::Note(text));
        let fetch = |reference: &GitReference| git::tree(runtime, git, reference);
        let keeps_git_dir = git::keeps_git_dir(&dockerfile::build_args(&build.build_args)?)?;
        let places = Places { scratch: &scratch, note: &note, fetch: &fetch, keeps_git_dir };
        let inputs = Inputs::read(&build.context, build.file.as_deref(), &places)?;
        let name = inputs.source.name.clone();
        let request = Arc::new(request(build, inputs, &places, events)?);
        Ok(Self { request, name })
    }
}

/// All that takes part in a build.
struct Job {
    request: Arc<Request>,
    /// What the Dockerfile is called in messages.
    name: String,
    sinks: Vec<Box<dyn Sink>>,
    images: Images,
    fetcher: Fetcher,
    events: Arc<dyn Events>,
}

impl Job {
    async fn publish_all(&self) -> Result<Vec<Published>, Failure> {
        let prepared = prepare(Arc::clone(&self.request), &self.images, Some(&self.fetcher)).await;
        let prepared = prepared.map_err(|error| self.failure(&error))?;
        warn_of_plan(prepared.warnings(), &self.request.dockerfile, &self.name, &*self.events)?;
        let mut published = Vec::new();
        for sink in &self.sinks {
            let images = publish(&prepared, &**sink, &self.events).await;
            published.push(images.map_err(|error| self.failure(&error))?);
        }
        Ok(published)
    }

    fn failure(&self, error: &ocib_build::Error) -> Failure {
        Failure::of_build(error, &self.name, &ocib_dockerfile::redacted(&self.request.dockerfile))
    }
}

/// Shows what planning found; an error if the Dockerfile wants no warnings.
pub(crate) fn warn_of_plan(
    warnings: &[Warning],
    dockerfile: &Dockerfile,
    name: &str,
    events: &dyn Events,
) -> Result<(), Failure> {
    let found = warnings.iter().map(|found| (found.rule, &*found.message, found.span));
    warn(dockerfile, name, events, &found.collect::<Vec<_>>())
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

fn request(
    build: &args::Build,
    inputs: Inputs,
    places: &Places<'_>,
    events: &dyn Events,
) -> Result<Request, Failure> {
    let Inputs { source, tree, ignored } = inputs;
    let dockerfile =
        source.parse().map_err(|error| Failure::of_build(&error.into(), &source.name, &source.text()))?;
    let warnings = ocib_dockerfile::lint(&dockerfile);
    let found = warnings.iter().map(|found| (found.rule, &*found.message, found.span));
    warn(&dockerfile, &source.name, events, &found.collect::<Vec<_>>())?;
    if build.platforms.is_empty() {
        events.emit(Event::Note("building for linux/amd64; --platform chooses another"));
    }
    let epoch = build.source_date_epoch;
    let mut request = Request::new(dockerfile);
    request.context = tree;
    request.ignored = ignored;
    for text in &build.build_contexts {
        let (name, value) = pair("--build-context", text)?;
        request.contexts.insert(name, named_context(&value, places)?);
    }
    if !build.platforms.is_empty() {
        request.platforms = build.distinct_platforms();
    }
    request.build_args = dockerfile::build_args(&build.build_args)?;
    request.target.clone_from(&build.target);
    request.labels = pairs("--label", &build.labels)?;
    request.annotations = pairs("--annotation", &build.annotations)?;
    request.compression = build.compression;
    request.epoch = epoch;
    request.verify_reuse = build.verify_reuse;
    request.cache = environment::cache_directory().filter(|_| !build.buildx.no_cache());
    request.timestamps = match build.timestamps {
        args::Timestamps::Epoch => Timestamps::Fixed(Timestamp::from_seconds(epoch)),
        args::Timestamps::Keep => Timestamps::Keep,
    };
    for name in request.unused_build_args() {
        let text = format!("--build-arg {name}: no ARG of the Dockerfile has this name");
        events.emit(Event::Warning(&text));
    }
    Ok(request)
}

fn named_context(value: &str, places: &Places<'_>) -> Result<NamedContext, Failure> {
    if value.starts_with("docker-image://") || value.starts_with("oci-layout://") {
        let name: ImageName =
            value.parse().map_err(|error| Failure::usage(format!("--build-context: {error}")))?;
        return Ok(NamedContext::Image(name));
    }
    if let Some(reference) = git::reference(value)? {
        let tree = (places.fetch)(&reference)?;
        let ignored = tree::ignored(&*tree, None)?;
        return Ok(NamedContext::Tree(tree, ignored));
    }
    let path = Path::new(value);
    let ignored = dockerfile::ignore_file(&path.join(".dockerignore"))?;
    Ok(NamedContext::Tree(dockerfile::open_directory(path)?, ignored))
}

fn pairs(flag: &str, texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    texts.iter().map(|text| pair(flag, text)).collect()
}

fn pair(flag: &str, text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("{flag} {text:?}: expected NAME=VALUE"))),
    }
}
