//! Layers that are read from front to back: compressed ones, and those of many small files.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::TryStreamExt;
use ocib_image::{Blob, Digest, Digester, Error, PlaceError, Progress, TarReader, decode};
use tokio::{
    sync::mpsc::{Receiver, channel},
    task::{JoinHandle, spawn_blocking},
};

use super::{
    Job, PullError, Scope,
    entry::{Entry, Holes, Kind},
    journal::{self, KnownLayer, staged},
    place::Place,
    source,
    survey::Layout,
};

/// Pieces between a connection and the thread that takes them; each has some hundred KiB.
const PIECES: usize = 2;
/// Content is copied, and read again to be hashed, in pieces of this size.
pub(super) const COPY_BYTES: usize = 256 << 10;
/// Smaller files are not worth a call to reserve their room.
const RESERVED_BYTES: u64 = 1 << 20;

/// The bytes of `range`, fed to a thread that may block. Ends early after an error, which is the last item,
/// and when the receiver is dropped.
pub(super) fn feed(blob: &Blob, range: Range<u64>) -> Receiver<Result<Bytes, PlaceError>> {
    start(blob, range).1
}

/// The same while the guard is there: for threads that a future waits for, which may be dropped.
pub(super) fn feed_while(blob: &Blob, range: Range<u64>) -> (Feeding, Receiver<Result<Bytes, PlaceError>>) {
    let (task, receiver) = start(blob, range);
    (Feeding(task), receiver)
}

/// Ends the transfer when it is dropped: its thread gets no more bytes, and so ends, too.
#[derive(Debug)]
pub(super) struct Feeding(JoinHandle<()>);

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn start(blob: &Blob, range: Range<u64>) -> (JoinHandle<()>, Receiver<Result<Bytes, PlaceError>>) {
    let (sender, receiver) = channel(PIECES);
    let blob = blob.clone();
    let task = tokio::spawn(async move {
        let result = async {
            let mut left = range.end - range.start;
            let mut stream = match range.end == blob.descriptor.size {
                true => blob.source.stream(range.start).await?,
                false => blob.source.range(range).await?,
            };
            while let Some(mut piece) = stream.try_next().await? {
                piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                left -= piece.len() as u64;
                if sender.send(Ok(piece)).await.is_err() || left == 0 {
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = result.await {
            // Whoever dropped the receiver wants no errors either.
            let _ = sender.send(Err(error)).await;
        }
    });
    (task, receiver)
}

/// Reads the layer, writes its files, and keeps it if its digest is right.
pub(super) async fn fetch(job: &Job) -> Result<KnownLayer, PullError> {
    let _turn = match job.source.kind.is_compressed() {
        true => Some(job.limits.decoders.acquire().await.map_err(|_| PullError::GivenUp)?),
        false => None,
    };
    let _permit = job.limits.connections.acquire().await.map_err(|_| PullError::GivenUp)?;
    let (_feeding, pieces) = feed_while(&job.source.blob, 0..job.source.blob.descriptor.size);
    let job = job.clone();
    spawn_blocking(move || extract(&job, pieces)).await.map_err(|_| PullError::GivenUp)?
}

fn extract(job: &Job, pieces: Receiver<Result<Bytes, PlaceError>>) -> Result<KnownLayer, PullError> {
    let layer = job.source.scope.layer;
    let stored = Stored::new(pieces, job.progress.clone());
    let result = match &job.source.kind {
        source::Kind::Tar(media_type) => {
            let reader = decode(media_type, Box::new(stored.clone()));
            let reader = reader.map_err(|source| PullError::Archive { layer, source })?;
            untar(job, reader)
        }
        source::Kind::Raw(path) => raw(job, path, &mut stored.clone()),
    };
    // What breaks the reader may be that its bytes are wrong: then that is what matters.
    let layout = match result {
        Err(error @ (PullError::Place(_) | PullError::File { .. } | PullError::NoRoom { .. })) => {
            return Err(error);
        }
        result => stored.verify(layer).and(result)?,
    };
    let known = KnownLayer::new(&job.source.scope, layout, BTreeMap::new());
    settle(&job.place, known)
}

/// Gives the files of a verified layer their modes and times, and writes it down.
pub(super) fn settle(place: &Place, mut known: KnownLayer) -> Result<KnownLayer, PullError> {
    for (number, entry) in known.entries.iter().enumerate() {
        if let Kind::File { .. } = entry.kind {
            let name = staged(known.layer, number);
            place.dress(&name, entry.mode, entry.mtime)?;
            known.staged.extend(place.state(&name)?.map(|state| (number, state)));
        }
    }
    journal::keep(place, &known)?;
    Ok(known)
}

fn untar(job: &Job, reader: Box<dyn Read + Send>) -> Result<Layout, PullError> {
    let layer = job.source.scope.layer;
    let mut tar = TarReader::new(io::BufReader::with_capacity(64 << 10, reader));
    let (mut layout, mut holes) = (Layout::default(), Holes::default());
    while let Some(found) = tar.next_entry().map_err(|error| archive_error(layer, error))? {
        holes.count(&job.source.scope, &found)?;
        Scope::note_top(&found, &mut layout.tops);
        let Some(mut entry) = job.source.scope.entry(&found)? else { continue };
        job.names.count(&job.source.scope, &found)?;
        if let Kind::File { bytes, digest } = &mut entry.kind {
            let name = staged(layer, layout.entries.len());
            let (place, bytes) = (&job.place, *bytes);
            *digest = Some(
                store(place, (&name, &entry.path), bytes, &mut tar.content())
                    .map_err(|error| error.at(layer))?,
            );
        }
        layout.entries.push(entry);
    }
    // Decoders check what is behind the end of the archive, too.
    let rest = io::copy(&mut tar.into_inner(), &mut io::sink());
    rest.map_err(|error| read_error(layer, error))?;
    Ok(layout)
}

fn raw(job: &Job, path: &str, reader: &mut dyn Read) -> Result<Layout, PullError> {
    let Scope { layer, .. } = job.source.scope;
    let bytes = job.source.blob.descriptor.size;
    let digest =
        store(&job.place, (&staged(layer, 0), path), bytes, reader).map_err(|error| error.at(layer))?;
    Ok(Layout { entries: vec![Entry::raw(path, bytes, digest)], ..Layout::default() })
}

/// What keeps a file from being written.
enum Broken {
    Reading(io::Error),
    Writing(PullError),
}

impl Broken {
    fn at(self, layer: Digest) -> PullError {
        match self {
            Self::Reading(error) => read_error(layer, error),
            Self::Writing(error) => error,
        }
    }
}

/// Writes so many bytes to a file of that name, which is for that path; gives their digest.
fn store(
    place: &Place,
    (name, path): (&str, &str),
    bytes: u64,
    reader: &mut dyn Read,
) -> Result<Digest, Broken> {
    let writing = |error| Broken::Writing(place.failed("write", name, error));
    place.remove(name).map_err(Broken::Writing)?;
    let mut file = reserve(place, name, path, bytes).map_err(Broken::Writing)?;
    let mut digester = Digester::new();
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(bytes).unwrap_or(COPY_BYTES)).max(1)];
    while digester.bytes() < bytes {
        let most = usize::try_from(bytes - digester.bytes()).unwrap_or(usize::MAX).min(buffer.len());
        match reader.read(&mut buffer[..most]) {
            Ok(0) => return Err(Broken::Reading(io::ErrorKind::UnexpectedEof.into())),
            Ok(got) => {
                file.write_all(&buffer[..got]).map_err(writing)?;
                digester.update(&buffer[..got]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::Reading(error)),
        }
    }
    Ok(digester.finish())
}

/// A file with room for so many bytes, so that a full disk is known at once.
pub(super) fn reserve(place: &Place, name: &str, path: &str, bytes: u64) -> Result<File, PullError> {
    let file = place.write(name)?;
    if bytes >= RESERVED_BYTES && file.metadata().is_ok_and(|there| there.len() < bytes) {
        place.check_room(path, bytes)?;
        let reserved = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
        // Not every file system can; its files grow as they are written.
        if reserved == Err(rustix::io::Errno::NOSPC) {
            return Err(place.failed("write", path, rustix::io::Errno::NOSPC));
        }
    }
    Ok(file)
}

/// The digest of what the files of a layer and the bytes between them amount to.
pub(super) fn file_digest(file: &File, bytes: u64) -> io::Result<Digest> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; COPY_BYTES];
    while digester.bytes() < bytes {
        let most = usize::try_from(bytes - digester.bytes()).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..most], digester.bytes())?;
        digester.update(&buffer[..most]);
    }
    Ok(digester.finish())
}

/// The stored bytes of a layer, hashed as they are read. Clones read on where the others stopped.
#[derive(Clone)]
pub(super) struct Stored(Arc<Mutex<Reading>>);

struct Reading {
    pieces: Pieces,
    digester: Digester,
    progress: Progress,
}

/// What [`feed`] brings, for a reader that may block.
pub(super) struct Pieces {
    pieces: Receiver<Result<Bytes, PlaceError>>,
    piece: Bytes,
}

impl Pieces {
    pub(super) fn new(pieces: Receiver<Result<Bytes, PlaceError>>) -> Self {
        Self { pieces, piece: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let taken = self.piece.split_to(buffer.len().min(self.piece.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

impl Stored {
    pub(super) fn new(pieces: Receiver<Result<Bytes, PlaceError>>, progress: Progress) -> Self {
        let reading = Reading { pieces: Pieces::new(pieces), digester: Digester::new(), progress };
        Self(Arc::new(Mutex::new(reading)))
    }

    /// Reads what is left, and fails unless all of it was the layer.
    pub(super) fn verify(&self, layer: Digest) -> Result<(), PullError> {
        io::copy(&mut self.clone(), &mut io::sink()).map_err(|error| read_error(layer, error))?;
        let reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let actual = reading.digester.clone().finish();
        if actual == layer { Ok(()) } else { Err(PullError::WrongDigest { layer, actual }) }
    }
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let got = reading.pieces.read(buffer)?;
        reading.digester.update(&buffer[..got]);
        reading.progress.advanced(got as u64);
        Ok(got)
    }
}

/// What the reader of a layer says: the place's own story, if it is that.
pub(super) fn archive_error(layer: Digest, error: Error) -> PullError {
    match error {
        Error::UnreadableArchive { offset, source } => match source.downcast::<PlaceError>() {
            Ok(error) => PullError::Place(error),
            Err(source) => PullError::Archive { layer, source: Error::UnreadableArchive { offset, source } },
        },
        source => PullError::Archive { layer, source },
    }
}

pub(super) fn read_error(layer: Digest, error: io::Error) -> PullError {
    match error.downcast::<PlaceError>() {
        Ok(error) => PullError::Place(error),
        Err(error) => match error.downcast::<Error>() {
            Ok(source) => PullError::Archive { layer, source },
            Err(source) => {
                PullError::Archive { layer, source: Error::UnreadableArchive { offset: 0, source } }
            }
        },
    }
}
