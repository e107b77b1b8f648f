//! GitHub Actions' own identity: a token of its OIDC provider for a role of AWS (GitHub, "OpenID
//! Connect reference", "Methods for requesting the OIDC token").

use std::env;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, error::CredentialsError, future},
};
use serde_json::Value;

use super::Connector;
use crate::{
    Error, Method, Request, Url,
    header::{AUTHORIZATION, HeaderValue},
};

/// A job of GitHub Actions that may ask for tokens (`permissions: id-token: write`).
#[derive(Debug)]
pub(super) struct GitHub {
    connector: Connector,
    region: String,
}

/// The audience that AWS expects (AWS, "Create a role for OpenID Connect federation").
const AUDIENCE: &str = "sts.amazonaws.com";
const TOKEN_BYTES_MAX: usize = 1 << 20;

impl GitHub {
    pub(super) fn new(connector: &Connector, region: &str) -> Self {
        Self { connector: connector.clone(), region: region.to_owned() }
    }

    async fn credentials(&self) -> provider::Result {
        let variable = |name: &str| {
            let absent = || CredentialsError::not_loaded(format!("{name} is not set"));
            env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(absent)
        };
        let role = variable("AWS_ROLE_ARN")?;
        let url = variable("ACTIONS_ID_TOKEN_REQUEST_URL")?;
        let leave = variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN")?;
        let token = self.token(&url, &leave).await?;
        let session = env::var("AWS_ROLE_SESSION_NAME").unwrap_or_else(|_| "ocib".to_owned());
        self.assume(&role, &session, token).await
    }

    async fn token(&self, url: &str, leave: &str) -> Result<String, CredentialsError> {
        let wrong = |why: &'static str| CredentialsError::invalid_configuration(why);
        let mut url: Url = url.parse().map_err(|_| wrong("ACTIONS_ID_TOKEN_REQUEST_URL is no URL"))?;
        url.query_pairs_mut().append_pair("audience", AUDIENCE);
        let mut request = Request::new(Method::GET, url);
        let mut header = HeaderValue::try_from(format!("bearer {leave}"))
            .map_err(|_| wrong("ACTIONS_ID_TOKEN_REQUEST_TOKEN is no header's value"))?;
        header.set_sensitive(true);
        request.headers.insert(AUTHORIZATION, header);
        let answer = self.ask(request).await.map_err(CredentialsError::provider_error)?;
        let token = answer["value"].as_str().map(str::to_owned);
        token.ok_or_else(|| CredentialsError::provider_error("GitHub's answer has no token"))
    }

    async fn ask(&self, request: Request) -> Result<Value, Error> {
        let response = self.connector.http().send_once(request).await?;
        if !response.status().is_success() {
            return Err(response.into_error().await);
        }
        Ok(serde_json::from_slice(&response.bytes(TOKEN_BYTES_MAX).await?).unwrap_or_default())
    }

    async fn assume(&self, role: &str, session: &str, token: String) -> provider::Result {
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(self.connector.clone())
            .region(Region::new(self.region.clone()))
            .no_credentials();
        let answer = aws_sdk_sts::Client::new(&config.load().await)
            .assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name(session)
            .web_identity_token(token)
            .send()
            .await
            .map_err(CredentialsError::provider_error)?;
        let none = || CredentialsError::provider_error("STS's answer has no credentials");
        let given = answer.credentials().ok_or_else(none)?;
        let expires = (*given.expiration()).try_into().ok();
        let (key, secret, token) = (given.access_key_id(), given.secret_access_key(), given.session_token());
        Ok(Credentials::new(key, secret, Some(token.to_owned()), expires, "GitHubOidc"))
    }
}

impl ProvideCredentials for GitHub {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}
