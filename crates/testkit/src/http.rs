//! A small HTTP/1.1 server (RFC 9112) for stand-ins: one thread for each connection, bodies as
//! streams, and the ways to misbehave that a test asks for.
//!
//! It is strict: a request that no correct client sends ends its connection. An answer that is given
//! before the request's body was read to its end closes the connection after it, once the client has
//! stopped sending: a reset could overtake the answer.

mod body;
mod date;
mod form;
mod range;
mod reply;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use body::Framing;
pub(crate) use date::{compact, http_date, iso, parse_compact};
pub(crate) use form::{decoded, encoded, pairs};
pub(crate) use range::{parse_range, ranged};
pub(crate) use reply::{Reply, reason};

/// What a stand-in does with a request. Nothing as the answer: close the connection without one.
type Handler = dyn Fn(&mut Incoming<'_>) -> Option<Reply> + Send + Sync;

/// A server on a loopback port, ended when dropped.
#[derive(Debug)]
pub(crate) struct HttpServer {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    /// By number, in the order of their coming.
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

/// A request whose head was read and whose body waits.
pub(crate) struct Incoming<'connection> {
    pub(crate) method: String,
    /// Path without query, as it was sent.
    pub(crate) path: String,
    /// What follows the question mark, or nothing.
    pub(crate) query: String,
    /// Names in lower case, values without space around them.
    pub(crate) headers: Vec<(String, String)>,
    framing: Framing,
    body_bytes: u64,
    breaks: Option<(u64, Break)>,
    wire: &'connection mut BufReader<TcpStream>,
    shared: &'connection Shared,
}

/// How reading a body breaks off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Break {
    /// As if the connection were gone.
    Cut,
    /// Nothing comes any more, until the server ends.
    Stall,
}

/// Longest line of a head.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// The kernel's buffers hold about as much.
const BUFFER_BYTES: usize = 256 << 10;

impl HttpServer {
    /// A server that asks `handler` for each answer.
    pub(crate) fn start(
        handler: impl Fn(&mut Incoming<'_>) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared::default());
        let (accepting, handler): (_, Arc<Handler>) = (shared.clone(), Arc::new(handler));
        thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming().flatten()) {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(again) = stream.try_clone() {
                    locked(&accepting.open).insert(number, again);
                }
                let (shared, handler) = (accepting.clone(), handler.clone());
                thread::spawn(move || {
                    serve(stream, &shared, &*handler);
                    locked(&shared.open).remove(&number);
                });
            }
        });
        Self { port, shared }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for stream in locked(&self.shared.open).values() {
            // Already closed by its peer: what was wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the thread that accepts; if nothing listens any more, it has ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// Answers the requests of one connection until it ends.
fn serve(stream: TcpStream, shared: &Shared, handler: &Handler) {
    let Ok(mut answers) = stream.try_clone() else { return };
    // Small answers leave at once.
    let _ = answers.set_nodelay(true);
    let mut wire = BufReader::with_capacity(BUFFER_BYTES, stream);
    while let Ok(Some(mut request)) = Incoming::read(&mut wire, shared) {
        let Some(reply) = handler(&mut request) else { break };
        let (is_head, is_done) = (request.method == "HEAD", request.framing.is_done());
        let closes = !is_done || request.header("connection").is_some_and(|what| what == "close");
        if reply.write(&mut answers, is_head, closes).is_err() {
            break;
        }
        if closes {
            let _ = answers.shutdown(Shutdown::Write);
            // Until the client has read the answer and closed, or has sent all that it wanted.
            let _ = io::copy(&mut wire, &mut io::sink());
            break;
        }
    }
    // Already closed by its peer: what was wanted.
    let _ = answers.shutdown(Shutdown::Both);
}

impl<'connection> Incoming<'connection> {
    /// The next request of a connection, or nothing if the client has closed it.
    fn read(
        wire: &'connection mut BufReader<TcpStream>,
        shared: &'connection Shared,
    ) -> io::Result<Option<Self>> {
        let Some(line) = line(wire)? else { return Ok(None) };
        let words: Vec<&str> = line.split(' ').collect();
        let &[method, target, "HTTP/1.1" | "HTTP/1.0"] = words.as_slice() else {
            return Err(malformed("a request line"));
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Vec::new();
        while let Some(line) = self::line(wire)?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            framing: Framing::of(&headers)?,
            headers,
            body_bytes: 0,
            breaks: None,
            wire,
            shared,
        }))
    }

    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter in the query, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        pairs(&self.query).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// How many bytes the body has; nothing if that shows at its end.
    pub(crate) fn length(&self) -> Option<u64> {
        self.framing.length()
    }

    /// Bytes of the body that were read so far.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Breaks reading of the body off as soon as so many bytes of it came.
    pub(crate) fn break_body(&mut self, after_bytes: u64, how: Break) {
        self.breaks = Some((after_bytes, how));
    }

    /// The whole body. Fails if it is cut or has more than `bytes_max` bytes.
    pub(crate) fn read_all(&mut self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let limit = bytes_max + 1;
        Read::by_ref(self).take(limit).read_to_end(&mut all)?;
        if all.len() as u64 == limit { Err(malformed("a short body")) } else { Ok(all) }
    }

    /// The connection itself, to read from and to write to, for answers that no [`Reply`] can be. Whoever
    /// takes it gives no reply.
    pub(crate) fn wire(&mut self) -> (&mut BufReader<TcpStream>, TcpStream) {
        let out = self.wire.get_ref().try_clone().expect("a socket can be shared");
        (self.wire, out)
    }

    /// Waits until the client goes away or the server ends.
    pub(crate) fn stall(&mut self) {
        const NAP: Duration = Duration::from_millis(10);
        let mut probe = [0];
        let stream = self.wire.get_ref();
        let _ = stream.set_nonblocking(true);
        while !self.shared.stopped.load(Ordering::SeqCst) {
            match stream.peek(&mut probe) {
                // Bytes that nobody takes any more may hide that the client went away: it is noticed
                // when the server ends.
                Ok(1..) => thread::sleep(NAP),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(NAP),
                Ok(0) | Err(_) => return,
            }
        }
    }
}

impl Read for Incoming<'_> {
    /// Bytes of the body without its framing. A body that ends too soon is an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.framing.asks_to_continue() {
            self.wire.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let room = self.breaks.map_or(u64::MAX, |(after_bytes, _)| after_bytes - self.body_bytes);
        if let (0, Some((_, how))) = (room, self.breaks) {
            if how == Break::Stall {
                self.stall();
            }
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.framing.read(self.wire, &mut buffer[..most])?;
        self.body_bytes += got as u64;
        Ok(got)
    }
}

/// A line without its end, or nothing if the stream is at its end.
fn line(wire: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if wire.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let line = line.strip_suffix(b"\r\n").ok_or_else(|| malformed("a line that ends"))?;
    String::from_utf8(line.to_vec()).map(Some).map_err(|_| malformed("text"))
}

fn malformed(expected: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("expected {expected}"))
}

pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
