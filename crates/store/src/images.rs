//! Images by any name.

use futures_core::future::BoxFuture;
use ocib_image::{Image, ImageName, ImageSource, PlaceError, Platform};

use crate::{LayoutSelector, Registries, resolve_in_layout};

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

impl ImageSource for Images {
    fn resolve<'a>(
        &'a self,
        name: &'a ImageName,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<Image, PlaceError>> {
        match name {
            ImageName::Registry(_) => self.registries.resolve(name, platform),
            ImageName::Layout { directory, tag, digest } => {
                let selector = match (digest, tag) {
                    (Some(digest), _) => LayoutSelector::Digest(*digest),
                    (None, Some(tag)) => LayoutSelector::Tag(tag.clone()),
                    (None, None) => LayoutSelector::Only,
                };
                Box::pin(async move { resolve_in_layout(directory, &selector, platform).await })
            }
        }
    }
}
