//! `--run`: what carries out RUN instructions.
//!
//! [`backend`] is the one place where backends are chosen: a backend is a value of [`Run`], an arm there,
//! and a module beside `local.rs` that reads its own flags.

#[cfg(feature = "kaniko")]
mod context;
#[cfg(feature = "kaniko")]
mod kaniko;
#[cfg(feature = "local")]
mod local;
mod secrets;

use std::sync::Arc;

use clap::{Args, ValueEnum};
use ocib_build::Runs;
use ocib_image::{Reference, RunBackend};

#[cfg(feature = "kaniko")]
pub(crate) use kaniko::ClusterFlags;

use crate::{args, build::Wired, diagnostic::Failure, output::Means, registries::Clients};

#[derive(Args, Debug)]
pub(crate) struct RunFlags {
    /// What carries out RUN instructions.
    #[arg(long, value_enum, default_value_t = Run::None)]
    pub(crate) run: Run,

    /// Where what RUN needs and makes is kept, by digest and as tags run-…; who can write there decides
    /// what RUN made [default: the repository of the first tag].
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) run_repository: Option<Reference>,

    #[command(flatten)]
    pub(crate) secrets: secrets::SecretFlags,

    #[cfg(feature = "local")]
    #[command(flatten)]
    local: local::LocalFlags,

    #[cfg(feature = "kaniko")]
    #[command(flatten)]
    pub(crate) kaniko: kaniko::KanikoFlags,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Run {
    /// Nothing: a RUN is an error.
    None,
    /// Buildah on this host.
    #[cfg(feature = "local")]
    Buildah,
    /// Podman on this host.
    #[cfg(feature = "local")]
    Podman,
    /// Docker on this host.
    #[cfg(feature = "local")]
    Docker,
    /// Kaniko in pods of a Kubernetes cluster.
    #[cfg(feature = "kaniko")]
    Kaniko,
}

impl RunFlags {
    /// Whether there is who carries out RUN.
    pub(crate) fn is_given(&self) -> bool {
        self.run != Run::None
    }

    /// Whether files go to a bucket on the way, in parts that are in memory meanwhile.
    pub(crate) fn is_by_bucket(&self) -> bool {
        #[cfg(feature = "kaniko")]
        return self.run == Run::Kaniko && matches!(self.kaniko.run_context, context::RunContext::Bucket(_));
        #[cfg(not(feature = "kaniko"))]
        false
    }

    /// How files that RUN needs get to who carries it out.
    pub(crate) fn files_by(&self) -> String {
        #[cfg(feature = "kaniko")]
        return self.kaniko.run_context.to_string();
        #[cfg(not(feature = "kaniko"))]
        String::new()
    }

    /// The value of `--run`.
    pub(crate) fn name(&self) -> String {
        self.run.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Who carries out RUN, and where what it needs and makes is kept.
pub(crate) fn runs(build: &args::Build, wired: &Wired) -> Result<Option<Runs>, Failure> {
    let Some(backend) = backend(build, &wired.clients)? else { return Ok(None) };
    let Some(repository) = build.run.run_repository.as_ref().or(build.image.tags.first()) else {
        return Err(Failure::usage(format!("--run {} needs a repository", backend.name()))
            .help("name one with --run-repository HOST/REPOSITORY, or give the image a --tag"));
    };
    let means = Means::of(&build.image, wired.clients.clone(), wired.sealer(build)?)?;
    Ok(Some(Runs {
        backend,
        sink: Arc::from(means.nameless_sink(repository)?),
        repository: repository.clone(),
        reuses: !build.buildx.no_cache(),
        events: Arc::clone(&wired.events),
    }))
}

/// The backend that the flags choose, if they choose one; nothing is asked or started yet.
pub(crate) fn backend(
    build: &args::Build,
    clients: &Clients,
) -> Result<Option<Arc<dyn RunBackend>>, Failure> {
    #[cfg(not(feature = "kaniko"))]
    let _ = clients;
    Ok(match build.run.run {
        Run::None => None,
        #[cfg(feature = "local")]
        Run::Buildah => Some(build.run.local.backend(ocib_local::Tool::Buildah, build)),
        #[cfg(feature = "local")]
        Run::Podman => Some(build.run.local.backend(ocib_local::Tool::Podman, build)),
        #[cfg(feature = "local")]
        Run::Docker => Some(build.run.local.backend(ocib_local::Tool::Docker, build)),
        #[cfg(feature = "kaniko")]
        Run::Kaniko => Some(build.run.kaniko.backend(build, clients)?),
    })
}
