//! `ocib build`: reads what the flags name, wires the rooms together, and waits.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ocib_build::{NamedContext, Published, Request, Timestamps, prepare, publish};
use ocib_dockerfile::{Dockerfile, Patterns};
use ocib_image::{Budget, Codec, Compression, Events, ImageName, Limits, Sealer, Sink, Timestamp, Tree};
use ocib_net::{Backoff, Http, HttpOptions};
use ocib_source::{Directory, Web};
use ocib_store::{DockerAuth, Images, Registries, RegistriesOptions};

use crate::{
    args,
    diagnostic::{self, Exit, Failure},
    environment,
    output::Output,
    progress, report,
};

/// An image's ignore file lists names, not data; a larger one is a mistake.
const TEXT_MAX: u64 = 16 << 20;
/// How long threads that read files may take to notice that the build was given up.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Runs the command.
pub(crate) fn run(build: &args::Build) -> Result<(), Failure> {
    let outputs = Output::all(build)?;
    let events = progress::watch(build.progress, build.quiet);
    build.buildx.answer(&*events)?;
    let context = open_directory(Path::new(&build.context))?;
    let (name, dockerfile) = read_dockerfile(build)?;
    let request = Arc::new(request(build, context, &name, dockerfile, &*events)?);
    let sealer = sealer(build)?;
    let http = http(build)?;
    let registries = registries(http.clone());
    let prints = !outputs.iter().any(Output::is_stdout);
    let mut sinks = Vec::new();
    for output in outputs {
        sinks.extend(output.sinks(&build.tags, &registries, &sealer)?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(environment::cores().min(4))
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
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
                result.map_err(|error| Failure::of_build(&error, &job.name, &job.request.dockerfile.text))
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
        for found in prepared.warnings() {
            let line = self.request.dockerfile.position(found.span.start).line;
            let text = diagnostic::warning(found.rule, &found.message, &self.name, line);
            self.events.emit(ocib_image::Event::Warning(&text));
        }
        let mut published = Vec::new();
        for sink in &self.sinks {
            published.push(publish(&prepared, &**sink, &self.events).await?);
        }
        Ok(published)
    }
}

/// Waits for the signals that end a build in order: Ctrl-C, and what Kubernetes sends.
async fn interrupted() -> &'static str {
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

fn request(
    build: &args::Build,
    context: Arc<dyn Tree>,
    name: &str,
    dockerfile: Dockerfile,
    events: &dyn Events,
) -> Result<Request, Failure> {
    let mut warnings = dockerfile.warnings.clone();
    warnings.extend(ocib_dockerfile::lint(&dockerfile));
    for found in warnings {
        let line = dockerfile.position(found.span.start).line;
        let text = diagnostic::warning(found.rule, &found.message, name, line);
        events.emit(ocib_image::Event::Warning(&text));
    }
    if build.platforms.is_empty() {
        events.emit(ocib_image::Event::Note("building for linux/amd64; --platform chooses another"));
    }
    let epoch = build.source_date_epoch;
    let mut request = Request::new(dockerfile);
    request.context = Some(context);
    request.ignored = ignore_file(build)?;
    for text in &build.build_contexts {
        let (name, value) = pair("--build-context", text)?;
        request.contexts.insert(name, named_context(&value)?);
    }
    if !build.platforms.is_empty() {
        request.platforms = build.distinct_platforms();
    }
    request.build_args = build_args(&build.build_args)?;
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
        events.emit(ocib_image::Event::Warning(&text));
    }
    Ok(request)
}

fn sealer(build: &args::Build) -> Result<Sealer, Failure> {
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

fn http(build: &args::Build) -> Result<HttpOptions, Failure> {
    let mut extra_certificates = Vec::new();
    for path in &build.ca_files {
        extra_certificates.push(read(path, "certificates")?);
    }
    let insecure_hosts = build.insecure_registries.iter().cloned().collect();
    Ok(HttpOptions { extra_certificates, insecure_hosts, ..HttpOptions::default() })
}

fn registries(http: HttpOptions) -> Registries {
    let variable = |name: &str| std::env::var(name).ok();
    Registries::new(RegistriesOptions {
        credentials: Arc::new(DockerAuth::from_environment(&variable)),
        http: Arc::new(Http::new(http)),
        ..RegistriesOptions::default()
    })
}

/// The Dockerfile and what it is called in messages.
fn read_dockerfile(build: &args::Build) -> Result<(String, Dockerfile), Failure> {
    let path = dockerfile_path(build);
    let bytes = match path.as_os_str() == "-" {
        true => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().take(TEXT_MAX).read_to_end(&mut bytes);
            read.map_err(|error| Failure::input(format!("cannot read the Dockerfile from stdin: {error}")))?;
            bytes
        }
        false => read(&path, "the Dockerfile")?,
    };
    let name = if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() };
    let dockerfile = ocib_dockerfile::parse(&bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Failure::of_build(&error.into(), &name, &text)
    })?;
    Ok((name, dockerfile))
}

fn dockerfile_path(build: &args::Build) -> PathBuf {
    let context = Path::new(&build.context);
    let lower_case = context.join("dockerfile");
    match &build.file {
        Some(path) => path.clone(),
        None if !context.join("Dockerfile").exists() && lower_case.exists() => lower_case,
        None => context.join("Dockerfile"),
    }
}

/// The ignore file of this very Dockerfile, else that of the context.
fn ignore_file(build: &args::Build) -> Result<Patterns, Failure> {
    let mut own = dockerfile_path(build).into_os_string();
    own.push(".dockerignore");
    let own = PathBuf::from(own);
    let path = if own.is_file() { own } else { Path::new(&build.context).join(".dockerignore") };
    patterns(&path)
}

fn patterns(path: &Path) -> Result<Patterns, Failure> {
    if !path.is_file() {
        return Ok(Patterns::default());
    }
    let bytes = read(path, "the ignore file")?;
    Patterns::parse_ignore_file(&bytes)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display())))
}

fn open_directory(path: &Path) -> Result<Arc<dyn Tree>, Failure> {
    let text = path.to_string_lossy();
    if text == "-" || text.contains("://") || text.starts_with("git@") {
        let message = format!("{text}: this version builds from directories only");
        return Err(Failure::input(message).help("unpack or clone it, then give the directory"));
    }
    match Directory::open(path) {
        Ok(directory) => Ok(Arc::new(directory)),
        Err(error) => {
            Err(Failure::input(error.to_string()).help("the build context is an existing directory"))
        }
    }
}

fn named_context(value: &str) -> Result<NamedContext, Failure> {
    if value.starts_with("docker-image://") || value.starts_with("oci-layout://") {
        let name: ImageName =
            value.parse().map_err(|error| Failure::usage(format!("--build-context: {error}")))?;
        return Ok(NamedContext::Image(name));
    }
    let path = Path::new(value);
    Ok(NamedContext::Tree(open_directory(path)?, patterns(&path.join(".dockerignore"))?))
}

fn build_args(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some(("", _)) => return Err(Failure::usage("--build-arg has no name, expected NAME=VALUE")),
            Some((name, value)) => drop(all.insert(name.to_owned(), value.to_owned())),
            // As buildx: a name alone takes the environment's value, or counts as not given.
            None => {
                if let Ok(value) = std::env::var(text) {
                    all.insert(text.clone(), value);
                }
            }
        }
    }
    Ok(all)
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

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let open = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(TEXT_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    open().map_err(|error: std::io::Error| {
        Failure::input(format!("cannot read {what} {}: {error}", path.display()))
    })
}
