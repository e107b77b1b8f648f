//! The same files for other readers: a CNCF ModelPack manifest, or Docker Model Runner's.

use std::sync::Arc;

use ocib_image::{
    Annotations, Blob, Descriptor, DiffId, Digest, Document, Events, Expected, ExpectedLayer, Layer,
    Manifest, MediaType, Outcome, Placed, Platform, Progress, Sealing, Sink,
};
use serde_json::{Value, json};

use crate::{
    Error, Facts, FileKind, Model, ModelLayer, Published,
    model::plain,
    publish::{Known, Packaging, described, published, rfc3339},
};

/// How a model is described besides as an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Artifact {
    /// A ModelPack manifest whose layers are those of the image.
    ModelPackTar,
    /// A ModelPack manifest with each file as a layer, byte for byte. Where a source knows the digests of its
    /// files, what a registry has is not read at all.
    ModelPackRaw,
    /// Docker Model Runner's format, for models in GGUF. Shares its layers with the raw ModelPack.
    DockerModel,
}

/// Fails if `model` cannot be described as `artifact`, or not in `sink`, as far as that is known without reading a file.
/// [`publish_artifact`] looks, too; whoever names an image before it should not learn it then.
///
/// # Errors
/// [`Error::NotSuited`], and what the sink refuses.
pub async fn check_artifact(model: &Model, artifact: Artifact, sink: &dyn Sink) -> Result<(), Error> {
    let raw = artifact.raw(model)?;
    let layers = artifact.layers(model, &raw);
    sink.check(&[expected(&layers)]).await?;
    artifact.check_manifest(model, &layers)
}

/// Describes `model` as `artifact` in `sink`, which names it. Layers that another sink in the same place has
/// of this model are not sent again.
///
/// Dropping the future ends the transfers; the sink shows no name then.
pub async fn publish_artifact(
    model: &Model,
    artifact: Artifact,
    sink: &dyn Sink,
    events: &Arc<dyn Events>,
) -> Result<Published, Error> {
    check_artifact(model, artifact, sink).await?;
    let known = Known::read(model, sink).await?;
    let by_layer = model.facts_by_layer().await?;
    let facts = Facts::of_parts(&by_layer);
    let raw = artifact.raw(model)?;
    let layers = artifact.layers(model, &raw);
    let packaging = Packaging { model, sink, events, known, facts: &facts, by_layer: &by_layer };
    let placed = packaging.put_layers(&layers).await?;
    let descriptor = |number: usize| artifact.descriptor(model, layers[number], &placed[number]);
    let descriptors: Vec<Descriptor> = (0..layers.len()).map(descriptor).collect();
    let config = artifact.config(model, &facts, &descriptors, &placed);
    let raw_config = serde_json::to_vec(&config).expect("texts and numbers always serialise");
    let config = Blob::in_memory(MediaType::from(artifact.config_type()), raw_config.into());
    sink.put_blob(&config, &Progress::unwatched()).await?;
    let annotations = packaging.annotations();
    let manifest = Manifest::artifact(
        artifact.artifact_type(),
        config.descriptor.clone(),
        descriptors.clone(),
        annotations,
    );
    let root = Document::Manifest(manifest);
    sink.put_manifest(&root).await?;
    let references = sink.finish(&root).await?;
    let mut layers = published(&layers, &placed);
    layers.iter_mut().zip(descriptors).for_each(|(layer, descriptor)| layer.descriptor = descriptor);
    let (manifests, configs) = (vec![root.descriptor()], vec![config.descriptor]);
    Ok(Published { root, manifests, configs, references, layers, facts })
}

/// Artifacts have no platform; an index would list them with this one.
fn expected(layers: &[&ModelLayer]) -> Expected {
    let layers = layers.iter().map(|layer| ExpectedLayer {
        what: layer.title.clone(),
        stored_bytes: layer.unsealed.source.bytes(),
        tar_bytes: layer.unsealed.source.bytes(),
    });
    Expected { platform: Platform::new("unknown", "unknown"), layers: layers.collect(), root: None }
}

/// Registries need take no larger ones (distribution-spec, "Pushing Manifests"). Some bytes are for what is in a
/// manifest besides its layers.
const MANIFEST_BYTES_MAX: usize = (4 << 20) - (64 << 10);

/// model-spec, "Layer Annotation Keys".
const FILEPATH: &str = "org.cncf.model.filepath";

impl Artifact {
    /// The layers that are files.
    fn raw(self, model: &Model) -> Result<Vec<ModelLayer>, Error> {
        Ok(self.files(model)?.into_iter().map(|number| model.raw(number)).collect())
    }

    /// All layers, of which `raw` are those that are files.
    fn layers<'a>(self, model: &'a Model, raw: &'a [ModelLayer]) -> Vec<&'a ModelLayer> {
        match self {
            Self::ModelPackTar => model.layers.iter().collect(),
            Self::ModelPackRaw | Self::DockerModel => raw.iter().collect(),
        }
    }

    /// The files that are layers of their own.
    fn files(self, model: &Model) -> Result<Vec<usize>, Error> {
        let all = 0..model.files.len();
        match self {
            Self::ModelPackTar => Ok(Vec::new()),
            // Two names that are no UTF-8 could be one in JSON.
            Self::ModelPackRaw => {
                match model.files.iter().find(|file| std::str::from_utf8(&file.path).is_err()) {
                    Some(file) => {
                        let why = format!("{} has a name that is no UTF-8", model.tree.display(&file.path));
                        Err(Error::NotSuited { what: "an artifact of these files", why })
                    }
                    None => Ok(all.collect()),
                }
            }
            Self::DockerModel => match model.format().as_deref() {
                Some("gguf") => {
                    Ok(all.filter(|number| docker_type(&model.files[*number].path).is_some()).collect())
                }
                other => {
                    let format = other.unwrap_or("of no known format");
                    let why = format!("its weights are {format}, expected gguf");
                    Err(Error::NotSuited { what: "a model for Docker Model Runner", why })
                }
            },
        }
    }

    /// Fails if the manifest would be larger than registries take, as one of many thousand files is.
    fn check_manifest(self, model: &Model, layers: &[&ModelLayer]) -> Result<(), Error> {
        let bytes = |layer: &&ModelLayer| {
            let size = layer.unsealed.source.bytes().unwrap_or(u64::MAX);
            let layer_made = Layer { diff_id: DiffId(Digest::of(b"")), ..plain(Digest::of(b"any"), size) };
            let placed = Placed { layer: layer_made, outcome: Outcome::Present, sealing: Sealing::Foreknown };
            let mut descriptor = self.descriptor(model, layer, &placed);
            descriptor.annotations.extend(layer.unsealed.annotations.clone());
            serde_json::to_vec(&descriptor).map_or(0, |json| json.len() + 1)
        };
        let bytes: usize = layers.iter().map(bytes).sum();
        match bytes <= MANIFEST_BYTES_MAX {
            true => Ok(()),
            false => Err(Error::NotSuited {
                what: "an artifact of these files",
                why: format!(
                    "the manifest of {} layers would have {bytes} bytes, expected {MANIFEST_BYTES_MAX} at most; \
                     leave out files, or let its layers be those of the image (--modelpack=tar)",
                    layers.len()
                ),
            }),
        }
    }

    fn artifact_type(self) -> Option<&'static str> {
        match self {
            Self::ModelPackTar | Self::ModelPackRaw => Some("application/vnd.cncf.model.manifest.v1+json"),
            // docker/model-spec has none: its readers go by the config's type.
            Self::DockerModel => None,
        }
    }

    fn config_type(self) -> &'static str {
        match self {
            Self::ModelPackTar | Self::ModelPackRaw => "application/vnd.cncf.model.config.v1+json",
            Self::DockerModel => "application/vnd.docker.ai.model.config.v0.1+json",
        }
    }

    fn descriptor(self, model: &Model, layer: &ModelLayer, placed: &Placed) -> Descriptor {
        let mut descriptor = described(&placed.layer);
        let file = &model.files[layer.files[0]];
        let path = || String::from_utf8_lossy(&file.path).into_owned();
        match self {
            Self::ModelPackTar => {
                let ending = descriptor.media_type.as_str().rsplit("v1.").next().unwrap_or("tar").to_owned();
                descriptor.media_type = model_pack_type(layer.kind, &ending);
                if layer.files.len() == 1 {
                    let below = match &*model.options.prefix {
                        "" => path(),
                        prefix => format!("{prefix}/{}", path()),
                    };
                    descriptor.annotations.insert(FILEPATH.to_owned(), below);
                }
            }
            Self::ModelPackRaw => {
                descriptor.media_type = model_pack_type(layer.kind, "raw");
                descriptor.annotations = Annotations::from([(FILEPATH.to_owned(), path())]);
            }
            Self::DockerModel => {
                let media_type = docker_type(&file.path).unwrap_or(DOCKER_GGUF);
                descriptor.media_type = MediaType::from(media_type);
                descriptor.annotations = Annotations::from([(FILEPATH.to_owned(), path())]);
            }
        }
        descriptor
    }

    fn config(self, model: &Model, facts: &Facts, layers: &[Descriptor], placed: &[Placed]) -> Value {
        let created = rfc3339(model.options.epoch);
        match self {
            Self::ModelPackTar | Self::ModelPackRaw => {
                let diff_ids: Vec<Digest> = placed.iter().map(|placed| placed.layer.diff_id.0).collect();
                let mut descriptor = json!({"createdAt": created});
                let said = [
                    ("family", facts.model_type.clone()),
                    ("name", facts.name.clone().filter(|name| !name.is_empty())),
                    ("sourceURL", model.options.source.clone()),
                    ("revision", model.options.revision.clone()),
                ];
                put(&mut descriptor, said);
                if let Some(license) = &facts.license {
                    descriptor["licenses"] = json!([license]);
                }
                let mut config = json!({});
                let said = [
                    ("architecture", facts.architecture.clone()),
                    ("format", facts.format.clone()),
                    ("paramSize", facts.size_label()),
                    ("precision", facts.precision()),
                    ("quantization", facts.quantization.clone()),
                ];
                put(&mut config, said);
                let modelfs = json!({"type": "layers", "diffIds": diff_ids});
                json!({"descriptor": descriptor, "config": config, "modelfs": modelfs})
            }
            Self::DockerModel => {
                let mut gguf = json!({});
                let said = [
                    ("architecture", facts.architecture.clone()),
                    ("parameter_count", facts.size_label()),
                    ("quantization", facts.quantization.clone()),
                ];
                put(&mut gguf, said);
                let size: u64 = layers.iter().map(|layer| layer.size).sum();
                let files =
                    layers.iter().map(|layer| json!({"diffID": layer.digest, "type": layer.media_type}));
                json!({
                    "descriptor": {"createdAt": created},
                    "config": {
                        "format": "gguf",
                        "format_version": facts.gguf_version.unwrap_or(3).to_string(),
                        "gguf": gguf,
                        "size": size.to_string(),
                    },
                    "files": files.collect::<Vec<_>>(),
                })
            }
        }
    }
}

fn put<const N: usize>(object: &mut Value, said: [(&str, Option<String>); N]) {
    for (key, value) in said {
        if let Some(value) = value {
            object[key] = Value::String(value);
        }
    }
}

/// model-spec, "OCI Image Manifest Specification For Model Artifacts".
fn model_pack_type(kind: FileKind, ending: &str) -> MediaType {
    let kind = match kind {
        FileKind::Weight => "weight",
        FileKind::Config => "weight.config",
        FileKind::Doc => "doc",
        FileKind::Code => "code",
        FileKind::Dataset => "dataset",
    };
    MediaType::from(&*format!("application/vnd.cncf.model.{kind}.v1.{ending}"))
}

const DOCKER_GGUF: &str = "application/vnd.docker.ai.gguf.v3";

/// docker/model-spec, "Layers"; `None` for files that Model Runner has no use for.
fn docker_type(path: &[u8]) -> Option<&'static str> {
    let path = String::from_utf8_lossy(path).to_lowercase();
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.ends_with(".gguf") {
        return Some(match () {
            () if name.contains("mmproj") => "application/vnd.docker.ai.gguf.v3.mmproj",
            () if name.contains("lora") => "application/vnd.docker.ai.gguf.v3.lora",
            () => DOCKER_GGUF,
        });
    }
    if name.starts_with("license") || name.starts_with("licence") {
        return Some("application/vnd.docker.ai.license");
    }
    name.ends_with(".jinja").then_some("application/vnd.docker.ai.chat.template.jinja")
}

#[cfg(test)]
mod tests {
    use ocib_source::Directory;

    use super::*;
    use crate::Options;

    #[tokio::test]
    async fn names_that_manifests_cannot_hold_are_refused() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let dir = tempfile::tempdir().unwrap();
        for name in [&b"a"[..], b"b\xff", b"b\xfe"] {
            std::fs::write(dir.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        let tree = Arc::new(Directory::open(dir.path()).unwrap());
        let model = Model::open(tree, Options::default()).await.unwrap();
        let error = Artifact::ModelPackRaw.files(&model).unwrap_err().to_string();
        assert!(error.ends_with("has a name that is no UTF-8"), "{error}");
    }

    #[tokio::test]
    async fn a_manifest_that_registries_refuse_is_refused_before() {
        let dir = tempfile::tempdir().unwrap();
        // Long paths, as many thousand short ones take longer to write.
        let below = dir.path().join([&*"d".repeat(200); 4].join("/"));
        std::fs::create_dir_all(&below).unwrap();
        for number in 0..4_000 {
            std::fs::write(below.join(format!("{number:0200}")), "").unwrap();
        }
        let tree = Arc::new(Directory::open(dir.path()).unwrap());
        let model = Model::open(tree, Options::default()).await.unwrap();
        let check = |files: usize| {
            let layers: Vec<ModelLayer> = (0..files).map(|number| model.raw(number)).collect();
            Artifact::ModelPackRaw.check_manifest(&model, &layers.iter().collect::<Vec<_>>())
        };
        check(3_000).unwrap();
        let error = check(4_000).unwrap_err().to_string();
        let expected =
            "the model cannot be described as an artifact of these files: the manifest of 4000 layers";
        assert!(error.starts_with(expected), "{error}");
    }
}
