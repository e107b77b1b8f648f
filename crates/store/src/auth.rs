//! Credentials from Docker's and Podman's files and helpers.

mod file;
#[cfg(feature = "google")]
mod google;
mod helper;
mod logins;

use std::{
    env::split_paths,
    fmt,
    path::{Path, PathBuf},
};

use futures_core::future::BoxFuture;
use ocib_image::{Credential, Credentials, PlaceError, Reference};

#[cfg(feature = "google")]
pub use self::google::GoogleAuth;
pub use self::logins::{Cloud, Login, Logins, OnLogin};
use self::{file::CredentialFile, helper::Helper};
use crate::Error;

/// Nobody: every registry is asked without credentials.
#[derive(Clone, Copy, Debug)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn find<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<Option<Credential>, PlaceError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// Credentials as Docker and Podman keep them. The first of these files that has one for the
/// repository counts:
///
/// 1. `$REGISTRY_AUTH_FILE`, which must exist if it is named
/// 2. `$DOCKER_CONFIG/config.json`
/// 3. `~/.docker/config.json`
/// 4. `$XDG_RUNTIME_DIR/containers/auth.json`
/// 5. `$XDG_CONFIG_HOME/containers/auth.json`, by default in `~/.config`
///
/// Within a file, a helper for the registry comes before the credentials store, and that before
/// the file's own entries (Docker's order). Entries may be for a path within a registry, such as
/// `quay.io/org`; the longest that fits counts (containers-auth.json(5)). Files are read each time
/// a credential is asked for, since others renew them while a long build runs.
///
/// ```
/// use ocib_store::DockerAuth;
/// // A program passes `&|name| std::env::var(name).ok()`.
/// let auth = DockerAuth::from_environment(&|name| (name == "HOME").then(|| "/home/me".to_owned()));
/// # let _ = auth;
/// ```
#[derive(Clone)]
pub struct DockerAuth {
    files: Vec<PathBuf>,
    /// The first file must exist.
    is_first_named: bool,
    /// Where helpers are looked for.
    programs: Vec<PathBuf>,
}

impl DockerAuth {
    /// The files and helpers that the variables of `environment` lead to: those named above, and
    /// `HOME` and `PATH`. Nothing is read yet.
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let named = variable("REGISTRY_AUTH_FILE");
        let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let is_first_named = named.is_some();
        let below = |directory: Option<PathBuf>, file: &str| directory.map(|directory| directory.join(file));
        let files = [
            named,
            below(variable("DOCKER_CONFIG"), "config.json"),
            below(home, ".docker/config.json"),
            below(variable("XDG_RUNTIME_DIR"), "containers/auth.json"),
            below(config, "containers/auth.json"),
        ];
        let programs = variable("PATH").map(|path| split_paths(&path).collect()).unwrap_or_default();
        Self { files: files.into_iter().flatten().collect(), is_first_named, programs }
    }

    /// The credential for `repository`, and where it was.
    async fn find_in_files(&self, repository: &Reference) -> Result<Option<(Credential, String)>, Error> {
        let keys = keys(repository);
        for (at, path) in self.files.iter().enumerate() {
            let must_exist = at == 0 && self.is_first_named;
            let Some(file) = CredentialFile::read(path, must_exist)? else { continue };
            if let Some(found) = self.find_in(&file, path, &keys).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn find_in(
        &self,
        file: &CredentialFile,
        path: &Path,
        keys: &[String],
    ) -> Result<Option<(Credential, String)>, Error> {
        let registry = keys.last().expect("a repository has at least the key of its registry");
        let by_registry = keys.iter().find_map(|key| Some((file.helper(key)?, key)));
        let in_store = file.store().map(|store| (store, registry));
        for (name, key) in by_registry.into_iter().chain(in_store) {
            let helper = Helper { name, programs: &self.programs, file: path };
            if let Some(credential) = helper.ask(server(key)).await? {
                return Ok(Some((credential, helper.to_string())));
            }
        }
        let entry = keys.iter().find_map(|key| file.entry(key, path)).transpose()?;
        Ok(entry.map(|credential| (credential, path.display().to_string())))
    }
}

impl fmt::Debug for DockerAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerAuth").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Credentials for DockerAuth {
    fn find<'a>(
        &'a self,
        repository: &'a Reference,
    ) -> BoxFuture<'a, Result<Option<Credential>, PlaceError>> {
        Box::pin(async move { Ok(self.find_in_files(repository).await?.map(|(credential, _)| credential)) })
    }
}

/// The key under which Docker has kept the credentials of Docker Hub since its first registry.
const HUB_LEGACY: &str = "https://index.docker.io/v1/";
/// Docker Hub in references.
const HUB: &str = "docker.io";

/// Keys for `repository`, the longest first: its path, each part above it, its registry.
fn keys(repository: &Reference) -> Vec<String> {
    let whole = repository.name();
    let ends = whole.match_indices('/').map(|(at, _)| at).chain([whole.len()]);
    let mut keys: Vec<String> = ends.map(|end| whole[..end].to_owned()).collect();
    keys.reverse();
    keys
}

/// What a helper calls the registry that has this key.
fn server(key: &str) -> &str {
    if key == HUB { HUB_LEGACY } else { key }
}

#[cfg(test)]
mod tests;
