//! The content of files in layers, verified as it is read.

use std::{
    io::{self, BufReader, Read},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use ocib_image::{
    Blob, Digest, Digester, Error, LayerError, MediaType, PlaceError, PlaceErrorKind, TarReader, decode,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard},
};

use crate::pull::{
    PullError,
    stream::{self, Pieces},
};

/// Whoever only wants a look at a file takes less than this.
const LOOK_BYTES: u64 = 128 << 10;

/// A file of a layer, and where its bytes are.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) blob: Arc<Blob>,
    pub(super) bytes: u64,
    pub(super) at: At,
    pub(super) proof: Proof,
    /// The rest of the layer, if it is known.
    pub(super) frame: Option<Arc<Frame>>,
}

#[derive(Debug)]
pub(super) enum At {
    /// In the stored bytes, from there on.
    Offset(u64),
    /// In a compressed tar, in the entry of that number, counted from one.
    Entry {
        number: usize,
        media_type: MediaType,
        /// The beginning of the content.
        head: Bytes,
    },
}

/// What tells that the content is the right one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proof {
    /// Its own digest.
    Digest(Digest),
    /// The digest of its layer, the rest of which is known.
    Layer(Digest),
}

/// The bytes of a layer around the one file in it.
#[derive(PartialEq, Eq, Default)]
pub(crate) struct Frame {
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} bytes before, {} after)", self.before.len(), self.after.len())
    }
}

impl Kept {
    /// Whether a decoder must run for all of it.
    pub(super) fn is_decoded(&self) -> bool {
        matches!(&self.at, At::Entry { head, .. } if (head.len() as u64) < self.bytes)
    }

    /// A name that only this content has.
    pub(super) fn identity(&self) -> String {
        match (self.proof, &self.at) {
            (Proof::Digest(digest), _) => digest.to_string(),
            (Proof::Layer(layer), At::Offset(start)) => format!("{layer} {start} {}", self.bytes),
            (Proof::Layer(layer), At::Entry { number, .. }) => format!("{layer} entry {number}"),
        }
    }
}

/// The content of `kept` from `offset` on. Layers that are decoded take turns at `running`.
pub(super) fn open(
    kept: &Arc<Kept>,
    offset: u64,
    running: &Arc<Mutex<Option<Running>>>,
    runtime: &Handle,
) -> Box<dyn Read + Send> {
    let from = offset.min(kept.bytes);
    let content: Box<dyn Read + Send> = match &kept.at {
        At::Offset(start) => {
            let (from, end) = (start + from, start + kept.bytes);
            let middle = end.min(from + LOOK_BYTES);
            let part =
                |range| Part { blob: Arc::clone(&kept.blob), range, runtime: runtime.clone(), pieces: None };
            Box::new(part(from..middle).chain(part(middle..end)))
        }
        At::Entry { .. } => Box::new(InTar {
            kept: Arc::clone(kept),
            at: from,
            running: Arc::clone(running),
            entered: None,
            runtime: runtime.clone(),
        }),
    };
    let mut digester = Digester::new();
    if let (Proof::Layer(_), Some(frame)) = (kept.proof, &kept.frame) {
        digester.update(&frame.before);
    }
    Box::new(Checked { content, kept: Arc::clone(kept), at: from, digester: (from == 0).then_some(digester) })
}

/// A part of the stored bytes, which is asked for when it is read.
struct Part {
    blob: Arc<Blob>,
    range: Range<u64>,
    runtime: Handle,
    pieces: Option<Pieces>,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.range.is_empty() {
            return Ok(0);
        }
        let pieces = self.pieces.get_or_insert_with(|| {
            let _runtime = self.runtime.enter();
            Pieces::new(stream::feed(&self.blob, self.range.clone()))
        });
        pieces.read(buffer)
    }
}

/// A reader that fails at its end unless the content was the right one.
struct Checked {
    content: Box<dyn Read + Send>,
    kept: Arc<Kept>,
    at: u64,
    digester: Option<Digester>,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let layer = self.kept.blob.descriptor.digest;
        let got = self.content.read(buffer).map_err(|error| story(stream::read_error(layer, error)))?;
        self.at += got as u64;
        if let Some(digester) = &mut self.digester {
            digester.update(&buffer[..got]);
        }
        if got == 0 && !buffer.is_empty() {
            self.end().map_err(story)?;
        }
        Ok(got)
    }
}

impl Checked {
    fn end(&mut self) -> Result<(), PullError> {
        let Kept { blob, bytes, proof, frame, .. } = &*self.kept;
        let layer = blob.descriptor.digest;
        if self.at != *bytes {
            let source = Error::TruncatedArchive { offset: self.at, what: "the content of an entry" };
            return Err(PullError::Archive { layer, source });
        }
        let Some(mut digester) = self.digester.take() else { return Ok(()) };
        let expected = match proof {
            Proof::Digest(digest) => digest,
            Proof::Layer(layer) => {
                digester.update(frame.as_ref().map_or(&[], |frame| &frame.after));
                layer
            }
        };
        let actual = digester.finish();
        match actual == *expected {
            true => Ok(()),
            false => Err(PullError::WrongDigest { layer, actual }),
        }
    }
}

/// An error for whoever reads a file.
fn story(error: PullError) -> io::Error {
    io::Error::other(LayerError::Place(match error {
        PullError::Place(error) => error,
        error => PlaceError::new(PlaceErrorKind::Corrupt, error),
    }))
}

/// A compressed layer on its way through the decoder.
pub(super) struct Running {
    layer: Digest,
    tar: TarReader<BufReader<Box<dyn Read + Send>>>,
    /// The entry that it is in.
    number: usize,
    /// Bytes of its content that were taken.
    taken: u64,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({} at entry {})", self.layer, self.number)
    }
}

/// The content of a file in a compressed layer: from memory as far as it is there, then out of the decoder. Whoever
/// comes to the decoder keeps it until the reader is dropped; the next one goes on from there, if what it wants is
/// still to come.
struct InTar {
    kept: Arc<Kept>,
    at: u64,
    running: Arc<Mutex<Option<Running>>>,
    entered: Option<OwnedMutexGuard<Option<Running>>>,
    runtime: Handle,
}

impl Read for InTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let kept = Arc::clone(&self.kept);
        let At::Entry { number, media_type, head } = &kept.at else { return Ok(0) };
        let left = usize::try_from(kept.bytes - self.at).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        if most == 0 {
            return Ok(0);
        }
        if let Some(known) =
            usize::try_from(self.at).ok().and_then(|at| head.get(at..)).filter(|known| !known.is_empty())
        {
            let got = most.min(known.len());
            buffer[..got].copy_from_slice(&known[..got]);
            self.at += got as u64;
            return Ok(got);
        }
        if self.entered.is_none() {
            self.entered = Some(Arc::clone(&self.running).blocking_lock_owned());
            if let Err(error) = self.enter(*number, media_type) {
                self.leave();
                return Err(error);
            }
        }
        let Some(running) = self.entered.as_mut().and_then(|entered| entered.as_mut()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let read = running.tar.content().read(&mut buffer[..most]);
        match &read {
            Ok(got) => {
                running.taken += *got as u64;
                self.at += *got as u64;
            }
            Err(_) => self.leave(),
        }
        read
    }
}

impl InTar {
    /// Brings the decoder to where the content is wanted from.
    fn enter(&mut self, number: usize, media_type: &MediaType) -> io::Result<()> {
        let layer = self.kept.blob.descriptor.digest;
        let Some(entered) = &mut self.entered else { return Ok(()) };
        let is_to_come = |running: &Running| {
            running.layer == layer && (running.number, running.taken) <= (number, self.at)
        };
        if !entered.as_ref().is_some_and(is_to_come) {
            // Of two decoders only one may have its memory.
            **entered = None;
            let _runtime = self.runtime.enter();
            let pieces = Pieces::new(stream::feed(&self.kept.blob, 0..self.kept.blob.descriptor.size));
            let reader = decode(media_type, Box::new(pieces)).map_err(io::Error::other)?;
            let tar = TarReader::new(BufReader::with_capacity(64 << 10, reader));
            **entered = Some(Running { layer, tar, number: 0, taken: 0 });
        }
        let Some(running) = &mut **entered else { return Ok(()) };
        while running.number < number {
            if running.tar.next_entry().map_err(io::Error::other)?.is_none() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (running.number, running.taken) = (running.number + 1, 0);
        }
        let skip = self.at - running.taken;
        running.taken += io::copy(&mut running.tar.content().take(skip), &mut io::sink())?;
        Ok(())
    }

    /// Leaves a decoder that failed to nobody.
    fn leave(&mut self) {
        if let Some(mut entered) = self.entered.take() {
            *entered = None;
        }
    }
}
