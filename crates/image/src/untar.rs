//! Reading tar archives as a stream, from whoever made them.
//!
//! Read are V7, ustar, GNU's format (long names, numbers in base 256, sparse files), star's, and PAX.
//! Where those leave choices, or broken archives are about, [`TarReader`] decides as Go's archive/tar
//! and containerd do, because they are what unpacks an image in the end: two readers that disagree
//! are how a file gets past the one that checks. So
//!
//! - a PAX header replaces the one before it, and GNU's long names win over it;
//! - a global PAX header is checked and otherwise ignored;
//! - links, directories and devices have no content, whatever size they claim;
//! - archives end with two blocks of zeros, or where the stream ends between two entries.
//!
//! It differs where containerd refuses what other readers take: contiguous files (type 7) are files,
//! as POSIX says, and GNU's old sparse files (type S) are read. And it is stricter in one point: a
//! stream that ends between an extended header and its entry is an error.
//!
//! Nothing is believed before it came: memory for an entry is bounded by the constants here, however
//! large the sizes that it claims. The holes of a sparse file cost the archive nothing, so whoever
//! writes contents out bounds their size.

mod compressed;
mod entry;
mod header;
mod pax;
mod sparse;

use std::{
    fmt,
    io::{self, Read},
};

pub(crate) use compressed::limit_expansion;
pub use compressed::{ArchiveCodec, ExpansionLimit, decode_archive, is_archive};

use self::{
    header::{BLOCK, Header},
    pax::Records,
    sparse::{Next, SparseMap},
};
use crate::{Entry, Error};

/// The longest extended header (PAX records, GNU long name), in bytes: the limit of libarchive and
/// Go. It bounds the extended attributes of an entry too, as they come in one such header.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Extended headers before one entry. GNU tar writes two, Go reads any number.
const EXTENSIONS_MAX: u32 = 16;
/// All headers of one entry, in bytes: those of the longest row that a writer has reason for.
const HEADER_BYTES_MAX: u64 = 4 << 20;
/// The longest name or link target, in bytes, as [`crate::TarWriter`] has it; Linux stops at 4,096.
const NAME_BYTES_MAX: usize = 1 << 16;
/// Pieces of a sparse file: 1 MiB of memory.
const SPARSE_PIECES_MAX: usize = 1 << 16;
/// Content that nobody reads is skipped in pieces of this size.
const SKIP_BYTES: usize = 64 << 10;

/// Reads a tar archive from front to back; never seeks, reads no byte twice, buffers nothing.
///
/// ```
/// use std::io::Read;
/// use ocib_image::{Entry, EntryKind, TarReader, TarWriter, Timestamp};
///
/// let kind = EntryKind::File { size: 5 };
/// let name = b"etc/motd".as_slice().into();
/// let entry = Entry { name, kind, mode: 0o644, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: None };
/// let mut writer = TarWriter::new(Vec::new());
/// writer.file(&entry, &mut &b"hello"[..], &|| "/etc/motd".to_owned())?;
/// let archive = writer.finish()?;
///
/// let mut reader = TarReader::new(&archive[..]);
/// let first = reader.next_entry()?.ok_or("an entry")?;
/// assert_eq!((first.entry, first.offset), (entry, Some(512)));
/// let mut content = String::new();
/// reader.content().read_to_string(&mut content)?;
/// assert_eq!(content, "hello");
/// assert!(reader.next_entry()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TarReader<R> {
    input: R,
    /// Bytes of the archive read so far.
    position: u64,
    body: Body,
    state: State,
    has_global_header: bool,
    scratch: Vec<u8>,
}

/// An entry that a [`TarReader`] came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TarEntry {
    /// What its headers say. Names and link targets are as in the archive, cleaned of nothing: they
    /// may be empty, absolute, climb out with `..`, end in a slash, and be no UTF-8. Modes are cut to
    /// 12 bits. Extended attributes are sorted by name and not empty if there.
    pub entry: Entry,
    /// Where in the archive its content starts, in bytes, if it lies there in one piece: `None` for
    /// sparse files, which only [`TarReader::content`] can put together.
    pub offset: Option<u64>,
    /// The type of a file whose type is not `0`: `7`, or `S`. containerd unpacks neither.
    pub odd_type: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Failed,
}

/// What follows a header.
#[derive(Default)]
struct Body {
    /// Bytes in the archive that were not read yet.
    stored: u64,
    /// What fills the last block behind them.
    padding: usize,
    sparse: Option<SparseMap>,
}

/// What came before the header of an entry.
#[derive(Default)]
struct Extensions {
    records: Records,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// Extended headers in a row.
    count: u32,
    /// Whether they say something of the next entry.
    is_pending: bool,
}

/// What is wrong with an archive, at a place that whoever reads it knows.
enum Flaw {
    Bad(String),
    Limit { what: &'static str, limit: u64 },
}

impl<R: Read> TarReader<R> {
    /// A reader of the archive that starts where `input` is. Headers are read one block of 512 bytes
    /// at a time: buffer what answers slowly.
    pub fn new(input: R) -> Self {
        Self {
            input,
            position: 0,
            body: Body::default(),
            state: State::Reading,
            has_global_header: false,
            scratch: Vec::new(),
        }
    }

    /// Goes to the next entry, past what is unread of the current one; `None` behind the last. After
    /// an error there is nothing but errors. Blocks on the input.
    ///
    /// # Errors
    /// [`Error::UnreadableArchive`], [`Error::TruncatedArchive`], [`Error::BadArchive`],
    /// [`Error::ArchiveLimit`] and [`Error::UnknownEntryType`]. The offsets in them are those of the
    /// header in question, or of the end of the stream.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, Error> {
        match self.state {
            State::Reading => {}
            State::Ended => return Ok(None),
            State::Failed => return Err(Flaw::bad("it failed before and cannot go on").at(self.position)),
        }
        let result = self.advance();
        self.state = match result {
            Ok(Some(_)) => State::Reading,
            Ok(None) => State::Ended,
            Err(_) => State::Failed,
        };
        result
    }

    /// The content of the current entry, from where the last such reader stopped; of entries other
    /// than files, and before the first one, there is none. Errors of the input are passed on as
    /// they are; an archive that ends too early is [`io::ErrorKind::UnexpectedEof`] around an
    /// [`Error::TruncatedArchive`].
    pub fn content(&mut self) -> impl Read + '_ {
        Content(self)
    }

    /// The input, behind what was read of it so far. Behind the last entry that is the end of the
    /// archive, which need not be the end of the stream.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Whether a global PAX header was read.
    fn has_global_header(&self) -> bool {
        self.has_global_header
    }

    fn advance(&mut self) -> Result<Option<TarEntry>, Error> {
        if !self.skip_body()? {
            return Ok(None);
        }
        let start = self.position;
        let mut extensions = Extensions::default();
        loop {
            let at = self.position;
            let Some(header) = self.read_header()? else {
                return match extensions.is_pending {
                    false => Ok(None),
                    true => Err(Error::TruncatedArchive { offset: at, what: "the headers of an entry" }),
                };
            };
            if !matches!(header.type_flag(), b'x' | b'g' | b'L' | b'K') {
                return self.begin_entry(start, at, &header, extensions).map(Some);
            }
            extensions.count += 1;
            if extensions.count > EXTENSIONS_MAX {
                let what = "the number of extended headers before an entry";
                return Err(Flaw::Limit { what, limit: EXTENSIONS_MAX.into() }.at(at));
            }
            let body = self.read_extension(at, &header)?;
            extensions.take(header.type_flag(), &body).map_err(|flaw| flaw.at(at))?;
            self.has_global_header |= !extensions.is_pending;
            self.check_header_bytes(start)?;
            self.skip_body()?;
        }
    }

    /// The next header; `None` at the end of the archive.
    fn read_header(&mut self) -> Result<Option<Header>, Error> {
        let at = self.position;
        let Some(block) = self.read_block("a header")? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Header::parse(block).map(Some).map_err(|flaw| flaw.at(at));
        }
        match self.read_block("the blocks of zeros that end it")? {
            Some(second) if second != [0; BLOCK] => {
                Err(Flaw::bad("a block of zeros is followed by something else than another one").at(at))
            }
            _ => Ok(None),
        }
    }

    /// The next block; `None` where the stream ends before it.
    fn read_block(&mut self, what: &'static str) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(Error::TruncatedArchive { offset: self.position, what }),
        }
    }

    fn read_extension(&mut self, at: u64, header: &Header) -> Result<Vec<u8>, Error> {
        let size = header.size().and_then(unsigned_size).map_err(|flaw| flaw.at(at))?;
        if size > EXTENSION_BYTES_MAX {
            let what = "the size of an extended header in bytes";
            return Err(Flaw::Limit { what, limit: EXTENSION_BYTES_MAX }.at(at));
        }
        self.body = Body { stored: 0, padding: padding(size), sparse: None };
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(size).read_to_end(&mut bytes);
        self.position += bytes.len() as u64;
        match read {
            Err(source) => Err(Error::UnreadableArchive { offset: self.position, source }),
            Ok(_) if (bytes.len() as u64) < size => {
                Err(Error::TruncatedArchive { offset: self.position, what: "an extended header" })
            }
            Ok(_) => Ok(bytes),
        }
    }

    fn check_header_bytes(&self, start: u64) -> Result<(), Error> {
        match self.position - start {
            0..=HEADER_BYTES_MAX => Ok(()),
            _ => {
                let what = "the size of an entry's headers in bytes";
                Err(Flaw::Limit { what, limit: HEADER_BYTES_MAX }.at(start))
            }
        }
    }

    /// Goes to the end of what follows the current header. `false` if the stream ends in the padding,
    /// which Go lets pass.
    fn skip_body(&mut self) -> Result<bool, Error> {
        let Body { stored, padding, .. } = std::mem::take(&mut self.body);
        self.scratch.resize(SKIP_BYTES, 0);
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut left = stored;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(scratch.len());
            let got = self.fill(&mut scratch[..wanted])?;
            if got < wanted {
                return Err(Error::TruncatedArchive { offset: self.position, what: CONTENT });
            }
            left -= got as u64;
        }
        let got = self.fill(&mut scratch[..padding])?;
        self.scratch = scratch;
        Ok(got == padding)
    }

    /// Reads until `buffer` is full or the stream ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::UnreadableArchive { offset: self.position + filled as u64, source });
                }
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let next = match &mut self.body.sparse {
            Some(map) => map.next(),
            None if self.body.stored > 0 => Next::Stored(self.body.stored),
            None => Next::End,
        };
        let cut = |most: u64| usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let got = match next {
            Next::End => return Ok(0),
            Next::Zeros(most) => {
                let zeros = cut(most);
                buffer[..zeros].fill(0);
                zeros
            }
            Next::Stored(most) => {
                let wanted = cut(most);
                let got = self.input.read(&mut buffer[..wanted])?;
                if got == 0 && wanted > 0 {
                    let error = Error::TruncatedArchive { offset: self.position, what: CONTENT };
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
                }
                self.position += got as u64;
                self.body.stored -= got as u64;
                got
            }
        };
        if let Some(map) = &mut self.body.sparse {
            map.advance(got as u64);
        }
        Ok(got)
    }
}

const CONTENT: &str = "the content of an entry";

struct Content<'a, R>(&'a mut TarReader<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_content(buffer)
    }
}

impl<R> fmt::Debug for TarReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarReader").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Extensions {
    fn take(&mut self, flag: u8, body: &[u8]) -> Result<(), Flaw> {
        let name = || Some(header::text(body).to_vec()).filter(|name| !name.is_empty());
        self.is_pending = true;
        match flag {
            b'x' => self.records = Records::parse(body)?,
            b'L' => self.long_name = name(),
            b'K' => self.long_link = name(),
            _ => {
                Records::parse(body)?;
                // Go gives a global header out as an entry, which ends the row before it.
                *self = Self { count: self.count, ..Self::default() };
            }
        }
        Ok(())
    }
}

fn unsigned_size(size: i64) -> Result<u64, Flaw> {
    u64::try_from(size).map_err(|_| Flaw::Bad(format!("an entry has the size {size}, expected none below 0")))
}

fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

impl Flaw {
    fn bad(why: &str) -> Self {
        Self::Bad(why.to_owned())
    }

    fn at(self, offset: u64) -> Error {
        match self {
            Self::Bad(why) => Error::BadArchive { offset, why },
            Self::Limit { what, limit } => Error::ArchiveLimit { offset, what, limit },
        }
    }
}

#[cfg(test)]
mod tests;
