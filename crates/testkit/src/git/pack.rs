//! Packs made by hand: honest ones, and those that git would never make.

use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};
use sha1::{Digest, Sha1};

/// Makes a pack, object by object.
#[derive(Clone, Debug, Default)]
pub struct PackBuilder {
    objects: Vec<u8>,
    count: u32,
}

/// The head of a pack has so many bytes.
const HEAD_BYTES: usize = 12;

impl PackBuilder {
    /// Appends a whole object of the type `commit`, `tree`, `blob` or `tag`; gives where it is.
    pub fn whole(&mut self, kind: &str, content: &[u8]) -> usize {
        let number = match kind {
            "commit" => 1,
            "tree" => 2,
            "blob" => 3,
            _ => 4,
        };
        self.object(number, &[], content)
    }

    /// Appends a delta for the object at `base`, which is where [`PackBuilder::whole`] said.
    pub fn offset_delta(&mut self, base: usize, delta: &[u8]) -> usize {
        let mut distance = self.end() - base;
        let mut encoded = vec![(distance & 0x7f) as u8];
        while distance >= 128 {
            distance = (distance >> 7) - 1;
            encoded.insert(0, (distance & 0x7f) as u8 | 0x80);
        }
        self.object(6, &encoded, delta)
    }

    /// Appends a delta for the object of that name, in forty hex digits.
    pub fn named_delta(&mut self, base: &str, delta: &[u8]) -> usize {
        let digits = base.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("it is ASCII"));
        let base: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).expect("it is hex")).collect();
        self.object(7, &base, delta)
    }

    /// Appends any object: a type, what stands between head and data, and data that is not deflated yet.
    pub fn object(&mut self, kind: u8, base: &[u8], content: &[u8]) -> usize {
        let start = self.end();
        let (mut byte, mut size) = ((content.len() & 15) as u8 | kind << 4, content.len() >> 4);
        while size > 0 {
            self.objects.push(byte | 0x80);
            (byte, size) = ((size & 0x7f) as u8, size >> 7);
        }
        self.objects.push(byte);
        self.objects.extend(base);
        let mut deflated = ZlibEncoder::new(Vec::new(), Compression::best());
        deflated.write_all(content).expect("memory can be written");
        self.objects.extend(deflated.finish().expect("memory can be written"));
        self.count += 1;
        start
    }

    /// The pack with its checksum.
    pub fn finish(&self) -> Vec<u8> {
        let mut pack = [&b"PACK\0\0\0\x02"[..], &self.count.to_be_bytes(), &self.objects].concat();
        seal_pack(&mut pack);
        pack
    }

    fn end(&self) -> usize {
        HEAD_BYTES + self.objects.len()
    }
}

/// Appends the checksum of a pack.
pub fn seal_pack(pack: &mut Vec<u8>) {
    let checksum = Sha1::digest(&*pack);
    pack.extend(checksum);
}

/// The name of an object, in forty hex digits.
pub fn git_oid(kind: &str, content: &[u8]) -> String {
    let header = format!("{kind} {}\0", content.len());
    let name = Sha1::new_with_prefix(header).chain_update(content).finalize();
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The answer to `fetch` that brings `pack`.
pub fn git_answer(pack: &[u8]) -> Vec<u8> {
    let mut answer = b"000dpackfile\n".to_vec();
    for piece in pack.chunks(60_000) {
        answer.extend(format!("{:04x}\x01", piece.len() + 5).bytes());
        answer.extend(piece);
    }
    answer.extend(b"0000");
    answer
}
