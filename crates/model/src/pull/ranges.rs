//! Plain layers in parts, several at a time.
//!
//! ```text
//!  part 0 ──▶ pwrite ─┐                     the files, under temporary names
//!  part 1 ──▶ pwrite ─┼─ "part 1 has 8 MiB" ──▶ journal
//!  part 2 ──▶ pwrite ─┘          └────────────▶ sha256 of what lies without a hole from the start on,
//!                                               headers from the survey, contents read from the files
//! ```
//!
//! A digest is of all bytes in their order, and parts arrive in none. What has arrived is hashed from the
//! files, close behind the connections, so that it comes out of memory that the kernel has anyway and none of
//! ours. Keeping parts back until their turn would take a part of memory for each connection.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use ocib_image::{Digest, Digester, Error, PlaceError};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::spawn_blocking,
};

use super::{
    Job, PullError,
    journal::{KnownLayer, Partial, staged},
    place::Place,
    stream::{self, COPY_BYTES},
    survey::{Layout, Segment},
};

/// Layers below this are over before a second connection has got going.
const LAYER_BYTES_MIN: u64 = 32 << 20;
/// A part is a request: large enough not to wait for answers most of the time, small enough that there are
/// several in a layer.
const PART_BYTES: Range<u64> = 8 << 20..64 << 20;
const PARTS: u64 = 32;
/// What an interruption costs at most, for each connection.
const STEP_BYTES: u64 = 4 << 20;
/// Steps that the digest may be behind: what was written is still in memory when it is read again.
const STEPS_BEHIND: usize = 32;

/// Whether a layer is worth a survey.
pub(super) fn is_worthwhile(job: &Job) -> bool {
    job.source.blob.descriptor.size >= LAYER_BYTES_MIN && !job.source.kind.is_compressed()
}

/// Reads the layer in parts, or goes on with what an interrupted pull left of it.
pub(super) async fn fetch(
    job: &Job,
    resumed: Option<Partial>,
    layout: Option<Layout>,
) -> Result<KnownLayer, PullError> {
    let size = job.source.blob.descriptor.size;
    let partial = match (resumed, layout) {
        (Some(partial), _) => partial,
        (None, layout) => {
            let part_bytes = (size / PARTS).clamp(PART_BYTES.start, PART_BYTES.end);
            let layout = layout.ok_or(PullError::GivenUp)?;
            Partial::begin(&job.place, &job.source.scope, layout, (size, part_bytes))?
        }
    };
    let had_some = partial.done.iter().any(|done| *done > 0);
    let (layer, entries) = (job.source.scope.layer, partial.layout.entries.len());
    let actual = arrive(job, partial).await?;
    match actual {
        (actual, known) if actual == layer => {
            let place = Arc::clone(&job.place);
            let settled = spawn_blocking(move || stream::settle(&place, known)).await;
            settled.map_err(|_| PullError::GivenUp)?
        }
        (actual, _) => {
            Partial::discard(&job.place, layer, entries)?;
            match had_some {
                // What was there may be to blame: a crash of the machine, a file that somebody wrote to.
                true => Box::pin(again(job)).await,
                false => Err(PullError::WrongDigest { layer, actual }),
            }
        }
    }
}

async fn again(job: &Job) -> Result<KnownLayer, PullError> {
    job.progress.restarted("what an earlier pull left of it is not what its digest says");
    job.fetch().await
}

/// Brings all of the layer here; gives its digest.
async fn arrive(job: &Job, partial: Partial) -> Result<(Digest, KnownLayer), PullError> {
    let work = Arc::new(Work::open(job, partial)?);
    job.progress.advanced(work.partial.done.iter().sum());
    let (told, steps) = channel(STEPS_BEHIND);
    let hashing = Arc::clone(&work);
    let digest = spawn_blocking(move || hash(&hashing, steps));
    let todo = (0..work.partial.done.len())
        .filter(|part| work.partial.done[*part] < work.part(*part).end - work.part(*part).start);
    let todo = Arc::new(Mutex::new(todo.collect::<VecDeque<_>>()));
    let connections = (0..job.limits.count).map(|_| connection(&work, &todo, told.clone()));
    let written = try_join_all(connections).await;
    drop(told);
    let digest = digest.await.map_err(|_| PullError::GivenUp)?;
    match (written, digest) {
        (Err(PullError::GivenUp), Err(error)) => Err(error),
        (Err(error), _) => Err(error),
        (Ok(_), digest) => {
            let work = Arc::into_inner(work).ok_or(PullError::GivenUp)?;
            let known = KnownLayer::new(&job.source.scope, work.partial.layout, BTreeMap::new());
            Ok((digest?, known))
        }
    }
}

/// Takes part after part until there is none.
async fn connection(
    work: &Arc<Work>,
    todo: &Mutex<VecDeque<usize>>,
    told: Sender<(usize, u64)>,
) -> Result<(), PullError> {
    loop {
        let _permit = work.job.limits.connections.acquire().await.map_err(|_| PullError::GivenUp)?;
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(part) = next else { return Ok(()) };
        let Range { start, end } = work.part(part);
        let (_feeding, pieces) =
            stream::feed_while(&work.job.source.blob, start + work.partial.done[part]..end);
        let (work, told) = (Arc::clone(work), told.clone());
        spawn_blocking(move || work.write(part, pieces, &told)).await.map_err(|_| PullError::GivenUp)??;
    }
}

/// A layer in parts, and the open files that it becomes.
struct Work {
    job: Job,
    partial: Partial,
    /// By entry.
    files: BTreeMap<usize, File>,
    /// Where in the layer each content is, in their order.
    extents: Vec<Extent>,
}

struct Extent {
    start: u64,
    bytes: u64,
    entry: usize,
}

impl Work {
    fn open(job: &Job, mut partial: Partial) -> Result<Self, PullError> {
        let (mut files, mut extents, mut at) = (BTreeMap::new(), Vec::new(), 0);
        for segment in &partial.layout.segments {
            match segment {
                Segment::Gap(gap) => at += gap.len() as u64,
                Segment::File { entry, bytes } => {
                    let name = staged(job.source.scope.layer, *entry);
                    // A longer one is of another pull, whose entries had other numbers.
                    if job.place.state(&name)?.is_none_or(|there| there.bytes > *bytes) {
                        partial.done.fill(0);
                        job.place.remove(&name)?;
                    }
                    let path = partial.layout.entries.get(*entry).map_or("", |entry| &entry.path);
                    files.insert(*entry, stream::reserve(&job.place, &name, path, *bytes)?);
                    extents.push(Extent { start: at, bytes: *bytes, entry: *entry });
                    at += bytes;
                }
            }
        }
        let layer = job.source.scope.layer;
        if at != job.source.blob.descriptor.size {
            let source = Error::TruncatedArchive { offset: at, what: "the layer" };
            return Err(PullError::Archive { layer, source });
        }
        Ok(Self { job: job.clone(), partial, files, extents })
    }

    /// Where the part is in the layer.
    fn part(&self, part: usize) -> Range<u64> {
        let start = part as u64 * self.partial.part_bytes;
        start..self.job.source.blob.descriptor.size.min(start + self.partial.part_bytes)
    }

    fn write(
        &self,
        part: usize,
        mut pieces: Receiver<Result<Bytes, PlaceError>>,
        told: &Sender<(usize, u64)>,
    ) -> Result<(), PullError> {
        let Range { start, end } = self.part(part);
        let mut at = start + self.partial.done[part];
        let mut said = at;
        while at < end {
            let piece = match pieces.blocking_recv() {
                Some(piece) => piece?,
                None => {
                    let source = Error::TruncatedArchive { offset: at, what: "the layer" };
                    return Err(PullError::Archive { layer: self.job.source.scope.layer, source });
                }
            };
            self.put(at, &piece)?;
            at += piece.len() as u64;
            self.job.progress.advanced(piece.len() as u64);
            if at - said >= STEP_BYTES || at == end {
                said = at;
                self.partial.reached(&self.job.place, part, at - start)?;
                told.blocking_send((part, at - start)).map_err(|_| PullError::GivenUp)?;
            }
        }
        Ok(())
    }

    /// Writes those of the bytes at `at` that belong to files.
    fn put(&self, at: u64, piece: &[u8]) -> Result<(), PullError> {
        let end = at + piece.len() as u64;
        let first = self.extents.partition_point(|extent| extent.start + extent.bytes <= at);
        for extent in self.extents[first..].iter().take_while(|extent| extent.start < end) {
            let from = at.max(extent.start);
            let to = end.min(extent.start + extent.bytes);
            let bytes = &piece[index(from - at)..index(to - at)];
            let written = self.files[&extent.entry].write_all_at(bytes, from - extent.start);
            let name = || staged(self.job.source.scope.layer, extent.entry);
            written.map_err(|error| self.job.place.failed("write", &name(), error))?;
        }
        Ok(())
    }
}

/// Hashes the layer behind the connections, as far as there is no hole.
fn hash(work: &Work, mut steps: Receiver<(usize, u64)>) -> Result<Digest, PullError> {
    let mut done = work.partial.done.clone();
    let mut segments = Segments { left: &work.partial.layout.segments, within: 0, digester: Digester::new() };
    let mut part = 0;
    loop {
        while part < done.len() && done[part] == work.part(part).end - work.part(part).start {
            part += 1;
        }
        let reached = match done.get(part) {
            Some(bytes) => work.part(part).start + bytes,
            None => work.job.source.blob.descriptor.size,
        };
        let read = segments.advance(reached, |entry| work.files.get(&entry));
        read.map_err(|error| work.job.place.failed("read", &staged(work.job.source.scope.layer, 0), error))?;
        if part == done.len() {
            return Ok(segments.digester.finish());
        }
        let (at, bytes) = steps.blocking_recv().ok_or(PullError::GivenUp)?;
        done[at] = bytes;
    }
}

/// A layer on its way through the digester.
struct Segments<'a> {
    left: &'a [Segment],
    /// Bytes of the first of them that are done.
    within: u64,
    digester: Digester,
}

impl Segments<'_> {
    /// Goes on until so many bytes of the layer are done.
    fn advance<'f>(&mut self, reached: u64, file: impl Fn(usize) -> Option<&'f File>) -> std::io::Result<()> {
        let mut buffer = vec![0; COPY_BYTES];
        while let Some((segment, later)) = self.left.split_first() {
            let bytes = match segment {
                Segment::Gap(gap) => gap.len() as u64,
                Segment::File { bytes, .. } => *bytes,
            };
            while self.within < bytes && self.digester.bytes() < reached {
                let most = (bytes - self.within).min(reached - self.digester.bytes()).min(COPY_BYTES as u64);
                let most = index(most);
                match segment {
                    Segment::Gap(gap) => self.digester.update(&gap[index(self.within)..][..most]),
                    Segment::File { entry, .. } => {
                        let file = file(*entry).ok_or(std::io::ErrorKind::NotFound)?;
                        file.read_exact_at(&mut buffer[..most], self.within)?;
                        self.digester.update(&buffer[..most]);
                    }
                }
                self.within += most as u64;
            }
            if self.within < bytes {
                break;
            }
            (self.left, self.within) = (later, 0);
        }
        Ok(())
    }
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Whether files that are somewhere in `place` are those of a layer that is known, as its digest has it. Those that
/// no path is to have may be left under their temporary names.
pub(super) fn is_whole(place: &Place, known: &KnownLayer, whereabouts: &BTreeMap<usize, String>) -> bool {
    let Some(all) = &known.segments else { return false };
    let opened = known.entries.iter().enumerate().filter(|(_, entry)| entry.is_file());
    let opened = opened.map(|(number, _)| {
        let name = whereabouts.get(&number).cloned().unwrap_or_else(|| staged(known.layer, number));
        Some((number, place.read(&name).ok()?))
    });
    let Some(files) = opened.collect::<Option<BTreeMap<usize, File>>>() else { return false };
    let mut segments = Segments { left: all, within: 0, digester: Digester::new() };
    segments.advance(u64::MAX, |entry| files.get(&entry)).is_ok() && segments.digester.finish() == known.layer
}
