//! The chain: ways to credentials in their order, and the session that one of them has supplied.

use std::{env, error::Error as StdError, fs, sync::Arc, time::Duration};

use aws_config::{
    Region,
    ecs::EcsCredentialsProvider,
    environment::EnvironmentVariableCredentialsProvider,
    imds::{self, credentials::ImdsCredentialsProvider},
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::provider::{
    ProvideCredentials, error::CredentialsError, future::ProvideCredentials as Provided,
};
use tokio::{sync::Mutex, time::Instant};

use super::{Connector, IMDS_ENDPOINT, Session, github::GitHub};
use crate::{
    Attempt, Error,
    cloud::{half_life, left, patience, without_secrets},
};

/// Ways to credentials, and what they gave.
pub(super) struct Chain {
    ways: Vec<Way>,
    /// Held while credentials are asked for, so that one asks for all that wait.
    state: Mutex<State>,
}

struct Way {
    name: &'static str,
    /// What it means if it was not configured and says no more.
    absent: &'static str,
    provider: Box<dyn ProvideCredentials>,
}

#[derive(Default)]
struct State {
    /// The way that counted.
    chosen: Option<usize>,
    session: Option<Held>,
    nobody: Option<(Instant, Nobody)>,
}

/// What was tried in vain, and whether nothing of it was configured.
#[derive(Clone)]
struct Nobody {
    tried: Vec<Attempt>,
    is_absence: bool,
}

struct Held {
    session: Session,
    fresh_until: Option<Instant>,
}

/// For so long nobody is asked again if all ways led nowhere.
const NOBODY: Duration = Duration::from_secs(60);

impl Chain {
    pub(super) fn new(connector: &Connector, region: &str) -> Self {
        let config = ProviderConfig::without_region()
            .with_http_client(connector.clone())
            .with_region(Some(Region::new(region.to_owned())));
        // It is asked two questions, and no answer to the first is the end.
        let patience = patience(std::env::var_os(IMDS_ENDPOINT).is_some());
        let imds = imds::Client::builder()
            .configure(&config)
            .connect_timeout(patience / 2)
            .read_timeout(patience / 2)
            .max_attempts(2)
            .operation_timeout(patience)
            .build();
        let ways = vec![
            Way {
                name: "environment variables",
                absent: "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set",
                provider: Box::new(EnvironmentVariableCredentialsProvider::new()),
            },
            Way {
                name: "profile",
                absent: "it has no credentials in AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE or ~/.aws",
                provider: Box::new(ProfileFileCredentialsProvider::builder().configure(&config).build()),
            },
            Way {
                name: "web identity token",
                absent: "AWS_WEB_IDENTITY_TOKEN_FILE or AWS_ROLE_ARN is not set",
                provider: Box::new(WebIdentityTokenCredentialsProvider::builder().configure(&config).build()),
            },
            Way {
                name: "GitHub OIDC",
                absent: "AWS_ROLE_ARN or ACTIONS_ID_TOKEN_REQUEST_URL is not set",
                provider: Box::new(GitHub::new(connector, region)),
            },
            Way {
                name: "container endpoint",
                absent: "AWS_CONTAINER_CREDENTIALS_FULL_URI and _RELATIVE_URI are not set",
                provider: Box::new(EcsCredentialsProvider::builder().configure(&config).build()),
            },
            Way {
                name: "instance metadata",
                absent: "there is none",
                provider: Box::new(
                    ImdsCredentialsProvider::builder().configure(&config).imds_client(imds).build(),
                ),
            },
        ];
        Self { ways, state: Mutex::default() }
    }

    pub(super) async fn session(&self) -> Result<Session, Error> {
        let mut state = self.state.lock().await;
        let is_fresh = |held: &&Held| held.fresh_until.is_none_or(|end| Instant::now() < end);
        if let Some(held) = state.session.as_ref().filter(is_fresh) {
            return Ok(held.session.clone());
        }
        if let Some((_, nobody)) = state.nobody.as_ref().filter(|(since, _)| since.elapsed() < NOBODY) {
            return Err(nobody.clone().into());
        }
        match self.ask(&mut state.chosen).await {
            Ok(session) => {
                let fresh_until =
                    session.credentials.expiry().map(|end| Instant::now() + half_life(left(end)));
                state.session = Some(Held { session: session.clone(), fresh_until });
                Ok(session)
            }
            Err(nobody) => match &state.session {
                // Half of its life is left, and what fails now may go well the next time.
                Some(held) if held.is_alive() => Ok(held.session.clone()),
                _ => {
                    state.nobody = Some((Instant::now(), nobody.clone()));
                    Err(nobody.into())
                }
            },
        }
    }

    pub(super) async fn forget(&self, refused: &Session) {
        let mut state = self.state.lock().await;
        let key = refused.credentials.access_key_id();
        if state.session.as_ref().is_some_and(|held| held.session.credentials.access_key_id() == key) {
            state.session = None;
        }
    }

    async fn ask(&self, chosen: &mut Option<usize>) -> Result<Session, Nobody> {
        let mut tried = Vec::new();
        for (at, way) in
            self.ways.iter().enumerate().filter(|(at, _)| chosen.is_none_or(|chosen| chosen == *at))
        {
            match way.provider.provide_credentials().await {
                Ok(credentials) => {
                    *chosen = Some(at);
                    return Ok(Session { credentials, provider: way.name });
                }
                Err(error) => {
                    let is_absent = matches!(error, CredentialsError::CredentialsNotLoaded(_));
                    tried.push(Attempt { provider: way.name.to_owned(), why: why(&error, way.absent) });
                    if !is_absent {
                        return Err(Nobody { tried, is_absence: false });
                    }
                }
            }
        }
        Err(Nobody { tried, is_absence: true })
    }
}

impl Held {
    fn is_alive(&self) -> bool {
        self.session.credentials.expiry().is_none_or(|end| !left(end).is_zero())
    }
}

impl From<Nobody> for Error {
    fn from(Nobody { tried, is_absence }: Nobody) -> Self {
        Self::Unidentified { cloud: "AWS", tried, is_absence }
    }
}

/// What `error` comes down to: the outer layers only say that there was one.
fn why(error: &CredentialsError, absent: &str) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = match error.downcast_ref::<aws_smithy_types::error::ErrorMetadata>() {
            Some(said) => [said.code(), said.message()].into_iter().flatten().collect::<Vec<_>>().join(": "),
            None => error.to_string(),
        };
        if !LAYERS.contains(&&*text) {
            causes.push(text);
        }
        cause = error.source();
    }
    // What the first say, the last say better.
    causes.dedup();
    let text = match causes.len() {
        0 => absent.to_owned(),
        1 if is_laconic(&causes[0]) => absent.to_owned(),
        _ => causes.join(": "),
    };
    without_secrets(&text, &secrets())
}

/// Layers of the SDK that say nothing but that there is another below.
const LAYERS: [&str; 3] = ["service error", "dispatch failure", "io error"];

/// Texts of the SDK that name no variable and no file.
fn is_laconic(text: &str) -> bool {
    ["environment variable not set", "ECS provider not configured"].contains(&text)
}

/// What the environment holds and nobody may see.
fn secrets() -> Vec<String> {
    let variables = [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    ];
    let files = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"];
    let in_files = files.iter().filter_map(|name| fs::read_to_string(env::var(name).ok()?).ok());
    let all = variables.iter().filter_map(|name| env::var(name).ok()).chain(in_files);
    all.map(|secret| secret.trim().to_owned()).collect()
}

/// A chain as the SDK's clients see it.
#[derive(Clone)]
pub(super) struct Renewed(pub(super) Arc<Chain>);

impl std::fmt::Debug for Renewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Renewed")
    }
}

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(async {
            let session = self.0.session().await.map_err(CredentialsError::provider_error)?;
            Ok(session.credentials)
        })
    }
}
