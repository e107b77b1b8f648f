//! What a base layer's headers say, and where that is remembered between builds.
//!
//! A layer's diff ID fixes its tar, and so its headers and where each file starts in it. They are
//! remembered under that name; whoever finds them need not fetch the layer.

use std::io::{self, BufReader, Read};

use ocib_image::{
    Entry, EntryKind, Error, LayerError, Memory, PlaceError, PlaceErrorKind, TarReader, Timestamp, Xattrs,
    decode,
};

use super::content::Packed;
use crate::path;

/// Files that owners are looked up in: their content is kept with the headers, which saves a second
/// pass over the layer.
const ACCOUNTS: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];
/// A larger file of accounts is read from the layer when it is needed.
const ACCOUNTS_MAX: u64 = 1 << 20;
/// More files than any real image has; headers of more would not fit into the memory budget.
const HEADERS_MAX: usize = 5_000_000;
/// Headers are read from buffers of this size.
const READ_BYTES: usize = 64 << 10;
/// What the memory calls them; changes whenever their form does.
const KIND: &str = "headers-1";
const NOWHERE: u64 = u64::MAX;

/// One entry of a base layer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// As in the archive, but for the name, which is a tree path.
    pub(crate) entry: Entry,
    /// Where the content starts in the tar; `None` for sparse files.
    pub(crate) offset: Option<u64>,
    /// The content itself, of the few files that are asked for.
    pub(crate) content: Option<Box<[u8]>>,
}

/// The headers of a layer, from the cache or from the layer itself.
pub(crate) fn headers(layer: &Packed, memory: Option<&Memory>) -> Result<Vec<Header>, LayerError> {
    let known = memory.and_then(|memory| memory.load(layer.diff_id.0, KIND));
    if let Some(headers) = known.and_then(|bytes| parse(&bytes)) {
        return Ok(headers);
    }
    let headers = read(layer)?;
    memory.iter().for_each(|memory| memory.store(layer.diff_id.0, KIND, write(&headers)));
    Ok(headers)
}

fn read(layer: &Packed) -> Result<Vec<Header>, LayerError> {
    let corrupt = |error: io::Error| match error.downcast::<LayerError>() {
        Ok(inner) => inner,
        Err(error) => unreadable(layer, &error),
    };
    let broken = |error: Error| match error {
        Error::UnreadableArchive { source, .. } => corrupt(source),
        error => unreadable(layer, &error),
    };
    let stored = layer.blob.source.read()?;
    let stream = decode(&layer.blob.descriptor.media_type, stored)
        .map_err(|error| PlaceError::new(PlaceErrorKind::Refused, error))?;
    let mut archive = TarReader::new(BufReader::with_capacity(READ_BYTES, stream));
    let mut headers = Vec::new();
    while let Some(found) = archive.next_entry().map_err(broken)? {
        let mut entry = found.entry;
        entry.name = path::clean(&entry.name).into();
        let mut content = None;
        if ACCOUNTS.contains(&&*entry.name) && entry.size() <= ACCOUNTS_MAX {
            let mut bytes = Vec::new();
            archive.content().read_to_end(&mut bytes).map_err(corrupt)?;
            content = Some(bytes.into());
        }
        headers.push(Header { entry, offset: found.offset, content });
        if headers.len() > HEADERS_MAX {
            return Err(unreadable(layer, &format!("more than {HEADERS_MAX} files")));
        }
    }
    // The stored bytes are verified where they end, which may be behind the archive's end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(corrupt)?;
    Ok(headers)
}

pub(crate) fn unreadable(layer: &Packed, error: &dyn std::fmt::Display) -> LayerError {
    LayerError::Place(PlaceError::new(PlaceErrorKind::Corrupt, format!("{layer:?} cannot be read: {error}")))
}

/// Names give how many bytes they share with the one before.
fn write(headers: &[Header]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut before: &[u8] = &[];
    put(&mut out, headers.len() as u64);
    for Header { entry, offset, content } in headers {
        let shared = before.iter().zip(&*entry.name).take_while(|(a, b)| a == b).count();
        put(&mut out, shared as u64);
        put_bytes(&mut out, &entry.name[shared..]);
        before = &entry.name;
        let (tag, number, link): (u8, u64, &[u8]) = match &entry.kind {
            EntryKind::File { size } => (0, *size, &[]),
            EntryKind::Directory => (1, 0, &[]),
            EntryKind::Symlink(target) => (2, 0, target),
            EntryKind::Hardlink(target) => (3, 0, target),
            EntryKind::Fifo => (4, 0, &[]),
            EntryKind::CharDevice { major, minor } => (5, u64::from(*major) << 32 | u64::from(*minor), &[]),
            EntryKind::BlockDevice { major, minor } => (6, u64::from(*major) << 32 | u64::from(*minor), &[]),
        };
        out.push(tag);
        put(&mut out, number);
        put_bytes(&mut out, link);
        for number in [entry.mode, entry.uid, entry.gid, entry.mtime.nanoseconds] {
            put(&mut out, u64::from(number));
        }
        put(&mut out, entry.mtime.seconds.cast_unsigned());
        let xattrs = entry.xattrs.as_deref().map_or(&[][..], Vec::as_slice);
        put(&mut out, xattrs.len() as u64);
        for (name, value) in xattrs {
            put_bytes(&mut out, name);
            put_bytes(&mut out, value);
        }
        put(&mut out, offset.unwrap_or(NOWHERE));
        out.push(u8::from(content.is_some()));
        put_bytes(&mut out, content.as_deref().unwrap_or_default());
    }
    out
}

/// LEB128: most numbers are small.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn parse(file: &[u8]) -> Option<Vec<Header>> {
    let mut rest = Parser(file);
    let count = rest.number()?;
    let mut headers = Vec::new();
    let mut before: Box<[u8]> = Box::default();
    for _ in 0..count {
        let header = rest.header(&before)?;
        before.clone_from(&header.entry.name);
        headers.push(header);
    }
    rest.0.is_empty().then_some(headers)
}

struct Parser<'a>(&'a [u8]);

impl Parser<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn bytes(&mut self) -> Option<Box<[u8]>> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes.into())
    }

    fn header(&mut self, before: &[u8]) -> Option<Header> {
        let shared = usize::try_from(self.number()?).ok()?;
        let name = [before.get(..shared)?, &self.bytes()?].concat().into();
        let (tag, number, link) = (self.byte()?, self.number()?, self.bytes()?);
        let (major, minor) = ((number >> 32) as u32, number as u32);
        let kind = match tag {
            0 => EntryKind::File { size: number },
            1 => EntryKind::Directory,
            2 => EntryKind::Symlink(link),
            3 => EntryKind::Hardlink(link),
            4 => EntryKind::Fifo,
            5 => EntryKind::CharDevice { major, minor },
            6 => EntryKind::BlockDevice { major, minor },
            _ => return None,
        };
        let (mode, uid, gid, nanoseconds) = (self.small()?, self.small()?, self.small()?, self.small()?);
        let mtime = Timestamp { seconds: self.number()?.cast_signed(), nanoseconds };
        let mut xattrs = Xattrs::new();
        for _ in 0..self.number()? {
            xattrs.push((self.bytes()?, self.bytes()?));
        }
        let xattrs = (!xattrs.is_empty()).then(|| Box::new(xattrs));
        let offset = Some(self.number()?).filter(|&offset| offset != NOWHERE);
        let has_content = self.byte()? == 1;
        let content = self.bytes()?;
        let entry = Entry { name, kind, mode, uid, gid, mtime, xattrs };
        Some(Header { entry, offset, content: has_content.then_some(content) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Header> {
        let kinds = [
            EntryKind::Directory,
            EntryKind::File { size: 9 << 30 },
            EntryKind::Symlink(b"/x"[..].into()),
            EntryKind::Hardlink(b"a/1"[..].into()),
            EntryKind::Fifo,
            EntryKind::CharDevice { major: 1, minor: u32::MAX },
            EntryKind::BlockDevice { major: 8, minor: 0 },
        ];
        let header = |(at, kind): (usize, EntryKind)| Header {
            entry: Entry {
                name: format!("a/{at}").into_bytes().into(),
                kind,
                mode: 0o4755,
                uid: u32::MAX,
                gid: 7,
                mtime: Timestamp { seconds: -1, nanoseconds: 999_999_999 },
                xattrs: (at == 1).then(|| Box::new(vec![(b"user.x"[..].into(), b"\0"[..].into())])),
            },
            offset: (at == 1).then_some(512),
            content: (at == 4).then(|| b"root:x:0:0".as_slice().into()),
        };
        kinds.into_iter().enumerate().map(header).collect()
    }

    #[test]
    fn what_is_written_is_parsed_and_what_is_cut_off_is_not() {
        let good = write(&samples());
        assert_eq!(parse(&good), Some(samples()));
        for at in 0..good.len() {
            assert_eq!(parse(&good[..at]), None, "cut at {at}");
        }
    }
}
