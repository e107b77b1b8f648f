//! Compressed archives: which codec, by content, and never more bytes out of it than is honest.

use std::{
    fmt,
    io::{self, Cursor, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::TarReader;
use crate::Error;

/// The largest dictionary of xz and window of zstd, in bytes, that memory is given for: what `xz -9`
/// writes. Only `zstd --ultra -22` and `--long` go beyond.
const DICTIONARY_BYTES_MAX: u64 = 64 << 20;
/// The same as zstd counts it: a power of two.
const ZSTD_WINDOW_LOG_MAX: u32 = DICTIONARY_BYTES_MAX.ilog2();
/// [`DICTIONARY_BYTES_MAX`] and what the decoder itself needs, in the unit of its interface.
const XZ_MEMORY_KIB: u32 = (DICTIONARY_BYTES_MAX >> 10) as u32 + 256;
/// The magic numbers of the codecs are no longer than this.
const MAGIC_BYTES: u64 = 8;

/// A codec that archives are compressed with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ArchiveCodec {
    /// gzip (RFC 1952), any number of members.
    Gzip,
    /// bzip2, any number of streams.
    Bzip2,
    /// xz, any number of streams.
    Xz,
    /// zstd (RFC 8878), any number of frames.
    Zstd,
}

/// How much may come out of a compressed stream: `free_bytes`, and `ratio` bytes for each that was
/// read, but never more than `most_bytes`. Decoders read ahead by some hundred KiB, which count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpansionLimit {
    /// So many bytes come out of anything.
    pub free_bytes: u64,
    /// Bytes out for each byte in.
    pub ratio: u64,
    /// The limit whatever was read.
    pub most_bytes: u64,
}

impl ExpansionLimit {
    /// For archives that are unpacked. DEFLATE reaches 1,032:1 at most, so gzip is never refused; the
    /// others make much more of zeros, and a GiB of those is decoded in seconds.
    pub const ARCHIVE: Self = Self { free_bytes: 1 << 30, ratio: 1_100, most_bytes: u64::MAX };
    /// For layers of images, which somebody chose and whose digest is known: a disk image of zeros in
    /// one is no attack. What this leaves is decoded within minutes, not for ever.
    pub const LAYER: Self = Self { free_bytes: 64 << 30, ..Self::ARCHIVE };

    fn after(self, read: u64) -> u64 {
        read.saturating_mul(self.ratio).saturating_add(self.free_bytes).min(self.most_bytes)
    }
}

impl ArchiveCodec {
    /// The codec of what begins with `start`, of which 8 bytes are enough; `None` for what none of
    /// them wrote. The magic numbers are those that moby looks for.
    ///
    /// ```
    /// use ocib_image::ArchiveCodec;
    ///
    /// assert_eq!(ArchiveCodec::sniff(b"BZh91AY&SY"), Some(ArchiveCodec::Bzip2));
    /// assert_eq!(ArchiveCodec::sniff(b"etc/passwd"), None);
    /// ```
    pub fn sniff(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            // Skippable frames may come first (RFC 8878, section 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, _, _, _, _, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn decoder(self, stored: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(stored)),
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(stored)),
            Self::Xz => {
                Box::new(lzma_rust2::XzReader::new_mem_limit(io::BufReader::new(stored), true, XZ_MEMORY_KIB))
            }
            Self::Zstd => {
                let mut decoder = zstd::Decoder::new(stored)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        })
    }

    /// Says it in one way when a decoder refuses to take more memory.
    fn explain(self, error: io::Error) -> io::Error {
        let is_memory = match self {
            Self::Xz => error.kind() == io::ErrorKind::OutOfMemory,
            Self::Zstd => error.to_string() == "Frame requires too much memory for decoding",
            Self::Gzip | Self::Bzip2 => false,
        };
        match is_memory {
            true => io::Error::other(Error::DecoderMemory { codec: self, limit: DICTIONARY_BYTES_MAX }),
            false => error,
        }
    }
}

impl fmt::Display for ArchiveCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// The bytes inside `stored`: decompressed if it begins like one of the [`ArchiveCodec`]s, else as
/// they are. Blocks on its first bytes. Reading on fails with an [`Error`] inside the
/// [`io::Error`] past `limit` ([`Error::Expansion`]) and where the decoder would need more than 64
/// MiB ([`Error::DecoderMemory`]).
///
/// # Errors
/// [`Error::UnreadableArchive`] if the first bytes cannot be read.
pub fn decode_archive(
    mut stored: Box<dyn Read + Send>,
    limit: ExpansionLimit,
) -> Result<Box<dyn Read + Send>, Error> {
    let unreadable = |source| Error::UnreadableArchive { offset: 0, source };
    let mut start = Vec::new();
    stored.by_ref().take(MAGIC_BYTES).read_to_end(&mut start).map_err(unreadable)?;
    let codec = ArchiveCodec::sniff(&start);
    let whole = Box::new(Cursor::new(start).chain(stored));
    let decoder = |stored| match codec {
        Some(codec) => codec.decoder(stored),
        None => Ok(stored),
    };
    let bytes = limit_expansion(whole, limit, decoder).map_err(unreadable)?;
    Ok(match codec {
        Some(codec) => Box::new(Explained { codec, bytes }),
        None => bytes,
    })
}

/// Whether a file is an archive that `ADD` unpacks: decompressed by its content its first header can
/// be read, as BuildKit's `isArchivePath` has it. So an empty file, one of zeros and a compressed text
/// are none, and a whole file is needed: of some codecs a MiB must be read before anything comes out. One
/// whose decoder would need too much memory counts as an archive, so that it is refused and not copied.
/// What cannot be read is no archive; whoever reads it again learns why.
///
/// ```
/// use ocib_image::is_archive;
///
/// assert!(!is_archive(Box::new(&[0; 1024][..])));
/// ```
pub fn is_archive(stored: Box<dyn Read + Send>) -> bool {
    let Ok(bytes) = decode_archive(stored, ExpansionLimit::ARCHIVE) else { return false };
    let mut reader = TarReader::new(bytes);
    match reader.next_entry() {
        Ok(Some(_)) => true,
        // An archive all right, which fails when it is unpacked, not a file to copy in silence.
        Err(Error::UnknownEntryType { .. } | Error::ArchiveLimit { .. }) => true,
        // Nobody knows what is in it, and others would unpack it.
        Err(Error::UnreadableArchive { source, .. }) if is_refused(&source) => true,
        // Go takes a global header for an entry.
        _ => reader.has_global_header(),
    }
}

/// Whether a decoder was not given the memory that it asked for.
fn is_refused(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::DecoderMemory { .. }))
}

/// What `decoder` makes of `stored`, within `limit`.
pub(crate) fn limit_expansion<E>(
    stored: Box<dyn Read + Send>,
    limit: ExpansionLimit,
    decoder: impl FnOnce(Box<dyn Read + Send>) -> Result<Box<dyn Read + Send>, E>,
) -> Result<Box<dyn Read + Send>, E> {
    let read = Arc::new(AtomicU64::new(0));
    let counted = Counted { stored, read: Arc::clone(&read) };
    Ok(Box::new(Limited { bytes: decoder(Box::new(counted))?, read, written: 0, limit }))
}

/// Counts what a decoder reads.
struct Counted {
    stored: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.stored.read(buffer)?;
        self.read.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// Fails where a decoder gives more than it should.
struct Limited {
    bytes: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
    written: u64,
    limit: ExpansionLimit,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.bytes.read(buffer)?;
        self.written = self.written.saturating_add(got as u64);
        let read = self.read.load(Ordering::Relaxed);
        let limit = self.limit.after(read);
        match self.written > limit {
            true => Err(io::Error::new(io::ErrorKind::InvalidData, Error::Expansion { read, limit })),
            false => Ok(got),
        }
    }
}

struct Explained {
    codec: ArchiveCodec,
    bytes: Box<dyn Read + Send>,
}

impl Read for Explained {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer).map_err(|error| self.codec.explain(error))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"hello, archive\n";
    const BZIP2: &[u8] = b"BZh91AY&SYY'\x8dg\0\0\x03\xd1\x80\0\x10@\x04*d\x91\0 \x001\x03@\xd0 \x01\xa6\x95\
        \x02x\x8c\x0f\xa58\xf8\xbb\x92)\xc2\x84\x82\xc9<k8";
    const XZ_STREAM: &[u8] = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F";
    const XZ_BLOCK: &[u8] = b"\x01\0\x0ehello, archive\n\0\0\xa4\xb1\xff4\x92we\xdf\
        \0\x01'\x0f\xdf\x1a\xfcj\x1f\xb6\xf3}\x01\0\0\0\0\x04YZ";
    /// Block headers as `xz -9` writes them (64 MiB) and with `--lzma2=dict=128MiB`.
    const XZ_64_MIB: &[u8] = b"\x02\0!\x01\x1c\0\0\0\x10\xcfX\xcc";
    const XZ_128_MIB: &[u8] = b"\x02\0!\x01\x1e\0\0\0\x9b\x07Qf";
    /// Frames of `zstd`, and of `zstd --ultra -22 --long=27`, which asks for 128 MiB.
    const ZSTD: &[u8] = b"(\xb5/\xfd\x04Xy\0\0hello, archive\n\xb4\x18\x05#";
    const ZSTD_128_MIB: &[u8] = b"(\xb5/\xfd\x04\x88y\0\0hello, archive\n\xb4\x18\x05#";
    const ZSTD_SKIPPABLE: &[u8] = b"\x5a\x2a\x4d\x18\x03\0\0\0abc";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(block: &[u8]) -> Vec<u8> {
        [XZ_STREAM, block, XZ_BLOCK].concat()
    }

    fn decoded(stored: Vec<u8>, limit: ExpansionLimit) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut reader = decode_archive(Box::new(Cursor::new(stored)), limit).map_err(|e| e.to_string())?;
        reader.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn decodes_what_is_told_by_content() {
        for (stored, codec) in [
            (gzip(TEXT), Some(ArchiveCodec::Gzip)),
            (BZIP2.to_vec(), Some(ArchiveCodec::Bzip2)),
            (xz(XZ_64_MIB), Some(ArchiveCodec::Xz)),
            (ZSTD.to_vec(), Some(ArchiveCodec::Zstd)),
            ([ZSTD_SKIPPABLE, ZSTD].concat(), Some(ArchiveCodec::Zstd)),
            (TEXT.to_vec(), None),
            (vec![], None),
            (vec![0x1f, 0x8b], None),
            (b"BZ".to_vec(), None),
        ] {
            assert_eq!(ArchiveCodec::sniff(&stored), codec);
            let text = if codec.is_some() { TEXT } else { &stored };
            assert_eq!(decoded(stored.clone(), ExpansionLimit::ARCHIVE).as_deref(), Ok(text), "{codec:?}");
            // Members, streams and frames are joined.
            let twice = decoded(stored.repeat(2), ExpansionLimit::ARCHIVE);
            assert_eq!(twice, Ok(text.repeat(2)), "{codec:?}");
        }
    }

    #[test]
    fn truncated_streams_are_errors() {
        for stored in [gzip(TEXT), BZIP2.to_vec(), xz(XZ_64_MIB), ZSTD.to_vec()] {
            for length in 8..stored.len() {
                let codec = ArchiveCodec::sniff(&stored).unwrap();
                let cut = decoded(stored[..length].to_vec(), ExpansionLimit::ARCHIVE);
                assert!(cut.is_err(), "{codec} of {length} bytes gives {cut:?}");
            }
        }
    }

    #[test]
    fn decoders_get_no_more_than_64_mib() {
        for (stored, codec) in [(xz(XZ_128_MIB), "xz"), (ZSTD_128_MIB.to_vec(), "zstd")] {
            let expected = format!("the {codec} stream needs more than 67108864 bytes of memory to be read");
            assert_eq!(decoded(stored, ExpansionLimit::ARCHIVE), Err(expected));
        }
    }

    #[test]
    fn bombs_are_refused() {
        let zeros = vec![0; 4 << 20];
        let limit = |free_bytes, ratio, most_bytes| ExpansionLimit { free_bytes, ratio, most_bytes };
        for stored in [gzip(&zeros), zstd::bulk::compress(&zeros, 3).unwrap()] {
            let read = stored.len() as u64;
            let refused = |limit| {
                format!(
                    "{read} compressed bytes became more than {limit} bytes, which no honest archive does"
                )
            };
            for (limit, expected) in [
                (ExpansionLimit::ARCHIVE, Ok(zeros.len())),
                (limit(4 << 20, 0, u64::MAX), Ok(zeros.len())),
                (limit((4 << 20) - 1, 0, u64::MAX), Err(refused((4 << 20) - 1))),
                (limit(1 << 20, 10, u64::MAX), Err(refused((1 << 20) + 10 * read))),
                (limit(u64::MAX, 10, 1 << 20), Err(refused(1 << 20))),
            ] {
                assert_eq!(decoded(stored.clone(), limit).map(|bytes| bytes.len()), expected);
            }
        }
        // What is not compressed has no ratio, but its cap.
        assert_eq!(decoded(TEXT.to_vec(), limit(0, 1, u64::MAX)).as_deref(), Ok(TEXT));
        assert!(decoded(TEXT.to_vec(), limit(0, 1, 3)).is_err());
    }

    #[test]
    fn gzip_cannot_reach_the_ratio() {
        let zeros = vec![0; 16 << 20];
        let limit = ExpansionLimit { free_bytes: 0, ..ExpansionLimit::ARCHIVE };
        assert_eq!(decoded(gzip(&zeros), limit).map(|bytes| bytes.len()), Ok(zeros.len()));
    }

    /// A header block of a file, with another type flag.
    fn header(flag: u8) -> Vec<u8> {
        let mut block = vec![0; 512];
        block[..4].copy_from_slice(b"file");
        block[156] = flag;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        block
    }

    #[test]
    fn archives_are_told_by_their_first_header() {
        let file = header(b'0');
        let mut broken = file.clone();
        broken[0] = b'g';
        for (stored, expected) in [
            (file.clone(), true),
            (file[..511].to_vec(), false),
            (broken, false),
            (header(b'V'), true),
            (header(b'g'), true),
            ([header(b'g'), vec![1; 512]].concat(), true),
            (header(b'x'), false),
            ([header(b'x'), file.clone()].concat(), true),
            (vec![], false),
            (vec![0; 1024], false),
            (vec![0; 65_536], false),
            (TEXT.to_vec(), false),
            (gzip(&file), true),
            (gzip(&file)[..20].to_vec(), false),
            (gzip(TEXT), false),
            (gzip(&[0; 1024]), false),
            (zstd::bulk::compress(&file, 3).unwrap(), true),
            (BZIP2.to_vec(), false),
            (xz(XZ_64_MIB), false),
            (xz(XZ_128_MIB), true),
            (ZSTD_128_MIB.to_vec(), true),
            (b"BZh9".to_vec(), false),
        ] {
            let shown = stored[..stored.len().min(20)].escape_ascii().to_string();
            assert_eq!(is_archive(Box::new(Cursor::new(stored))), expected, "{shown}");
        }
    }
}
