//! The suite that every [`Sink`] must pass: the contract of `ocib_image::Sink` as assertions.

mod layers;

use std::fmt;

use bytes::Bytes;
use futures_util::{
    future::{Either, join_all, select},
    pin_mut,
};
use ocib_image::{
    Annotations, Blob, Budget, Codec, Compression, ContainerConfig, Descriptor, Digest, Document, Index,
    Layer, Limits, Manifest, MediaType, PlaceErrorKind, Platform, Progress, Sealer, Sink, Unsealed,
};

use crate::Noise;
pub use layers::{file_layer, program_layer};

/// A new, empty place and ways to look into it that do not pass through the sink.
pub struct SinkCase {
    /// Writes to the place, under at least one name.
    pub sink: Box<dyn Sink>,
    /// Whether the place takes images for several platforms.
    pub takes_indexes: bool,
    /// Digest of the manifest or index that the names refer to; `None` while no name is there.
    /// Panics if the names disagree.
    pub probe: Box<dyn Fn() -> Option<Digest> + Send + Sync>,
    /// All blobs that a reader of the place would take for complete: what each is called, and its
    /// bytes. Empty as long as the place cannot be read at all, as an archive before its end.
    pub blobs: Box<dyn Fn() -> Vec<(Digest, Vec<u8>)> + Send + Sync>,
}

impl fmt::Debug for SinkCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkCase({})", self.sink.name())
    }
}

/// A sealer for tests: 64 MiB, two processors.
pub fn sealer() -> Sealer {
    let limits = Limits { memory_bytes: 64 << 20, jobs: 0, cores: 2 };
    Sealer::new(Budget::new(limits, Codec::GZIP).expect("64 MiB are enough for gzip"))
}

/// Puts images into places made by `make`, each new and empty, in every way that a build may, and
/// panics where the place does not keep to the contract. The runtime must be able to run the sink's
/// blocking tasks beside this future.
pub async fn sink_suite(make: impl Fn() -> SinkCase) {
    whole_image(make()).await;
    puts_are_idempotent(make()).await;
    names_are_repeatable(make()).await;
    failed_layer_leaves_nothing(make()).await;
    wrong_blobs_are_refused(make()).await;
    dropped_put_leaves_nothing(make()).await;
    several_at_a_time(make()).await;
    several_platforms(make()).await;
}

async fn whole_image(case: SinkCase) {
    let image = put_image(&case, "linux/amd64").await;
    case.assert_unnamed("before finish");
    case.finish(&image.document()).await;
    case.assert_holds(&image);
}

async fn puts_are_idempotent(case: SinkCase) {
    let first = put_image(&case, "linux/amd64").await;
    let second = put_image(&case, "linux/amd64").await;
    assert_eq!(first.layers, second.layers, "the same layer was put twice");
    case.finish(&second.document()).await;
    let third = put_image(&case, "linux/amd64").await;
    assert_eq!(first.layers, third.layers, "the same layer was put again after finish");
    case.assert_holds(&third);
}

async fn names_are_repeatable(case: SinkCase) {
    let image = put_image(&case, "linux/amd64").await;
    let first = case.finish(&image.document()).await;
    let second = case.finish(&image.document()).await;
    assert_eq!(first, second);
    let digest = image.manifest.descriptor().digest.to_string();
    assert!(first.iter().all(|name| name.ends_with(&format!("@{digest}"))), "{first:?} are not pinned");
    case.assert_holds(&image);
}

async fn failed_layer_leaves_nothing(case: SinkCase) {
    let error = case.sink.put_layer(&layers::failing(), &Progress::unwatched()).await;
    let error = error.expect_err("the layer's source failed");
    assert_eq!(error.kind, PlaceErrorKind::Input, "{error}");
    assert_eq!(error.to_string(), layers::FAILURE);
    case.assert_unnamed("after a failed layer");
    let image = put_image(&case, "linux/amd64").await;
    case.finish(&image.document()).await;
    case.assert_holds(&image);
}

async fn wrong_blobs_are_refused(case: SinkCase) {
    let content = Bytes::from(Noise::bytes(4, 700_000));
    let right = Blob::in_memory(MediaType::LayerTar, content.clone());
    let wrong_digest = Descriptor { digest: Digest::of(b"other"), ..right.descriptor.clone() };
    let too_long = Descriptor::of(MediaType::LayerTar, &content[..content.len() - 1]);
    let too_short = Descriptor::of(MediaType::LayerTar, &[&content[..], b"x"].concat());
    for descriptor in [wrong_digest, too_long, too_short] {
        let blob = Blob { descriptor: descriptor.clone(), ..right.clone() };
        let error = case.sink.put_blob(&blob, &Progress::unwatched()).await;
        let error = error.expect_err("the blob is not what its descriptor says");
        assert_eq!(error.kind, PlaceErrorKind::Corrupt, "{error}");
        assert!(case.blob(&descriptor.digest).is_none(), "{descriptor:?} is there");
    }
    case.assert_unnamed("after wrong blobs");
    let image = put_image(&case, "linux/amd64").await;
    case.finish(&image.document()).await;
    case.assert_holds(&image);
}

async fn dropped_put_leaves_nothing(case: SinkCase) {
    let (layer, mut stalling) = layers::stalling();
    {
        let progress = Progress::unwatched();
        let put = case.sink.put_layer(&layer, &progress);
        let begun = &mut stalling.begun;
        pin_mut!(put, begun);
        match select(put, begun).await {
            Either::Left((result, _)) => panic!("put_layer ended before the layer did: {result:?}"),
            Either::Right((begun, _)) => begun.expect("the layer says when it has begun"),
        }
    }
    drop(stalling.resume);
    case.assert_unnamed("after a put was dropped");
    let image = put_image(&case, "linux/amd64").await;
    case.finish(&image.document()).await;
    case.assert_holds(&image);
}

/// The same content from two sources at once, beside other content.
async fn several_at_a_time(case: SinkCase) {
    let unsealed = [
        file_layer("same", Noise::bytes(5, 900_000), Compression::Fixed(Codec::Plain)),
        file_layer("same", Noise::bytes(5, 900_000), Compression::Fixed(Codec::Plain)),
        file_layer("other", Noise::bytes(6, 900_000), Compression::Fixed(Codec::GZIP)),
    ];
    let progress = Progress::unwatched();
    let mut sealed = Vec::new();
    for group in unsealed.chunks(case.sink.concurrency()) {
        let puts = group.iter().map(|layer| case.sink.put_layer(layer, &progress));
        sealed
            .extend(join_all(puts).await.into_iter().map(|placed| placed.expect("the layer is good").layer));
    }
    assert_eq!(sealed[0], sealed[1]);
    let image = put_documents(&case, "linux/amd64", sealed).await;
    case.finish(&image.document()).await;
    case.assert_holds(&image);
}

async fn several_platforms(case: SinkCase) {
    if !case.takes_indexes {
        return;
    }
    let mut images = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        images.push((platform, put_image(&case, platform).await));
    }
    let entries = images.iter().map(|(platform, image)| Descriptor {
        platform: Some(platform.parse().expect("a platform")),
        ..image.manifest.descriptor()
    });
    let index = Document::Index(Index::new(entries.collect(), Annotations::new()));
    case.sink.put_manifest(&index).await.expect("the index refers to what is there");
    case.assert_unnamed("before finish");
    case.finish(&index).await;
    assert_eq!((case.probe)(), Some(index.descriptor().digest));
}

/// An image that was put, but for its name.
struct PutImage {
    layers: Vec<Layer>,
    config: Bytes,
    manifest: Manifest,
}

impl PutImage {
    fn document(&self) -> Document {
        Document::Manifest(self.manifest.clone())
    }
}

/// Two layers made by the sink and one of known digest; the same for the same platform.
async fn put_image(case: &SinkCase, platform: &str) -> PutImage {
    let progress = Progress::unwatched();
    let text = "some text, many times over\n".repeat(20_000).into_bytes();
    let gzip = file_layer("text", text, Compression::Fixed(Codec::GZIP));
    // More than a few pieces, so that channels fill up.
    let plain = file_layer("noise", Noise::bytes(1, 3_000_000), Compression::Fixed(Codec::Plain));
    let known = layers::known_layer("known", Noise::bytes(2, 300_000));
    case.sink.put_blob(&known.0, &progress).await.expect("the blob is good");
    let mut sealed = vec![known.1];
    for unsealed in [&gzip, &plain] {
        sealed.push(put_layer(case, unsealed, &progress).await);
    }
    put_documents(case, platform, sealed).await
}

async fn put_layer(case: &SinkCase, unsealed: &Unsealed, progress: &Progress) -> Layer {
    case.sink.put_layer(unsealed, progress).await.expect("the layer is good").layer
}

async fn put_documents(case: &SinkCase, platform: &str, layers: Vec<Layer>) -> PutImage {
    let platform: Platform = platform.parse().expect("a platform");
    let mut config = ContainerConfig::scratch(&platform);
    config.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let config = config.to_bytes();
    let blob = Blob::in_memory(MediaType::Config, config.clone());
    case.sink.put_blob(&blob, &Progress::unwatched()).await.expect("the config is good");
    let descriptors = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    let manifest = Manifest::new(blob.descriptor, descriptors, Annotations::new());
    let document = Document::Manifest(manifest.clone());
    case.sink.put_manifest(&document).await.expect("the manifest refers to what is there");
    PutImage { layers, config, manifest }
}

impl SinkCase {
    async fn finish(&self, root: &Document) -> Vec<String> {
        let names = self.sink.finish(root).await.expect("all that the root refers to was put");
        assert!(!names.is_empty(), "finish names nothing");
        names
    }

    /// Nothing has a name, and nothing half-done looks complete.
    fn assert_unnamed(&self, when: &str) {
        assert_eq!((self.probe)(), None, "{} has a name {when}", self.sink.name());
        self.assert_blobs_are_whole();
    }

    /// The names refer to `image`, and all of it is there.
    fn assert_holds(&self, image: &PutImage) {
        assert_eq!((self.probe)(), Some(image.manifest.descriptor().digest), "{}", self.sink.name());
        self.assert_blobs_are_whole();
        let layers = image.layers.iter().map(|layer| &layer.descriptor);
        for descriptor in layers.chain([image.manifest.config()]) {
            let blob = self.blob(&descriptor.digest);
            let size = blob.unwrap_or_else(|| panic!("{descriptor:?} is not there")).len();
            assert_eq!(size as u64, descriptor.size, "{descriptor:?}");
        }
        assert_eq!(self.blob(&image.manifest.config().digest).as_deref(), Some(&image.config[..]));
    }

    fn assert_blobs_are_whole(&self) {
        for (name, bytes) in (self.blobs)() {
            assert_eq!(name, Digest::of(&bytes), "a blob of {} bytes is not whole", bytes.len());
        }
    }

    fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        (self.blobs)().into_iter().find(|(name, _)| name == digest).map(|(_, bytes)| bytes)
    }
}
