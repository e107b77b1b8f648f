//! What can be wrong with a place in a bucket.

use ocib_image::PlaceErrorKind;

/// Why a bucket, or what is meant of it, cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketProblem {
    /// Text that names no place in a bucket.
    #[error("{why}, expected s3://BUCKET[/PREFIX] or gs://BUCKET[/PREFIX]")]
    BadLocation {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// This build of ocib leaves the store out.
    #[error("this program was built without the feature {feature}")]
    LeftOut {
        /// What would bring it.
        feature: &'static str,
    },
    /// Somebody, or nobody, without the right to it.
    #[error("{who} may not read it: {said}")]
    Denied {
        /// Who asked.
        who: String,
        /// The store's code, such as `AccessDenied`; empty if it gives none.
        code: String,
        /// The store's words, escaped and cut short.
        said: String,
    },
    /// No such bucket.
    #[error("there is no such bucket")]
    NoBucket,
    /// Nothing there.
    #[error("there is no such object, and none below it")]
    Nothing,
    /// A bucket that is elsewhere.
    #[error("it is in another region{}: {said}", region.as_ref().map(|region| format!(", {region}")).unwrap_or_default())]
    OtherRegion {
        /// Which, if the store says so.
        region: Option<String>,
        /// The store's words, escaped and cut short.
        said: String,
    },
    /// An object that must be restored before it can be read.
    #[error("it is archived: {said}")]
    Archived {
        /// The store's words, escaped and cut short.
        said: String,
    },
    /// More questions than the store answers in a while.
    #[error("the store limits how often it is asked: {said}")]
    Throttled {
        /// The store's words, escaped and cut short.
        said: String,
    },
    /// An answer that S3's API does not give.
    #[error("it does not answer as S3 does: {why}")]
    NotS3 {
        /// What is wrong with the answer.
        why: String,
    },
}

impl BucketProblem {
    pub(crate) fn kind(&self) -> PlaceErrorKind {
        match self {
            Self::BadLocation { .. } | Self::LeftOut { .. } => PlaceErrorKind::Input,
            Self::Denied { .. } => PlaceErrorKind::Denied,
            Self::NoBucket | Self::Nothing => PlaceErrorKind::NotFound,
            Self::Throttled { .. } => PlaceErrorKind::Unreachable,
            Self::NotS3 { .. } | Self::OtherRegion { .. } | Self::Archived { .. } => PlaceErrorKind::Refused,
        }
    }

    /// Its name in the table of causes.
    pub(crate) fn cause(&self) -> Option<&'static str> {
        Some(match self {
            Self::BadLocation { .. } | Self::LeftOut { .. } => return None,
            Self::Denied { code, .. } => match code.as_str() {
                "InvalidAccessKeyId" | "InvalidToken" => "aws-keys-unknown",
                "SignatureDoesNotMatch" => "aws-signature",
                "ExpiredToken" => "aws-session-expired",
                "RequestTimeTooSkewed" => "clock-skew",
                "UserProjectMissing" | "UserProjectAccessDenied" => "bucket-requester-pays",
                _ => "bucket-denied",
            },
            Self::NoBucket => "bucket-missing",
            Self::Nothing => "bucket-key-missing",
            Self::OtherRegion { .. } => "bucket-region",
            Self::Archived { .. } => "bucket-object-archived",
            Self::Throttled { .. } => "bucket-throttled",
            Self::NotS3 { .. } => "bucket-not-s3",
        })
    }
}
