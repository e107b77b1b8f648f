//! Packets of git's protocols (gitprotocol-common): four hex digits of length, then data.

use std::io::{self, Read};

use super::problem::{Failure, GitProblem};

/// The longest packet, its length included (`LARGE_PACKET_MAX`).
const PACKET_BYTES_MAX: usize = 65520;
/// What a server says of itself in errors is cut to this.
const SAID_CHARS: usize = 300;

/// One packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packet<'a> {
    Data(&'a [u8]),
    /// The end of a message.
    Flush,
    /// The end of a section.
    Delimiter,
}

/// Reads packets.
pub(super) struct Packets<R> {
    inner: R,
    buffer: Vec<u8>,
}

impl<R: Read> Packets<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, buffer: Vec::new() }
    }

    /// The next packet; `None` where the bytes end. A packet by which the server gives up is a failure.
    pub(super) fn next(&mut self) -> Result<Option<Packet<'_>>, Failure> {
        let Some(length) = self.length()? else { return Ok(None) };
        match length {
            0 => return Ok(Some(Packet::Flush)),
            1 => return Ok(Some(Packet::Delimiter)),
            4..=PACKET_BYTES_MAX => {}
            _ => return Err(broken("a packet has a length that none can have")),
        }
        self.buffer.resize(length - 4, 0);
        self.inner.read_exact(&mut self.buffer).map_err(ended_early)?;
        match self.buffer.strip_prefix(b"ERR ") {
            Some(said) => Err(GitProblem::Refused { said: said_text(said) }.into()),
            None => Ok(Some(Packet::Data(&self.buffer))),
        }
    }

    fn length(&mut self) -> Result<Option<usize>, Failure> {
        let mut digits = [0; 4];
        let mut got = 0;
        while got < digits.len() {
            match self.inner.read(&mut digits[got..])? {
                0 if got == 0 => return Ok(None),
                0 => return Err(broken("it ends in the middle of a packet")),
                more => got += more,
            }
        }
        let digits = std::str::from_utf8(&digits).ok();
        // `from_str_radix` takes a sign too.
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let length = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        length.map(Some).ok_or_else(|| broken("a packet begins with something that is no length"))
    }
}

/// The text of a line, which may end in a line feed.
pub(super) fn text(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// What a server said, as it may be shown.
pub(super) fn said_text(said: &[u8]) -> String {
    ocib_net::printable(said.trim_ascii(), SAID_CHARS)
}

/// An answer that is no git.
pub(super) fn broken(why: &str) -> Failure {
    GitProblem::NotGit { why: why.to_owned() }.into()
}

fn ended_early(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => broken("it ends in the middle of a packet"),
        _ => error.into(),
    }
}

/// Appends a packet with a line.
pub(super) fn push_line(packets: &mut Vec<u8>, line: &str) {
    packets.extend(format!("{:04x}{line}\n", line.len() + 5).bytes());
}

/// Ends a section.
pub(super) fn push_delimiter(packets: &mut Vec<u8>) {
    packets.extend(b"0001");
}

/// Ends a message.
pub(super) fn push_flush(packets: &mut Vec<u8>) {
    packets.extend(b"0000");
}

/// The pack in the last section of an answer to `fetch`: band 1 of each packet, until the flush.
/// What is on band 3 is an error.
pub(super) struct PackBand<R> {
    packets: Packets<R>,
    /// What of the current packet was read.
    at: usize,
    is_done: bool,
}

impl<R: Read> PackBand<R> {
    /// Reads what comes before the pack.
    pub(super) fn begin(mut packets: Packets<R>) -> Result<Self, Failure> {
        loop {
            match packets.next()? {
                Some(Packet::Data(line)) if text(line) == b"packfile" => break,
                // Acknowledgments and shallow-info tell nothing that the objects do not.
                Some(Packet::Data(_) | Packet::Delimiter) => {}
                Some(Packet::Flush) | None => return Err(broken("there is no pack in its answer")),
            }
        }
        packets.buffer.clear();
        Ok(Self { packets, at: 0, is_done: false })
    }

    fn next_piece(&mut self) -> Result<(), Failure> {
        loop {
            match self.packets.next()? {
                Some(Packet::Data([1, data @ ..])) if !data.is_empty() => {
                    self.at = 1;
                    return Ok(());
                }
                // Progress, and packets that keep a connection alive.
                Some(Packet::Data([1 | 2, ..])) => {}
                Some(Packet::Data([3, said @ ..])) => {
                    return Err(GitProblem::Refused { said: said_text(said) }.into());
                }
                Some(Packet::Flush) => {
                    self.is_done = true;
                    return Ok(());
                }
                Some(_) => return Err(broken("a packet of the pack is on no known band")),
                None => return Err(broken("the pack ends early")),
            }
        }
    }
}

impl<R: Read> Read for PackBand<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.packets.buffer.len() && !self.is_done {
            self.next_piece().map_err(carried)?;
        }
        if self.is_done {
            return Ok(0);
        }
        let piece = &self.packets.buffer[self.at..];
        let taken = piece.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&piece[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// A failure on its way through a reader; [`recovered`] is where it comes out again.
fn carried(failure: Failure) -> io::Error {
    match failure {
        Failure::Io(error) => error,
        Failure::Problem(problem) => io::Error::other(problem),
    }
}

/// The failure that a reader of a [`PackBand`] brought.
pub(super) fn recovered(error: io::Error) -> Failure {
    match error.downcast::<GitProblem>() {
        Ok(problem) => problem.into(),
        Err(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut packets = Packets::new(&mut bytes);
        let mut seen = Vec::new();
        while let Some(packet) = packets.next().map_err(shown)? {
            seen.push(match packet {
                Packet::Data(data) => String::from_utf8_lossy(text(data)).into_owned(),
                Packet::Flush => "(flush)".to_owned(),
                Packet::Delimiter => "(delimiter)".to_owned(),
            });
        }
        Ok(seen)
    }

    fn shown(failure: Failure) -> String {
        match failure {
            Failure::Problem(problem) => problem.to_string(),
            Failure::Io(error) => error.to_string(),
        }
    }

    #[test]
    fn packets_of_all_kinds() {
        for (bytes, expected) in [
            (&b""[..], vec![]),
            (b"0006a\n0000", vec!["a", "(flush)"]),
            (b"0005a00010004", vec!["a", "(delimiter)", ""]),
            (b"000Aabcdef", vec!["abcdef"]),
        ] {
            assert_eq!(all(bytes).unwrap(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn packets_that_are_none() {
        let begins =
            "it does not answer as a git repository: a packet begins with something that is no length";
        let middle = "it does not answer as a git repository: it ends in the middle of a packet";
        let length = "it does not answer as a git repository: a packet has a length that none can have";
        for (bytes, expected) in [
            (&b"<html>"[..], begins),
            (b"+004", begins),
            (b"00", middle),
            (b"0009abc", middle),
            (b"0002", length),
            (b"0003", length),
            (b"fff1", length),
            (b"000cERR no\x1b\n", "the server refused: no\\u{1b}"),
        ] {
            assert_eq!(all(bytes).unwrap_err(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn lines_are_written_as_they_are_read() {
        let mut packets = Vec::new();
        push_line(&mut packets, "command=fetch");
        push_delimiter(&mut packets);
        push_flush(&mut packets);
        assert_eq!(packets, b"0012command=fetch\n00010000");
    }

    fn pack(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut pack = Vec::new();
        let mut band = PackBand::begin(Packets::new(bytes)).map_err(shown)?;
        band.read_to_end(&mut pack).map_err(|error| shown(recovered(error)))?;
        Ok(pack)
    }

    #[test]
    fn packs_between_other_things() {
        let no_git = |why| Err(format!("it does not answer as a git repository: {why}"));
        for (bytes, expected) in [
            (
                &b"0011shallow-info\n0001000dpackfile\n0006\x01a0007\x02hm0005\x010007\x01bc0000"[..],
                Ok(b"abc".to_vec()),
            ),
            (b"000dpackfile\n0000", Ok(vec![])),
            (b"000dpackfile\n0008\x03no\n", Err("the server refused: no".to_owned())),
            (b"000dpackfile\n0006\x01a", no_git("the pack ends early")),
            (b"000dpackfile\n0006\x04a", no_git("a packet of the pack is on no known band")),
            (b"000dpackfile\n0004", no_git("a packet of the pack is on no known band")),
            (b"0011shallow-info\n0000", no_git("there is no pack in its answer")),
            (b"", no_git("there is no pack in its answer")),
        ] {
            assert_eq!(pack(bytes), expected, "{bytes:?}");
        }
    }
}
