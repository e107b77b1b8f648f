//! Pulling: from a name to an image whose layers are still in the registry.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use ocib_image::{
    Blob, Config, Descriptor, Document, Image, ImageName, ImageSource, Index, Manifest, PlaceError, Platform,
    Reference,
};
use tokio::runtime::Handle;

use super::{Registries, RegistryBlob, Repository, Scopes};
use crate::Error;

/// Largest config that is held: real ones have some 10 KiB, and artifacts may put more there.
const CONFIG_BYTES_MAX: usize = 16 << 20;

impl ImageSource for Registries {
    fn resolve<'a>(
        &'a self,
        name: &'a ImageName,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<Image, PlaceError>> {
        Box::pin(async move {
            match name {
                ImageName::Registry(reference) => Ok(self.image(reference, platform).await?),
                ImageName::Layout { .. } => Err(Error::NoRegistryName { name: name.to_string() }.into()),
            }
        })
    }
}

impl Registries {
    async fn image(&self, reference: &Reference, platform: &Platform) -> Result<Image, Error> {
        let repository = self.repository(reference, Scopes::pull(reference));
        let root = repository.document(&reference.target(), reference.digest().copied()).await?;
        let pinned = reference.pinned(root.descriptor().digest).to_string();
        let manifest = match root {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => repository.chosen(reference, &index, platform).await?,
        };
        let config = repository.config(manifest.config()).await?;
        let runtime = Handle::current();
        let layer = |descriptor: &Descriptor| Blob {
            descriptor: descriptor.clone(),
            source: Arc::new(RegistryBlob::new(repository.clone(), descriptor.clone(), runtime.clone())),
        };
        let layers = manifest.layers().iter().map(layer).collect();
        Ok(Image { manifest, config, layers, pinned })
    }
}

impl Repository {
    async fn chosen(
        &self,
        reference: &Reference,
        index: &Index,
        platform: &Platform,
    ) -> Result<Manifest, Error> {
        let Some(descriptor) = index.choose(platform) else {
            let mut have: Vec<String> = index.platforms().map(Platform::to_string).collect();
            have.dedup();
            let have = have.join(", ");
            return Err(Error::NoPlatform {
                name: reference.to_string(),
                wanted: platform.to_string(),
                have,
            });
        };
        match self.document(&descriptor.digest.to_string(), Some(descriptor.digest)).await? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(inner) => {
                let media_type = inner.descriptor().media_type;
                let why = "it is an index within an index, expected a manifest".to_owned();
                let source = ocib_image::Error::BadDocument { media_type, why };
                Err(Error::Document { name: reference.pinned(descriptor.digest).to_string(), source })
            }
        }
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Config, Error> {
        let name = || format!("the config of {}", self.name);
        if descriptor.size > CONFIG_BYTES_MAX as u64 {
            return Err(Error::TooLarge {
                what: name(),
                bytes: descriptor.size,
                limit: CONFIG_BYTES_MAX as u64,
            });
        }
        let raw = self.small_blob(descriptor.digest, CONFIG_BYTES_MAX).await?;
        Config::parse(descriptor, raw).map_err(|source| Error::Document { name: name(), source })
    }
}
