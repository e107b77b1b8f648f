//! The Hub's API: a revision's commit, a commit's files, and what its refusals mean.

use std::collections::BTreeSet;

use ocib_image::{Digest, Secret};
use ocib_net::{
    Backoff, Redacted, Response, StatusCode, Url,
    header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LINK},
    retry,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{HubLocation, HubProblem};
use crate::{
    Error,
    client::Client,
    git::oid::Oid,
    listed::{Expected, said_size},
    userinfo::percent_encoded,
    web::failure,
};

/// The Hub, as somebody sees it.
pub(super) struct Api {
    pub(super) client: Client,
    endpoint: Url,
    authorization: Option<HeaderValue>,
}

/// What a revision is now.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) commit: String,
    pub(super) is_gated: bool,
}

/// A file of a commit.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Within the repository.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) oid: Expected,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    /// `false`, or by whom access is given: `auto` or `manual`.
    #[serde(default)]
    gated: serde_json::Value,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: String,
    lfs: Option<Lfs>,
}

/// What LFS or Xet keeps; both give the SHA-256.
#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// Mirrors that do not know `expand` list the names of all files here too.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The Hub's default too; an entry has about 300 bytes.
const PAGE: &str = "1000";
const FILES_MAX: usize = 200_000;
/// A page may hold nothing but directories.
const PAGES_MAX: usize = 2_000;
const SAID_CHARS: usize = 300;

impl Api {
    pub(super) fn new(client: Client, endpoint: Url, token: Option<Secret>) -> Self {
        let authorization = token.and_then(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self { client, endpoint, authorization }
    }

    pub(super) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    pub(super) fn shown(&self) -> Redacted {
        Redacted::of(&self.endpoint)
    }

    /// The endpoint's URL with these parts of a path, each encoded.
    pub(super) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        let mut path = url.path().trim_end_matches('/').to_owned();
        // Not by `path_segments_mut`, which drops tabs and line ends.
        parts.into_iter().for_each(|part| path.extend(["/", &percent_encoded(part)]));
        url.set_path(&path);
        url
    }

    /// The headers of a request to `url`: the token goes to the endpoint's origin alone.
    pub(super) fn headers(&self, url: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(authorization) = self.authorization.as_ref().filter(|_| self.is_ours(url)) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers
    }

    pub(super) fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// The commit that `location`'s revision is now.
    pub(super) async fn revision(&self, location: &HubLocation, backoff: Backoff) -> Result<Revision, Error> {
        let mut url = self.url(api(location, "revision"));
        url.query_pairs_mut().append_pair("expand", "sha").append_pair("expand", "gated");
        let (info, _) = self.json::<Info>(&url, location, backoff).await?;
        if Oid::parse(info.sha.as_bytes()).is_none() {
            return Err(not_hub(location, "the commit is not 40 hex digits"));
        }
        let is_gated = !matches!(info.gated, serde_json::Value::Bool(false) | serde_json::Value::Null);
        Ok(Revision { commit: info.sha, is_gated })
    }

    /// The files of `location`'s commit beneath its path.
    pub(super) async fn files(&self, location: &HubLocation, backoff: Backoff) -> Result<Vec<Item>, Error> {
        // A path that is a file has no list: its directory's has it.
        match self.list(location, &location.path, true, backoff).await {
            Err(Error::Hub { problem, .. })
                if matches!(*problem, HubProblem::NoPath { .. }) && !location.path.is_empty() =>
            {
                let files = self.list(location, super::parent(&location.path), false, backoff).await?;
                let files: Vec<Item> = files.into_iter().filter(|item| item.path == location.path).collect();
                match files.is_empty() {
                    true => Err(error(location, HubProblem::NoPath { path: location.path.clone() })),
                    false => Ok(files),
                }
            }
            result => result,
        }
    }

    async fn list(
        &self,
        location: &HubLocation,
        path: &str,
        is_recursive: bool,
        backoff: Backoff,
    ) -> Result<Vec<Item>, Error> {
        let below = path.split('/').filter(|part| !part.is_empty());
        let mut url = self.url(api(location, "tree").into_iter().chain(below));
        if is_recursive {
            url.query_pairs_mut().append_pair("recursive", "true");
        }
        url.query_pairs_mut().append_pair("limit", PAGE);
        let (mut items, mut next) = (Vec::new(), Some(url));
        let mut pages = BTreeSet::new();
        while let Some(url) = next {
            let (entries, following) = self.json::<Vec<Entry>>(&url, location, backoff).await?;
            for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
                items.push(entry.item().map_err(|why| not_hub(location, why))?);
            }
            if items.len() > FILES_MAX || pages.len() == PAGES_MAX || !pages.insert(url) {
                return Err(not_hub(location, "its list of files has no end"));
            }
            next = following;
        }
        Ok(items)
    }

    /// A document and where its next page is.
    async fn json<T: DeserializeOwned>(
        &self,
        url: &Url,
        location: &HubLocation,
        backoff: Backoff,
    ) -> Result<(T, Option<Url>), Error> {
        let (next, bytes) = retry(backoff, async || {
            let response = self.client.get(url, self.headers(url)).await?;
            if !response.status().is_success() {
                return Err(self.refusal(response, location).await);
            }
            let next = response.header(LINK.as_str()).and_then(next_page).map(|next| url.join(next));
            Ok((next, response.bytes(ANSWER_BYTES_MAX).await?))
        })
        .await
        .map_err(|error: Error| throttled(location, error))?;
        let next = next.transpose().map_err(|_| not_hub(location, "its next page is no URL"))?;
        if next.as_ref().is_some_and(|next| !self.is_ours(next)) {
            return Err(not_hub(location, "its next page is elsewhere"));
        }
        match serde_json::from_slice(&bytes) {
            Ok(document) => Ok((document, next)),
            Err(why) => Err(not_hub(location, &format!("{}: {why}", Redacted::of(url)))),
        }
    }

    /// What an answer means that is no success. The Hub says it in a header (`hf_raise_for_status`).
    pub(super) async fn refusal(&self, response: Response, location: &HubLocation) -> Error {
        let status = response.status();
        let code = response.header("x-error-code").unwrap_or_default().to_owned();
        let said = response.header("x-error-message").unwrap_or_default();
        let mut said = ocib_net::printable(said.as_bytes(), SAID_CHARS);
        let wait = response.header("ratelimit").and_then(rate_limit_seconds);
        let mut failed = failure(response).await;
        if let ocib_net::Error::Status { said: body, retry_after, .. } = &mut failed {
            if said.is_empty() {
                said.clone_from(body);
            }
            if status == StatusCode::TOO_MANY_REQUESTS && retry_after.is_none() {
                *retry_after = wait.map(std::time::Duration::from_secs);
            }
        }
        let has_token = self.has_token();
        let problem = match (code.as_str(), status.as_u16()) {
            ("GatedRepo", _) => HubProblem::Gated { said, has_token },
            ("RepoNotFound", _) => HubProblem::NoRepository { has_token },
            ("RevisionNotFound", _) => HubProblem::NoRevision { revision: location.revision.clone() },
            ("EntryNotFound", _) => HubProblem::NoPath { path: super::or_root(&location.path) },
            // The Hub says 401 without a token of what is not there at all, so that nobody can guess names.
            (_, 401) if !has_token => HubProblem::NoRepository { has_token },
            (_, 401) => HubProblem::BadToken { said },
            (_, 404) => HubProblem::NoRepository { has_token },
            _ => return failed.into(),
        };
        error(location, problem)
    }
}

impl Entry {
    fn item(self) -> Result<Item, &'static str> {
        let (oid, size) = match self.lfs {
            Some(lfs) => {
                let hex = lfs.oid.strip_prefix("sha256:").unwrap_or(&lfs.oid);
                let digest: Result<Digest, _> = format!("sha256:{hex}").parse();
                (Expected::Sha256(digest.map_err(|_| "an LFS oid is not 64 hex digits")?), lfs.size)
            }
            None => {
                let oid = Oid::parse(self.oid.as_bytes()).ok_or("an oid is not 40 hex digits")?;
                (Expected::Blob(oid), self.size)
            }
        };
        Ok(Item { path: self.path, size: said_size(size)?, oid })
    }
}

fn api<'a>(location: &'a HubLocation, what: &'static str) -> Vec<&'a str> {
    let (org, name) = location.repository().split_once('/').unwrap_or_default();
    vec!["api", "models", org, name, what, &location.revision]
}

pub(super) fn error(location: &HubLocation, problem: HubProblem) -> Error {
    Error::Hub { name: location.to_string(), problem: Box::new(problem) }
}

/// What a refusal means that waiting did not help.
pub(super) fn throttled(location: &HubLocation, failed: Error) -> Error {
    match failed {
        Error::Http(ocib_net::Error::Status { status, said, .. })
            if status == StatusCode::TOO_MANY_REQUESTS =>
        {
            error(location, HubProblem::Throttled { said })
        }
        failed => failed,
    }
}

pub(super) fn not_hub(location: &HubLocation, why: &str) -> Error {
    error(location, HubProblem::NotHub { why: why.to_owned() })
}

/// The URL of `rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    let next = link.split(',').find(|link| {
        link.split(';').skip(1).any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"))
    })?;
    next.trim().strip_prefix('<')?.split_once('>').map(|(url, _)| url)
}

/// When requests count anew: `"api";r=0;t=55` (the Hub's "Rate limits"; an Internet draft's `RateLimit`).
fn rate_limit_seconds(header: &str) -> Option<u64> {
    header.split(';').find_map(|parameter| parameter.trim().strip_prefix("t=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages() {
        for (link, expected) in [
            ("<https://h/a?cursor=x%3D>; rel=\"next\"", Some("https://h/a?cursor=x%3D")),
            ("<https://h/p>; rel=\"prev\", <https://h/n>; rel=\"next\"", Some("https://h/n")),
            ("<https://h/p>; rel=\"prev\"", None),
            ("", None),
            ("h; rel=next", None),
        ] {
            assert_eq!(next_page(link), expected, "{link}");
        }
    }

    #[test]
    fn rate_limits() {
        for (header, expected) in [("\"api\";r=0;t=55", Some(55)), ("\"pages\";r=3", None), ("t=x", None)] {
            assert_eq!(rate_limit_seconds(header), expected, "{header}");
        }
    }
}
