//! One layer onto the disk, verified.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_image::{Blob, Digester, Outcome, Progress};
use tokio::sync::Semaphore;

use super::{
    Member, MemberKind, Packing, Prefix, clean,
    index::{Index, index},
    sequence, unpack_error, write_error,
};
use crate::{Error, blocking};

/// Ranges of this size: large enough that a request costs nothing, small enough that little is lost by an
/// interruption.
const RANGE: u64 = 32 << 20;
/// What is written at a time.
const WRITE: usize = 1 << 20;
/// The list of ranges that are complete, within a layer's directory.
const JOURNAL: &str = "ranges";

/// A layer that shall be on the disk.
pub(super) struct Fetch {
    pub(super) blob: Blob,
    pub(super) packing: Packing,
    /// The layer's own directory.
    pub(super) state: PathBuf,
    /// Where files will be.
    pub(super) target: PathBuf,
    pub(super) prefix: Prefix,
    pub(super) streams: Arc<Semaphore>,
    pub(super) progress: Progress,
}

/// A layer that is on the disk.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) members: Vec<Member>,
    /// Its files, by the members' places: where each is now.
    pub(super) places: Vec<PathBuf>,
    /// Whether they are where they shall be.
    pub(super) is_in_place: bool,
    pub(super) bytes: u64,
}

impl Fetch {
    /// Fetches what is not there, and verifies all of it.
    pub(super) async fn run(self) -> Result<Fetched, Error> {
        let descriptor = &self.blob.descriptor;
        self.progress
            .started(&format!("layer {}", &descriptor.digest.to_string()[..19]), Some(descriptor.size));
        let found = match &self.packing {
            Packing::Raw(name) => Some(Index {
                members: vec![Member {
                    path: clean(name.as_bytes())?,
                    kind: MemberKind::File { bytes: descriptor.size, offset: 0 },
                    mode: 0o644,
                }],
                between: vec![Bytes::new(), Bytes::new()],
            }),
            Packing::Plain => index(&self.blob).await?,
            Packing::Compressed(_) => None,
        };
        let Some(found) = found else { return self.in_sequence().await };
        let in_place = self.in_place(&found.members);
        let layer = Arc::new(Layer { blob: self.blob.clone(), index: found, places: in_place });
        if layer.is_right().await? {
            self.progress.finished(Outcome::Present);
            return Ok(layer.fetched(true));
        }
        let index = Arc::into_inner(layer).expect("nobody else has it once it was looked at").index;
        let staged = (0..index.members.len()).map(|number| self.state.join(number.to_string())).collect();
        let layer = Arc::new(Layer { blob: self.blob.clone(), index, places: staged });
        let was_begun = self.fetch_ranges(&layer).await?;
        if !layer.is_right().await? {
            // What an earlier run has left may be damaged; once without it.
            self.forget().await?;
            if !was_begun || {
                self.fetch_ranges(&layer).await?;
                !layer.is_right().await?
            } {
                self.forget().await?;
                return Err(unpack_error(&self.blob, "its bytes have another digest"));
            }
        }
        self.progress.finished(Outcome::Stored);
        Ok(layer.fetched(false))
    }

    /// A layer that must be read from its start.
    async fn in_sequence(self) -> Result<Fetched, Error> {
        let _permit = self.streams.acquire().await;
        let media_type = match &self.packing {
            Packing::Compressed(media_type) => media_type.clone(),
            _ => ocib_image::MediaType::LayerTar,
        };
        self.forget().await?;
        let Self { blob, state, progress, prefix, .. } = self;
        let watched = progress.clone();
        let fetched =
            blocking(move || sequence::unpack(&blob, &media_type, &state, &prefix, &watched)).await?;
        progress.finished(Outcome::Stored);
        Ok(fetched)
    }

    /// Where the members' files would be, if an earlier run had come to its end.
    fn in_place(&self, members: &[Member]) -> Vec<PathBuf> {
        let place = |member: &Member| match self.prefix.strip(&member.path) {
            Some(path) => self.target.join(to_path(path)),
            // Never there.
            None => self.state.join("elsewhere"),
        };
        members.iter().map(place).collect()
    }

    /// Fetches what the journal does not have; says whether it had anything.
    async fn fetch_ranges(&self, layer: &Arc<Layer>) -> Result<bool, Error> {
        let (state, files) = (self.state.clone(), Arc::clone(layer));
        let journal = blocking(move || Journal::open(&state, &files)).await?;
        let was_begun = !journal.done.is_empty();
        let journal = &journal;
        let wanted = layer.ranges().filter(|range| !journal.done.contains(&range.start));
        let passed: u64 =
            layer.ranges().filter(|range| journal.done.contains(&range.start)).map(|r| r.bytes).sum();
        self.progress.advanced(passed);
        let fetches = wanted.map(|range| async move {
            let _permit = self.streams.acquire().await;
            self.fetch_range(range, &layer.places[range.member]).await?;
            journal.add(range.start)
        });
        let done = stream::iter(fetches).buffer_unordered(self.streams.available_permits().max(1));
        done.try_collect::<()>().await?;
        Ok(was_begun)
    }

    async fn fetch_range(&self, range: Range, path: &Path) -> Result<(), Error> {
        let mut stream = self.blob.source.stream(range.start).await?;
        let (mut held, mut at, mut left) = (BytesMut::new(), range.in_file, range.bytes);
        while left > 0 {
            let piece = stream.try_next().await?;
            let piece = piece.ok_or_else(|| unpack_error(&self.blob, "it ends too early"))?;
            let taken = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            held.extend_from_slice(&piece[..taken]);
            left -= taken as u64;
            self.progress.advanced(taken as u64);
            if held.len() >= WRITE || left == 0 {
                let (bytes, path) = (held.split().freeze(), path.to_owned());
                let length = bytes.len() as u64;
                blocking(move || write_at(&path, &bytes, at)).await?;
                at += length;
            }
        }
        Ok(())
    }

    async fn forget(&self) -> Result<(), Error> {
        let state = self.state.clone();
        blocking(move || match fs::remove_dir_all(&state) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_error(&state)(error)),
            _ => Ok(()),
        })
        .await
    }
}

fn write_at(path: &Path, bytes: &[u8], at: u64) -> Result<(), Error> {
    let write = || fs::OpenOptions::new().write(true).open(path)?.write_all_at(bytes, at);
    write().map_err(write_error(path))
}

pub(super) fn to_path(path: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path))
}

/// A layer's index, and where its files are on the disk.
struct Layer {
    blob: Blob,
    index: Index,
    places: Vec<PathBuf>,
}

/// Bytes of a file that are fetched at once.
#[derive(Clone, Copy)]
struct Range {
    member: usize,
    in_file: u64,
    /// In the layer.
    start: u64,
    bytes: u64,
}

impl Layer {
    fn files(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        self.index.members.iter().enumerate().filter_map(|(number, member)| match member.kind {
            MemberKind::File { bytes, offset } => Some((number, bytes, offset)),
            _ => None,
        })
    }

    fn ranges(&self) -> impl Iterator<Item = Range> {
        self.files().flat_map(|(member, bytes, offset)| {
            (0..bytes.div_ceil(RANGE)).map(move |number| {
                let in_file = number * RANGE;
                Range { member, in_file, start: offset + in_file, bytes: RANGE.min(bytes - in_file) }
            })
        })
    }

    /// Whether what is on the disk, with what lies between the files, has the layer's digest.
    async fn is_right(self: &Arc<Self>) -> Result<bool, Error> {
        let layer = Arc::clone(self);
        blocking(move || Ok(layer.digest().is_some_and(|digest| digest == layer.blob.descriptor.digest)))
            .await
    }

    /// `None` if a file is not there or has another size.
    fn digest(&self) -> Option<ocib_image::Digest> {
        for (number, bytes, _) in self.files() {
            let metadata = fs::symlink_metadata(&self.places[number]).ok()?;
            if !metadata.is_file() || metadata.len() != bytes {
                return None;
            }
        }
        let mut digester = Digester::new();
        let mut buffer = vec![0; WRITE];
        let mut between = self.index.between.iter();
        for (number, ..) in self.files() {
            digester.update(between.next()?);
            let mut file = fs::File::open(&self.places[number]).ok()?;
            loop {
                match file.read(&mut buffer).ok()? {
                    0 => break,
                    got => digester.update(&buffer[..got]),
                }
            }
        }
        digester.update(between.next()?);
        Some(digester.finish())
    }

    fn fetched(&self, is_in_place: bool) -> Fetched {
        Fetched {
            members: self.index.members.clone(),
            places: self.places.clone(),
            is_in_place,
            bytes: self.blob.descriptor.size,
        }
    }
}

/// Which ranges of a layer are on the disk. Believed only as far as to be read and digested.
struct Journal {
    path: PathBuf,
    done: BTreeSet<u64>,
}

impl Journal {
    /// Makes the layer's files in their sizes, if they are not there. Blocks.
    fn open(state: &Path, layer: &Layer) -> Result<Self, Error> {
        let path = state.join(JOURNAL);
        let text = fs::read_to_string(&path).unwrap_or_default();
        // A line that was cut off is none: it has no line feed.
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok());
        let done: BTreeSet<u64> = lines.collect();
        fs::create_dir_all(state).map_err(write_error(state))?;
        for (number, bytes, _) in layer.files() {
            let place = &layer.places[number];
            let make = || {
                let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(place)?;
                file.set_len(bytes)
            };
            make().map_err(write_error(place))?;
        }
        Ok(Self { path, done })
    }

    fn add(&self, start: u64) -> Result<(), Error> {
        let append = || {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(&self.path)?;
            file.write_all(format!("{start}\n").as_bytes())
        };
        append().map_err(write_error(&self.path))
    }
}
