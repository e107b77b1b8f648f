//! A registry that answers what a test tells it to: HTTP/1.1, one thread for each connection.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A request as it came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `METHOD target`, for comparing whole conversations.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// Whether it is this method and the path has this part.
    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How much of the body is sent before the connection is closed.
    sent: Option<usize>,
    /// Answered before the request's body is read, and then closed.
    is_early: bool,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), sent: None, is_early: false }
    }

    /// No answer: the connection is closed when the request has come.
    pub(crate) fn lost() -> Self {
        Self::status(0)
    }

    pub(crate) fn header(mut self, name: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn early(mut self) -> Self {
        self.is_early = true;
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.sent = Some(bytes);
        self
    }
}

type Script = dyn Fn(&Received, &str) -> Reply + Send + Sync;

/// A server on a loopback port; its threads end with the process.
pub(crate) struct Server {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Answers each request with what `script` makes of it, without its body, and of the server's own
    /// `host:port`.
    pub(crate) fn start(script: impl Fn(&Received, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&received));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                thread::spawn(move || {
                    serve(&connection.unwrap(), &*script, &log, &format!("127.0.0.1:{port}"));
                });
            }
        });
        Self { port, received }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All requests so far, but for the first look at `/v2/`.
    pub(crate) fn received(&self) -> Vec<Received> {
        let received = self.received.lock().unwrap();
        received.iter().filter(|request| request.target != "/v2/").cloned().collect()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.received().iter().map(Received::line).collect()
    }
}

fn serve(connection: &TcpStream, script: &Script, log: &Mutex<Vec<Received>>, host: &str) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    while let Some(mut request) = head(&mut reader) {
        let reply = script(&request, host);
        if !reply.is_early && body(&mut reader, &mut request).is_none() {
            break;
        }
        log.lock().unwrap().push(request.clone());
        if reply.status == 0 {
            break;
        }
        if answer(connection, &request, &reply).is_none() || reply.sent.is_some() {
            break;
        }
        if reply.is_early {
            // A connection closed with unread bytes is reset, and takes the answer along.
            connection.shutdown(Shutdown::Write).unwrap();
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
            break;
        }
    }
}

fn head(reader: &mut impl BufRead) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let mut request = Received {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        ..Received::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(request)
}

fn body(reader: &mut impl BufRead, request: &mut Received) -> Option<()> {
    if request.header("transfer-encoding") == Some("chunked") {
        request.body = chunks(reader)?;
    } else if let Some(length) = request.header("content-length") {
        request.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut request.body).ok()?;
    }
    Some(())
}

fn chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        reader.read_line(&mut String::new()).ok()?;
        if size == 0 {
            return Some(body);
        }
    }
}

fn answer(mut connection: &TcpStream, request: &Received, reply: &Reply) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    connection.write_all(head.as_bytes()).ok()?;
    if request.method != "HEAD" {
        connection.write_all(&reply.body[..reply.sent.unwrap_or(reply.body.len())]).ok()?;
    }
    Some(())
}
