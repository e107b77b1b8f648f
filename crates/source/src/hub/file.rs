//! A file of a commit, and where the Hub keeps it.

use std::{fmt, sync::Arc};

use futures_core::future::BoxFuture;
use ocib_net::{
    Backoff, Method, Redacted, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap},
    retry,
};
use tokio::sync::Mutex;

use super::{
    HubLocation,
    api::{Api, Item, throttled},
};
use crate::{
    Error,
    client::redirect,
    listed::Expected,
    transfer::{Answer, Part, Stored, changed},
    web::failure,
};

/// A file of a commit.
pub(super) struct HubFile {
    api: Arc<Api>,
    location: HubLocation,
    /// The Hub's own URL, which may lead elsewhere.
    url: Url,
    size: u64,
    oid: Expected,
    kept: Mutex<Kept>,
}

/// Where a file's bytes were found.
#[derive(Clone)]
enum Kept {
    Unknown,
    AtTheHub,
    /// Elsewhere, by a URL that is good for a while, and is asked without a token.
    Elsewhere(Url),
}

/// The Hub, a mirror's redirect, a resolve cache, a store, and a few more.
const REDIRECTS_MAX: usize = 10;

impl HubFile {
    pub(super) fn new(api: Arc<Api>, commit: &HubLocation, item: &Item) -> Self {
        let (org, name) = commit.repository().split_once('/').unwrap_or_default();
        let url = api.url([org, name, "resolve", &commit.revision].into_iter().chain(item.path.split('/')));
        let location = HubLocation { path: item.path.clone(), ..commit.clone() };
        Self { api, location, url, size: item.size, oid: item.oid, kept: Mutex::new(Kept::Unknown) }
    }

    /// Fails if the file may not be read.
    pub(super) async fn ask_for_access(&self, backoff: Backoff) -> Result<(), Error> {
        retry(backoff, async || {
            let response = self.api.client.once(Method::HEAD, &self.url, self.api.headers(&self.url)).await?;
            match response.status() {
                status if status.is_success() || status.is_redirection() => Ok(()),
                _ => Err(self.api.refusal(response, &self.location).await),
            }
        })
        .await
        .map_err(|error: Error| throttled(&self.location, error))
    }

    async fn ask(&self, part: Part) -> Result<Answer, Error> {
        let mut kept = self.kept.lock().await;
        match kept.clone() {
            // Held while the Hub is asked, so that of many parts one finds the way for all.
            Kept::Unknown => {
                let (answer, found) = self.resolve(part).await?;
                *kept = found;
                Ok(answer)
            }
            Kept::AtTheHub => {
                drop(kept);
                Ok(self.resolve(part).await?.0)
            }
            Kept::Elsewhere(url) => {
                drop(kept);
                let response = self.api.client.once(Method::GET, &url, part.headers()).await?;
                let is_taken_back = |status: u16| matches!(status, 300..=399 | 400 | 401 | 403 | 404 | 410);
                if is_taken_back(response.status().as_u16()) {
                    let (answer, found) = self.resolve(part).await?;
                    *self.kept.lock().await = found;
                    return Ok(answer);
                }
                self.answer(part, response).await
            }
        }
    }

    /// Asks the Hub, and follows where it leads.
    async fn resolve(&self, part: Part) -> Result<(Answer, Kept), Error> {
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut headers = part.headers();
            let own: HeaderMap = self.api.headers(&url);
            if let Some(authorization) = own.get(AUTHORIZATION) {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let response = self.api.client.once(Method::GET, &url, headers).await?;
            if self.api.is_ours(&url) {
                self.check(&response)?;
            }
            if let Some(target) = redirect(&url, &response)? {
                url = target;
                continue;
            }
            let found = if self.api.is_ours(&url) { Kept::AtTheHub } else { Kept::Elsewhere(url) };
            return Ok((self.answer(part, response).await?, found));
        }
        let (method, url, target) = (Method::GET, self.shown(), "another place".to_owned());
        let why = "it is one redirect too many";
        Err(ocib_net::Error::Redirect { method, url, target, why }.into())
    }

    async fn answer(&self, part: Part, response: Response) -> Result<Answer, Error> {
        let status = response.status();
        if !status.is_success() && status != StatusCode::RANGE_NOT_SATISFIABLE {
            // Of repositories and tokens a store knows nothing.
            return Err(match self.api.is_ours(response.url()) {
                true => self.api.refusal(response, &self.location).await,
                false => failure(response).await.into(),
            });
        }
        part.answer(self, response)
    }

    /// Compares what the Hub says of the file now with its list.
    fn check(&self, response: &Response) -> Result<(), Error> {
        let header = |name: &str| response.header(name).map(|value| value.trim_matches('"').to_owned());
        let listed = match self.oid {
            Expected::Sha256(digest) | Expected::Given(digest) => {
                digest.to_string().trim_start_matches("sha256:").to_owned()
            }
            Expected::Blob(oid) => oid.to_string(),
        };
        // What is no name of the same kind says nothing.
        let same_kind = header("x-linked-etag").filter(|etag| etag.len() == listed.len());
        let Some(etag) = same_kind else { return Ok(()) };
        let size = header("x-linked-size").and_then(|size| size.parse().ok()).unwrap_or(self.size);
        match etag == listed && size == self.size {
            true => Ok(()),
            false => Err(changed(self, format!("the list of files has {listed}, the file is {etag}"))),
        }
    }
}

impl Stored for HubFile {
    fn get(&self, part: Part) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(self.ask(part))
    }

    fn length(&self) -> Option<u64> {
        Some(self.size)
    }

    fn shown(&self) -> Redacted {
        Redacted::of(&self.url)
    }
}

impl fmt::Debug for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubFile({})", self.shown())
    }
}
