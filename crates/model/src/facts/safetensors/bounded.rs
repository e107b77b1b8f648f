//! JSON on its way to a parser that keeps the text that it is in: what would take memory without bound is an error.

use std::io::{self, Read};

/// Names of tensors have a hundred.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The header, a tensor, its shape, and some for what may come.
const DEPTH_MAX: u32 = 8;
/// What is below this name of the outermost object is passed over, not kept, and may be long.
const METADATA: &[u8] = b"__metadata__";

/// A reader that fails where the JSON in it has texts that are too long, or objects too deep in each other.
pub(super) struct Bounded<R> {
    json: R,
    depth: u32,
    /// Bytes of the text that it is in.
    text: Option<usize>,
    /// Whether the next byte means itself.
    is_escaped: bool,
    /// The beginning of the last name of the outermost object.
    name: Vec<u8>,
}

impl<R> Bounded<R> {
    pub(super) fn new(json: R) -> Self {
        Self { json, depth: 0, text: None, is_escaped: false, name: Vec::new() }
    }

    fn pass(&mut self, byte: u8) -> io::Result<()> {
        match (self.text, byte) {
            (Some(_), b'"') if !self.is_escaped => self.text = None,
            (Some(length), byte) => {
                self.is_escaped = byte == b'\\' && !self.is_escaped;
                self.text = Some(length + 1);
                if self.depth == 1 && self.name.len() <= METADATA.len() {
                    self.name.push(byte);
                }
                if length >= TEXT_BYTES_MAX && !(self.depth > 1 && self.name == METADATA) {
                    return Err(io::Error::other(format!("a text of more than {TEXT_BYTES_MAX} bytes")));
                }
            }
            (None, b'"') => {
                self.text = Some(0);
                if self.depth == 1 {
                    self.name.clear();
                }
            }
            (None, b'{' | b'[') => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(io::Error::other(format!("it is nested more than {DEPTH_MAX} deep")));
                }
            }
            (None, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
            (None, _) => {}
        }
        Ok(())
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.json.read(buffer)?;
        buffer[..got].iter().try_for_each(|byte| self.pass(*byte))?;
        Ok(got)
    }
}
