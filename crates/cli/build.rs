//! `ocib build`: reads what the flags name, wires the rooms together, and waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ocib_build::{NamedContext, Published, Request, Timestamps, Warning, prepare, publish};
use ocib_image::{Budget, Codec, Compression, Event, Events, ImageName, Limits, Sealer, Sink, Timestamp};
use ocib_net::{Backoff, Http, HttpOptions};
use ocib_source::Web;
use ocib_store::{DockerAuth, Images, Registries, RegistriesOptions};
use tokio::runtime::Runtime;

use crate::{
    args,
    diagnostic::{self, Exit, Failure},
    dockerfile::{self, Inputs},
    environment,
    output::Output,
    progress, report,
};

/// How long threads that read files may take to notice that the build was given up.
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(2);

/// Runs the command.
pub(crate) fn run(build: &args::Build) -> Result<(), Failure> {
    let outputs = Output::all(build)?;
    let events = progress::watch(build.progress, build.quiet);
    build.buildx.answer(&*events)?;
    let scratch = build.scratch_dir.clone().unwrap_or_else(std::env::temp_dir);
    let note = |text: &str| events.emit(Event::Note(text));
    let inputs = Inputs::read(&build.context, build.file.as_deref(), &scratch, &note)?;
    let name = inputs.source.name.clone();
    let request = Arc::new(request(build, inputs, &*events)?);
    let sealer = sealer(build)?;
    let http = http(build)?;
    let registries = registries(http.clone());
    let prints = !outputs.iter().any(Output::is_stdout);
    let mut sinks = Vec::new();
    for output in outputs {
        sinks.extend(output.sinks(&build.tags, &registries, &sealer)?);
    }
    let runtime = runtime()?;
    let job = Job {
        request,
        name,
        sinks,
        images: Images { registries },
        web: Web::new(http, Backoff::default()),
        events,
    };
    let published = runtime.block_on(async {
        tokio::select! {
            result = job.publish_all() => {
                let text = || ocib_dockerfile::redacted(&job.request.dockerfile);
                result.map_err(|error| Failure::of_build(&error, &job.name, &text()))
            }
            signal = interrupted() => Err(Failure::new(Exit::Interrupted, format!("interrupted by {signal}"))
                .help("no tag was moved; the same command can be run again")),
        }
    });
    // Files under temporary names go away with their sinks, bars with whoever draws them.
    drop(job);
    runtime.shutdown_timeout(SHUTDOWN);
    let published = published?;
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
        warn(prepared.warnings(), &self.request, &self.name, &*self.events);
        let mut published = Vec::new();
        for sink in &self.sinks {
            published.push(publish(&prepared, &**sink, &self.events).await?);
        }
        Ok(published)
    }
}

/// Says what planning found worth a look; `name` is what the Dockerfile is called.
pub(crate) fn warn(warnings: &[Warning], request: &Request, name: &str, events: &dyn Events) {
    for found in warnings {
        let line = request.dockerfile.position(found.span.start).line;
        let text = diagnostic::warning(found.rule, &found.message, name, line);
        events.emit(Event::Warning(&text));
    }
}

/// What everything that waits runs on.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(environment::cores().min(4))
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))
}

/// Waits for the signals that end a build in order: Ctrl-C, and what Kubernetes sends.
pub(crate) async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

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

pub(crate) fn sealer(build: &args::Build) -> Result<Sealer, Failure> {
    // `auto` may choose gzip for any layer.
    let codec = match build.compression {
        Compression::Auto => Codec::GZIP,
        Compression::Fixed(codec) => codec,
    };
    let limits = Limits {
        memory_bytes: build.memory.map_or_else(environment::default_memory_bytes, |memory| memory.as_u64()),
        jobs: build.jobs.map_or(0, Into::into),
        cores: environment::cores(),
    };
    let budget = Budget::new(limits, codec).map_err(|error| {
        Failure::usage(error.to_string()).help("give more with --memory, or a cheaper --compression")
    })?;
    Ok(Sealer::new(budget))
}

pub(crate) fn http(build: &args::Build) -> Result<HttpOptions, Failure> {
    let mut extra_certificates = Vec::new();
    for path in &build.ca_files {
        extra_certificates.push(dockerfile::read(path, "certificates")?);
    }
    let insecure_hosts = build.insecure_registries.iter().cloned().collect();
    Ok(HttpOptions { extra_certificates, insecure_hosts, ..HttpOptions::default() })
}

pub(crate) fn registries(http: HttpOptions) -> Registries {
    let variable = |name: &str| std::env::var(name).ok();
    Registries::new(RegistriesOptions {
        credentials: Arc::new(DockerAuth::from_environment(&variable)),
        http: Arc::new(Http::new(http)),
        ..RegistriesOptions::default()
    })
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
