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
mod files;
mod location;
mod remote;
mod target;

use std::{fmt, sync::Arc};

use ocib_image::{Digest, Fetched, PlaceError, Tree};
use ocib_net::{Backoff, HttpOptions, retry};
use tokio::runtime::Handle;

pub use self::location::WebLocation;
pub(crate) use self::remote::failure;
use self::{
    file::{Found, WebFile},
    remote::Remote,
    target::Target,
};
use crate::{
    Error, ReadAhead,
    client::{Client, PlainHttp},
    transfer::Ahead,
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
    ahead: Ahead,
}

impl Web {
    /// Speaks HTTP as `http` says, and tries again what broke off as `backoff` says.
    pub fn new(http: HttpOptions, backoff: Backoff) -> Self {
        let client = Arc::new(Client::new(http, PlainHttp::AsWritten));
        Self { client, backoff, ahead: Ahead::new(ReadAhead::default()) }
    }

    /// The same, which reads files of [`Web::open`] so far ahead, all of them together.
    #[must_use]
    pub fn with_read_ahead(self, ahead: ReadAhead) -> Self {
        Self { ahead: Ahead::new(ahead), ..self }
    }

    /// The files at `locations`, each under its last name: a tree like those of hubs and buckets. Each is asked
    /// for by `HEAD`, so no byte of it moves; where a server tells no size, it is read through once. A
    /// location's digest, or an entity tag that is no weak one, or a time of modification well in the past, says
    /// later that a file is the same; all of them, and the length, are compared while it is read.
    ///
    /// # Errors
    /// Those of [`Web::fetch`]; `Input` for two files of one name, and for a page where a file was expected.
    pub async fn open(&self, locations: &[WebLocation]) -> Result<Arc<dyn Tree>, PlaceError> {
        Ok(self.list(locations).await?)
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
