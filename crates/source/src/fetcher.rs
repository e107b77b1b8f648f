//! Whatever ADD can name from afar.

use futures_core::future::BoxFuture;
use ocib_image::{Digest, Fetch, Fetched, PlaceError, Remote};

use crate::{Git, Hub, HubLocation, Web};

/// Fetches files over http and https, repositories, and what `hf://` names.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// For files.
    pub web: Web,
    /// For repositories.
    pub git: Git,
    /// For models.
    pub hub: Hub,
}

impl Fetch for Fetcher {
    /// # Errors
    /// Those of [`Web::fetch`], [`Git::fetch`] and [`Hub::fetch`].
    fn fetch<'a>(&'a self, remote: &'a Remote) -> BoxFuture<'a, Result<Fetched, PlaceError>> {
        Box::pin(async move {
            match remote {
                Remote::Url { url, digest } => self.fetch_url(url, digest.as_ref()).await,
                Remote::Git(reference) => self.git.fetch(reference).await,
            }
        })
    }
}

impl Fetcher {
    async fn fetch_url(&self, url: &str, digest: Option<&Digest>) -> Result<Fetched, PlaceError> {
        match HubLocation::is_meant(url) {
            true => self.hub.fetch(url, digest).await,
            false => self.web.fetch(url, digest).await,
        }
    }
}
