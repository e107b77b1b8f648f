//! A remote file as a tree.

use std::{
    fmt,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use flate2::read::MultiGzDecoder;
use futures_util::TryStreamExt;
use ocib_image::{Digest, Digester, LayerError, Node, NodeKind, Timestamp, Tree, Xattrs};
use ocib_net::read_blocking;
use tokio::{runtime::Handle, task::spawn_blocking};

use super::download::Download;
use crate::Error;

/// BuildKit's mode of what it fetched (`source/http`, `save`).
const MODE: u32 = 0o600;
/// Content that is only measured passes in pieces of this size.
const MEASURE_BYTES: usize = 64 << 10;

/// A tree of one file, which is fetched whenever it is read.
pub(super) struct WebFile {
    name: Box<[u8]>,
    download: Download,
    /// The answer that the file was found with, for whoever reads it first.
    first: Mutex<Option<Download>>,
    /// Of the content.
    size: u64,
    expected: Option<Expected>,
    runtime: Handle,
}

/// The digest that the whole content must have, and since when it is known.
#[derive(Clone, Copy)]
enum Expected {
    Given(Digest),
    Measured(Digest),
}

impl WebFile {
    /// A file of `size` bytes as `download` brings it.
    pub(super) fn found(download: Download, size: u64, digest: Option<Digest>, runtime: Handle) -> Self {
        Self {
            name: Box::default(),
            size,
            expected: digest.map(Expected::Given),
            runtime,
            first: Mutex::new(Some(download.again(0))),
            download,
        }
        .with_first()
    }

    /// Reads all of `download` to know its size and digest. Dropping the future ends the transfer soon.
    pub(super) async fn measure(
        download: Download,
        digest: Option<Digest>,
        runtime: Handle,
    ) -> Result<Self, Error> {
        todo!()
    }
}
