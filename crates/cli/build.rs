//! `ocib build`: reads what the flags name, wires the rooms together, and waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use ocib_build::{NamedContext, Published, Request, Timestamps, prepare, publish};
use ocib_image::{Event, Events, ImageName, Sink, Timestamp};
use ocib_net::Backoff;
use ocib_source::Web;
use ocib_store::Images;

use crate::{
    args,
    diagnostic::{self, Failure},
    dockerfile::{self, Inputs},
    environment,
    output::{Means, Output},
    progress,
    registries::Clients,
    report, wiring,
};

/// Runs the command.
pub(crate) fn run(build: &args::Build) -> Result<(), Failure> {
    let outputs = Output::all(build)?;
    let events = progress::watch(build.shared.progress, build.shared.quiet);
    build.buildx.answer(&*events)?;
    let scratch = build.scratch_dir.clone().unwrap_or_else(std::env::temp_dir);
    let note = |text: &str| events.emit(Event::Note(text));
    let inputs = Inputs::read(&build.context, build.file.as_deref(), &scratch, &note)?;
    let name = inputs.source.name.clone();
    let request = Arc::new(request(build, inputs, &*events)?);
    let sealer = wiring::sealer(&build.shared, build.compression)?;
    let http = wiring::http(&build.shared)?;
    let clients = Clients::new(&build.shared, &http, Backoff::default(), Arc::clone(&events));
    #[cfg(feature = "ecr")]
    if build.ecr.print_iam_policy {
        return build.ecr.print_policy(&request, &name, &build.tags, &clients.ecr);
    }
    let means = Means::of(build, clients.clone(), sealer)?;
    let prints = !outputs.iter().any(Output::is_stdout);
    let mut sinks = Vec::new();
    for output in outputs {
        sinks.extend(output.sinks(&build.tags, &means)?);
    }
    let job = Job {
        request,
        name,
        sinks,
        images: Images { registries: clients.registries.clone() },
        web: Web::new(http, Backoff::default()),
        events,
    };
    let published = wiring::run(async move {
        let text = || ocib_dockerfile::redacted(&job.request.dockerfile);
        let result = job.publish_all().await;
        result.map_err(|error| clients.explained(Failure::of_build(&error, &job.name, &text())))
    })?;
    if let Some(last) = published.last() {
        report::files(build, last)?;
    }
    if prints {
        report::references(&published);
    }
    Ok(())
}

/// All that takes part in a build.
struct Job {
    request: Arc<Request>,
    /// What the Dockerfile is called in messages.
    name: String,
    sinks: Vec<Box<dyn Sink>>,
    images: Images,
    web: Web,
    events: Arc<dyn Events>,
}

impl Job {
    async fn publish_all(&self) -> Result<Vec<Published>, ocib_build::Error> {
        let prepared = prepare(Arc::clone(&self.request), &self.images, Some(&self.web)).await?;
        for found in prepared.warnings() {
            let line = self.request.dockerfile.position(found.span.start).line;
            let text = diagnostic::warning(found.rule, &found.message, &self.name, line);
            self.events.emit(Event::Warning(&text));
        }
        let mut published = Vec::new();
        for sink in &self.sinks {
            published.push(publish(&prepared, &**sink, &self.events).await?);
        }
        Ok(published)
    }
}

/// What is to be built; `events` is told what the user should look at.
pub(crate) fn request(build: &args::Build, inputs: Inputs, events: &dyn Events) -> Result<Request, Failure> {
    let Inputs { source, tree, ignored } = inputs;
    let dockerfile =
        source.parse().map_err(|error| Failure::of_build(&error.into(), &source.name, &source.text()))?;
    let warnings = ocib_dockerfile::lint(&dockerfile);
    for found in &warnings {
        let line = dockerfile.position(found.span.start).line;
        let text = diagnostic::warning(found.rule, &found.message, &source.name, line);
        events.emit(Event::Warning(&text));
    }
    if ocib_dockerfile::warnings_are_errors(&dockerfile) && !warnings.is_empty() {
        let rules: BTreeSet<&str> = warnings.iter().map(|found| found.rule).collect();
        let rules: Vec<&str> = rules.into_iter().collect();
        return Err(Failure::input(format!("lint violation found for rules: {}", rules.join(", "))).help(
            "the Dockerfile says check=error=true: mend what the warnings name, or skip their rules there",
        ));
    }
    if build.platforms.is_empty() {
        events.emit(Event::Note("building for linux/amd64; --platform chooses another"));
    }
    let epoch = build.source_date_epoch;
    let mut request = Request::new(dockerfile);
    request.context = tree;
    request.ignored = ignored;
    for text in &build.build_contexts {
        let (name, value) = pair("--build-context", text)?;
        request.contexts.insert(name, named_context(&value)?);
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

fn named_context(value: &str) -> Result<NamedContext, Failure> {
    if value.starts_with("docker-image://") || value.starts_with("oci-layout://") {
        let name: ImageName =
            value.parse().map_err(|error| Failure::usage(format!("--build-context: {error}")))?;
        return Ok(NamedContext::Image(name));
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
