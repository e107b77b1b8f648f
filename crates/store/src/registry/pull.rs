//! Pulling: from a name to an image whose layers are still in the registry.

use std::{fmt, sync::Arc};

use futures_core::future::BoxFuture;
use ocib_image::{
    Blob, Descriptor, Digest, Document, Image, ImageName, ImageSource, Origin, PlaceError, Platform,
    Reference,
};
use ocib_net::Backoff;
use tokio::runtime::Handle;

use super::{MirrorFailure, Registries, RegistryBlob, Repository, Scopes};
use crate::{Error, config::PullSource, origin};

impl ImageSource for Registries {
    fn resolve<'a>(
        &'a self,
        name: &'a ImageName,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<Image, PlaceError>> {
        Box::pin(async move {
            match name {
                ImageName::Registry(reference) => self.image(reference, platform).await,
                _ => Err(Error::NoRegistryName { name: name.to_string() }.into()),
            }
        })
    }
}

impl Registries {
    /// The image that `reference` names in its own registry, opened for reading: nothing is asked yet,
    /// and no mirror will be. Must be called within a runtime.
    pub fn open(&self, reference: &Reference) -> RegistryOrigin {
        let repository = self.repository(reference, Scopes::pull(reference));
        let documents = repository.clone();
        RegistryOrigin { named: reference.clone(), documents, repository, runtime: Handle::current() }
    }

    /// The image out of the first of its places that has it.
    async fn image(&self, reference: &Reference, platform: &Platform) -> Result<Image, PlaceError> {
        self.read(reference, |origin| async move { origin::image(&origin, platform).await }).await
    }

    /// What `read` gives for the first place that has the image: its mirrors, as the configuration says,
    /// and at last its own registry. A mirror is asked once: what it lacks, the next one may have. Who
    /// ocib is to a mirror is told by the mirror's own name. Must be called within a runtime.
    pub async fn read<T, F: Future<Output = Result<T, PlaceError>>>(
        &self,
        reference: &Reference,
        read: impl Fn(RegistryOrigin) -> F,
    ) -> Result<T, PlaceError> {
        let mut sources = self.shared.options.config.sources(reference)?;
        let own = sources.pop().expect("an image has a place of its own, after its mirrors");
        let mut failed = Vec::new();
        for mirror in &sources {
            let once = Backoff { attempts: 1, ..self.shared.options.backoff };
            match read(self.open_at(reference, mirror, once)).await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    let error = Error::from(error);
                    self.pass_over(&MirrorFailure { name: reference, mirror: &mirror.name, error: &error });
                    failed.push(error.to_string());
                }
            }
        }
        let done = read(self.open_at(reference, &own, self.shared.options.backoff)).await;
        done.map_err(|error| match failed.is_empty() {
            true => error,
            false => Error::Mirrors { failed, source: Box::new(error.into()) }.into(),
        })
    }

    /// The image at one of its places. Layers are fetched with patience, whatever the documents get.
    fn open_at(&self, reference: &Reference, source: &PullSource, backoff: Backoff) -> RegistryOrigin {
        let scopes = Scopes::pull(&source.name);
        let repository =
            Repository { is_insecure: source.is_insecure, ..self.repository(&source.name, scopes) };
        let documents = Repository { backoff, ..repository.clone() };
        RegistryOrigin { named: reference.clone(), documents, repository, runtime: Handle::current() }
    }
}

/// An image in a registry, opened for reading.
#[derive(Clone)]
pub struct RegistryOrigin {
    /// As the user names it, which a mirror does not change.
    named: Reference,
    /// Where it is, for its documents and for its blobs.
    documents: Repository,
    repository: Repository,
    runtime: Handle,
}

impl fmt::Debug for RegistryOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryOrigin({})", self.named)
    }
}

impl Origin for RegistryOrigin {
    fn name(&self) -> String {
        self.named.to_string()
    }

    fn pinned(&self, digest: Digest) -> String {
        self.named.pinned(digest).to_string()
    }

    fn root(&self) -> BoxFuture<'_, Result<Document, PlaceError>> {
        Box::pin(async move {
            Ok(self.documents.document(&self.named.target(), self.named.digest().copied()).await?)
        })
    }

    fn document<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Document, PlaceError>> {
        Box::pin(async move {
            let digest = descriptor.digest;
            let document = self.documents.document(&digest.to_string(), Some(digest)).await?;
            let (expected, actual) = (descriptor.size, document.raw().len() as u64);
            match expected == actual {
                true => Ok(document),
                false => Err(Error::WrongSize { what: self.pinned(digest), expected, actual }.into()),
            }
        })
    }

    fn blob(&self, descriptor: &Descriptor) -> Blob {
        let blob = RegistryBlob::new(self.repository.clone(), descriptor.clone(), self.runtime.clone());
        Blob { descriptor: descriptor.clone(), source: Arc::new(blob) }
    }
}
