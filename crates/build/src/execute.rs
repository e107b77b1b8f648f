//! Making and publishing: layers into the sink, then configs, manifests, index, and the names last.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_dockerfile::Span;
use ocib_image::{
    Blob, Descriptor, DiffId, Digest, Document, Events, Index, Layer, Manifest, MediaType, Progress, Sink,
    TaskId, Unsealed,
};

use crate::{
    Error, Problem, Request,
    files::FilesLayer,
    lower::{Part, Target},
};

/// What a sink holds now.
#[derive(Clone, Debug)]
pub struct Published {
    /// The index, or the only manifest.
    pub root: Document,
    /// The images, in the order of the request's platforms.
    pub images: Vec<PublishedImage>,
    /// Digest-pinned references, one for each name of the sink.
    pub references: Vec<String>,
}

/// One platform's image.
#[derive(Clone, Debug)]
pub struct PublishedImage {
    /// Its manifest, with the platform.
    pub manifest: Descriptor,
    /// Its config.
    pub config: Descriptor,
    /// Its layers, base first.
    pub layers: Vec<Descriptor>,
}

/// Something that has to be in the sink before any manifest.
enum Task<'a> {
    Make { title: &'a str, key: Digest, layer: &'a Unsealed, files: &'a FilesLayer, span: Span },
    Copy { blob: &'a Blob },
}

/// Puts `targets` into `sink`.
pub(crate) async fn execute(
    targets: &[Target],
    request: &Request,
    sink: &dyn Sink,
    events: &Arc<dyn Events>,
) -> Result<Published, Error> {
    let made = put_layers(targets, sink, events).await?;
    let mut images = Vec::new();
    let mut documents = Vec::new();
    for target in targets {
        let (image, document) = put_image(target, request, &made, sink).await?;
        images.push(image);
        documents.push(document);
    }
    let root = match (documents.pop(), documents.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            drop(last);
            let manifests = images.iter().map(|image| image.manifest.clone()).collect();
            let index = Document::Index(Index::new(manifests, request.annotations.clone()));
            sink.put_manifest(&index).await?;
            index
        }
    };
    let references = sink.finish(&root).await?;
    Ok(Published { root, images, references })
}

/// Puts every layer once, however many platforms share it.
async fn put_layers(
    targets: &[Target],
    sink: &dyn Sink,
    events: &Arc<dyn Events>,
) -> Result<HashMap<Digest, Layer>, Error> {
    let mut tasks: Vec<Task<'_>> = Vec::new();
    let mut seen: BTreeMap<Digest, ()> = BTreeMap::new();
    for part in targets.iter().flat_map(|target| &target.parts) {
        let (identity, task) = match part {
            Part::Base(blob, _) => (blob.descriptor.digest, Task::Copy { blob }),
            Part::Made { title, key, layer, files, span } => {
                (*key, Task::Make { title, key: *key, layer, files, span: *span })
            }
        };
        if seen.insert(identity, ()).is_none() {
            tasks.push(task);
        }
    }
    let puts = tasks.iter().enumerate().map(|(number, task)| {
        let progress = Progress::new(Arc::clone(events), TaskId(number));
        async move {
            match task {
                Task::Make { title, key, layer, files, span } => {
                    progress.started(title, layer.source.bytes());
                    let put = sink.put_layer(layer, &progress).await;
                    let made = put.map_err(|error| match files.has_failed() {
                        true => Problem::Source(error).at(*span),
                        false => Error::Place(error),
                    })?;
                    Ok::<_, Error>(Some((*key, made)))
                }
                Task::Copy { blob } => {
                    let what = format!("base layer {}", blob.descriptor.digest);
                    progress.started(&what, Some(blob.descriptor.size));
                    sink.put_blob(blob, &progress).await?;
                    Ok(None)
                }
            }
        }
    });
    // With a concurrency of one this is the plan's own order, which archives rely on.
    let at_a_time = sink.concurrency().max(1);
    let done = stream::iter(puts).buffer_unordered(at_a_time);
    let made: Vec<_> = done.try_collect().await?;
    Ok(made.into_iter().flatten().collect())
}

async fn put_image(
    target: &Target,
    request: &Request,
    made: &HashMap<Digest, Layer>,
    sink: &dyn Sink,
) -> Result<(PublishedImage, Document), Error> {
    let layers: Vec<(Descriptor, DiffId)> = target
        .parts
        .iter()
        .map(|part| match part {
            Part::Base(blob, diff_id) => (blob.descriptor.clone(), *diff_id),
            Part::Made { key, .. } => (made[key].descriptor.clone(), made[key].diff_id),
        })
        .collect();
    let (descriptors, diff_ids): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
    let mut config = target.config.clone();
    config.diff_ids = diff_ids;
    let blob = Blob::in_memory(MediaType::Config, config.to_bytes());
    sink.put_blob(&blob, &Progress::unwatched()).await?;
    let manifest = Manifest::new(blob.descriptor.clone(), descriptors, request.annotations.clone());
    let layers = manifest.layers().to_vec();
    let mut descriptor = manifest.descriptor();
    descriptor.platform = Some(target.platform.clone());
    let document = Document::Manifest(manifest);
    sink.put_manifest(&document).await?;
    Ok((PublishedImage { manifest: descriptor, config: blob.descriptor, layers }, document))
}
