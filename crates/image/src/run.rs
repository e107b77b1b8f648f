//! Running: what only a container can do is handed to a backend as a small build of its own.

use futures_core::future::BoxFuture;

use crate::{Descriptor, PlaceError, Platform, Progress, Reference};

/// A self-contained build: nothing but what is in here and in the registry is needed for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunJob {
    /// A Dockerfile whose bases are pinned by digest and whose variables are resolved.
    pub dockerfile: String,
    /// The platform to build for.
    pub platform: Platform,
    /// Where the result shall be pushed to, by digest.
    pub repository: Reference,
}

/// Carries out builds that need a container.
pub trait RunBackend: Send + Sync {
    /// Builds `job` and returns the manifest that was pushed. Dropping the future ends the build
    /// and removes what it made.
    fn run<'a>(
        &'a self,
        job: &'a RunJob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Descriptor, PlaceError>>;
}
