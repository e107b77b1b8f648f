//! Manifests and indexes: immutable documents whose raw bytes are kept (image-spec, "manifest", "image-index").

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Annotations, Descriptor, Digest, Error, MediaType, Platform};

/// Longest document that is read: what registries accept at most (distribution-spec, "Pushing Manifests").
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;

/// What a manifest is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestFields {
    schema_version: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<MediaType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    #[serde(default, deserialize_with = "null_is_empty")]
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    annotations: Annotations,
}

/// One image for one platform: a config and an ordered list of layers, base first.
#[derive(Clone, Debug)]
pub struct Manifest {
    raw: Bytes,
    media_type: MediaType,
    fields: Arc<ManifestFields>,
}

impl Manifest {
    /// Reads a manifest that was served as `media_type`.
    pub fn parse(media_type: &MediaType, raw: Bytes) -> Result<Self, Error> {
        let fields: ManifestFields = parse_document(media_type, &raw)?;
        check_types(media_type, fields.media_type.as_ref(), MediaType::is_manifest)?;
        Ok(Self { raw, media_type: media_type.clone(), fields: Arc::new(fields) })
    }

    /// An OCI manifest of these parts. Docker's media types of a base are replaced by OCI's: the
    /// bytes behind them are the same, and the two families never mix.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>, annotations: Annotations) -> Self {
        let to_oci =
            |descriptor: Descriptor| Descriptor { media_type: descriptor.media_type.to_oci(), ..descriptor };
        let fields = ManifestFields {
            schema_version: 2,
            media_type: Some(MediaType::Manifest),
            artifact_type: None,
            config: to_oci(config),
            layers: layers.into_iter().map(to_oci).collect(),
            subject: None,
            annotations,
        };
        Self { raw: write_document(&fields), media_type: MediaType::Manifest, fields: Arc::new(fields) }
    }

    /// An OCI manifest of something that is no container image (image-spec, "Guidelines for Artifact
    /// Usage"); media types stay as they are. Without `artifact_type` the config's type tells what it is.
    pub fn artifact(
        artifact_type: Option<&str>,
        config: Descriptor,
        layers: Vec<Descriptor>,
        annotations: Annotations,
    ) -> Self {
        let fields = ManifestFields {
            schema_version: 2,
            media_type: Some(MediaType::Manifest),
            artifact_type: artifact_type.map(str::to_owned),
            config,
            layers,
            subject: None,
            annotations,
        };
        Self { raw: write_document(&fields), media_type: MediaType::Manifest, fields: Arc::new(fields) }
    }

    /// The bytes, as they were read or will be published.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The image's config.
    pub fn config(&self) -> &Descriptor {
        &self.fields.config
    }

    /// The layers, base first.
    pub fn layers(&self) -> &[Descriptor] {
        &self.fields.layers
    }

    /// The manifest's annotations.
    pub fn annotations(&self) -> &Annotations {
        &self.fields.annotations
    }

    /// What the artifact is, if it is none that runs as a container (image-spec, "artifactType").
    pub fn artifact_type(&self) -> Option<&str> {
        self.fields.artifact_type.as_deref()
    }

    /// The manifest that this one is about, such as the image that a signature signs.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.fields.subject.as_ref()
    }

    /// Media type, digest and size of the manifest itself.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type.clone(), &self.raw)
    }
}

/// What an index is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexFields {
    schema_version: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<MediaType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    annotations: Annotations,
}

/// A list of manifests, one for each platform.
#[derive(Clone, Debug)]
pub struct Index {
    raw: Bytes,
    media_type: MediaType,
    fields: Arc<IndexFields>,
}

impl Index {
    /// Reads an index that was served as `media_type`.
    pub fn parse(media_type: &MediaType, raw: Bytes) -> Result<Self, Error> {
        let fields: IndexFields = parse_document(media_type, &raw)?;
        check_types(media_type, fields.media_type.as_ref(), MediaType::is_index)?;
        Ok(Self { raw, media_type: media_type.clone(), fields: Arc::new(fields) })
    }

    /// An OCI index of these manifests, in this order.
    pub fn new(manifests: Vec<Descriptor>, annotations: Annotations) -> Self {
        let fields = IndexFields {
            schema_version: 2,
            media_type: Some(MediaType::Index),
            artifact_type: None,
            manifests,
            subject: None,
            annotations,
        };
        Self { raw: write_document(&fields), media_type: MediaType::Index, fields: Arc::new(fields) }
    }

    /// An index of `manifests` alone, with all else as it is here: media type, annotations, subject.
    #[must_use]
    pub fn with_manifests(&self, manifests: Vec<Descriptor>) -> Self {
        let fields = IndexFields { manifests, ..(*self.fields).clone() };
        Self { raw: write_document(&fields), media_type: self.media_type.clone(), fields: Arc::new(fields) }
    }

    /// The bytes, as they were read or will be published.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The index's annotations.
    pub fn annotations(&self) -> &Annotations {
        &self.fields.annotations
    }

    /// The listed manifests, in the index's order.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.fields.manifests
    }

    /// Media type, digest and size of the index itself.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type.clone(), &self.raw)
    }

    /// The manifest that serves `platform` best; the first of equals. Attestations and other
    /// entries for `unknown/unknown` or without a platform are never chosen.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        let rank =
            |descriptor: &&Descriptor| descriptor.platform.as_ref().and_then(|have| have.serves(platform));
        let fit = self.manifests().iter().filter(|descriptor| rank(descriptor).is_some());
        fit.min_by_key(rank)
    }

    /// The platforms that the index has an image for, in its order.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.manifests()
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
    }
}

/// What a reference can name.
#[derive(Clone, Debug)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several images.
    Index(Index),
}

impl Document {
    /// Reads a document by the media type that it was served as. A registry that serves no useful
    /// type is helped out by what the document says of itself.
    pub fn parse(served_as: Option<&MediaType>, raw: Bytes) -> Result<Self, Error> {
        let useful = served_as.filter(|media_type| media_type.is_index() || media_type.is_manifest());
        let media_type = match useful {
            Some(media_type) => media_type.clone(),
            None => declared_type(&raw).map_err(|why| bad(served_as.unwrap_or(&MediaType::Manifest), why))?,
        };
        match media_type.is_index() {
            true => Index::parse(&media_type, raw).map(Self::Index),
            false => Manifest::parse(&media_type, raw).map(Self::Manifest),
        }
    }

    /// The bytes of the document.
    pub fn raw(&self) -> &Bytes {
        match self {
            Self::Manifest(manifest) => manifest.raw(),
            Self::Index(index) => index.raw(),
        }
    }

    /// Media type, digest and size of the document.
    pub fn descriptor(&self) -> Descriptor {
        match self {
            Self::Manifest(manifest) => manifest.descriptor(),
            Self::Index(index) => index.descriptor(),
        }
    }

    /// The document itself, if its bytes have the digest `expected`.
    pub fn verified(self, expected: &Digest) -> Result<Self, Error> {
        let actual = Digest::of(self.raw());
        match actual == *expected {
            true => Ok(self),
            false => Err(Error::WrongDigest { expected: *expected, actual }),
        }
    }
}

/// What a document says of itself, or why that is nothing that ocib reads.
fn declared_type(raw: &[u8]) -> Result<MediaType, &'static str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: Option<u64>,
        media_type: Option<MediaType>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    const NEITHER: &str = "it is no manifest and no index";
    let shape: Shape = serde_json::from_slice(raw).map_err(|_| NEITHER)?;
    if shape.schema_version == Some(1) {
        return Err(
            "it is a manifest of Docker's schema 1, which registries and runtimes have given up: push \
                    the image again from Docker 1.10 or later",
        );
    }
    let declared = shape.media_type.filter(|media_type| media_type.is_index() || media_type.is_manifest());
    let looks = match (shape.manifests, shape.config) {
        (Some(_), None) => Some(MediaType::Index),
        (None, Some(_)) => Some(MediaType::Manifest),
        _ => None,
    };
    declared.or(looks).ok_or(NEITHER)
}

/// A document that says of itself that it is something else may be read differently by others
/// (CVE-2021-41190), so it is refused.
fn check_types(
    served: &MediaType,
    own: Option<&MediaType>,
    fits: fn(&MediaType) -> bool,
) -> Result<(), Error> {
    match own {
        Some(own) if !fits(own) => Err(bad(served, format!("it says of itself that it is {own}"))),
        _ => Ok(()),
    }
}

fn parse_document<'a, T: Deserialize<'a>>(media_type: &MediaType, raw: &'a Bytes) -> Result<T, Error> {
    if raw.len() > MAX_DOCUMENT_BYTES {
        return Err(bad(media_type, format!("it is longer than {MAX_DOCUMENT_BYTES} bytes")));
    }
    serde_json::from_slice(raw).map_err(|error| bad(media_type, error.to_string()))
}

fn bad(media_type: &MediaType, why: impl Into<String>) -> Error {
    Error::BadDocument { media_type: media_type.clone(), why: why.into() }
}

fn write_document(fields: &impl Serialize) -> Bytes {
    serde_json::to_vec(fields).expect("strings, numbers and lists always serialise").into()
}

/// Go writes an empty list as `null`: the manifest of a `FROM scratch` without layers has it.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Descriptor>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: MediaType, platform: Option<&str>) -> Descriptor {
        let platform = platform.map(|text| text.parse().unwrap());
        Descriptor { platform, ..Descriptor::of(media_type, b"x") }
    }

    #[test]
    fn new_manifest_is_oci_throughout_and_reads_back() {
        let config = descriptor(MediaType::DockerConfig, None);
        let layer = descriptor(MediaType::DockerLayerGzip, None);
        let manifest = Manifest::new(config, vec![layer], Annotations::new());
        let digest = Digest::of(b"x");
        assert_eq!(
            std::str::from_utf8(manifest.raw()).unwrap(),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":1}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":1}}]}}"#
            )
        );
        let again = Manifest::parse(&MediaType::Manifest, manifest.raw().clone()).unwrap();
        assert_eq!((again.layers(), again.descriptor()), (manifest.layers(), manifest.descriptor()));
    }

    #[test]
    fn index_gives_the_best_platform_and_no_attestation() {
        let index = Index::new(
            ["linux/arm/v6", "linux/arm/v7", "linux/arm64", "unknown/unknown", "linux/amd64"]
                .map(|platform| descriptor(MediaType::Manifest, Some(platform)))
                .to_vec(),
            Annotations::new(),
        );
        for (wanted, expected) in [
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm64/v8", Some("linux/arm64")),
            ("linux/amd64/v3", Some("linux/amd64")),
            ("linux/s390x", None),
        ] {
            let chosen =
                index.choose(&wanted.parse().unwrap()).map(|d| d.platform.as_ref().unwrap().to_string());
            assert_eq!(chosen.as_deref(), expected, "{wanted}");
        }
        assert_eq!(index.platforms().count(), 4);
    }

    #[test]
    fn an_index_of_fewer_manifests_keeps_the_rest() {
        let list = br#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[],"annotations":{"a":"b"}}"#;
        let list = Index::parse(&MediaType::DockerList, Bytes::from_static(list)).unwrap();
        let entry = descriptor(MediaType::DockerManifest, Some("linux/amd64"));
        let fewer = list.with_manifests(vec![entry.clone()]);
        let again = Index::parse(&MediaType::DockerList, fewer.raw().clone()).unwrap();
        assert_eq!((again.manifests(), again.annotations()), (&[entry][..], list.annotations()));
        assert_eq!(fewer.descriptor().media_type, MediaType::DockerList);
    }

    #[test]
    fn says_why_schema_1_is_not_read() {
        let served = MediaType::from("application/vnd.docker.distribution.manifest.v1+prettyjws");
        let old = br#"{"schemaVersion":1,"name":"a","tag":"1","fsLayers":[],"history":[],"signatures":[]}"#;
        let error = Document::parse(Some(&served), Bytes::from_static(old)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a document of type application/vnd.docker.distribution.manifest.v1+prettyjws cannot be read: it is a \
             manifest of Docker's schema 1, which registries and runtimes have given up: push the image again from \
             Docker 1.10 or later"
        );
    }

    #[test]
    fn refuses_a_document_that_contradicts_its_type() {
        let manifest = Manifest::new(descriptor(MediaType::Config, None), Vec::new(), Annotations::new());
        let error = Index::parse(&MediaType::Index, manifest.raw().clone()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a document of type application/vnd.oci.image.index.v1+json cannot be read: it says of itself that it is \
             application/vnd.oci.image.manifest.v1+json"
        );
        let null = br#"{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":0},"layers":null}"#;
        let Document::Manifest(manifest) = Document::parse(None, Bytes::from_static(null)).unwrap() else {
            panic!("a document with a config is a manifest")
        };
        assert!(manifest.layers().is_empty());
        assert_eq!(&manifest.raw()[..], null);
    }
}
