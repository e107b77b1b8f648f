//! Running: what only a container can do is handed to a backend as a small build of its own.

use std::{collections::BTreeMap, error::Error as StdError, fmt, path::PathBuf, sync::Arc};

use futures_core::future::BoxFuture;

use crate::{Descriptor, Digest, LayerSource, Platform, Progress, Reference, Secret};

/// A self-contained build: nothing but what is in here and in the registry is needed for it.
#[derive(Clone, Debug)]
pub struct RunJob {
    /// Equal for jobs that ask for the same: base digests, instructions, arguments, copied files, platform.
    pub key: Digest,
    /// What it is, for people: the stage and its lines, such as `build, lines 3 to 5`.
    pub title: String,
    /// A Dockerfile of one stage (and of those that it copies from) whose bases are pinned by digest and
    /// whose variables are resolved. Its RUNs have no heredocs.
    pub dockerfile: String,
    /// Which line of the user's Dockerfile each line of `dockerfile` comes from, counted from 1; 0 for
    /// one that has no origin.
    pub lines: Vec<usize>,
    /// The platform to build for.
    pub platform: Platform,
    /// Where the result shall be pushed to: a repository with a tag, which is made of the key.
    pub destination: Reference,
    /// The files that `dockerfile` takes from its context, as an uncompressed tar; `None` if it takes none,
    /// as for backends that want files [by the registry](RunFiles::Registry).
    pub context: Option<Arc<dyn LayerSource>>,
    /// What RUNs find in their environment besides, and what gets into no image: proxies, under each spelling of
    /// their names; they may hold passwords. No part of the key.
    pub proxies: BTreeMap<String, Secret>,
    /// Whether nothing that the backend itself remembers of earlier builds may stand for it.
    pub is_fresh: bool,
    /// What its RUNs mount of what the user lends them. Nothing of it may get into a layer, a log or an error.
    pub secrets: Vec<RunSecret>,
    /// About how many bytes the build will hold on its disk: bases unpacked, files copied. What its RUNs
    /// make comes on top.
    pub disk_bytes: u64,
}

/// What a RUN may see while it runs, by the name that its `--mount` asks for. This says where it is and never
/// holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunSecret {
    /// What the Dockerfile calls it.
    pub id: String,
    /// Where it is.
    pub source: RunSecretSource,
}

/// Where a [`RunSecret`] is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RunSecretSource {
    /// A file's content.
    File(PathBuf),
    /// The value of a variable of this process's environment.
    Variable(String),
    /// A socket of an ssh agent, or keys for one, as files.
    Agent(Vec<PathBuf>),
}

impl RunSecret {
    /// Whether it is for `--mount=type=ssh`; else it is for `type=secret`.
    pub const fn is_agent(&self) -> bool {
        matches!(self.source, RunSecretSource::Agent(_))
    }
}

/// How the files that a job copies reach the backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RunFiles {
    /// As layers of small images, which the job names by digest.
    #[default]
    Registry,
    /// As [`RunJob::context`].
    Context,
}

/// What a backend can do besides plain RUNs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RunFeatures {
    /// The types of `RUN --mount` that mean what they mean to BuildKit.
    pub mounts: &'static [&'static str],
    /// Whether `RUN --network` does.
    pub network: bool,
    /// Whether `RUN --security` does.
    pub security: bool,
    /// In which words `RUN --mount` says it.
    pub dialect: RunDialect,
}

/// How options of `RUN --mount` are written, where builders differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum RunDialect {
    /// BuildKit's.
    #[default]
    BuildKit,
    /// Buildah's: `tmpfs-size`; caches are one job's, so they are not shared; no secrets as variables.
    Buildah,
}

impl RunFeatures {
    /// Features with the given types of mounts, and whether `--network` and `--security` are understood.
    pub const fn new(mounts: &'static [&'static str], network: bool, security: bool) -> Self {
        Self { mounts, network, security, dialect: RunDialect::BuildKit }
    }

    /// The same in these words.
    pub const fn in_words_of(self, dialect: RunDialect) -> Self {
        Self { dialect, ..self }
    }
}

/// Carries out builds that need a container.
pub trait RunBackend: Send + Sync + fmt::Debug {
    /// What `--run` calls it.
    fn name(&self) -> &'static str;

    /// What it can do besides plain RUNs.
    fn features(&self) -> RunFeatures {
        RunFeatures::default()
    }

    /// How it wants the files that are copied between RUNs.
    fn files(&self) -> RunFiles {
        RunFiles::default()
    }

    /// Waits until everything is removed that futures of [`run`](Self::run) made before they were dropped. To
    /// be awaited before the runtime ends.
    fn tidied(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Builds `job`, pushes it to its destination, and returns the manifest that was pushed: its digest
    /// counts, type and size may be guessed, as the caller asks the registry for it. What the build says is told as
    /// [`Progress::log`]. Dropping the future ends the build and removes what it made, but for what is in
    /// the registry.
    fn run<'a>(
        &'a self,
        job: &'a RunJob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Descriptor, RunError>>;
}

/// Why a backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct RunError {
    /// What a caller can do differently.
    pub kind: RunErrorKind,
    /// The name of what happened, such as `run-oom-killed`; it never changes.
    pub cause: &'static str,
    /// What happened, without a full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The line of the job's Dockerfile at which it happened, counted from 1, if that is known.
    pub line: Option<usize>,
    /// The last lines of what the build said, without secrets.
    pub log: Vec<String>,
    /// What led to it.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a caller can do differently after a [`RunError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RunErrorKind {
    /// A command of the Dockerfile failed.
    Command,
    /// The backend does not know who asks, or forbids it.
    Denied,
    /// The backend could not carry out the job: no room, no node, no image, lost, too late.
    Backend,
    /// The job, or how the backend is configured, is wrong.
    Input,
    /// The registry did not give or take what the job needs.
    Registry,
}

impl RunError {
    /// An error named `cause` with its message and remedy, and nothing else known.
    pub fn new(
        kind: RunErrorKind,
        cause: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { kind, cause, message, remedy, line: None, log: Vec::new(), source: None }
    }

    /// The same with what led to it.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The same at this line of the job's Dockerfile, counted from 1.
    #[must_use]
    pub fn at_line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    /// The same with the last lines of the build's output.
    #[must_use]
    pub fn with_log(self, log: Vec<String>) -> Self {
        Self { log, ..self }
    }
}
