//! Why a pull ended early.

use std::{io, path::PathBuf};

use ocib_image::{Digest, MediaType, PlaceError};

/// What a caller can do differently.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The place that holds the image failed.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A layer that is no archive, or a broken one.
    #[error("layer {layer}: {source}")]
    Archive {
        /// The layer.
        layer: Digest,
        /// What is wrong with it.
        source: ocib_image::Error,
    },
    /// Something in a layer that must not get onto a disk.
    #[error("layer {layer}: {name:?}: {why}")]
    Hostile {
        /// The layer.
        layer: Digest,
        /// The name of the entry, cut short.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A layer that holds no files as far as ocib knows.
    #[error(
        "layer {layer} is of type {media_type}, expected a tar, or a file with org.cncf.model.filepath or org.opencontainers.image.title"
    )]
    UnknownLayer {
        /// The layer.
        layer: Digest,
        /// What it says it is.
        media_type: MediaType,
    },
    /// A layer whose bytes are others than its digest says.
    #[error("layer {layer} has digest {actual}, so its bytes are not those that the manifest means")]
    WrongDigest {
        /// What it should have been.
        layer: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The image has nothing at the path that was asked for.
    #[error("the image has no files below /{path}; at its top it has {}", list(.there))]
    NothingThere {
        /// The path, without a leading slash.
        path: String,
        /// What there is instead.
        there: Vec<String>,
    },
    /// The file system has no room.
    #[error("{} has {free} bytes free, but {name} needs {needed}", directory.display())]
    NoRoom {
        /// Where the files go.
        directory: PathBuf,
        /// What did not fit.
        name: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that there are.
        free: u64,
    },
    /// Another pull is at work there.
    #[error("another pull writes to {}", directory.display())]
    Busy {
        /// Where the files go.
        directory: PathBuf,
    },
    /// Something that is there is in the way.
    #[error("{} is in the way: {why}", path.display())]
    InTheWay {
        /// What is there.
        path: PathBuf,
        /// Why it is not replaced.
        why: &'static str,
    },
    /// The image has symbolic links, and the file system has none.
    #[error("{} is a symbolic link, and the file system has none", path.display())]
    NoSymlinks {
        /// Where it belongs.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("cannot {verb} {}: {source}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread ended early, which only a runtime that shuts down brings about.
    #[error("the pull was given up")]
    GivenUp,
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => names.iter().map(|name| format!("/{name}")).collect::<Vec<_>>().join(", "),
    }
}

impl PullError {
    /// What to do, where there is something to say that the message does not.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::NothingThere { .. } => "choose another part of the image with --path",
            Self::NoRoom { .. } => "free some, or pull to another file system; what has arrived is kept",
            Self::Busy { .. } => "wait for it, or pull to a directory of its own",
            Self::NoSymlinks { .. } => "pull to another file system, as ext4 or xfs",
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some room, or pull to another file system; what has arrived is kept"
            }
            Self::InTheWay { .. } => "move it away, or pull to another directory",
            Self::Hostile { .. } => {
                "do not use the image, and tell its owner; nothing of the layer was put in place"
            }
            Self::WrongDigest { .. } => {
                "pull again; if it stays, the registry or a proxy before it alters content"
            }
            Self::UnknownLayer { .. } => "`ocib copy` takes artifacts of any type to a layout",
            _ => return None,
        })
    }
}
