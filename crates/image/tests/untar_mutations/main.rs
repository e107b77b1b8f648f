//! Thousands of broken archives: the reader neither panics nor takes memory that it was not given
//! bytes for.
//!
//! Alone in its binary, because it measures what the whole process allocates. With a nightly toolchain
//! the same checks are fuzzed (`crates/image/fuzz`, `tests/fuzz.sh`).

#![allow(clippy::unwrap_used, reason = "what fails here is the test")]

mod checks;

use std::io::{self, Read};

const ROUNDS: u32 = 6_000;

/// Numbers that look random and are the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn block(name: &[u8], flag: u8, size: usize, magic: &[u8], more: &[(usize, &[u8])]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = flag;
    block[257..265].copy_from_slice(magic);
    for (at, bytes) in more {
        block[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    block
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(content.len().next_multiple_of(512), 0);
    bytes
}

fn records(pairs: &[&str]) -> Vec<u8> {
    // All of them have lengths of two digits.
    pairs.iter().flat_map(|pair| format!("{} {pair}\n", pair.len() + 4).into_bytes()).collect()
}

/// One of everything that the reader knows.
fn seed() -> Vec<u8> {
    let (ustar, gnu) = (b"ustar\x0000", b"ustar  \0");
    let records = records(&["path=some/at", "mtime=-12.000125", "SCHILY.xattr.user.a=value"]);
    let comment = self::records(&["comment=text"]);
    let version = ["GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=real"];
    let sparse = self::records(&[&version[..], &["GNU.sparse.realsize=25"]].concat());
    let old = b"00000000002\x0000000000005\x0000000000022\x0000000000003\0";
    let parts = [
        block(b"g", b'g', comment.len(), ustar, &[]),
        padded(&comment),
        block(b"x", b'x', records.len(), ustar, &[]),
        padded(&records),
        block(b"a", b'0', 700, ustar, &[(345, b"prefix")]),
        padded(&[b'c'; 700]),
        block(b"L", b'L', 300, gnu, &[]),
        padded(&[b'n'; 300]),
        block(b"K", b'K', 200, gnu, &[]),
        padded(&[b'k'; 200]),
        block(b"l", b'2', 0, gnu, &[(157, b"target")]),
        block(b"s", b'S', 8, gnu, &[(386, old), (483, b"00000000031\0")]),
        padded(b"abcdefgh"),
        block(b"x", b'x', sparse.len(), ustar, &[]),
        padded(&sparse),
        block(b"s", b'0', 520, ustar, &[]),
        padded(b"2\n2\n5\n18\n3\n"),
        padded(b"abcdefgh"),
        block(b"d", b'3', 0, ustar, &[(329, b"0000001\0"), (337, b"0000003\0")]),
    ];
    let mut archive = checks::sealed(&parts.concat());
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn mutate(seed: &[u8], noise: &mut Noise) -> Vec<u8> {
    let mut archive = seed.to_vec();
    for _ in 0..=noise.below(4) {
        let at = noise.below(archive.len());
        match noise.below(8) {
            0 => archive.truncate(at.max(1)),
            1 => archive[at] ^= 1 << noise.below(8),
            2 => archive[at] = [0, b'9', b'\n', b'=', b' ', 0x80, 0xff, b','][noise.below(8)],
            3 => {
                // Numbers in base 256, the more interesting ones.
                let header = at / 512 * 512;
                let field = header + [100, 108, 124, 136, 386, 398, 483][noise.below(7)];
                let first = [0x80, 0xff, 0xc0, 0x81][noise.below(4)];
                let end = archive.len().min(field + 8);
                if field < end {
                    archive[field..end].fill(0xff);
                    archive[field] = first;
                }
            }
            4 => {
                let (from, to) = (at / 512 * 512, noise.below(archive.len()) / 512 * 512);
                let moved = archive[from..archive.len().min(from + 512)].to_vec();
                archive.splice(to..to, moved);
            }
            5 => drop(archive.splice(at / 512 * 512..at, [])),
            _ => archive[at] = [b'x', b'g', b'L', b'K', b'S', b'0', b'5', b'1'][noise.below(8)],
        }
    }
    // Most checksums are made right again, else nothing gets behind them.
    for at in (0..archive.len().saturating_sub(511)).step_by(512) {
        if archive[at + 257..].starts_with(b"ustar") && noise.below(20) > 0 {
            checks::seal(&mut archive[at..at + 512]);
        }
    }
    archive
}

#[test]
fn broken_archives_neither_panic_nor_take_memory() {
    let seed = seed();
    assert_eq!(checks::archive(&seed), 5);
    let mut noise = Noise(0x5eed_0f0c_1b00_0001);
    let entries: usize = (0..ROUNDS).map(|_| checks::archive(&mutate(&seed, &mut noise))).sum();
    assert!(entries > ROUNDS as usize, "only {entries} entries: the mutations never get behind the first");

    for stored in compressed(&seed) {
        assert_eq!(checks::archive(&stored), 5);
        for _ in 0..ROUNDS / 10 {
            let mut stored = stored.clone();
            for _ in 0..=noise.below(3) {
                let at = noise.below(stored.len());
                stored[at] ^= 1 << noise.below(8);
            }
            checks::archive(&stored);
        }
    }
}

/// The archive as each codec stores it.
fn compressed(archive: &[u8]) -> [Vec<u8>; 4] {
    let (mut gzip, mut bzip2) = (Vec::new(), Vec::new());
    flate2::read::GzEncoder::new(archive, flate2::Compression::default()).read_to_end(&mut gzip).unwrap();
    bzip2::read::BzEncoder::new(archive, bzip2::Compression::best()).read_to_end(&mut bzip2).unwrap();
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::default()).unwrap();
    io::copy(&mut &archive[..], &mut xz).unwrap();
    [gzip, bzip2, xz.finish().unwrap(), zstd::bulk::compress(archive, 3).unwrap()]
}
