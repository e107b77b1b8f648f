//! All documents of an image: what is copied, inspected and compared.

use std::{collections::HashSet, sync::Arc};

use futures_core::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_image::{Blob, Config, Descriptor, Digest, Document, Index, Manifest, Origin, PlaceError, Platform};

use crate::{Error, origin};

/// Documents that are held at a time, in bytes: an index of a hundred platforms with fifty layers each
/// has one of them.
const BYTES_MAX: u64 = 8 << 20;
/// Documents in all. A hostile index lists far more.
const DOCUMENTS_MAX: usize = 2000;
/// Indexes within indexes.
const DEPTH_MAX: usize = 8;
/// Documents that are asked for at a time.
const AT_A_TIME: usize = 8;
/// BuildKit's mark of an attestation: the digest of the manifest that it is about.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// The manifests and indexes of an image, read and verified; blobs are unread.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ocib_store::{Documents, Images, Registries, RegistriesOptions};
///
/// let images = Images { registries: Registries::new(RegistriesOptions::default()) };
/// let origin = images.open(&"registry.example/app:1.0".parse()?).await?;
/// let image = Documents::read(origin, &[]).await?;
/// println!("{} has {} bytes of layers and configs", image.root().descriptor().digest, image.blob_bytes());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Documents {
    origin: Arc<dyn Origin>,
    /// Children before parents, each once.
    all: Vec<Document>,
    found: Digest,
}

impl Documents {
    /// Reads what `origin` names: all of it, or what is for `platforms`. One platform gives its
    /// manifest alone; several give an index of those manifests, in the order of the index that they
    /// are from, with the attestations about them, so that its digest is another one than was found.
    ///
    /// A platform that there is no manifest for is [`ocib_image::PlaceErrorKind::NotFound`], also
    /// where the image is no index and its config names another one. More than 8 MiB or 2,000 documents
    /// are refused.
    pub async fn read(origin: Arc<dyn Origin>, platforms: &[Platform]) -> Result<Self, PlaceError> {
        let root = origin.root().await?;
        let found = root.descriptor().digest;
        let root = select(&*origin, root, platforms).await?;
        let mut reading =
            Reading { origin: Arc::clone(&origin), seen: HashSet::new(), bytes: 0, all: Vec::new() };
        reading.add(root, 0).await?;
        Ok(Self { origin, all: reading.all, found })
    }

    /// Where the image is.
    pub fn origin(&self) -> &Arc<dyn Origin> {
        &self.origin
    }

    /// The digest of what the name means, before anything was picked out of it.
    pub fn found(&self) -> Digest {
        self.found
    }

    /// The index, or the only manifest.
    pub fn root(&self) -> &Document {
        self.all.last().expect("the root was read first")
    }

    /// All documents, each once, children before parents; the root is the last.
    pub fn all(&self) -> &[Document] {
        &self.all
    }

    /// The manifests among them.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.all.iter().filter_map(|document| match document {
            Document::Manifest(manifest) => Some(manifest),
            Document::Index(_) => None,
        })
    }

    /// Configs and layers, each once, in the order of the manifests; bases' layers first.
    pub fn blobs(&self) -> Vec<Blob> {
        let mut seen = HashSet::new();
        let all = self.manifests().flat_map(|manifest| manifest.layers().iter().chain([manifest.config()]));
        all.filter(|blob| seen.insert(blob.digest)).map(|blob| self.origin.blob(blob)).collect()
    }

    /// The sum of their sizes.
    pub fn blob_bytes(&self) -> u64 {
        self.blobs().iter().fold(0, |sum, blob| sum.saturating_add(blob.descriptor.size))
    }

    /// The config of one of the manifests, verified; larger ones than 16 MiB are refused.
    pub async fn config(&self, manifest: &Manifest) -> Result<Config, PlaceError> {
        origin::config(&*self.origin, manifest).await
    }

    /// The bytes of that config.
    pub async fn config_bytes(&self, manifest: &Manifest) -> Result<bytes::Bytes, PlaceError> {
        origin::config_bytes(&*self.origin, manifest.config()).await
    }
}

/// What of `root` is for `platforms`.
async fn select(origin: &dyn Origin, root: Document, platforms: &[Platform]) -> Result<Document, PlaceError> {
    match (root, platforms) {
        (root, []) => Ok(root),
        (Document::Index(index), [platform]) => {
            Ok(Document::Manifest(origin::chosen(origin, &index, platform).await?))
        }
        (Document::Index(index), platforms) => {
            Ok(Document::Index(index.with_manifests(entries(origin, &index, platforms)?)))
        }
        (Document::Manifest(manifest), platforms) => {
            only(origin, &manifest, platforms).await?;
            Ok(Document::Manifest(manifest))
        }
    }
}

/// The entries of `index` for `platforms`, and the attestations about them.
fn entries(
    origin: &dyn Origin,
    index: &Index,
    platforms: &[Platform],
) -> Result<Vec<Descriptor>, PlaceError> {
    let mut chosen = HashSet::new();
    for platform in platforms {
        let entry = index.choose(platform).ok_or_else(|| {
            let have: Vec<Platform> = index.platforms().cloned().collect();
            origin::no_platform(origin, platform, &have)
        })?;
        chosen.insert(entry.digest);
    }
    let is_about = |entry: &Descriptor| {
        let about = entry.annotations.get(ATTESTED).and_then(|digest| digest.parse().ok());
        about.is_some_and(|digest: Digest| chosen.contains(&digest))
    };
    let kept = |entry: &&Descriptor| chosen.contains(&entry.digest) || is_about(entry);
    Ok(index.manifests().iter().filter(kept).cloned().collect())
}

/// Fails unless the one image that there is serves all of `platforms`. Artifacts have no platform, and
/// serve any.
async fn only(origin: &dyn Origin, manifest: &Manifest, platforms: &[Platform]) -> Result<(), PlaceError> {
    let Config::Container(config) = origin::config(origin, manifest).await? else { return Ok(()) };
    let Some(have) = config.platform() else { return Ok(()) };
    match platforms.iter().find(|wanted| have.serves(wanted).is_none()) {
        Some(wanted) => Err(origin::no_platform(origin, wanted, &[have])),
        None => Ok(()),
    }
}

/// Documents on their way.
struct Reading {
    origin: Arc<dyn Origin>,
    seen: HashSet<Digest>,
    bytes: u64,
    all: Vec<Document>,
}

impl Reading {
    /// Adds what `document` leads to, and then itself.
    fn add(&mut self, document: Document, depth: usize) -> BoxFuture<'_, Result<(), PlaceError>> {
        Box::pin(async move {
            self.bytes += document.raw().len() as u64;
            if self.bytes > BYTES_MAX || self.seen.len() > DOCUMENTS_MAX || depth > DEPTH_MAX {
                let what = format!("the manifests of {}", self.origin.name());
                return Err(Error::TooLarge { what, bytes: self.bytes, limit: BYTES_MAX }.into());
            }
            if let Document::Index(index) = &document {
                let new = index.manifests().iter().filter(|entry| self.seen.insert(entry.digest));
                let new: Vec<Descriptor> = new.cloned().collect();
                let asked = new.into_iter().map(|entry| {
                    let origin = Arc::clone(&self.origin);
                    async move { origin.document(&entry).await }
                });
                // Collected, so that nothing borrows what the children change.
                let asked: Vec<_> = asked.collect();
                let mut children = stream::iter(asked).buffered(AT_A_TIME);
                while let Some(child) = children.try_next().await? {
                    self.add(child, depth + 1).await?;
                }
            }
            self.all.push(document);
            Ok(())
        })
    }
}
