//! The one place where threads meet async.
//!
//! Layers are made by blocking code on a thread of their own ([`seal`]), and blobs are read by
//! blocking code that a connection feeds ([`read`]). Both go through a bounded channel: whoever is
//! faster waits, and neither side holds more than the channel's pieces. Either side may go away at
//! any time; the other one then ends with an error, never with bytes that look complete.

use std::{
    future::Future,
    io::{self, Read},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ocib_image::{ByteStream, Layer, LayerError, PlaceError, PlaceErrorKind, Progress, Sealer, Unsealed};
use tokio::{
    runtime::Handle,
    sync::mpsc::{Receiver, channel},
    task::spawn_blocking,
};

/// Makes `layer` on a blocking thread. The stream gives its stored bytes and counts them to
/// `progress`; the future says what they turned out to be, once the stream has ended or was dropped.
/// A layer that fails breaks the stream off with an error. Must be called within a runtime.
pub(crate) fn seal(
    layer: Unsealed,
    sealer: Sealer,
    progress: Progress,
) -> (ByteStream, impl Future<Output = Result<Layer, LayerError>> + Send) {
    // The end is an item of its own: a channel that just closes is a thread that failed.
    let (pieces, taken) = channel::<Option<Bytes>>(sealer.budget().channel_pieces);
    let thread = spawn_blocking(move || {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload broke off");
        let layer = layer.seal(&sealer, &mut |piece| pieces.blocking_send(Some(piece)).map_err(gone))?;
        pieces.blocking_send(None).map_err(gone).map_err(LayerError::Output)?;
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

/// Pieces that are read ahead for a blocking reader; a piece is what one read of the connection gave.
const READ_AHEAD_PIECES: usize = 4;

/// Reads `stream` from a blocking thread; `runtime` drives the stream. Errors of the stream are
/// [`io::Error`]s with the [`PlaceError`] inside. Dropping the reader ends the transfer.
pub(crate) fn read(mut stream: ByteStream, runtime: &Handle) -> impl Read + Send + 'static {
    let (pieces, taken) = channel(READ_AHEAD_PIECES);
    runtime.spawn(async move {
        loop {
            let item = stream.next().await.transpose();
            let is_last = !matches!(item, Ok(Some(_)));
            if pieces.send(item).await.is_err() || is_last {
                break;
            }
        }
    });
    Reading { taken, piece: Bytes::new(), is_done: false }
}

struct Reading {
    taken: Receiver<Result<Option<Bytes>, PlaceError>>,
    piece: Bytes,
    is_done: bool,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_done {
            match self.taken.blocking_recv() {
                Some(Ok(Some(piece))) => self.piece = piece,
                Some(Ok(None)) => self.is_done = true,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::other("the runtime that feeds this reader has ended")),
            }
        }
        let taken = self.piece.split_to(buffer.len().min(self.piece.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, mpsc},
    };

    use futures_util::TryStreamExt;
    use ocib_image::{Annotations, Budget, Codec, Compression, LayerSource, Limits};

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

    #[tokio::test]
    async fn a_reader_gets_all_bytes_or_the_error() {
        let pieces = [&b"ab"[..], b"", b"c"].map(|piece| Ok(Bytes::from_static(piece)));
        let cut = Err(PlaceError::new(PlaceErrorKind::Unreachable, "cut"));
        for (items, expected) in [(vec![], Ok("")), (vec![cut], Err("cut")), (pieces.into(), Ok("abc"))] {
            let reader = read(Box::pin(stream::iter(items)), &Handle::current());
            let read = spawn_blocking(move || io::read_to_string(reader)).await.unwrap();
            let read = read.map_err(|error| error.to_string());
            assert_eq!(read.as_deref().map_err(String::as_str), expected);
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_dropped_ends_its_transfer() {
        struct Ended(mpsc::Sender<()>);
        impl Drop for Ended {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (ended, seen) = mpsc::channel();
        let endless = stream::repeat_with({
            let ended = Ended(ended);
            move || {
                let _ = &ended;
                Ok(Bytes::from_static(b"x"))
            }
        });
        drop(read(Box::pin(endless), &Handle::current()));
        spawn_blocking(move || seen.recv()).await.unwrap().unwrap();
    }
}
