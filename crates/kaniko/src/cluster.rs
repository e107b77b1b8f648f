//! Where the cluster is, who asks, and what its refusals mean.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::{
    Api, Client, Config,
    client::AuthError,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use ocib_image::RunError;

use crate::ends::End;

/// No answer of the API takes longer but those that are streams.
pub(crate) const REQUEST: Duration = Duration::from_secs(20);

/// Of what an exec plugin says last of its failure.
const PLUGIN_WORDS_MAX: usize = 300;

/// What is said of a token that cannot be sent.
const NO_TOKEN: &str = "the token of the kubeconfig or its exec plugin has a line end or another character that no \
                        header can hold";

/// How a cluster is found.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Access {
    /// The file to read instead of those that `KUBECONFIG` names.
    pub kubeconfig: Option<std::path::PathBuf>,
    /// The context of the kubeconfig, if not its current one.
    pub context: Option<String>,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) client: Client,
    /// The namespace that is meant where none is named.
    pub(crate) namespace: String,
    /// The server's URL.
    server: String,
    is_inside: bool,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("server", &self.server).field("namespace", &self.namespace).finish()
    }
}

impl Cluster {
    /// Finds the cluster: the kubeconfig that is named, that `KUBECONFIG` or the home directory has, or else
    /// the cluster that this program runs in. Asks nobody but an exec plugin of the kubeconfig.
    pub async fn connect(access: &Access) -> Result<Self, RunError> {
        let (mut config, is_inside) = config(access).await?;
        // It retries for minutes, creations included; what is retried here is said and bounded.
        config.default_retry = false;
        let url = &config.cluster_url;
        let server = plain_url(url.scheme_str(), url.host(), url.port_u16(), url.path());
        let namespace = config.default_namespace.clone();
        // A token that no header can hold, the kubeconfig's or a plugin's, makes kube panic.
        let made = catch_unwind(AssertUnwindSafe(|| Client::try_from(config)))
            .map_err(|_| End::Unauthenticated.error(NO_TOKEN))?;
        let client = made.map_err(|error| match error {
            kube::Error::Auth(error) => End::Unauthenticated.error(unauthenticated(&error)),
            error => End::Kubeconfig.error(unconnectable(&error)),
        })?;
        Ok(Self { client, namespace, server, is_inside })
    }

    /// Whether this program itself runs in a pod of the cluster.
    pub fn is_inside(&self) -> bool {
        self.is_inside
    }

    /// The namespace that is meant where none is named.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The URL of the API server, without a password.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn events(&self, namespace: &str) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

async fn config(access: &Access) -> Result<(Config, bool), RunError> {
    let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
    let unusable = |error: KubeconfigError| End::Kubeconfig.error(unusable(&error));
    if let Some(path) = &access.kubeconfig {
        let read = Kubeconfig::read_from(path).map_err(unusable)?;
        let config = Config::from_custom_kubeconfig(read, &options).await;
        return config.map(|config| (config, false)).map_err(unusable);
    }
    match Config::from_kubeconfig(&options).await {
        Ok(config) => Ok((config, false)),
        Err(error) if access.context.is_some() => Err(unusable(error)),
        Err(error) => match Config::incluster() {
            Ok(config) => Ok((config, true)),
            Err(_) => Err(unusable(error)),
        },
    }
}

/// What is wrong with a kubeconfig, without its lines: they hold tokens and keys.
fn unusable(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            format!("it is no YAML of a kubeconfig: {}", error.without_snippet())
        }
        error => chain(error),
    }
}

/// Why no connection can be made, without the password of a proxy.
fn unconnectable(error: &kube::Error) -> String {
    use kube::Error::{ProxyProtocolDisabled, ProxyProtocolUnsupported};
    match error {
        ProxyProtocolUnsupported { proxy_url: url } | ProxyProtocolDisabled { proxy_url: url, .. } => {
            let url = plain_url(url.scheme_str(), url.host(), url.port_u16(), "");
            format!(
                "the proxy {url} (proxy-url of the kubeconfig, or HTTPS_PROXY) is none for http:// or https://"
            )
        }
        error => chain(error),
    }
}

/// A URL without user and password.
fn plain_url(scheme: Option<&str>, host: Option<&str>, port: Option<u16>, path: &str) -> String {
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{path}", scheme.unwrap_or("https"), host.unwrap_or_default())
}

/// Waits for an answer no longer than `limit`.
pub(crate) async fn timed<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Refused> {
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer.map_err(Refused::of),
        Err(_) => Err(Refused::Passing(format!("no answer within {} s", limit.as_secs()))),
    }
}

/// Why a request did not do what was wanted.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The same request may do well a moment later, or may have done its work already.
    Passing(String),
    /// The server's own answer.
    Status { code: u16, message: String },
    /// The kubeconfig's way to prove who asks failed.
    Auth(String),
}

impl Refused {
    pub(crate) fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if matches!(status.code, 429 | 500 | 502..=504) => {
                Self::Passing(format!("{} {}", status.code, status.message.trim()))
            }
            kube::Error::Api(status) => Self::Status { code: status.code, message: status.message },
            // Whatever answered speaks no WebSocket, and will not a moment later.
            kube::Error::UpgradeConnection(error) => Self::Status { code: 0, message: chain(&error) },
            kube::Error::Auth(error) => Self::Auth(unauthenticated(&error)),
            error => Self::Passing(chain(&error)),
        }
    }

    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Passing(_))
    }

    /// That a right is missing, or the login. A server that was started anew says so for some seconds to
    /// everybody, until it has read who may do what (seen on 1.20).
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Status { code: 401 | 403, .. })
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }

    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { code: 409, .. })
    }

    /// The end that it means, and what was said.
    pub(crate) fn end(&self) -> (End, &str) {
        match self {
            Self::Passing(said) => (End::Unreachable, said),
            Self::Auth(said) => (End::Unauthenticated, said),
            Self::Status { code, message } => (refusal(*code, message), message),
        }
    }

    pub(crate) fn error(&self) -> RunError {
        let (end, said) = self.end();
        end.error(said)
    }
}

/// Why the kubeconfig's user cannot prove who it is, without what a plugin printed or was given: that may be a token.
fn unauthenticated(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            let words = String::from_utf8_lossy(&out.stderr);
            let last = words.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
            let last: String = last.chars().take(PLUGIN_WORDS_MAX).collect();
            format!(
                "the exec plugin ended with {}{}{last}",
                out.status,
                if last.is_empty() { "" } else { ": " }
            )
        }
        AuthError::AuthExecParse(_) => {
            "the exec plugin printed something else than an ExecCredential".to_owned()
        }
        error => chain(error),
    }
}

/// Signs in the messages of refusals. A webhook may answer with any status.
const SIGNS: [(&[&str], End); 13] = [
    (&["admission webhook"], End::Admission),
    (&["ValidatingAdmissionPolicy"], End::Admission),
    (&["exceeded quota"], End::Quota),
    (&["failed quota"], End::Quota),
    // 409: somebody else counts at the same time.
    (&["cannot be fulfilled on resourcequotas"], End::Quota),
    (&["violates PodSecurity"], End::PodSecurity),
    (&["security context constraint"], End::PodSecurity),
    (&["PodSecurityPolicy"], End::PodSecurity),
    (&["service account", "not found"], End::ServiceAccountMissing),
    (&["being terminated"], End::NamespaceEnding),
    (&["usage per "], End::LimitRange),
    (&["limit to request ratio"], End::LimitRange),
    (&["namespaces \"", "not found"], End::NamespaceMissing),
];

fn refusal(code: u16, message: &str) -> End {
    let has = |signs: &[&str]| signs.iter().all(|sign| message.contains(sign));
    match SIGNS.iter().find(|(signs, _)| has(signs)) {
        Some((_, end)) => *end,
        None if code == 401 => End::Unauthenticated,
        None if code == 403 => End::Forbidden,
        None => End::PodInvalid,
    }
}

/// An error and what led to it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn kubeconfigs_that_are_none() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = "users:\n- name: u\n  user:\n    token: planted-token\n   oops: [\n";
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        let access = Access { kubeconfig: Some(file.path().to_owned()), context: None };
        let error = Cluster::connect(&access).await.unwrap_err();
        assert_eq!(error.cause, End::Kubeconfig.cause());
        assert!(error.message.contains("line 5") && !error.message.contains("planted"), "{error}");
    }

    fn kubeconfig(cluster: &serde_json::Value, user: &serde_json::Value) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u" } }],
            "clusters": [{ "name": "k", "cluster": cluster }],
            "users": [{ "name": "u", "user": user }],
        });
        std::io::Write::write_all(&mut file, kubeconfig.to_string().as_bytes()).unwrap();
        file
    }

    async fn connect(file: &tempfile::NamedTempFile) -> Result<Cluster, RunError> {
        Cluster::connect(&Access { kubeconfig: Some(file.path().to_owned()), context: None }).await
    }

    #[tokio::test]
    async fn tokens_that_no_header_holds() {
        let server = serde_json::json!({ "server": "http://127.0.0.1:1" });
        let error =
            connect(&kubeconfig(&server, &serde_json::json!({ "token": "planted\n" }))).await.unwrap_err();
        assert_eq!(error.cause, End::Unauthenticated.cause(), "{error}");
        assert!(error.message.contains("has a line end"), "{error}");
        assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    }

    #[tokio::test]
    async fn passwords_in_urls_are_not_told() {
        let user = serde_json::json!({});
        for proxy in ["socks5://u:planted@127.0.0.1:1", "ftp://u:planted@127.0.0.1:1"] {
            let cluster = serde_json::json!({ "server": "https://127.0.0.1:1", "proxy-url": proxy });
            let error = connect(&kubeconfig(&cluster, &user)).await.unwrap_err();
            assert_eq!(error.cause, End::Kubeconfig.cause(), "{error}");
            let all = format!("{error:?}");
            assert!(all.contains("://127.0.0.1:1 ") && !all.contains("planted"), "{all}");
        }
        let cluster = serde_json::json!({ "server": "https://u:planted@127.0.0.1:1/k8s" });
        let cluster = connect(&kubeconfig(&cluster, &user)).await.unwrap();
        assert_eq!(cluster.server(), "https://127.0.0.1:1/k8s");
    }

    /// A token that a plugin prints is nobody's business, whatever stands around it.
    #[tokio::test]
    async fn plugins_that_fail() {
        for (script, said) in [
            ("echo 'a warning'; echo planted-token", "printed something else than an ExecCredential"),
            ("echo planted-token; echo why >&2; echo >&2; exit 3", "ended with exit status: 3: why"),
            ("echo {}", "did not contain a status"),
            (
                r#"printf %s '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"planted\n"}}'"#,
                "has a line end",
            ),
        ] {
            let user = serde_json::json!({ "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "interactiveMode": "Never",
                "command": "sh",
                "args": ["-c", script],
                "env": [{ "name": "KEY", "value": "planted-key" }],
            } });
            let file = kubeconfig(&serde_json::json!({ "server": "http://127.0.0.1:1" }), &user);
            let error = connect(&file).await.unwrap_err();
            assert_eq!(error.cause, End::Unauthenticated.cause(), "{error}");
            assert!(error.message.contains(said), "{error}");
            let all = format!("{error:?}");
            assert!(!all.contains("planted"), "{all}");
        }
    }

    #[test]
    fn refusals_in_the_words_of_servers() {
        for (code, message, end) in [
            (401, "Unauthorized", End::Unauthenticated),
            (
                403,
                r#"pods is forbidden: User "u" cannot create resource "pods" in API group "" in the namespace "n""#,
                End::Forbidden,
            ),
            (
                403,
                r#"pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"#,
                End::Quota,
            ),
            (
                403,
                r#"pods "p" is forbidden: failed quota: q: must specify limits.cpu for: kaniko"#,
                End::Quota,
            ),
            (
                403,
                r#"pods "p" is forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities"#,
                End::PodSecurity,
            ),
            (
                403,
                r#"pods "p" is forbidden: unable to validate against any security context constraint: []"#,
                End::PodSecurity,
            ),
            (
                403,
                r#"pods "p" is forbidden: error looking up service account n/s: serviceaccount "s" not found"#,
                End::ServiceAccountMissing,
            ),
            (
                403,
                r#"pods "p" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi"#,
                End::LimitRange,
            ),
            (
                403,
                r#"pods "p" is forbidden: unable to create new content in namespace n because it is being terminated"#,
                End::NamespaceEnding,
            ),
            (400, r#"admission webhook "w" denied the request: no"#, End::Admission),
            (404, r#"namespaces "n" not found"#, End::NamespaceMissing),
            (422, r#"Pod "p" is invalid: spec.containers[0].image: Required value"#, End::PodInvalid),
        ] {
            assert_eq!(refusal(code, message), end, "{message}");
        }
    }
}
