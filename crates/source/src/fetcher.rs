//! Whatever ADD can name from afar.

use futures_core::future::BoxFuture;
use ocib_image::{Digest, Fetch, Fetched, PlaceError, Remote};

use crate::{BucketLocation, Buckets, Git, Hub, HubLocation, Web};

/// Fetches files over http and https, repositories, and what `hf://`, `s3://` and `gs://`
/// name.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// For files.
    pub web: Web,
    /// For repositories.
    pub git: Git,
    /// For models.
    pub hub: Hub,
    /// For buckets.
    pub buckets: Buckets,
}

impl Fetch for Fetcher {
    /// # Errors
    /// Those of [`Web::fetch`], [`Git::fetch`], [`Hub::fetch`] and [`Buckets::fetch`].
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
        match url {
            url if HubLocation::is_meant(url) => self.hub.fetch(url, digest).await,
            url if BucketLocation::is_meant(url) => self.buckets.fetch(url, digest).await,
            url => self.web.fetch(url, digest).await,
        }
    }
}
