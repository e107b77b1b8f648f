//! Images by any name.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use ocib_image::{Image, ImageName, ImageSource, Origin, PlaceError, Platform};

use crate::{
    LayoutSelector, Registries,
    archive::Archived,
    blocking::blocking,
    layout::{Files, LayoutOrigin},
    origin,
};

/// Reads images from wherever their names say.
///
/// ```
/// use ocib_store::{Images, Registries, RegistriesOptions};
/// let images = Images { registries: Registries::new(RegistriesOptions::default()) };
/// # let _ = images;
/// ```
#[derive(Clone, Debug)]
pub struct Images {
    /// The client for names of registries.
    pub registries: Registries,
}

impl Images {
    /// What `read` gives for the place that `name` is in: for an image of a registry its mirrors are
    /// tried first, as [`Registries::read`] does, else see [`Images::open`].
    pub async fn read<T, F: Future<Output = Result<T, PlaceError>>>(
        &self,
        name: &ImageName,
        read: impl Fn(Arc<dyn Origin>) -> F,
    ) -> Result<T, PlaceError> {
        match name {
            ImageName::Registry(reference) => {
                self.registries.read(reference, |origin| read(Arc::new(origin))).await
            }
            _ => read(self.open(name).await?).await,
        }
    }

    /// Opens the place that `name` is in, to read the image as it is stored, whatever mirrors it has. A registry is not asked
    /// yet, nor is a directory looked at; of an archive the headers are read, and it must be a file
    /// in which any place can be gone to. Must be called within a runtime of tokio.
    ///
    /// An archive that cannot be read is [`ocib_image::PlaceErrorKind::Input`], one that is not there
    /// [`ocib_image::PlaceErrorKind::NotFound`].
    pub async fn open(&self, name: &ImageName) -> Result<Arc<dyn Origin>, PlaceError> {
        let (tag, digest, files) = match name {
            ImageName::Registry(reference) => return Ok(Arc::new(self.registries.open(reference))),
            ImageName::Layout { directory, tag, digest } => {
                (tag, digest, Files::Directory(directory.clone()))
            }
            ImageName::Archive { file, tag, digest, .. } => {
                let path = file.clone();
                let archived = blocking(move |wanted| Archived::open(&path, wanted)).await?;
                (tag, digest, Files::Archive(Arc::new(archived)))
            }
        };
        let selector = LayoutSelector::new(tag.as_deref(), *digest);
        Ok(Arc::new(LayoutOrigin::new(name.clone(), selector, files)))
    }
}

impl ImageSource for Images {
    fn resolve<'a>(
        &'a self,
        name: &'a ImageName,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<Image, PlaceError>> {
        Box::pin(async move {
            match name {
                // Out of the first of its mirrors that has it.
                ImageName::Registry(_) => self.registries.resolve(name, platform).await,
                _ => origin::image(&*self.open(name).await?, platform).await,
            }
        })
    }
}
