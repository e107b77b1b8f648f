//! Answers that mean failure, and what stands in the headers of the others.

use ocib_image::Digest;
use ocib_net::{Redacted, Response, StatusCode, header, printable};
use serde::Deserialize;

use crate::{Error, RegistryCode};

/// distribution-spec, "Legacy Docker support": older registries lack it.
const CONTENT_DIGEST: &str = "docker-content-digest";
/// More than one screen of a registry's complaints helps nobody.
const CODES_MAX: usize = 5;
const CODE_CHARS: usize = 60;
const MESSAGE_CHARS: usize = 500;

/// `response` as an error, with what it says.
pub(super) async fn failure(response: Response) -> Error {
    let (method, url) = (response.method().clone(), Redacted::of(response.url()));
    let (status, retry_after) = (response.status(), response.retry_after());
    let codes = codes(&response.said().await);
    Error::Registry { method, url, status, codes, retry_after }
}

/// Whether `response` says that the proof of identity is no longer good: a 401, or ECR's 403 whose
/// text says that it is expired. A 403 to HEAD says nothing.
pub(super) async fn is_stale(response: &mut Response) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::FORBIDDEN => codes(response.peek().await).iter().any(RegistryCode::says_expired),
        _ => false,
    }
}

/// The digest that the registry says the content has.
pub(super) fn content_digest(response: &Response) -> Option<Digest> {
    response.header(CONTENT_DIGEST)?.parse().ok()
}

/// Checks a registry's answer to a write: where it names a digest, that must be ours.
pub(super) fn check_stored(response: &Response, expected: Digest) -> Result<(), Error> {
    match content_digest(response) {
        Some(actual) if actual != expected => {
            let what = format!("what {} stored", Redacted::of(response.url()));
            Err(Error::WrongDigest { what, expected, actual })
        }
        _ => Ok(()),
    }
}

/// The media type that the content was served as, without parameters.
pub(super) fn content_type(response: &Response) -> Option<&str> {
    response.header(header::CONTENT_TYPE.as_str())?.split(';').next().map(str::trim)
}

/// Reads distribution-spec's error document, OAuth2's (RFC 6749, section 5.2), or plain text.
fn codes(body: &[u8]) -> Vec<RegistryCode> {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<Coded>,
        error: Option<String>,
        #[serde(alias = "details")]
        error_description: Option<String>,
    }
    #[derive(Deserialize)]
    struct Coded {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: Option<String>,
    }
    let plain = || match printable(body, MESSAGE_CHARS) {
        text if text.is_empty() => Vec::new(),
        text => vec![RegistryCode { code: String::new(), message: text }],
    };
    let Ok(document) = serde_json::from_slice::<Errors>(body) else { return plain() };
    let shown = |code: &str, message: &str| RegistryCode {
        code: printable(code.as_bytes(), CODE_CHARS),
        message: printable(message.as_bytes(), MESSAGE_CHARS),
    };
    if !document.errors.is_empty() {
        let errors = document.errors.iter().take(CODES_MAX);
        return errors.map(|said| shown(&said.code, said.message.as_deref().unwrap_or_default())).collect();
    }
    match (document.error, document.error_description) {
        (None, None) => plain(),
        (code, message) => vec![shown(&code.unwrap_or_default(), &message.unwrap_or_default())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say() {
        for (body, expected) in [
            ("", &[][..]),
            (r#"{"errors":[{"code":"DENIED","message":"no","detail":[1]}]}"#, &[("DENIED", "no")]),
            (r#"{"errors":[{"code":"A"},{"message":"b\u001b"}]}"#, &[("A", ""), ("", "b\\u{1b}")]),
            (r#"{"error":"invalid_grant","error_description":"expired"}"#, &[("invalid_grant", "expired")]),
            (r#"{"details":"incorrect username or password"}"#, &[("", "incorrect username or password")]),
            ("<html>\nBad Gateway", &[("", "<html> Bad Gateway")]),
            (r#"{"x":1}"#, &[("", r#"{"x":1}"#)]),
        ] {
            let actual = codes(body.as_bytes());
            let actual: Vec<_> =
                actual.iter().map(|said| (said.code.as_str(), said.message.as_str())).collect();
            assert_eq!(actual, expected, "{body}");
        }
    }
}
