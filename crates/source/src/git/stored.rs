//! Loose objects as git keeps them, deflated without being compressed: so their bytes depend on nothing
//! but the object, and their size is known before they are made. Layers are compressed anyway.

use std::io::{self, Read};

/// A stored block of deflate has at most so many bytes (RFC 1951, section 3.2.4).
const BLOCK_BYTES: usize = 0xffff;
/// Type and length, before each block.
const BLOCK_HEAD_BYTES: u64 = 5;
/// RFC 1950: the method with a window of 32 KiB, the lowest level.
const HEAD: [u8; 2] = [0x78, 0x01];
const CHECKSUM_BYTES: u64 = 4;

/// How many bytes [`Stored`] makes of so many.
pub(super) fn stored_bytes(content: u64) -> u64 {
    let blocks = content.div_ceil(BLOCK_BYTES as u64).max(1);
    HEAD.len() as u64 + blocks * BLOCK_HEAD_BYTES + content + CHECKSUM_BYTES
}

/// Makes a zlib stream of `content`, which has `left` bytes.
pub(super) struct Stored<R> {
    content: R,
    left: u64,
    sum: Adler,
    /// What was made and not taken yet, from `at` on.
    piece: Vec<u8>,
    at: usize,
    is_last: bool,
}

impl<R: Read> Stored<R> {
    pub(super) fn new(content: R, bytes: u64) -> Self {
        let sum = Adler { a: 1, b: 0 };
        Self { content, left: bytes, sum, piece: HEAD.to_vec(), at: 0, is_last: false }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        self.left -= length as u64;
        self.is_last = self.left == 0;
        let bytes = u16::try_from(length).unwrap_or(u16::MAX);
        let [[a, b], [c, d]] = [bytes.to_le_bytes(), (!bytes).to_le_bytes()];
        let head = [u8::from(self.is_last), a, b, c, d];
        self.piece.clear();
        self.piece.extend(head);
        self.piece.resize(head.len() + length, 0);
        self.content.read_exact(&mut self.piece[head.len()..])?;
        self.sum.update(&self.piece[head.len()..]);
        if self.is_last {
            self.piece.extend(self.sum.finish().to_be_bytes());
        }
        self.at = 0;
        Ok(())
    }
}

impl<R: Read> Read for Stored<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.is_last {
            self.next_block()?;
        }
        let rest = &self.piece[self.at..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// The checksum of zlib (RFC 1950, section 9).
struct Adler {
    a: u32,
    b: u32,
}

impl Adler {
    const MODULUS: u32 = 65521;
    /// The most bytes whose sums fit before the modulus is taken (zlib's `NMAX`).
    const RUN_BYTES: usize = 5552;

    fn update(&mut self, bytes: &[u8]) {
        for run in bytes.chunks(Self::RUN_BYTES) {
            for byte in run {
                self.a += u32::from(*byte);
                self.b += self.a;
            }
            self.a %= Self::MODULUS;
            self.b %= Self::MODULUS;
        }
    }

    fn finish(&self) -> u32 {
        self.b << 16 | self.a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_can_be_inflated_and_has_the_announced_size() {
        for size in [0, 1, 65534, 65535, 65536, 200_000] {
            let content: Vec<u8> = (0..size).map(|i: u32| ((i * 7) >> 3) as u8).collect();
            let mut stored = Vec::new();
            Stored::new(&content[..], u64::from(size)).read_to_end(&mut stored).unwrap();
            assert_eq!(stored.len() as u64, stored_bytes(u64::from(size)), "{size}");
            let mut inflated = Vec::new();
            flate2::bufread::ZlibDecoder::new(&stored[..]).read_to_end(&mut inflated).unwrap();
            assert!(inflated == content, "{size}");
        }
    }

    #[test]
    fn the_checksum_is_the_one_of_the_specification() {
        let mut sum = Adler { a: 1, b: 0 };
        sum.update(b"Wikipedia");
        assert_eq!(sum.finish(), 0x11e6_0398);
    }
}
