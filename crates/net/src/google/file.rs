//! Files of credentials: keys of service accounts, users' refresh tokens, identities of others
//! (Google, "Application Default Credentials"; AIP-4112 to AIP-4117).

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use super::{
    key::assertion,
    token::{self, Granted, SCOPE, grant, impersonate},
};
use crate::{
    Http, Method, Request, Url,
    header::{HeaderName, HeaderValue},
};

/// What a file says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum CredentialFile {
    ServiceAccount(Key),
    AuthorizedUser(User),
    ExternalAccount(External),
}

#[derive(Deserialize)]
pub(super) struct Key {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default = "token_uri")]
    token_uri: String,
    project_id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct User {
    client_id: String,
    client_secret: String,
    refresh_token: String,
    #[serde(default = "token_uri")]
    token_uri: String,
    account: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct External {
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    credential_source: Source,
}

#[derive(Deserialize)]
struct Source {
    file: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
struct Format {
    #[serde(rename = "type", default)]
    kind: String,
    subject_token_field_name: Option<String>,
}

fn token_uri() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

/// Why there is no token, and what must not be seen of that.
type Failed = (String, Vec<String>);

impl CredentialFile {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        // The parser's own message may quote the file.
        serde_json::from_slice(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("expected a service_account, authorized_user or external_account (line {line}, column {column})")
        })
    }

    /// The account and the project that the file names.
    pub(super) fn identity(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::ServiceAccount(key) => (Some(key.client_email.clone()), key.project_id.clone()),
            Self::AuthorizedUser(user) => (user.account.clone().filter(|account| !account.is_empty()), None),
            Self::ExternalAccount(external) => (Some(external.name()), None),
        }
    }

    pub(super) async fn grant(&self, http: &Http) -> Result<Granted, Failed> {
        match self {
            Self::ServiceAccount(key) => key.grant(http).await.map_err(|why| (why, Vec::new())),
            Self::AuthorizedUser(user) => user.grant(http).await,
            Self::ExternalAccount(external) => external.grant(http).await,
        }
    }
}

impl Key {
    async fn grant(&self, http: &Http) -> Result<Granted, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signed =
            assertion(&self.client_email, &self.private_key, &self.private_key_id, &self.token_uri, now)?;
        let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        grant(http, &self.token_uri, &[("grant_type", kind), ("assertion", &signed)]).await
    }
}

impl User {
    async fn grant(&self, http: &Http) -> Result<Granted, Failed> {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.client_id),
            ("client_secret", &self.client_secret),
            ("refresh_token", &self.refresh_token),
        ];
        let secrets = || vec![self.client_secret.clone(), self.refresh_token.clone()];
        grant(http, &self.token_uri, &fields).await.map_err(|why| (why, secrets()))
    }
}

impl External {
    /// The service account, or the pool if there is none.
    fn name(&self) -> String {
        let url = self.service_account_impersonation_url.as_deref().unwrap_or_default();
        let account = url.rsplit('/').next().and_then(|last| last.split(':').next()).unwrap_or_default();
        if account.is_empty() { self.audience.clone() } else { account.to_owned() }
    }

    /// Exchanges the subject's token (RFC 8693), and then that for the service account's.
    async fn grant(&self, http: &Http) -> Result<Granted, Failed> {
        let subject = self.subject(http).await;
        let mut secrets: Vec<String> = self.credential_source.headers.values().cloned().collect();
        let subject = match subject {
            Ok(subject) => subject,
            Err(why) => return Err((why, secrets)),
        };
        secrets.push(subject.clone());
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", &self.audience),
            ("scope", SCOPE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", &self.subject_token_type),
            ("subject_token", &subject),
        ];
        let granted = match grant(http, &self.token_url, &fields).await {
            Ok(granted) => granted,
            Err(why) => return Err((why, secrets)),
        };
        let Some(url) = &self.service_account_impersonation_url else { return Ok(granted) };
        secrets.push(granted.token.clone());
        impersonate(http, url, &granted.token).await.map_err(|why| (why, secrets))
    }

    async fn subject(&self, http: &Http) -> Result<String, String> {
        let source = &self.credential_source;
        let text = match (&source.file, &source.url) {
            (Some(file), _) => {
                fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?
            }
            (None, Some(url)) => source.fetch(http, url).await?,
            (None, None) => {
                return Err("credential_source has neither file nor url, the kinds that ocib reads".into());
            }
        };
        let token = match source.format.kind.as_str() {
            "json" => {
                let name = source.format.subject_token_field_name.as_deref().unwrap_or_default();
                token::field(&text, name)
            }
            _ => String::from_utf8(text).ok().map(|text| text.trim().to_owned()),
        };
        token.filter(|token| !token.is_empty()).ok_or_else(|| "credential_source holds no token".to_owned())
    }
}

impl Source {
    async fn fetch(&self, http: &Http, url: &str) -> Result<Vec<u8>, String> {
        let url: Url = url.parse().map_err(|_| "the url of credential_source is none".to_owned())?;
        let mut request = Request::new(Method::GET, url);
        for (name, value) in &self.headers {
            let wrong = || "credential_source has a header that is none".to_owned();
            let name: HeaderName = name.parse().map_err(|_| wrong())?;
            let mut value = HeaderValue::try_from(value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            request.headers.insert(name, value);
        }
        token::ask(http, request).await
    }
}
