//! How long a request's body is (RFC 9112, 6.3) and reading it.

use std::io::{self, BufRead, Read};

use super::{line, malformed};

/// Where a request's body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Framing {
    end: End,
    /// The client sends nothing until it is told to go on (RFC 9110, 10.1.1).
    waits: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// After so many bytes.
    Length(u64),
    /// So many bytes are left of the current chunk.
    Chunk {
        left: u64,
    },
    /// The next chunk's size follows; the line break of the chunk before it is still to come or not.
    ChunkSize {
        is_first: bool,
    },
    Done,
}

impl Framing {
    pub(super) fn of(headers: &[(String, String)]) -> io::Result<Self> {
        let value = |name| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let end = match (value("transfer-encoding"), value("content-length")) {
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => {
                End::ChunkSize { is_first: true }
            }
            (None, None) => End::Done,
            (None, Some(length)) => match length.parse().map_err(|_| malformed("a length"))? {
                0 => End::Done,
                bytes => End::Length(bytes),
            },
            (Some(_), _) => return Err(malformed("one framing of the body")),
        };
        let waits = value("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        Ok(Self { end, waits: waits && end != End::Done })
    }

    pub(super) fn is_done(&self) -> bool {
        self.end == End::Done
    }

    pub(super) fn length(&self) -> Option<u64> {
        match self.end {
            End::Length(bytes) => Some(bytes),
            End::Done => Some(0),
            End::Chunk { .. } | End::ChunkSize { .. } => None,
        }
    }

    /// Whether the client must be told to go on now; says so once.
    pub(super) fn asks_to_continue(&mut self) -> bool {
        std::mem::take(&mut self.waits)
    }

    pub(super) fn read(&mut self, wire: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.end {
                End::Done => return Ok(0),
                End::Length(left) | End::Chunk { left } => {
                    let got = wire.take(left).read(buffer)?;
                    if got == 0 && !buffer.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.end = self.end.after(got as u64);
                    return Ok(got);
                }
                End::ChunkSize { is_first } => self.end = next_chunk(wire, is_first)?,
            }
        }
    }
}

impl End {
    fn after(self, got: u64) -> Self {
        match self {
            Self::Length(left) if left == got => Self::Done,
            Self::Length(left) => Self::Length(left - got),
            Self::Chunk { left } if left == got => Self::ChunkSize { is_first: false },
            Self::Chunk { left } => Self::Chunk { left: left - got },
            end => end,
        }
    }
}

fn next_chunk(wire: &mut impl BufRead, is_first: bool) -> io::Result<End> {
    let mut next = || line(wire)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
    if !is_first && !next()?.is_empty() {
        return Err(malformed("the end of a chunk"));
    }
    let size = next()?;
    let size = size.split(';').next().unwrap_or_default().trim();
    match u64::from_str_radix(size, 16).map_err(|_| malformed("the size of a chunk"))? {
        0 => {
            while !next()?.is_empty() {}
            Ok(End::Done)
        }
        left => Ok(End::Chunk { left }),
    }
}
