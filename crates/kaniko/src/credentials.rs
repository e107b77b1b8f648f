//! Credentials for the executor: a `config.json` as Docker writes it, for the registries of one job.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ocib_image::{Credential, Secret};
use serde_json::{Map, Value, json};

use crate::options::RegistryAccess;

impl RegistryAccess {
    /// Access with these credentials: pairs of a registry's host and what is known there. They are what a
    /// RUN of the pod can read, so only those belong here that the job needs.
    ///
    /// ```
    /// use ocib_image::{Credential, Secret};
    /// use ocib_kaniko::RegistryAccess;
    ///
    /// let credential = Credential::Basic { user: "ci".into(), password: Secret::new("pass") };
    /// let RegistryAccess::Shared { config_json, .. } = RegistryAccess::shared([("r.example", &credential)]) else {
    ///     unreachable!()
    /// };
    /// assert_eq!(config_json.reveal(), r#"{"auths":{"r.example":{"auth":"Y2k6cGFzcw=="}}}"#);
    /// ```
    pub fn shared<'a>(credentials: impl IntoIterator<Item = (&'a str, &'a Credential)>) -> Self {
        let mut auths = Map::new();
        let mut secrets = Vec::new();
        for (host, credential) in credentials {
            let (entry, secret) = match credential {
                Credential::Basic { user, password } => (basic(user, password), password),
                Credential::Session { user, token, .. } => (basic(user, token), token),
                Credential::IdentityToken(token) => (json!({ "identitytoken": token.reveal() }), token),
            };
            if let Some(auth) = entry["auth"].as_str() {
                secrets.push(Secret::new(auth));
            }
            secrets.push(secret.clone());
            auths.insert(file_key(host), entry);
        }
        let config_json = Secret::new(json!({ "auths": Value::Object(auths) }).to_string());
        Self::Shared { config_json, secrets }
    }
}

fn basic(user: &str, password: &Secret) -> Value {
    json!({ "auth": STANDARD.encode(format!("{user}:{}", password.reveal())) })
}

/// Docker Hub has an old name in such files.
fn file_key(host: &str) -> String {
    match host {
        "docker.io" => "https://index.docker.io/v1/".to_owned(),
        host => host.to_owned(),
    }
}
