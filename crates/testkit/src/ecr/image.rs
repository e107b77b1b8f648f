//! Manifests: what ECR takes, and in which order it looks.

use std::{sync::Arc, time::SystemTime};

use ocib_image::Digest;
use serde_json::Value;

use super::{
    EcrOptions,
    refusal::{Missing, Refusal},
    repository::{Image, Repository},
};

/// The greatest manifest (ECR API Reference, PutImage: length of `imageManifest`).
pub(super) const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Longest tag (the same, `imageTag`).
const TAG_BYTES_MAX: usize = 300;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// zstd is only for OCI's media types (containers/image#2906).
const DOCKER_LAYERS: [&str; 3] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// An image on its way in.
#[derive(Clone, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) manifest: &'a [u8],
    /// What the request says that it is, if anything.
    pub(super) media_type: Option<&'a str>,
    pub(super) tag: Option<&'a str>,
    /// What the request says that its digest is.
    pub(super) digest: Option<Digest>,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    pub(super) digest: Digest,
    /// Nothing has changed: image and tag were there.
    pub(super) was_there: bool,
}

impl Incoming<'_> {
    /// Puts the image into the repository, or says why not. Arguments first, then what the manifest
    /// refers to, then the tag; AWS's own order is (U) but for IAM, which was before all of it.
    pub(super) fn put(
        &self,
        repository: &mut Repository,
        options: &EcrOptions,
        now: SystemTime,
    ) -> Result<Stored, Refusal> {
        self.check_tag()?;
        let document = Document::parse(self.manifest, self.media_type)?;
        document.check_fields(options)?;
        let digest = Digest::of(self.manifest);
        if let Some(claimed) = self.digest.filter(|claimed| *claimed != digest) {
            return Err(Refusal::image_digest(claimed, digest));
        }
        document.check_content(repository, options)?;
        let before = self.tag.and_then(|tag| repository.tags.get(tag)).copied();
        if let (Some(tag), Some(_)) = (self.tag, before)
            && !repository.may_move(tag)
        {
            return Err(Refusal::immutable(tag, &repository.settings.name));
        }
        let was_there =
            repository.images.contains_key(&digest) && (self.tag.is_none() || before == Some(digest));
        let media_type = document.media_type.to_owned();
        let manifest = Arc::from(self.manifest);
        repository.images.entry(digest).or_insert(Image { media_type, manifest, pushed: now });
        self.tag.map(|tag| repository.tags.insert(tag.to_owned(), digest));
        Ok(Stored { digest, was_there })
    }

    fn check_tag(&self) -> Result<(), Refusal> {
        let Some(tag) = self.tag else { return Ok(()) };
        if tag.len() > TAG_BYTES_MAX {
            let constraint = format!("Member must have length less than or equal to {TAG_BYTES_MAX}");
            return Err(Refusal::parameter("imageTag", &constraint));
        }
        if !is_tag(tag) {
            let constraint = "must satisfy regular expression '[a-zA-Z0-9_][a-zA-Z0-9._-]*'";
            return Err(Refusal::parameter("imageTag", constraint));
        }
        Ok(())
    }
}

/// Whether a reference has a tag's characters.
pub(super) fn is_tag(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !text.is_empty() && !text.starts_with(['.', '-']) && text.bytes().all(is_inner)
}

/// A manifest that could be read.
struct Document {
    json: Value,
    media_type: &'static str,
}

impl Document {
    /// Anything else than the four kinds is `Invalid JSON syntax` (apko#450, regclient#709), and so is
    /// one whose media type stands neither in it nor in the request (containers/image#584).
    fn parse(manifest: &[u8], media_type: Option<&str>) -> Result<Self, Refusal> {
        let bad = || invalid("Invalid JSON syntax");
        let json: Value = serde_json::from_slice(manifest).map_err(|_| bad())?;
        let own = json["mediaType"].as_str();
        let named = own.or(media_type).ok_or_else(bad)?;
        let kinds = [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX];
        let kind = kinds.into_iter().find(|kind| *kind == named).ok_or_else(bad)?;
        let agree = media_type.is_none_or(|media_type| media_type == kind);
        if !agree || json["schemaVersion"] != 2 {
            return Err(bad());
        }
        let document = Self { json, media_type: kind };
        let is_whole = match kind {
            DOCKER_LIST | OCI_INDEX => document.list("manifests").is_some(),
            _ => document.list("layers").is_some() && is_descriptor(&document.json["config"]),
        };
        if is_whole { Ok(document) } else { Err(bad()) }
    }

    /// A list of descriptors.
    fn list(&self, name: &str) -> Option<&[Value]> {
        let list = self.json[name].as_array()?;
        list.iter().all(is_descriptor).then_some(list)
    }

    fn check_fields(&self, options: &EcrOptions) -> Result<(), Refusal> {
        // tart#890 has the text.
        if self.list("layers").is_some_and(|layers| layers.len() > options.layers_max) {
            return Err(invalid("Limit on number of layers per image exceeded"));
        }
        if options.refuses_subject && !self.json["subject"].is_null() {
            return Err(invalid("Invalid JSON syntax"));
        }
        // containers-roadmap#2439. (U) Text.
        let has_features = |child: &Value| !child["platform"]["features"].is_null();
        if self.list("manifests").is_some_and(|children| children.iter().any(has_features)) {
            return Err(invalid("Invalid JSON syntax"));
        }
        if self.mixes() { Err(invalid("Invalid JSON syntax")) } else { Ok(()) }
    }

    /// Whether Docker's media types and OCI's are in one manifest. (U) That ECR refuses it; others
    /// that read from it do.
    fn mixes(&self) -> bool {
        let kind = |descriptor: &Value| descriptor["mediaType"].as_str().unwrap_or_default().to_owned();
        let layers: Vec<String> = self.list("layers").unwrap_or_default().iter().map(kind).collect();
        match self.media_type {
            DOCKER_MANIFEST => layers.iter().any(|layer| !DOCKER_LAYERS.contains(&layer.as_str())),
            OCI_MANIFEST => {
                let config = kind(&self.json["config"]);
                layers.iter().chain([&config]).any(|known| known.starts_with("application/vnd.docker."))
            }
            DOCKER_LIST => {
                self.list("manifests").unwrap_or_default().iter().map(kind).any(|k| k != DOCKER_MANIFEST)
            }
            _ => false,
        }
    }

    /// Everything that is referred to must be in the same repository before (ECR API
    /// Reference, PutImage: LayersNotFoundException, ReferencedImagesNotFoundException).
    fn check_content(&self, repository: &Repository, options: &EcrOptions) -> Result<(), Refusal> {
        let digests = |descriptors: &[&Value]| -> Vec<Digest> {
            let digest =
                |descriptor: &&Value| descriptor["digest"].as_str().and_then(|text| text.parse().ok());
            descriptors.iter().filter_map(digest).collect()
        };
        // A layer with URLs lives elsewhere (image-spec, "Non-Distributable Layers").
        let layers = self.list("layers").unwrap_or_default().iter().filter(|layer| layer["urls"].is_null());
        let config = (!self.json["config"].is_null()).then(|| &self.json["config"]);
        let blobs: Vec<&Value> = layers.chain(config).collect();
        let children: Vec<&Value> = self.list("manifests").unwrap_or_default().iter().collect();
        let mut layers = digests(&blobs);
        layers.retain(|digest| !repository.blobs.contains_key(digest));
        let mut images = digests(&children);
        images.retain(|digest| !repository.images.contains_key(digest));
        for (what, missing) in [(Missing::Layers, layers), (Missing::Images, images)] {
            if !missing.is_empty() {
                let name = &repository.settings.name;
                return Err(Refusal::missing_content(what, &missing, name, &options.account));
            }
        }
        Ok(())
    }
}

fn is_descriptor(value: &Value) -> bool {
    let has_digest = value["digest"].as_str().is_some_and(|digest| digest.parse::<Digest>().is_ok());
    has_digest && value["mediaType"].is_string() && value["size"].is_u64()
}

fn invalid(constraint: &str) -> Refusal {
    Refusal::parameter("ImageManifest", constraint)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ecr::{EcrRepository, repository::Blob};

    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

    fn descriptor(media_type: &str, content: &[u8]) -> Value {
        json!({"mediaType": media_type, "digest": Digest::of(content).to_string(), "size": content.len()})
    }

    fn manifest(layers: &[(&str, &[u8])]) -> Value {
        let layers: Vec<Value> = layers.iter().map(|(kind, content)| descriptor(kind, content)).collect();
        let config = descriptor("application/vnd.oci.image.config.v1+json", b"config");
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})
    }

    /// With the blobs `config` and `layer`.
    fn repository(immutable: bool) -> Repository {
        let mutable_tags = vec!["dev-*".to_owned()];
        let settings =
            EcrRepository { name: "team/a".to_owned(), immutable, mutable_tags, ..Default::default() };
        let mut repository = Repository::new(settings, SystemTime::now());
        for content in [b"config".as_slice(), b"layer"] {
            let blob = Blob { bytes: content.len() as u64, content: None };
            repository.blobs.insert(Digest::of(content), blob);
        }
        repository
    }

    fn put(repository: &mut Repository, manifest: &Value, tag: &str) -> Result<Stored, Refusal> {
        let manifest = manifest.to_string();
        let incoming =
            Incoming { manifest: manifest.as_bytes(), media_type: None, tag: Some(tag), digest: None };
        let options = EcrOptions { layers_max: 2, refuses_subject: true, ..EcrOptions::default() };
        incoming.put(repository, &options, SystemTime::now())
    }

    #[test]
    fn what_is_refused() {
        let good = manifest(&[(LAYER, b"layer")]);
        let changed = |name: &str, value: Value| {
            let mut changed = good.clone();
            changed[name] = value;
            changed
        };
        let syntax = || Err(invalid("Invalid JSON syntax"));
        let missing = |what, content: &[u8]| {
            Err(Refusal::missing_content(what, &[Digest::of(content)], "team/a", "123456789012"))
        };
        let child = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, b"x")]});
        for (manifest, expected) in [
            (changed("mediaType", json!("application/vnd.oci.artifact.manifest.v1+json")), syntax()),
            (changed("mediaType", Value::Null), syntax()),
            (changed("schemaVersion", json!(1)), syntax()),
            (changed("config", json!({})), syntax()),
            (changed("subject", descriptor(OCI_MANIFEST, b"x")), syntax()),
            (changed("mediaType", json!(DOCKER_MANIFEST)), syntax()),
            (manifest(&[(DOCKER_LAYERS[0], b"layer")]), syntax()),
            (
                manifest(&[(LAYER, b"layer"), (LAYER, b"layer"), (LAYER, b"layer")]),
                Err(invalid("Limit on number of layers per image exceeded")),
            ),
            (manifest(&[(LAYER, b"other")]), missing(Missing::Layers, b"other")),
            (child, missing(Missing::Images, b"x")),
        ] {
            let actual = put(&mut repository(false), &manifest, "1");
            assert_eq!(actual, expected, "{manifest}");
        }
        let long = "t".repeat(TAG_BYTES_MAX + 1);
        for (tag, is_taken) in
            [("1.0_a-b", true), (&long[1..], true), (&long, false), ("a+b", false), ("-a", false)]
        {
            assert_eq!(put(&mut repository(false), &good, tag).is_ok(), is_taken, "{tag}");
        }
    }

    #[test]
    fn immutable_tags_stay() {
        let good = manifest(&[(LAYER, b"layer")]);
        let other = manifest(&[]);
        for (immutable, tag, expected) in [
            (false, "1", Ok(true)),
            (true, "1", Err(Refusal::immutable("1", "team/a"))),
            (true, "dev-1", Ok(true)),
        ] {
            let mut repository = repository(immutable);
            assert!(!put(&mut repository, &good, tag).unwrap().was_there);
            // The identical image too (containers-roadmap#2179).
            let again = put(&mut repository, &good, tag).map(|stored| stored.was_there);
            assert_eq!(again, expected, "{immutable} {tag}");
            assert_eq!(put(&mut repository, &other, tag).is_ok(), expected.is_ok());
        }
    }
}
