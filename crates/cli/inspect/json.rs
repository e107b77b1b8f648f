//! An image as one JSON object; docs/images.md has its fields.

use ocib_image::{Config, ContainerConfig, Document, Index, Manifest};
use serde_json::{Value, json};

use super::{Entry, Shown, annotations, instructions, layer_bytes};

/// The object, and a line feed.
pub(super) fn of(shown: &Shown<'_>) -> String {
    let root = shown.image.root();
    let descriptor = root.descriptor();
    let mut object = json!({
        "name": shown.name,
        "pinned": shown.pinned,
        "digest": descriptor.digest,
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "annotations": annotations(root),
    });
    match root {
        Document::Index(index) => object["manifests"] = manifests(shown, index),
        Document::Manifest(manifest) => image(shown, manifest, &mut object),
    }
    format!("{object:#}\n")
}

fn manifests(shown: &Shown<'_>, index: &Index) -> Value {
    shown.entries(index).map(|entry| manifest(shown, &entry)).collect()
}

fn manifest(shown: &Shown<'_>, entry: &Entry<'_>) -> Value {
    let descriptor = entry.descriptor;
    let mut object = json!({
        "digest": descriptor.digest,
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "platform": descriptor.platform.as_ref().map(ToString::to_string),
        "annotations": descriptor.annotations,
    });
    match entry.document {
        Some(Document::Manifest(manifest)) => {
            object["artifactType"] = json!(manifest.artifact_type());
            object["layers"] = json!(manifest.layers().len());
            object["layerBytes"] = json!(layer_bytes(manifest));
        }
        Some(Document::Index(index)) => object["manifests"] = manifests(shown, index),
        None => {}
    }
    object
}

fn image(shown: &Shown<'_>, manifest: &Manifest, object: &mut Value) {
    let instructions = instructions(shown.config.as_ref(), manifest);
    let layers = manifest.layers().iter().zip(instructions).map(|(layer, created_by)| {
        json!({
            "digest": layer.digest,
            "mediaType": layer.media_type,
            "size": layer.size,
            "annotations": layer.annotations,
            "urls": layer.urls,
            "createdBy": created_by,
        })
    });
    object["layers"] = layers.collect();
    object["layerBytes"] = json!(layer_bytes(manifest));
    object["artifactType"] = json!(manifest.artifact_type());
    object["subject"] = json!(manifest.subject().map(|subject| subject.digest));
    let config = manifest.config();
    object["config"] = json!({
        "digest": config.digest, "mediaType": config.media_type, "size": config.size
    });
    if let Some(Config::Container(container)) = &shown.config {
        object["platform"] = json!(container.platform().map(|platform| platform.to_string()));
        object["created"] = json!(container.created());
        object["runtime"] = runtime(container);
    }
}

fn runtime(config: &ContainerConfig) -> Value {
    let runtime = &config.runtime;
    json!({
        "user": runtime.user,
        "entrypoint": runtime.entrypoint,
        "cmd": runtime.cmd,
        "workingDir": runtime.working_dir,
        "env": runtime.env,
        "exposedPorts": runtime.exposed_ports,
        "volumes": runtime.volumes,
        "stopSignal": runtime.stop_signal,
        "labels": runtime.labels,
    })
}
