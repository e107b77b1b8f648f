//! Places: where images are read from and written to. These are the contracts that registries,
//! layouts and archives implement; the whole of it is judged by one suite (`ocib-store`'s tests).

use std::{
    fmt,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::Arc,
};

use bytes::Bytes;
use futures_core::{Stream, future::BoxFuture};

use crate::{
    Annotations, Config, ContainerConfig, Descriptor, Digest, Document, Error, HashReason, Layer, Manifest,
    MediaType, Outcome, PlaceError, Platform, Progress, Reference, Unsealed,
};

/// Bytes of a blob as they arrive. Dropping the stream ends the transfer.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, PlaceError>> + Send>>;

/// A blob's stored bytes, which can be opened again and again: retry and fallback rest on that.
pub trait BlobSource: Send + Sync + fmt::Debug {
    /// The bytes from `offset` on, for an asynchronous consumer.
    fn stream(&self, offset: u64) -> BoxFuture<'_, Result<ByteStream, PlaceError>>;

    /// The bytes of `range`, for whoever takes a few of many, or several parts at once. More may follow
    /// behind them, and nothing but their number is verified: the digest is of the whole.
    fn range(&self, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, PlaceError>> {
        self.stream(range.start)
    }

    /// The same bytes from the start for a blocking reader, which must be on a thread that may block.
    fn read(&self) -> Result<Box<dyn Read + Send>, PlaceError>;

    /// The repository that holds the blob, if it is in a registry: a sink in the same registry can
    /// mount it from there.
    fn repository(&self) -> Option<&Reference>;
}

/// Content whose digest is known before a byte of it is moved.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Type, digest and size; whoever moves the bytes verifies them.
    pub descriptor: Descriptor,
    /// Where the bytes are.
    pub source: Arc<dyn BlobSource>,
}

impl Blob {
    /// A blob that is in memory, such as a config.
    pub fn in_memory(media_type: MediaType, bytes: Bytes) -> Self {
        Self { descriptor: Descriptor::of(media_type, &bytes), source: Arc::new(InMemory(bytes)) }
    }
}

#[derive(Debug)]
struct InMemory(Bytes);

impl BlobSource for InMemory {
    fn stream(&self, offset: u64) -> BoxFuture<'_, Result<ByteStream, PlaceError>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let stream: ByteStream = Box::pin(Once(Some(self.0.slice(start..))));
        Box::pin(std::future::ready(Ok(stream)))
    }

    fn read(&self) -> Result<Box<dyn Read + Send>, PlaceError> {
        Ok(Box::new(std::io::Cursor::new(self.0.clone())))
    }

    fn repository(&self) -> Option<&Reference> {
        None
    }
}

/// A stream of one item, so that this crate needs no more than the trait of `futures-core`.
struct Once(Option<Bytes>);

impl Stream for Once {
    type Item = Result<Bytes, PlaceError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take().map(Ok))
    }
}

/// What an archive of an image is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ArchiveFormat {
    /// An OCI layout as a tar (`type=oci`, skopeo's `oci-archive:`).
    Oci,
    /// The same with the `manifest.json` that `docker load` and `podman load` read, as `docker save`
    /// writes it since version 25 (`type=docker`). Holds one image.
    Docker,
}

impl ArchiveFormat {
    /// What names of images in such archives begin with.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Oci => "oci-archive://",
            Self::Docker => "docker-archive://",
        }
    }
}

/// The name of an image in any place that images are read from.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ImageName {
    /// In a registry.
    Registry(Reference),
    /// In an OCI layout directory on this machine.
    Layout {
        /// The directory that holds `index.json`.
        directory: PathBuf,
        /// The annotation `org.opencontainers.image.ref.name` to look for.
        tag: Option<String>,
        /// The manifest or index to take, whatever its name.
        digest: Option<Digest>,
    },
    /// In a tar file on this machine.
    Archive {
        /// What the archive is for. Archives that are read tell by themselves what they are.
        format: ArchiveFormat,
        /// The file.
        file: PathBuf,
        /// The tag or full reference to look for.
        tag: Option<String>,
        /// The manifest or index to take, whatever its name.
        digest: Option<Digest>,
    },
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout { directory, tag, digest } => {
                let local =
                    Local { scheme: LAYOUT, path: directory, tag: tag.as_deref(), digest: digest.as_ref() };
                local.fmt(f)
            }
            Self::Archive { format, file, tag, digest } => {
                let (tag, digest) = (tag.as_deref(), digest.as_ref());
                Local { scheme: format.scheme(), path: file, tag, digest }.fmt(f)
            }
        }
    }
}

impl FromStr for ImageName {
    type Err = Error;

    /// Reads `oci-layout://DIR[:TAG][@DIGEST]`, `oci-archive://FILE[:TAG][@DIGEST]`,
    /// `docker-archive://FILE[:REFERENCE][@DIGEST]`, `docker-image://REFERENCE` or a plain reference.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(rest) = text.strip_prefix(LAYOUT) {
            let (path, tag, digest) = local_parts(rest, last_tag)?;
            return Ok(Self::Layout { directory: path.into(), tag, digest });
        }
        for (format, split) in
            [(ArchiveFormat::Oci, last_tag as Split), (ArchiveFormat::Docker, first_reference)]
        {
            if let Some(rest) = text.strip_prefix(format.scheme()) {
                let (path, tag, digest) = local_parts(rest, split)?;
                return Ok(Self::Archive { format, file: path.into(), tag, digest });
            }
        }
        let reference = text.strip_prefix("docker-image://").unwrap_or(text);
        reference.parse::<Reference>().map(|reference| Self::Registry(reference.or_latest()))
    }
}

const LAYOUT: &str = "oci-layout://";

/// A name on this machine, as it is written.
struct Local<'a> {
    scheme: &'static str,
    path: &'a Path,
    tag: Option<&'a str>,
    digest: Option<&'a Digest>,
}

impl fmt::Display for Local<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme, self.path.display())?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// Divides a path from the tag that follows it, if one does.
type Split = fn(&str) -> Option<(&str, &str)>;

/// What follows the last colon is a tag, unless it is part of a path.
fn last_tag(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))
}

/// A reference has slashes and colons of its own, so the path has none of the latter.
fn first_reference(text: &str) -> Option<(&str, &str)> {
    text.split_once(':')
}

fn local_parts(text: &str, split: Split) -> Result<(&str, Option<String>, Option<Digest>), Error> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse()?)),
        None => (text, None),
    };
    let (path, tag) = match split(rest) {
        Some((path, tag)) => (path, Some(tag.to_owned())),
        None => (rest, None),
    };
    Ok((path, tag, digest))
}

/// One image for one platform, read whole but for its layers.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest, verified against the digest that led to it.
    pub manifest: Manifest,
    /// The config, verified against the manifest.
    pub config: Config,
    /// The layers, base first, unread.
    pub layers: Vec<Blob>,
    /// The name with the digest of what it resolved to: the index, if there is one.
    pub pinned: String,
}

impl Image {
    /// An image for `platform` with nothing in it, which is nowhere.
    pub fn empty(platform: &Platform) -> Self {
        let config = ContainerConfig::scratch(platform);
        let descriptor = Blob::in_memory(MediaType::Config, config.to_bytes()).descriptor;
        let manifest = Manifest::new(descriptor, Vec::new(), Annotations::new());
        let pinned = manifest.descriptor().digest.to_string();
        Self { manifest, config: Config::Container(Box::new(config)), layers: Vec::new(), pinned }
    }
}

/// A place that images are read from.
pub trait ImageSource: Send + Sync {
    /// The image of that name for `platform`. Out of an index it takes the entry that serves the
    /// platform best and fails with [`crate::PlaceErrorKind::NotFound`] if none does, naming those
    /// there are; an image that is no index is taken for any platform, as BuildKit does.
    /// Manifest and config are verified, size-capped and complete when this returns.
    fn resolve<'a>(
        &'a self,
        name: &'a ImageName,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<Image, PlaceError>>;
}

/// What is known of an image before a byte of it is moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// What it is for.
    pub platform: Platform,
    /// Its layers, base first.
    pub layers: Vec<ExpectedLayer>,
    /// The digest that the names will stand for, of the manifest or of the index that it is in; known if
    /// all layers are.
    pub root: Option<Digest>,
}

/// One layer of an [`Expected`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExpectedLayer {
    /// What it is, as progress shows it.
    pub what: String,
    /// How many bytes will be stored, where that is known: a layer that is compressed on its way is not.
    pub stored_bytes: Option<u64>,
    /// How many bytes it has before it is compressed, where that is known.
    pub tar_bytes: Option<u64>,
}

impl ExpectedLayer {
    /// As many bytes as may be stored of it, where that is known.
    pub fn bytes_max(&self) -> Option<u64> {
        self.stored_bytes.or_else(|| self.tar_bytes.map(Self::compressed_bytes_max))
    }

    /// As many bytes as a codec makes of `bytes` at worst. What cannot be compressed is copied: deflate adds
    /// 5 bytes to each block (RFC 1951, section 3.2.4; the smallest that encoders make are 16 KiB), zstd 3 to
    /// 128 KiB (RFC 8878, section 3.1.1.2), and either a head and an end.
    pub fn compressed_bytes_max(bytes: u64) -> u64 {
        bytes.saturating_add(bytes / 1024).saturating_add(64 << 10)
    }
}

/// A layer that is in a place now, and how it got there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// What the layer is.
    pub layer: Layer,
    /// What became of its bytes.
    pub outcome: Outcome,
    /// How its digest was found.
    pub sealing: Sealing,
}

/// How a sink found out a layer's digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Sealing {
    /// While its bytes were stored.
    Streamed,
    /// Before that, in a pass of its own.
    HashedFirst(HashReason),
    /// Not at all: it was foreknown, and the place has that layer.
    Foreknown,
}

/// A place that images are written to: one repository, layout or archive, with the names that the
/// image shall get there.
///
/// All calls are idempotent ("it is there", not "I put it there"). Whatever is put may be seen only
/// by digest; no name shows it before [`Sink::finish`]. Any of the futures may be dropped at any
/// time, and nothing half-done is visible then.
pub trait Sink: Send + Sync {
    /// What the place is called in messages: a repository or a path.
    fn name(&self) -> String;

    /// How many `put_layer` and `put_blob` calls the place can serve at a time; 1 means that they
    /// are made one after another in the order of the plan (an archive is written front to back).
    fn concurrency(&self) -> usize;

    /// Whether the place takes such images, as far as it knows without being sent any of them. An
    /// error says what it does not take.
    fn check<'a>(&'a self, images: &'a [Expected]) -> BoxFuture<'a, Result<(), PlaceError>> {
        let _ = images;
        Box::pin(std::future::ready(Ok(())))
    }

    /// The repository that it writes to, if it is one of a registry: other sinks can mount from there.
    fn repository(&self) -> Option<&Reference> {
        None
    }

    /// What the names of this sink, and others that it was told to look at, stand for now: manifests and
    /// the indexes that list them. Whoever made those said in them what their layers were made of, and so
    /// need not make a layer again that the place has. Nothing, where nothing can be read.
    fn current(&self) -> BoxFuture<'_, Result<Vec<Document>, PlaceError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Seals a layer into the place: makes its bytes once and stores them; or makes them before, for
    /// their digest, where that may save storing them; or not at all, where the place has the layer
    /// that is foreknown.
    fn put_layer<'a>(
        &'a self,
        layer: &'a Unsealed,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Placed, PlaceError>>;

    /// Stores content of known digest, unless it is there already; verifies what it moves.
    fn put_blob<'a>(
        &'a self,
        blob: &'a Blob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), PlaceError>>;

    /// Stores a manifest or index by its digest. All that it refers to was put before.
    fn put_manifest<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<(), PlaceError>>;

    /// Makes every name of this sink refer to `root`, and returns the digest-pinned references,
    /// one for each name (or one without a name).
    fn finish<'a>(&'a self, root: &'a Document) -> BoxFuture<'a, Result<Vec<String>, PlaceError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_of_all_places() {
        for (text, expected) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("docker-image://a.b/c:1", "a.b/c:1"),
            ("oci-layout:///x/y", "oci-layout:///x/y"),
            ("oci-layout://x:1.2", "oci-layout://x:1.2"),
            ("oci-layout:///a:b/c", "oci-layout:///a:b/c"),
            ("oci-archive://x.tar:1.2", "oci-archive://x.tar:1.2"),
            ("docker-archive://x.tar:a.b:5000/c:1", "docker-archive://x.tar:a.b:5000/c:1"),
        ] {
            assert_eq!(text.parse::<ImageName>().unwrap().to_string(), expected, "{text}");
        }
    }
}
