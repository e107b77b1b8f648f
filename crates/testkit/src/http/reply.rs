//! Answers.

use std::{
    fmt,
    io::{self, Read, Write},
    ops::Range,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// An answer. Its body is not sent to a `HEAD`, whose `Content-Length` is the body's all the same.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(&'static str, String)>,
    body: Arc<[u8]>,
    range: Range<usize>,
    /// What `Content-Length` says instead of the body's length.
    claimed: Option<u64>,
    /// The body, where it is made while it is sent.
    made: Option<Made>,
    /// The connection ends after so many bytes of the body.
    cut: Option<u64>,
    /// Bytes of the body in a second, at most.
    rate: Option<u64>,
}

/// A body that nobody keeps: how many bytes, and what gives them.
#[derive(Clone)]
struct Made {
    bytes: u64,
    open: Arc<dyn Fn() -> Box<dyn Read> + Send + Sync>,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Made({})", self.bytes)
    }
}

const PIECE_BYTES: usize = 64 << 10;

impl Reply {
    /// Without a body.
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Arc::new([]),
            range: 0..0,
            claimed: None,
            made: None,
            cut: None,
            rate: None,
        }
    }

    pub(crate) fn text(status: u16, kind: &str, text: &str) -> Self {
        Self::bytes(status, kind, text.as_bytes().into())
    }

    pub(crate) fn json(status: u16, kind: &str, value: &Value) -> Self {
        Self::text(status, kind, &value.to_string())
    }

    pub(crate) fn bytes(status: u16, kind: &str, body: Arc<[u8]>) -> Self {
        let range = 0..body.len();
        Self { body, range, ..Self::new(status) }.with("content-type", kind)
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Says that the body has so many bytes, for answers to `HEAD` about something that is not kept.
    #[must_use]
    pub(crate) fn claiming(mut self, bytes: u64) -> Self {
        self.claimed = Some(bytes);
        self
    }

    /// Sends only this part of the body.
    #[must_use]
    pub(crate) fn only(mut self, range: Range<usize>) -> Self {
        self.range = range;
        self
    }

    /// A body of so many bytes that `open` gives while they are sent.
    #[must_use]
    pub(crate) fn made(
        mut self,
        bytes: u64,
        open: impl Fn() -> Box<dyn Read> + Send + Sync + 'static,
    ) -> Self {
        self.made = Some(Made { bytes, open: Arc::new(open) });
        self
    }

    /// Ends the connection after so many bytes of the body.
    #[must_use]
    pub(crate) fn cut(mut self, after_bytes: Option<u64>) -> Self {
        self.cut = after_bytes;
        self
    }

    /// Sends no more than so many bytes of the body in a second.
    #[must_use]
    pub(crate) fn slowed(mut self, bytes_per_second: Option<u64>) -> Self {
        self.rate = bytes_per_second;
        self
    }

    /// Bytes of the body.
    pub(crate) fn len(&self) -> u64 {
        self.made.as_ref().map_or(self.range.len() as u64, |made| made.bytes)
    }

    fn write_body(&self, wire: &mut impl Write) -> io::Result<()> {
        let mut content: Box<dyn Read> = match &self.made {
            Some(made) => (made.open)(),
            None if self.cut.is_none() && self.rate.is_none() => {
                return wire.write_all(&self.body[self.range.clone()]);
            }
            None => Box::new(&self.body[self.range.clone()]),
        };
        let (start, mut sent, mut piece) = (Instant::now(), 0, vec![0; PIECE_BYTES]);
        while sent < self.len() {
            let left = self.cut.unwrap_or(u64::MAX).saturating_sub(sent).min(self.len() - sent);
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let got = content.read(&mut piece[..most])?;
            if got == 0 {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            wire.write_all(&piece[..got])?;
            sent += got as u64;
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(sent as f64 / rate as f64);
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, wire: &mut impl Write, is_head: bool, closes: bool) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        // RFC 9110, 8.6: no length where there is never a body.
        if self.status >= 200 && self.status != 204 {
            head.push_str(&format!("content-length: {}\r\n", self.claimed.unwrap_or(self.len())));
        }
        if closes {
            head.push_str("connection: close\r\n");
        }
        wire.write_all(format!("{head}\r\n").as_bytes())?;
        if !is_head {
            self.write_body(wire)?;
        }
        wire.flush()
    }
}

pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
