//! Where threads meet async: blocking code reads what a connection feeds.
//!
//! The bytes go through a bounded channel: whoever is faster waits, and neither side holds more than
//! the channel's pieces. Either side may go away at any time; the other one then ends with an error,
//! never with bytes that look complete.

use std::{
    error::Error,
    io::{self, Read},
    pin::pin,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::{
    runtime::Handle,
    sync::mpsc::{Receiver, channel},
};

/// Pieces that are read ahead for a blocking reader; a piece is what one read of the connection gave.
const READ_AHEAD_PIECES: usize = 4;

/// Reads `stream` from a thread that may block; `runtime` drives the stream. Errors of the stream are
/// [`io::Error`]s with that error inside. Dropping the reader ends the transfer.
///
/// ```
/// use std::io::Read;
/// use futures_util::stream;
/// use ocib_image::PlaceError;
///
/// let runtime = tokio::runtime::Runtime::new()?;
/// let pieces = stream::iter([Ok::<_, PlaceError>("hello, ".into()), Ok("reader".into())]);
/// let mut text = String::new();
/// ocib_net::read_blocking(pieces, runtime.handle()).read_to_string(&mut text)?;
/// assert_eq!(text, "hello, reader");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_blocking<E>(
    stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    runtime: &Handle,
) -> impl Read + Send + 'static
where
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    let (pieces, taken) = channel(READ_AHEAD_PIECES);
    runtime.spawn(async move {
        let mut stream = pin!(stream);
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

struct Reading<E> {
    taken: Receiver<Result<Option<Bytes>, E>>,
    piece: Bytes,
    is_done: bool,
}

impl<E: Into<Box<dyn Error + Send + Sync>>> Read for Reading<E> {
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
    use std::sync::mpsc;

    use futures_util::stream;
    use ocib_image::{PlaceError, PlaceErrorKind};
    use tokio::task::spawn_blocking;

    use super::*;

    #[tokio::test]
    async fn a_reader_gets_all_bytes_or_the_error() {
        let pieces = [&b"ab"[..], b"", b"c"].map(|piece| Ok(Bytes::from_static(piece)));
        let cut = Err(PlaceError::new(PlaceErrorKind::Unreachable, "cut"));
        for (items, expected) in [(vec![], Ok("")), (vec![cut], Err("cut")), (pieces.into(), Ok("abc"))] {
            let reader = read_blocking(stream::iter(items), &Handle::current());
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
                Ok::<_, PlaceError>(Bytes::from_static(b"x"))
            }
        });
        drop(read_blocking(endless, &Handle::current()));
        spawn_blocking(move || seen.recv()).await.unwrap().unwrap();
    }
}
