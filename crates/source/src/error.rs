//! What can go wrong where bytes come from.

use std::{io, net::IpAddr, path::PathBuf};

use ocib_image::{Digest, LayerError, PlaceError, PlaceErrorKind};
use ocib_net::{Redacted, Retry, Verdict};

use crate::{BucketProblem, GitProblem, HubProblem};

/// Errors of sources. Secrets are in none of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed, must not be made, or brought a status that means failure.
    #[error(transparent)]
    Http(#[from] ocib_net::Error),
    /// A server that does not give a file to who asks, or has none there.
    #[error(transparent)]
    NoFile(ocib_net::Error),
    /// Text that is no URL that can be fetched.
    #[error("{url} cannot be fetched: {why}")]
    BadUrl {
        /// What was given, without what may be secret in it.
        url: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A URL of an address that only the machine itself and its host answer.
    #[error("{url} is not fetched: its host is the link-local address {address}")]
    LinkLocal {
        /// The URL.
        url: Redacted,
        /// The address that its host has.
        address: IpAddr,
    },
    /// Credentials in a URL that would send them in the clear.
    #[error("{url} has a user, whose password is not sent over plain http, expected https")]
    PlainCredentials {
        /// The URL.
        url: Redacted,
    },
    /// Content that is not what was asked for.
    // The words are BuildKit's (source/http, Snapshot).
    #[error("digest mismatch {actual}: {expected}")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Content that is not what the list of files says of it.
    #[error("{name} is not what it was said to be: expected {expected}, got {actual}")]
    WrongContent {
        /// The file.
        name: String,
        /// What was said.
        expected: String,
        /// What came.
        actual: String,
        /// Whether whoever wants the file said so, and not whoever keeps it.
        is_given: bool,
    },
    /// Content that differs from what was there before.
    #[error("{name} changed while it was read: {what}")]
    Changed {
        /// Where it is.
        name: String,
        /// How it differs.
        what: String,
    },
    /// Content that claims to be compressed and cannot be decompressed.
    #[error("{url} has the content encoding gzip, which cannot be decoded: {why}")]
    Encoding {
        /// The URL.
        url: Redacted,
        /// What is wrong.
        why: String,
    },
    /// What is no tar archive, or none that can be read.
    #[error("{name} is not an archive that can be read: {source}")]
    Archive {
        /// What was read.
        name: String,
        /// What is wrong with it.
        source: ocib_image::Error,
    },
    /// A member of an archive that has no place in a tree.
    #[error("{member} in {archive} cannot be placed: {why}")]
    BadMember {
        /// What was read.
        archive: String,
        /// The name of the member, escaped and cut short.
        member: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A repository, or what is meant of it, cannot be had.
    #[error("{url}: {problem}")]
    Git {
        /// The repository.
        url: Redacted,
        /// What is wrong.
        problem: Box<GitProblem>,
    },
    /// A repository at a place that cannot be asked.
    #[error("{name} cannot be fetched: {problem}")]
    GitPlace {
        /// The repository, as written but for user and password.
        name: String,
        /// What is wrong.
        problem: Box<GitProblem>,
    },
    /// A bucket, or what is meant of it, cannot be had.
    #[error("{name}: {problem}")]
    Bucket {
        /// The place, as written.
        name: String,
        /// What is wrong.
        problem: Box<BucketProblem>,
    },
    /// A repository of the Hub, or what is meant of it, cannot be had.
    #[error("{name}: {problem}")]
    Hub {
        /// The place, as written.
        name: String,
        /// What is wrong.
        problem: Box<HubProblem>,
    },
    /// A directory that what cannot be read twice should have been kept in.
    #[error(
        "{name} cannot be spooled to {}: {source}, expected room in a directory that can be written (--scratch-dir)",
        directory.display()
    )]
    Scratch {
        /// What was to be kept.
        name: String,
        /// Where.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Nobody waits for the content any more.
    #[error("the fetch of {url} was broken off")]
    BrokenOff {
        /// The URL.
        url: Redacted,
    },
}

impl Error {
    /// What `error` means for the archive called `name`.
    pub(crate) fn of_archive(name: &str, error: ocib_image::Error) -> Self {
        let name = name.to_owned();
        match error {
            ocib_image::Error::UnreadableArchive { source, .. } => match source.downcast::<Self>() {
                Ok(inner) => inner,
                Err(source) => Self::Layer(LayerError::Read { name, source }),
            },
            source => Self::Archive { name, source },
        }
    }

    fn kind(&self) -> PlaceErrorKind {
        use PlaceErrorKind::{Corrupt, Denied, Input, NotFound, Refused, Unreachable};
        match self {
            Self::Http(ocib_net::Error::Status { status, .. })
            | Self::NoFile(ocib_net::Error::Status { status, .. }) => match status.as_u16() {
                401 | 403 | 407 => Denied,
                404 | 410 => NotFound,
                408 | 429 | 500..=599 => Unreachable,
                _ => Refused,
            },
            Self::Http(ocib_net::Error::Forbidden { .. } | ocib_net::Error::Redirect { .. }) => Refused,
            Self::Http(_) | Self::NoFile(_) | Self::BrokenOff { .. } => Unreachable,
            Self::LinkLocal { .. } | Self::PlainCredentials { .. } => Refused,
            Self::BadUrl { .. } | Self::Changed { .. } => Input,
            Self::Archive { .. } | Self::BadMember { .. } | Self::Scratch { .. } => Input,
            Self::Git { problem, .. } | Self::GitPlace { problem, .. } => problem.kind(),
            Self::Hub { problem, .. } => problem.kind(),
            Self::Bucket { problem, .. } => problem.kind(),
            Self::Layer(LayerError::Place(inner)) => inner.kind,
            Self::Layer(_) => Input,
            Self::WrongDigest { .. } | Self::WrongContent { .. } | Self::Encoding { .. } => Corrupt,
        }
    }
}

impl Error {
    /// What is wrong with a URL of a page.
    pub(crate) const PAGE: &'static str = "it answers with a page for browsers, expected a file";

    /// The name of what happened in the table of causes (`docs/causes.md`), where it is one of its own.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Hub { problem, .. } => problem.cause(),
            Self::Bucket { problem, .. } => problem.cause(),
            Self::WrongContent { is_given: false, .. } => Some("source-corrupt"),
            Self::WrongContent { .. } | Self::WrongDigest { .. } => Some("checksum-mismatch"),
            Self::LinkLocal { .. } => Some("url-link-local"),
            Self::PlainCredentials { .. } => Some("url-plain-password"),
            Self::Changed { .. } => Some("input-changed"),
            Self::BadUrl { why, .. } if *why == Self::PAGE => Some("url-page"),
            Self::NoFile(ocib_net::Error::Status { status, .. }) => match status.as_u16() {
                401 | 403 => Some("url-denied"),
                404 | 410 => Some("url-missing"),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Retry for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Http(error) => error.verdict(),
            _ => Verdict::Final,
        }
    }
}

impl From<Error> for PlaceError {
    fn from(error: Error) -> Self {
        match error {
            Error::Layer(inner) => inner.into(),
            error => Self::new(error.kind(), error),
        }
    }
}

impl From<Error> for LayerError {
    fn from(error: Error) -> Self {
        match error {
            Error::Changed { name, what } => Self::Changed { name, what },
            Error::Layer(inner) => inner,
            error => Self::Place(error.into()),
        }
    }
}
