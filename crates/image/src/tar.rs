//! Writing tar archives: ustar where everything fits, else a PAX header before it
//! (IEEE Std 1003.1-2017, `pax`), in the way Go's archive/tar writes them, which every container
//! tool reads.
//!
//! A size of 8 GiB or more is written twice: as a PAX record and in GNU's base-256 form in the
//! header itself, since readers exist that know only one of the two (Clair: olot#210).

use std::io::{self, Read, Write};

use crate::{Entry, EntryKind, LayerError, Timestamp};

pub(crate) const BLOCK: usize = 512;
/// The largest number that the 11 octal digits of `size` and `mtime` hold.
const OCTAL_11_MAX: u64 = 0o777_7777_7777;
/// The largest number that the 7 octal digits of `uid`, `gid` and device numbers hold.
const OCTAL_7_MAX: u64 = 0o777_7777;
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
/// Files are copied in pieces of this size: large enough that system calls cost nothing, small
/// enough to stay in the second-level cache between reading, hashing and sending.
pub(crate) const COPY_BYTES: usize = 256 << 10;
/// The longest path or link target that is written; Linux itself stops at 4,096.
const PATH_MAX: usize = 1 << 16;

/// Writes a tar archive. Each entry is followed by exactly the bytes that its header announced, or
/// the call fails and the archive is worthless.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    header: Vec<u8>,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// A writer of a new archive.
    pub fn new(out: W) -> Self {
        Self { out, header: Vec::new(), buffer: Vec::new() }
    }

    /// Writes an entry that has no content (any but a file that is not empty).
    pub fn entry(&mut self, entry: &Entry) -> Result<(), LayerError> {
        debug_assert_eq!(entry.size(), 0, "a file with content needs `file`");
        self.write_header(entry)
    }

    /// Writes a file: its header, then exactly [`Entry::size`] bytes from `content`, whose end must
    /// be there. `display` names the file in errors.
    pub fn file(
        &mut self,
        entry: &Entry,
        content: &mut dyn Read,
        display: &dyn Fn() -> String,
    ) -> Result<(), LayerError> {
        self.write_header(entry)?;
        let size = entry.size();
        self.buffer.resize(COPY_BYTES, 0);
        let out = &mut self.out;
        copy(content, (size, size), &mut self.buffer, display, |piece, _| {
            out.write_all(piece).map_err(LayerError::Output)
        })?;
        let padding = padding(size);
        self.out.write_all(&[0; BLOCK][..padding]).map_err(LayerError::Output)
    }

    /// Ends the archive with its two blocks of zeros and gives the writer back.
    pub fn finish(mut self) -> Result<W, LayerError> {
        self.out.write_all(&[0; 2 * BLOCK]).map_err(LayerError::Output)?;
        Ok(self.out)
    }

    fn write_header(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.header.clear();
        encode_header(&mut self.header, entry)?;
        self.out.write_all(&self.header).map_err(LayerError::Output)
    }
}

/// Size of the archive that [`TarWriter`] makes of these entries, in bytes.
pub fn archive_bytes(entries: impl Iterator<Item = Entry>) -> Result<u64, LayerError> {
    let mut header = Vec::new();
    let mut total = 2 * BLOCK as u64;
    for entry in entries {
        header.clear();
        encode_header(&mut header, &entry)?;
        total += header.len() as u64 + entry.size() + padding(entry.size()) as u64;
    }
    Ok(total)
}

/// Hands the `left` bytes that `content` still has of `size` to `take`, which sees the reader where it is then. Its
/// end must be there.
pub(crate) fn copy<R: Read + ?Sized>(
    content: &mut R,
    (mut left, size): (u64, u64),
    buffer: &mut [u8],
    display: &dyn Fn() -> String,
    mut take: impl FnMut(&[u8], &R) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    loop {
        // One byte more than announced is asked for at the end, to notice a file that grew.
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).clamp(1, buffer.len());
        let got = read_some(content, &mut buffer[..wanted], display)?;
        let changed = |what| Err(LayerError::Changed { name: display(), what });
        match got {
            0 if left == 0 => return Ok(()),
            0 => return changed(format!("it ended after {} of {size} bytes", size - left)),
            _ if left == 0 => return changed(format!("it is longer than the {size} bytes it had")),
            got => {
                take(&buffer[..got], content)?;
                left -= got as u64;
            }
        }
    }
}

fn read_some<R: Read + ?Sized>(
    content: &mut R,
    buffer: &mut [u8],
    display: &dyn Fn() -> String,
) -> Result<usize, LayerError> {
    loop {
        match content.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A reader that knows its story better than "cannot read X: …" carries it inside.
            Err(error) => {
                return Err(match error.downcast::<LayerError>() {
                    Ok(inner) => inner,
                    Err(source) => LayerError::Read { name: display(), source },
                });
            }
            Ok(got) => return Ok(got),
        }
    }
}

pub(crate) fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// Appends the header of `entry` to `out`: one block, preceded by a PAX header where one block is not
/// enough. These bytes are what a layer says of a path, so they also tell layers apart.
pub fn encode_header(out: &mut Vec<u8>, entry: &Entry) -> Result<(), LayerError> {
    let mut name = entry.name.to_vec();
    if entry.kind == EntryKind::Directory {
        name.push(b'/');
    }
    let link = match &entry.kind {
        EntryKind::Symlink(target) | EntryKind::Hardlink(target) => &target[..],
        _ => &[],
    };
    check(entry, &name, link)?;
    let split = split_name(&name);
    let records = pax_records(entry, &name, split.is_some(), link)?;
    if !records.is_empty() {
        pax_header(out, &name, &records);
    }
    let (prefix, short) = split.unwrap_or((&[], &name[..name.len().min(NAME_BYTES)]));
    let start = out.len();
    out.resize(start + BLOCK, 0);
    let block = &mut out[start..];
    text(block, 0, short);
    number(block, 100, 8, u64::from(entry.mode & 0o7777));
    number(block, 108, 8, u64::from(entry.uid));
    number(block, 116, 8, u64::from(entry.gid));
    number(block, 124, 12, entry.size());
    number(block, 136, 12, u64::try_from(entry.mtime.seconds).unwrap_or(0).min(OCTAL_11_MAX));
    block[156] = type_flag(&entry.kind);
    text(block, 157, &link[..link.len().min(NAME_BYTES)]);
    block[257..265].copy_from_slice(b"ustar\x0000");
    if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } = entry.kind {
        number(block, 329, 8, u64::from(major));
        number(block, 337, 8, u64::from(minor));
    }
    text(block, 345, prefix);
    seal_checksum(block);
    Ok(())
}

fn check(entry: &Entry, name: &[u8], link: &[u8]) -> Result<(), LayerError> {
    let why = if name.contains(&0) || link.contains(&0) {
        "a name cannot hold a zero byte"
    } else if name.len() > PATH_MAX || link.len() > PATH_MAX {
        "the name is longer than 65,536 bytes"
    } else if name.is_empty() || name[0] == b'/' {
        "a name in a layer is relative to the root and not empty"
    } else {
        return Ok(());
    };
    Err(LayerError::Unstorable { name: String::from_utf8_lossy(&entry.name).into_owned(), why })
}

fn type_flag(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File { .. } => b'0',
        EntryKind::Hardlink(_) => b'1',
        EntryKind::Symlink(_) => b'2',
        EntryKind::CharDevice { .. } => b'3',
        EntryKind::BlockDevice { .. } => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

/// The name as ustar's prefix and name fields; `None` if it does not fit.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME_BYTES {
        return Some((&[], name));
    }
    // The last slash that leaves something behind it (a directory's own slash does not count).
    let searched = &name[..name.len().min(PREFIX_BYTES + 1).min(name.len() - 1)];
    let slash = searched.iter().rposition(|&b| b == b'/')?;
    (slash > 0 && name.len() - slash - 1 <= NAME_BYTES).then(|| (&name[..slash], &name[slash + 1..]))
}

/// Whether PAX is needed to say in which character set a name is. Go does the same. A name that is
/// no UTF-8 stays raw in the header while it fits there, as GNU tar writes it.
fn needs_utf8_record(name: &[u8]) -> bool {
    !name.is_ascii() && std::str::from_utf8(name).is_ok()
}

fn pax_records(entry: &Entry, name: &[u8], fits: bool, link: &[u8]) -> Result<Vec<u8>, LayerError> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut put = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
    let path = !fits || needs_utf8_record(name);
    let linkpath = link.len() > NAME_BYTES || needs_utf8_record(link);
    let is_binary = |wanted: bool, name: &[u8]| wanted && std::str::from_utf8(name).is_err();
    if is_binary(path, name) || is_binary(linkpath, link) {
        put("hdrcharset", b"BINARY".to_vec());
    }
    if path {
        put("path", name.to_vec());
    }
    if linkpath {
        put("linkpath", link.to_vec());
    }
    if entry.size() > OCTAL_11_MAX {
        put("size", entry.size().to_string().into_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if u64::from(id) > OCTAL_7_MAX {
            put(key, id.to_string().into_bytes());
        }
    }
    let Timestamp { seconds, nanoseconds } = entry.mtime;
    if nanoseconds != 0 || !(0..=OCTAL_11_MAX.cast_signed()).contains(&seconds) {
        put("mtime", pax_time(entry.mtime).into_bytes());
    }
    for (key, value) in entry.xattrs.iter().flat_map(|xattrs| xattrs.iter()) {
        if key.contains(&b'=') || key.contains(&0) {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            return Err(LayerError::Unstorable {
                name,
                why: "the name of an extended attribute holds = or zero",
            });
        }
        records.push(([b"SCHILY.xattr.", &key[..]].concat(), value.to_vec()));
    }
    records.sort();
    Ok(records.iter().flat_map(|(key, value)| pax_record(key, value)).collect())
}

/// Seconds with as many decimals as are needed; negative times count downwards.
fn pax_time(time: Timestamp) -> String {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let (sign, absolute) = (if nanoseconds < 0 { "-" } else { "" }, nanoseconds.unsigned_abs());
    let text = format!("{sign}{}.{:09}", absolute / 1_000_000_000, absolute % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `LENGTH key=value\n`, where LENGTH counts itself.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn pax_header(out: &mut Vec<u8>, name: &[u8], records: &[u8]) {
    let trimmed = name.strip_suffix(b"/").unwrap_or(name);
    let base = trimmed.rsplit(|&b| b == b'/').next().unwrap_or(trimmed);
    // Only what every reader shows well; Go replaces other bytes too.
    let base: Vec<u8> = base.iter().copied().filter(u8::is_ascii).collect();
    let own_name = [b"PaxHeaders.0/", &base[..base.len().min(NAME_BYTES - 13)]].concat();
    let start = out.len();
    out.resize(start + BLOCK, 0);
    let block = &mut out[start..];
    text(block, 0, &own_name);
    for (at, width) in [(100, 8), (108, 8), (116, 8), (136, 12)] {
        number(block, at, width, 0);
    }
    number(block, 124, 12, records.len() as u64);
    block[156] = b'x';
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal_checksum(block);
    out.extend_from_slice(records);
    out.resize(out.len() + padding(records.len() as u64), 0);
}

fn text(block: &mut [u8], at: usize, value: &[u8]) {
    block[at..at + value.len()].copy_from_slice(value);
}

/// Octal with a closing zero byte, or GNU's base-256 where the digits do not suffice.
fn number(block: &mut [u8], at: usize, width: usize, value: u64) {
    let digits = width - 1;
    if value >> (3 * digits).min(63) == 0 {
        let octal = format!("{value:0digits$o}");
        text(block, at, octal.as_bytes());
    } else {
        let bytes = value.to_be_bytes();
        let used = bytes.len().min(width);
        block[at + width - used..at + width].copy_from_slice(&bytes[bytes.len() - used..]);
        block[at] = 0x80;
    }
}

fn seal_checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    text(block, 148, format!("{sum:06o}\0 ").as_bytes());
}
