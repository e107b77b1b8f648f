//! AWS's SDK over our HTTP: the same certificates, proxies and rules as everything else.

use std::{sync::Arc, time::Duration};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    Body, Error, Http, Method, Request, Url,
    header::{CONTENT_LENGTH, HeaderName, HeaderValue},
};

/// The HTTP client that all clients of the SDK share.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    http: Arc<Http>,
    metadata: Arc<Http>,
    limit: Option<Duration>,
}

/// Answers of AWS's APIs are JSON and XML of a few KiB; the largest that are asked for are manifests.
const ANSWER_BYTES_MAX: usize = 16 << 20;

impl Connector {
    /// Metadata services are asked through `metadata`, all else through `http`.
    pub(super) fn new(http: Arc<Http>, metadata: Arc<Http>) -> Self {
        Self { http, metadata, limit: None }
    }

    /// The client under this.
    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = ours(&request)?;
        let is_plain = request.url.scheme() == "http";
        let http =
            if is_plain && self.metadata.is_insecure(&request.url) { &self.metadata } else { &self.http };
        // Redirects would carry the session's token along, and AWS's APIs have none.
        let response = http.send_once(request).await.map_err(failure)?;
        let status = StatusCode::try_from(response.status().as_u16()).map_err(|error| other(error.into()))?;
        let headers = response.headers().clone();
        let body = response.bytes(ANSWER_BYTES_MAX).await.map_err(failure)?;
        let mut answer = HttpResponse::new(status, SdkBody::from(body));
        *answer.headers_mut() = headers
            .try_into()
            .map_err(|error: aws_smithy_runtime_api::http::HttpError| other(error.into()))?;
        Ok(answer)
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        // Without a limit for the answer there is none for the whole: parts of layers are large.
        let limit = settings.read_timeout().map(|read| read + settings.connect_timeout().unwrap_or_default());
        SharedHttpConnector::new(Self { limit, ..self.clone() })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move {
            let exchange = connector.exchange(request);
            match connector.limit {
                None => exchange.await,
                Some(limit) => timeout(limit, exchange).await.unwrap_or_else(|_| {
                    Err(ConnectorError::timeout(
                        format!("no answer within {} seconds", limit.as_secs()).into(),
                    ))
                }),
            }
        })
    }
}

fn ours(request: &HttpRequest) -> Result<Request, ConnectorError> {
    let user = |why: &str| ConnectorError::user(why.to_owned().into());
    let url: Url = request.uri().parse().map_err(|_| user("the endpoint is no URL"))?;
    let method: Method = request.method().parse().map_err(|_| user("the method is none of HTTP"))?;
    let mut ours = Request::new(method, url);
    for (name, value) in request.headers() {
        let name: HeaderName = name.parse().map_err(|_| user("a header has a wrong name"))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| user("a header has a wrong value"))?;
        value.set_sensitive(true);
        if name != CONTENT_LENGTH {
            ours.headers.append(name, value);
        }
    }
    let bytes = request.body().bytes().ok_or_else(|| user("the body is a stream, expected bytes"))?;
    if !bytes.is_empty() {
        ours.body = Body::Bytes(Bytes::copy_from_slice(bytes));
    }
    Ok(ours)
}

fn failure(error: Error) -> ConnectorError {
    match error {
        Error::Stalled { .. } => ConnectorError::timeout(error.into()),
        Error::Connection { .. } => ConnectorError::io(error.into()),
        _ => ConnectorError::user(error.into()),
    }
}

fn other(error: Box<dyn std::error::Error + Send + Sync>) -> ConnectorError {
    ConnectorError::other(error, None)
}
