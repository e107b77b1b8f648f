//! The server's side of a WebSocket (RFC 6455), strict with its client.

use std::io::{self, Read, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

/// RFC 6455, 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Frames of clients are small; a larger one is a mistake.
const FRAME_BYTES_MAX: u64 = 1 << 20;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a client sent.
pub(super) enum Frame {
    Binary(Vec<u8>),
    Close,
}

pub(super) fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}{GUID}")))
}

/// The next frame that matters; pings are answered on the way.
pub(super) fn read(wire: &mut impl Read, out: &mut impl Write) -> io::Result<Frame> {
    loop {
        let [first, second] = array(wire)?;
        if first & 0x70 != 0 || first & 0x80 == 0 || second & 0x80 == 0 {
            return Err(malformed("whole, masked frames without extensions"));
        }
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(array(wire)?)),
            127 => u64::from_be_bytes(array(wire)?),
            short => u64::from(short),
        };
        if length > FRAME_BYTES_MAX {
            return Err(malformed("a short frame"));
        }
        let mask: [u8; 4] = array(wire)?;
        let mut payload = vec![0; usize::try_from(length).expect("checked against the maximum")];
        wire.read_exact(&mut payload)?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        match first & 0x0f {
            BINARY => return Ok(Frame::Binary(payload)),
            CLOSE => return Ok(Frame::Close),
            PING => write(out, PONG, &payload)?,
            PONG => {}
            _ => return Err(malformed("a binary frame")),
        }
    }
}

pub(super) fn binary(out: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    write(out, BINARY, payload)
}

/// Says goodbye: 1000, normal closure.
pub(super) fn close(out: &mut impl Write) -> io::Result<()> {
    write(out, CLOSE, &1000_u16.to_be_bytes())
}

fn write(out: &mut impl Write, opcode: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(u8::try_from(length).expect("at most 125")),
        length => {
            frame.push(126);
            frame.extend(u16::try_from(length).expect("answers are short").to_be_bytes());
        }
    }
    frame.extend(payload);
    out.write_all(&frame)
}

fn array<const N: usize>(wire: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    wire.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn malformed(expected: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("expected {expected}"))
}
