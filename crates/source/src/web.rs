//! Files behind URLs, found and measured but not kept.
//!
//! ```text
//!  URL ──Target──▶ Client ──▶ Remote: length, validators ──▶ WebFile: a tree of one file
//!                (redirects,      └── no length, or gzip? ──▶ read once, to measure
//!              link-local check)
//! ```
//!
//! Nothing is written to disk: who reads the file fetches it again, from any offset, and the server's
//! validators (`ETag`, `Last-Modified`, length) tell whether it is still the same. Only where a server
//! does not say how long its answer is, or compresses it although it was asked not to, the content is
//! read through once just to be measured, and its digest then guards every later reading.

mod file;
mod remote;
mod target;

use std::{fmt, sync::Arc};

use ocib_image::{Digest, Fetched, PlaceError};
use ocib_net::{Backoff, HttpOptions, retry};
use tokio::runtime::Handle;

pub(crate) use self::remote::failure;
use self::{
    file::{Found, WebFile},
    remote::Remote,
    target::Target,
};
use crate::{
    Error,
    client::{Client, PlainHttp},
};

/// Fetches `http://` and `https://` URLs, as `ADD` names them. Must be used within a runtime of tokio,
/// which must live as long as the trees that it gives.
///
/// A URL's tree has one file: mode 0600, owner 0:0, the time of the last modification that the server
/// gives, else 1970. Its name is the last part of the URL's path, percent-decoded; that of where it
/// redirects to and the query do not count, and where there is none it is `__unnamed__` (BuildKit,
/// `dispatchCopy`).
///
/// Plain http is spoken where a URL says so, but never with credentials except to loopback, and never
/// after a redirect from https. A user and a password in the URL are sent with basic authentication.
/// Link-local addresses, behind which clouds keep the credentials of machines, are refused, also as
/// targets of redirects and as what a name resolves to on this machine.
///
/// ```
/// use ocib_net::{Backoff, HttpOptions};
///
/// let web = ocib_source::Web::new(HttpOptions::default(), Backoff::default());
/// # let _ = web;
/// ```
#[derive(Clone)]
pub struct Web {
    client: Arc<Client>,
    backoff: Backoff,
}

impl Web {
    /// Speaks HTTP as `http` says, and tries again what broke off as `backoff` says.
    pub fn new(http: HttpOptions, backoff: Backoff) -> Self {
        Self { client: Arc::new(Client::new(http, PlainHttp::AsWritten)), backoff }
    }

    async fn find(&self, url: &str, digest: Option<&Digest>) -> Result<Fetched, Error> {
        let target = Target::parse(url)?;
        let (remote, response) =
            retry(self.backoff, async || Remote::find(Arc::clone(&self.client), &target).await).await?;
        let (size, name) = (remote.plain_length(), target.name.into_boxed_slice());
        let found = Found {
            name: name.clone(),
            remote: Arc::new(remote),
            backoff: self.backoff,
            runtime: Handle::current(),
        };
        let file = match size {
            Some(size) => WebFile::new(found, size, response, digest.copied()),
            None => WebFile::measure(found, response, digest.copied()).await?,
        };
        Ok(Fetched { file: Some(name), tree: Arc::new(file) })
    }

    /// The file at `url`, found and measured. Size and time are the server's, or measured. A `digest` is
    /// verified at the end of each reading that began at the start; if the content had to be measured,
    /// before this returns.
    ///
    /// # Errors
    /// By kind: `NotFound` and `Denied` as the server says, `Unreachable` after all attempts,
    /// `Refused` for what is not asked, `Corrupt` for another digest, `Input` for what is no URL.
    pub async fn fetch(&self, url: &str, digest: Option<&Digest>) -> Result<Fetched, PlaceError> {
        Ok(self.find(url, digest).await?)
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("backoff", &self.backoff).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
