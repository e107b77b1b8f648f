//! Whatever ADD can name from afar.

use futures_core::future::BoxFuture;
use ocib_image::{Fetch, Fetched, PlaceError, Remote};

use crate::{Git, Web};

/// Fetches files over http and https, and repositories.
#[derive(Clone, Debug)]
pub struct Fetcher {
    /// For files.
    pub web: Web,
    /// For repositories.
    pub git: Git,
}

impl Fetch for Fetcher {
    /// # Errors
    /// Those of [`Web::fetch`] and [`Git::fetch`].
    fn fetch<'a>(&'a self, remote: &'a Remote) -> BoxFuture<'a, Result<Fetched, PlaceError>> {
        Box::pin(async move {
            match remote {
                Remote::Url { url, digest } => self.web.fetch(url, digest.as_ref()).await,
                Remote::Git(reference) => self.git.fetch(reference).await,
            }
        })
    }
}
