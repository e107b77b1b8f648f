//! Endpoints: where a registry is served, and what was learnt about it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ocib_net::{
    Http, Method, Request, StatusCode, Url,
    header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};

use super::{Repository, Scopes, challenge::Challenge, pace::Pace, token::Proof};
use crate::{Error, RegistryConfig};

/// Docker Hub's registry has another name than its images.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// One registry's host.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Scheme, host and port; the API is below `/v2/`.
    pub(super) base: Url,
    /// How it is spoken to: what holds for its host alone is in here.
    pub(super) http: Arc<Http>,
    /// How fast it may be asked.
    pub(super) pace: Pace,
    challenge: Mutex<Option<Challenge>>,
    proofs: Mutex<BTreeMap<(String, Scopes), ProofSlot>>,
}

/// The lock is held while a proof is made, so that one request makes it for all that wait.
type ProofSlot = Arc<tokio::sync::Mutex<Option<Proof>>>;

impl Endpoint {
    /// Finds out how `registry` is served: https, but a host that may be plain is asked.
    pub(super) async fn open(
        registry: &str,
        is_insecure: bool,
        config: &RegistryConfig,
        http: &Arc<Http>,
    ) -> Result<Self, Error> {
        let host = if registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { registry };
        let http = config.http(http, registry, host, is_insecure)?;
        let [https, plain] = ["https", "http"].map(|scheme| base(scheme, host));
        let (https, plain) = (https?, plain?);
        if !http.may_be_plain(&plain) && !http.may_be_plain(&https) {
            return Ok(Self::at(https, http));
        }
        // A host that was named insecure gets a chance to be better than its name; on loopback
        // nobody listens in, and there the registries without TLS are.
        let order = match http.is_insecure(&plain) || http.is_insecure(&https) {
            true => [https, plain],
            false => [plain, https],
        };
        let (mut failure, mut mismatch) = (None, None);
        for base in order {
            let request =
                Request::new(Method::GET, base.join("v2/").expect("a constant path joins any base"));
            match http.send(request).await {
                // What a server of TLS answers to plain http (Go, nginx).
                Ok(response) if response.status() == StatusCode::BAD_REQUEST && base.scheme() == "http" => {
                    mismatch = Some(super::answer::failure(response).await);
                }
                Ok(response) => {
                    let endpoint = Self::at(base, http);
                    endpoint.learn(response.headers());
                    return Ok(endpoint);
                }
                Err(error) => {
                    failure.get_or_insert(error.into());
                }
            }
        }
        Err(failure.or(mismatch).expect("both bases were tried, and each left its failure"))
    }

    fn at(base: Url, http: Arc<Http>) -> Self {
        Self { base, http, pace: Pace::default(), challenge: Mutex::default(), proofs: Mutex::default() }
    }

    /// A URL of the API; `path` is made of repository names, digests and tags, which need no escaping.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }

    /// Whether `url` is of this registry, so that it may see its proofs.
    pub(super) fn is_at(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// Remembers the challenge among `headers`.
    pub(super) fn learn(&self, headers: &HeaderMap) {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        if let Some(challenge) = Challenge::best(texts) {
            *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge);
        }
    }

    /// Takes it that the registry makes this challenge, unless it has made another.
    pub(super) fn presume(&self, challenge: Option<Challenge>) {
        let mut known = self.challenge.lock().unwrap_or_else(PoisonError::into_inner);
        *known = known.take().or(challenge);
    }

    /// The proof that `repository` needs: none before the registry has asked for one, and none
    /// where there is no credential for what needs one.
    pub(super) async fn prove(&self, repository: &Repository) -> Result<Option<HeaderValue>, Error> {
        let challenge = self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(challenge) = challenge else { return Ok(None) };
        let slot = self.slot(repository);
        let mut slot = slot.lock().await;
        if let Some(proof) = slot.as_ref().filter(|proof| proof.is_fresh()) {
            return Ok(Some(proof.header.clone()));
        }
        *slot = Proof::make(&challenge, self, repository).await?;
        Ok(slot.as_ref().map(|proof| proof.header.clone()))
    }

    /// Drops the proof that was refused, unless somebody has already replaced it, and tells the owner
    /// of the credential in it.
    pub(super) async fn forget(&self, repository: &Repository, refused: Option<&HeaderValue>) {
        let slot = self.slot(repository);
        let mut slot = slot.lock().await;
        if slot.as_ref().map(|proof| &proof.header) != refused {
            return;
        }
        if let Some(credential) = slot.take().and_then(|proof| proof.credential) {
            repository.options().credentials.refused(&repository.name, &credential).await;
        }
    }

    fn slot(&self, repository: &Repository) -> ProofSlot {
        let key = (repository.name.repository().to_owned(), repository.scopes.clone());
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(proofs.entry(key).or_default())
    }
}

fn base(scheme: &str, host: &str) -> Result<Url, Error> {
    let name = || Error::NoRegistryName { name: host.to_owned() };
    Url::parse(&format!("{scheme}://{host}/")).map_err(|_| name())
}
