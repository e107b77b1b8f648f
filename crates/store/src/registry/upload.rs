//! Uploads: sessions in which a registry takes a blob (distribution-spec, "Pushing blobs").

use ocib_image::{ByteStream, Digest, Reference};
use ocib_net::{
    Body, Method, Redacted, Request, Response, Retry, StatusCode, Url, Verdict,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
    retry,
};

use super::{Repository, Scopes, answer};
use crate::Error;

/// One upload that a registry waits for.
#[derive(Debug)]
pub(super) struct Session {
    repository: Repository,
    location: Url,
}

/// What became of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// The registry has it.
    Whole,
    /// The registry wants it at the session's new place (RFC 9110, section 15.4.8): a body that can be
    /// sent only once is not sent there by itself.
    Elsewhere,
}

impl Sent {
    fn of(response: &Response) -> Self {
        match MOVED.contains(&response.status().as_u16()) {
            true => Self::Elsewhere,
            false => Self::Whole,
        }
    }
}

/// Answers to an upload that ask for it elsewhere.
const MOVED: &[u16] = &[307, 308];

impl Repository {
    /// Begins an upload.
    pub(super) async fn start_upload(&self) -> Result<Session, Error> {
        retry(self.backoff, async || {
            let request = Request::new(Method::POST, self.url("blobs/uploads/").await?);
            let response = self.expect(request, &[]).await?;
            self.session(&response).await
        })
        .await
    }

    /// Asks for a blob that the repository `from` of the same registry has. `None` means that it is
    /// there now; otherwise the registry wants it uploaded.
    pub(super) async fn mount(&self, digest: Digest, from: &Reference) -> Result<Option<Session>, Error> {
        let both = self.with_scopes(self.scopes.clone().and(Scopes::pull(from)));
        let mut url = self.url("blobs/uploads/").await?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from.repository());
        let response = both.expect(Request::new(Method::POST, url), &[]).await?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            _ => Ok(Some(self.session(&response).await?)),
        }
    }

    async fn session(&self, response: &Response) -> Result<Session, Error> {
        let location = response.header(LOCATION.as_str());
        let location = location.and_then(|location| resolve(response.url(), location));
        match location {
            Some(location) => Ok(Session { repository: self.clone(), location }),
            None => Err(Error::Incomplete {
                method: response.method().clone(),
                url: Redacted::of(response.url()),
                what: "a usable Location",
            }),
        }
    }
}

impl Session {
    /// Sends all bytes in one request, without saying how many there are: the form that every
    /// registry takes from Docker. ECR answers it with 201, others with 202 or 204.
    pub(super) async fn append(&mut self, stream: ByteStream) -> Result<Sent, Error> {
        let mut request = self.request(Method::PATCH, self.location.clone());
        request.body = Body::Stream { stream, length: None };
        let response = self.repository.expect(request, MOVED).await?;
        let next = response.header(LOCATION.as_str()).and_then(|next| resolve(response.url(), next));
        next.into_iter().for_each(|next| self.location = next);
        Ok(Sent::of(&response))
    }

    /// Makes what was appended the blob `digest`. A failure after which the blob is there is none.
    pub(super) async fn commit(&self, digest: Digest) -> Result<(), Error> {
        retry(self.repository.backoff, async || {
            let request = self.request(Method::PUT, self.completed(digest));
            let error = match self.repository.expect(request, &[]).await {
                Ok(response) => return answer::check_stored(&response, digest),
                Err(error) => error,
            };
            match error.verdict() != Verdict::Final && self.repository.has_blob(digest).await? {
                true => Ok(()),
                false => Err(error),
            }
        })
        .await
    }

    /// Sends all `size` bytes of the blob `digest` and completes it, in one request.
    pub(super) async fn put(&mut self, digest: Digest, size: u64, stream: ByteStream) -> Result<Sent, Error> {
        let mut request = self.request(Method::PUT, self.completed(digest));
        request.body = Body::Stream { stream, length: Some(size) };
        let response = self.repository.expect(request, MOVED).await?;
        if Sent::of(&response) == Sent::Elsewhere {
            let next = response.header(LOCATION.as_str()).and_then(|next| resolve(response.url(), next));
            next.into_iter().for_each(|next| self.location = next);
            return Ok(Sent::Elsewhere);
        }
        answer::check_stored(&response, digest)?;
        Ok(Sent::Whole)
    }

    /// Appends no byte, to learn whether bytes might be appended.
    pub(super) async fn append_nothing(&mut self) -> Result<(), Error> {
        let request = self.request(Method::PATCH, self.location.clone());
        self.repository.expect(request, &[]).await.map(drop)
    }

    /// Completes an upload that has not the digest, to learn whether one might be completed.
    pub(super) async fn complete_nothing(&mut self, digest: Digest) -> Result<(), Error> {
        let request = self.request(Method::PUT, self.completed(digest));
        self.repository.expect(request, &[]).await.map(drop)
    }

    /// Tells the registry that nothing more comes. It finds that out by itself in the end, so a
    /// failure to tell it is none.
    pub(super) async fn abandon(self) {
        let request = Request::new(Method::DELETE, self.location.clone());
        let _ = self.repository.exchange(request).await;
    }

    /// The error of an upload that was sent from place to place.
    pub(super) fn lost(&self) -> Error {
        let (method, url) = (Method::PUT, Redacted::of(&self.location));
        Error::Incomplete { method, url, what: "an end to its redirects" }
    }

    fn request(&self, method: Method, url: Url) -> Request {
        let mut request = Request::new(method, url);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request
    }

    /// The location with `digest` added, if it is not there; what the registry put into its query stays.
    fn completed(&self, digest: Digest) -> Url {
        let mut url = self.location.clone();
        if url.query_pairs().any(|(key, _)| key == "digest") {
            return url;
        }
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        url
    }
}

/// The URL that `location` means in an answer from `url`: registries give absolute and relative
/// ones. Behind a proxy that ends TLS some give their own host with `http`, which is mended: ocib
/// never goes from https to http.
fn resolve(url: &Url, location: &str) -> Option<Url> {
    let mut target = url.join(location).ok()?;
    if url.scheme() == "https" && target.scheme() == "http" && target.host_str() == url.host_str() {
        target.set_scheme("https").ok()?;
        target.set_port(url.port()).ok()?;
    }
    // Loopback and insecure hosts would be spoken to in plain.
    if url.scheme() == "https" && target.scheme() != "https" {
        return None;
    }
    // The registry must not choose the credentials that its upload server gets.
    target.set_username("").ok()?;
    target.set_password(None).ok()?;
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let at = "https://r.example:5000/v2/a/blobs/uploads/";
        for (url, location, expected) in [
            (
                at,
                "/v2/a/blobs/uploads/1?_state=x%3D",
                "https://r.example:5000/v2/a/blobs/uploads/1?_state=x%3D",
            ),
            (at, "1?x=y", "https://r.example:5000/v2/a/blobs/uploads/1?x=y"),
            (at, "https://up.example/1", "https://up.example/1"),
            (at, "http://r.example/v2/1", "https://r.example:5000/v2/1"),
            (at, "https://u:p@r.example:5000/1", "https://r.example:5000/1"),
            ("http://localhost:1/v2/", "/v2/1", "http://localhost:1/v2/1"),
        ] {
            let actual = resolve(&url.parse().unwrap(), location).map(|url| url.to_string());
            assert_eq!(actual.as_deref(), Some(expected), "{location}");
        }
        for location in ["https://[", "http://other.example/1", "http://127.0.0.1:9/1", "ftp://r.example/1"] {
            assert_eq!(resolve(&at.parse().unwrap(), location), None, "{location}");
        }
    }
}
