//! What `ocib model build` says when it is done.

use std::path::Path;

use ocib_image::{Outcome, Sealing};
use ocib_model::{Artifact, Published, PublishedLayer};
use serde_json::json;

use super::Build;
use crate::{diagnostic::Failure, report};

/// Writes the metadata file, with the keys of `ocib build` for the image, and what is known of the model.
pub(super) fn metadata(
    path: &Path,
    build: &Build,
    published: &[(Option<Artifact>, Published)],
) -> Result<(), Failure> {
    let image = published.iter().rev().find(|(artifact, _)| artifact.is_none());
    let Some((_, image)) = image else { return Ok(()) };
    let root = image.root.descriptor();
    let names = build.image.names();
    let artifacts = published.iter().filter_map(|(artifact, published)| {
        let name = match (*artifact)? {
            Artifact::ModelPackTar | Artifact::ModelPackRaw => "modelpack",
            Artifact::DockerModel => "docker-model",
        };
        let layers: Vec<_> = published.layers.iter().map(layer).collect();
        Some(json!({"artifact": name, "descriptor": published.root.descriptor(), "layers": layers}))
    });
    let mut metadata = json!({
        "containerimage.digest": root.digest,
        "containerimage.descriptor": root,
        "ocib.layers": image.layers.iter().map(layer).collect::<Vec<_>>(),
        "ocib.artifacts": artifacts.collect::<Vec<_>>(),
        "ocib.model": image.facts,
    });
    if let [config] = &image.configs[..] {
        metadata["containerimage.config.digest"] = json!(config.digest);
    }
    if !names.is_empty() {
        metadata["image.name"] = json!(names.join(","));
    }
    report::write(path, &format!("{metadata:#}\n"))
}

/// How a layer came to be where it is.
fn layer(layer: &PublishedLayer) -> serde_json::Value {
    let (made, why) = match layer.sealing {
        Sealing::Foreknown => ("reused", None),
        Sealing::HashedFirst(why) => ("hashed-first", Some(why.to_string())),
        _ => ("streamed", None),
    };
    let stored = match layer.outcome {
        Outcome::Present => "present",
        Outcome::Mounted => "mounted",
        _ => "stored",
    };
    json!({
        "title": layer.title,
        "kind": layer.kind.as_str(),
        "digest": layer.descriptor.digest,
        "size": layer.descriptor.size,
        "made": made,
        "stored": stored,
        "why": why,
    })
}
