//! What a request carries, and a watch over how it is taken.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use ocib_image::{ByteStream, PlaceError};
use tokio::time::Instant;

/// What a request carries.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes at hand, which can be sent again.
    Bytes(Bytes),
    /// Bytes that are made while they are sent, once. An error in them breaks the request off.
    Stream {
        /// The bytes.
        stream: ByteStream,
        /// How many there are; without it they are sent in chunks.
        length: Option<u64>,
    },
}

impl Body {
    /// The same body for another attempt, if there can be one.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Stream { .. } => None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream { length, .. } => write!(f, "Stream({length:?})"),
        }
    }
}

/// Whom a request waits for, and since when. Waiting for the source is no fault of the server, so
/// a timeout of the whole request would be wrong twice: too short for large bodies, too long for
/// a server that went silent.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Mutex<(Turn, Instant)>>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Source,
    Server,
    Answer,
}

/// How long a server may do nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) idle: Duration,
    pub(crate) answer: Duration,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new((Turn::Answer, Instant::now()))))
    }

    fn set(&self, turn: Turn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (turn, Instant::now());
    }

    /// Ends when the server was silent for longer than `patience`, with the limit that it broke.
    pub(crate) async fn stalled(&self, patience: Patience) -> Duration {
        loop {
            let (turn, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (since, limit) = match turn {
                Turn::Source => (Instant::now(), patience.idle),
                Turn::Server => (since, patience.idle),
                Turn::Answer => (since, patience.answer),
            };
            let deadline = since + limit;
            if turn != Turn::Source && Instant::now() >= deadline {
                return limit;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// A stream that tells `pulse` whose turn it is.
pub(crate) struct Watched {
    pub(crate) stream: ByteStream,
    pub(crate) pulse: Pulse,
}

impl Stream for Watched {
    type Item = Result<Bytes, PlaceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pulse.set(Turn::Source);
        let item = ready!(self.stream.as_mut().poll_next(context));
        self.pulse.set(if item.is_some() { Turn::Server } else { Turn::Answer });
        Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { idle: Duration::from_secs(60), answer: Duration::from_secs(300) };

    #[tokio::test(start_paused = true)]
    async fn a_server_may_be_silent_for_so_long() {
        for (turn, expected) in [(Turn::Server, PATIENCE.idle), (Turn::Answer, PATIENCE.answer)] {
            let (pulse, start) = (Pulse::new(), Instant::now());
            pulse.set(turn);
            assert_eq!((pulse.stalled(PATIENCE).await, start.elapsed()), (expected, expected), "{turn:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_piece_starts_the_wait_again() {
        let (pulse, start) = (Pulse::new(), Instant::now());
        let moving = async {
            for _ in 0..10 {
                pulse.set(Turn::Server);
                tokio::time::sleep(PATIENCE.idle / 2).await;
            }
            std::future::pending::<()>().await;
        };
        futures_util::future::select(std::pin::pin!(moving), std::pin::pin!(pulse.stalled(PATIENCE))).await;
        assert_eq!(start.elapsed(), PATIENCE.idle * 9 / 2 + PATIENCE.idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_source_is_not_the_servers_fault() {
        let pulse = Pulse::new();
        pulse.set(Turn::Source);
        let day = Duration::from_secs(86_400);
        assert!(tokio::time::timeout(day, pulse.stalled(PATIENCE)).await.is_err());
    }
}
