//! An object as it was listed.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_core::future::BoxFuture;
use ocib_image::Digest;
use ocib_net::{
    Backoff, Method, Redacted, StatusCode, Url,
    header::{HeaderMap, HeaderValue, IF_MATCH},
    retry,
};

use super::{access::Access, list::Listing};
use crate::{
    Error,
    transfer::{Answer, Part, Stored, changed},
};

/// An object as it was listed.
#[derive(Debug)]
pub(super) struct Object {
    access: Arc<Access>,
    url: Url,
    size: u64,
    etag: String,
}

impl Object {
    pub(super) fn new(access: Arc<Access>, listing: &Listing) -> Self {
        let url = access.url(&listing.key);
        Self { access, url, size: listing.size, etag: listing.etag.clone() }
    }

    fn pinned(&self, mut headers: HeaderMap) -> HeaderMap {
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(IF_MATCH, etag);
        }
        headers
    }

    /// The SHA-256 that the store keeps of the whole object, if it does (Amazon S3, "Checking object
    /// integrity"): what it keeps of an object's parts is no digest of it.
    pub(super) async fn digest(&self, backoff: Backoff) -> Result<Option<Digest>, Error> {
        let mut headers = self.pinned(HeaderMap::new());
        headers.insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
        let response = retry(backoff, async || {
            let response = self.access.ask(Method::HEAD, &self.url, &headers).await?;
            match response.status() {
                StatusCode::PRECONDITION_FAILED => Err(self.replaced()),
                status if status.is_success() => Ok(response),
                _ => Err(self.access.refusal(response).await),
            }
        })
        .await?;
        let is_whole = response.header("x-amz-checksum-type").is_none_or(|kind| kind == "FULL_OBJECT");
        let sum = response.header("x-amz-checksum-sha256").filter(|_| is_whole);
        let bytes = sum.and_then(|sum| BASE64_STANDARD.decode(sum).ok()).filter(|bytes| bytes.len() == 32);
        Ok(bytes.and_then(|bytes| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hex}").parse().ok()
        }))
    }

    fn replaced(&self) -> Error {
        changed(self, "it has another entity tag now".to_owned())
    }

    async fn ask(&self, part: Part) -> Result<Answer, Error> {
        let response = self.access.ask(Method::GET, &self.url, &self.pinned(part.headers())).await?;
        match response.status() {
            StatusCode::PRECONDITION_FAILED => Err(self.replaced()),
            StatusCode::RANGE_NOT_SATISFIABLE => part.answer(self, response),
            status if status.is_success() => part.answer(self, response),
            _ => Err(self.access.refusal(response).await),
        }
    }
}

impl Stored for Object {
    fn get(&self, part: Part) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(self.ask(part))
    }

    fn length(&self) -> Option<u64> {
        Some(self.size)
    }

    fn shown(&self) -> Redacted {
        Redacted::of(&self.url)
    }
}
