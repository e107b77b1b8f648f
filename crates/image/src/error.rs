//! What can go wrong in this crate, and how a place or a source says what went wrong in it.

use std::{error::Error as StdError, fmt, io};

use crate::{ArchiveCodec, Digest, MediaType};

/// Errors of values and documents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A digest that is malformed or of another algorithm.
    #[error("{text:?} is not a digest, expected sha256: and 64 lower-case hex digits")]
    BadDigest {
        /// What was given, cut short.
        text: String,
    },
    /// An image reference that is malformed.
    #[error("{text:?} is not an image reference: {why}")]
    BadReference {
        /// What was given, cut short.
        text: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A git reference whose options cannot be followed.
    #[error("{text} is not a git reference: {why}")]
    BadGitReference {
        /// The repository, without user and password.
        text: String,
        /// Which rule is broken.
        why: String,
    },
    /// A platform that is malformed or unknown.
    #[error("{text:?} is not a platform, expected OS/ARCH[/VARIANT] such as linux/arm64")]
    BadPlatform {
        /// What was given, cut short.
        text: String,
    },
    /// A compression that is unknown or whose level is out of range.
    #[error("{text:?} is not a compression, expected auto, none, gzip[:1-9] or zstd[:1-19]")]
    BadCompression {
        /// What was given.
        text: String,
    },
    /// A manifest, index or config that is not what its media type says.
    #[error("a document of type {media_type} cannot be read: {why}")]
    BadDocument {
        /// What it claims to be.
        media_type: MediaType,
        /// What is wrong with it.
        why: String,
    },
    /// A layer media type that ocib cannot unpack.
    #[error(
        "a layer of type {media_type} cannot be read, expected a tar, plain or compressed by gzip or zstd"
    )]
    UnknownLayer {
        /// The type of the layer.
        media_type: MediaType,
    },
    /// Content that is not what its digest promised.
    #[error("the content has digest {actual}, expected {expected}")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The bytes of an archive could not be had.
    #[error("the archive cannot be read at byte {offset}: {source}")]
    UnreadableArchive {
        /// How far it was read, in bytes of the uncompressed archive.
        offset: u64,
        /// What the stream said.
        source: io::Error,
    },
    /// An archive that ends too early.
    #[error("the archive ends at byte {offset}, in the middle of {what}")]
    TruncatedArchive {
        /// Where it ends, in bytes of the uncompressed archive.
        offset: u64,
        /// What is not complete.
        what: &'static str,
    },
    /// An archive that breaks the rules of its format.
    #[error("the archive is broken at byte {offset}: {why}")]
    BadArchive {
        /// Where the header in question is, in bytes of the uncompressed archive.
        offset: u64,
        /// What is wrong, and what was expected.
        why: String,
    },
    /// An archive that asks for more than any honest one does.
    #[error("the archive is refused at byte {offset}: {what} is past the limit of {limit}")]
    ArchiveLimit {
        /// Where the header in question is, in bytes of the uncompressed archive.
        offset: u64,
        /// What is too large.
        what: &'static str,
        /// How large it may be.
        limit: u64,
    },
    /// An entry that is neither file, directory, link, pipe nor device.
    #[error(
        "{name:?} in the archive is of type {flag:?}, expected a file, directory, link, pipe or device (0 to 7, S)"
    )]
    UnknownEntryType {
        /// Where its header is, in bytes of the uncompressed archive.
        offset: u64,
        /// Its name, cut short.
        name: String,
        /// The type flag of its header.
        flag: char,
    },
    /// A compressed stream that needs more memory than it gets.
    #[error("the {codec} stream needs more than {limit} bytes of memory to be read")]
    DecoderMemory {
        /// The codec.
        codec: ArchiveCodec,
        /// The largest window or dictionary that is allowed, in bytes.
        limit: u64,
    },
    /// A compressed stream of which suspiciously much comes out.
    #[error("{read} compressed bytes became more than {limit} bytes, which no honest archive does")]
    Expansion {
        /// Compressed bytes that were read.
        read: u64,
        /// How many bytes could have come out of them at most.
        limit: u64,
    },
    /// A budget in which not even one layer can be made.
    #[error("a memory budget of {bytes} bytes is too small, expected at least {least} bytes")]
    BudgetTooSmall {
        /// The budget in bytes.
        bytes: u64,
        /// The smallest one that works, in bytes.
        least: u64,
    },
}

/// Why a layer's bytes could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A source could not be read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// The file, as the user would name it.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A source gave more, fewer or other bytes than were announced.
    #[error("{name} changed while it was read: {what}")]
    Changed {
        /// The file, as the user would name it.
        name: String,
        /// How it differs.
        what: String,
    },
    /// A tar header cannot hold what was asked for.
    #[error("{name} cannot be stored in a layer: {why}")]
    Unstorable {
        /// The path in the layer.
        name: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// Whoever takes the bytes stopped taking them.
    #[error("the layer's destination went away: {0}")]
    Output(#[source] io::Error),
    /// Where the bytes come from failed.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Why a place (registry, layout, archive, directory tree) could not do what was asked.
///
/// The kind is what a caller can act on; the source tells the story.
pub struct PlaceError {
    /// What a caller can do differently.
    pub kind: PlaceErrorKind,
    source: Box<dyn StdError + Send + Sync>,
}

/// What a caller can do differently after a [`PlaceError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PlaceErrorKind {
    /// There is no such thing at the place.
    NotFound,
    /// The place does not know who asks, or forbids it.
    Denied,
    /// The place could not be reached, or broke off.
    Unreachable,
    /// The place understood and refused.
    Refused,
    /// What the place gave is not what it promised (digest, size, format).
    Corrupt,
    /// What was to be put could not be read.
    Input,
    /// The local file system failed.
    Local,
}

impl PlaceError {
    /// An error of `kind` with its story.
    pub fn new(kind: PlaceErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl fmt::Debug for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.kind, self.source)
    }
}

// `Display` is already the source's, so the chain goes on below it.
impl StdError for PlaceError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.source()
    }
}

impl From<LayerError> for PlaceError {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Place(inner) => inner,
            other => Self::new(PlaceErrorKind::Input, other),
        }
    }
}
