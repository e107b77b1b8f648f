//! What kind of files each layer of an image or artifact holds.

use std::borrow::Cow;

use ocib_image::{Blob, Descriptor, Manifest, MediaType};

use super::{
    PullError, Scope,
    entry::{self, Entry},
};

/// ModelPack's annotation of a layer: the path that it is for.
const MODELPACK_PATH: &str = "org.cncf.model.filepath";
/// ORAS' annotation of a layer: the name of the file.
const TITLE: &str = "org.opencontainers.image.title";
/// Parts of larger layers would be too many to write down.
const LAYER_BYTES_MAX: u64 = 1 << 46;
const MODELPACK: &str = "application/vnd.cncf.model.";
const DOCKER_MODEL: &str = "application/vnd.docker.ai.";

/// A layer with what is known of it before it is read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) blob: Blob,
    pub(super) kind: Kind,
    pub(super) scope: Scope,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A tar, stored as this type of an ordinary layer says.
    Tar(MediaType),
    /// One file, for this path.
    Raw(String),
}

impl Source {
    /// What it brings, of what its layer holds: equal files are one layer, for another path each time.
    pub(super) fn entries<'a>(&self, of_layer: &'a [Entry]) -> Cow<'a, [Entry]> {
        match &self.kind {
            Kind::Tar(_) => Cow::Borrowed(of_layer),
            Kind::Raw(path) => {
                of_layer.iter().map(|entry| Entry { path: path.clone(), ..entry.clone() }).collect()
            }
        }
    }
}

/// The layers, lowest first. Of an ordinary image those files count that are below `path`; of an artifact
/// all do.
pub(super) fn of(manifest: &Manifest, layers: &[Blob], path: &str) -> Result<Vec<Source>, PullError> {
    let is_artifact = manifest.config().media_type.to_oci() != MediaType::Config;
    let mut unnamed = 0;
    layers
        .iter()
        .map(|blob| {
            let descriptor = &blob.descriptor;
            let annotated =
                descriptor.annotations.get(MODELPACK_PATH).map(|path| path.trim_start_matches('/'));
            let is_below = |name: &str| name == path || name.starts_with(&format!("{path}/"));
            // An image shares its layers, and their names, with the artifact beside it.
            let prefix = if is_artifact && annotated.is_some_and(is_below) { "" } else { path };
            let scope = Scope { layer: descriptor.digest, prefix: prefix.to_owned(), takes_all: is_artifact };
            if descriptor.size > LAYER_BYTES_MAX {
                let why = format!("it claims {} bytes, more than any registry keeps", descriptor.size);
                return Err(scope.hostile(b"", why));
            }
            let kind = kind(descriptor, &scope, is_artifact, &mut unnamed)?;
            Ok(Source { blob: blob.clone(), kind, scope })
        })
        .collect()
}

fn kind(
    descriptor: &Descriptor,
    scope: &Scope,
    is_artifact: bool,
    unnamed: &mut usize,
) -> Result<Kind, PullError> {
    let media_type = descriptor.media_type.to_oci();
    let text = media_type.as_str();
    if let MediaType::LayerTar | MediaType::LayerGzip | MediaType::LayerZstd = media_type {
        return Ok(Kind::Tar(media_type));
    }
    let is_model = text.starts_with(MODELPACK) || text.starts_with(DOCKER_MODEL);
    let tars = [
        (".tar", MediaType::LayerTar),
        (".tar+gzip", MediaType::LayerGzip),
        (".tar+zstd", MediaType::LayerZstd),
    ];
    if is_model && let Some((_, tar)) = tars.into_iter().find(|(end, _)| text.ends_with(end)) {
        return Ok(Kind::Tar(tar));
    }
    let named = [MODELPACK_PATH, TITLE].iter().find_map(|key| descriptor.annotations.get(*key));
    let name = match named {
        Some(name) => name.clone(),
        None if text.starts_with(DOCKER_MODEL) => docker_name(text, unnamed),
        None => {
            return Err(PullError::UnknownLayer {
                layer: descriptor.digest,
                media_type: descriptor.media_type.clone(),
            });
        }
    };
    if !is_artifact {
        return Err(PullError::UnknownLayer {
            layer: descriptor.digest,
            media_type: descriptor.media_type.clone(),
        });
    }
    let path = entry::clean(name.as_bytes()).map_err(|why| scope.hostile(name.as_bytes(), why))?;
    match path.as_str() {
        "" => Err(scope.hostile(name.as_bytes(), "it is the name of no file")),
        path if path.starts_with(entry::RESERVED) => {
            Err(scope.hostile(name.as_bytes(), "names that begin with .ocib-pull are ocib's own"))
        }
        path => Ok(Kind::Raw(path.to_owned())),
    }
}

/// Docker Model Runner's layers have no names of their own; these are those of its own store.
fn docker_name(media_type: &str, unnamed: &mut usize) -> String {
    *unnamed += 1;
    let number = if *unnamed == 1 { String::new() } else { format!("-{unnamed}") };
    match media_type {
        text if text.contains("gguf") => format!("model{number}.gguf"),
        text if text.contains("mmproj") => format!("model{number}.mmproj"),
        text if text.contains("safetensors") => format!("model{number}.safetensors"),
        text if text.contains("chat.template") => "template.jinja".to_owned(),
        text if text.contains("license") => format!("LICENSE{number}"),
        _ => format!("layer{number}"),
    }
}
