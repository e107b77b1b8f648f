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
/// are none, and a whole file is needed: of some codecs a MiB must be read before anything comes out.
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
        // Go takes a global header for an entry.
        _ => reader.has_global_header(),
    }
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
