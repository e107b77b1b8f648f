//! How the files that a job copies get to its pod, and the stream that they are on the way.

use std::{
    fmt,
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_core::future::BoxFuture;
use ocib_image::{
    LayerError, LayerSource, PlaceError, PlaceErrorKind, Progress, RunError, RunErrorKind, RunFiles,
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{claim::Claim, ends::End};

/// A piece of the stream; [`PIECES`] of them wait between the thread that makes them and who takes them.
const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 4;

/// How files get to pods.
#[derive(Clone, Default, Debug)]
pub enum ContextWay {
    /// As layers that the executor pulls.
    #[default]
    Registry,
    /// Through the API server, as the container's standard input.
    Attach,
    /// On a volume that this program and the pods mount.
    Claim(Arc<Claim>),
    /// By a place that Kaniko reads contexts from.
    Store(Arc<dyn ContextStore>),
}

/// A place that Kaniko reads contexts from, such as a bucket.
pub trait ContextStore: Send + Sync + fmt::Debug {
    /// Writes `context` under `name`, which no other job has.
    ///
    /// # Errors
    /// Those of the context itself, and the place's own.
    fn put<'a>(
        &'a self,
        name: &'a str,
        context: &'a mut PackedContext,
    ) -> BoxFuture<'a, Result<ContextUrl, ContextError>>;

    /// Removes what was written under `name`, also what a future of [`put`](Self::put) that was dropped has left.
    /// That there is nothing is fine.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), PlaceError>>;

    /// Whether a context would be taken and could be removed, found out without leaving one; and what was seen.
    fn check(&self) -> BoxFuture<'_, Result<String, PlaceError>>;
}

/// Where an executor finds a context.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContextUrl {
    /// What `--context` is.
    pub url: String,
    /// Variables with which the executor finds the place. Nothing secret: whoever may read the pod reads them.
    pub environment: Vec<(String, String)>,
}

/// Where the executor of a job finds its context.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub enum ContextAt {
    /// The job has none.
    #[default]
    Nowhere,
    /// Its standard input.
    Input,
    /// On a volume.
    Volume {
        /// The name of its claim.
        claim: String,
        /// A directory of the volume, which has the context and nothing else.
        directory: String,
    },
    /// At a URL.
    Url(ContextUrl),
}

/// Why a context is not where it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The context itself cannot be read.
    #[error(transparent)]
    Source(#[from] LayerError),
    /// The place does not take it.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl ContextWay {
    /// What a planner has to know.
    pub fn files(&self) -> RunFiles {
        match self {
            Self::Registry => RunFiles::Registry,
            Self::Attach | Self::Claim(_) | Self::Store(_) => RunFiles::Context,
        }
    }
}

impl ContextError {
    pub(crate) fn error(self) -> RunError {
        match self {
            Self::Source(error) => End::Source.error(error.to_string()).because(error),
            Self::Place(error) => {
                let kind = match error.kind {
                    PlaceErrorKind::Denied => RunErrorKind::Denied,
                    PlaceErrorKind::Input | PlaceErrorKind::NotFound => RunErrorKind::Input,
                    _ => End::ContextPut.kind(),
                };
                let mut put = End::ContextPut.error(error.to_string()).because(error);
                put.kind = kind;
                put
            }
        }
    }
}

/// A context as a gzip stream, made on a thread of its own no faster than it is taken.
#[derive(Debug)]
pub struct PackedContext {
    pieces: mpsc::Receiver<Bytes>,
    making: Option<JoinHandle<Result<(), LayerError>>>,
    progress: Progress,
    /// How many bytes were given.
    bytes: u64,
}

impl PackedContext {
    /// Begins to make it, and tells `progress` what is taken. Must be called within a runtime of tokio.
    pub(crate) fn new(source: &Arc<dyn LayerSource>, progress: &Progress) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        let source = Arc::clone(source);
        let making = tokio::task::spawn_blocking(move || make(&*source, sender));
        Self { pieces, making: Some(making), progress: progress.clone(), bytes: 0 }
    }

    /// How many bytes were given so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece; nothing when all of it was given. May be dropped at any time.
    ///
    /// # Errors
    /// That the files cannot be read, or have changed.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LayerError> {
        if let Some(piece) = self.pieces.recv().await {
            let length = piece.len() as u64;
            self.bytes += length;
            self.progress.advanced(length);
            return Ok(Some(piece));
        }
        let Some(making) = &mut self.making else { return Ok(None) };
        let made = making.await.unwrap_or_else(|panic| Err(LayerError::Output(io::Error::other(panic))));
        self.making = None;
        made.map(|()| None)
    }
}

/// Makes the stream, on a thread that may block.
fn make(source: &dyn LayerSource, pieces: mpsc::Sender<Bytes>) -> Result<(), LayerError> {
    let out = Pieces { pieces, piece: Vec::with_capacity(PIECE_BYTES) };
    // The network inside a cluster is faster than a higher level.
    let mut gzip = GzEncoder::new(out, Compression::fast());
    let written = source.write(&mut gzip);
    let finished =
        written.and_then(|()| gzip.finish().and_then(|mut out| out.flush()).map_err(LayerError::Output));
    match finished {
        // Whoever took the bytes has an end of its own.
        Err(LayerError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        finished => finished,
    }
}

struct Pieces {
    pieces: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.pieces.blocking_send(piece.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
