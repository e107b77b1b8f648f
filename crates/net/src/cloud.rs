//! What clouds have in common: metadata services, lives of credentials, messages that repeat secrets.

use std::time::{Duration, SystemTime};

use crate::{Http, HttpOptions};

/// AWS, "Use IMDSv2", "Task IAM role", "EKS Pod Identity"; Google, "About VM metadata".
const HOSTS: [&str; 6] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "metadata.google.internal",
];
/// Where there is no cloud, nobody answers, and a build on a laptop should not wait for that.
const PATIENCE: Duration = Duration::from_secs(2);
/// Whoever says where one is has one, be it slow.
const NAMED_PATIENCE: Duration = Duration::from_secs(20);

/// How long a metadata service gets for an answer, by whether the user says where it is.
pub(crate) fn patience(is_named: bool) -> Duration {
    if is_named { NAMED_PATIENCE } else { PATIENCE }
}

/// A client for metadata services: plain http to addresses that never leave the machine's own network,
/// past any proxy, and answered at once or not at all. `named` (`host` or `host:port`) is where
/// the user has one elsewhere.
pub(crate) fn metadata_http(named: Option<String>) -> Http {
    let patience = patience(named.is_some());
    Http::new(HttpOptions {
        insecure_hosts: HOSTS.iter().map(|host| (*host).to_owned()).chain(named).collect(),
        connect_timeout: patience / 2,
        idle_timeout: patience,
        answer_timeout: patience,
        ..HttpOptions::default()
    })
}

/// A credential close to its end is not asked for again and again.
const FRESH_MIN: Duration = Duration::from_secs(30);

/// For how long a credential that lives for `life` is used before another is asked for: half of it,
/// so that what begins with it can also end with it.
///
/// ```
/// use std::time::Duration;
/// let hours = |hours: u64| Duration::from_secs(hours * 3600);
/// assert_eq!(ocib_net::half_life(hours(12)), hours(6));
/// ```
pub fn half_life(life: Duration) -> Duration {
    (life / 2).max(FRESH_MIN.min(life))
}

/// How long it is until `expires`; nothing if that is past.
pub(crate) fn left(expires: SystemTime) -> Duration {
    expires.duration_since(SystemTime::now()).unwrap_or_default()
}

/// `text` without what looks like a token, or is one of `secrets`: clouds repeat in their messages
/// what they were sent.
pub(crate) fn without_secrets(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= SECRET_MIN) {
        text = text.replace(secret.trim(), HIDDEN);
    }
    while let Some(start) = text.find(JWT_START) {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
        let end = text[start..].find(|c| !is_token(c)).map_or(text.len(), |length| start + length);
        text.replace_range(start..end, HIDDEN);
    }
    crate::printable(text.as_bytes(), WHY_CHARS)
}

/// Shorter ones would tear words apart, and are none.
const SECRET_MIN: usize = 8;
/// `{"` in base64: how each JSON Web Token begins (RFC 7519, section 3.1).
const JWT_START: &str = "eyJ";
const HIDDEN: &str = "[secret]";
const WHY_CHARS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_hidden() {
        let secrets = ["PlantedKey/1".to_owned(), "short".to_owned(), String::new()];
        for (text, expected) in [
            ("nothing to hide", "nothing to hide"),
            (
                "Value 'eyJhbGciOi.eyJzdWIi.c2ln-_=' at 'webIdentityToken'",
                "Value '[secret]' at 'webIdentityToken'",
            ),
            ("key PlantedKey/1, short", "key [secret], short"),
            ("ends eyJx", "ends [secret]"),
            ("\u{1b}[31m", "\\u{1b}[31m"),
        ] {
            assert_eq!(without_secrets(text, &secrets), expected, "{text}");
        }
    }

    #[test]
    fn half_of_a_life() {
        for (life, expected) in [(43_200, 21_600), (900, 450), (50, 30), (20, 20), (0, 0)] {
            let [life, expected] = [life, expected].map(Duration::from_secs);
            assert_eq!(half_life(life), expected, "{life:?}");
        }
    }
}
