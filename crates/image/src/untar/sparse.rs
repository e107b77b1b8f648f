//! Sparse files: only some pieces are stored, the holes between them read as zeros.
//!
//! The four ways to say where the pieces belong are in the GNU tar manual, "Storing Sparse Files".
//! As in Go, the stored pieces follow each other without padding.

use super::{
    Flaw, SPARSE_PIECES_MAX,
    header::{BLOCK, number},
    pax::{SparseRecords, decimal},
};

/// Where the stored pieces of a file belong. In order, not overlapping, inside the file, and as long
/// together as what is stored.
#[derive(Debug)]
pub(super) struct SparseMap {
    pieces: std::vec::IntoIter<Piece>,
    position: u64,
    size: u64,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u64,
    length: u64,
}

/// What comes next in a sparse file.
pub(super) enum Next {
    /// At most so many zeros.
    Zeros(u64),
    /// At most so many stored bytes.
    Stored(u64),
    End,
}

impl SparseMap {
    /// Checks `pieces` of a file of `size` bytes, of which `stored` are in the archive.
    pub(super) fn new(pieces: Pieces, size: i64, stored: u64) -> Result<Self, Flaw> {
        let size = u64::try_from(size).map_err(|_| Flaw::bad("a sparse file has a negative size"))?;
        let (mut end, mut total) = (0, 0);
        for piece in &pieces.0 {
            if piece.offset < end || piece.length > size || piece.offset > size - piece.length {
                return Err(Flaw::bad("the pieces of a sparse file overlap or lie outside of it"));
            }
            end = piece.offset + piece.length;
            total += piece.length;
        }
        if total != stored {
            let why = format!("a sparse file has {stored} bytes stored, expected {total} by its map");
            return Err(Flaw::Bad(why));
        }
        Ok(Self { pieces: pieces.0.into_iter(), position: 0, size })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn next(&mut self) -> Next {
        let is_past = |piece: &Piece, position| piece.offset + piece.length <= position;
        while self.pieces.as_slice().first().is_some_and(|piece| is_past(piece, self.position)) {
            self.pieces.next();
        }
        match self.pieces.as_slice().first() {
            Some(piece) if piece.offset <= self.position => {
                Next::Stored(piece.offset + piece.length - self.position)
            }
            Some(piece) => Next::Zeros(piece.offset - self.position),
            None if self.position < self.size => Next::Zeros(self.size - self.position),
            None => Next::End,
        }
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.position += bytes;
    }
}

/// The pieces of a map while it is read.
#[derive(Default, Debug)]
pub(super) struct Pieces(Vec<Piece>);

impl Pieces {
    fn push(&mut self, offset: Option<i64>, length: Option<i64>) -> Result<(), Flaw> {
        let unsigned = |value: Option<i64>| {
            let value = value.and_then(|value| u64::try_from(value).ok());
            value.ok_or_else(|| Flaw::bad("a sparse map has something that is not a number"))
        };
        if self.0.len() == SPARSE_PIECES_MAX {
            return Err(Flaw::Limit {
                what: "the number of pieces of a sparse file",
                limit: SPARSE_PIECES_MAX as u64,
            });
        }
        self.0.push(Piece { offset: unsigned(offset)?, length: unsigned(length)? });
        Ok(())
    }

    /// Adds a block of the old GNU format: places of 24 bytes each, and whether another block follows.
    pub(super) fn add_block(&mut self, block: &[u8]) -> Result<bool, Flaw> {
        let count = block.len() / 24;
        for place in block.chunks_exact(24).take_while(|place| place[0] != 0) {
            self.push(number(&place[..12]), number(&place[12..]))?;
        }
        Ok(block[count * 24] > 0)
    }

    /// The map of formats 0.0 and 0.1, which is in the extended header.
    pub(super) fn from_records(records: &SparseRecords) -> Result<Self, Flaw> {
        let numbers: Vec<&[u8]> = match records.map.as_deref() {
            Some(map) => map.split(|&b| b == b',').collect(),
            None => Vec::new(),
        };
        let announced = records.blocks.and_then(|blocks| usize::try_from(blocks).ok());
        if !numbers.len().is_multiple_of(2) || announced != Some(numbers.len() / 2) {
            return Err(Flaw::bad("a sparse map has not as many pieces as it announces"));
        }
        let mut pieces = Self::default();
        for pair in numbers.chunks_exact(2) {
            pieces.push(decimal(pair[0]), decimal(pair[1]))?;
        }
        Ok(pieces)
    }
}

/// Reads the map of format 1.0, which starts the content: decimal numbers, each on its line, the
/// first of which is the number of pieces; it fills whole blocks.
#[derive(Default, Debug)]
pub(super) struct MapReader {
    announced: Option<usize>,
    offset: Option<i64>,
    line: Vec<u8>,
    pieces: Pieces,
}

impl MapReader {
    /// Takes the next block; whether the map is complete.
    pub(super) fn take(&mut self, block: &[u8; BLOCK]) -> Result<bool, Flaw> {
        for &byte in block {
            match byte {
                _ if self.is_complete() => break,
                b'\n' => self.end_line()?,
                // No number of 64 bits has more digits.
                _ if self.line.len() == 20 => {
                    return Err(Flaw::bad("a sparse map has something that is not a number"));
                }
                byte => self.line.push(byte),
            }
        }
        Ok(self.is_complete())
    }

    pub(super) fn finish(self) -> Pieces {
        self.pieces
    }

    fn is_complete(&self) -> bool {
        self.announced == Some(self.pieces.0.len())
    }

    fn end_line(&mut self) -> Result<(), Flaw> {
        let value = decimal(&self.line);
        self.line.clear();
        match (self.announced, self.offset.take()) {
            (None, _) => {
                let count = value.and_then(|value| usize::try_from(value).ok());
                let bad = || Flaw::bad("a sparse map has something that is not a number");
                self.announced = Some(count.ok_or_else(bad)?);
                Ok(())
            }
            (Some(_), None) => {
                self.offset = value;
                value.map(drop).ok_or_else(|| Flaw::bad("a sparse map has something that is not a number"))
            }
            (Some(_), offset) => self.pieces.push(offset, value),
        }
    }
}
