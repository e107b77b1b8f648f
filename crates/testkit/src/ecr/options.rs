//! How an emulated ECR is set up.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use super::AwsAction;

/// The only region of ECR Public's API that mints tokens and makes repositories.
pub(super) const PUBLIC_REGION: &str = "us-east-1";

/// How the emulator behaves. The default is a private registry as AWS sets it up: no mounts, no
/// creation on push, redirected layers, its own limits.
#[derive(Clone, Debug)]
pub struct EcrOptions {
    /// Twelve digits.
    pub account: String,
    /// Such as `eu-west-1`; it decides the partition too.
    pub region: String,
    /// What a push into a repository that does not exist gets.
    pub missing_repository: MissingRepository,
    /// Whether blobs can be mounted from another repository: opt-in per registry since January 2026
    /// (ECR User Guide, "Blob mounting").
    pub mounts: bool,
    /// What becomes of a second `PATCH` with a right `Content-Range`.
    pub second_patch: SecondPatch,
    /// How long an authorization token lives: 12 hours at AWS. It ends earlier with its session,
    /// whatever the answer says.
    pub token_life: Duration,
    /// How far the emulator's clock is ahead of the machine's, in seconds; negative is behind.
    pub clock_ahead_seconds: i64,
    /// Requests per second for each action; what is not here is unlimited. Older quotas were 10 for
    /// Initiate, Complete and PutImage (ECR User Guide, "Service quotas").
    pub quotas: BTreeMap<AwsAction, u32>,
    /// Largest layer in bytes.
    pub layer_bytes_max: u64,
    /// Most layers of an image (spin#1787).
    pub layers_max: usize,
    /// Bytes that a part of the layer API may have; only the last may have fewer.
    pub part_bytes: RangeInclusive<u64>,
    /// Most parts of a layer.
    pub parts_max: u32,
    /// Blobs up to this size are kept and can be fetched; larger ones are digested and counted only.
    pub keep_bytes_max: u64,
    /// The alias of a registry of ECR Public, for an emulator that is one: repositories are named below it,
    /// by whole path (`alias/name`), and its dialect is a subset of the private one's here. (U) Limits and
    /// statuses.
    pub public_alias: Option<String>,
    /// Refuses manifests with a `subject`, which was seen (containers-roadmap#2783).
    pub refuses_subject: bool,
}

/// What happens when something is pushed into a repository that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MissingRepository {
    /// `NAME_UNKNOWN` with its text.
    NameUnknown,
    /// An upload's connection closes without an answer (containers-roadmap#1970, seen).
    HangUp,
    /// The repository is made, by a creation template for pushes (since December 2025). (U) Who pushes
    /// needs `ecr:CreateRepository`.
    Create,
}

/// What happens to the bytes of a second `PATCH` that names the right range. One without
/// `Content-Range` gets 416 in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecondPatch {
    /// They are lost although the answer is 201 (containers-roadmap#2831 as first reported).
    Discarded,
    /// They are stored, but `Range` in the answer stays where it was (the same issue, corrected).
    StaleRange,
}

impl Default for EcrOptions {
    fn default() -> Self {
        Self {
            account: "123456789012".to_owned(),
            region: "eu-west-1".to_owned(),
            missing_repository: MissingRepository::NameUnknown,
            mounts: false,
            second_patch: SecondPatch::Discarded,
            token_life: Duration::from_secs(12 * 3600),
            clock_ahead_seconds: 0,
            quotas: BTreeMap::new(),
            // ECR User Guide, "Service quotas": layer and part sizes, parts per layer.
            layer_bytes_max: 52_000 << 20,
            layers_max: 500,
            part_bytes: 5 << 20..=10 << 20,
            parts_max: 4200,
            keep_bytes_max: 16 << 20,
            public_alias: None,
            refuses_subject: false,
        }
    }
}

impl EcrOptions {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub(super) fn partition(&self) -> &'static str {
        match &self.region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    /// The ARN of a repository; those of ECR Public have neither region nor alias (Service Authorization
    /// Reference, "Amazon Elastic Container Registry Public").
    pub(super) fn repository_arn(&self, name: &str) -> String {
        if let Some(alias) = &self.public_alias {
            let name =
                name.strip_prefix(alias.as_str()).and_then(|name| name.strip_prefix('/')).unwrap_or(name);
            return format!("arn:{}:ecr-public::{}:repository/{name}", self.partition(), self.account);
        }
        format!("arn:{}:ecr:{}:{}:repository/{name}", self.partition(), self.region, self.account)
    }

    /// The path in the data plane of a repository that the API names.
    pub(super) fn path(&self, name: &str) -> String {
        self.public_alias.as_ref().map_or_else(|| name.to_owned(), |alias| format!("{alias}/{name}"))
    }

    /// The name of the right that `action` takes; ECR Public lets everybody read.
    pub(super) fn right(&self, action: AwsAction) -> Option<String> {
        let name = action.name();
        match (&self.public_alias, name.strip_prefix("ecr:")) {
            (Some(_), _) if action.is_read() => None,
            (Some(_), Some(name)) => Some(format!("ecr-public:{name}")),
            _ => Some(name.to_owned()),
        }
    }

    /// Where requests to ECR's API are signed for.
    pub(super) fn signing_region(&self, is_public: bool) -> &str {
        if is_public { PUBLIC_REGION } else { &self.region }
    }
}
