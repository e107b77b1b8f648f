//! Looking through a plain tar without reading what is in its files.

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use ocib_image::{Blob, EntryKind, TarEntry, TarReader};

use super::{Member, MemberKind, clean, unpack_error};
use crate::Error;

/// Bytes that are asked for at a time: many small files are seen at once, and little is asked for in vain.
const WINDOW: u64 = 64 << 10;
/// Headers of one entry take no more than this.
const WINDOW_MAX: u64 = 4 << 20;
const BLOCK: u64 = 512;
/// What lies between files, in all: it is kept, for the digest.
const BETWEEN_MAX: usize = 16 << 20;

/// A plain tar's members, and the bytes between the contents of files: those before the first, between the
/// first and second, …, behind the last.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) members: Vec<Member>,
    pub(crate) between: Vec<Bytes>,
}

/// The index of a layer; `None` if it can only be read from its start.
pub(crate) async fn index(blob: &Blob) -> Result<Option<Index>, Error> {
    let mut window = Window { blob, start: 0, bytes: Bytes::new() };
    let (mut members, mut between, mut gap) = (Vec::new(), Vec::new(), BytesMut::new());
    let (mut at, mut kept) = (0, 0);
    let size = blob.descriptor.size;
    loop {
        let Some(found) = window.entry(at).await? else { break };
        let Some(offset) = found.offset.filter(|offset| *offset <= size) else { return Ok(None) };
        let content = found.entry.size();
        let end = offset.checked_add(content).filter(|end| *end <= size);
        let end = end.ok_or_else(|| unpack_error(blob, "it ends within a file"))?;
        gap.extend_from_slice(&window.get(at, offset).await?);
        kept += usize::try_from(offset - at).unwrap_or(usize::MAX);
        if let Some(member) = member(&found, offset)? {
            if matches!(member.kind, MemberKind::File { .. }) {
                between.push(gap.split().freeze());
            }
            members.push(member);
        }
        at = end;
        let padded = end.next_multiple_of(BLOCK).min(size);
        gap.extend_from_slice(&window.get(at, padded).await?);
        at = padded;
        if kept > BETWEEN_MAX {
            return Ok(None);
        }
    }
    // Archives end with blocks of zeros, sometimes with many.
    if size - at > WINDOW_MAX {
        return Ok(None);
    }
    gap.extend_from_slice(&window.get(at, size).await?);
    between.push(gap.freeze());
    Ok(Some(Index { members, between }))
}

/// What an entry is to a model; devices and pipes are nothing.
pub(super) fn member(found: &TarEntry, offset: u64) -> Result<Option<Member>, Error> {
    let kind = match &found.entry.kind {
        EntryKind::File { size } => MemberKind::File { bytes: *size, offset },
        EntryKind::Directory => MemberKind::Directory,
        EntryKind::Symlink(target) => MemberKind::Symlink(target.to_vec()),
        EntryKind::Hardlink(target) => MemberKind::Hardlink(clean(target)?),
        _ => return Ok(None),
    };
    Ok(Some(Member { path: clean(&found.entry.name)?, kind, mode: found.entry.mode }))
}

/// The part of a layer that was fetched last.
struct Window<'a> {
    blob: &'a Blob,
    start: u64,
    bytes: Bytes,
}

impl Window<'_> {
    /// The entry whose headers begin at `at`, with its offset in the layer; `None` behind the last.
    async fn entry(&mut self, at: u64) -> Result<Option<TarEntry>, Error> {
        let mut wanted = WINDOW;
        if at >= self.blob.descriptor.size {
            return Ok(None);
        }
        loop {
            let is_whole = at + wanted >= self.blob.descriptor.size;
            let held = self.held(at);
            let bytes = match held.is_empty() || wanted > WINDOW {
                true => self.fetch(at, wanted).await?,
                false => held,
            };
            match TarReader::new(&bytes[..]).next_entry() {
                Ok(found) => {
                    return Ok(found
                        .map(|found| TarEntry { offset: found.offset.map(|offset| at + offset), ..found }));
                }
                Err(ocib_image::Error::TruncatedArchive { .. }) if !is_whole && wanted < WINDOW_MAX => {
                    // Once from here, then more.
                    wanted = if bytes.len() as u64 >= WINDOW { wanted * 4 } else { WINDOW + 1 };
                }
                Err(error) => return Err(unpack_error(self.blob, error.to_string())),
            }
        }
    }

    fn held(&self, at: u64) -> Bytes {
        let from = at.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        from.filter(|from| *from < self.bytes.len()).map_or_else(Bytes::new, |from| self.bytes.slice(from..))
    }

    /// The bytes of the layer from `from` to `to`, which are few.
    async fn get(&mut self, from: u64, to: u64) -> Result<Bytes, Error> {
        let length = usize::try_from(to - from).unwrap_or(usize::MAX);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let held = self.held(from);
        let bytes = match held.len() >= length {
            true => held,
            false => self.fetch(from, to - from).await?,
        };
        match bytes.len() >= length {
            true => Ok(bytes.slice(..length)),
            false => Err(unpack_error(self.blob, "it ends too early")),
        }
    }

    /// Fetches `wanted` bytes from `at` on, or as many as there are.
    async fn fetch(&mut self, at: u64, wanted: u64) -> Result<Bytes, Error> {
        let mut stream = self.blob.source.stream(at).await?;
        let mut bytes = BytesMut::new();
        while (bytes.len() as u64) < wanted
            && let Some(piece) = stream.try_next().await?
        {
            bytes.extend_from_slice(&piece);
        }
        bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        (self.start, self.bytes) = (at, bytes.freeze());
        Ok(self.bytes.clone())
    }
}
