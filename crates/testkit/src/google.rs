//! Where Google's credentials come from: the metadata server, the token endpoint, the Security Token
//! Service and impersonation, with the files that lead there (Google Cloud, "How Application Default
//! Credentials works"; AIP-4111, AIP-4115, AIP-4117). Plain HTTP on loopback.

mod jwt;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use ocib_image::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    http::{HttpServer, Incoming, Reply, iso, locked, pairs},
    process::run,
    registry::{Request, Served},
};

/// The service account that every way ends at.
const EMAIL: &str = "builder@emulated.iam.gserviceaccount.com";
/// Who a federated identity is audience of.
const AUDIENCE: &str =
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/github";
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
const FORM_BYTES_MAX: u64 = 64 << 10;

/// Google's identity services, ended when dropped.
#[derive(Debug)]
pub struct GoogleEmulator {
    server: HttpServer,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Keys and the files that are handed out.
    dir: TempDir,
    seed: String,
    secrets: Mutex<Secrets>,
    served: Mutex<Vec<Request>>,
}

#[derive(Debug, Default)]
struct Secrets {
    /// Tokens that open a registry.
    access: BTreeSet<String>,
    /// Tokens that may only be exchanged for one.
    federated: BTreeSet<String>,
    ended: BTreeSet<String>,
    refresh: BTreeSet<String>,
    subjects: BTreeSet<String>,
    made: u64,
}

/// The fields of a request's form.
struct Form(Vec<(String, String)>);

impl Form {
    fn value(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }
}

/// What is wrong with a request: status, OAuth's code (RFC 6749, 5.2), and text.
type Refused = (u16, &'static str, &'static str);

impl GoogleEmulator {
    /// Starts the services.
    pub fn start() -> Self {
        let dir = TempDir::with_prefix("ocib-google-").expect("a temporary directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (key, public) = (path("key.pem"), path("public.pem"));
        run("openssl", "openssl", &["genpkey", "-quiet", "-algorithm", "RSA", "-out", &key]);
        run("openssl", "openssl", &["pkey", "-in", &key, "-pubout", "-out", &public]);
        let seed = format!("{:?}", SystemTime::now());
        let state = State { dir, seed, secrets: Mutex::default(), served: Mutex::default() };
        let state = Arc::new(state);
        let serving = state.clone();
        let server = HttpServer::start(move |request| Some(serving.answer(request)));
        Self { server, state }
    }

    /// `127.0.0.1:PORT`, the value of `GCE_METADATA_HOST`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// A service account's key file (`GOOGLE_APPLICATION_CREDENTIALS`).
    pub fn service_account_file(&self) -> PathBuf {
        let key = fs::read_to_string(self.state.path("key.pem")).expect("a key of ours");
        let content = json!({
            "type": "service_account", "project_id": "emulated", "private_key_id": "1", "private_key": key,
            "client_email": EMAIL, "client_id": "1", "token_uri": self.url("/token"),
        });
        self.state.file("service-account.json", &content.to_string())
    }

    /// A user's file, as `gcloud auth application-default login` leaves it. Google's own token endpoint
    /// is not in such a file; here it is, as `token_uri`.
    pub fn authorized_user_file(&self) -> PathBuf {
        let refresh = self.state.opaque("1//", |secrets| &mut secrets.refresh);
        let content = json!({
            "type": "authorized_user", "client_id": "1", "client_secret": "client-secret",
            "refresh_token": refresh, "token_uri": self.url("/token"),
        });
        self.state.file("authorized-user.json", &content.to_string())
    }

    /// A file for workload identity federation whose subject token is in another file, by way of a
    /// service account or directly.
    pub fn external_account_file(&self, impersonates: bool) -> PathBuf {
        let subject = self.state.opaque("subject.", |secrets| &mut secrets.subjects);
        let source = self.state.file("subject-token", &subject);
        let mut content = json!({
            "type": "external_account", "audience": AUDIENCE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": self.url("/v1/token"),
            "credential_source": {"file": source},
        });
        if impersonates {
            content["service_account_impersonation_url"] = self.url(&impersonation_path()).into();
        }
        self.state.file("external-account.json", &content.to_string())
    }

    /// Whether a registry of Google's would take this token: minted here, and not ended.
    pub fn accepts(&self, token: &str) -> bool {
        let secrets = locked(&self.state.secrets);
        secrets.access.contains(token) && !secrets.ended.contains(token)
    }

    /// Ends every token that was minted so far.
    pub fn expire_tokens(&self) {
        let mut secrets = locked(&self.state.secrets);
        secrets.ended = secrets.access.union(&secrets.federated).cloned().collect();
    }

    /// Every token that was handed out so far. None may be found in what a program writes.
    pub fn secrets(&self) -> Vec<String> {
        let secrets = locked(&self.state.secrets);
        let all = [&secrets.access, &secrets.federated, &secrets.refresh, &secrets.subjects];
        all.into_iter().flatten().cloned().collect()
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Served {
        Served(locked(&self.state.served).clone())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }
}

impl State {
    fn answer(&self, request: &mut Incoming<'_>) -> Reply {
        let body = request.read_all(FORM_BYTES_MAX).unwrap_or_default();
        let form = Form(pairs(&String::from_utf8_lossy(&body)));
        let outcome = match (request.method.as_str(), request.path.as_str()) {
            ("GET", path) => return self.note(request, metadata(self, request, path)),
            ("POST", "/token") => self.token(request, &form),
            ("POST", "/v1/token") => self.exchange(&form),
            ("POST", path) if path == impersonation_path() => self.impersonate(request, &body),
            _ => Err((404, "not_found", "no such service")),
        };
        let reply = match outcome {
            Ok(body) => Reply::json(200, "application/json", &body),
            Err((status, code, text)) => {
                let body = json!({"error": code, "error_description": text});
                Reply::json(status, "application/json", &body)
            }
        };
        self.note(request, reply)
    }

    fn note(&self, request: &Incoming<'_>, reply: Reply) -> Reply {
        let (method, path, query) = (request.method.clone(), request.path.clone(), request.query.clone());
        let (status, bytes) = (reply.status, reply.len());
        locked(&self.served).push(Request { method, path, query, status, bytes });
        reply
    }

    /// OAuth's token endpoint: a signed assertion (RFC 7523) or a refresh token (RFC 6749, 6).
    fn token(&self, request: &Incoming<'_>, form: &Form) -> Result<Value, Refused> {
        match form.value("grant_type") {
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                let audience = format!("http://{}/token", request.header("host").unwrap_or_default());
                jwt::check(
                    form.value("assertion"),
                    &self.path("public.pem"),
                    EMAIL,
                    &audience,
                    SystemTime::now(),
                )?;
            }
            "refresh_token" => {
                let is_known = locked(&self.secrets).refresh.contains(form.value("refresh_token"));
                if !is_known || form.value("client_secret") != "client-secret" {
                    return Err((400, "invalid_grant", "Bad Request"));
                }
            }
            _ => return Err((400, "unsupported_grant_type", "Invalid grant_type")),
        }
        Ok(self.granted())
    }

    /// Token exchange (RFC 8693, as AIP-4117 uses it).
    fn exchange(&self, form: &Form) -> Result<Value, Refused> {
        for (name, expected) in [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("audience", AUDIENCE),
        ] {
            if form.value(name) != expected {
                return Err((400, "invalid_request", "Invalid value for a parameter"));
            }
        }
        if !locked(&self.secrets).subjects.contains(form.value("subject_token")) {
            return Err((
                400,
                "invalid_grant",
                "The given credential is rejected by the attribute condition.",
            ));
        }
        // Directly it opens a registry too, if the pool's principal has the rights.
        let token = self.opaque("ya29.d.", |secrets| &mut secrets.federated);
        locked(&self.secrets).access.insert(token.clone());
        Ok(json!({
            "access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE.as_secs(),
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }))
    }

    /// IAM Credentials API, generateAccessToken.
    fn impersonate(&self, request: &Incoming<'_>, body: &[u8]) -> Result<Value, Refused> {
        let token = request.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
        let secrets = locked(&self.secrets);
        let is_live = |token: &&str| secrets.federated.contains(*token) && !secrets.ended.contains(*token);
        if token.filter(is_live).is_none() {
            return Err((401, "UNAUTHENTICATED", "Request had invalid authentication credentials."));
        }
        drop(secrets);
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if body["scope"].as_array().is_none_or(Vec::is_empty) {
            return Err((400, "INVALID_ARGUMENT", "Request contains an invalid argument."));
        }
        let token = self.opaque("ya29.c.", |secrets| &mut secrets.access);
        Ok(json!({"accessToken": token, "expireTime": iso(SystemTime::now() + TOKEN_LIFE)}))
    }

    fn granted(&self) -> Value {
        let token = self.opaque("ya29.a.", |secrets| &mut secrets.access);
        json!({"access_token": token, "expires_in": TOKEN_LIFE.as_secs(), "token_type": "Bearer"})
    }

    /// A new secret, kept where `place` says.
    fn opaque(&self, start: &str, place: fn(&mut Secrets) -> &mut BTreeSet<String>) -> String {
        let mut secrets = locked(&self.secrets);
        secrets.made += 1;
        let secret =
            format!("{start}{}", Digest::of(format!("{} {}", self.seed, secrets.made).as_bytes()).hex());
        place(&mut secrets).insert(secret.clone());
        secret
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file in a directory of ours");
        path
    }
}

fn impersonation_path() -> String {
    format!("/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken")
}

/// The metadata server (Compute Engine, "View and query VM metadata"): without its header it refuses.
fn metadata(state: &State, request: &Incoming<'_>, path: &str) -> Reply {
    const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default/";
    if request.header("metadata-flavor") != Some("Google") {
        return Reply::text(403, "text/html", "Missing Metadata-Flavor:Google header.");
    }
    let reply = match (path, path.strip_prefix(ACCOUNT)) {
        ("/", _) => Reply::text(200, "application/text", "computeMetadata/\n"),
        ("/computeMetadata/v1/project/project-id", _) => Reply::text(200, "application/text", "emulated"),
        (_, Some("email")) => Reply::text(200, "application/text", EMAIL),
        (_, Some("token")) => Reply::json(200, "application/json", &state.granted()),
        _ => Reply::text(404, "text/html", "Not Found"),
    };
    reply.with("metadata-flavor", "Google")
}

#[cfg(test)]
mod tests;
