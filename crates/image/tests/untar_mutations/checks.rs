//! What holds for any bytes that are read as an archive: the body of the fuzz target in `fuzz`, and of the
//! test beside this file.

use std::io::{self, Cursor, Read};

use ocib_image::{
    ArchiveCodec, Entry, EntryKind, ExpansionLimit, TarReader, decode_archive, encode_header, is_archive,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// An extended header of 1 MiB with all that is made of it (records, names, a sparse map), or a decoder of
/// a small archive, of which bzip2's takes most: 4 MiB.
const BYTES_MAX: usize = 8 << 20;
/// The dictionary that an xz stream may ask for. The window of zstd is not counted: it is C.
const DICTIONARY_BYTES_MAX: usize = 64 << 20;
/// Less than [`ExpansionLimit::ARCHIVE`], which no input of a test reaches.
const LIMIT: ExpansionLimit = ExpansionLimit { free_bytes: 1 << 20, ratio: 100, most_bytes: 16 << 20 };

/// The bytes are told, decompressed and read to their end or first error; the number of entries that were
/// there, plain or compressed.
pub(crate) fn archive(bytes: &[u8]) -> usize {
    let codec = ArchiveCodec::sniff(bytes);
    let dictionary = if codec == Some(ArchiveCodec::Xz) { DICTIONARY_BYTES_MAX } else { 0 };
    let allocated = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    is_archive(owned(bytes));
    let entries = if codec.is_some() { expanded(bytes) } else { drain(bytes) };
    let peak = ALLOCATED.peak_usage() - allocated;
    let limit = BYTES_MAX + dictionary + bytes.len();
    assert!(peak < limit, "{peak} bytes were allocated for {}", bytes[..bytes.len().min(99)].escape_ascii());
    entries
}

/// The same with right checksums in all headers: few mutations get past them otherwise.
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut archive = bytes.to_vec();
    for block in archive.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        seal(block);
    }
    archive
}

/// Puts the checksum into a header block.
pub(crate) fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn owned(bytes: &[u8]) -> Box<dyn Read + Send> {
    Box::new(Cursor::new(bytes.to_vec()))
}

/// No more comes out than the limit says.
fn expanded(stored: &[u8]) -> usize {
    let most = (stored.len() as u64 * LIMIT.ratio + LIMIT.free_bytes).min(LIMIT.most_bytes);
    if let Ok(mut bytes) = decode_archive(owned(stored), LIMIT) {
        let mut count = Counter(0);
        let _ = io::copy(&mut bytes, &mut count);
        assert!(count.0 <= most, "{} bytes came out of {}", count.0, stored.len());
    }
    decode_archive(owned(stored), LIMIT).map_or(0, drain)
}

struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads all there is; the number of entries. Of contents no more than a MiB each.
fn drain(archive: impl Read) -> usize {
    let mut reader = TarReader::new(archive);
    let mut entries = 0;
    while let Ok(Some(found)) = reader.next_entry() {
        assert!(found.entry.name.len() <= 1 << 16 && found.entry.mode <= 0o7777);
        let size = found.entry.size();
        written_again(found.entry);
        let read = io::copy(&mut reader.content().take(1 << 20), &mut io::sink());
        assert!(read.is_err() || read.is_ok_and(|read| read == size.min(1 << 20)));
        entries += 1;
    }
    assert!(!matches!(reader.next_entry(), Ok(Some(_))), "there is no entry behind the end or an error");
    entries
}

/// What was read can be written and read again, where our writer takes it.
fn written_again(mut entry: Entry) {
    if entry.kind == EntryKind::Directory {
        let name = entry.name.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        entry.name = entry.name[..name].into();
    }
    let mut header = Vec::new();
    // A name that ends in a slash is a directory's, whatever the type says.
    if entry.name.ends_with(b"/") || encode_header(&mut header, &entry).is_err() {
        return;
    }
    let mut again = TarReader::new(&header[..]).next_entry().unwrap().unwrap().entry;
    if again.kind == EntryKind::Directory {
        again.name = again.name.strip_suffix(b"/").unwrap().into();
    }
    assert_eq!(again, entry);
}
