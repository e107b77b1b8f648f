//! Requests for access tokens, and their answers (RFC 6749, section 5.1).

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Body, Http, Method, Request, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};

/// What Google's APIs ask for when the finer rights are those of IAM.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// No token is used for longer, whatever its endpoint says: no clock holds some of what it may say.
const LIFE_MAX: Duration = Duration::from_secs(86_400);

/// A token and how long it lives.
pub(super) struct Granted {
    pub(super) token: String,
    pub(super) life: Duration,
}

impl Granted {
    pub(super) fn parse(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            access_token: String,
            expires_in: u64,
        }
        let answer: Answer = serde_json::from_slice(answer).ok()?;
        Some(Self { token: answer.access_token, life: Duration::from_secs(answer.expires_in).min(LIFE_MAX) })
    }

    /// The answer of IAM's `generateAccessToken`.
    fn parse_impersonated(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            access_token: String,
            expire_time: String,
        }
        let answer: Answer = serde_json::from_slice(answer).ok()?;
        let end = humantime::parse_rfc3339(&answer.expire_time).ok()?;
        let life = end.duration_since(SystemTime::now()).unwrap_or_default();
        Some(Self { token: answer.access_token, life: life.min(LIFE_MAX) })
    }
}

/// Sends a form to the token endpoint `url`.
pub(super) async fn grant(http: &Http, url: &str, fields: &[(&str, &str)]) -> Result<Granted, String> {
    let url: Url = url.parse().map_err(|_| "its token endpoint is no URL".to_owned())?;
    // A query's encoding is a form's.
    let mut form = url.clone();
    form.set_query(None);
    form.query_pairs_mut().extend_pairs(fields);
    let mut request = Request::new(Method::POST, url);
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    request.body = Body::Bytes(form.query().unwrap_or_default().to_owned().into());
    let answer = ask(http, request).await?;
    Granted::parse(&answer).ok_or_else(|| "the token endpoint's answer has no token".to_owned())
}

/// Exchanges `token` for one of the service account that `url` is about.
pub(super) async fn impersonate(http: &Http, url: &str, token: &str) -> Result<Granted, String> {
    let url: Url = url.parse().map_err(|_| "service_account_impersonation_url is no URL".to_owned())?;
    let mut request = Request::new(Method::POST, url);
    let mut proof = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "the token endpoint's answer is no token".to_owned())?;
    proof.set_sensitive(true);
    request.headers.insert(AUTHORIZATION, proof);
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = Body::Bytes(format!(r#"{{"scope":["{SCOPE}"]}}"#).into());
    let answer = ask(http, request).await?;
    let none = || "the answer for the service account has no token".to_owned();
    Granted::parse_impersonated(&answer).ok_or_else(none)
}

/// The whole answer to `request`; redirects are not followed, as they would carry secrets along.
pub(super) async fn ask(http: &Http, request: Request) -> Result<Vec<u8>, String> {
    let response = http.send_once(request).await.map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(response.into_error().await.to_string());
    }
    Ok(response.bytes(ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())?.to_vec())
}

/// What `field` of the JSON in `text` holds, if that is text.
pub(super) fn field(text: &[u8], field: &str) -> Option<String> {
    serde_json::from_slice::<Value>(text).ok()?[field].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_that_no_clock_holds() {
        let plain = br#"{"access_token":"t","expires_in":18446744073709551615}"#;
        let impersonated = br#"{"accessToken":"t","expireTime":"9999-12-31T23:59:59Z"}"#;
        for granted in [Granted::parse(plain), Granted::parse_impersonated(impersonated)] {
            assert_eq!(granted.map(|granted| granted.life), Some(LIFE_MAX));
        }
    }
}
