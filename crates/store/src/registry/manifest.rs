//! Manifests and indexes in a repository (distribution-spec, "Pulling manifests", "Pushing Manifests").

use std::time::Duration;

use bytes::Bytes;
use ocib_image::{Descriptor, Digest, Document, MAX_DOCUMENT_BYTES, MediaType};
use ocib_net::{
    Body, Method, Request,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
    retry,
};

use super::{Repository, answer};
use crate::Error;

/// The documents that ocib reads. Registries convert or refuse what is not asked for.
const DOCUMENTS: [MediaType; 4] =
    [MediaType::Index, MediaType::Manifest, MediaType::DockerList, MediaType::DockerManifest];

/// Statuses of a question whose answer is not a yes. Who may only write is told 403; the write that
/// follows then says whether that is allowed.
const ABSENT_OR_SECRET: &[u16] = &[403, 404];

/// How long a registry gets to find a blob again that it has. Distribution 2.8 writes the link to a blob anew, in place,
/// when somebody else pushes the same one, and knows nothing of it while it does.
const UNSETTLED: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

impl Repository {
    /// The document that `target`, a tag or digest, names; its bytes have the digest `expected`, if
    /// that is given, and else the digest that the registry says they have.
    pub(super) async fn document(&self, target: &str, expected: Option<Digest>) -> Result<Document, Error> {
        self.document_within(target, expected, MAX_DOCUMENT_BYTES).await
    }

    /// The document that `descriptor` is of, no byte longer than that says.
    pub(super) async fn described_document(&self, descriptor: &Descriptor) -> Result<Document, Error> {
        let limit = usize::try_from(descriptor.size).unwrap_or(usize::MAX).min(MAX_DOCUMENT_BYTES);
        self.document_within(&descriptor.digest.to_string(), Some(descriptor.digest), limit).await
    }

    async fn document_within(
        &self,
        target: &str,
        expected: Option<Digest>,
        limit: usize,
    ) -> Result<Document, Error> {
        let (said, media_type, raw) = retry(self.backoff, || self.fetch_document(target, limit)).await?;
        let what = || {
            let separator = if target.contains(':') { '@' } else { ':' };
            format!("{}{separator}{target}", self.name.name())
        };
        let actual = Digest::of(&raw);
        if let Some(expected) = expected.or(said).filter(|expected| *expected != actual) {
            return Err(Error::WrongDigest { what: what(), expected, actual });
        }
        let document = Document::parse(media_type.as_ref(), raw);
        document.map_err(|source| Error::Document { name: what(), source })
    }

    async fn fetch_document(
        &self,
        target: &str,
        limit: usize,
    ) -> Result<(Option<Digest>, Option<MediaType>, Bytes), Error> {
        let response = self.expect(self.document_request(Method::GET, target).await?, &[]).await?;
        let said = answer::content_digest(&response);
        let media_type = answer::content_type(&response).map(MediaType::from);
        Ok((said, media_type, response.bytes(limit).await?))
    }

    /// The digest of the document that `target` names: `None` if there is none, or if the registry
    /// does not say, as ECR to whoever may push but not read.
    pub(super) async fn document_digest(&self, target: &str) -> Result<Option<Digest>, Error> {
        retry(self.backoff, async || {
            let response =
                self.expect(self.document_request(Method::HEAD, target).await?, ABSENT_OR_SECRET).await?;
            Ok(answer::content_digest(&response).filter(|_| response.status().is_success()))
        })
        .await
    }

    /// Makes `target`, a tag or digest, name `document`.
    pub(super) async fn put_document(&self, target: &str, document: &Document) -> Result<(), Error> {
        for pause in UNSETTLED {
            match self.try_put_document(target, document).await {
                Err(error) if is_of_blob(&error) && self.has_blobs(document).await => {
                    tokio::time::sleep(pause).await;
                }
                put => return put,
            }
        }
        self.try_put_document(target, document).await
    }

    async fn try_put_document(&self, target: &str, document: &Document) -> Result<(), Error> {
        let descriptor = document.descriptor();
        retry(self.backoff, async || {
            let mut request = Request::new(Method::PUT, self.url(&format!("manifests/{target}")).await?);
            let media_type = HeaderValue::from_str(descriptor.media_type.as_str())
                .expect("a document's type is one of four constants");
            request.headers.insert(CONTENT_TYPE, media_type);
            request.body = Body::Bytes(document.raw().clone());
            let response = self.expect(request, &[]).await?;
            answer::check_stored(&response, descriptor.digest)
        })
        .await
    }

    pub(super) async fn document_request(&self, method: Method, target: &str) -> Result<Request, Error> {
        let mut request = Request::new(method, self.url(&format!("manifests/{target}")).await?);
        let accept = DOCUMENTS.map(|media_type| media_type.to_string()).join(", ");
        let accept = HeaderValue::from_str(&accept).expect("media types have only visible characters");
        request.headers.insert(ACCEPT, accept);
        Ok(request)
    }

    /// Whether the repository says of each blob of a manifest that it has it.
    async fn has_blobs(&self, document: &Document) -> bool {
        let Document::Manifest(manifest) = document else { return false };
        for blob in manifest.layers().iter().chain([manifest.config()]) {
            if !matches!(self.has_blob(blob.digest).await, Ok(true)) {
                return false;
            }
        }
        true
    }

    /// Whether the repository has the blob, as far as it says.
    pub(super) async fn has_blob(&self, digest: Digest) -> Result<bool, Error> {
        retry(self.backoff, async || {
            let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}")).await?);
            Ok(self.expect(request, ABSENT_OR_SECRET).await?.status().is_success())
        })
        .await
    }
}

/// Whether a registry refused a manifest because it does not know a blob.
fn is_of_blob(error: &Error) -> bool {
    ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"].iter().any(|code| error.has_code(code))
}
