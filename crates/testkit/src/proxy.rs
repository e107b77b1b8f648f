//! A TCP proxy that breaks connections at a chosen byte, or slows them down.
//!
//! It stands before a plain-HTTP registry. The registry builds the URLs of uploads from the `Host`
//! that the client sent, so a client that starts at the proxy stays there.

mod body;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use body::BodyCounter;

/// Where a connection is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// As soon as the registry got so many bytes of one request's body. Framing is not counted.
    RequestBody {
        /// Bytes of the body that still pass.
        after_bytes: u64,
    },
    /// As soon as the client got so many bytes on one connection since the fault was injected,
    /// heads of answers included.
    Response {
        /// Bytes that still pass.
        after_bytes: u64,
    },
}

/// A proxy on a loopback port, ended when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    /// Faults that did not happen yet; the first one waits for its moment.
    faults: Mutex<Vec<Fault>>,
    happened: AtomicUsize,
    refuses: AtomicBool,
    stopped: AtomicBool,
    /// Bytes per second that a connection carries to the registry.
    rate: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl FaultProxy {
    /// A proxy before `target` (`HOST:PORT`) that breaks nothing yet.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            faults: Mutex::default(),
            happened: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            rate: AtomicU64::new(u64::MAX),
            open: Mutex::default(),
        });
        let accepting = shared.clone();
        thread::spawn(move || accepting.accept(&listener));
        Self { port, shared }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Adds a fault. Each happens once; the next one is armed when the one before has happened.
    pub fn inject(&self, fault: Fault) {
        locked(&self.shared.faults).push(fault);
    }

    /// How many faults have happened.
    pub fn happened(&self) -> usize {
        self.shared.happened.load(Ordering::SeqCst)
    }

    /// From now on each connection carries so many bytes per second to the registry, about; at least
    /// one.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second.max(1), Ordering::SeqCst);
    }

    /// From now on closes every connection, open or new, without an answer; or stops doing so.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuses.store(refuse, Ordering::SeqCst);
        if refuse {
            self.shared.close_all();
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.close_all();
        // Wakes the thread that accepts; if nothing listens any more, it has ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            if self.refuses.load(Ordering::SeqCst) {
                continue;
            }
            let Ok(server) = TcpStream::connect(&self.target) else { continue };
            let connection = Connection { shared: self.clone(), client, server };
            let (Ok(up), Ok(down)) = (connection.again(), connection.again()) else { continue };
            locked(&self.open).extend([connection.client, connection.server]);
            thread::spawn(move || up.carry_requests());
            thread::spawn(move || down.carry_responses());
        }
    }

    fn close_all(&self) {
        for stream in locked(&self.open).drain(..) {
            // Already closed by its peer: what was wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits as long as so many bytes may take, in short naps: the rate may change meanwhile.
    fn pace(&self, bytes: u64) {
        const NAP: Duration = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        let is_slower = |waited: Duration| {
            let rate = self.rate.load(Ordering::SeqCst);
            waited.as_secs_f64() * (rate as f64) < bytes as f64
        };
        while self.rate.load(Ordering::SeqCst) != u64::MAX && is_slower(waited) {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            thread::sleep(NAP);
            waited += NAP;
        }
    }

    /// The byte at which a connection is to be cut, if the first fault is of this kind.
    fn limit(&self, kind: fn(Fault) -> Option<u64>) -> Option<u64> {
        locked(&self.faults).first().copied().and_then(kind)
    }

    /// Whether the first fault happens now: not if another connection was faster.
    fn strikes(&self, kind: fn(Fault) -> Option<u64>) -> bool {
        let mut faults = locked(&self.faults);
        let strikes = faults.first().copied().and_then(kind).is_some();
        if strikes {
            faults.remove(0);
            self.happened.fetch_add(1, Ordering::SeqCst);
        }
        strikes
    }
}

impl Fault {
    fn in_request(self) -> Option<u64> {
        match self {
            Self::RequestBody { after_bytes } => Some(after_bytes),
            Self::Response { .. } => None,
        }
    }

    fn in_response(self) -> Option<u64> {
        match self {
            Self::Response { after_bytes } => Some(after_bytes),
            Self::RequestBody { .. } => None,
        }
    }
}

/// One connection to the proxy and the one that it opened for it.
struct Connection {
    shared: Arc<Shared>,
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    fn again(&self) -> std::io::Result<Self> {
        let (client, server) = (self.client.try_clone()?, self.server.try_clone()?);
        Ok(Self { shared: self.shared.clone(), client, server })
    }

    fn carry_requests(mut self) {
        let mut counter = BodyCounter::default();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(got @ 1..) = self.client.read(&mut buffer) {
            let limit = self.shared.limit(Fault::in_request).unwrap_or(u64::MAX);
            let passing = counter.take(&buffer[..got], limit);
            if self.server.write_all(&buffer[..passing]).is_err() {
                break;
            }
            let is_due = counter.is_in_body() && counter.body_bytes() >= limit;
            if is_due && self.shared.strikes(Fault::in_request) {
                break;
            }
            counter.take(&buffer[passing..got], u64::MAX);
            if self.server.write_all(&buffer[passing..got]).is_err() {
                break;
            }
            self.shared.pace(got as u64);
        }
        self.close();
    }

    fn carry_responses(mut self) {
        let mut buffer = vec![0; 64 << 10];
        // Of the answers that came since there is a fault to wait for.
        let mut passed = 0;
        while let Ok(got @ 1..) = self.server.read(&mut buffer) {
            let limit = self.shared.limit(Fault::in_response);
            let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(passed));
            let passing = usize::try_from(room).unwrap_or(usize::MAX).min(got);
            passed = limit.map_or(0, |_| passed + passing as u64);
            if self.client.write_all(&buffer[..passing]).is_err() {
                break;
            }
            let is_due = limit.is_some_and(|limit| passed >= limit);
            if is_due && self.shared.strikes(Fault::in_response) {
                break;
            }
            if self.client.write_all(&buffer[passing..got]).is_err() {
                break;
            }
        }
        self.close();
    }

    fn close(&self) {
        for stream in [&self.client, &self.server] {
            // Already closed by its peer: what was wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers one connection's requests with what it got, and tells how much that was.
    fn sink() -> (String, std::sync::mpsc::Receiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let host = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let tell = tell.clone();
                thread::spawn(move || {
                    let (mut total, mut buffer) = (0, [0; 4096]);
                    while let Ok(got @ 1..) = stream.read(&mut buffer) {
                        total += got;
                        let _ = stream.write_all(&buffer[..got]);
                    }
                    let _ = tell.send(total);
                });
            }
        });
        (host, told)
    }

    #[test]
    fn cuts_a_body_once_at_its_byte() {
        let (host, told) = sink();
        let proxy = FaultProxy::start(&host);
        proxy.inject(Fault::RequestBody { after_bytes: 3 });
        let request = b"PUT / HTTP/1.1\r\ncontent-length: 10\r\n\r\n0123456789";
        for (expected, happened) in [(request.len() - 7, 1), (request.len(), 1)] {
            let mut stream = TcpStream::connect(proxy.host()).unwrap();
            stream.write_all(request).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(told.recv().unwrap(), expected);
            assert_eq!(proxy.happened(), happened);
        }
    }

    #[test]
    fn a_throttled_body_waits_until_it_is_let_go() {
        let (host, told) = sink();
        let proxy = FaultProxy::start(&host);
        proxy.throttle(1);
        let mut stream = TcpStream::connect(proxy.host()).unwrap();
        for _ in 0..2 {
            stream.write_all(b"0123456789").unwrap();
            // The first bytes pass at once, then their ten seconds begin.
            let mut echo = [0; 10];
            stream.read_exact(&mut echo).unwrap();
            proxy.throttle(u64::MAX);
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(told.recv().unwrap(), 20);
    }

    #[test]
    fn cuts_an_answer_and_refuses() {
        let (host, _told) = sink();
        let proxy = FaultProxy::start(&host);
        proxy.inject(Fault::Response { after_bytes: 5 });
        let exchange = || {
            let mut stream = TcpStream::connect(proxy.host()).unwrap();
            let mut answer = Vec::new();
            let _ = stream.write_all(b"0123456789").and_then(|()| stream.read_to_end(&mut answer));
            answer
        };
        assert_eq!(exchange(), b"01234");
        assert_eq!(proxy.happened(), 1);
        proxy.refuse(true);
        assert_eq!(exchange(), b"");
    }
}
