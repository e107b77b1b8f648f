//! Pulling: from a name to an image whose layers are still in the registry.

use std::{fmt, sync::Arc};

use futures_core::future::BoxFuture;
use ocib_image::{
    Blob, Descriptor, Digest, Document, Image, ImageName, ImageSource, Origin, PlaceError, Platform,
    Reference,
};
use tokio::runtime::Handle;

use super::{Registries, RegistryBlob, Repository, Scopes};
use crate::{Error, origin};

impl ImageSource for Registries {
    fn resolve<'a>(
        &'a self,
        name: &'a ImageName,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<Image, PlaceError>> {
        Box::pin(async move {
            match name {
                ImageName::Registry(reference) => origin::image(&self.open(reference), platform).await,
                _ => Err(Error::NoRegistryName { name: name.to_string() }.into()),
            }
        })
    }
}

impl Registries {
    /// The image that `reference` names, opened for reading: nothing is asked yet. Must be called
    /// within a runtime.
    pub fn open(&self, reference: &Reference) -> RegistryOrigin {
        let repository = self.repository(reference, Scopes::pull(reference));
        RegistryOrigin { repository, runtime: Handle::current() }
    }
}

/// An image in a registry, opened for reading.
#[derive(Clone)]
pub struct RegistryOrigin {
    repository: Repository,
    runtime: Handle,
}

impl RegistryOrigin {
    fn reference(&self) -> &Reference {
        &self.repository.name
    }
}

impl fmt::Debug for RegistryOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryOrigin({})", self.reference())
    }
}

impl Origin for RegistryOrigin {
    fn name(&self) -> String {
        self.reference().to_string()
    }

    fn pinned(&self, digest: Digest) -> String {
        self.reference().pinned(digest).to_string()
    }

    fn root(&self) -> BoxFuture<'_, Result<Document, PlaceError>> {
        Box::pin(async move {
            let reference = self.reference();
            Ok(self.repository.document(&reference.target(), reference.digest().copied()).await?)
        })
    }

    fn document<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Document, PlaceError>> {
        Box::pin(async move {
            let digest = descriptor.digest;
            let document = self.repository.document(&digest.to_string(), Some(digest)).await?;
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
