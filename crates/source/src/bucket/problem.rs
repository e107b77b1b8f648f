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
        /// The store's words, escaped and cut short.
        said: String,
    },
    /// No such bucket.
    #[error("there is no such bucket")]
    NoBucket,
    /// Nothing there.
    #[error("there is no such object, and none below it")]
    Nothing,
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
            Self::NotS3 { .. } => PlaceErrorKind::Refused,
        }
    }
}
