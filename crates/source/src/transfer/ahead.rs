//! Large files by several connections at a time, in order.
//!
//! One connection is often slower than the network: object stores and their caches hold each back. So a
//! file is asked for in parts, and while one is taken the next ones arrive already. What waits is bounded,
//! for all readers together: a part that is fetched ahead holds a permit for its bytes.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::StreamExt;
use ocib_net::{Backoff, read_blocking};
use tokio::{
    runtime::Handle,
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{Receiver, Sender, channel},
    },
    task::JoinHandle,
};

use super::{Download, Part, Stored, broken};
use crate::Error;

/// How far large files of a source are fetched ahead of whoever reads them. Memory is `parts` times
/// `part_bytes` at most, however many files are read at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadAhead {
    /// Parts that are fetched at a time; with none, each file comes by one connection.
    pub parts: usize,
    /// Size of a part in bytes.
    pub part_bytes: u64,
}

impl Default for ReadAhead {
    /// Four parts of 2 MiB.
    fn default() -> Self {
        Self { parts: 4, part_bytes: 2 << 20 }
    }
}

/// The permits of one source.
#[derive(Clone, Debug)]
pub(crate) struct Ahead {
    permits: Arc<Semaphore>,
    part_bytes: u64,
}

/// What one read of a connection gives lies in a buffer of up to 400 KiB (hyper's largest). Copied into pieces of this
/// size it is free again at once, and the connection needs no other one.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces of a part that nobody holds a permit for. The reader has one more.
const PIECES: usize = 3;
/// Pieces of a part that waits: its bytes are what bounds them.
const WAITING_PIECES: usize = 1 << 16;
/// Where others have all permits, a reader does not ask again after each few bytes.
const LONE_PARTS: u64 = 16;
/// Whoever wants a look at a file takes less than this, and more need not be asked for.
const FIRST_BYTES: u64 = 256 << 10;
const LOOK_BYTES: u64 = 64 << 10;

impl Ahead {
    pub(crate) fn new(options: ReadAhead) -> Self {
        let permits = options.parts.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(permits)), part_bytes: options.part_bytes.max(1) }
    }
}

/// Reads `stored`, which has `size` bytes, from `from` on, on a thread that may block.
pub(crate) fn read(
    stored: Arc<dyn Stored>,
    (from, size): (u64, u64),
    backoff: Backoff,
    ahead: &Ahead,
    runtime: &Handle,
) -> Box<dyn Read + Send> {
    if size.saturating_sub(from) <= ahead.part_bytes || !stored.has_parts() {
        let part = Part { from, until: None };
        return Box::new(read_blocking(Download::new(stored, backoff, part).stream(), runtime));
    }
    Box::new(Window {
        stored,
        backoff,
        ahead: ahead.clone(),
        runtime: runtime.clone(),
        start: from,
        next: from,
        end: size,
        begun: VecDeque::new(),
        piece: Bytes::new(),
        taken: 0,
        ignores_ranges: Arc::default(),
    })
}

/// The parts of one file that were asked for, the first of which is being taken.
struct Window {
    stored: Arc<dyn Stored>,
    backoff: Backoff,
    ahead: Ahead,
    runtime: Handle,
    start: u64,
    /// Where the next part begins.
    next: u64,
    end: u64,
    begun: VecDeque<Begun>,
    /// What the reader has not taken yet of the last piece.
    piece: Bytes,
    /// Bytes that the reader has taken.
    taken: u64,
    /// Whether the server gives all for each part: then what is left is one part.
    ignores_ranges: Arc<AtomicBool>,
}

/// A part that was asked for.
struct Begun {
    pieces: Receiver<Result<Bytes, Error>>,
    left: u64,
    transfer: JoinHandle<()>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.transfer.abort();
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !buffer.is_empty() {
            self.piece = self.next_piece().map_err(io::Error::other)?;
        }
        let taken = self.piece.split_to(buffer.len().min(self.piece.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        self.taken += taken.len() as u64;
        Ok(taken.len())
    }
}

impl Window {
    /// The next bytes; none at the end.
    fn next_piece(&mut self) -> Result<Bytes, Error> {
        loop {
            self.begin_parts();
            let Some(first) = self.begun.front_mut() else { return Ok(Bytes::new()) };
            match first.pieces.blocking_recv() {
                Some(piece) => {
                    let piece = piece?;
                    first.left = first.left.saturating_sub(piece.len() as u64);
                    return Ok(piece);
                }
                // A transfer ends early only where the runtime does.
                None if first.left > 0 => return Err(broken(&*self.stored, "it was broken off".to_owned())),
                None => drop(self.begun.pop_front()),
            }
        }
    }

    /// Asks for what may be asked for now.
    fn begin_parts(&mut self) {
        if self.begun.is_empty() && self.next < self.end {
            let part_bytes = self.ahead.part_bytes;
            let bytes = match self.ahead.permits.available_permits() {
                _ if self.next == self.start => part_bytes.min(FIRST_BYTES),
                _ if self.ignores_ranges.load(Ordering::Relaxed) => self.end,
                0 => LONE_PARTS * part_bytes,
                _ => part_bytes,
            };
            self.begin(bytes, PIECES, None);
        }
        while self.next < self.end && self.taken >= LOOK_BYTES && !self.ignores_ranges.load(Ordering::Relaxed)
        {
            let Ok(permit) = Arc::clone(&self.ahead.permits).try_acquire_owned() else { return };
            self.begin(self.ahead.part_bytes, WAITING_PIECES, Some(permit));
        }
    }

    fn begin(&mut self, bytes: u64, waiting: usize, permit: Option<OwnedSemaphorePermit>) {
        let (from, until) = (self.next, self.next.saturating_add(bytes).min(self.end));
        let part = Part { from, until: Some(until) };
        let download = Download::new(Arc::clone(&self.stored), self.backoff, part)
            .telling(Arc::clone(&self.ignores_ranges));
        let (given, pieces) = channel(waiting);
        let transfer = self.runtime.spawn(give(download, given));
        self.begun.push_back(Begun { pieces, left: until - from, transfer, _permit: permit });
        self.next = until;
    }
}

/// Gives the bytes of `download` to whoever takes them, as long as somebody does.
async fn give(download: Download, taker: Sender<Result<Bytes, Error>>) {
    let mut stream = std::pin::pin!(download.stream());
    while let Some(bytes) = stream.next().await {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return drop(taker.send(Err(error)).await),
        };
        for piece in bytes.chunks(PIECE_BYTES) {
            if taker.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                return;
            }
        }
    }
}
