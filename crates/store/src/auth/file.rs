//! Docker's `config.json` and Podman's `auth.json`, which share their form.

use std::{collections::BTreeMap, fs, io, path::Path};

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ocib_image::{Credential, Secret};
use serde::{Deserialize, Deserializer};

use super::HUB;
use crate::Error;

/// What a file says about credentials.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CredentialFile {
    #[serde(deserialize_with = "by_normal_key")]
    auths: BTreeMap<String, Entry>,
    #[serde(deserialize_with = "by_normal_key")]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl CredentialFile {
    /// Reads the file at `path`; `None` if there is none and there need not be one.
    pub(super) fn read(path: &Path, must_exist: bool) -> Result<Option<Self>, Error> {
        let bad = |why: String| Error::CredentialFile { path: path.to_owned(), why };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if !must_exist && is_absence(path, &error) => return Ok(None),
            Err(error) => return Err(bad(error.to_string())),
        };
        // Podman leaves an empty file behind.
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        // The parser's own message may quote the file.
        let why = |error: serde_json::Error| {
            format!("not a file of credentials (line {}, column {})", error.line(), error.column())
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| bad(why(error)))
    }

    /// The helper for exactly this key.
    pub(super) fn helper(&self, key: &str) -> Option<&str> {
        self.cred_helpers.get(key).map(String::as_str)
    }

    /// The helper for all registries.
    pub(super) fn store(&self) -> Option<&str> {
        self.creds_store.as_deref().filter(|name| !name.is_empty())
    }

    /// The file's own credential for exactly this key; `path` is for the message.
    pub(super) fn entry(&self, key: &str, path: &Path) -> Option<Result<Credential, Error>> {
        let entry = self.auths.get(key)?;
        let bad = |why: &str| Error::CredentialFile { path: path.to_owned(), why: format!("{key}: {why}") };
        if let Some(token) = entry.identitytoken.as_deref().filter(|token| !token.is_empty()) {
            return Some(Ok(Credential::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = entry.auth.as_deref().filter(|auth| !auth.is_empty()) {
            return Some(decode(auth).ok_or_else(|| bad("auth is not the base64 of user:password")));
        }
        match (entry.username.as_deref(), entry.password.as_deref()) {
            (Some(user), Some(password)) if !user.is_empty() => Some(Ok(credential(user, password))),
            // An entry without content says that the credential is in the store.
            _ => None,
        }
    }
}

/// Whether `error` says that there is no file at `path`, as far as this user can know: in a
/// container `HOME` often is somebody else's. A file that is there but must not be read is an error.
fn is_absence(path: &Path, error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => true,
        io::ErrorKind::PermissionDenied => fs::metadata(path).is_err(),
        _ => false,
    }
}

/// A credential by its parts; Docker marks identity tokens by their user.
pub(super) fn credential(user: &str, password: &str) -> Credential {
    match user {
        "<token>" => Credential::IdentityToken(Secret::new(password)),
        user => Credential::Basic { user: user.to_owned(), password: Secret::new(password) },
    }
}

fn decode(auth: &str) -> Option<Credential> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker pads with NUL.
    Some(credential(user, password.trim_end_matches('\0')))
}

fn by_normal_key<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    let written = Option::<BTreeMap<String, T>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(written.into_iter().map(|(key, value)| (normal_key(&key), value)).collect())
}

/// `host[:port][/path]` of a key: old ones are URLs, whose path is the API's and means nothing.
fn normal_key(key: &str) -> String {
    let url = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let name = match url {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => {
            let name = key.trim_end_matches('/');
            name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name)
        }
    };
    match name.split_once('/').unwrap_or((name, "")) {
        ("index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com", "") => HUB.to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_ages() {
        for (key, expected) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://gcr.io", "gcr.io"),
            ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000"),
            ("registry.example/v2/", "registry.example"),
            ("quay.io/org/", "quay.io/org"),
            ("docker.io/library", "docker.io/library"),
        ] {
            assert_eq!(normal_key(key), expected, "{key}");
        }
    }
}
