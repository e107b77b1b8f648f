//! Identities, their keys and sessions, and the tokens that ECR mints for them.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ocib_image::Digest;

use super::{
    iam::{Policy, denied},
    refusal::Refusal,
    sigv4::Signed,
};

/// What signs requests: of a user, or temporary, of a session. Its secrets are not in its `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// `AKIA…`, temporary ones `ASIA…`.
    pub id: String,
    /// The secret access key.
    pub secret: String,
    /// Only temporary keys have one.
    pub session_token: Option<String>,
    /// Whose it is, as messages name it.
    pub arn: String,
    /// When a temporary key ends.
    pub expires: Option<SystemTime>,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).field("arn", &self.arn).finish_non_exhaustive()
    }
}

/// What a registered client of IAM Identity Center renews a login by, as `aws sso login` leaves it. Its secrets are
/// not in its `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SsoClient {
    /// The client's name.
    pub id: String,
    /// What proves that it is the client.
    pub secret: String,
    /// Good for one renewal.
    pub refresh_token: String,
}

impl fmt::Debug for SsoClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SsoClient").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Who may become a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Identities of the account whose policy allows `sts:AssumeRole`.
    Account,
    /// Who shows this token of an identity provider, such as a pod's or a pipeline's.
    WebIdentity(String),
}

/// Who makes a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    /// As messages and GetCallerIdentity name it.
    pub(super) arn: String,
    /// The user or role whose policy counts.
    principal: String,
    key: String,
}

#[derive(Debug, Default)]
pub(super) struct Accounts {
    account: String,
    partition: &'static str,
    /// By ARN.
    principals: BTreeMap<String, Principal>,
    /// By access key ID, with the principal's ARN.
    keys: BTreeMap<String, (AccessKey, String)>,
    /// By password, with the access key's ID.
    tokens: BTreeMap<String, (SystemTime, String)>,
    /// By access token of the portal, with the role's ARN.
    portal: BTreeMap<String, String>,
    /// Logins that their client may renew, by refresh token, with the role's ARN.
    renewable: BTreeMap<String, (SsoClient, String)>,
    made: u64,
    seed: String,
}

#[derive(Debug)]
struct Principal {
    policy: Policy,
    trust: Trust,
}

impl Accounts {
    pub(super) fn new(account: &str, partition: &'static str) -> Self {
        // Nothing that is minted here is the same in two tests, so that finding one in an output is proof.
        let seed = format!("{:?}", SystemTime::now());
        Self { account: account.to_owned(), partition, seed, ..Self::default() }
    }

    pub(super) fn add_user(&mut self, name: &str, policy: Policy) -> AccessKey {
        let arn = self.arn("user", name);
        self.principals.insert(arn.clone(), Principal { policy, trust: Trust::Account });
        let key = AccessKey {
            id: self.opaque("AKIA", 16).to_ascii_uppercase(),
            secret: self.opaque("", 40),
            session_token: None,
            arn: arn.clone(),
            expires: None,
        };
        self.keys.insert(key.id.clone(), (key.clone(), arn));
        key
    }

    pub(super) fn add_role(&mut self, name: &str, policy: Policy, trust: Trust) -> String {
        let arn = self.arn("role", name);
        self.principals.insert(arn.clone(), Principal { policy, trust });
        arn
    }

    pub(super) fn set_policy(&mut self, arn: &str, policy: Policy) {
        self.principals.get_mut(arn).unwrap_or_else(|| panic!("{arn} does not exist")).policy = policy;
    }

    /// A session of a role that exists.
    pub(super) fn start_session(&mut self, role: &str, session: &str, expires: SystemTime) -> AccessKey {
        assert!(self.principals.contains_key(role), "{role} does not exist");
        let name = role.rsplit('/').next().unwrap_or_default();
        let key = AccessKey {
            id: self.opaque("ASIA", 16).to_ascii_uppercase(),
            secret: self.opaque("", 40),
            session_token: Some(self.opaque("IQoJ", 300)),
            arn: format!("arn:{}:sts::{}:assumed-role/{name}/{session}", self.partition, self.account),
            expires: Some(expires),
        };
        self.keys.insert(key.id.clone(), (key.clone(), role.to_owned()));
        key
    }

    /// An access token of the portal that stands for a role.
    pub(super) fn sso_login(&mut self, role: &str) -> String {
        let token = self.opaque("aoaAAAAAG", 120);
        self.portal.insert(token.clone(), role.to_owned());
        token
    }

    /// What renews a login that stands for a role.
    pub(super) fn sso_client(&mut self, role: &str) -> SsoClient {
        let client = SsoClient {
            id: self.opaque("", 22),
            secret: self.opaque("eyJraWQi", 200),
            refresh_token: self.opaque("aorAAAAAG", 120),
        };
        self.renewable.insert(client.refresh_token.clone(), (client.clone(), role.to_owned()));
        client
    }

    /// A new access token and refresh token for who shows `shown`, and the end of the old refresh token.
    pub(super) fn sso_renew(&mut self, shown: &SsoClient) -> Option<(String, String)> {
        let role = match self.renewable.get(&shown.refresh_token) {
            Some((client, role)) if client == shown => role.clone(),
            _ => return None,
        };
        self.renewable.remove(&shown.refresh_token);
        let next = SsoClient { refresh_token: self.opaque("aorAAAAAG", 120), ..shown.clone() };
        self.renewable.insert(next.refresh_token.clone(), (next.clone(), role.clone()));
        Some((self.sso_login(&role), next.refresh_token))
    }

    /// The role that an access token of the portal stands for.
    pub(super) fn sso_role(&self, token: &str) -> Option<String> {
        self.portal.get(token).cloned()
    }

    pub(super) fn trust(&self, role: &str) -> Option<&Trust> {
        self.principals.get(role).map(|principal| &principal.trust)
    }

    /// Who signed a request for this service.
    pub(super) fn authenticate(
        &self,
        signed: &Signed<'_>,
        service: &str,
        region: &str,
        now: SystemTime,
    ) -> Result<Caller, Refusal> {
        let claim = signed.claim()?;
        let unknown = || {
            let text = "The security token included in the request is invalid.";
            Refusal::signature("UnrecognizedClientException", text)
        };
        let (key, principal) = self.keys.get(claim.access_key).ok_or_else(unknown)?;
        if key.session_token.as_deref() != signed.header("x-amz-security-token") {
            return Err(unknown());
        }
        claim.check(signed, &key.secret, service, region, now)?;
        if key.expires.is_some_and(|expires| expires <= now) {
            let text = "The security token included in the request is expired";
            return Err(Refusal::signature("ExpiredTokenException", text));
        }
        Ok(Caller { arn: key.arn.clone(), principal: principal.clone(), key: key.id.clone() })
    }

    /// Who has a token of ours, shown as ECR's data plane wants it: Basic, with the user `AWS`, or as ECR
    /// Public's does, whose bearer tokens are the same here.
    pub(super) fn login(&self, authorization: &str, now: SystemTime) -> Result<Caller, Refusal> {
        let password = password(authorization).ok_or_else(Refusal::token_invalid)?;
        let (expires, key) = self.tokens.get(&password).ok_or_else(Refusal::token_invalid)?;
        let (key, principal) = &self.keys[key];
        // The token dies with its session, whatever its own life.
        if *expires <= now || key.expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::token_expired());
        }
        Ok(Caller { arn: key.arn.clone(), principal: principal.clone(), key: key.id.clone() })
    }

    /// Whether this identity may do that.
    pub(super) fn authorize(&self, caller: &Caller, right: &str, resource: &str) -> Result<(), Refusal> {
        let judged = self.principals[&caller.principal].policy.judge(right, resource);
        judged.map_err(|denial| Refusal::denied(denied(&caller.arn, right, resource, denial)))
    }

    /// A password for the data plane.
    pub(super) fn mint(&mut self, key: &str, expires: SystemTime) -> String {
        let (payload, data_key) = (self.opaque("", 600), self.opaque("AQEBAHh", 180));
        let token =
            format!(r#"{{"payload":"{payload}","datakey":"{data_key}","version":"2","type":"DATA_KEY"}}"#);
        let password = STANDARD.encode(token);
        self.tokens.insert(password.clone(), (expires, key.to_owned()));
        password
    }

    pub(super) fn mint_for(&mut self, caller: &Caller, expires: SystemTime) -> String {
        self.mint(&caller.key, expires)
    }

    /// Ends every token that was minted so far.
    pub(super) fn expire_tokens(&mut self) {
        self.tokens.values_mut().for_each(|(expires, _)| *expires = SystemTime::UNIX_EPOCH);
    }

    /// Ends every session that was started so far.
    pub(super) fn expire_sessions(&mut self) {
        for (key, _) in self.keys.values_mut() {
            key.expires = key.expires.map(|_| SystemTime::UNIX_EPOCH);
        }
    }

    /// Everything secret that was ever handed out.
    pub(super) fn secrets(&self) -> Vec<String> {
        let keys =
            self.keys.values().flat_map(|(key, _)| [Some(key.secret.clone()), key.session_token.clone()]);
        let webs = self.principals.values().filter_map(|principal| match &principal.trust {
            Trust::WebIdentity(token) => Some(token.clone()),
            Trust::Account => None,
        });
        let clients = self.renewable.values().flat_map(|(client, _)| [&client.secret, &client.refresh_token]);
        let portal = self.portal.keys().chain(clients).cloned();
        keys.flatten().chain(self.tokens.keys().cloned()).chain(webs).chain(portal).collect()
    }

    /// Letters and digits that nobody guesses.
    pub(super) fn opaque(&mut self, start: &str, more: usize) -> String {
        let mut text = start.to_owned();
        while text.len() < start.len() + more {
            self.made += 1;
            let digest = Digest::of(format!("{} {}", self.seed, self.made).as_bytes());
            text.push_str(&digest.hex());
        }
        text.truncate(start.len() + more);
        text
    }

    fn arn(&self, kind: &str, name: &str) -> String {
        format!("arn:{}:iam::{}:{kind}/{name}", self.partition, self.account)
    }
}

/// The password in a header.
pub(super) fn password(authorization: &str) -> Option<String> {
    if let Some(bearer) = authorization.strip_prefix("Bearer ") {
        return Some(bearer.to_owned());
    }
    let basic = String::from_utf8(STANDARD.decode(authorization.strip_prefix("Basic ")?).ok()?).ok()?;
    basic.strip_prefix("AWS:").map(ToOwned::to_owned)
}

/// How long a session lives that says nothing else (STS API Reference, AssumeRole).
pub(super) const SESSION_LIFE: Duration = Duration::from_secs(3600);
