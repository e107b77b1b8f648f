//! Answers.

use std::{
    io::{self, Write},
    ops::Range,
    sync::Arc,
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
}

impl Reply {
    /// Without a body.
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Arc::new([]), range: 0..0, claimed: None }
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

    /// Bytes of the body.
    pub(crate) fn len(&self) -> u64 {
        self.range.len() as u64
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
            wire.write_all(&self.body[self.range.clone()])?;
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
