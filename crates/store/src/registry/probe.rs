//! Questions that change nothing, for who wants to know beforehand whether a push would go well.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ocib_image::{Digest, Reference};
use ocib_net::{
    Body, Method, Redacted, Request, StatusCode,
    header::{CONTENT_TYPE, DATE, HeaderValue},
    retry,
};

use super::{Registries, Repository, Scopes, profile::Upload};
use crate::Error;

/// What a tag stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tagged {
    /// This manifest or index.
    Names(Digest),
    /// Nothing yet.
    Nothing,
    /// Nothing, and the repository does not exist either, as far as the registry says so.
    NoRepository,
}

/// How a registry answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Greeting {
    /// Where it is served.
    pub url: Redacted,
    /// Its clock, to the second.
    pub clock: Option<SystemTime>,
}

/// A write that is begun and not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// An upload is begun, and given up.
    Begin,
    /// Nothing is appended to an upload.
    Append,
    /// An upload of nothing is completed under a digest that it has not.
    Complete,
}

/// What an attempt tells that moves nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tried {
    /// It was done, or refused for what it was, after who sent it was found to be allowed to.
    Allowed,
    /// Nothing of permissions: this was the answer.
    Unclear(String),
}

impl Registries {
    /// Finds out how the registry of `name` is served, and what time it has.
    pub async fn greet(&self, name: &Reference) -> Result<Greeting, Error> {
        let repository = self.repository(name, Scopes::pull(name));
        let cell = repository.cell();
        let endpoint = repository.endpoint(&cell).await?;
        let mut url = endpoint.base.clone();
        url.set_path("/v2/");
        // By the endpoint's own client: its certificates are for this host alone.
        let response = endpoint.http.send(Request::new(Method::GET, url)).await?;
        let clock = response.header(DATE.as_str()).and_then(parse_date);
        Ok(Greeting { url: Redacted::of(response.url()), clock })
    }

    /// What `name` stands for now. Who may not read gets an error.
    pub async fn look_up(&self, name: &Reference) -> Result<Tagged, Error> {
        let repository = self.repository(name, Scopes::push(name));
        let found = retry(repository.options().backoff, async || {
            let request = repository.document_request(Method::HEAD, &name.target()).await?;
            repository.expect(request, &[]).await
        });
        match found.await {
            Ok(response) => match super::answer::content_digest(&response) {
                Some(digest) => Ok(Tagged::Names(digest)),
                None => {
                    Ok(Tagged::Names(repository.document(&name.target(), None).await?.descriptor().digest))
                }
            },
            Err(error) if error.has_code("NAME_UNKNOWN") => Ok(Tagged::NoRepository),
            Err(error) if error.status().is_some_and(|status| status == 404) => Ok(Tagged::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Asks whether a repository has a blob. Who may not know gets an error.
    pub async fn ask_for_blob(&self, repository: &Reference, digest: Digest) -> Result<bool, Error> {
        let repository = self.repository(repository, Scopes::push(repository));
        retry(repository.options().backoff, async || {
            let url = repository.url(&format!("blobs/{digest}")).await?;
            let response = repository.exchange(Request::new(Method::HEAD, url.clone())).await?;
            if response.status().is_success() || response.status() == StatusCode::NOT_FOUND {
                return Ok(response.status().is_success());
            }
            // Only a body says why; but who may read a blob may still not be allowed to ask for it.
            let explained = repository.expect(Request::new(Method::GET, url), &[404]).await;
            Err(match explained {
                Err(error) => error,
                Ok(_) => super::answer::failure(response).await,
            })
        })
        .await
    }

    /// Tries to read a blob that is not there: who may not read layers gets an error.
    pub async fn try_read(&self, repository: &Reference) -> Result<(), Error> {
        let repository = self.repository(repository, Scopes::push(repository));
        retry(repository.options().backoff, async || {
            let path = format!("blobs/{}", absent());
            let request = Request::new(Method::GET, repository.url(&path).await?);
            repository.expect(request, &[404]).await.map(drop)
        })
        .await
    }

    /// Begins a write that moves no byte and leaves nothing: who may not write gets an error, and so does
    /// who may not even begin.
    pub async fn try_write(&self, repository: &Reference, write: Write) -> Result<Tried, Error> {
        let name = repository;
        let repository = self.repository(name, Scopes::push(name));
        let mut session = repository.start_upload().await?;
        let absent = absent();
        let done = match write {
            Write::Begin => Ok(()),
            Write::Append => session.append_nothing().await,
            Write::Complete => session.complete_nothing(absent).await,
        };
        if write == Write::Complete && done.is_ok() {
            return Ok(repository.taken(&format!("blobs/{absent}")).await);
        }
        session.abandon().await;
        // Where permissions come first, it was allowed whatever else the request is blamed for.
        let comes_first = self.profile(name.registry()).judges_permissions_first;
        judged(done, |error| {
            comes_first && is_of_request(error) || write == Write::Complete && is_of_content(error)
        })
    }

    /// Tries to name an image by a manifest that is none, under a digest that it has not: who may not gets
    /// an error. No registry can store it: that would be content under another's digest.
    pub async fn try_name(&self, repository: &Reference) -> Result<Tried, Error> {
        let repository = self.repository(repository, Scopes::push(repository));
        let path = format!("manifests/{}", absent());
        let tried = retry(repository.options().backoff, async || {
            let mut request = Request::new(Method::PUT, repository.url(&path).await?);
            let media_type = HeaderValue::from_static("application/vnd.oci.image.manifest.v1+json");
            request.headers.insert(CONTENT_TYPE, media_type);
            request.body = Body::Bytes(Bytes::from_static(b"{}"));
            repository.expect(request, &[]).await.map(drop)
        });
        match tried.await {
            Ok(()) => Ok(repository.taken(&path).await),
            failed => judged(failed, is_of_content),
        }
    }

    /// The largest layer that the registry is known to take, in bytes.
    pub fn layer_bytes_max(&self, registry: &str) -> Option<u64> {
        Some(self.profile(registry).blob_bytes_max).filter(|limit| *limit < u64::MAX)
    }

    /// Whether ocib asks the registry to take layers from its other repositories.
    pub fn asks_to_mount(&self, registry: &str) -> bool {
        self.profile(registry).mounts
    }

    /// Whether a repository of the registry comes into being with what is pushed first.
    pub fn makes_repositories(&self, registry: &str) -> bool {
        self.profile(registry).makes_repositories
    }

    /// Whether permissions are those of ECR's API, each of which is asked for by a question of its own.
    pub fn has_rights_of_ecr(&self, registry: &str) -> bool {
        self.profile(registry).judges_permissions_first
    }

    /// Whether layers are sent to the registry while they are made, by `PATCH`.
    pub fn takes_streams(&self, registry: &str) -> bool {
        self.profile(registry).upload == Upload::Streamed
    }
}

impl Repository {
    /// What it means that something was taken under a digest that it has not, at `path`: a registry that does not look
    /// at what it is sent says nothing. It is removed, if that can be done.
    async fn taken(&self, path: &str) -> Tried {
        if let Ok(url) = self.url(path).await {
            let _ = self.exchange(Request::new(Method::DELETE, url)).await;
        }
        Tried::Unclear("a success, for content that is not what its digest says".to_owned())
    }
}

/// Whether a registry's complaint is of what it was sent (distribution-spec, "Error Codes"; ECR says
/// `UNSUPPORTED`), so that it has looked at that, and not at who sent it.
fn is_of_content(error: &Error) -> bool {
    const OF_CONTENT: [&str; 4] =
        ["MANIFEST_INVALID", "DIGEST_INVALID", "UNSUPPORTED", "MANIFEST_BLOB_UNKNOWN"];
    OF_CONTENT.iter().any(|code| error.has_code(code))
}

/// Whether the request is blamed, and not the registry or the moment.
fn is_of_request(error: &Error) -> bool {
    error.status().is_some_and(|status| {
        status.is_client_error()
            && !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
    })
}

/// What came of an attempt that could come to nothing.
fn judged(done: Result<(), Error>, is_allowed: impl Fn(&Error) -> bool) -> Result<Tried, Error> {
    match done {
        Ok(()) => Ok(Tried::Allowed),
        Err(error) if error.status().is_some_and(|status| matches!(status.as_u16(), 401 | 403)) => Err(error),
        Err(error) if error.status().is_some() && is_allowed(&error) => Ok(Tried::Allowed),
        Err(error) if error.status().is_some() => Ok(Tried::Unclear(error.to_string())),
        Err(error) => Err(error),
    }
}

/// A digest that no blob has, as nobody knows content for it.
fn absent() -> Digest {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Digest::of(format!("nothing has this digest: {}", now.as_nanos()).as_bytes())
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads an IMF-fixdate such as `Tue, 15 Nov 1994 08:12:31 GMT` (RFC 9110, section 5.6.7), the only
/// form that servers may send.
fn parse_date(text: &str) -> Option<SystemTime> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let &[_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let (day, year) = (day.parse::<u64>().ok()?, year.parse::<u64>().ok()?);
    let month = MONTHS.iter().position(|known| *known == month)? as u64 + 1;
    let mut parts = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    // Days since 1970 in years that begin in March (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    let since = Duration::from_secs(days * 86_400 + hours * 3600 + minutes * 60 + seconds);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_servers() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 15 Nov 1994 08:12:31 GMT", Some(784_887_151)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Tue, 15 Nov 1994 08:12:31 CET", None),
            ("Tuesday, 15-Nov-94 08:12:31 GMT", None),
            ("", None),
        ] {
            let seconds =
                parse_date(text).map(|date| date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
            assert_eq!(seconds, expected, "{text}");
        }
    }
}
