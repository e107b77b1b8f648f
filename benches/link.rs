//! The wire between a client and a server: a TCP proxy that counts what passes, and is as narrow as asked for.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How many bytes pass in a second, in each direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Width {
    /// As many as the machine can move.
    Unlimited,
    /// So many by each connection, as object stores give them.
    Connection(u64),
    /// So many by all connections together, as a network card lets through.
    Shared(u64),
}

/// A proxy on a loopback port. It serves until the program ends.
#[derive(Debug)]
pub(crate) struct Link {
    port: u16,
    sent: Arc<AtomicU64>,
}

impl Link {
    /// A proxy before `target` (`HOST:PORT`).
    pub(crate) fn start(target: &str, width: Width) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let sent = Arc::new(AtomicU64::new(0));
        let (counter, target) = (sent.clone(), target.to_owned());
        let shared = [Pace::new(width), Pace::new(width)];
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let paces = match width {
                    Width::Connection(_) => [Pace::new(width), Pace::new(width)],
                    _ => shared.clone(),
                };
                // A target that is gone closes the connection, which is what the client should see.
                let _ = carry(client, &target, &counter, paces);
            }
        });
        Self { port, sent }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Bytes that clients sent so far, heads of requests included.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

/// One direction.
#[derive(Clone, Debug)]
struct Pace {
    rate: Option<u64>,
    /// When what passed so far has passed at this rate.
    free_at: Arc<Mutex<Instant>>,
}

impl Pace {
    fn new(width: Width) -> Self {
        let rate = match width {
            Width::Unlimited => None,
            Width::Connection(rate) | Width::Shared(rate) => Some(rate),
        };
        Self { rate, free_at: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Waits until so many bytes have passed.
    fn pass(&self, bytes: usize) {
        /// A thread that woke late may catch up so much, so that the rate is kept.
        const SLACK: Duration = Duration::from_millis(20);
        let Some(rate) = self.rate else { return };
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        *free_at = (*free_at).max(earliest) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        let wait = free_at.saturating_duration_since(now);
        drop(free_at);
        thread::sleep(wait);
    }
}

fn carry(
    client: TcpStream,
    target: &str,
    sent: &Arc<AtomicU64>,
    [up_pace, down_pace]: [Pace; 2],
) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    // What was one piece must not wait to become a larger one.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (up, down, sent) = ((client.try_clone()?, server.try_clone()?), (server, client), sent.clone());
    thread::spawn(move || copy(up, &sent, &up_pace));
    thread::spawn(move || copy(down, &AtomicU64::new(0), &down_pace));
    Ok(())
}

fn copy((mut from, mut to): (TcpStream, TcpStream), count: &AtomicU64, pace: &Pace) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(got @ 1..) = from.read(&mut buffer) {
        count.fetch_add(got as u64, Ordering::SeqCst);
        pace.pass(got);
        if to.write_all(&buffer[..got]).is_err() {
            break;
        }
    }
    // Whoever closed first is closed already.
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}
