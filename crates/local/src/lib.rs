//! RUN on this host: a delegated part of a build is handed to a binary such as buildah.
//!
//! ```text
//!  RunJob ── Dockerfile in a temporary directory ──▶ PROGRAM build ──▶ PROGRAM push ──▶ digest
//!               └── and, for buildah and podman, a storage of their own that goes away with it
//! ```
//!
//! The job says all that is built and names its bases by digest, so nothing of this host gets into the
//! result but what the program itself puts there. Unlike the rest of ocib it needs room: the program
//! unpacks the bases below [`LocalOptions::scratch`].
//!
//! Start with [`Local::new`]; `command.rs` has what each program is called with, `outcome.rs` reads how it
//! ended.

#![allow(clippy::result_large_err, reason = "an error ends the build, so its size costs nothing")]

mod cause;
mod command;
mod outcome;
mod process;
mod veil;

use std::{ffi::OsString, path::PathBuf};

use futures_core::future::BoxFuture;
use ocib_image::{
    Descriptor, Digest, MediaType, Progress, RunBackend, RunDialect, RunError, RunFeatures, RunJob,
};

use cause::{NO_MANIFEST, NO_PROGRAM, NOT_STARTED};
use command::Workspace;
use outcome::Ended;
use veil::Veil;

pub use cause::Cause;

/// The types of `RUN --mount` that the programs know.
const MOUNTS: [&str; 5] = ["bind", "cache", "secret", "ssh", "tmpfs"];

/// How often a program may fail before a command by what passes by itself.
const ATTEMPTS: u32 = 5;

/// A program that builds images.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tool {
    /// Needs no daemon; runs as root or in a user namespace of its own.
    Buildah,
    /// The same code under another name.
    Podman,
    /// Asks a daemon, with what that is configured with.
    Docker,
}

impl Tool {
    /// What `--run` calls it, and the program's own name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buildah => "buildah",
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }
}

/// How a program is used.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Which one.
    pub tool: Tool,
    /// Where it is: a path, or a name that is looked for in PATH.
    pub program: OsString,
    /// Where it unpacks bases and keeps layers until they are pushed.
    pub scratch: PathBuf,
    /// How buildah and podman keep layers: `vfs` works everywhere, `overlay` is faster where it is to be had.
    pub storage_driver: String,
    /// What holds buildah's and podman's RUNs: `chroot`, `oci` or `rootless`.
    pub isolation: String,
    /// A file of credentials, in the form of Docker's `config.json`; the program's own if `None`.
    pub auth_file: Option<PathBuf>,
    /// Registries, `HOST` or `HOST:PORT`, that may be spoken to without TLS. Loopback ones need no mention.
    pub insecure_registries: Vec<String>,
}

impl LocalOptions {
    /// The tool by its own name, in the system's directory for temporary files, with what works everywhere.
    pub fn new(tool: Tool) -> Self {
        Self {
            tool,
            program: tool.name().into(),
            scratch: std::env::temp_dir(),
            storage_driver: "vfs".to_owned(),
            isolation: "chroot".to_owned(),
            auth_file: None,
            insecure_registries: Vec::new(),
        }
    }
}

/// A backend that calls a program of this host.
///
/// ```
/// use ocib_image::RunBackend;
/// use ocib_local::{Local, LocalOptions, Tool};
///
/// let mut options = LocalOptions::new(Tool::Buildah);
/// options.storage_driver = "overlay".to_owned();
/// assert_eq!(Local::new(options).name(), "buildah");
/// ```
#[derive(Debug)]
pub struct Local {
    options: LocalOptions,
}

impl Local {
    /// A backend that calls the program for each job; it is not looked for before the first one.
    pub fn new(options: LocalOptions) -> Self {
        Self { options }
    }

    async fn build(&self, job: &RunJob, progress: &Progress) -> Result<Descriptor, RunError> {
        let workspace = Workspace::new(&self.options, job)?;
        let veil = Veil::over(&job.secrets);
        let mut attempt = 1;
        let built = loop {
            let built = process::run(workspace.build(), progress, &veil).await;
            let built = built.map_err(|error| self.not_started(error))?;
            if attempt == ATTEMPTS || !built.is_passing() {
                break built;
            }
            // What it carried out before is still in its storage, and is not carried out again.
            progress.log(&format!("{} could not begin the command, and is called again", self.name()));
            attempt += 1;
        };
        outcome::of_build(job, built)?;
        let pushed = process::run(workspace.push(), progress, &veil).await;
        if let Some(removal) = workspace.removal() {
            // What is left here is told, but changes nothing.
            let silent = Progress::unwatched();
            let removed = process::run(removal, &silent, &veil).await.is_ok_and(|ended| ended.is_done());
            if !removed {
                progress.log(&format!("{} could not remove {}", self.options.tool.name(), job.destination));
            }
        }
        let pushed = pushed.map_err(|error| self.not_started(error))?;
        let digest = self.digest(&workspace, outcome::of_push(job, pushed)?)?;
        Ok(Descriptor::new(MediaType::Manifest, digest, 0))
    }

    fn digest(&self, workspace: &Workspace<'_>, ended: Ended) -> Result<Digest, RunError> {
        let said = match workspace.digest_file() {
            Some(file) => std::fs::read_to_string(file).unwrap_or_default(),
            None => outcome::pushed_digest(&ended.log).unwrap_or_default(),
        };
        said.trim().parse().map_err(|error| {
            let name = self.options.tool.name();
            NO_MANIFEST
                .error(format!("{name} did not say which manifest it pushed: {error}"))
                .with_log(ended.log)
        })
    }

    fn not_started(&self, error: std::io::Error) -> RunError {
        let program = self.options.program.to_string_lossy();
        let known = match error.kind() {
            std::io::ErrorKind::NotFound => NO_PROGRAM.error(format!("there is no program {program} here")),
            _ => NOT_STARTED.error(format!("{program} cannot be started")),
        };
        known.because(error)
    }
}

impl RunBackend for Local {
    fn name(&self) -> &'static str {
        self.options.tool.name()
    }

    fn features(&self) -> RunFeatures {
        match self.options.tool {
            Tool::Buildah | Tool::Podman => {
                RunFeatures::new(&MOUNTS, false, false).in_words_of(RunDialect::Buildah)
            }
            Tool::Docker => RunFeatures::new(&MOUNTS, true, false),
        }
    }

    fn run<'a>(
        &'a self,
        job: &'a RunJob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Descriptor, RunError>> {
        Box::pin(self.build(job, progress))
    }
}
