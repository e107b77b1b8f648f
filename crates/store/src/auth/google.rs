//! Logging in to Google's registries with access tokens.

use std::fmt;

use futures_core::future::BoxFuture;
use ocib_image::{Credential, Credentials, PlaceError, Reference, Secret};
use ocib_net::{Identity, google::Google};

use crate::{Cloud, Error};

/// Credentials for Artifact Registry and Container Registry, out of an identity of Google Cloud.
///
/// ```
/// use std::sync::Arc;
/// use ocib_net::{Http, HttpOptions, google::Google};
/// use ocib_store::{Cloud, GoogleAuth};
///
/// let http = Arc::new(Http::new(HttpOptions::default()));
/// let auth = GoogleAuth::new(Google::from_environment(http, Arc::new(|_| None)));
/// assert!(auth.is_for("europe-west1-docker.pkg.dev"));
/// ```
pub struct GoogleAuth {
    google: Google,
}

/// The user of access tokens (Artifact Registry, "Configure authentication", access token).
const USER: &str = "oauth2accesstoken";

impl GoogleAuth {
    /// Tokens of whoever `google` is.
    pub fn new(google: Google) -> Self {
        Self { google }
    }
}

impl Credentials for GoogleAuth {
    fn find<'a>(
        &'a self,
        repository: &'a Reference,
    ) -> BoxFuture<'a, Result<Option<Credential>, PlaceError>> {
        Box::pin(async move {
            if !self.is_for(repository.registry()) {
                return Ok(None);
            }
            match self.google.token().await {
                Ok(token) => Ok(Some(Credential::Session {
                    user: USER.to_owned(),
                    token: Secret::new(token.token),
                    fresh_until: token.fresh_until,
                })),
                // Much of what is there, everybody may pull.
                Err(error) if error.is_absence() => Ok(None),
                Err(error) => Err(Error::Http(error).into()),
            }
        })
    }

    fn refused<'a>(&'a self, _: &'a Reference, credential: &'a Credential) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Credential::Session { token, .. } = credential {
                self.google.forget(token.reveal()).await;
            }
        })
    }
}

impl Cloud for GoogleAuth {
    fn is_for(&self, registry: &str) -> bool {
        registry == "gcr.io" || registry.ends_with(".gcr.io") || registry.ends_with(".pkg.dev")
    }

    fn identity<'a>(&'a self, _: &'a str) -> BoxFuture<'a, (Option<Identity>, Option<String>)> {
        Box::pin(async move { (self.google.token().await.ok().map(|token| token.identity), None) })
    }
}

impl fmt::Debug for GoogleAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoogleAuth").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ocib_net::{Http, HttpOptions};

    use super::*;

    #[test]
    fn hosts_of_google() {
        let http = Arc::new(Http::new(HttpOptions::default()));
        let auth = GoogleAuth::new(Google::from_environment(http, Arc::new(|_| None)));
        for (host, expected) in [
            ("gcr.io", true),
            ("eu.gcr.io", true),
            ("europe-west1-docker.pkg.dev", true),
            ("evilgcr.io", false),
            ("gcr.io.evil.example", false),
            ("docker.io", false),
        ] {
            assert_eq!(auth.is_for(host), expected, "{host}");
        }
    }
}
