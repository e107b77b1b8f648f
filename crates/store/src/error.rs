//! What can go wrong in a place, and what it means for whoever asked.

use std::{fmt, io, path::PathBuf, time::Duration};

use ocib_image::{Digest, LayerError, PlaceError, PlaceErrorKind, Platform};
use ocib_net::{Method, Redacted, Retry, StatusCode, Verdict};

use crate::{ConfigProblem, IamDenial};

/// Errors of places. Secrets are in none of them; what a registry said is bounded and escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A registry, or its token endpoint, answered with a status that means failure.
    #[error("{method} {url} answered {}{}", status.as_u16(), Said(codes))]
    Registry {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// The status.
        status: StatusCode,
        /// What the registry said (distribution-spec, "Error Codes").
        codes: Vec<RegistryCode>,
        /// How long the registry wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The connection failed, or must not be made.
    #[error(transparent)]
    Http(#[from] ocib_net::Error),
    /// A registry's answer lacks something that every registry sends.
    #[error("{method} {url} answered without {what}")]
    Incomplete {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// What is missing.
        what: &'static str,
    },
    /// Content that is not what its digest promised.
    #[error("{what} has digest {actual}, expected {expected}")]
    WrongDigest {
        /// What was read or stored.
        what: String,
        /// The digest that it should have.
        expected: Digest,
        /// The digest that it has.
        actual: Digest,
    },
    /// Content that is longer or shorter than its descriptor says.
    #[error("{what} has {actual} bytes, expected {expected}")]
    WrongSize {
        /// What was read.
        what: String,
        /// Its size in bytes, by its descriptor.
        expected: u64,
        /// How many bytes came, at least.
        actual: u64,
    },
    /// Content that is larger than the place, or ocib, takes.
    #[error("{what} has {bytes} bytes, expected at most {limit}")]
    TooLarge {
        /// What should have been moved.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A token for less than was asked for.
    #[error("the token for {repository} grants {}, expected pull and push", Actions(granted))]
    NotGranted {
        /// The repository, with its registry.
        repository: String,
        /// What the token allows there.
        granted: Vec<String>,
    },
    /// An image with more layers than the registry takes.
    #[error("the image for {platform} has {count} layers, {registry} takes at most {limit}")]
    TooManyLayers {
        /// What the image is for.
        platform: Box<Platform>,
        /// How many layers it has.
        count: usize,
        /// The registry's host.
        registry: String,
        /// How many it takes.
        limit: usize,
    },
    /// A tag that the registry does not take.
    #[error("the tag {tag} has {count} characters, {registry} takes at most {limit}")]
    TagTooLong {
        /// The tag.
        tag: String,
        /// How many characters it has.
        count: usize,
        /// The registry's host.
        registry: String,
        /// How many it takes.
        limit: usize,
    },
    /// A manifest, index or config that cannot be read.
    #[error("{name}: {source}")]
    Document {
        /// Which one.
        name: String,
        /// What is wrong with it.
        source: ocib_image::Error,
    },
    /// An index that has nothing for the wanted platform.
    #[error("{name} has no image for {wanted}, only for {}", if have.is_empty() { "none" } else { have })]
    NoPlatform {
        /// The image.
        name: String,
        /// The wanted platform.
        wanted: String,
        /// The platforms that there are.
        have: String,
    },
    /// A layer that only its foreign URLs have, which are not asked.
    #[error("{name} is kept outside of its registry, expected a layer that the registry holds")]
    ForeignLayer {
        /// The layer.
        name: String,
    },
    /// A name of another kind than the place has.
    #[error("{name} is not in a registry, expected registry/repository[:tag][@digest]")]
    NoRegistryName {
        /// The name.
        name: String,
    },
    /// A token endpoint that must not see the credentials of a registry.
    #[error("{registry} wants its credentials sent to {realm}, which is not of the same domain")]
    ForeignRealm {
        /// The registry.
        registry: String,
        /// Its token endpoint.
        realm: Redacted,
    },
    /// A token endpoint whose name is no URL.
    #[error("{registry} names a token endpoint that is no URL")]
    BadRealm {
        /// The registry.
        registry: String,
    },
    /// A credential of a kind that the registry does not take.
    #[error("{registry} wants a user and a password, found an identity token")]
    NeedsPassword {
        /// The registry.
        registry: String,
    },
    /// A file of credentials that cannot be read.
    #[error("cannot use the credentials file {}: {why}", path.display())]
    CredentialFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its content.
        why: String,
    },
    /// A credential helper that cannot be asked.
    #[error("credential helper {helper:?}, named in {}: {why}", file.display())]
    CredentialHelper {
        /// The program.
        helper: String,
        /// The file that names it.
        file: PathBuf,
        /// What went wrong, without its output.
        why: String,
    },
    /// A credential helper that is not installed.
    #[error("credential helper {helper:?}, named in {}: there is no such program in PATH", file.display())]
    NoHelper {
        /// The program.
        helper: String,
        /// The file that names it.
        file: PathBuf,
    },
    /// An API of AWS refused what was asked of it.
    #[error("{action} failed{}", After(code, message))]
    Aws {
        /// What was asked, by the name of its permission, such as `ecr:CreateRepository`.
        action: &'static str,
        /// AWS's code, such as `AccessDeniedException`; empty if it sent none.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// A file that configures registries and cannot be understood.
    #[error("{0}")]
    RegistryConfig(Box<ConfigProblem>),
    /// A name that the configuration of registries forbids.
    #[error("{name} is blocked by {place}, with the prefix {prefix}")]
    Blocked {
        /// The name.
        name: String,
        /// The rule's prefix.
        prefix: String,
        /// File and line of the rule.
        place: String,
    },
    /// A location in the configuration of registries that makes no name out of a name.
    #[error(
        "{place} makes {rewritten} of {name}, expected HOST[:PORT]/PATH with a dot or a port in the host"
    )]
    BadLocation {
        /// The name.
        name: String,
        /// What the rule makes of it.
        rewritten: String,
        /// File and line of the rule.
        place: String,
    },
    /// A certificate for one host, or its key, that cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    HostCertificate {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, without its content.
        why: String,
    },
    /// The place itself failed after its mirrors did.
    #[error("{source}; before that {} failed too: {}", if failed.len() == 1 { "its mirror" } else { "its mirrors" }, failed.join("; "))]
    Mirrors {
        /// What each mirror said.
        failed: Vec<String>,
        /// Why the place itself failed.
        source: Box<Error>,
    },
    /// A local file or directory that cannot be read or written.
    #[error("cannot {verb} {}: {source}", path.display())]
    File {
        /// What was to be done with it, such as `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory that is no OCI layout.
    #[error("{} is not an OCI layout: {why}", directory.display())]
    BadLayout {
        /// The directory.
        directory: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// An image that a layout does not have, or not without saying more.
    #[error("{} has {}, expected {wanted}", directory.display(), Images(there))]
    NotInLayout {
        /// The directory.
        directory: PathBuf,
        /// What was asked for.
        wanted: String,
        /// The images that are there, by name or digest.
        there: Vec<String>,
    },
    /// A file that is no archive of images.
    #[error("{} is not an archive of images: {why}", path.display())]
    BadArchive {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// A blob that an archive does not have.
    #[error("{} has no blob {digest}", path.display())]
    NotInArchive {
        /// The file.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A name that cannot stand in a docker archive.
    #[error("{name:?} cannot name an image in a docker archive, expected REPOSITORY[:TAG]")]
    BadArchiveName {
        /// The name.
        name: String,
    },
    /// An image for several platforms in a docker archive.
    #[error(
        "a docker archive holds one image, not one for each platform: choose one platform, or write type=oci"
    )]
    ManyPlatforms,
    /// Something put into an archive after its end was written.
    #[error("{name} is finished, nothing can be added to it")]
    ArchiveFinished {
        /// The archive.
        name: String,
    },
    /// An archive on a pipe: what went wrong before cannot be taken back.
    #[error("{name} was broken off by an earlier failure")]
    ArchiveBroken {
        /// The archive.
        name: String,
    },
    /// A layer that could not be made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Another place failed.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// One thing that a registry said about a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegistryCode {
    /// Its code, such as `DENIED`; empty where the registry sent plain text.
    pub code: String,
    /// Its words.
    pub message: String,
}

impl RegistryCode {
    /// Whether it says that a token is past its end, as ECR does with the status 403.
    pub(crate) fn says_expired(&self) -> bool {
        self.message.contains("expired") || self.message.contains("Expired")
    }
}

struct After<'a>(&'a str, &'a str);

impl fmt::Display for After<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        [self.0, self.1].iter().filter(|text| !text.is_empty()).try_for_each(|text| write!(f, ": {text}"))
    }
}

struct Actions<'a>(&'a [String]);

impl fmt::Display for Actions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nothing"),
            actions => f.write_str(&actions.join(" and ")),
        }
    }
}

struct Images<'a>(&'a [String]);

impl fmt::Display for Images<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("no images"),
            names => write!(f, "the images {}", names.join(", ")),
        }
    }
}

struct Said<'a>(&'a [RegistryCode]);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, RegistryCode { code, message }) in self.0.iter().enumerate() {
            let before = if at == 0 { ": " } else { "; " };
            let between = if code.is_empty() || message.is_empty() { "" } else { ": " };
            write!(f, "{before}{code}{between}{message}")?;
        }
        Ok(())
    }
}

impl Error {
    /// The status, if a registry's answer is the failure.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Registry { status, .. } => Some(*status),
            Self::Mirrors { source, .. } => source.status(),
            _ => None,
        }
    }

    /// Whether the registry gave `code` as a reason.
    pub fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Registry { codes, .. } if codes.iter().any(|said| said.code == code))
    }

    /// Whether the registry takes the proof of identity for expired, so that a new one may help.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Registry { status, codes, .. } => {
                *status == StatusCode::UNAUTHORIZED
                    || *status == StatusCode::FORBIDDEN && codes.iter().any(RegistryCode::says_expired)
            }
            _ => false,
        }
    }

    /// The permission that is missing, where AWS names it: in answers of ECR as a registry and of its API.
    pub fn denial(&self) -> Option<IamDenial> {
        match self {
            Self::Registry { codes, .. } => codes.iter().find_map(|said| IamDenial::parse(&said.message)),
            Self::Aws { message, .. } => IamDenial::parse(message),
            Self::Mirrors { source, .. } => source.denial(),
            _ => None,
        }
    }

    fn kind(&self) -> PlaceErrorKind {
        use PlaceErrorKind::{Corrupt, Denied, Input, Local, NotFound, Refused, Unreachable};
        match self {
            Self::Registry { .. } if self.has_code("DIGEST_INVALID") => Corrupt,
            Self::Registry { status, .. } => match status.as_u16() {
                401 | 403 => Denied,
                404 => NotFound,
                408 | 429 | 500..=599 => Unreachable,
                _ => Refused,
            },
            Self::Http(ocib_net::Error::TooLong { .. }) => Corrupt,
            Self::Http(ocib_net::Error::Forbidden { .. } | ocib_net::Error::Redirect { .. }) => Refused,
            Self::Http(ocib_net::Error::Unidentified { .. }) => Denied,
            Self::Http(ocib_net::Error::ClientCertificate { .. } | ocib_net::Error::ProxyLogin { .. }) => {
                Refused
            }
            Self::Http(_) => Unreachable,
            Self::BadRealm { .. }
            | Self::Incomplete { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::Document { .. } => Corrupt,
            Self::TooLarge { .. }
            | Self::TooManyLayers { .. }
            | Self::TagTooLong { .. }
            | Self::ForeignLayer { .. } => Refused,
            Self::NoPlatform { .. } | Self::NoRegistryName { .. } => NotFound,
            Self::ForeignRealm { .. }
            | Self::NeedsPassword { .. }
            | Self::NotGranted { .. }
            | Self::CredentialFile { .. }
            | Self::NoHelper { .. }
            | Self::CredentialHelper { .. } => Denied,
            Self::Aws { code, .. } => match code.as_str() {
                "RepositoryNotFoundException" => NotFound,
                code if AWS_DENIALS.contains(&code) => Denied,
                _ => Refused,
            },
            Self::Mirrors { source, .. } => source.kind(),
            Self::Blocked { .. } => Refused,
            Self::RegistryConfig(_) | Self::BadLocation { .. } | Self::HostCertificate { .. } => Local,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => NotFound,
            Self::File { .. } | Self::ArchiveBroken { .. } => Local,
            Self::BadLayout { .. } | Self::BadArchive { .. } => Input,
            Self::NotInLayout { .. } | Self::NotInArchive { .. } => NotFound,
            Self::BadArchiveName { .. } | Self::ManyPlatforms | Self::ArchiveFinished { .. } => Refused,
            Self::Layer(LayerError::Place(inner)) | Self::Place(inner) => inner.kind,
            Self::Layer(_) => Input,
        }
    }
}

/// Codes that all of AWS's APIs use for who may not ask ("Common errors").
const AWS_DENIALS: [&str; 9] = [
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

impl Retry for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Registry { status, retry_after, .. } => Verdict::of_status(*status, *retry_after),
            Self::Http(error) => error.verdict(),
            _ => Verdict::Final,
        }
    }
}

impl From<Error> for PlaceError {
    fn from(error: Error) -> Self {
        match error {
            Error::Place(inner) | Error::Layer(LayerError::Place(inner)) => inner,
            error => Self::new(error.kind(), error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(status: u16, codes: &[(&str, &str)]) -> Error {
        Error::Registry {
            method: Method::PUT,
            url: Redacted::of(&"https://a/v2/x/blobs/uploads/1?_state=s".parse().unwrap()),
            status: StatusCode::from_u16(status).unwrap(),
            codes: codes
                .iter()
                .map(|(code, message)| RegistryCode { code: (*code).into(), message: (*message).into() })
                .collect(),
            retry_after: None,
        }
    }

    #[test]
    fn kinds_and_texts_of_registry_errors() {
        let url = "PUT https://a/v2/x/blobs/uploads/1?_state=…";
        for (status, codes, kind, text) in [
            (401, &[][..], PlaceErrorKind::Denied, "answered 401"),
            (403, &[("DENIED", "no push")], PlaceErrorKind::Denied, "answered 403: DENIED: no push"),
            (404, &[("NAME_UNKNOWN", "")], PlaceErrorKind::NotFound, "answered 404: NAME_UNKNOWN"),
            (429, &[("", "slow down")], PlaceErrorKind::Unreachable, "answered 429: slow down"),
            (400, &[("DIGEST_INVALID", "d")], PlaceErrorKind::Corrupt, "answered 400: DIGEST_INVALID: d"),
            (405, &[("A", "1"), ("B", "2")], PlaceErrorKind::Refused, "answered 405: A: 1; B: 2"),
        ] {
            let error = PlaceError::from(registry(status, codes));
            assert_eq!((error.kind, error.to_string()), (kind, format!("{url} {text}")), "{status}");
        }
    }

    #[test]
    fn errors_of_other_places_pass_through() {
        let inner = PlaceError::new(PlaceErrorKind::NotFound, "gone");
        let error = PlaceError::from(Error::Layer(LayerError::Place(inner)));
        assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::NotFound, "gone".to_owned()));
    }
}
