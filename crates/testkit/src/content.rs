//! Files of any size whose bytes are always the same.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use ocib_image::{LayerError, LayerSource};

/// Bytes that do not compress, the same for the same seed (Marsaglia's xorshift64).
#[derive(Clone, Debug)]
pub struct Noise {
    state: u64,
    /// What a read has left of a word.
    begun: Vec<u8>,
    left: u64,
}

impl Noise {
    /// So many bytes. Their beginning does not depend on their number.
    pub fn new(seed: u64, bytes: u64) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, begun: Vec::new(), left: bytes }
    }

    /// All of them at once.
    pub fn bytes(seed: u64, bytes: usize) -> Vec<u8> {
        let mut all = Vec::with_capacity(bytes);
        Self::new(seed, bytes as u64).read_to_end(&mut all).expect("reading from memory does not fail");
        all
    }

    fn next(&mut self) -> [u8; 8] {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.to_le_bytes()
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let (first, rest) = buffer[..taken].split_at_mut(self.begun.len().min(taken));
        first.copy_from_slice(&self.begun[..first.len()]);
        self.begun.drain(..first.len());
        for word in rest.chunks_mut(8) {
            let next = self.next();
            word.copy_from_slice(&next[..word.len()]);
            self.begun.extend_from_slice(&next[word.len()..]);
        }
        self.left -= taken as u64;
        Ok(taken)
    }
}

/// Bytes that do not compress, the same for the same seed, any of which can be had without those before:
/// files of any size that nobody keeps.
#[derive(Clone, Debug)]
pub struct Generated {
    seed: u64,
    table: Arc<[u8]>,
}

/// Reads a part of [`Generated`].
#[derive(Debug)]
struct Generating {
    content: Generated,
    at: u64,
    end: u64,
    block: Vec<u8>,
}

const BLOCK_BYTES: u64 = 4096;
const TABLE_BYTES: usize = 1 << 20;

impl Generated {
    /// The bytes that `seed` gives.
    pub fn new(seed: u64) -> Self {
        Self { seed, table: Noise::bytes(seed, TABLE_BYTES).into() }
    }

    /// Those from `from` to before `until`.
    pub fn range(&self, from: u64, until: u64) -> impl Read + Send + use<> {
        Generating { content: self.clone(), at: from, end: until, block: Vec::new() }
    }

    /// Writes a file of the first `bytes` of them.
    pub fn write(&self, path: &Path, bytes: u64) {
        let written = create(path).and_then(|mut file| copy(self.range(0, bytes), &mut file));
        written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// Whether a file holds the first `bytes` of them, and nothing else.
    pub fn is_in(&self, path: &Path, bytes: u64) -> bool {
        let read = |reader: &mut dyn Read, buffer: &mut Vec<u8>| {
            buffer.clear();
            let read = reader.take(1 << 20).read_to_end(buffer);
            read.unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
        };
        let mut file =
            File::open(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let (mut expected, mut found, mut content) = (Vec::new(), Vec::new(), self.range(0, bytes));
        loop {
            read(&mut file, &mut found);
            if read(&mut content, &mut expected) == 0 || found != expected {
                return found == expected;
            }
        }
    }

    /// A piece of the table, whose place depends on the block, with the block's number in front.
    fn block(&self, number: u64) -> Vec<u8> {
        let mixed = (number ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let start = mixed as usize % (TABLE_BYTES - BLOCK_BYTES as usize);
        let mut block = self.table[start..start + BLOCK_BYTES as usize].to_vec();
        block[..8].copy_from_slice(&number.to_le_bytes());
        block
    }
}

impl Read for Generating {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() && self.at < self.end {
            let inside = (self.at % BLOCK_BYTES) as usize;
            if inside == 0 || self.block.is_empty() {
                self.block = self.content.block(self.at / BLOCK_BYTES);
            }
            let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
            let taken = (self.block.len() - inside).min(buffer.len() - done).min(left);
            buffer[done..done + taken].copy_from_slice(&self.block[inside..inside + taken]);
            done += taken;
            self.at += taken as u64;
        }
        Ok(done)
    }
}

/// The source of something as large as a layer that is [`Noise`], and so no tar, in no memory.
pub fn noise_source(bytes: u64) -> Arc<dyn LayerSource> {
    Arc::new(NoiseSource(bytes))
}

#[derive(Debug)]
struct NoiseSource(u64);

impl LayerSource for NoiseSource {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        io::copy(&mut Noise::new(1, self.0), out).map(drop).map_err(LayerError::Output)
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.0)
    }

    fn sample(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        Ok(())
    }
}

/// Writes a file of `bytes` bytes of [`Noise`], in pieces.
pub fn noise_file(path: &Path, seed: u64, bytes: u64) {
    let copied = create(path).and_then(|mut file| copy(Noise::new(seed, bytes), &mut file));
    copied.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Writes a file that begins as safetensors does (8 bytes, little-endian: length of the JSON header;
/// then the header, then the data) with one tensor of `data_bytes` bytes of noise.
pub fn safetensors_file(path: &Path, seed: u64, data_bytes: u64) {
    let mut header =
        format!(r#"{{"weight":{{"dtype":"U8","shape":[{data_bytes}],"data_offsets":[0,{data_bytes}]}}}}"#);
    // The format pads its header with spaces to a multiple of eight.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let written = create(path).and_then(|mut file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        copy(Noise::new(seed, data_bytes), &mut file)
    });
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Makes a file of zeros that takes no room on the disk: 9 GiB need a size that tar's octal digits
/// cannot hold.
pub fn sparse_file(path: &Path, bytes: u64) {
    let made = create(path).and_then(|file| file.set_len(bytes));
    made.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::create(path)
}

fn copy(mut content: impl Read, file: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(()),
            got => file.write_all(&buffer[..got])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_however_it_is_read_and_written() {
        let all = Noise::bytes(7, 1_000_003);
        assert_eq!(all[..16], Noise::bytes(7, 16));
        assert_ne!(all[..16], Noise::bytes(8, 16));
        let mut bytewise = vec![0; 100];
        let mut noise = Noise::new(7, 1_000_003);
        bytewise.chunks_mut(3).for_each(|piece| noise.read_exact(piece).unwrap());
        assert_eq!(bytewise, all[..100]);
        let dir = tempfile::tempdir().unwrap();
        noise_file(&dir.path().join("a/b"), 7, 1_000_003);
        assert!(std::fs::read(dir.path().join("a/b")).unwrap() == all);
        assert!(zstd::bulk::compress(&all, 1).unwrap().len() > all.len());
    }

    #[test]
    fn generated_bytes_are_the_same_from_wherever_they_are_read() {
        let content = Generated::new(7);
        let read = |from, until| {
            let mut bytes = Vec::new();
            content.range(from, until).read_to_end(&mut bytes).unwrap();
            bytes
        };
        let all = read(0, 20_000);
        assert_eq!(all.len(), 20_000);
        for (from, until) in [(0, 1), (4095, 4097), (4096, 8192), (12_345, 20_000), (20_000, 20_000)] {
            assert_eq!(read(from, until), all[from as usize..until as usize], "{from} {until}");
        }
        assert_ne!(read(0, 100), Generated::new(8).table[..100]);
        assert_eq!(read(9 << 30, (9 << 30) + 3).len(), 3);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        content.write(&path, 3_000_000);
        assert!(content.is_in(&path, 3_000_000));
        for (other, bytes) in [(&content, 2_999_999), (&content, 3_000_001), (&Generated::new(8), 3_000_000)]
        {
            assert!(!other.is_in(&path, bytes), "{bytes}");
        }
    }

    #[test]
    fn safetensors_header_and_sparse_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        safetensors_file(&path, 1, 100);
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(bytes.len(), 8 + length + 100);
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        assert_eq!(header["weight"]["data_offsets"], serde_json::json!([0, 100]));
        let sparse = dir.path().join("sparse");
        sparse_file(&sparse, 9 << 30);
        let metadata = std::fs::metadata(sparse).unwrap();
        let disk_bytes = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
        assert_eq!((metadata.len(), disk_bytes), (9 << 30, 0));
    }
}
