//! A pack while it arrives: written down, taken apart, and each object named (gitformat-pack).
//!
//! One pass writes the pack to the spool, inflates each object to find its end, and names those that
//! are whole. Then [`resolve`](super::resolve) undoes the deltas.

use std::{
    fs::File,
    io::{self, BufRead, BufWriter, Read, Write},
};

use flate2::{Decompress, FlushDecompress, Status};
use sha1::{Digest as _, Sha1};

use super::{
    oid::{Kind, Namer, Oid},
    problem::{Failure, GitProblem},
};
use crate::Error;

/// What stands in a pack needs some hundred bytes of memory while it is read; the largest public
/// repositories have a million files at one commit.
const OBJECTS_MAX: u64 = 8_000_000;
const BUFFER_BYTES: usize = 64 << 10;

/// One object of a pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Packed {
    /// Where its head is.
    pub(super) start: u64,
    /// Where its deflated data is.
    pub(super) data: u64,
    /// Bytes of the data once inflated: of the object, or of its delta.
    pub(super) size: u64,
    pub(super) form: Form,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Whole(Kind, Oid),
    /// A delta for the object whose head is there.
    OffsetDelta(u64),
    /// A delta for the object of that name.
    NamedDelta(Oid),
}

/// Writes the pack that `input` brings to `spool` and says what is in it, in the order of the pack, and
/// how many bytes it has. `failed` is what it means when the spool cannot be written.
pub(super) fn receive(
    input: impl Read,
    spool: &File,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<(Vec<Packed>, u64), Failure> {
    let mut tee = Tee {
        inner: input,
        buffer: vec![0; BUFFER_BYTES],
        rest: 0..0,
        spool: BufWriter::new(spool),
        hasher: Sha1::new(),
        offset: 0,
        unwritten: None,
        failed,
    };
    let objects = objects(&mut tee)?;
    let computed: [u8; Oid::BYTES] = tee.hasher.clone().finalize().into();
    if tee.array()? != computed {
        return Err(tee.broken("its checksum is another"));
    }
    if !tee.fill_buf()?.is_empty() {
        return Err(tee.broken("something follows it"));
    }
    tee.spool.flush().map_err(|error| io::Error::other(failed(error)))?;
    Ok((objects, tee.offset))
}

fn objects(tee: &mut Tee<'_, impl Read>) -> Result<Vec<Packed>, Failure> {
    let [magic, version, count]: [[u8; 4]; 3] = [tee.array()?, tee.array()?, tee.array()?];
    if &magic != b"PACK" || !matches!(u32::from_be_bytes(version), 2 | 3) {
        return Err(tee.broken("it is no pack of version 2 or 3"));
    }
    let count = u64::from(u32::from_be_bytes(count));
    if count > OBJECTS_MAX {
        return Err(GitProblem::Limit { what: "a pack with objects", limit: OBJECTS_MAX }.into());
    }
    let mut inflater = Inflater::new();
    let mut objects = Vec::new();
    for _ in 0..count {
        objects.push(object(tee, &mut inflater)?);
    }
    Ok(objects)
}

fn object(tee: &mut Tee<'_, impl Read>, inflater: &mut Inflater) -> Result<Packed, Failure> {
    let start = tee.offset;
    let (kind, size) = head(tee)?;
    let kind = match kind {
        1 => Ok(Kind::Commit),
        2 => Ok(Kind::Tree),
        3 => Ok(Kind::Blob),
        4 => Ok(Kind::Tag),
        6 => Err(Form::OffsetDelta(base_offset(tee, start)?)),
        7 => Err(Form::NamedDelta(Oid::new(tee.array()?))),
        _ => return Err(tee.broken("an object is of no known type")),
    };
    let data = tee.offset;
    let form = match kind {
        Ok(kind) => {
            let mut namer = Namer::new(kind, size);
            inflater.inflate(tee, size, &mut namer).map_err(|error| error.at(tee.offset))?;
            Form::Whole(kind, namer.finish())
        }
        Err(form) => {
            inflater.inflate(tee, size, &mut io::sink()).map_err(|error| error.at(tee.offset))?;
            form
        }
    };
    Ok(Packed { start, data, size, form })
}

/// Type and size: four bits of the size beside the type, then seven a byte, the lowest first.
fn head(tee: &mut Tee<'_, impl Read>) -> Result<(u8, u64), Failure> {
    let [first] = tee.array()?;
    let (kind, mut size, mut shift, mut more) = (first >> 4 & 7, u64::from(first & 15), 4, first >= 128);
    while more {
        let [byte] = tee.array()?;
        if shift > 53 {
            return Err(tee.broken("an object has a size that no object has"));
        }
        size |= u64::from(byte & 0x7f) << shift;
        (shift, more) = (shift + 7, byte >= 128);
    }
    Ok((kind, size))
}

/// How far before `start` the base is: seven bits a byte, the highest first, and one more for each
/// further byte.
fn base_offset(tee: &mut Tee<'_, impl Read>, start: u64) -> Result<u64, Failure> {
    let [byte] = tee.array()?;
    let (mut distance, mut more) = (u64::from(byte & 0x7f), byte >= 128);
    while more {
        let [byte] = tee.array()?;
        if distance >= 1 << 55 {
            return Err(tee.broken("the base of a delta is not before it"));
        }
        distance = (distance + 1) << 7 | u64::from(byte & 0x7f);
        more = byte >= 128;
    }
    match start.checked_sub(distance) {
        Some(base) if distance > 0 => Ok(base),
        _ => Err(tee.broken("the base of a delta is not before it")),
    }
}

/// Inflates one object after another.
pub(super) struct Inflater {
    state: Decompress,
    out: Vec<u8>,
}

/// Why an object could not be inflated.
pub(super) enum InflateError {
    Broken(&'static str),
    Io(io::Error),
}

impl From<io::Error> for InflateError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl InflateError {
    pub(super) fn at(self, offset: u64) -> Failure {
        match self {
            Self::Broken(why) => GitProblem::BadPack { offset, why }.into(),
            Self::Io(error) => super::pkt::recovered(error),
        }
    }
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { state: Decompress::new(true), out: vec![0; BUFFER_BYTES] }
    }

    /// Takes what belongs to one object out of `input`, and not a byte more. It must have `size` bytes.
    pub(super) fn inflate(
        &mut self,
        input: &mut impl BufRead,
        size: u64,
        into: &mut impl Write,
    ) -> Result<(), InflateError> {
        self.state.reset(true);
        let mut left = size;
        loop {
            let bytes = input.fill_buf()?;
            let (taken, made) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(bytes, &mut self.out, FlushDecompress::None);
            let status = status.map_err(|_| InflateError::Broken("the data of an object is not deflated"))?;
            let taken = usize::try_from(self.state.total_in() - taken).unwrap_or_default();
            let made = self.state.total_out() - made;
            input.consume(taken);
            left = left.checked_sub(made).ok_or(InflateError::Broken("an object is longer than it says"))?;
            into.write_all(&self.out[..usize::try_from(made).unwrap_or_default()])?;
            match status {
                Status::StreamEnd if left == 0 => return Ok(()),
                Status::StreamEnd => return Err(InflateError::Broken("an object is shorter than it says")),
                _ if taken == 0 && made == 0 => {
                    return Err(InflateError::Broken("it ends in the middle of an object"));
                }
                _ => {}
            }
        }
    }
}

/// Writes down and hashes whatever is taken.
struct Tee<'a, R> {
    inner: R,
    buffer: Vec<u8>,
    /// What of the buffer was not taken yet.
    rest: std::ops::Range<usize>,
    spool: BufWriter<&'a File>,
    hasher: Sha1,
    /// How much was taken.
    offset: u64,
    /// Why something that was taken is not in the spool.
    unwritten: Option<io::Error>,
    failed: &'a dyn Fn(io::Error) -> Error,
}

impl<R: Read> Tee<'_, R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let mut array = [0; N];
        match self.read_exact(&mut array) {
            Ok(()) => Ok(array),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.broken("it ends early")),
            Err(error) => Err(super::pkt::recovered(error)),
        }
    }

    fn broken(&self, why: &'static str) -> Failure {
        GitProblem::BadPack { offset: self.offset, why }.into()
    }
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.fill_buf()?;
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.consume(taken);
        Ok(taken)
    }
}

impl<R: Read> BufRead for Tee<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(error) = self.unwritten.take() {
            return Err(io::Error::other((self.failed)(error)));
        }
        if self.rest.is_empty() {
            self.rest = 0..self.inner.read(&mut self.buffer)?;
        }
        Ok(&self.buffer[self.rest.clone()])
    }

    fn consume(&mut self, bytes: usize) {
        let taken = &self.buffer[self.rest.start..self.rest.start + bytes];
        self.hasher.update(taken);
        if let Err(error) = self.spool.write_all(taken) {
            self.unwritten = Some(error);
        }
        self.rest.start += bytes;
        self.offset += bytes as u64;
    }
}
