//! Logins: files and helpers first, then the clouds' own identities, and a word about what was used.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_core::future::BoxFuture;
use ocib_image::{Credential, Credentials, PlaceError, Reference};
use ocib_net::Identity;

use crate::{DockerAuth, Error};

/// Whoever ocib is in one cloud, to the registries of that cloud.
pub trait Cloud: Credentials {
    /// Whether `registry` (a host, which may have a port) belongs to the cloud.
    fn is_for(&self, registry: &str) -> bool;

    /// Who was found for `registry`, and what is worth knowing about that; asked after a credential
    /// was found.
    fn identity<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, (Option<Identity>, Option<String>)>;
}

/// What was used to log in to a registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// The registry's host.
    pub registry: String,
    /// Where the credential is from: a file, a helper, or a cloud's provider.
    pub source: String,
    /// Who that is, where a cloud says it.
    pub identity: Option<Identity>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Some(identity) => write!(f, "{}: logged in as {identity}", self.registry)?,
            None => write!(f, "{}: logged in from {}", self.registry, self.source)?,
        }
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

/// Takes each login once, when it is first used.
pub type OnLogin = Arc<dyn Fn(&Login) + Send + Sync>;

/// Credentials as users have them: what a file or helper has for a registry comes first, then the
/// identity of the cloud that the registry belongs to. A helper that a file names but that is not
/// installed, as in an image that holds nothing but ocib, is replaced by that identity.
///
/// ```
/// use ocib_store::{DockerAuth, Logins};
/// let files = DockerAuth::from_environment(&|_| None);
/// let logins = Logins::new(files, Vec::new(), std::sync::Arc::new(|login| eprintln!("{login}")));
/// # let _ = logins;
/// ```
pub struct Logins {
    files: DockerAuth,
    clouds: Vec<Arc<dyn Cloud>>,
    on_login: OnLogin,
    /// Registries whose login was told.
    told: Mutex<BTreeSet<String>>,
}

impl Logins {
    /// Nothing is read yet. `on_login` may be called from any thread and must not block.
    pub fn new(files: DockerAuth, clouds: Vec<Arc<dyn Cloud>>, on_login: OnLogin) -> Self {
        Self { files, clouds, on_login, told: Mutex::default() }
    }

    fn cloud(&self, registry: &str) -> Option<&Arc<dyn Cloud>> {
        self.clouds.iter().find(|cloud| cloud.is_for(registry))
    }

    async fn look(&self, repository: &Reference) -> Result<Option<Credential>, PlaceError> {
        let registry = repository.registry();
        let cloud = self.cloud(registry);
        let mut notes = Vec::new();
        match (self.files.find_in_files(repository).await, cloud) {
            (Ok(Some((credential, source))), _) => {
                self.tell(registry, source, None, notes);
                return Ok(Some(credential));
            }
            (Err(Error::NoHelper { helper, file }), Some(_)) => {
                let file = file.display();
                notes.push(format!("{helper}, named in {file}, is not installed and not needed"));
            }
            (Err(error), _) => return Err(error.into()),
            (Ok(None), _) => {}
        }
        let Some(cloud) = cloud else { return Ok(None) };
        let Some(credential) = cloud.find(repository).await? else { return Ok(None) };
        if self.is_new(registry) {
            let (identity, note) = cloud.identity(registry).await;
            notes.extend(note);
            let source = identity.as_ref().map_or_else(String::new, |identity| identity.provider.clone());
            self.tell(registry, source, identity, notes);
        }
        Ok(Some(credential))
    }

    fn is_new(&self, registry: &str) -> bool {
        !self.told.lock().unwrap_or_else(PoisonError::into_inner).contains(registry)
    }

    fn tell(&self, registry: &str, source: String, identity: Option<Identity>, notes: Vec<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(registry.to_owned()) {
            (self.on_login)(&Login { registry: registry.to_owned(), source, identity, notes });
        }
    }
}

impl Credentials for Logins {
    fn find<'a>(
        &'a self,
        repository: &'a Reference,
    ) -> BoxFuture<'a, Result<Option<Credential>, PlaceError>> {
        Box::pin(self.look(repository))
    }

    fn refused<'a>(&'a self, repository: &'a Reference, credential: &'a Credential) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Some(cloud) = self.cloud(repository.registry()) {
                cloud.refused(repository, credential).await;
            }
        })
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
