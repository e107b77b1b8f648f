//! Profiles: how registries differ in what they take, as one table.

use super::challenge::Challenge;

/// What one kind of registry takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Profile {
    /// The end of the host names that it is for; empty for all others.
    host: &'static str,
    /// What such a name has in it besides.
    part: &'static str,
    /// How a layer is sent whose digest is not known.
    pub(super) upload: Upload,
    /// Who is asked for before the registry asks.
    asks: Asks,
    /// Whether a repository comes into being with what is pushed first.
    pub(super) makes_repositories: bool,
    /// Whether permissions are judged before anything else, so that a request that makes no sense tells
    /// whether one that does would be allowed.
    pub(super) judges_permissions_first: bool,
    /// Whether a blob can be taken from another repository.
    pub(super) mounts: bool,
    /// Largest blob in bytes.
    pub(super) blob_bytes_max: u64,
    /// Most layers of an image.
    pub(super) layers_max: usize,
    /// Longest tag in characters.
    pub(super) tag_chars_max: usize,
}

/// How a layer is sent whose digest is not known yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Upload {
    /// While it is made: one PATCH with all bytes, and a PUT with the digest.
    Streamed,
    /// Not at all: its digest is found out first, and one PUT has both.
    Whole,
}

/// What is known of a registry's challenge before it makes one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asks {
    /// Nothing: the first request goes without a proof, unless the registry was asked.
    Itself,
    /// Always for name and password, so that no request is sent to be told so.
    Password,
}

/// What is assumed of registries that are not in the table.
const DEFAULT: Profile = Profile {
    host: "",
    part: "",
    upload: Upload::Streamed,
    asks: Asks::Itself,
    makes_repositories: true,
    judges_permissions_first: false,
    mounts: true,
    blob_bytes_max: u64::MAX,
    layers_max: usize::MAX,
    // distribution-spec, "Pulling manifests".
    tag_chars_max: 128,
};

/// What ECR's private registries take, in whatever partition ("Service quotas", "Registry
/// authentication"). Mounting is off for most accounts: that is a 202 with a session that works. Images of
/// 500 layers and more were refused (spin#1787).
const ECR: Profile = Profile {
    // `.dkr.ecr.`, `.dkr.ecr-fips.` and `.dkr-ecr.`: much else is served under the same domains.
    part: ".dkr",
    asks: Asks::Password,
    makes_repositories: false,
    judges_permissions_first: true,
    blob_bytes_max: 52_000 << 20,
    layers_max: 500,
    tag_chars_max: 300,
    ..DEFAULT
};

/// The first row that fits counts.
const PROFILES: [Profile; 14] = [
    // The partitions of AWS, as their SDKs name them (`partitions.json`).
    Profile { host: ".amazonaws.com", ..ECR },
    Profile { host: ".amazonaws.com.cn", ..ECR },
    Profile { host: ".amazonaws.eu", ..ECR },
    Profile { host: ".amazonaws-eusc.eu", ..ECR },
    Profile { host: ".c2s.ic.gov", ..ECR },
    Profile { host: ".sc2s.sgov.gov", ..ECR },
    Profile { host: ".cloud.adc-e.uk", ..ECR },
    Profile { host: ".csp.hci.ic.gov", ..ECR },
    Profile { host: ".on.aws", ..ECR },
    Profile { host: ".on.amazonwebservices.com.cn", ..ECR },
    // ECR Public, "Service quotas": 10,000 MiB a layer; a push does not make a repository.
    Profile { host: "public.ecr.aws", makes_repositories: false, blob_bytes_max: 10_000 << 20, ..DEFAULT },
    // GitHub, "Working with the Container registry": 10 GB a layer.
    Profile { host: "ghcr.io", blob_bytes_max: 10 << 30, ..DEFAULT },
    // Google, "Artifact Registry: Docker API": "You must use monolithic uploads" (kitops#777).
    Profile { host: "-docker.pkg.dev", upload: Upload::Whole, ..DEFAULT },
    // Artifactory answers a mount with an upload of its own, whatever it has.
    Profile { host: ".jfrog.io", mounts: false, ..DEFAULT },
];

impl Profile {
    /// The profile of the registry `host` (which may have a port).
    pub(super) fn of(host: &str) -> Self {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let fits = |profile: &&Self| name.ends_with(profile.host) && name.contains(profile.part);
        PROFILES.iter().find(fits).copied().unwrap_or(DEFAULT)
    }

    /// The challenge that the registry is known to make.
    pub(super) fn challenge(self) -> Option<Challenge> {
        (self.asks == Asks::Password).then_some(Challenge::Basic)
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
        let ecr = Profile { host: "", part: "", ..ECR };
        for (host, expected) in [
            ("1234.dkr.ecr.eu-west-1.amazonaws.com", ecr),
            ("1234.dkr.ecr.eu-west-1.amazonaws.com:443", ecr),
            ("1234.dkr.ecr-fips.us-gov-west-1.amazonaws.com", ecr),
            ("1234.dkr.ecr.cn-north-1.amazonaws.com.cn", ecr),
            ("1234.dkr-ecr.eu-west-1.on.aws", ecr),
            ("1234.dkr.ecr.eusc-de-east-1.amazonaws.eu", ecr),
            ("1234.dkr.ecr.eusc-de-east-1.amazonaws-eusc.eu", ecr),
            ("1234.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", ecr),
            ("registry.lambda-url.eu-west-1.on.aws", DEFAULT),
            (
                "public.ecr.aws",
                Profile { makes_repositories: false, blob_bytes_max: 10_000 << 20, ..DEFAULT },
            ),
            ("ghcr.io", Profile { blob_bytes_max: 10 << 30, ..DEFAULT }),
            ("europe-docker.pkg.dev", Profile { upload: Upload::Whole, ..DEFAULT }),
            ("acme.jfrog.io", Profile { mounts: false, ..DEFAULT }),
            ("127.0.0.1:5000", DEFAULT),
            ("[::1]:5000", DEFAULT),
        ] {
            assert_eq!(Profile { host: "", part: "", ..Profile::of(host) }, expected, "{host}");
        }
    }
}
