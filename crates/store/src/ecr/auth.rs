//! Logging in to ECR: tokens of `GetAuthorizationToken`, one for each region.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials as Keys;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures_core::future::BoxFuture;
use ocib_image::{Credential, Credentials, PlaceError, Reference, Secret};
use ocib_net::{
    Http, Identity,
    aws::{Aws, Session},
    half_life,
};
use tokio::sync::Mutex as AsyncMutex;

use super::{EcrHost, EcrPublic, EcrRegistry, LayerApi, api, public};
use crate::{Cloud, Error};

/// Credentials for registries of ECR, private and public, out of an identity of AWS.
///
/// A token serves all that ask for its region, is minted by one of them, and is replaced when half of
/// its life is over, or of the session's that it was minted with, as it dies with that. The region is
/// that of the host, whatever the environment says.
///
/// ```
/// use std::{collections::BTreeMap, sync::Arc};
/// use ocib_net::{Http, HttpOptions, aws::Aws};
/// use ocib_store::{Cloud, EcrAuth};
///
/// let http = Arc::new(Http::new(HttpOptions::default()));
/// // A name of one's own for a registry of ECR.
/// let declared = BTreeMap::from([("images.corp.example".to_owned(), "123456789012/eu-west-1".parse()?)]);
/// let auth = EcrAuth::new(Aws::new(Arc::clone(&http)), http, declared);
/// assert!(auth.is_for("images.corp.example"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EcrAuth {
    aws: Aws,
    http: Arc<Http>,
    declared: BTreeMap<String, EcrHost>,
    /// By host without its account: a token is good for all registries that its identity may use.
    slots: Mutex<BTreeMap<EcrHost, Slot>>,
}

/// The lock is held while a token is minted.
type Slot = Arc<AsyncMutex<State>>;

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// Until when nobody is asked for a token of ECR Public again, as that was forbidden.
    nobody_until: Option<Instant>,
}

/// A token as AWS gives it.
pub(super) struct Token {
    pub(super) password: Secret,
    pub(super) expires: SystemTime,
}

struct Held {
    password: Secret,
    fresh_until: Instant,
    dead_at: Instant,
    session: Session,
}

/// ECR, "Registry authentication".
const USER: &str = "AWS";
/// If no new token can be had, the old one is used for so long before the next attempt.
const PAUSE: Duration = Duration::from_secs(30);

impl EcrAuth {
    /// Tokens of whoever `aws` is. `http` is for ECR Public; `declared` are hosts of ECR under other
    /// names, which `aws`'s keys never reach, only tokens do.
    pub fn new(aws: Aws, http: Arc<Http>, declared: BTreeMap<String, EcrHost>) -> Self {
        Self { aws, http, declared, slots: Mutex::default() }
    }

    /// What sends layers to `registry` in parts, if it is one of ECR; `journal` as for [`LayerApi::new`].
    pub fn layer_api(&self, registry: &str, journal: Option<PathBuf>) -> Option<LayerApi> {
        Some(LayerApi::new(self.aws.clone(), self.host(registry)?, journal))
    }

    /// The registry of ECR that `registry` is, by its name or as declared.
    pub fn host(&self, registry: &str) -> Option<EcrHost> {
        self.declared.get(registry).cloned().or_else(|| EcrHost::of(registry))
    }

    /// ECR's own API for `registry`, if it is a private registry of ECR, and if there is somebody in AWS to ask it:
    /// who has a token in a file can push without.
    pub async fn api(&self, registry: &str) -> Option<EcrRegistry> {
        let host = self.host(registry).filter(|host| !host.is_public())?;
        self.aws.session(&host.region).await.ok()?;
        Some(EcrRegistry::open(&self.aws, &host).await)
    }

    /// ECR Public's own API, if `registry` is that.
    pub fn public(&self, registry: &str) -> Option<EcrPublic> {
        self.host(registry).filter(EcrHost::is_public)?;
        Some(EcrPublic::new(self.aws.clone(), Arc::clone(&self.http)))
    }

    /// That `repository`, of whichever registry of ECR, does not exist.
    pub fn missing(&self, repository: &Reference) -> Error {
        let (name, registry) = (repository.repository().to_owned(), repository.registry().to_owned());
        match self.host(&registry).is_some_and(|host| host.is_public()) {
            true => Error::NoPublicRepository { name: public::public_name(&name).to_owned(), registry },
            false => Error::NoRepository { name, registry },
        }
    }

    /// Makes sure that there is a token for `registry`, if it is ECR's. ECR Public can be read without one, so
    /// there only who wants to write has to know why there is none.
    pub async fn demand(&self, registry: &str) -> Result<(), Error> {
        let Some(host) = self.host(registry) else { return Ok(()) };
        let slot = self.slot(&host);
        let mut state = slot.lock().await;
        self.fresh(&host, &mut state).await.map(drop)
    }

    fn slot(&self, host: &EcrHost) -> Slot {
        // The account of ECR Public tells it apart.
        let account = if host.is_public() { host.account.clone() } else { String::new() };
        let key = EcrHost { account, ..host.clone() };
        Arc::clone(self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    async fn credential(&self, host: &EcrHost) -> Result<Option<Credential>, Error> {
        let slot = self.slot(host);
        let mut state = slot.lock().await;
        if state.nobody_until.is_some_and(|end| Instant::now() < end) {
            return Ok(None);
        }
        match self.fresh(host, &mut state).await {
            Ok(credential) => Ok(Some(credential)),
            // Everybody may pull from there.
            Err(Error::Http(error)) if host.is_public() && error.is_absence() => Ok(None),
            Err(error) if host.is_public() && error.denial().is_some() => {
                state.nobody_until = Some(Instant::now() + PAUSE);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The token that is held, or a new one.
    async fn fresh(&self, host: &EcrHost, state: &mut State) -> Result<Credential, Error> {
        if let Some(held) = state.held.as_ref().filter(|held| Instant::now() < held.fresh_until) {
            return Ok(held.credential());
        }
        match self.mint(host).await {
            Ok(held) => Ok(state.held.insert(held).credential()),
            Err(error) => match state.held.as_mut().filter(|held| Instant::now() < held.dead_at) {
                Some(held) => {
                    held.fresh_until = Instant::now() + PAUSE;
                    Ok(held.credential())
                }
                None => Err(error),
            },
        }
    }

    async fn mint(&self, host: &EcrHost) -> Result<Held, Error> {
        let session = self.aws.session(&host.region).await?;
        let token = match host.is_public() {
            true => public::token(&self.http, &session.credentials).await?,
            false => api::token(&self.aws, host).await?,
        };
        let life = life(token.expires, &session.credentials, SystemTime::now());
        let now = Instant::now();
        let (fresh_until, dead_at) = (now + half_life(life), now + life);
        Ok(Held { password: token.password, fresh_until, dead_at, session })
    }

    async fn forget(&self, host: &EcrHost, refused: &Secret) {
        let slot = self.slot(host);
        let mut state = slot.lock().await;
        if let Some(held) = state.held.take_if(|held| held.password == *refused) {
            self.aws.forget(&held.session).await;
        }
    }
}

impl Held {
    fn credential(&self) -> Credential {
        Credential::Session {
            user: USER.to_owned(),
            token: self.password.clone(),
            fresh_until: self.fresh_until,
        }
    }
}

/// No token lives longer, whatever the answer says: 12 hours (ECR API reference, `GetAuthorizationToken`), and more to
/// spare.
const LIFE_MAX: Duration = Duration::from_secs(86_400);

/// How long a token lives that ends at `expires` and dies with `keys`.
fn life(expires: SystemTime, keys: &Keys, now: SystemTime) -> Duration {
    let end = keys.expiry().map_or(expires, |end| end.min(expires));
    end.duration_since(now).unwrap_or_default().min(LIFE_MAX)
}

/// The password in a token, which is the base64 of `AWS:password`.
pub(super) fn password(token: &str) -> Option<Secret> {
    let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
    text.strip_prefix("AWS:").map(Secret::new)
}

impl Credentials for EcrAuth {
    fn find<'a>(
        &'a self,
        repository: &'a Reference,
    ) -> BoxFuture<'a, Result<Option<Credential>, PlaceError>> {
        Box::pin(async move {
            let Some(host) = self.host(repository.registry()) else { return Ok(None) };
            Ok(self.credential(&host).await?)
        })
    }

    fn refused<'a>(&'a self, repository: &'a Reference, credential: &'a Credential) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let (Some(host), Credential::Session { token, .. }) =
                (self.host(repository.registry()), credential)
            {
                self.forget(&host, token).await;
            }
        })
    }
}

impl Cloud for EcrAuth {
    fn is_for(&self, registry: &str) -> bool {
        self.host(registry).is_some()
    }

    fn identity<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, (Option<Identity>, Option<String>)> {
        Box::pin(async move {
            let Some(host) = self.host(registry) else { return (None, None) };
            let Ok(session) = self.aws.session(&host.region).await else { return (None, None) };
            let identity = self.aws.identity(&host.region, &session).await;
            let configured = Aws::configured_region().await.filter(|region| *region != host.region);
            let note = configured.map(|region| {
                format!(
                    "the configured region is {region}, but the registry is in {}, which counts",
                    host.region
                )
            });
            (Some(identity), note)
        })
    }
}

impl fmt::Debug for EcrAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcrAuth").field("declared", &self.declared).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_dies_with_its_session() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let after = |seconds| now + Duration::from_secs(seconds);
        for (token, session, expected) in [
            (43_200, None, 43_200),
            (43_200, Some(3_600), 3_600),
            (900, Some(3_600), 900),
            (0, Some(3_600), 0),
            (1 << 40, None, 86_400),
        ] {
            let keys = Keys::new("key", "secret", None, session.map(after), "test");
            assert_eq!(life(after(token), &keys, now), Duration::from_secs(expected), "{token} {session:?}");
        }
    }

    #[test]
    fn passwords_in_tokens() {
        for (token, expected) in
            [("QVdTOnBhc3M=", Some("pass")), ("TUU6cGFzcw==", None), ("not base64", None), ("", None)]
        {
            assert_eq!(password(token).as_ref().map(Secret::reveal), expected, "{token}");
        }
    }
}
