//! Proofs of identity: tokens and passwords for scopes (Docker's token authentication
//! specification, "Requesting a Token" and "OAuth2").

use std::{collections::BTreeSet, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL},
};
use ocib_image::{Credential, Reference, Secret};
use ocib_net::{
    Body, Http, Method, Redacted, Request, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    printable,
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Repository, answer, challenge::Challenge, endpoint::Endpoint};
use crate::Error;

/// What somebody wants to do, in which repositories.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Scopes(BTreeSet<String>);

impl Scopes {
    /// To read from `repository`.
    pub(super) fn pull(repository: &Reference) -> Self {
        Self([format!("repository:{}:pull", repository.repository())].into())
    }

    /// To write to `repository`.
    pub(super) fn push(repository: &Reference) -> Self {
        Self([format!("repository:{}:pull,push", repository.repository())].into())
    }

    /// These and those.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// These, and what the registry itself asked for, where that is not about a repository:
    /// public.ecr.aws wants the scope `aws`.
    fn with_asked(&self, asked: Option<&str>) -> Self {
        let words = asked.unwrap_or_default().split(' ');
        let others = words.filter(|word| !word.is_empty() && !word.starts_with("repository:"));
        Self(others.map(str::to_owned).collect()).and(self.clone())
    }
}

/// What goes into `Authorization`, and until when.
#[derive(Debug)]
pub(super) struct Proof {
    /// The header's value, marked sensitive.
    pub(super) header: HeaderValue,
    fresh_until: Option<Instant>,
    /// What is in it as it was found, so that its owner can be told if it is refused.
    pub(super) credential: Option<Credential>,
}

/// Longest answer of a token endpoint; the largest tokens seen have some 10 KiB.
const TOKEN_BYTES_MAX: usize = 1 << 20;
/// What a token endpoint that says nothing means (Docker's specification, `expires_in`).
const LIFE_DEFAULT: Duration = Duration::from_secs(60);
/// No token is used for longer, whatever its endpoint says.
const LIFE_MAX: Duration = Duration::from_secs(86_400);
/// The name under which ocib asks for tokens.
const CLIENT_ID: &str = "ocib";

impl Proof {
    /// Makes the proof that `challenge` wants from whoever works in `repository`. `None` where
    /// only a password helps and there is none.
    pub(super) async fn make(
        challenge: &Challenge,
        endpoint: &Endpoint,
        repository: &Repository,
    ) -> Result<Option<Self>, Error> {
        let base = &endpoint.base;
        let credential = repository.options().credentials.find(&repository.name).await?;
        let registry = || repository.name.registry().to_owned();
        match (challenge, credential) {
            (Challenge::Basic, None) => Ok(None),
            (Challenge::Basic, Some(credential)) => match Self::basic(credential) {
                Some(proof) => Ok(Some(proof)),
                None => Err(Error::NeedsPassword { registry: registry() }),
            },
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let realm = base.join(realm).map_err(|_| Error::BadRealm { registry: registry() })?;
                if credential.is_some() && !may_know(base, &realm, &repository.options().trusted_realms) {
                    return Err(Error::ForeignRealm { registry: registry(), realm: Redacted::of(&realm) });
                }
                let scopes = repository.scopes.with_asked(scope.as_deref());
                let request = token_request(realm, service.as_deref(), &scopes, credential.as_ref());
                let fetched = Self::fetch(&endpoint.http, request, repository).await;
                if let (Err(error), Some(credential)) = (&fetched, &credential)
                    && error.is_stale()
                {
                    repository.options().credentials.refused(&repository.name, credential).await;
                }
                fetched.map(Some)
            }
        }
    }

    fn basic(credential: Credential) -> Option<Self> {
        let (header, fresh_until) = match &credential {
            Credential::Basic { user, password } => (basic(user, password), None),
            Credential::Session { user, token, fresh_until } => {
                (basic(user, token), Some(Instant::from_std(*fresh_until)))
            }
            Credential::IdentityToken(_) => return None,
        };
        Some(Self { header, fresh_until, credential: Some(credential) })
    }

    async fn fetch(http: &Http, request: Request, repository: &Repository) -> Result<Self, Error> {
        // Docker Hub and others send both names. Whoever sends something else as a life means none.
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<serde_json::Value>,
        }
        let asked = Instant::now();
        // The body of a POST is a secret, so no redirect may take it elsewhere.
        let response = match request.method {
            Method::POST => http.send_once(request).await?,
            _ => http.send(request).await?,
        };
        if !response.status().is_success() {
            return Err(answer::failure(response).await);
        }
        let (method, url) = (response.method().clone(), Redacted::of(response.url()));
        let answer = response.bytes(TOKEN_BYTES_MAX).await?;
        let answer: Option<Answer> = serde_json::from_slice(&answer).ok();
        let life = answer.as_ref().and_then(|answer| answer.expires_in.as_ref()?.as_u64());
        let life = life.map(|seconds| Duration::from_secs(seconds).min(LIFE_MAX));
        let token = answer.and_then(|answer| {
            let named = answer.token.filter(|token| !token.is_empty());
            named.or(answer.access_token).filter(|token| !token.is_empty())
        });
        if let Some(token) = &token {
            check_granted(token, repository)?;
        }
        let header = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        let Some(mut header) = header else {
            return Err(Error::Incomplete { method, url, what: "a token" });
        };
        header.set_sensitive(true);
        let fresh_until = Some(asked + usable(life.unwrap_or(LIFE_DEFAULT)));
        Ok(Self { header, fresh_until, credential: None })
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.fresh_until.is_none_or(|end| Instant::now() < end)
    }
}

/// Docker Hub and others give a token for less than was asked for, with status 200; what is missing then
/// fails as if nobody had logged in. Tokens that say what they are for do it in the claim `access`
/// (distribution's token specification, "Requested Resource Access"); others are taken as they are.
fn check_granted(token: &str, repository: &Repository) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Claims {
        access: Option<Vec<Access>>,
    }
    #[derive(Deserialize)]
    struct Access {
        name: String,
        #[serde(default)]
        actions: Vec<String>,
    }
    let name = repository.name.repository();
    let is_asked = repository.scopes.0.contains(&format!("repository:{name}:pull,push"));
    let claims = token.split('.').nth(1).and_then(|part| BASE64_URL.decode(part.trim_end_matches('=')).ok());
    let claims: Option<Claims> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    let Some(access) = claims.and_then(|claims| claims.access).filter(|_| is_asked) else { return Ok(()) };
    let own = access.into_iter().filter(|access| access.name == name);
    let granted: BTreeSet<String> = own.flat_map(|access| access.actions).collect();
    if granted.contains("push") || granted.contains("*") {
        return Ok(());
    }
    let granted = granted.iter().map(|action| printable(action.as_bytes(), 20)).collect();
    Err(Error::NotGranted { repository: repository.name.name(), granted })
}

/// For how long of its life a token is used: it must also arrive in time, past differing clocks.
fn usable(life: Duration) -> Duration {
    life.saturating_sub(Duration::from_secs(10).min(life / 4))
}

fn basic(user: &str, password: &Secret) -> HeaderValue {
    let joined = BASE64.encode(format!("{user}:{}", password.reveal()));
    let mut header =
        HeaderValue::try_from(format!("Basic {joined}")).expect("base64 has only visible characters");
    header.set_sensitive(true);
    header
}

fn token_request(
    mut realm: Url,
    service: Option<&str>,
    scopes: &Scopes,
    credential: Option<&Credential>,
) -> Request {
    if let Some(Credential::IdentityToken(token)) = credential {
        return refresh_request(realm, service, scopes, token);
    }
    {
        let mut query = realm.query_pairs_mut();
        query.append_pair("client_id", CLIENT_ID);
        service.iter().for_each(|service| {
            query.append_pair("service", service);
        });
        scopes.0.iter().for_each(|scope| {
            query.append_pair("scope", scope);
        });
    }
    let mut request = Request::new(Method::GET, realm);
    if let Some(
        Credential::Basic { user, password: secret } | Credential::Session { user, token: secret, .. },
    ) = credential
    {
        request.headers.insert(AUTHORIZATION, basic(user, secret));
    }
    request
}

fn refresh_request(realm: Url, service: Option<&str>, scopes: &Scopes, token: &Secret) -> Request {
    let scopes: Vec<&str> = scopes.0.iter().map(String::as_str).collect();
    // A query's encoding is a form's.
    let mut form = realm.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("refresh_token", token.reveal())
        .append_pair("client_id", CLIENT_ID)
        .append_pair("service", service.unwrap_or_default())
        .append_pair("scope", &scopes.join(" "));
    let body = form.query().unwrap_or_default().to_owned();
    let mut request = Request::new(Method::POST, realm);
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    request.body = Body::Bytes(body.into());
    request
}

/// Token endpoints on other domains than their registries'.
const REALMS: [(&str, &str); 2] =
    [("registry-1.docker.io", "auth.docker.io"), ("scw.cloud", "api.scaleway.com")];

/// Whether the token endpoint `realm` may see the credentials of the registry at `base`: it is the
/// same host, one of the registry's domain, in the table, or trusted by the user; and over https,
/// unless the registry itself is allowed to be plain.
fn may_know(base: &Url, realm: &Url, trusted: &BTreeSet<String>) -> bool {
    let (Some(registry), Some(host)) = (base.host_str(), realm.host_str()) else { return false };
    let is_within = |name: &str, domain: &str| {
        name == domain || name.strip_suffix(domain).is_some_and(|before| before.ends_with('.'))
    };
    let is_sibling = registry.split_once('.').is_some_and(|(_, domain)| {
        domain.contains('.') && registry.parse::<std::net::Ipv4Addr>().is_err() && is_within(host, domain)
    });
    let is_listed = REALMS.iter().any(|(of, realm)| is_within(registry, of) && host == *realm);
    let is_secret = realm.scheme() == "https" || base.scheme() == "http";
    is_secret && (host == registry || is_sibling || is_listed || trusted.contains(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realms_that_may_know() {
        let trusted = BTreeSet::from(["sso.example.org".to_owned()]);
        for (base, realm, expected) in [
            ("https://ghcr.io", "https://ghcr.io/token", true),
            ("https://registry-1.docker.io", "https://auth.docker.io/token", true),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true),
            ("https://registry.corp.example", "https://login.corp.example/t", true),
            ("https://rg.fr-par.scw.cloud", "https://api.scaleway.com/t", true),
            ("https://quay.io", "https://evil.io/token", false),
            ("https://registry.gitlab.com", "https://evilgitlab.com/t", false),
            ("https://ghcr.io", "http://ghcr.io/token", false),
            ("https://a.example", "https://sso.example.org/t", true),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/t", true),
            ("http://127.0.0.1:5000", "http://0.0.0.1/t", false),
        ] {
            let (base, realm) = (base.parse().unwrap(), realm.parse().unwrap());
            assert_eq!(may_know(&base, &realm, &trusted), expected, "{base} {realm}");
        }
    }

    #[test]
    fn requests_for_tokens() {
        let (dst, src): (Reference, Reference) = ("r.x/a/b".parse().unwrap(), "r.x/c".parse().unwrap());
        let scopes = Scopes::push(&dst).and(Scopes::pull(&src)).with_asked(Some("aws repository:z:pull"));
        let realm: Url = "https://r.x/token?account=me".parse().unwrap();
        let basic = Credential::Basic { user: "u".into(), password: Secret::new("p") };
        let request = token_request(realm.clone(), Some("r.x"), &scopes, Some(&basic));
        let query = "account=me&client_id=ocib&service=r.x&scope=aws&scope=repository%3Aa%2Fb%3Apull%2Cpush\
                     &scope=repository%3Ac%3Apull";
        assert_eq!(request.url.query(), Some(query));
        assert_eq!(request.headers[AUTHORIZATION], "Basic dTpw");
        assert_eq!(format!("{:?}", request.headers[AUTHORIZATION]), "Sensitive");

        let request = token_request(
            realm,
            None,
            &Scopes::pull(&src),
            Some(&Credential::IdentityToken(Secret::new("t&"))),
        );
        let Body::Bytes(form) = request.body else { panic!("a form is bytes") };
        assert_eq!(
            String::from_utf8_lossy(&form),
            "grant_type=refresh_token&refresh_token=t%26&client_id=ocib&service=&scope=repository%3Ac%3Apull"
        );
    }

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        for (life, expected) in [(60, 50), (300, 290), (8, 6), (0, 0)] {
            assert_eq!(usable(Duration::from_secs(life)), Duration::from_secs(expected), "{life}");
        }
    }
}
