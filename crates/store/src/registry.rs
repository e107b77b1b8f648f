//! Registries: one client for all of them (distribution-spec 1.1, and Docker's token authentication).

mod answer;
mod blob;
mod challenge;
mod endpoint;
mod foresee;
mod manifest;
mod pace;
mod present;
mod probe;
mod profile;
mod pull;
mod push;
mod token;
mod transfer;
mod upload;
mod verified;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use ocib_image::{Credentials, Reference};
use ocib_net::{Backoff, Http, HttpOptions, Method, Request, Response, StatusCode, Url, header};
use tokio::sync::OnceCell;

#[cfg(feature = "ecr")]
pub(crate) use self::transfer::limited;
pub use self::{
    blob::RegistryBlob,
    foresee::{Fate, Foreseen, Foresight},
    probe::{Greeting, Tagged, Tried, Write},
    pull::RegistryOrigin,
    push::{HashFirst, PushOptions, RegistrySink},
};
use self::{endpoint::Endpoint, profile::Profile, token::Scopes};
use crate::{Anonymous, Error, RegistryConfig};

/// How to speak to registries.
#[derive(Clone)]
pub struct RegistriesOptions {
    /// Who ocib is.
    pub credentials: Arc<dyn Credentials>,
    /// How HTTP is spoken.
    pub http: Arc<Http>,
    /// Where registries really are, and what each is trusted by.
    pub config: Arc<RegistryConfig>,
    /// Who is told of mirrors that are passed over.
    pub on_mirror_failure: OnMirrorFailure,
    /// How often and how fast failures are tried again.
    pub backoff: Backoff,
    /// Hosts that are another one under a name of their own, and so take what that one is known to take.
    pub known_as: BTreeMap<String, String>,
    /// Hosts of token endpoints that may see credentials though they are of another domain than
    /// the registry that names them.
    pub trusted_realms: BTreeSet<String>,
}

impl Default for RegistriesOptions {
    /// Anonymous, https only but for loopback.
    fn default() -> Self {
        Self {
            credentials: Arc::new(Anonymous),
            http: Arc::new(Http::new(HttpOptions::default())),
            config: Arc::default(),
            on_mirror_failure: Arc::new(|_| {}),
            backoff: Backoff::default(),
            known_as: BTreeMap::new(),
            trusted_realms: BTreeSet::new(),
        }
    }
}

impl fmt::Debug for RegistriesOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistriesOptions").field("http", &self.http).finish_non_exhaustive()
    }
}

/// A mirror that is passed over.
#[derive(Debug)]
#[non_exhaustive]
pub struct MirrorFailure<'a> {
    /// The image's name.
    pub name: &'a Reference,
    /// What it is called in the mirror.
    pub mirror: &'a Reference,
    /// Why it is not taken from there.
    pub error: &'a Error,
}

impl fmt::Display for MirrorFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not taken from the mirror {}: {}", self.name, self.mirror, self.error)
    }
}

/// Takes what went wrong with each name in each mirror, once.
pub type OnMirrorFailure = Arc<dyn Fn(&MirrorFailure<'_>) + Send + Sync>;

/// A client for all registries; clones share connections, tokens and what was learnt of each host.
///
/// Every byte that it pulls is verified. Transient failures are tried again; a 401 renews the token
/// once. Credentials go to their registry and its token endpoint only. Must be used within a runtime
/// of tokio.
///
/// ```
/// use ocib_store::{Registries, RegistriesOptions};
/// let registries = Registries::new(RegistriesOptions::default());
/// # let _ = registries;
/// ```
#[derive(Clone, Debug)]
pub struct Registries {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: RegistriesOptions,
    /// By registry, and whether it may be insecure, which can differ within one.
    endpoints: Mutex<BTreeMap<(String, bool), EndpointCell>>,
    /// Mirrored names that were told of.
    passed_over: Mutex<BTreeSet<Reference>>,
}

/// An endpoint that is found out by the first who asks.
type EndpointCell = Arc<OnceCell<Endpoint>>;

impl Registries {
    /// A client that spoke to nobody yet.
    pub fn new(options: RegistriesOptions) -> Self {
        Self {
            shared: Arc::new(Shared { options, endpoints: Mutex::default(), passed_over: Mutex::default() }),
        }
    }

    /// A client of the same settings that is as patient as `backoff` says, and spoke to nobody yet.
    #[must_use]
    pub fn with_backoff(&self, backoff: Backoff) -> Self {
        Self::new(RegistriesOptions { backoff, ..self.shared.options.clone() })
    }

    /// What `registry` takes.
    fn profile(&self, registry: &str) -> Profile {
        Profile::of(self.shared.options.known_as.get(registry).map_or(registry, String::as_str))
    }

    /// Whether there is a credential for `repository`, from wherever.
    #[cfg(feature = "ecr")]
    pub(crate) async fn has_login(&self, repository: &Reference) -> Result<bool, Error> {
        Ok(self.shared.options.credentials.find(repository).await?.is_some())
    }

    fn pass_over(&self, failure: &MirrorFailure<'_>) {
        let mut known = self.shared.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert(failure.mirror.clone()) {
            (self.shared.options.on_mirror_failure)(failure);
        }
    }

    /// The repository at the place that its name says, whatever mirrors it has.
    fn repository(&self, name: &Reference, scopes: Scopes) -> Repository {
        let is_insecure = self.shared.options.config.is_insecure(name);
        let backoff = self.shared.options.backoff;
        Repository { registries: self.clone(), name: name.clone(), scopes, is_insecure, backoff }
    }
}

/// How often a request is sent that the registry wants later, each time at a slower pace.
const TOO_SOON_MAX: usize = 12;

/// One repository, and what is to be done in it.
#[derive(Clone, Debug)]
struct Repository {
    registries: Registries,
    name: Reference,
    scopes: Scopes,
    /// Whether its host may be spoken to over plain http or an unverified https.
    is_insecure: bool,
    backoff: Backoff,
}

impl Repository {
    fn options(&self) -> &RegistriesOptions {
        &self.registries.shared.options
    }

    /// The same repository with leave to do something else.
    fn with_scopes(&self, scopes: Scopes) -> Self {
        Self { scopes, ..self.clone() }
    }

    /// `path` within the repository's part of the API.
    async fn url(&self, path: &str) -> Result<Url, Error> {
        let cell = self.cell();
        Ok(self.endpoint(&cell).await?.url(&format!("{}/{path}", self.name.repository())))
    }

    /// Where the repository is served, found out once for all that ask.
    async fn endpoint<'a>(&self, cell: &'a OnceCell<Endpoint>) -> Result<&'a Endpoint, Error> {
        let RegistriesOptions { config, http, .. } = self.options();
        config.check(&self.name)?;
        let registry = self.name.registry();
        let open = || async {
            let endpoint = Endpoint::open(registry, self.is_insecure, config, http).await?;
            endpoint.presume(self.registries.profile(registry).challenge());
            Ok(endpoint)
        };
        cell.get_or_try_init(open).await
    }

    fn cell(&self) -> EndpointCell {
        let endpoints = &self.registries.shared.endpoints;
        let mut endpoints = endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(endpoints.entry((self.name.registry().to_owned(), self.is_insecure)).or_default())
    }

    /// Sends `request` and returns the answer, whatever its status. Requests to the registry's own
    /// hosts keep its pace: one that comes too soon is sent again later, unless its body can be sent
    /// only once.
    async fn exchange(&self, mut request: Request) -> Result<Response, Error> {
        let cell = self.cell();
        let endpoint = self.endpoint(&cell).await?;
        if !endpoint.is_at(&request.url) {
            return Ok(endpoint.http.send(request).await?);
        }
        for _ in 0..TOO_SOON_MAX {
            let began = endpoint.pace.turn().await;
            let again = request.again();
            let response = self.exchange_proven(endpoint, request).await?;
            if response.status() != StatusCode::TOO_MANY_REQUESTS {
                endpoint.pace.speed_up();
                return Ok(response);
            }
            endpoint.pace.slow_down(began, response.retry_after());
            match again {
                Some(again) => request = again,
                None => return Ok(response),
            }
        }
        endpoint.pace.turn().await;
        self.exchange_proven(endpoint, request).await
    }

    /// Sends `request` once, with a proof of identity; if that turns out stale, a new one is made and
    /// the request is sent again, unless its body can be sent only once: the caller then gets the 401
    /// and can start over.
    async fn exchange_proven(&self, endpoint: &Endpoint, mut request: Request) -> Result<Response, Error> {
        let http = &endpoint.http;
        let again = request.again();
        let proof = endpoint.prove(self).await?;
        proof.iter().for_each(|proof| {
            request.headers.insert(header::AUTHORIZATION, proof.clone());
        });
        let mut response = http.send(request).await?;
        if !endpoint.is_at(response.url()) || !answer::is_stale(&mut response).await {
            return Ok(response);
        }
        endpoint.learn(response.headers());
        endpoint.forget(self, proof.as_ref()).await;
        let Some(mut request) = again else { return Ok(response) };
        let Some(proof) = endpoint.prove(self).await? else { return Ok(response) };
        request.headers.insert(header::AUTHORIZATION, proof);
        Ok(http.send(request).await?)
    }

    /// Sends `request` once; an answer that is neither a success nor one of `accepted` is an error.
    async fn expect(&self, request: Request, accepted: &[u16]) -> Result<Response, Error> {
        // An answer to HEAD has no body, and only a body says why: ask again as GET.
        let explained = (request.method == Method::HEAD).then(|| request.again()).flatten();
        let response = self.exchange(request).await?;
        let status = response.status();
        if status.is_success() || accepted.contains(&status.as_u16()) {
            return Ok(response);
        }
        let response = match explained {
            Some(request) if status.is_client_error() => {
                let again = request.again();
                let explained = self.exchange(Request { method: Method::GET, ..request }).await?;
                match again {
                    // The reason was a stale proof, which is renewed by now.
                    Some(again) if explained.status().is_success() => self.exchange(again).await?,
                    _ => explained,
                }
            }
            _ => response,
        };
        let status = response.status();
        if status.is_success() || accepted.contains(&status.as_u16()) {
            return Ok(response);
        }
        Err(answer::failure(response).await)
    }
}
