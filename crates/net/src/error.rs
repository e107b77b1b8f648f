//! What can go wrong between a request and its answer.

use std::{error::Error as StdError, time::Duration};

use reqwest::{Method, StatusCode};

use crate::{Attempt, Proxy, Redacted, Retry, Verdict, identity::Tried};

/// Errors of HTTP. URLs are redacted, and what a server said is bounded and escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection could not be made, or broke off.
    #[error("{method} {url} failed: {why}")]
    Connection {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// What the system or the protocol said.
        why: String,
    },
    /// The server did not prove who it is.
    #[error("{method} {url} failed: the server's certificate is not trusted: {why}")]
    Untrusted {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// What is wrong with the certificate.
        why: String,
    },
    /// The server wants to know who asks by a certificate, and got none or one that it does not trust.
    #[error("{method} {url} failed: the server wants a client certificate that it trusts: {why}")]
    ClientCertificate {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// What the server said.
        why: String,
    },
    /// The proxy does not let ocib through without a login, or with the one that it was given.
    #[error("{method} {url} failed: the proxy {proxy} wants a user and a password that it knows")]
    ProxyLogin {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// The proxy.
        proxy: Redacted,
    },
    /// The server neither took nor gave a byte for too long.
    #[error("{method} {url} failed: no progress for {} seconds", limit.as_secs())]
    Stalled {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The server answered with a status that means failure.
    #[error("{method} {url} answered {}{}", status.as_u16(), after_colon(said))]
    Status {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// The status.
        status: StatusCode,
        /// The beginning of the answer's body.
        said: String,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer that is longer than its kind may be.
    #[error("{method} {url} answered with more than {limit} bytes")]
    TooLong {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// What was allowed, in bytes.
        limit: usize,
    },
    /// A redirect that is not followed.
    #[error("{method} {url} redirects to {target}, which is not followed: {why}")]
    Redirect {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// Where it should have gone.
        target: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A URL that may not be asked.
    #[error("{url} is not asked: {why}")]
    Forbidden {
        /// The URL.
        url: Redacted,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// TLS cannot be used here: no certificates to trust, or certificates that cannot be read.
    #[error("https cannot be used: {why}")]
    Tls {
        /// What is missing.
        why: String,
    },
    /// A variable of the environment that should name a proxy. What it holds may be a secret.
    #[error("{variable} names no proxy: {why}, expected http://[USER:PASSWORD@]HOST[:PORT]")]
    BadProxy {
        /// The variable, such as `HTTPS_PROXY`.
        variable: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody in a cloud: every way to an identity led nowhere.
    #[error("no identity for {cloud} was found: {}", Tried(tried))]
    Unidentified {
        /// The cloud.
        cloud: &'static str,
        /// What was tried, in its order; what was configured and failed is the last.
        tried: Vec<Attempt>,
        /// Whether nothing was configured at all, rather than something that failed.
        is_absence: bool,
    },
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl Error {
    /// The status that the server answered with, if it did.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether it says that nobody is configured in a cloud, so that one may go on anonymously.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unidentified { is_absence: true, .. })
    }

    /// What `error` means for the request `method` `url`. Reqwest's own text repeats the URL with
    /// its query, so only the innermost cause is kept.
    pub(crate) fn of_client(method: &Method, url: &reqwest::Url, error: &reqwest::Error) -> Self {
        let (method, url, why) = (method.clone(), Redacted::of(url), innermost(error));
        if why.contains("invalid peer certificate") {
            return Self::Untrusted { method, url, why };
        }
        match CERTIFICATE_ALERTS.iter().any(|alert| why.ends_with(alert)) {
            true => Self::ClientCertificate { method, url, why },
            false => Self::Connection { method, url, why },
        }
    }

    /// The same, and that it happened on the way through `proxy`: that may be whose fault it is.
    pub(crate) fn through(self, proxy: Option<&Proxy>) -> Self {
        match (self, proxy) {
            (Self::Connection { method, url, why }, Some(proxy)) if why.ends_with(PROXY_REFUSES) => {
                Self::ProxyLogin { method, url, proxy: Redacted::of(proxy.url()) }
            }
            (Self::Connection { method, url, why }, Some(proxy)) => {
                Self::Connection { method, url, why: format!("{why} (through the proxy {proxy})") }
            }
            (Self::Untrusted { method, url, why }, Some(proxy)) => {
                Self::Untrusted { method, url, why: format!("{why} (through the proxy {proxy})") }
            }
            (error, _) => error,
        }
    }
}

/// What hyper-util makes of a proxy's 407.
const PROXY_REFUSES: &str = "proxy authorization required";

/// Alerts by which servers refuse a client's certificate, or none (RFC 8446, section 6.2), as rustls
/// names them.
const CERTIFICATE_ALERTS: [&str; 6] = [
    "received fatal alert: BadCertificate",
    "received fatal alert: CertificateExpired",
    "received fatal alert: CertificateRequired",
    "received fatal alert: CertificateRevoked",
    "received fatal alert: CertificateUnknown",
    "received fatal alert: UnknownCA",
];

/// The text at the end of the chain of causes.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn StdError> = error.source();
    let mut text = None;
    while let Some(error) = cause {
        text = Some(error.to_string());
        cause = error.source();
    }
    crate::printable(text.as_deref().unwrap_or("the request could not be sent").as_bytes(), 300)
}

impl Retry for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Connection { .. } | Self::Stalled { .. } => Verdict::Again { after: None },
            Self::Status { status, retry_after, .. } => Verdict::of_status(*status, *retry_after),
            _ => Verdict::Final,
        }
    }
}
