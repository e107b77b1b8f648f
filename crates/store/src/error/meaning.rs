//! What an error means for whoever asked: whether it is worth another try, and whose fault it is.

use std::io;

use ocib_image::{LayerError, PlaceError, PlaceErrorKind};
use ocib_net::{Retry, StatusCode, Verdict};

use super::{Error, RegistryCode};
use crate::IamDenial;

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
            | Self::TagTaken { .. }
            | Self::ForeignLayer { .. } => Refused,
            Self::NoPlatform { .. }
            | Self::NoRegistryName { .. }
            | Self::NoRepository { .. }
            | Self::NoPublicRepository { .. } => NotFound,
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
            Self::File { .. } | Self::ArchiveBroken { .. } | Self::PartsNeedMemory { .. } => Local,
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
    use ocib_net::{Method, Redacted};

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
