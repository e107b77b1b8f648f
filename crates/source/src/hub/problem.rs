//! What can be wrong with a place on the Hub.

use ocib_image::PlaceErrorKind;

/// Why a repository of the Hub, or what is meant of it, cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubProblem {
    /// Text that names no repository.
    #[error("{why}, expected hf://ORG/NAME[@REVISION][/PATH]")]
    BadLocation {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Access is given one by one.
    #[error("access is restricted: {}{}", said, if *.has_token {
        "; expected the token (HF_TOKEN) of an account that was given access"
    } else {
        "; expected a token (HF_TOKEN), and none was given"
    })]
    Gated {
        /// The Hub's words, escaped and cut short.
        said: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// A token that the Hub does not know any more.
    #[error("the Hub does not take the token: {said}, expected one that is valid (HF_TOKEN)")]
    BadToken {
        /// The Hub's words, escaped and cut short.
        said: String,
    },
    /// No repository, or none that may be seen.
    #[error("there is no such repository, or it is private{}", if *.has_token {
        " and the token (HF_TOKEN) may not read it"
    } else {
        ": a private one needs a token (HF_TOKEN), and none was given"
    })]
    NoRepository {
        /// Whether a token was sent.
        has_token: bool,
    },
    /// No such branch, tag or commit.
    #[error("the repository has no revision {revision}, expected a branch, a tag or a commit")]
    NoRevision {
        /// What was asked for.
        revision: String,
    },
    /// Nothing there.
    #[error("the repository has nothing at {path}")]
    NoPath {
        /// What was asked for.
        path: String,
    },
    /// Patterns that leave nothing over.
    #[error("none of its {files} files is left by the patterns that include and exclude files")]
    NothingIncluded {
        /// How many files there are.
        files: usize,
    },
    /// More questions than the Hub answers in a while.
    #[error("the Hub limits how often it is asked: {said}")]
    Throttled {
        /// The Hub's words, escaped and cut short.
        said: String,
    },
    /// An answer that the Hub's API does not give.
    #[error("it does not answer as the Hub does: {why}")]
    NotHub {
        /// What is wrong with the answer.
        why: String,
    },
}

impl HubProblem {
    pub(crate) fn kind(&self) -> PlaceErrorKind {
        match self {
            Self::BadLocation { .. } | Self::NothingIncluded { .. } => PlaceErrorKind::Input,
            Self::Gated { .. } | Self::BadToken { .. } => PlaceErrorKind::Denied,
            Self::NoRepository { has_token: false } => PlaceErrorKind::Denied,
            Self::NoRepository { .. } | Self::NoRevision { .. } | Self::NoPath { .. } => {
                PlaceErrorKind::NotFound
            }
            Self::Throttled { .. } => PlaceErrorKind::Unreachable,
            Self::NotHub { .. } => PlaceErrorKind::Refused,
        }
    }

    /// Its name in the table of causes.
    pub(crate) fn cause(&self) -> Option<&'static str> {
        Some(match self {
            Self::BadLocation { .. } => return None,
            Self::Gated { .. } => "hf-gated",
            Self::BadToken { .. } => "hf-token-invalid",
            Self::NoRepository { .. } => "hf-repository-missing",
            Self::NoRevision { .. } => "hf-revision-missing",
            Self::NoPath { .. } => "hf-path-missing",
            Self::NothingIncluded { .. } => "no-files-left",
            Self::Throttled { .. } => "hf-throttled",
            Self::NotHub { .. } => "hf-not-hub",
        })
    }
}
