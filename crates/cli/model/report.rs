//! What `ocib model build` says when it is done.

use std::path::Path;

use ocib_image::{Outcome, Sealing};
use ocib_model::{Published, PublishedLayer};
use serde_json::json;

use super::Build;
use crate::{diagnostic::Failure, report};

/// Writes the metadata file, with the keys of `ocib build` and what is known of the model.
pub(super) fn metadata(path: &Path, build: &Build, published: &Published) -> Result<(), Failure> {
    let root = published.root.descriptor();
    let names: Vec<String> = build.tags.iter().map(|tag| tag.clone().or_latest().to_string()).collect();
    let mut metadata = json!({
        "containerimage.digest": root.digest,
        "containerimage.descriptor": root,
        "ocib.layers": published.layers.iter().map(layer).collect::<Vec<_>>(),
        "ocib.model": published.facts,
    });
    if let [config] = &published.configs[..] {
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
