//! Codecs: block-parallel compression whose bytes depend on the input and the level alone, and the
//! reading side.
//!
//! The input is cut into blocks of a fixed size, which workers compress in any order and which are
//! joined in theirs. gzip stays *one member*: each block is a run of DEFLATE blocks that ends on a
//! byte (sync flush) and starts with the last 32 KiB of its predecessor as dictionary, as pigz
//! does, because several readers in the field stopped at the first member. zstd becomes a row of
//! independent frames, which every reader must join (RFC 8878, section 3.1).

use std::{
    collections::VecDeque,
    io::{self, Read},
    mem,
    sync::{Arc, Mutex, mpsc::Receiver},
};

use flate2::{Compress, FlushCompress, Status};

use crate::{Codec, Error, ExpansionLimit, MediaType, pool::Pool, untar::limit_expansion};

/// pigz uses 128 KiB; twice that halves what the flushes cost and still fits the cache.
const GZIP_BLOCK: usize = 256 << 10;
/// DEFLATE looks back this far (RFC 1951).
const GZIP_WINDOW: usize = 32 << 10;
/// Pieces that are looked at to tell noise from anything else, which shrinks at least by a byte.
const NOISE_PIECES: usize = 4;
const NOISE_PIECE: usize = 4 << 10;
/// A frame per MiB costs about 2 % of ratio on text against one long frame, none on weights.
const ZSTD_BLOCK: usize = 1 << 20;
/// RFC 1952: magic, DEFLATE, no flags, no time, no hints, unknown system; what BuildKit writes.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

impl Codec {
    /// The media type of a layer that is stored so.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::Plain => MediaType::LayerTar,
            Self::Gzip { .. } => MediaType::LayerGzip,
            Self::Zstd { .. } => MediaType::LayerZstd,
        }
    }

    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Gzip { .. } => GZIP_BLOCK,
            Self::Zstd { .. } => ZSTD_BLOCK,
        }
    }

    /// Memory that one worker's state needs, in bytes, for blocks of [`Self::block_bytes`].
    pub(crate) fn context_bytes(self) -> usize {
        match self {
            Self::Plain => 0,
            // The state of DEFLATE and of what judges noise, made for each block, and what the allocator keeps of them:
            // measured with 16 workers.
            Self::Gzip { .. } => 4 << 20,
            Self::Zstd { level: 0..=6 } => 4 << 20,
            Self::Zstd { level: 7..=12 } => 8 << 20,
            Self::Zstd { .. } => 20 << 20,
        }
    }
}

/// Reads the tar inside a stored layer; of what was compressed not more comes out than
/// [`ExpansionLimit::LAYER`] allows.
pub fn decode(media_type: &MediaType, stored: Box<dyn Read + Send>) -> Result<Box<dyn Read + Send>, Error> {
    limit_expansion(stored, ExpansionLimit::LAYER, |stored| match media_type.to_oci() {
        MediaType::LayerTar => Ok(stored),
        // Docker calls a layer that the registry has by this name too if it is a plain tar, and looks itself.
        MediaType::LayerGzip if *media_type == MediaType::DockerLayerGzip => {
            Ok(Box::new(DockerLayer::Unread(stored)))
        }
        MediaType::LayerGzip => Ok(Box::new(flate2::read::MultiGzDecoder::new(stored))),
        MediaType::LayerZstd => {
            let decoder = zstd::Decoder::new(stored);
            Ok(Box::new(decoder.expect("a decoder without dictionary only fails without memory")))
        }
        _ => Err(Error::UnknownLayer { media_type: media_type.clone() }),
    })
}

/// A layer of Docker's one media type, compressed or not (Docker, `archive.DecompressStream`).
enum DockerLayer {
    Unread(Box<dyn Read + Send>),
    Read(Box<dyn Read + Send>),
}

impl Read for DockerLayer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Unread(stored) = self {
            let mut start = Vec::new();
            stored.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut start)?;
            let is_compressed = start == GZIP_MAGIC;
            let stored = std::mem::replace(stored, Box::new(io::empty()));
            let whole = io::Cursor::new(start).chain(stored);
            *self = Self::Read(match is_compressed {
                true => Box::new(flate2::read::MultiGzDecoder::new(whole)),
                false => Box::new(whole),
            });
        }
        match self {
            Self::Unread(stored) | Self::Read(stored) => stored.read(buffer),
        }
    }
}

/// What every gzip stream begins with (RFC 1952, 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Compresses one stream. Compressed pieces come out of [`Encoder::write`] and [`Encoder::finish`]
/// in their order, as the workers are done with them.
pub(crate) struct Encoder {
    codec: Codec,
    pool: Pool,
    /// Blocks at the workers at a time; bounds the memory.
    slots: usize,
    pending: VecDeque<Receiver<io::Result<Compressed>>>,
    block: Vec<u8>,
    window: Vec<u8>,
    spare: Vec<Vec<u8>>,
    contexts: Arc<Contexts>,
    crc: crc32fast::Hasher,
    input_bytes: u64,
    begun: bool,
}

/// A block that came back: what it became, and its buffer for the next one.
struct Compressed {
    output: Vec<u8>,
    input: Vec<u8>,
}

/// zstd's working memory, kept between blocks because making it anew costs a tenth of the time. A
/// used one gives the same bytes as a new one; zlib-rs' does not, so DEFLATE begins each block anew.
type Contexts = Mutex<Vec<zstd::bulk::Compressor<'static>>>;

type Take<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

impl Encoder {
    pub(crate) fn new(codec: Codec, pool: Pool, slots: usize) -> Self {
        Self {
            codec,
            pool,
            slots: slots.max(1),
            pending: VecDeque::new(),
            block: Vec::with_capacity(codec.block_bytes()),
            window: Vec::new(),
            spare: Vec::new(),
            contexts: Arc::default(),
            crc: crc32fast::Hasher::new(),
            input_bytes: 0,
            begun: false,
        }
    }

    /// Takes the next input; hands on what became ready.
    pub(crate) fn write(&mut self, mut input: &[u8], take: &mut Take<'_>) -> io::Result<()> {
        self.begin(take)?;
        if matches!(self.codec, Codec::Gzip { .. }) {
            self.crc.update(input);
        }
        self.input_bytes += input.len() as u64;
        while !input.is_empty() {
            let room = self.codec.block_bytes() - self.block.len();
            let (now, later) = input.split_at(room.min(input.len()));
            self.block.extend_from_slice(now);
            input = later;
            if self.block.len() == self.codec.block_bytes() {
                self.submit(false, take)?;
            }
        }
        Ok(())
    }

    /// Compresses what is left, waits for all workers and closes the stream.
    pub(crate) fn finish(mut self, take: &mut Take<'_>) -> io::Result<()> {
        self.begin(take)?;
        match self.codec {
            Codec::Zstd { .. } if self.block.is_empty() && self.input_bytes > 0 => {}
            _ => self.submit(true, take)?,
        }
        while !self.pending.is_empty() {
            self.collect(take)?;
        }
        if matches!(self.codec, Codec::Gzip { .. }) {
            let length = u32::try_from(self.input_bytes & u64::from(u32::MAX)).unwrap_or_default();
            take(&[self.crc.finalize().to_le_bytes(), length.to_le_bytes()].concat())?;
        }
        Ok(())
    }

    fn begin(&mut self, take: &mut Take<'_>) -> io::Result<()> {
        match (mem::replace(&mut self.begun, true), self.codec) {
            (false, Codec::Gzip { .. }) => take(&GZIP_HEADER),
            _ => Ok(()),
        }
    }

    fn submit(&mut self, last: bool, take: &mut Take<'_>) -> io::Result<()> {
        if self.pending.len() == self.slots {
            self.collect(take)?;
        }
        let next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.codec.block_bytes()));
        let input = mem::replace(&mut self.block, next);
        let mut window = Vec::new();
        if matches!(self.codec, Codec::Gzip { .. }) {
            let tail = input[input.len().saturating_sub(GZIP_WINDOW)..].to_vec();
            window = mem::replace(&mut self.window, tail);
        }
        let (codec, contexts) = (self.codec, Arc::clone(&self.contexts));
        self.pending.push_back(self.pool.submit(move || {
            let output = match codec {
                Codec::Zstd { level } => zstd_frame(&contexts, level, &input)?,
                Codec::Gzip { level } => deflate(level, &input, &window, last)?,
                Codec::Plain => return Err(io::Error::other("plain layers have no encoder")),
            };
            Ok(Compressed { output, input })
        }));
        Ok(())
    }

    fn collect(&mut self, take: &mut Take<'_>) -> io::Result<()> {
        let Some(first) = self.pending.pop_front() else { return Ok(()) };
        let Compressed { output, mut input } =
            first.recv().map_err(|_| io::Error::other("a compression worker ended early"))??;
        take(&output)?;
        input.clear();
        self.spare.push(input);
        Ok(())
    }
}

fn zstd_frame(contexts: &Contexts, level: u8, input: &[u8]) -> io::Result<Vec<u8>> {
    let kept = contexts.lock().ok().and_then(|mut contexts| contexts.pop());
    let mut context = kept.map_or_else(|| zstd::bulk::Compressor::new(i32::from(level)), Ok)?;
    let frame = context.compress(input)?;
    if let Ok(mut contexts) = contexts.lock() {
        contexts.push(context);
    }
    Ok(frame)
}

/// Noise is stored as it is: DEFLATE would spend a hundred times the CPU to make it no smaller. The
/// judge is zstd's fastest level on pieces of the block, so the choice depends on content alone.
fn is_noise(block: &[u8]) -> io::Result<bool> {
    if block.len() < GZIP_BLOCK {
        return Ok(false);
    }
    let pieces = block.chunks(GZIP_BLOCK / NOISE_PIECES).map(|part| &part[..NOISE_PIECE]);
    let sample = pieces.collect::<Vec<_>>().concat();
    Ok(zstd::bulk::compress(&sample, 1)?.len() >= sample.len())
}

/// The block as stored DEFLATE blocks (RFC 1951, section 3.2.4), which end on a byte by themselves.
fn stored(input: &[u8], last: bool) -> Vec<u8> {
    let mut output = Vec::with_capacity(input.len() + input.len() / 8192 + 16);
    let mut pieces = input.chunks(usize::from(u16::MAX)).peekable();
    while let Some(piece) = pieces.next() {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        output.push(u8::from(last && pieces.peek().is_none()));
        output.extend_from_slice(&length.to_le_bytes());
        output.extend_from_slice(&(!length).to_le_bytes());
        output.extend_from_slice(piece);
    }
    output
}

fn deflate(level: u8, mut input: &[u8], window: &[u8], last: bool) -> io::Result<Vec<u8>> {
    if is_noise(input)? {
        return Ok(stored(input, last));
    }
    let mut compress = Compress::new(flate2::Compression::new(u32::from(level)), false);
    if !window.is_empty() {
        compress.set_dictionary(window).map_err(io::Error::other)?;
    }
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut output = Vec::with_capacity(input.len() / 2 + 1024);
    loop {
        let (consumed, produced) = (compress.total_in(), output.len());
        let status = compress.compress_vec(input, &mut output, flush).map_err(io::Error::other)?;
        let consumed = usize::try_from(compress.total_in() - consumed).unwrap_or(usize::MAX);
        input = &input[consumed.min(input.len())..];
        let is_full = output.len() == output.capacity();
        match status {
            Status::StreamEnd => return Ok(output),
            // A flush is complete once it leaves room in the output.
            _ if !last && input.is_empty() && !is_full => return Ok(output),
            _ if is_full => output.reserve(16 << 10),
            _ if produced == output.len() && consumed == 0 => {
                return Err(io::Error::other("the compressor made no progress"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Codec; 5] = [
        Codec::GZIP,
        Codec::Gzip { level: 1 },
        Codec::Gzip { level: 9 },
        Codec::ZSTD,
        Codec::Zstd { level: 19 },
    ];

    /// Half text, half noise, from a fixed seed.
    fn sample(bytes: usize) -> Vec<u8> {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 32) as u8
        };
        (0..bytes)
            .map(|at| if at / 4096 % 2 == 0 { b"weights of a model "[at % 19] } else { noise() })
            .collect()
    }

    fn compress(codec: Codec, threads: usize, slots: usize, input: &[u8], piece: usize) -> Vec<u8> {
        let mut output = Vec::new();
        let mut take = |bytes: &[u8]| {
            output.extend_from_slice(bytes);
            Ok(())
        };
        let mut encoder = Encoder::new(codec, Pool::new(threads), slots);
        for piece in input.chunks(piece) {
            encoder.write(piece, &mut take).unwrap();
        }
        encoder.finish(&mut take).unwrap();
        output
    }

    #[test]
    fn reads_back_and_is_one_gzip_member() {
        for codec in CODECS {
            for bytes in [0, 1, 1000, GZIP_BLOCK, GZIP_BLOCK + 1, ZSTD_BLOCK, 3 * ZSTD_BLOCK + 17] {
                let input = sample(bytes);
                let stored = compress(codec, 2, 3, &input, 10_000);
                let mut output = Vec::new();
                let reader: Box<dyn Read + Send> = Box::new(io::Cursor::new(stored.clone()));
                decode(&codec.media_type(), reader).unwrap().read_to_end(&mut output).unwrap();
                assert!(output == input, "{codec} of {bytes} bytes");
                if matches!(codec, Codec::Gzip { .. }) {
                    let mut single = Vec::new();
                    flate2::read::GzDecoder::new(&stored[..]).read_to_end(&mut single).unwrap();
                    assert!(single == input, "{codec} of {bytes} bytes has more than one member");
                }
            }
        }
    }

    #[test]
    fn noise_costs_gzip_next_to_nothing() {
        let mixed = sample(16 << 20);
        let noise: Vec<u8> = mixed.chunks(8192).flat_map(|pair| pair[4096..].to_vec()).collect();
        let output = compress(Codec::GZIP, 2, 3, &noise, 100_000);
        assert!(output.len() < noise.len() + noise.len() / 5_000, "{} of {}", output.len(), noise.len());
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&output[..]).read_to_end(&mut back).unwrap();
        assert!(back == noise);
    }

    #[test]
    fn threads_slots_and_pieces_do_not_change_a_byte() {
        let input = sample(5 << 20);
        for codec in CODECS {
            let one = compress(codec, 1, 1, &input, 1 << 20);
            for (threads, slots, piece) in [(1, 4, 777), (4, 9, 65_536), (8, 2, 5 << 20)] {
                assert!(compress(codec, threads, slots, &input, piece) == one, "{codec}, {threads} threads");
            }
        }
    }

    /// Which worker takes which block is chance, so what a worker did before must not matter. On
    /// machine code zlib-rs' reused states showed that it did.
    #[test]
    fn what_a_worker_did_before_does_not_change_a_byte() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let input = &program[..program.len().min(6 << 20)];
        for codec in CODECS {
            let alone: Vec<u8> = match codec {
                Codec::Zstd { level } => input
                    .chunks(ZSTD_BLOCK)
                    .flat_map(|block| zstd::bulk::compress(block, i32::from(level)).unwrap())
                    .collect(),
                _ => compress(codec, 1, 1, input, 1 << 20),
            };
            for (threads, slots) in [(1, 1), (2, 3), (4, 8)] {
                assert!(
                    compress(codec, threads, slots, input, 50_000) == alone,
                    "{codec}, {threads} threads"
                );
            }
        }
    }

    #[test]
    fn docker_calls_plain_layers_compressed_too() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"a tar").unwrap();
        for stored in [b"a tar".to_vec(), encoder.finish().unwrap()] {
            let mut text = String::new();
            let stored = Box::new(io::Cursor::new(stored));
            decode(&MediaType::DockerLayerGzip, stored).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "a tar");
        }
        let plain = decode(&MediaType::LayerGzip, Box::new(&b"a tar"[..]));
        assert!(plain.unwrap().read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn unknown_layer_types_are_refused() {
        let error = decode(&MediaType::from("a/b"), Box::new(io::empty())).err().unwrap();
        assert_eq!(
            error.to_string(),
            "a layer of type a/b cannot be read, expected a tar, plain or compressed by gzip or zstd"
        );
    }
}
