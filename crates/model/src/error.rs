//! What can go wrong with a model.

use ocib_image::{Digest, LayerError, PlaceError};

/// Why a model could not be read or packaged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A source that holds no file, or none that the patterns leave.
    #[error("{name} has no file to package")]
    Empty {
        /// The source, as the user named it.
        name: String,
    },
    /// A file whose header is not what its format says.
    #[error("{name} is no whole {format} file: {why}")]
    BadFile {
        /// The file, as the user would name it.
        name: String,
        /// What it should be.
        format: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// What git has in the place of a large file until it is fetched.
    #[error("{name} is a pointer of git LFS, expected the file itself")]
    Pointer {
        /// The file, as the user would name it.
        name: String,
    },
    /// A symbolic link that cannot be followed within the source.
    #[error("{name} is a link to {target}, which is no file of the source")]
    BadLink {
        /// The link, as the user would name it.
        name: String,
        /// Where it leads.
        target: String,
    },
    /// A directory in an image that files cannot be put under.
    #[error("{prefix:?} is no directory for files in an image: {why}")]
    BadPrefix {
        /// What was asked for.
        prefix: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A format that the model's files are not in.
    #[error("the model cannot be described as {what}: {why}")]
    NotSuited {
        /// What was asked for.
        what: &'static str,
        /// What it lacks.
        why: String,
    },
    /// Content that is not what its source promised.
    #[error("{name} has digest {actual}, but its source promised {expected}")]
    BrokenPromise {
        /// The file, as the user would name it.
        name: String,
        /// What the source says of it.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A file could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A registry, layout or archive failed.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl Error {
    /// What to do about it, where there is more to say than the message does.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Empty { .. } => {
                Some("files whose names begin with a dot are left out; see --include and --exclude")
            }
            Self::BadFile { .. } => {
                Some("the file was cut off or damaged: get it again and compare its checksum")
            }
            Self::Pointer { .. } => {
                Some("`git lfs pull` gets the files; a model of the Hub need not be on a disk: hf://ORG/NAME")
            }
            Self::BadLink { .. } => Some(
                "give a directory of the files themselves, as `hf download --local-dir DIR` or `cp -rL` makes it",
            ),
            Self::BadPrefix { .. } => Some("KServe looks for /models"),
            Self::BrokenPromise { .. } => {
                Some("the source was changed or damaged; run it again, or name a revision")
            }
            _ => None,
        }
    }
}
