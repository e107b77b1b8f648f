//! Counting the bytes of request bodies in a stream of HTTP/1.1 requests (RFC 9112).

/// Follows the requests of one connection as their bytes pass.
#[derive(Debug, Default)]
pub(super) struct BodyCounter {
    state: State,
    line: Vec<u8>,
    /// Of the request whose bytes pass now.
    body_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// Request line and fields: `framing` is what they have announced so far.
    #[default]
    Start,
    Fields(Framing),
    Length(u64),
    ChunkSize,
    Chunk(u64),
    /// The line break after a chunk.
    ChunkEnd,
    Trailer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Length(u64),
    Chunked,
}

impl BodyCounter {
    /// Bytes of the current request's body that have passed.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether the current request's head has passed and its end has not.
    pub(super) fn is_in_body(&self) -> bool {
        !matches!(self.state, State::Start | State::Fields(_))
    }

    /// Takes the next bytes and returns how many of them may pass, so that no request gets more
    /// than `limit` bytes of its body through.
    pub(super) fn take(&mut self, bytes: &[u8], limit: u64) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.is_in_body() && self.body_bytes >= limit {
                return at;
            }
            match self.state {
                State::Length(left) | State::Chunk(left) => {
                    let most = left.min(limit - self.body_bytes).min((bytes.len() - at) as u64);
                    at += usize::try_from(most).expect("not more than the slice's length");
                    self.body_bytes += most;
                    self.state = self.after_content(left - most);
                }
                _ => {
                    self.take_line_byte(bytes[at]);
                    at += 1;
                }
            }
        }
        at
    }

    fn after_content(&self, left: u64) -> State {
        match (self.state, left) {
            (State::Chunk(_), 0) => State::ChunkEnd,
            (State::Chunk(_), left) => State::Chunk(left),
            (_, 0) => State::Start,
            (_, left) => State::Length(left),
        }
    }

    fn take_line_byte(&mut self, byte: u8) {
        if byte != b'\n' {
            self.line.push(byte);
            return;
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim().to_ascii_lowercase();
        self.state = match self.state {
            State::Start if line.is_empty() => State::Start,
            State::Start => {
                self.body_bytes = 0;
                State::Fields(Framing::Length(0))
            }
            State::Fields(framing) if line.is_empty() => match framing {
                Framing::Length(0) => State::Start,
                Framing::Length(bytes) => State::Length(bytes),
                Framing::Chunked => State::ChunkSize,
            },
            State::Fields(framing) => State::Fields(announced(&line).unwrap_or(framing)),
            State::ChunkSize => {
                let size = line.split(';').next().unwrap_or_default();
                match u64::from_str_radix(size, 16).expect("the client writes valid chunks") {
                    0 => State::Trailer,
                    bytes => State::Chunk(bytes),
                }
            }
            State::Trailer if line.is_empty() => State::Start,
            State::Trailer => State::Trailer,
            State::ChunkEnd | State::Length(_) | State::Chunk(_) => State::ChunkSize,
        };
    }
}

fn announced(field: &str) -> Option<Framing> {
    match field.split_once(':')? {
        ("content-length", length) => length.trim().parse().ok().map(Framing::Length),
        ("transfer-encoding", coding) if coding.contains("chunked") => Some(Framing::Chunked),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_bodies_and_stops_at_the_limit() {
        let plain = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd";
        let chunked =
            "PATCH / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        for (stream, limit, passing) in [
            (plain.to_owned(), 100, plain.len()),
            (plain.to_owned(), 2, plain.len() - 2),
            (chunked.to_owned(), 100, chunked.len()),
            (chunked.to_owned(), 2, chunked.find("c\r\n2").unwrap()),
            (chunked.to_owned(), 4, chunked.find("e\r\n0").unwrap()),
            (format!("GET / HTTP/1.1\r\n\r\n{plain}"), 0, plain.len() - 4 + 18),
            (format!("{plain}{chunked}"), 5, plain.len() + chunked.find("\r\n0").unwrap()),
        ] {
            for pieces in [1, 3, 1000] {
                let mut counter = BodyCounter::default();
                let mut passed = 0;
                for piece in stream.as_bytes().chunks(pieces) {
                    let taken = counter.take(piece, limit);
                    passed += taken;
                    if taken < piece.len() {
                        break;
                    }
                }
                assert_eq!(passed, passing, "{stream:?} {limit} in pieces of {pieces}");
            }
        }
    }
}
