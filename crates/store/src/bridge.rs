//! Where threads that make layers meet async; `ocib_net::read_blocking` is the way back.
//!
//! Layers are made by blocking code on a thread of their own and go through a bounded channel: whoever
//! is faster waits, and neither side holds more than the channel's pieces. Either side may go away at
//! any time; the other one then ends with an error, never with bytes that look complete.

use std::{future::Future, io};

use bytes::Bytes;
use futures_util::stream;
#[cfg(feature = "ecr")]
use ocib_image::Checkpoint;
use ocib_image::{ByteStream, Layer, LayerError, PlaceError, PlaceErrorKind, Progress, Sealer, Unsealed};
use tokio::{sync::mpsc::channel, task::spawn_blocking};

use crate::blocking::blocking;

/// Makes `layer` on a blocking thread. The stream gives its stored bytes and counts them to
/// `progress`; the future says what they turned out to be, once the stream has ended or was dropped.
/// A layer that fails breaks the stream off with an error. Must be called within a runtime.
pub(crate) fn seal(
    layer: Unsealed,
    sealer: Sealer,
    progress: Progress,
) -> (ByteStream, impl Future<Output = Result<Layer, LayerError>> + Send) {
    stream_of(sealer.budget().channel_pieces, progress, move |take| layer.seal(&sealer, take))
}

/// The same from `checkpoint` on, of a layer that is [`Unsealed::resumable`]; `note` gets checkpoints on the thread
/// that makes it.
#[cfg(feature = "ecr")]
pub(crate) fn seal_from(
    layer: Unsealed,
    sealer: Sealer,
    progress: Progress,
    checkpoint: Checkpoint,
    mut note: impl FnMut(Checkpoint) + Send + 'static,
) -> (ByteStream, impl Future<Output = Result<Layer, LayerError>> + Send) {
    progress.advanced(checkpoint.bytes());
    stream_of(sealer.budget().channel_pieces, progress, move |take| {
        layer.seal_from(&sealer, checkpoint, take, &mut note)
    })
}

type Take<'a> = dyn FnMut(Bytes) -> io::Result<()> + 'a;

fn stream_of(
    channel_pieces: usize,
    progress: Progress,
    make: impl FnOnce(&mut Take<'_>) -> Result<Layer, LayerError> + Send + 'static,
) -> (ByteStream, impl Future<Output = Result<Layer, LayerError>> + Send) {
    // The end is an item of its own: a channel that just closes is a thread that failed.
    let (pieces, taken) = channel::<Option<Bytes>>(channel_pieces);
    let thread = spawn_blocking(move || {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload broke off");
        let layer = make(&mut |piece| pieces.blocking_send(Some(piece)).map_err(gone))?;
        // Whoever was promised this many bytes need not look for an end.
        let _ = pieces.blocking_send(None);
        Ok(layer)
    });
    let stream =
        stream::try_unfold((taken, progress), async |(mut taken, progress)| match taken.recv().await {
            Some(Some(piece)) => {
                progress.advanced(piece.len() as u64);
                Ok(Some((piece, (taken, progress))))
            }
            Some(None) => Ok(None),
            None => Err(PlaceError::new(PlaceErrorKind::Input, "the layer could not be made")),
        });
    let made =
        async { thread.await.unwrap_or_else(|error| Err(LayerError::Output(io::Error::other(error)))) };
    (Box::pin(stream), made)
}

/// Makes `layer` on a blocking thread for its digest alone, and counts its stored bytes to `progress`.
/// Ends soon after the future is dropped. Must be called within a runtime.
pub(crate) async fn hash(layer: Unsealed, sealer: Sealer, progress: Progress) -> Result<Layer, PlaceError> {
    let work = blocking(move |wanted| {
        let sealed = layer.seal(&sealer, &mut |piece| {
            progress.advanced(piece.len() as u64);
            wanted.check()
        });
        Ok(sealed?)
    });
    work.await
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use futures_util::TryStreamExt;
    use ocib_image::{Annotations, Budget, Codec, Compression, Foreknown, LayerSource, Limits};

    use super::*;

    type Writer = dyn Fn(&mut dyn Write) -> Result<(), LayerError> + Send + Sync;

    struct Written(Box<Writer>);

    impl std::fmt::Debug for Written {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Written")
        }
    }

    impl LayerSource for Written {
        fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
            (self.0)(out)
        }

        fn bytes(&self) -> Option<u64> {
            None
        }

        fn sample(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
            Ok(())
        }
    }

    fn seal_with(
        write: impl Fn(&mut dyn Write) -> Result<(), LayerError> + Send + Sync + 'static,
    ) -> (ByteStream, impl Future<Output = Result<Layer, LayerError>> + Send) {
        let limits = Limits { memory_bytes: 64 << 20, jobs: 1, cores: 1 };
        let sealer = Sealer::new(Budget::new(limits, Codec::Plain).unwrap());
        let layer = Unsealed {
            source: Arc::new(Written(Box::new(write))),
            compression: Compression::Fixed(Codec::Plain),
            annotations: Annotations::new(),
            foreknown: Foreknown::default(),
        };
        seal(layer, sealer, Progress::unwatched())
    }

    #[tokio::test]
    async fn a_layer_passes_whole() {
        let (stream, made) = seal_with(|out| out.write_all(&[7; 3 << 20]).map_err(LayerError::Output));
        let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert_eq!(pieces.concat(), vec![7; 3 << 20]);
        assert_eq!(made.await.unwrap().descriptor.size, 3 << 20);
    }

    #[tokio::test]
    async fn a_layer_that_fails_never_looks_complete() {
        let failing: [fn() -> LayerError; 2] = [
            || LayerError::Unstorable { name: "a".into(), why: "it is too long" },
            || panic!("a source with a bug"),
        ];
        for fail in failing {
            let (stream, made) = seal_with(move |out| {
                out.write_all(&[7; 1 << 20]).map_err(LayerError::Output)?;
                Err(fail())
            });
            let error = stream.try_collect::<Vec<Bytes>>().await.unwrap_err();
            assert_eq!(error.to_string(), "the layer could not be made");
            assert!(made.await.is_err());
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_ends_its_thread() {
        let (stream, made) = seal_with(|out| {
            loop {
                out.write_all(&[7; 1 << 20]).map_err(LayerError::Output)?;
            }
        });
        drop(stream);
        let error = made.await.unwrap_err();
        assert_eq!(error.to_string(), "the layer's destination went away: the upload broke off");
    }
}
