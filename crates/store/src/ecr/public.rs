//! ECR Public's one call, signed here: another client of the SDK would cost a minute to build.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as Keys;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use bytes::Bytes;
use ocib_net::{
    Body, Http, Method, Request, Url,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;

use super::{
    auth::{Token, password},
    refused,
};
use crate::Error;

/// ECR Public API reference, `GetAuthorizationToken`; needs `sts:GetServiceBearerToken` too.
const ACTION: &str = "ecr-public:GetAuthorizationToken";
const TARGET: &str = "SpencerFrontendService.GetAuthorizationToken";
const SERVICE: &str = "ecr-public";
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Asks for a token of ECR Public.
pub(super) async fn token(http: &Http, keys: &Keys, region: &str) -> Result<Token, Error> {
    let request = signed(&endpoint(region), keys, region, SystemTime::now())?;
    let response = http.send_once(request).await?;
    let is_success = response.status().is_success();
    let answer = response.bytes(ANSWER_BYTES_MAX).await?;
    match is_success {
        true => read(&answer),
        false => Err(complaint(&answer)),
    }
}

/// The endpoint, or the one that the variables of all SDKs name instead.
fn endpoint(region: &str) -> String {
    let named =
        ["AWS_ENDPOINT_URL_ECR_PUBLIC", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
    named.unwrap_or_else(|| format!("https://api.ecr-public.{region}.amazonaws.com"))
}

fn signed(endpoint: &str, keys: &Keys, region: &str, now: SystemTime) -> Result<Request, Error> {
    let wrong = |why: String| refused(ACTION, "", &why);
    let url: Url = endpoint.parse().map_err(|_| wrong("its endpoint is no URL".to_owned()))?;
    let body = b"{}";
    let identity = keys.clone().into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", TARGET)];
    let signable = SignableRequest::new("POST", url.as_str(), headers.into_iter(), SignableBody::Bytes(body))
        .map_err(|error| wrong(error.to_string()))?;
    let (instructions, _) =
        sign(signable, &params.into()).map_err(|error| wrong(error.to_string()))?.into_parts();
    let mut request = Request::new(Method::POST, url);
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(headers[0].1));
    request.headers.insert("x-amz-target", HeaderValue::from_static(TARGET));
    for (name, value) in instructions.headers() {
        let mut value = HeaderValue::try_from(value).map_err(|error| wrong(error.to_string()))?;
        value.set_sensitive(true);
        let name: ocib_net::header::HeaderName =
            name.parse().expect("the signer's names are constants of SigV4");
        request.headers.insert(name, value);
    }
    request.body = Body::Bytes(Bytes::from_static(body));
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
    let none = || refused(ACTION, "", "its answer has no token");
    // Not the parser's words: they may quote the token.
    let data = serde_json::from_slice::<Answer>(answer).map_err(|_| none())?.authorization_data;
    let password = password(&data.authorization_token).ok_or_else(none)?;
    let since = Duration::try_from_secs_f64(data.expires_at).map_err(|_| none())?;
    Ok(Token { password, expires: SystemTime::UNIX_EPOCH + since })
}

fn complaint(answer: &[u8]) -> Error {
    #[derive(Default, Deserialize)]
    struct Said {
        #[serde(rename = "__type", default)]
        code: String,
        #[serde(alias = "Message", default)]
        message: String,
    }
    let said: Said = serde_json::from_slice(answer).unwrap_or_default();
    // `com.amazonaws.x#Code`.
    refused(ACTION, said.code.rsplit('#').next().unwrap_or_default(), &said.message)
}
