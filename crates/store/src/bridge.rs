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
