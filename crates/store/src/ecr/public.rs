//! ECR Public's two calls, signed here: another client of the SDK would cost a minute to build.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials as Keys;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use bytes::Bytes;
use ocib_net::{
    Backoff, Body, Http, Method, Request, Retry, Url, Verdict,
    aws::Aws,
    header::{CONTENT_TYPE, HeaderValue},
    retry,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    auth::{Token, password},
    host::PUBLIC_REGION,
    refused,
};
use crate::Error;

/// ECR Public, by AWS's API.
#[derive(Clone, Debug)]
pub struct EcrPublic {
    aws: Aws,
    http: Arc<Http>,
}

impl EcrPublic {
    /// ECR Public for whoever `aws` is, through `http`. Nothing is asked yet.
    pub fn new(aws: Aws, http: Arc<Http>) -> Self {
        Self { aws, http }
    }

    /// Creates the repository that is at `path` (`alias/name`); one that is there already is an error, and so is
    /// one of a registry that is another's. Needs `ecr-public:CreateRepository`.
    pub async fn create(&self, path: &str) -> Result<(), Error> {
        let session = self.aws.session(PUBLIC_REGION).await?;
        let arguments = json!({ "repositoryName": public_name(path) });
        let answer = call(&self.http, &session.credentials, &CREATE, &arguments).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let made = answer["repository"]["repositoryUri"].as_str().unwrap_or_default();
        match made.split_once('/') {
            Some((_, made)) if made != path => {
                let why = format!("it is {made} now and not {path}: the registry of that alias is another's");
                Err(refused(CREATE.name, "", &why))
            }
            _ => Ok(()),
        }
    }
}

/// The name of a repository without its registry's alias, as the API and ARNs have it.
pub(super) fn public_name(path: &str) -> &str {
    path.split_once('/').map_or(path, |(_, name)| name)
}

/// An operation of the API.
struct Operation {
    /// As IAM calls it.
    name: &'static str,
    /// As requests do.
    target: &'static str,
}

/// ECR Public API reference; needs `sts:GetServiceBearerToken` too.
const TOKEN: Operation = Operation {
    name: "ecr-public:GetAuthorizationToken",
    target: "SpencerFrontendService.GetAuthorizationToken",
};
const CREATE: Operation =
    Operation { name: "ecr-public:CreateRepository", target: "SpencerFrontendService.CreateRepository" };
const SERVICE: &str = "ecr-public";
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Asks for a token of ECR Public.
pub(super) async fn token(http: &Http, keys: &Keys) -> Result<Token, Error> {
    read(&call(http, keys, &TOKEN, &json!({})).await?)
}

/// Calls `operation` in the one region that has all of them.
async fn call(http: &Http, keys: &Keys, operation: &Operation, arguments: &Value) -> Result<Bytes, Error> {
    let body = Bytes::from(arguments.to_string());
    let called = retry(Backoff::default(), async || {
        let request = signed(&endpoint(PUBLIC_REGION), keys, operation, body.clone(), SystemTime::now())?;
        let response = http.send_once(request).await?;
        let status = response.status();
        let answer = response.bytes(ANSWER_BYTES_MAX).await?;
        match status.is_success() {
            true => Ok(answer),
            false => Err(Failed {
                error: complaint(operation, &answer),
                verdict: Verdict::of_status(status, None),
            }),
        }
    });
    called.await.map_err(|failed| failed.error)
}

/// Why an attempt failed, and whether another one is worth it.
struct Failed {
    error: Error,
    verdict: Verdict,
}

impl Retry for Failed {
    fn verdict(&self) -> Verdict {
        self.verdict
    }
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        let error = error.into();
        Self { verdict: error.verdict(), error }
    }
}

/// The endpoint, or the one that the variables of all SDKs name instead.
fn endpoint(region: &str) -> String {
    let named =
        ["AWS_ENDPOINT_URL_ECR_PUBLIC", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
    named.unwrap_or_else(|| format!("https://api.ecr-public.{region}.amazonaws.com"))
}

fn signed(
    endpoint: &str,
    keys: &Keys,
    operation: &Operation,
    body: Bytes,
    now: SystemTime,
) -> Result<Request, Error> {
    let wrong = |why: String| refused(operation.name, "", &why);
    let url: Url = endpoint.parse().map_err(|_| wrong("its endpoint is no URL".to_owned()))?;
    let identity = keys.clone().into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(PUBLIC_REGION)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", operation.target)];
    let signable =
        SignableRequest::new("POST", url.as_str(), headers.into_iter(), SignableBody::Bytes(&body))
            .map_err(|error| wrong(error.to_string()))?;
    let (instructions, _) =
        sign(signable, &params.into()).map_err(|error| wrong(error.to_string()))?.into_parts();
    let mut request = Request::new(Method::POST, url);
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(headers[0].1));
    request.headers.insert("x-amz-target", HeaderValue::from_static(operation.target));
    for (name, value) in instructions.headers() {
        let mut value = HeaderValue::try_from(value).map_err(|error| wrong(error.to_string()))?;
        value.set_sensitive(true);
        let name: ocib_net::header::HeaderName =
            name.parse().expect("the signer's names are constants of SigV4");
        request.headers.insert(name, value);
    }
    request.body = Body::Bytes(body);
    Ok(request)
}

fn read(answer: &[u8]) -> Result<Token, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        authorization_data: Data,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        authorization_token: String,
        expires_at: f64,
    }
    let none = || refused(TOKEN.name, "", "its answer has no token");
    // Not the parser's words: they may quote the token.
    let data = serde_json::from_slice::<Answer>(answer).map_err(|_| none())?.authorization_data;
    let password = password(&data.authorization_token).ok_or_else(none)?;
    let since = Duration::try_from_secs_f64(data.expires_at).map_err(|_| none())?;
    let expires = SystemTime::UNIX_EPOCH.checked_add(since).ok_or_else(none)?;
    Ok(Token { password, expires })
}

fn complaint(operation: &Operation, answer: &[u8]) -> Error {
    #[derive(Default, Deserialize)]
    struct Said {
        #[serde(rename = "__type", default)]
        code: String,
        #[serde(alias = "Message", default)]
        message: String,
    }
    let said: Said = serde_json::from_slice(answer).unwrap_or_default();
    // `com.amazonaws.x#Code`.
    refused(operation.name, said.code.rsplit('#').next().unwrap_or_default(), &said.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_ends_of_all_kinds() {
        for (end, expected) in [("1e9", Some(1_000_000_000)), ("1.8e19", None), ("-1", None), ("1e300", None)]
        {
            let answer = format!(
                r#"{{"authorizationData":{{"authorizationToken":"QVdTOnBhc3M=","expiresAt":{end}}}}}"#
            );
            let token = read(answer.as_bytes()).ok();
            let seconds = token.map(|token| {
                token.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
            });
            assert_eq!(seconds, expected, "{end}");
        }
    }
}
