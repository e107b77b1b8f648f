//! A server on loopback that says what it was asked, and misbehaves as told.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Method and path.
    pub(super) line: String,
    headers: Vec<(String, String)>,
    /// How many requests came before.
    pub(super) before: usize,
}

impl Asked {
    /// A header's value; empty if it is missing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The first byte that is asked for.
    pub(super) fn start(&self) -> usize {
        let range = self.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
        range.map_or(0, |start| start.parse().unwrap())
    }
}

/// What is answered: raw bytes, after which the connection is closed.
type Answer = dyn Fn(&Asked) -> Vec<u8> + Send + Sync;

pub(super) struct Server {
    /// `http://127.0.0.1:PORT`.
    pub(super) origin: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers each request, one per connection, until the test ends.
    pub(super) fn start(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                // Whoever asked may go away at any time.
                thread::spawn(move || serve(connection, &log, &*answer).ok());
            }
        });
        Self { origin, asked }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// All requests so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// What `range` and `if-range` were in all requests so far.
    pub(super) fn ranges(&self) -> Vec<(String, String)> {
        let header = |asked: &Asked, name| asked.header(name).to_owned();
        self.asked().iter().map(|asked| (header(asked, "range"), header(asked, "if-range"))).collect()
    }
}

fn serve(mut connection: TcpStream, log: &Mutex<Vec<Asked>>, answer: &Answer) -> io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let mut line = lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
    line.truncate(line.rfind(' ').unwrap());
    let mut headers = Vec::new();
    for header in lines {
        let header = header?;
        let Some((name, value)) = header.split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let asked = {
        let mut log = log.lock().unwrap();
        let asked = Asked { line, headers, before: log.len() };
        log.push(asked.clone());
        asked
    };
    connection.write_all(&answer(&asked))?;
    connection.shutdown(std::net::Shutdown::Write)?;
    // Closing with unread bytes would reset the connection before the answer arrived.
    io::copy(&mut connection, &mut io::sink()).map(drop)
}

/// An answer of `status` with `headers`, each with its line end, before `body`.
pub(super) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").as_bytes(), body].concat()
}

/// All of `body`, with its length.
pub(super) fn whole(headers: &str, body: &[u8]) -> Vec<u8> {
    answer("200 OK", &format!("Content-Length: {}\r\n{headers}", body.len()), body)
}

/// The part of `body` that is asked for.
pub(super) fn ranged(asked: &Asked, headers: &str, body: &[u8]) -> Vec<u8> {
    let (start, length) = (asked.start(), body.len());
    if start == 0 {
        return whole(headers, body);
    }
    let headers = format!(
        "Content-Range: bytes {start}-{}/{length}\r\nContent-Length: {}\r\n{headers}",
        length - 1,
        length - start
    );
    answer("206 Partial Content", &headers, &body[start..])
}

/// `body` in chunks of three bytes, without its length.
pub(super) fn chunked(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for chunk in body.chunks(3) {
        encoded.extend(format!("{:x}\r\n", chunk.len()).bytes());
        encoded.extend(chunk);
        encoded.extend(b"\r\n");
    }
    encoded.extend(b"0\r\n\r\n");
    answer("200 OK", &format!("Transfer-Encoding: chunked\r\n{headers}"), &encoded)
}
