//! Media types: what a blob or document is (image-spec, "media-types").

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The type of a document or blob. Types that ocib does not act on are kept as they are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum MediaType {
    /// An OCI image manifest.
    Manifest,
    /// An OCI image index.
    Index,
    /// The config of an OCI container image.
    Config,
    /// A plain tar layer.
    LayerTar,
    /// A gzip-compressed tar layer.
    LayerGzip,
    /// A zstd-compressed tar layer.
    LayerZstd,
    /// The config of an artifact without one: `{}`.
    Empty,
    /// Docker's manifest, version 2, schema 2.
    DockerManifest,
    /// Docker's manifest list.
    DockerList,
    /// Docker's image config.
    DockerConfig,
    /// Docker's plain tar layer.
    DockerLayerTar,
    /// Docker's gzip-compressed tar layer.
    DockerLayerGzip,
    /// Any other type, to the letter.
    Other(Box<str>),
}

/// Every type with a variant of its own, and its text.
const KNOWN: [(MediaType, &str); 12] = [
    (MediaType::Manifest, "application/vnd.oci.image.manifest.v1+json"),
    (MediaType::Index, "application/vnd.oci.image.index.v1+json"),
    (MediaType::Config, "application/vnd.oci.image.config.v1+json"),
    (MediaType::LayerTar, "application/vnd.oci.image.layer.v1.tar"),
    (MediaType::LayerGzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
    (MediaType::LayerZstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
    (MediaType::Empty, "application/vnd.oci.empty.v1+json"),
    (MediaType::DockerManifest, "application/vnd.docker.distribution.manifest.v2+json"),
    (MediaType::DockerList, "application/vnd.docker.distribution.manifest.list.v2+json"),
    (MediaType::DockerConfig, "application/vnd.docker.container.image.v1+json"),
    (MediaType::DockerLayerTar, "application/vnd.docker.image.rootfs.diff.tar"),
    (MediaType::DockerLayerGzip, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
];

impl MediaType {
    /// The text that stands in JSON and in `Content-Type`.
    pub fn as_str(&self) -> &str {
        if let Self::Other(text) = self {
            return text;
        }
        KNOWN.iter().find(|(known, _)| known == self).map_or("", |(_, text)| text)
    }

    /// Whether a document of this type lists manifests for several platforms.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::Index | Self::DockerList)
    }

    /// Whether a document of this type is one image's manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::Manifest | Self::DockerManifest)
    }

    /// Whether a blob of this type is a layer that need not be where its manifest is, because its owner
    /// does not allow others to distribute it (image-spec, "non-distributable layers").
    pub fn is_foreign(&self) -> bool {
        let text = self.as_str();
        text.starts_with("application/vnd.oci.image.layer.nondistributable.v1.")
            || text.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
    }

    /// The OCI type for the same bytes: Docker's and OCI's types never mix in one manifest.
    pub fn to_oci(&self) -> Self {
        match self {
            Self::DockerManifest => Self::Manifest,
            Self::DockerList => Self::Index,
            Self::DockerConfig => Self::Config,
            Self::DockerLayerTar => Self::LayerTar,
            Self::DockerLayerGzip => Self::LayerGzip,
            other => other.clone(),
        }
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        let known = KNOWN.iter().find(|(_, known)| *known == text);
        known.map_or_else(|| Self::Other(text.into()), |(media_type, _)| media_type.clone())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&*std::borrow::Cow::<str>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_type_are_a_bijection() {
        for (media_type, text) in &KNOWN {
            assert_eq!(MediaType::from(*text), *media_type);
            assert_eq!(media_type.as_str(), *text);
        }
        assert_eq!(MediaType::from("a/b").as_str(), "a/b");
    }

    #[test]
    fn foreign_layers() {
        for (text, expected) in [
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar", false),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", false),
        ] {
            assert_eq!(MediaType::from(text).is_foreign(), expected, "{text}");
        }
    }

    #[test]
    fn to_oci_leaves_no_docker_type() {
        for (media_type, _) in &KNOWN {
            assert!(!media_type.to_oci().as_str().contains("docker"), "{media_type}");
        }
    }
}
