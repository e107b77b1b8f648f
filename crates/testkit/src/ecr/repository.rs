//! Repositories and what is in them.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use ocib_image::Digest;
use serde_json::{Value, json};

use super::{EcrOptions, iam::matches};

/// A repository to create.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EcrRepository {
    /// Such as `team/model`.
    pub name: String,
    /// Whether a tag, once it is there, stays.
    pub immutable: bool,
    /// Tags that may move all the same: filters with `*` (`IMMUTABLE_WITH_EXCLUSION`).
    pub mutable_tags: Vec<String>,
    /// The key's ARN for encryption with KMS; without one it is AES256.
    pub kms_key: Option<String>,
    /// Whether images are scanned when pushed.
    pub scan_on_push: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Repository {
    pub(super) settings: EcrRepository,
    created: SystemTime,
    pub(super) lifecycle_policy: Option<String>,
    /// Blobs are each repository's own.
    pub(super) blobs: BTreeMap<Digest, Blob>,
    pub(super) images: BTreeMap<Digest, Image>,
    pub(super) tags: BTreeMap<String, Digest>,
}

/// A blob; its bytes are there if they are few enough.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) bytes: u64,
    pub(super) content: Option<Arc<[u8]>>,
}

/// A manifest or an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Image {
    pub(super) media_type: String,
    pub(super) manifest: Arc<[u8]>,
    pub(super) pushed: SystemTime,
}

impl Repository {
    pub(super) fn new(settings: EcrRepository, created: SystemTime) -> Self {
        Self {
            settings,
            created,
            lifecycle_policy: None,
            blobs: BTreeMap::new(),
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }

    /// Whether a tag that exists may be moved.
    pub(super) fn may_move(&self, tag: &str) -> bool {
        !self.settings.immutable || self.settings.mutable_tags.iter().any(|filter| matches(filter, tag))
    }

    /// The image that a tag or a digest means.
    pub(super) fn find(&self, reference: &str) -> Option<(Digest, &Image)> {
        let digest = self.tags.get(reference).copied().or_else(|| reference.parse().ok())?;
        Some((digest, self.images.get(&digest)?))
    }

    /// Tags of an image, in order.
    pub(super) fn tags_of(&self, digest: Digest) -> Vec<&str> {
        self.tags.iter().filter(|(_, known)| **known == digest).map(|(tag, _)| tag.as_str()).collect()
    }

    /// As DescribeRepositories tells it (ECR API Reference, Repository). `host` is the registry's.
    pub(super) fn describe(&self, options: &EcrOptions, host: &str) -> Value {
        let EcrRepository { name, immutable, mutable_tags, kms_key, scan_on_push } = &self.settings;
        let mutability = match (immutable, mutable_tags.is_empty()) {
            (false, _) => "MUTABLE",
            (true, true) => "IMMUTABLE",
            (true, false) => "IMMUTABLE_WITH_EXCLUSION",
        };
        let encryption = match kms_key {
            Some(key) => json!({"encryptionType": "KMS", "kmsKey": key}),
            None => json!({"encryptionType": "AES256"}),
        };
        let mut described = json!({
            "repositoryArn": options.repository_arn(name),
            "registryId": options.account,
            "repositoryName": name,
            "repositoryUri": format!("{host}/{name}"),
            "createdAt": seconds(self.created),
            "imageTagMutability": mutability,
            "imageScanningConfiguration": {"scanOnPush": scan_on_push},
            "encryptionConfiguration": encryption,
        });
        if mutability == "IMMUTABLE_WITH_EXCLUSION" {
            let filter = |filter| json!({"filterType": "WILDCARD", "filter": filter});
            described["imageTagMutabilityExclusionFilters"] = mutable_tags.iter().map(filter).collect();
        }
        described
    }
}

/// A time as AWS JSON writes it: seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970");
    since.as_secs() as f64
}
