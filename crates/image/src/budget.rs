//! The memory budget: how many layers, buffers and codec workers fit into it.

use crate::{Codec, Error};

/// What a build may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Memory of the whole process, in bytes.
    pub memory_bytes: u64,
    /// Layers in flight at most; 0 leaves the number to the budget.
    pub jobs: usize,
    /// Processors.
    pub cores: usize,
}

/// How a memory limit is divided.
///
/// ```text
/// memory >= BASE + workers * context(codec) + layers * (CHANNEL + (workers + 1) * 2 * block(codec))
/// ```
///
/// - `BASE`: the program, TLS, connections, manifests and 50,000 entries;
/// - `context`: what the codec itself keeps for a worker;
/// - `CHANNEL`: the pieces between the thread that makes a layer and the connection that takes it;
/// - two blocks (in and out) for each block that a layer has at the workers, and one being filled.
///
/// `benches/` measures peak RSS against it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Layers in flight.
    pub layers: usize,
    /// Threads that compress.
    pub workers: usize,
    /// Pieces that wait between a layer's maker and its taker.
    pub channel_pieces: usize,
    /// Size of a piece in bytes.
    pub piece_bytes: usize,
    /// Memory of the whole process, in bytes.
    pub memory_bytes: u64,
}

/// Measured with an empty build and with one of 50,000 entries.
const BASE: u64 = 28 << 20;
/// Pieces of this size keep a connection busy and stay in the second-level cache.
const PIECE_BYTES: usize = 256 << 10;
const CHANNEL_PIECES: usize = 3;
/// Buffers that a layer has besides the channel: the one it reads into, the one it fills, the one
/// that the connection sends, and what the kernel's and the HTTP client's buffers hold.
const OTHER_PIECES: usize = 5;
/// More layers in flight than this gain nothing even on fast networks.
const LAYERS_MAX: usize = 16;
/// Without a word from the user: enough to hide one layer's waiting behind another's work.
const LAYERS_DEFAULT: usize = 4;

impl Budget {
    /// Divides `limits` for layers that are compressed by `codec`.
    pub fn new(limits: Limits, codec: Codec) -> Result<Self, Error> {
        let wanted = match limits.jobs {
            0 => LAYERS_DEFAULT.max(limits.cores),
            jobs => jobs,
        };
        let mut layers = wanted.clamp(1, LAYERS_MAX);
        let mut workers = limits.cores.max(1);
        // Layers give way before workers do: two layers already overlap, but an idle core is lost.
        while Self::bytes(layers, workers, codec) > limits.memory_bytes {
            match (layers, workers) {
                (3.., _) => layers -= 1,
                (_, 2..) => workers -= 1,
                (2, _) => layers = 1,
                _ => {
                    let least = Self::bytes(1, 1, codec);
                    return Err(Error::BudgetTooSmall { bytes: limits.memory_bytes, least });
                }
            }
        }
        let memory_bytes = limits.memory_bytes;
        Ok(Self { layers, workers, channel_pieces: CHANNEL_PIECES, piece_bytes: PIECE_BYTES, memory_bytes })
    }

    /// Memory that one layer may take, in bytes, besides what the program always has.
    pub fn of_one_layer(&self) -> u64 {
        self.memory_bytes.saturating_sub(BASE)
    }

    /// How many layers may be in flight if each takes `bytes` besides; at least one.
    pub fn layers_of(&self, bytes: u64) -> usize {
        let fitting = self.of_one_layer() / bytes.max(1);
        usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, self.layers)
    }

    fn bytes(layers: usize, workers: usize, codec: Codec) -> u64 {
        let channel = (CHANNEL_PIECES + OTHER_PIECES) * PIECE_BYTES;
        let blocks = (workers + 1) * 2 * codec.block_bytes();
        let all = workers * codec.context_bytes() + layers * (channel + blocks);
        BASE + all as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_below_the_limit_on_any_machine() {
        for codec in [Codec::Plain, Codec::GZIP, Codec::ZSTD, Codec::Zstd { level: 19 }] {
            for cores in [1, 2, 8, 128] {
                for jobs in [0, 1, 16, 1000] {
                    let limits = Limits { memory_bytes: 64 << 20, jobs, cores };
                    let budget = Budget::new(limits, codec).unwrap();
                    assert!(Budget::bytes(budget.layers, budget.workers, codec) <= limits.memory_bytes);
                    assert!(budget.layers >= 1 && budget.workers >= 1);
                }
            }
        }
    }

    #[test]
    fn says_how_much_is_needed() {
        let limits = Limits { memory_bytes: 1 << 20, jobs: 0, cores: 4 };
        let error = Budget::new(limits, Codec::Plain).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "a memory budget of 1048576 bytes is too small, expected at least {} bytes",
                (28 << 20) + (2 << 20)
            )
        );
    }
}
