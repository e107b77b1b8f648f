//! Where something stands in a Dockerfile.

use std::ops::Range;

/// A part of a Dockerfile: byte offsets into [`Dockerfile::text`](crate::Dockerfile::text), `end`
/// exclusive.
///
/// A byte order mark and carriage returns count, so the offsets fit the text as it was given. A
/// span may run over several physical lines where a word is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte; equal to `start` for "nothing is here".
    pub end: usize,
}

impl Span {
    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// A value together with the text that it came from.
///
/// The value may differ from that text: continuations are joined, JSON strings decoded, the quotes
/// of flags removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value`, as it was written at `span`.
    pub fn new(value: T, span: impl Into<Span>) -> Self {
        Self { value, span: span.into() }
    }
}

/// A place as people count: both from 1, the column in characters (Unicode scalar values), a byte
/// order mark not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line; lines end at `\n`.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

impl Position {
    /// The position of byte `offset` of `text`; offsets beyond the end, or inside a character, are
    /// moved back to the nearest place that exists.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before[line_start..].trim_start_matches('\u{feff}').chars().count() + 1;
        Self { line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let text = "\u{feff}FROM a\r\n# é\nRUN x";
        for (offset, line, column) in [
            (0, 1, 1),
            (3, 1, 1),
            (8, 1, 6),
            (11, 2, 1),
            (13, 2, 3),
            (14, 2, 3),
            (15, 2, 4),
            (16, 3, 1),
            (99, 3, 6),
        ] {
            assert_eq!(Position::of(text, offset), Position { line, column }, "offset {offset}");
        }
    }
}
