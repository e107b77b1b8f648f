//! `--run`: what carries out RUN instructions.
//!
//! [`backend`] is the one place where backends are chosen: a backend is a value of [`Run`], an arm there,
//! and a module beside `local.rs` that reads its own flags.

#[cfg(feature = "local")]
mod local;

use std::sync::Arc;

use clap::{Args, ValueEnum};
use ocib_image::{Reference, RunBackend};

use crate::{args, diagnostic::Failure, registries::Clients};

#[derive(Args, Debug)]
pub(crate) struct RunFlags {
    /// What carries out RUN instructions.
    #[arg(long, value_enum, default_value_t = Run::None)]
    pub(crate) run: Run,

    /// Where what RUN needs and makes is kept, by digest and as tags run-…; who can write there decides
    /// what RUN made [default: the repository of the first tag].
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) run_repository: Option<Reference>,

    #[cfg(feature = "local")]
    #[command(flatten)]
    local: local::LocalFlags,
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
}

/// The backend that the flags choose, if they choose one; nothing is asked or started yet.
pub(crate) fn backend(
    build: &args::Build,
    clients: &Clients,
) -> Result<Option<Arc<dyn RunBackend>>, Failure> {
    // Backends that push for ocib itself ask it for credentials.
    let _ = clients;
    Ok(match build.run.run {
        Run::None => None,
        #[cfg(feature = "local")]
        Run::Buildah => Some(build.run.local.backend(ocib_local::Tool::Buildah, build)),
        #[cfg(feature = "local")]
        Run::Podman => Some(build.run.local.backend(ocib_local::Tool::Podman, build)),
        #[cfg(feature = "local")]
        Run::Docker => Some(build.run.local.backend(ocib_local::Tool::Docker, build)),
    })
}
