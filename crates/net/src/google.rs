//! Identities of Google Cloud: application default credentials, without Google's programs.
//!
//! In this order: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, the file that `gcloud auth
//! application-default login` leaves, the metadata server. The first that is there counts: if it fails,
//! so does the whole (Google, "How Application Default Credentials works").

mod file;
mod key;
mod token;

use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::Mutex, time::Instant};

use self::{file::CredentialFile, token::Granted};
use crate::{
    Attempt, Error, Http, Identity, Method, Request, Url,
    cloud::{half_life, left, metadata_http, without_secrets},
    header::HeaderValue,
};

/// Looks variables of the environment up.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Somebody in Google Cloud, found when first needed. A token serves all that ask, and is replaced
/// when half of its life is over.
///
/// ```
/// use std::sync::Arc;
/// use ocib_net::{Http, HttpOptions, google::Google};
/// let http = Arc::new(Http::new(HttpOptions::default()));
/// let google = Google::from_environment(http, Arc::new(|name| std::env::var(name).ok()));
/// # let _ = google;
/// ```
pub struct Google {
    http: Arc<Http>,
    metadata: Http,
    environment: Environment,
    /// Held while a token is asked for.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<AccessToken>,
    nobody: Option<(Instant, Vec<Attempt>)>,
}

/// An OAuth2 access token for Google's APIs.
#[derive(Clone)]
pub struct AccessToken {
    /// The token, which nobody may see.
    pub token: String,
    /// When to ask for another.
    pub fresh_until: std::time::Instant,
    /// Whose it is.
    pub identity: Identity,
}

const METADATA_HOST: &str = "metadata.google.internal";
const METADATA_PATH: &str = "computeMetadata/v1/instance/service-accounts/default";
const NAMED_FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
const METADATA: &str = "metadata server";
/// For so long nobody is asked again if all ways led nowhere.
const NOBODY: Duration = Duration::from_secs(60);

impl Google {
    /// Whoever `environment` says (`GOOGLE_APPLICATION_CREDENTIALS`, `CLOUDSDK_CONFIG`, `HOME`,
    /// `GCE_METADATA_HOST`), through `http`. Nothing is read or asked yet.
    pub fn from_environment(http: Arc<Http>, environment: Environment) -> Self {
        let metadata = metadata_http(environment("GCE_METADATA_HOST"));
        Self { http, metadata, environment, state: Mutex::default() }
    }

    /// A token that is good for at least half of its life, or as long as the metadata server leaves it.
    ///
    /// # Errors
    ///
    /// [`Error::Unidentified`] with every way that was tried.
    pub async fn token(&self) -> Result<AccessToken, Error> {
        let mut state = self.state.lock().await;
        let is_fresh = |token: &&AccessToken| std::time::Instant::now() < token.fresh_until;
        if let Some(token) = state.token.as_ref().filter(is_fresh) {
            return Ok(token.clone());
        }
        if let Some((_, tried)) = state.nobody.as_ref().filter(|(since, _)| since.elapsed() < NOBODY) {
            return Err(unidentified(tried.clone()));
        }
        match self.ask().await {
            Ok(token) => Ok(state.token.insert(token).clone()),
            Err(tried) => match &state.token {
                Some(old) if old.identity.expires.is_some_and(|end| !left(end).is_zero()) => Ok(old.clone()),
                _ => {
                    state.nobody = Some((Instant::now(), tried.clone()));
                    Err(unidentified(tried))
                }
            },
        }
    }

    /// Forgets `refused`, as the next token may be better.
    pub async fn forget(&self, refused: &str) {
        self.state.lock().await.token.take_if(|held| held.token == refused);
    }

    async fn ask(&self) -> Result<AccessToken, Vec<Attempt>> {
        let mut tried = Vec::new();
        let failed = |provider: &str, why: &str, secrets: &[String]| Attempt {
            provider: provider.to_owned(),
            why: without_secrets(why, secrets),
        };
        for (provider, path, must_exist) in self.files() {
            let Some(path) = path else {
                tried.push(failed(provider, "it is not set", &[]));
                continue;
            };
            match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
                    tried.push(failed(provider, &format!("there is no {}", path.display()), &[]));
                }
                Err(error) => {
                    tried.push(failed(provider, &format!("cannot read {}: {error}", path.display()), &[]));
                    return Err(tried);
                }
                Ok(text) => {
                    let result = match CredentialFile::parse(&text) {
                        Ok(file) => file.grant(&self.http).await.map(|granted| (granted, file.identity())),
                        Err(why) => Err((why, Vec::new())),
                    };
                    return match result {
                        Ok((granted, (name, account))) => Ok(granted.into_token(provider, name, account)),
                        Err((why, secrets)) => {
                            tried.push(failed(provider, &format!("{}: {why}", path.display()), &secrets));
                            Err(tried)
                        }
                    };
                }
            }
        }
        match self.ask_metadata().await {
            Ok(token) => Ok(token),
            Err(why) => {
                tried.push(failed(METADATA, &why, &[]));
                Err(tried)
            }
        }
    }

    fn files(&self) -> [(&'static str, Option<PathBuf>, bool); 2] {
        let variable =
            |name: &str| (self.environment)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory =
            variable("CLOUDSDK_CONFIG").or_else(|| Some(variable("HOME")?.join(".config/gcloud")));
        let gcloud = directory.map(|directory| directory.join("application_default_credentials.json"));
        [(NAMED_FILE, variable(NAMED_FILE), true), ("gcloud's file", gcloud, false)]
    }

    async fn ask_metadata(&self) -> Result<AccessToken, String> {
        let said = self.read_metadata("token").await?;
        let granted = Granted::parse(&said).ok_or("its answer has no token")?;
        // Only for the report.
        let name = self.read_metadata("email").await.ok();
        let name = name.map(|name| crate::printable(&name, 200));
        Ok(granted.into_token(METADATA, name, None))
    }

    async fn read_metadata(&self, what: &str) -> Result<Vec<u8>, String> {
        const FLAVOUR: (&str, &str) = ("metadata-flavor", "Google");
        let host = (self.environment)("GCE_METADATA_HOST").filter(|host| !host.is_empty());
        let host = host.as_deref().unwrap_or(METADATA_HOST);
        let url = format!("http://{host}/{METADATA_PATH}/{what}");
        let url: Url = url.parse().map_err(|_| format!("{host} is no host"))?;
        let mut request = Request::new(Method::GET, url);
        request.headers.insert(FLAVOUR.0, HeaderValue::from_static(FLAVOUR.1));
        let response = self.metadata.send_once(request).await.map_err(|error| error.to_string())?;
        // A name server that knows every name leads to somebody else.
        if response.header(FLAVOUR.0) != Some(FLAVOUR.1) {
            return Err(format!("{host} is no metadata server"));
        }
        if !response.status().is_success() {
            return Err(response.into_error().await.to_string());
        }
        let bytes = response.bytes(token::ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())?;
        Ok(bytes.to_vec())
    }
}

impl Granted {
    fn into_token(self, provider: &str, name: Option<String>, account: Option<String>) -> AccessToken {
        let fresh_until = std::time::Instant::now() + half_life(self.life);
        let expires = Some(SystemTime::now() + self.life);
        let identity = Identity { provider: provider.to_owned(), name, account, expires };
        AccessToken { token: self.token, fresh_until, identity }
    }
}

fn unidentified(tried: Vec<Attempt>) -> Error {
    // A file that is there is the last that is tried; the metadata server is, where there is none.
    let is_absence = tried.last().is_some_and(|last| last.provider == METADATA);
    Error::Unidentified { cloud: "Google Cloud", tried, is_absence }
}

impl fmt::Debug for Google {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Google").finish_non_exhaustive()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("identity", &self.identity).finish_non_exhaustive()
    }
}
