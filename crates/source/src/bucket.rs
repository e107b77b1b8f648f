//! Buckets of S3 and of Google Cloud Storage, listed but not kept, and written to for whoever reads there next.
//!
//! Both speak the same XML: a list of objects with sizes and entity tags, and objects by ranges. They differ
//! in who proves to be somebody how (`access`). What is read later is pinned by the tag of the list
//! (`If-Match`), so an object that was replaced meanwhile is an error and never a mixture.

mod access;
mod list;
mod location;
mod object;
mod problem;
mod upload;

use std::{fmt, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_image::{Digest, Fetched, PlaceError, Timestamp, Tree};
use ocib_net::{Backoff, HttpOptions, Url, header::HeaderValue};
use tokio::runtime::Handle;

use self::{access::Access, list::Listing, object::Object};
pub use self::{
    location::{BucketLocation, Provider},
    problem::BucketProblem,
    upload::{BucketUpload, BucketUploads},
};
use crate::{
    Error, ReadAhead,
    client::{Client, PlainHttp},
    flat::Flat,
    listed::{Expected, Listed, Member, Transfers},
    transfer::Ahead,
};

/// Where buckets are, and who asks.
#[derive(Clone, Default)]
pub struct BucketOptions {
    /// How to speak HTTP.
    pub http: HttpOptions,
    /// When to try again.
    pub backoff: Backoff,
    /// How far large objects are fetched ahead, by all readers together.
    pub ahead: ReadAhead,
    /// A store that speaks S3's API (`AWS_ENDPOINT_URL_S3`), asked for `/BUCKET/KEY`; else Amazon's.
    pub s3_endpoint: Option<Url>,
    /// A store that speaks Google's API, else Google's.
    pub gcs_endpoint: Option<Url>,
    /// Whether whoever asks S3 pays for it, where a bucket's owner does not (`AWS_REQUEST_PAYER`).
    pub s3_requester_pays: bool,
    /// The project at Google that pays for it then (`GS_USER_PROJECT`).
    pub gcs_user_project: Option<HeaderValue>,
    /// Who asks S3; nobody means that only public buckets can be read.
    #[cfg(feature = "s3")]
    pub aws: Option<ocib_net::aws::Aws>,
    /// Who asks Google.
    #[cfg(feature = "gcs")]
    pub google: Option<Arc<ocib_net::google::Google>>,
}

/// Buckets of S3 and of Google Cloud Storage. Must be used within a runtime of tokio, which must live as long as
/// the trees that it gives.
///
/// ```
/// use ocib_source::{BucketOptions, Buckets};
/// let buckets = Buckets::new(BucketOptions::default());
/// # let _ = buckets;
/// ```
#[derive(Clone)]
pub struct Buckets {
    client: Arc<Client>,
    options: Arc<BucketOptions>,
    ahead: Ahead,
}

/// What a bucket has at one place.
#[derive(Clone, Debug)]
pub struct BucketSnapshot {
    /// The objects below the location's prefix, named as seen from there; where it is an object, it alone, by
    /// its last name. Mode 0644, owner 0:0, time 1970, so that a copy of the same objects is the same layer.
    pub tree: Arc<dyn Tree>,
    /// The object that is meant, if one is.
    pub file: Option<Box<[u8]>>,
}

/// Objects whose digests are asked for at a time.
const HEADS: usize = 8;

impl Buckets {
    /// Asks nobody yet.
    pub fn new(options: BucketOptions) -> Self {
        let client = Client::new(options.http.clone(), PlainHttp::Trusted);
        Self { client: Arc::new(client), ahead: Ahead::new(options.ahead), options: Arc::new(options) }
    }

    /// What is at `location`: one request for each 1,000 objects, one for each object that has a SHA-256 of
    /// its own.
    ///
    /// # Errors
    /// By kind: `NotFound` for a bucket or prefix that is not there, `Denied` without the right to it,
    /// `Unreachable` after all attempts, `Refused` for what does not answer as S3 does.
    pub async fn open(&self, location: &BucketLocation) -> Result<BucketSnapshot, PlaceError> {
        let (listed, file) = self.find(location).await?;
        Ok(BucketSnapshot { tree: Arc::new(listed), file })
    }

    /// What `text`, an `s3://` or `gs://` location, names, as ADD wants it. A `digest` is of one object.
    ///
    /// # Errors
    /// Those of [`Buckets::open`]; `Input` for a digest of a prefix, `Corrupt` for another digest.
    pub async fn fetch(&self, text: &str, digest: Option<&Digest>) -> Result<Fetched, PlaceError> {
        let (listed, file) = self.find(&text.parse()?).await?;
        Ok(listed.fetched(file, digest)?)
    }

    /// For objects that are to be written below `location`. Asks nobody yet.
    ///
    /// # Errors
    /// `Input` if this program was built without the store.
    pub fn uploads(&self, location: &BucketLocation) -> Result<BucketUploads, PlaceError> {
        let access = Access::new(Arc::clone(&self.client), Arc::clone(&self.options), location)?;
        Ok(BucketUploads::new(Arc::new(access), location.clone(), self.options.backoff))
    }

    async fn find(&self, location: &BucketLocation) -> Result<(Listed, Option<Box<[u8]>>), Error> {
        let backoff = self.options.backoff;
        let access = Access::new(Arc::clone(&self.client), Arc::clone(&self.options), location)?;
        let access = Arc::new(access);
        let key = location.key.trim_end_matches('/');
        let prefix = if key.is_empty() { String::new() } else { format!("{key}/") };
        let mut found = access.list(&prefix, usize::MAX, backoff).await?;
        // What is empty and ends with a slash only marks a directory, as consoles make them.
        found.retain(|object| !(object.key.ends_with('/') && object.size == 0));
        let mut file = None;
        if found.is_empty() && !key.is_empty() {
            found = access.list(key, 1, backoff).await?;
            found.retain(|object| object.key == key);
            file = found.first().map(|object| last_name(&object.key).as_bytes().into());
        }
        if found.is_empty() {
            return Err(access.error(BucketProblem::Nothing));
        }
        let members = stream::iter(found).map(|listing| {
            let access = Arc::clone(&access);
            async move { member(access, listing, backoff).await }
        });
        let members: Vec<(String, Member)> = members.buffered(HEADS).try_collect().await?;
        let mut files = Flat::default();
        for (key, member) in members {
            let path =
                key.strip_prefix(&prefix).filter(|_| file.is_none()).unwrap_or_else(|| last_name(&key));
            files.insert(path.as_bytes(), member).map_err(|why| Error::BadMember {
                archive: location.to_string(),
                member: ocib_net::printable(key.as_bytes(), 100),
                why,
            })?;
        }
        let shown = if file.is_some() { key.rsplit_once('/').map_or("", |(above, _)| above) } else { key };
        let name = BucketLocation { key: shown.to_owned(), ..location.clone() }.to_string();
        let transfers = Transfers { backoff, ahead: self.ahead.clone(), runtime: Handle::current() };
        Ok((Listed { name, files, transfers }, file))
    }
}

async fn member(access: Arc<Access>, listing: Listing, backoff: Backoff) -> Result<(String, Member), Error> {
    // Of a file of one piece, as seen from afar: where it is, and what its tag says of it.
    let identity =
        format!("{} {} {} {}", access.url(&listing.key), listing.etag, listing.size, listing.modified);
    let has_digest = listing.has_sha256;
    let object = Object::new(access, &listing);
    let digest = if has_digest { object.digest(backoff).await? } else { None };
    let member = Member {
        stored: Arc::new(object),
        size: listing.size,
        modified: Timestamp::default(),
        expected: digest.map(Expected::Sha256),
        identity: Some(digest.map_or(identity, |digest| digest.to_string()).into_bytes().into()),
    };
    Ok((listing.key, member))
}

fn last_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buckets").field("s3_endpoint", &self.options.s3_endpoint).finish_non_exhaustive()
    }
}

impl fmt::Debug for BucketOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketOptions").field("s3_endpoint", &self.s3_endpoint).finish_non_exhaustive()
    }
}
