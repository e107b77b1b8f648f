//! What can be wrong with a repository.

use std::io;

use ocib_image::PlaceErrorKind;
use ocib_net::Redacted;

use super::oid::Oid;
use crate::Error;

/// Why a repository, or what is meant of it, cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitProblem {
    /// A transport other than https.
    #[error("git is spoken over https only, expected {https}")]
    Transport {
        /// The same repository over https.
        https: String,
    },
    /// What answers is no repository.
    #[error("it does not answer as a git repository: {why}")]
    NotGit {
        /// What it did instead.
        why: String,
    },
    /// What the server said instead of doing what was asked for.
    #[error("the server refused: {said}")]
    Refused {
        /// Its words, escaped and cut short.
        said: String,
    },
    /// There is nothing to build from without a branch.
    #[error("could not find default branch for repository, expected a branch, a tag or a commit after #")]
    NoDefaultBranch,
    /// A branch or tag that is not there.
    // The first words are BuildKit's (source/git, resolveMetadata).
    #[error("repository does not contain ref {reference}{}", if *.is_short {
        ", and a commit is named by all 40 digits"
    } else {
        ""
    })]
    UnknownReference {
        /// What was asked for.
        reference: String,
        /// Whether it could be the beginning of a commit's digits.
        is_short: bool,
    },
    /// A checksum that is none.
    #[error("invalid checksum {checksum} for Git URL, expected hex commit hash")]
    BadChecksum {
        /// What was given.
        checksum: String,
    },
    /// A commit that is another than was asked for.
    #[error("expected checksum to match {expected}, got {actual}")]
    WrongChecksum {
        /// What was asked for.
        expected: String,
        /// What the reference leads to.
        actual: String,
    },
    /// Names by another hash than ocib knows.
    #[error("its objects are named by {format}, expected sha1")]
    ObjectFormat {
        /// Which one.
        format: String,
    },
    /// A pack that breaks the rules of its format.
    #[error("the pack that it sent is broken at byte {offset}: {why}")]
    BadPack {
        /// Where, in bytes of the pack.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// An object that is not what it must be.
    #[error("object {oid} is broken: {why}")]
    BadObject {
        /// Its name.
        oid: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A repository that asks for more than any honest one does.
    #[error("it is refused: {what} past the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// How large it may be.
        limit: u64,
    },
    /// A path that must not be checked out.
    #[error("{path} cannot be checked out: {why}")]
    BadPath {
        /// The path, escaped and cut short.
        path: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The directory that is meant is not there, or is none.
    #[error("failed to open subdir {subdir}: {why}")]
    Subdir {
        /// What was asked for.
        subdir: String,
        /// What is there instead.
        why: &'static str,
    },
    /// A submodule that cannot be found.
    #[error("submodule {path}: {why}, expected ?submodules=false to leave submodules out")]
    Submodule {
        /// Where it belongs, escaped and cut short.
        path: String,
        /// What is wrong.
        why: String,
    },
}

impl GitProblem {
    pub(super) fn of_object(oid: Oid, why: &'static str) -> Self {
        Self::BadObject { oid: oid.to_string(), why }
    }

    pub(crate) fn kind(&self) -> PlaceErrorKind {
        match self {
            Self::Transport { .. } | Self::BadChecksum { .. } | Self::Subdir { .. } => PlaceErrorKind::Input,
            Self::NoDefaultBranch | Self::UnknownReference { .. } => PlaceErrorKind::NotFound,
            Self::WrongChecksum { .. } => PlaceErrorKind::Corrupt,
            _ => PlaceErrorKind::Refused,
        }
    }
}

/// What went wrong while a repository was read, before it is said which one.
#[derive(Debug)]
pub(super) enum Failure {
    Problem(GitProblem),
    /// Perhaps with an [`Error`] inside: of the connection, or of the scratch directory.
    Io(io::Error),
}

impl Failure {
    /// The error of the repository at `url`.
    pub(super) fn at(self, url: &Redacted) -> Error {
        match self {
            Self::Problem(problem) => Error::Git { url: url.clone(), problem: Box::new(problem) },
            Self::Io(error) => match error.downcast::<Error>() {
                Ok(error) => error,
                Err(source) => Error::Layer(ocib_image::LayerError::Read { name: url.to_string(), source }),
            },
        }
    }
}

impl From<GitProblem> for Failure {
    fn from(problem: GitProblem) -> Self {
        Self::Problem(problem)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
