//! Profiles: how registries differ in what they take, as one table.

/// What one kind of registry takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Profile {
    /// The end of the host names that it is for; empty for all others.
    host: &'static str,
    /// Whether a blob can be taken from another repository.
    pub(super) mounts: bool,
    /// Largest blob in bytes.
    pub(super) blob_bytes_max: u64,
    /// Most layers of an image.
    pub(super) layers_max: usize,
    /// Longest tag in characters.
    pub(super) tag_chars_max: usize,
}

/// What is assumed of registries that are not in the table.
const DEFAULT: Profile = Profile {
    host: "",
    mounts: true,
    blob_bytes_max: u64::MAX,
    layers_max: usize::MAX,
    // distribution-spec, "Pulling manifests".
    tag_chars_max: 128,
};

/// What ECR's private registries take, in whatever partition ("Service quotas"). Mounting is off for
/// most accounts: that is a 202 with a session that works. Images of 500 layers and more were refused
/// (spin#1787).
const ECR: Profile = Profile { blob_bytes_max: 52_000 << 20, layers_max: 500, tag_chars_max: 300, ..DEFAULT };

/// The first row that fits counts.
const PROFILES: [Profile; 12] = [
    // The partitions of AWS, as their SDKs name them (`partitions.json`).
    Profile { host: ".amazonaws.com", ..ECR },
    Profile { host: ".amazonaws.com.cn", ..ECR },
    Profile { host: ".amazonaws.eu", ..ECR },
    Profile { host: ".c2s.ic.gov", ..ECR },
    Profile { host: ".sc2s.sgov.gov", ..ECR },
    Profile { host: ".cloud.adc-e.uk", ..ECR },
    Profile { host: ".csp.hci.ic.gov", ..ECR },
    Profile { host: ".on.aws", ..ECR },
    Profile { host: ".on.amazonwebservices.com.cn", ..ECR },
    // ECR Public, "Service quotas": 10,000 MiB a layer.
    Profile { host: "public.ecr.aws", blob_bytes_max: 10_000 << 20, ..DEFAULT },
    // GitHub, "Working with the Container registry": 10 GB a layer.
    Profile { host: "ghcr.io", blob_bytes_max: 10 << 30, ..DEFAULT },
    // Artifactory answers a mount with an upload of its own, whatever it has.
    Profile { host: ".jfrog.io", mounts: false, ..DEFAULT },
];

impl Profile {
    /// The profile of the registry `host` (which may have a port).
    pub(super) fn of(host: &str) -> Self {
        let fits = |profile: &&Self| host.ends_with(profile.host);
        PROFILES.iter().find(fits).copied().unwrap_or(DEFAULT)
    }

    /// The same for a way of uploading that takes no larger blobs than `bytes`.
    #[cfg(feature = "ecr")]
    pub(super) fn with_blobs_up_to(self, bytes: u64) -> Self {
        Self { blob_bytes_max: self.blob_bytes_max.min(bytes), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_host() {
        for (host, mounts, blob_bytes_max) in [
            ("1234.dkr.ecr.eu-west-1.amazonaws.com", true, 52_000 << 20),
            ("1234.dkr.ecr.cn-north-1.amazonaws.com.cn", true, 52_000 << 20),
            ("1234.dkr-ecr.eu-west-1.on.aws", true, 52_000 << 20),
            ("1234.dkr.ecr.eusc-de-east-1.amazonaws.eu", true, 52_000 << 20),
            ("1234.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", true, 52_000 << 20),
            ("public.ecr.aws", true, 10_000 << 20),
            ("ghcr.io", true, 10 << 30),
            ("acme.jfrog.io", false, u64::MAX),
            ("127.0.0.1:5000", true, u64::MAX),
        ] {
            let profile = Profile::of(host);
            assert_eq!((profile.mounts, profile.blob_bytes_max), (mounts, blob_bytes_max), "{host}");
        }
    }
}
