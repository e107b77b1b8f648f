//! Deltas: how an object is made out of another one (gitformat-pack).

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
};

/// Bytes that are moved at a time.
const PIECE_BYTES: usize = 32 << 10;
/// Bases up to this size are held in memory while deltas are undone.
const HELD_BYTES_MAX: u64 = 4 << 20;

/// What a delta copies from: an object that lies in a file as it is.
pub(super) struct Base<'a> {
    file: &'a File,
    offset: u64,
    size: u64,
    held: Option<Vec<u8>>,
}

/// Why a delta could not be undone.
#[derive(Debug)]
pub(super) enum DeltaError {
    /// It breaks this rule.
    Broken(&'static str),
    Io(io::Error),
}

impl From<io::Error> for DeltaError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Broken("a delta ends in the middle of an instruction"),
            _ => Self::Io(error),
        }
    }
}

impl<'a> Base<'a> {
    /// The `size` bytes at `offset` of `file`.
    pub(super) fn new(file: &'a File, offset: u64, size: u64) -> io::Result<Self> {
        let mut held = None;
        if size <= HELD_BYTES_MAX {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
            file.read_exact_at(&mut bytes, offset)?;
            held = Some(bytes);
        }
        Ok(Self { file, offset, size, held })
    }

    fn copy(&self, from: u64, bytes: u64, into: &mut impl Write) -> io::Result<()> {
        if let Some(held) = &self.held {
            let start = usize::try_from(from).unwrap_or(usize::MAX);
            return into.write_all(&held[start..start + usize::try_from(bytes).unwrap_or_default()]);
        }
        let mut piece = [0; PIECE_BYTES];
        let (mut at, end) = (self.offset + from, self.offset + from + bytes);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            self.file.read_exact_at(&mut piece[..wanted], at)?;
            into.write_all(&piece[..wanted])?;
            at += wanted as u64;
        }
        Ok(())
    }
}

/// A delta whose head was read.
pub(super) struct Delta<R> {
    instructions: R,
    base_size: u64,
    /// How large the object is.
    pub(super) size: u64,
}

impl<R: Read> Delta<R> {
    pub(super) fn begin(mut instructions: R) -> Result<Self, DeltaError> {
        let (base_size, size) = (number(&mut instructions)?, number(&mut instructions)?);
        Ok(Self { instructions, base_size, size })
    }

    /// Writes the object.
    pub(super) fn apply(mut self, base: &Base<'_>, into: &mut impl Write) -> Result<(), DeltaError> {
        if self.base_size != base.size {
            return Err(DeltaError::Broken("a delta is for a base of another size"));
        }
        let mut left = self.size;
        let mut inserted = [0; 127];
        while let Some(instruction) = first_byte(&mut self.instructions)? {
            let bytes = match instruction {
                0 => return Err(DeltaError::Broken("a delta has an instruction that is reserved")),
                1..=127 => u64::from(instruction),
                _ => 0,
            };
            if instruction < 128 {
                left = checked(left, bytes)?;
                let inserted = &mut inserted[..usize::from(instruction)];
                self.instructions.read_exact(inserted)?;
                into.write_all(inserted)?;
                continue;
            }
            let (from, bytes) = span(instruction, &mut self.instructions)?;
            if from + bytes > base.size {
                return Err(DeltaError::Broken("a delta copies from behind the end of its base"));
            }
            left = checked(left, bytes)?;
            base.copy(from, bytes, into)?;
        }
        match left {
            0 => Ok(()),
            _ => Err(DeltaError::Broken("a delta makes less than it says")),
        }
    }
}

fn checked(left: u64, bytes: u64) -> Result<u64, DeltaError> {
    left.checked_sub(bytes).ok_or(DeltaError::Broken("a delta makes more than it says"))
}

/// Offset and size of a copy: of each the bytes that the instruction's bits name; size 0 is 65536.
fn span(instruction: u8, bytes: &mut impl Read) -> Result<(u64, u64), DeltaError> {
    let mut value = 0_u64;
    for bit in 0..7 {
        if instruction >> bit & 1 == 1 {
            value |= u64::from(byte(bytes)?) << (8 * bit);
        }
    }
    let (from, size) = (value & 0xffff_ffff, value >> 32);
    Ok((from, if size == 0 { 0x1_0000 } else { size }))
}

/// Seven bits a byte, the lowest first.
fn number(bytes: &mut impl Read) -> Result<u64, DeltaError> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = byte(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    Err(DeltaError::Broken("a delta has a size that no object has"))
}

fn byte(bytes: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    bytes.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// A byte, or `None` at the end.
fn first_byte(bytes: &mut impl Read) -> io::Result<Option<u8>> {
    let mut byte = [0];
    Ok((bytes.read(&mut byte)? == 1).then_some(byte[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").and_then(|()| file.write_all(base)).unwrap();
        let shown = |error| match error {
            DeltaError::Broken(why) => why.to_owned(),
            DeltaError::Io(error) => error.to_string(),
        };
        let mut results = Vec::new();
        // What is held in memory and what is not must be the same.
        for is_held in [true, false] {
            let mut base = Base::new(&file, 6, base.len() as u64).unwrap();
            base.held = base.held.filter(|_| is_held);
            let mut out = Vec::new();
            let done = Delta::begin(delta).and_then(|delta| delta.apply(&base, &mut out));
            results.push(done.map(|()| out).map_err(shown));
        }
        assert_eq!(results[0], results[1]);
        results.swap_remove(0)
    }

    #[test]
    fn copies_and_insertions() {
        let large: Vec<u8> = (0..70_000_u32).map(|i| i as u8).collect();
        let size = [0xf0, 0xa2, 0x04];
        let whole = [&size[..], &[0x80, 0x80, 0x04], &[0x80]].concat();
        for (base, delta, expected) in [
            (&b"abcdef"[..], &[6, 3, 0x91, 1, 3][..], Ok(b"bcd".to_vec())),
            (b"abcdef", &[6, 4, 2, b'x', b'y', 0x91, 4, 2], Ok(b"xyef".to_vec())),
            (b"", &[0, 0], Ok(vec![])),
            (b"", &[0, 1, 1, b'a'], Ok(b"a".to_vec())),
            (&large, &whole, Ok(large[..65536].to_vec())),
            (b"abc", &[4, 0], Err("a delta is for a base of another size")),
            (b"abc", &[3, 1, 0], Err("a delta has an instruction that is reserved")),
            (b"abc", &[3, 1, 0x91, 3, 1], Err("a delta copies from behind the end of its base")),
            (
                b"abc",
                &[3, 9, 0x9f, 255, 255, 255, 255, 1],
                Err("a delta copies from behind the end of its base"),
            ),
            (b"abc", &[3, 9, 0x80], Err("a delta copies from behind the end of its base")),
            (b"abc", &[3, 1, 0x90, 2], Err("a delta makes more than it says")),
            (b"abc", &[3, 1, 2, b'a', b'b'], Err("a delta makes more than it says")),
            (b"abc", &[3, 4, 0x90, 2], Err("a delta makes less than it says")),
            (b"abc", &[3, 3, 3, b'a'], Err("a delta ends in the middle of an instruction")),
            (b"abc", &[3, 3, 0x90], Err("a delta ends in the middle of an instruction")),
            (b"abc", &[3], Err("a delta ends in the middle of an instruction")),
            (b"abc", &[255; 10], Err("a delta has a size that no object has")),
        ] {
            assert_eq!(applied(base, delta), expected.map_err(str::to_owned), "{delta:?}");
        }
    }
}
