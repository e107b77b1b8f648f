//! Weights that nobody trained: BF16 numbers, normally distributed around 0 with a deviation of 0.02, as trained
//! ones are, so that codecs find in them what they find in those.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use ocib_testkit::Noise;

use crate::text::{fraction, next};

/// So many bytes of weights.
pub(crate) fn weights(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = Noise::new(seed, u64::MAX);
    let mut weights = Vec::with_capacity(bytes);
    while weights.len() < bytes {
        // The sum of twelve uniform numbers has the variance 1 and needs no logarithm, whose last
        // bit differs between machines.
        let sum: f64 = (0..12).map(|_| fraction(next(&mut noise))).sum();
        let single = ((sum - 6.0) * 0.02) as f32;
        weights.extend_from_slice(&((single.to_bits() >> 16) as u16).to_le_bytes());
    }
    weights
}

/// Bytes that are made for a model, which then repeat: zstd looks back 2 MiB at its default level.
#[allow(dead_code, reason = "only models are in files")]
pub(crate) const BLOCK_BYTES: usize = 4 << 20;

/// Writes a safetensors file with one tensor of `bytes` bytes of weights, which are `block` again and again.
#[allow(dead_code, reason = "only models are in files")]
pub(crate) fn safetensors(path: &Path, block: &[u8], bytes: u64) -> io::Result<()> {
    let count = bytes / 2;
    let mut header =
        format!(r#"{{"weight":{{"dtype":"BF16","shape":[{count}],"data_offsets":[0,{}]}}}}"#, count * 2);
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut left = count * 2;
    while left > 0 {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        file.write_all(&block[..taken])?;
        left -= taken as u64;
    }
    file.flush()
}
