//! Layers: from a source that can be written again and again to content with a known digest.

use std::{
    fmt,
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    Annotations, Budget, Checkpoint, Codec, Compression, Descriptor, DiffId, Digest, Digester, LayerError,
    Reference, Resumable,
    codec::Encoder,
    pool::Pool,
    resume::{Noting, no_way_in},
};

/// Where a layer's uncompressed tar comes from.
pub trait LayerSource: Send + Sync + fmt::Debug {
    /// Writes the tar. Every call writes the same bytes or fails, naming the file that changed.
    /// Blocks on files and network; an error of `out` is passed on as [`LayerError::Output`].
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError>;

    /// Size of the tar in bytes, where it is known before it is written.
    fn bytes(&self) -> Option<u64>;

    /// Hands pieces of the content to `take`, enough to judge how well all of it compresses: about
    /// a MiB, chosen by position alone, so that the same content gives the same pieces.
    fn sample(&self, take: &mut dyn FnMut(&[u8])) -> Result<(), LayerError>;

    /// The same source as one whose tar can be entered in its middle; `None` where nothing says without a reading
    /// that all of it is as it was.
    fn resumable(&self) -> Option<&dyn Resumable> {
        None
    }
}

/// A layer that is not made yet, so it has no digest: only a sink gives it one.
#[derive(Clone, Debug)]
pub struct Unsealed {
    /// What it holds.
    pub source: Arc<dyn LayerSource>,
    /// How it shall be stored.
    pub compression: Compression,
    /// Annotations of its descriptor.
    pub annotations: Annotations,
    /// What is known of it all the same.
    pub foreknown: Foreknown,
}

/// What is known of a layer before it is made. All of it may be missing, and a sink may ignore it:
/// it saves work and changes no byte.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Foreknown {
    /// Equal for layers whose tars have equal headers (paths, types, modes, owners, times, sizes) and
    /// that are stored in the same way, whatever the files contain. A place that has a layer of the
    /// same recipe may well have this one, so that it is worth knowing the digest before sending.
    pub recipe: Option<Digest>,
    /// What the same inputs were sealed to before.
    pub layer: Option<Layer>,
    /// Repositories that have [`Foreknown::layer`].
    pub repositories: Vec<Reference>,
}

/// The annotation of a layer's descriptor that holds its [`Foreknown::recipe`].
pub const RECIPE_ANNOTATION: &str = "io.github.ocib.recipe";

/// Content of a layer with all that a manifest and a config say of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layer {
    /// The stored bytes.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
}

/// Makes layers: the codec workers and buffer sizes that all layers of a build share.
#[derive(Clone, Debug)]
pub struct Sealer {
    pool: Pool,
    budget: Budget,
}

impl Sealer {
    /// A sealer with its own worker threads, within `budget`.
    pub fn new(budget: Budget) -> Self {
        Self { pool: Pool::new(budget.workers), budget }
    }

    /// The budget that it keeps to.
    pub fn budget(&self) -> Budget {
        self.budget
    }
}

impl Unsealed {
    /// Makes the layer's stored bytes in one pass and hands them to `take` in pieces of at most
    /// [`Budget::piece_bytes`]; blocks. Returns what they turned out to be. An error of `take`
    /// ends the work at once.
    ///
    /// ```
    /// use std::{io::Write, sync::Arc};
    /// use ocib_image::{
    ///     Annotations, Budget, Codec, Compression, Foreknown, LayerError, LayerSource, Limits, Sealer, Unsealed,
    /// };
    ///
    /// #[derive(Debug)]
    /// struct EmptyTar;
    /// impl LayerSource for EmptyTar {
    ///     fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
    ///         out.write_all(&[0; 1024]).map_err(LayerError::Output)
    ///     }
    ///     fn bytes(&self) -> Option<u64> {
    ///         Some(1024)
    ///     }
    ///     fn sample(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let limits = Limits { memory_bytes: 64 << 20, jobs: 1, cores: 1 };
    /// let sealer = Sealer::new(Budget::new(limits, Codec::Plain)?);
    /// let unsealed = Unsealed {
    ///     source: Arc::new(EmptyTar),
    ///     compression: Compression::Fixed(Codec::Plain),
    ///     annotations: Annotations::new(),
    ///     foreknown: Foreknown::default(),
    /// };
    /// let mut stored = Vec::new();
    /// let layer = unsealed.seal(&sealer, &mut |piece| Ok(stored.extend_from_slice(&piece)))?;
    /// assert_eq!(layer.descriptor.size, 1024);
    /// assert_eq!(layer.descriptor.digest, layer.diff_id.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn seal(
        &self,
        sealer: &Sealer,
        take: &mut dyn FnMut(Bytes) -> io::Result<()>,
    ) -> Result<Layer, LayerError> {
        let codec = self.codec()?;
        let pieces = Pieces { take, piece: Vec::new(), bytes: sealer.budget.piece_bytes };
        let (diff_id, digest, size) = match codec {
            Codec::Plain => seal_plain(&*self.source, pieces)?,
            _ => seal_compressed(&*self.source, codec, sealer, pieces)?,
        };
        let annotations = self.annotations.clone();
        let descriptor = Descriptor { annotations, ..Descriptor::new(codec.media_type(), digest, size) };
        Ok(Layer { descriptor, diff_id: DiffId(diff_id) })
    }

    /// The layer's source, if what [`Unsealed::seal`] hands out can be gone on with by another process
    /// ([`Unsealed::seal_from`]): it is the tar itself, and that can be entered.
    pub fn resumable(&self) -> Option<&dyn Resumable> {
        let is_plain = self.compression == Compression::Fixed(Codec::Plain);
        self.source.resumable().filter(|_| is_plain)
    }

    /// The same as [`Unsealed::seal`], of a layer that is [`Unsealed::resumable`], from `checkpoint` on, which such a
    /// call gave to its `note` for a source of the same identity. A checkpoint is noted about every MiB, when what is
    /// before it was taken or is in the piece that comes next.
    pub fn seal_from(
        &self,
        sealer: &Sealer,
        checkpoint: Checkpoint,
        take: &mut dyn FnMut(Bytes) -> io::Result<()>,
        note: &mut dyn FnMut(Checkpoint),
    ) -> Result<Layer, LayerError> {
        let Some(source) = self.resumable() else { return self.seal(sealer, take) };
        let mut pieces = Pieces { take, piece: Vec::new(), bytes: sealer.budget.piece_bytes };
        let (digest, size) = Noting::write(source, checkpoint, &mut |bytes| pieces.push(bytes), note)?;
        pieces.finish().map_err(LayerError::Output)?;
        if self.source.bytes().is_some_and(|bytes| bytes != size) {
            return Err(no_way_in("the layer"));
        }
        let annotations = self.annotations.clone();
        let descriptor =
            Descriptor { annotations, ..Descriptor::new(Codec::Plain.media_type(), digest, size) };
        Ok(Layer { descriptor, diff_id: DiffId(digest) })
    }

    /// Decides how the layer is stored, if that is left to its content; reads a sample of it, and blocks. What is
    /// stored stays the same.
    pub fn settle(&mut self) -> Result<(), LayerError> {
        self.compression = Compression::Fixed(self.codec()?);
        Ok(())
    }

    /// The codec that the layer will be stored with.
    fn codec(&self) -> Result<Codec, LayerError> {
        match self.compression {
            Compression::Fixed(codec) => Ok(codec),
            Compression::Auto => {
                let (mut input, mut output) = (0, 0);
                self.source.sample(&mut |piece| {
                    input += piece.len();
                    output += zstd::bulk::compress(piece, 1).map_or(piece.len(), |smaller| smaller.len());
                })?;
                let is_worthwhile = output * 100 <= input * WORTHWHILE_PERCENT;
                Ok(if input == 0 || is_worthwhile { Codec::GZIP } else { Codec::Plain })
            }
        }
    }
}

/// What a sample must shrink to for the layer to be compressed. Text and programs shrink to 30 to
/// 55 %, bf16 weights to 78 % at 57 MB/s (far below any network), archives and media to 100 %.
const WORTHWHILE_PERCENT: usize = 70;

type Sealed = (Digest, Digest, u64);

/// A plain layer is stored as it is, so its one digest is both.
fn seal_plain(source: &dyn LayerSource, pieces: Pieces<'_>) -> Result<Sealed, LayerError> {
    struct Plain<'a> {
        digester: Digester,
        pieces: Pieces<'a>,
    }
    impl Write for Plain<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.digester.update(bytes);
            self.pieces.push(bytes)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut plain = Plain { digester: Digester::new(), pieces };
    source.write(&mut plain)?;
    plain.pieces.finish().map_err(LayerError::Output)?;
    let size = plain.digester.bytes();
    let digest = plain.digester.finish();
    Ok((digest, digest, size))
}

fn seal_compressed(
    source: &dyn LayerSource,
    codec: Codec,
    sealer: &Sealer,
    pieces: Pieces<'_>,
) -> Result<Sealed, LayerError> {
    struct Compressing<'a> {
        input: Digester,
        encoder: Encoder,
        output: Stored<'a>,
    }
    impl Write for Compressing<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.input.update(bytes);
            self.encoder.write(bytes, &mut |compressed| self.output.push(compressed))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let encoder = Encoder::new(codec, sealer.pool.clone(), sealer.budget.workers);
    let mut layer =
        Compressing { input: Digester::new(), encoder, output: Stored { digester: Digester::new(), pieces } };
    source.write(&mut layer)?;
    let Compressing { input, encoder, mut output } = layer;
    encoder.finish(&mut |compressed| output.push(compressed)).map_err(LayerError::Output)?;
    output.pieces.finish().map_err(LayerError::Output)?;
    let size = output.digester.bytes();
    Ok((input.finish(), output.digester.finish(), size))
}

/// Stored bytes on their way out, digested.
struct Stored<'a> {
    digester: Digester,
    pieces: Pieces<'a>,
}

impl Stored<'_> {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digester.update(bytes);
        self.pieces.push(bytes)
    }
}

/// Joins small writes to pieces of equal size.
struct Pieces<'a> {
    take: &'a mut dyn FnMut(Bytes) -> io::Result<()>,
    piece: Vec<u8>,
    bytes: usize,
}

impl Pieces<'_> {
    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.piece.capacity() == 0 {
                self.piece.reserve_exact(self.bytes);
            }
            let room = self.bytes - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == self.bytes {
                (self.take)(std::mem::take(&mut self.piece).into())?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        match self.piece.is_empty() {
            true => Ok(()),
            false => (self.take)(std::mem::take(&mut self.piece).into()),
        }
    }
}
