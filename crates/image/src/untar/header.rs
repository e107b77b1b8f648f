//! One header block: which format it is of, and what its fields say.
//!
//! Layouts: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar's `tar.h`; star(4). The choices
//! where those leave some are Go's (archive/tar `format.go` and `strconv.go`), since Go programs
//! unpack nearly all layers there are.

use super::Flaw;

pub(super) const BLOCK: usize = 512;

/// Fields of a block, by the place of their first byte and their width.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 8);
const UID: (usize, usize) = (108, 8);
const GID: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MTIME: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const TYPE_FLAG: usize = 156;
const LINK: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 8);
const MAJOR: (usize, usize) = (329, 8);
const MINOR: (usize, usize) = (337, 8);
const USTAR_PREFIX: (usize, usize) = (345, 155);
const STAR_PREFIX: (usize, usize) = (345, 131);
const STAR_TRAILER: (usize, usize) = (508, 4);
const GNU_ATIME: (usize, usize) = (345, 12);
const GNU_CTIME: (usize, usize) = (357, 12);
/// GNU's old sparse map: four places of data, and whether more blocks of them follow.
const GNU_SPARSE: (usize, usize) = (386, 4 * 24 + 1);
const GNU_REAL_SIZE: (usize, usize) = (483, 12);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    V7,
    Ustar,
    Gnu,
    Star,
}

/// A block whose checksum is right.
pub(super) struct Header {
    block: [u8; BLOCK],
    format: Format,
}

impl Header {
    /// Checks the sum and finds the format.
    pub(super) fn parse(block: [u8; BLOCK]) -> Result<Self, Flaw> {
        let written = octal(part(&block, CHECKSUM));
        let [unsigned, signed] = checksums(&block);
        if written != Some(unsigned) && written != Some(signed) {
            let found = String::from_utf8_lossy(part(&block, CHECKSUM)).into_owned();
            return Err(Flaw::Bad(format!(
                "a header has the checksum {found:?}, expected {unsigned:o} (octal)"
            )));
        }
        let format = match part(&block, MAGIC) {
            b"ustar  \0" => Format::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] => match part(&block, STAR_TRAILER) {
                b"tar\0" => Format::Star,
                _ => Format::Ustar,
            },
            _ => Format::V7,
        };
        Ok(Self { block, format })
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[TYPE_FLAG]
    }

    /// The name with its prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(self.field(NAME));
        let prefix = match self.format {
            Format::V7 => &[],
            Format::Ustar => text(self.field(USTAR_PREFIX)),
            Format::Star => text(self.field(STAR_PREFIX)),
            Format::Gnu => self.misplaced_prefix(),
        };
        match prefix {
            [] => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    /// GNU's format has times where ustar has the prefix, but Go before 1.8 wrote a prefix there
    /// (golang/go#12594, #21005): what is no time is taken for that.
    fn misplaced_prefix(&self) -> &[u8] {
        let is_time = |field| self.field(field)[0] == 0 || number(self.field(field)).is_some();
        let prefix = text(self.field(USTAR_PREFIX));
        if is_time(GNU_ATIME) && is_time(GNU_CTIME) || !prefix.is_ascii() { &[] } else { prefix }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(self.field(LINK))
    }

    pub(super) fn mode(&self) -> Result<i64, Flaw> {
        self.number("mode", MODE)
    }

    pub(super) fn uid(&self) -> Result<i64, Flaw> {
        self.number("user ID", UID)
    }

    pub(super) fn gid(&self) -> Result<i64, Flaw> {
        self.number("group ID", GID)
    }

    pub(super) fn size(&self) -> Result<i64, Flaw> {
        self.number("size", SIZE)
    }

    /// Seconds since 1970.
    pub(super) fn mtime(&self) -> Result<i64, Flaw> {
        self.number("modification time", MTIME)
    }

    /// Major and minor number of a device; the first format knew none.
    pub(super) fn device(&self) -> Result<(i64, i64), Flaw> {
        match self.format {
            Format::V7 => Ok((0, 0)),
            _ => Ok((self.number("device number", MAJOR)?, self.number("device number", MINOR)?)),
        }
    }

    /// The start of GNU's old sparse map and the size of the whole file; star uses the same type
    /// flag for something else.
    pub(super) fn old_sparse(&self) -> Result<(&[u8], i64), Flaw> {
        match self.format {
            Format::Gnu => Ok((self.field(GNU_SPARSE), self.number("size", GNU_REAL_SIZE)?)),
            _ => Err(Flaw::bad("a sparse file (type S) has a header that is not in GNU's format")),
        }
    }

    fn field(&self, place: (usize, usize)) -> &[u8] {
        part(&self.block, place)
    }

    fn number(&self, what: &str, place: (usize, usize)) -> Result<i64, Flaw> {
        let field = self.field(place);
        number(field).ok_or_else(|| {
            let found = field.escape_ascii();
            Flaw::Bad(format!("a header has the {what} \"{found}\", expected an octal number"))
        })
    }
}

fn part(block: &[u8; BLOCK], (at, width): (usize, usize)) -> &[u8] {
    &block[at..at + width]
}

/// The sum of all bytes with the checksum itself as spaces: of unsigned bytes as POSIX has it, and of
/// signed ones as some old implementations had it.
fn checksums(block: &[u8; BLOCK]) -> [i64; 2] {
    let own = CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1;
    let bytes = || block.iter().enumerate().map(|(at, &b)| if own.contains(&at) { b' ' } else { b });
    [bytes().map(i64::from).sum(), bytes().map(|b| i64::from(b.cast_signed())).sum()]
}

/// What comes before the first zero byte.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// An octal number, or where the first bit is set GNU's and star's base-256: big-endian, in two's
/// complement over the remaining bits. `None` also if 64 bits do not hold it.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

fn base_256(field: &[u8]) -> Option<i64> {
    let is_negative = field[0] & 0x40 != 0;
    let start = if is_negative { -1_i64 } else { 0 };
    // The marker bit repeats the sign: 0x80 starts a positive number, 0xff a negative one.
    let first = if is_negative { field[0] } else { field[0] & 0x7f };
    let rest = field[1..].iter().copied();
    std::iter::once(first)
        .chain(rest)
        .try_fold(start, |value, byte| value.checked_mul(256).map(|shifted| shifted | i64::from(byte)))
}

/// Digits with spaces or zero bytes around them; nothing at all is zero.
fn octal(field: &[u8]) -> Option<i64> {
    let is_filler = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !is_filler(b)).unwrap_or(field.len());
    let end = field.iter().rposition(|b| !is_filler(b)).map_or(start, |last| last + 1);
    text(&field[start..end]).iter().try_fold(0_i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers() {
        let table: [(&[u8], Option<i64>); 20] = [
            (b"0000644\0", Some(0o644)),
            (b" 000644 ", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\x00644\0\0\0", Some(0o644)),
            (b"77777777777\0", Some(0o777_7777_7777)),
            (b"777777777777", Some(0o7777_7777_7777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"", Some(0)),
            (b"0000008\0", None),
            (b"-000001\0", None),
            (b"12 34\0", None),
            (b"644\0zzz\0", Some(0o644)),
            (&[0x80, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0], Some(0x200_0000)),
            (&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255], Some(i64::MAX)),
            (&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0xff; 12], Some(-1)),
            (&[255, 255, 255, 255, 0x80, 0, 0, 0, 0, 0, 0, 0], Some(i64::MIN)),
            (&[255, 255, 255, 255, 0x7f, 255, 255, 255, 255, 255, 255, 255], None),
            (&[0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ];
        for (field, expected) in table {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn sums_of_signed_bytes_are_right_too() {
        let mut block = [0; BLOCK];
        block[..5].copy_from_slice(b"caf\xc3\xa9");
        let [unsigned, signed] = checksums(&block);
        assert_eq!(unsigned - signed, 512);
        for (sum, is_right) in [(unsigned, true), (signed, true), (unsigned + 1, false)] {
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert_eq!(Header::parse(block).is_ok(), is_right);
        }
    }
}
