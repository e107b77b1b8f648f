//! Pulling: from a name to an image whose layers are still in the registry.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use ocib_image::{
    Blob, Config, Descriptor, Document, Image, ImageName, ImageSource, Index, Manifest, PlaceError, Platform,
    Reference,
};
use ocib_net::Backoff;
use tokio::runtime::Handle;

use super::{MirrorFailure, Registries, RegistryBlob, Repository, Scopes};
use crate::{Error, config::PullSource};

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
    /// The image out of the first of its places that has it. A mirror is asked once: what it lacks, the
    /// next one may have.
    async fn image(&self, reference: &Reference, platform: &Platform) -> Result<Image, Error> {
        let mut sources = self.shared.options.config.sources(reference)?;
        let own = sources.pop().expect("an image has a place of its own, after its mirrors");
        let mut failed = Vec::new();
        for mirror in &sources {
            let once = Backoff { attempts: 1, ..self.shared.options.backoff };
            match self.image_at(reference, platform, mirror, once).await {
                Ok(image) => return Ok(image),
                Err(error) => {
                    self.pass_over(&MirrorFailure { name: reference, mirror: &mirror.name, error: &error });
                    failed.push(error.to_string());
                }
            }
        }
        let image = self.image_at(reference, platform, &own, self.shared.options.backoff).await;
        image.map_err(|error| match failed.is_empty() {
            true => error,
            false => Error::Mirrors { failed, source: Box::new(error) },
        })
    }

    async fn image_at(
        &self,
        reference: &Reference,
        platform: &Platform,
        source: &PullSource,
        backoff: Backoff,
    ) -> Result<Image, Error> {
        let scopes = Scopes::pull(&source.name);
        let at = Repository { is_insecure: source.is_insecure, ..self.repository(&source.name, scopes) };
        let repository = Repository { backoff, ..at.clone() };
        let root = repository.document(&reference.target(), reference.digest().copied()).await?;
        let pinned = reference.pinned(root.descriptor().digest).to_string();
        let manifest = match root {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => repository.chosen(&index, platform).await?,
        };
        let config = repository.config(manifest.config()).await?;
        let runtime = Handle::current();
        let layer = |descriptor: &Descriptor| Blob {
            descriptor: descriptor.clone(),
            source: Arc::new(RegistryBlob::new(at.clone(), descriptor.clone(), runtime.clone())),
        };
        let layers = manifest.layers().iter().map(layer).collect();
        Ok(Image { manifest, config, layers, pinned })
    }
}

impl Repository {
    async fn chosen(&self, index: &Index, platform: &Platform) -> Result<Manifest, Error> {
        let Some(descriptor) = index.choose(platform) else {
            let mut have: Vec<String> = index.platforms().map(Platform::to_string).collect();
            have.dedup();
            let have = have.join(", ");
            return Err(Error::NoPlatform {
                name: self.name.to_string(),
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
                Err(Error::Document { name: self.name.pinned(descriptor.digest).to_string(), source })
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
