//! What can go wrong between a request and its answer.

use std::{error::Error as StdError, time::Duration};

use reqwest::{Method, StatusCode};

use crate::{Attempt, Redacted, Retry, Verdict, identity::Tried};

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
        match why.contains("invalid peer certificate") {
            true => Self::Untrusted { method, url, why },
            false => Self::Connection { method, url, why },
        }
    }
}

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
