//! Following the messages of a connection (RFC 9112) as their bytes pass.

/// Follows one direction of a connection.
#[derive(Debug)]
pub(super) struct Messages {
    direction: Direction,
    state: State,
    line: Vec<u8>,
    start: String,
    /// Of the message whose bytes pass now.
    body_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Requests,
    /// The next answer is to a `HEAD`, or not.
    Answers {
        has_no_body: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Start line and fields: `framing` is what they have announced so far.
    Start,
    Fields(Framing),
    Length(u64),
    ChunkSize,
    Chunk(u64),
    /// The line break after a chunk.
    ChunkEnd,
    Trailer,
    UntilClose,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Messages {
    /// What a client sends.
    pub(super) fn requests() -> Self {
        Self::new(Direction::Requests)
    }

    /// What a server sends.
    pub(super) fn answers() -> Self {
        Self::new(Direction::Answers { has_no_body: false })
    }

    fn new(direction: Direction) -> Self {
        Self { direction, state: State::Start, line: Vec::new(), start: String::new(), body_bytes: 0 }
    }

    /// Before an answer's head ends: says whether its body is left out because a `HEAD` asked.
    pub(super) fn expect_answer(&mut self, to_head: bool) {
        self.direction = Direction::Answers { has_no_body: to_head };
    }

    /// The line that the current message began with, in lower case.
    pub(super) fn start_line(&self) -> &str {
        &self.start
    }

    /// Whether the current message is an answer before the answer, such as `100 Continue`.
    pub(super) fn is_interim(&self) -> bool {
        self.status().starts_with('1')
    }

    /// Bytes of the current message's body that have passed.
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether the current message's head has not passed.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.state, State::Fields(_)) || self.state == State::Start && !self.line.is_empty()
    }

    /// Whether the current message's head has passed and its end has not.
    pub(super) fn is_in_body(&self) -> bool {
        !matches!(self.state, State::Start | State::Fields(_))
    }

    /// Takes the next bytes and returns how many of them belong together: up to the end of a head, the
    /// end of a message, or `limit` bytes of the body.
    pub(super) fn take(&mut self, bytes: &[u8], limit: u64) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.is_in_body() && self.body_bytes >= limit {
                return at;
            }
            let was = self.state;
            match self.state {
                State::Length(_) | State::Chunk(_) | State::UntilClose => {
                    at += self.take_content(bytes.len() - at, limit);
                }
                _ => {
                    self.take_line_byte(bytes[at]);
                    at += 1;
                }
            }
            let head_ended = matches!(was, State::Fields(_)) && !matches!(self.state, State::Fields(_));
            if head_ended || was != State::Start && self.state == State::Start {
                return at;
            }
        }
        at
    }

    fn take_content(&mut self, there: usize, limit: u64) -> usize {
        let left = match self.state {
            State::Length(left) | State::Chunk(left) => left,
            _ => u64::MAX,
        };
        let most = left.min(limit - self.body_bytes).min(there as u64);
        self.body_bytes += most;
        self.state = match (self.state, left - most) {
            (State::Length(_), 0) => State::Start,
            (State::Length(_), left) => State::Length(left),
            (State::Chunk(_), 0) => State::ChunkEnd,
            (State::Chunk(_), left) => State::Chunk(left),
            (state, _) => state,
        };
        usize::try_from(most).expect("not more than what is there")
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
                self.start = line;
                State::Fields(self.unannounced())
            }
            State::Fields(framing) if line.is_empty() => match framing {
                Framing::Length(0) => State::Start,
                Framing::Length(bytes) => State::Length(bytes),
                Framing::Chunked => State::ChunkSize,
                Framing::UntilClose => State::UntilClose,
            },
            State::Fields(framing) if self.has_no_body() => State::Fields(framing),
            State::Fields(framing) => State::Fields(announced(&line).unwrap_or(framing)),
            State::ChunkSize => {
                let size = line.split(';').next().unwrap_or_default();
                match u64::from_str_radix(size, 16).expect("who sends chunks writes valid ones") {
                    0 => State::Trailer,
                    bytes => State::Chunk(bytes),
                }
            }
            State::Trailer if line.is_empty() => State::Start,
            State::Trailer => State::Trailer,
            State::ChunkEnd | State::Length(_) | State::Chunk(_) | State::UntilClose => State::ChunkSize,
        };
    }

    fn unannounced(&self) -> Framing {
        match self.direction {
            Direction::Answers { .. } if !self.has_no_body() => Framing::UntilClose,
            _ => Framing::Length(0),
        }
    }

    /// RFC 9112, 6.3: whatever the fields say.
    fn has_no_body(&self) -> bool {
        match self.direction {
            Direction::Requests => false,
            Direction::Answers { has_no_body } => {
                has_no_body || self.is_interim() || ["204", "304"].contains(&self.status())
            }
        }
    }

    fn status(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
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

    /// How many bytes pass before the first body byte beyond the limit, and bodies' sizes.
    fn passed(messages: &mut Messages, stream: &str, limit: u64, pieces: usize) -> (usize, Vec<u64>) {
        let (mut passed, mut bodies) = (0, Vec::new());
        for piece in stream.as_bytes().chunks(pieces) {
            let mut rest = piece;
            while !rest.is_empty() {
                let taken = messages.take(rest, limit);
                if taken == 0 {
                    return (passed, bodies);
                }
                passed += taken;
                rest = &rest[taken..];
                if messages.state == State::Start && !messages.is_in_head() {
                    bodies.push(messages.body_bytes());
                }
            }
        }
        (passed, bodies)
    }

    #[test]
    fn follows_requests_and_stops_at_the_limit() {
        let plain = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd";
        let chunked =
            "PATCH / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        for (stream, limit, passing, bodies) in [
            (plain.to_owned(), 100, plain.len(), vec![4]),
            (plain.to_owned(), 2, plain.len() - 2, vec![]),
            (chunked.to_owned(), 100, chunked.len(), vec![5]),
            (chunked.to_owned(), 2, chunked.find("c\r\n2").unwrap(), vec![]),
            (chunked.to_owned(), 4, chunked.find("e\r\n0").unwrap(), vec![]),
            (format!("GET / HTTP/1.1\r\n\r\n{plain}"), 0, plain.len() - 4 + 18, vec![0]),
            (format!("{plain}{chunked}"), 5, plain.len() + chunked.find("\r\n0").unwrap(), vec![4]),
        ] {
            for pieces in [1, 3, 1000] {
                let actual = passed(&mut Messages::requests(), &stream, limit, pieces);
                assert_eq!(actual, (passing, bodies.clone()), "{stream:?} {limit} in pieces of {pieces}");
            }
        }
    }

    #[test]
    fn answers_without_a_body_have_none() {
        for (to_head, stream, bodies) in [
            (false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", vec![2]),
            (true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", vec![0]),
            (false, "HTTP/1.1 204 No Content\r\n\r\n", vec![0]),
            (
                false,
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n",
                vec![0, 0],
            ),
            (false, "HTTP/1.1 200 OK\r\n\r\nuntil the end", vec![]),
        ] {
            for pieces in [1, 3, 1000] {
                let mut messages = Messages::answers();
                messages.expect_answer(to_head);
                let actual = passed(&mut messages, stream, u64::MAX, pieces);
                assert_eq!(actual, (stream.len(), bodies.clone()), "{stream:?} in pieces of {pieces}");
            }
        }
    }
}
