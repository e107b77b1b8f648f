//! Copying: every byte of an image as it is, children before parents, names last.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_image::{
    Blob, Config, Document, Event, Events, Expected, ExpectedLayer, Index, Manifest, MediaType, PlaceError,
    Platform, Progress, Sink, TaskId,
};

use crate::Documents;

/// Copies `image` to `sink`, and returns the digest-pinned references, one for each of its names.
///
/// Bytes and digests of all documents stay as they are. Blobs that are there are not moved, and a
/// registry mounts what another of its repositories has; the rest passes as a stream, as many blobs at a
/// time as the sink takes. The names appear when all is there. Nothing is converted: the sink
/// gets Docker's media types where the origin has them.
///
/// Layers that their owner lets nobody distribute, and that are kept at URLs of their own, are left
/// where they are, with a warning: the manifest goes on naming those URLs.
///
/// Dropping the future ends the transfers; the sink shows no name then.
pub async fn copy_image(
    image: &Documents,
    sink: &dyn Sink,
    events: &Arc<dyn Events>,
) -> Result<Vec<String>, PlaceError> {
    sink.check(&expected(image).await?).await?;
    let (foreign, blobs): (Vec<Blob>, Vec<Blob>) = image.blobs().into_iter().partition(is_elsewhere);
    for blob in foreign {
        let digest = blob.descriptor.digest;
        let text = format!("layer {digest} is not copied: its owner keeps it at {}", blob.descriptor.urls[0]);
        events.emit(Event::Warning(&text));
    }
    let puts = blobs.iter().enumerate().map(|(number, blob)| {
        let progress = Progress::new(Arc::clone(events), TaskId(number));
        async move {
            progress.started(&title(blob), Some(blob.descriptor.size));
            sink.put_blob(blob, &progress).await
        }
    });
    let done = stream::iter(puts).buffer_unordered(sink.concurrency().max(1));
    done.try_collect::<()>().await?;
    for document in image.all() {
        sink.put_manifest(document).await?;
    }
    sink.finish(image.root()).await
}

/// What the sink is asked about before it is sent anything.
async fn expected(image: &Documents) -> Result<Vec<Expected>, PlaceError> {
    let mut expected = Vec::new();
    for manifest in image.manifests() {
        let layers = manifest.layers().iter().map(|layer| ExpectedLayer {
            what: format!("layer {}", layer.digest),
            stored_bytes: Some(layer.size),
            tar_bytes: None,
        });
        let platform = match listed_platform(image, manifest) {
            Some(platform) => platform,
            None => config_platform(image, manifest).await?,
        };
        let root = Some(image.root().descriptor().digest);
        expected.push(Expected { platform, layers: layers.collect(), root });
    }
    Ok(expected)
}

fn listed_platform(image: &Documents, manifest: &Manifest) -> Option<Platform> {
    let digest = manifest.descriptor().digest;
    let indexes = image.all().iter().filter_map(|document| match document {
        Document::Index(index) => Some(index),
        Document::Manifest(_) => None,
    });
    let mut entries = indexes.flat_map(Index::manifests);
    entries.find(|entry| entry.digest == digest)?.platform.clone()
}

/// Artifacts have no platform; an index would list them with this one.
async fn config_platform(image: &Documents, manifest: &Manifest) -> Result<Platform, PlaceError> {
    let unknown = Platform::new("unknown", "unknown");
    Ok(match image.config(manifest).await? {
        Config::Container(config) => config.platform().unwrap_or(unknown),
        Config::Artifact(..) => unknown,
    })
}

/// Whether a layer is of those that stay where they are (image-spec, "non-distributable layers").
fn is_elsewhere(blob: &Blob) -> bool {
    blob.descriptor.media_type.is_foreign() && !blob.descriptor.urls.is_empty()
}

fn title(blob: &Blob) -> String {
    let kind = match blob.descriptor.media_type {
        MediaType::Config | MediaType::DockerConfig | MediaType::Empty => "config",
        _ => "layer",
    };
    format!("{kind} {}", &blob.descriptor.digest.to_string()[..19])
}
