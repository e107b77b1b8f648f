//! Objects on their way into a bucket (Amazon S3 API, "Multipart upload overview"; Google's XML API has the same,
//! "XML API multipart uploads").
//!
//! A part is in memory at a time, and is what is sent again after a failure. An object that fits into one
//! part is put at once.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use ocib_image::PlaceError;
use ocib_net::{Backoff, Method, Response, Url, retry};

use super::{BucketLocation, BucketProblem, Provider, access::Access, list::element};
use crate::{Error, userinfo::percent_encoded};

/// Parts have 5 MiB at least, but for the last, and there are 10,000 at most.
const PART_BYTES: usize = 8 << 20;
/// After so many they are twice as large, and then once more: 10,000 of them hold 240 GiB.
const PARTS_PER_SIZE: usize = 2000;
const DOUBLINGS_MAX: usize = 2;
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Writes objects below a location. Must be used within a runtime of tokio.
pub struct BucketUploads {
    access: Arc<Access>,
    location: BucketLocation,
    backoff: Backoff,
    /// Uploads that were begun and not ended, by key.
    open: Mutex<BTreeMap<String, String>>,
}

/// An object that is being written. Dropped, it stays unwritten; [`BucketUploads::remove`] takes away what was
/// sent of it.
#[derive(Debug)]
pub struct BucketUpload<'a> {
    uploads: &'a BucketUploads,
    key: String,
    part: BytesMut,
    /// Entity tags of the parts that were sent.
    sent: Vec<String>,
}

impl BucketUploads {
    pub(super) fn new(access: Arc<Access>, location: BucketLocation, backoff: Backoff) -> Self {
        Self { access, location, backoff, open: Mutex::default() }
    }

    /// Where the object `name` is, or will be.
    pub fn location(&self, name: &str) -> BucketLocation {
        let above = self.location.key.trim_end_matches('/');
        let key = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
        BucketLocation { key, ..self.location.clone() }
    }

    /// The region that the bucket was found in, as far as is known; `None` for a store that has no regions.
    pub fn region(&self) -> Option<String> {
        (self.location.provider == Provider::S3).then(|| self.access.region())
    }

    /// The store that was named instead of Amazon's or Google's own.
    pub fn endpoint(&self) -> Option<Url> {
        self.access.endpoint()
    }

    /// Begins the object `name`. Asks nobody yet.
    pub fn begin(&self, name: &str) -> BucketUpload<'_> {
        let key = self.location(name).key;
        BucketUpload { uploads: self, key, part: BytesMut::new(), sent: Vec::new() }
    }

    /// Removes the object `name` and what was sent of it. That it is not there is fine.
    ///
    /// # Errors
    /// By kind, as for [`Buckets::open`](super::Buckets::open).
    pub async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        let key = self.location(name).key;
        let id = self.open().get(&key).cloned();
        if let Some(id) = id {
            self.abort(&key, &id).await?;
        }
        Ok(self.delete(&key).await?)
    }

    /// Whether objects can be written and removed here, found out without leaving one: an upload is begun and
    /// given up, and an object that is not there removed.
    ///
    /// # Errors
    /// By kind, as for [`Buckets::open`](super::Buckets::open).
    pub async fn check(&self, name: &str) -> Result<(), PlaceError> {
        let key = self.location(name).key;
        let id = self.create(&key).await?;
        self.abort(&key, &id).await?;
        Ok(self.delete(&key).await?)
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an upload in parts; gives its name.
    async fn create(&self, key: &str) -> Result<String, Error> {
        self.access.choose_region().await;
        let answer = self.ask(Method::POST, key, "uploads=", Bytes::new()).await?;
        let answer = text(answer).await?;
        let id = element(&answer, "UploadId").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| self.unexpected("the upload that it began has no UploadId"))?.to_owned();
        self.open().insert(key.to_owned(), id.clone());
        Ok(id)
    }

    async fn abort(&self, key: &str, id: &str) -> Result<(), Error> {
        let query = format!("uploadId={}", percent_encoded(id));
        self.gone(self.ask(Method::DELETE, key, &query, Bytes::new()).await)?;
        self.open().remove(key);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.gone(self.ask(Method::DELETE, key, "", Bytes::new()).await)
    }

    /// What is not there needs no removal.
    fn gone(&self, answer: Result<Response, Error>) -> Result<(), Error> {
        match answer {
            Err(Error::Bucket { problem, .. }) if matches!(*problem, BucketProblem::Nothing) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// A good answer, after as many attempts as are due.
    async fn ask(&self, method: Method, key: &str, query: &str, body: Bytes) -> Result<Response, Error> {
        retry(self.backoff, async || {
            let response = self.access.ask_for(method.clone(), key, query, body.clone()).await?;
            match response.status() {
                status if status.is_success() => Ok(response),
                _ => Err(self.access.refusal(response).await),
            }
        })
        .await
    }

    fn unexpected(&self, why: &str) -> Error {
        self.access.error(BucketProblem::NotS3 { why: why.to_owned() })
    }
}

impl BucketUpload<'_> {
    /// Adds bytes to the object; sends them if a part is full. May wait for that.
    ///
    /// # Errors
    /// By kind, as for [`Buckets::open`](super::Buckets::open).
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), PlaceError> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= part_bytes(self.sent.len()) {
            self.send().await?;
        }
        Ok(())
    }

    /// Sends what is left, and makes the object visible.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub async fn finish(mut self) -> Result<(), PlaceError> {
        let (uploads, key) = (self.uploads, self.key.clone());
        if self.sent.is_empty() {
            uploads.access.choose_region().await;
            uploads.ask(Method::PUT, &key, "", self.part.freeze()).await?;
            return Ok(());
        }
        if !self.part.is_empty() {
            self.send().await?;
        }
        let id = self.id().await?;
        let query = format!("uploadId={}", percent_encoded(&id));
        let completed = uploads.ask(Method::POST, &key, &query, list(&self.sent).into()).await;
        let said = match completed {
            Ok(answer) => text(answer).await?,
            Err(error) => return Err(error.into()),
        };
        // Whether it could be put together is known after the head of the answer was sent.
        if element(&said, "CompleteMultipartUploadResult").is_none() {
            let code = element(&said, "Code").unwrap_or("no code");
            let why =
                format!("the parts were not put together: {}", ocib_net::printable(code.as_bytes(), 100));
            return Err(uploads.unexpected(&why).into());
        }
        uploads.open().remove(&key);
        Ok(())
    }

    async fn id(&self) -> Result<String, Error> {
        let known = self.uploads.open().get(&self.key).cloned();
        match known {
            Some(id) => Ok(id),
            None => self.uploads.create(&self.key).await,
        }
    }

    async fn send(&mut self) -> Result<(), Error> {
        let id = self.id().await?;
        let query = format!("partNumber={}&uploadId={}", self.sent.len() + 1, percent_encoded(&id));
        let part = self.part.split().freeze();
        let answer = self.uploads.ask(Method::PUT, &self.key, &query, part).await?;
        let etag = answer.header("etag").map(str::to_owned);
        self.sent.push(etag.ok_or_else(|| self.uploads.unexpected("a part that it took has no ETag"))?);
        Ok(())
    }
}

/// How large the part after so many is.
fn part_bytes(sent: usize) -> usize {
    PART_BYTES << (sent / PARTS_PER_SIZE).min(DOUBLINGS_MAX)
}

/// The parts, as they are to be put together.
fn list(etags: &[String]) -> String {
    let part = |(number, etag): (usize, &String)| {
        let etag = etag.trim_matches('"').replace('&', "&amp;").replace('<', "&lt;");
        format!("<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>")
    };
    let parts: String = (1..).zip(etags).map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

async fn text(answer: Response) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&answer.bytes(ANSWER_BYTES_MAX).await?).into_owned())
}

impl fmt::Debug for BucketUploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketUploads({})", self.location)
    }
}
