//! Physical lines, and the logical ones that continuations make of them.

use crate::{
    Error, Span, Spanned,
    directive::DirectiveReader,
    lint::{Warning, rule},
};

/// `bufio.MaxScanTokenSize - 1`: BuildKit's scanner has to hold a line and its line feed.
const LONGEST_LINE_BYTES: usize = 65_535;

/// Hands out the lines of a Dockerfile, heredoc bodies and instructions apart.
pub(crate) struct LineReader<'t> {
    text: &'t str,
    offset: usize,
    pub(crate) directives: DirectiveReader,
    pub(crate) warnings: Vec<Warning>,
}

/// A line of the file.
#[derive(Clone, Copy)]
pub(crate) struct PhysicalLine<'t> {
    /// Where it begins.
    pub(crate) start: usize,
    /// With its line end.
    pub(crate) raw: &'t str,
}

impl<'t> PhysicalLine<'t> {
    /// Without line feeds and carriage returns at its end.
    pub(crate) fn content(self) -> &'t str {
        self.raw.trim_end_matches(['\r', '\n'])
    }
}

impl<'t> LineReader<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, offset: 0, directives: DirectiveReader::default(), warnings: Vec::new() }
    }

    /// The next instruction with its continuations joined; `None` at the end of the file.
    pub(crate) fn logical(&mut self) -> Result<Option<LogicalLine>, Error> {
        while let Some(first) = self.physical()? {
            let content = first.content();
            let content = content.strip_prefix('\u{feff}').filter(|_| first.start == 0).unwrap_or(content);
            let content = content.trim_start();
            let start = first.start + first.raw.find(content).unwrap_or(0);
            self.directives.read(content, start)?;
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            return self.continued(content, start).map(Some);
        }
        Ok(None)
    }

    /// The next physical line as it is.
    pub(crate) fn physical(&mut self) -> Result<Option<PhysicalLine<'t>>, Error> {
        let start = self.offset;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return Ok(None);
        }
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let bytes = rest[..length].trim_end_matches('\n').len();
        if bytes > LONGEST_LINE_BYTES {
            return Err(Error::LineTooLong { bytes, span: Span::from(start..start + bytes) });
        }
        self.offset = start + length;
        Ok(Some(PhysicalLine { start, raw: &rest[..length] }))
    }

    fn continued(&mut self, first: &str, start: usize) -> Result<LogicalLine, Error> {
        let escape = self.directives.escape();
        let mut line = LogicalLine::default();
        let mut more = line.push(first, start, escape);
        let mut blank = None;
        while more && let Some(next) = self.physical()? {
            let content = next.content();
            if content.trim_start().starts_with('#') {
                continue;
            }
            if content.trim_start().is_empty() {
                blank = blank.or(Some(Span::from(next.start..next.start + content.len())));
                continue;
            }
            more = line.push(content, next.start, escape);
        }
        if let Some(span) = blank {
            self.warnings.push(Warning::new(rule::NO_EMPTY_CONTINUATION, "Empty continuation line", span));
        }
        Ok(line)
    }
}

/// An instruction as one line, each byte knowing where it came from.
#[derive(Debug, Default)]
pub(crate) struct LogicalLine {
    /// BuildKit's `Node.Original`: without the escape characters, line ends and comments between
    /// its parts, but with the blanks that indent continuations.
    pub(crate) text: String,
    /// (offset in `text`, offset in the file), ascending, one for each physical line.
    pieces: Vec<(usize, usize)>,
}

impl LogicalLine {
    /// Adds a physical line; says whether it ends in a continuation.
    fn push(&mut self, content: &str, start: usize, escape: char) -> bool {
        let continued = before_continuation(content, escape);
        self.pieces.push((self.text.len(), start));
        self.text.push_str(continued.unwrap_or(content));
        continued.is_some()
    }

    /// All of it.
    pub(crate) fn all(&self) -> Slice<'_> {
        Slice { line: self, start: 0, end: self.text.len() }
    }

    fn offset_in_file(&self, offset: usize) -> usize {
        let next = self.pieces.partition_point(|&(joined, _)| joined <= offset);
        let (joined, original) = self.pieces[..next].last().copied().unwrap_or_default();
        original + (offset - joined)
    }
}

/// What stands before the continuation character that ends `content`, if one does.
///
/// BuildKit's expression is `([^\\])\\[ \t]*$|^\\[ \t]*$`: an escape character before it takes its
/// meaning away, even if that one is escaped too.
fn before_continuation(content: &str, escape: char) -> Option<&str> {
    let before = content.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before)
}

/// A part of a logical line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice<'l> {
    line: &'l LogicalLine,
    start: usize,
    end: usize,
}

impl<'l> Slice<'l> {
    pub(crate) fn text(self) -> &'l str {
        &self.line.text[self.start..self.end]
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The part from byte `start` to byte `end` of this one.
    pub(crate) fn part(self, start: usize, end: usize) -> Self {
        Self { line: self.line, start: self.start + start, end: self.start + end }
    }

    /// Without the white space around it.
    pub(crate) fn trim(self) -> Self {
        let start = self.text().len() - self.text().trim_start().len();
        self.part(start, start + self.text().trim().len())
    }

    /// In the file.
    pub(crate) fn span(self) -> Span {
        let start = self.line.offset_in_file(self.start);
        let end = if self.is_empty() { start } else { self.line.offset_in_file(self.end - 1) + 1 };
        Span { start, end }
    }

    /// The text with its place.
    pub(crate) fn spanned(self) -> Spanned<String> {
        Spanned::new(self.text().to_owned(), self.span())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts, and the byte ranges that they stand at.
    type Places<'t> = &'t [(&'t str, (usize, usize))];

    fn logical(text: &str) -> Vec<(String, Span)> {
        let mut reader = LineReader::new(text);
        let mut lines = Vec::new();
        while let Some(line) = reader.logical().unwrap() {
            lines.push((line.text.clone(), line.all().span()));
        }
        lines
    }

    #[test]
    fn continuations() {
        let cases: [(&str, Places<'_>); 10] = [
            ("FROM a\nRUN b\n", &[("FROM a", (0, 6)), ("RUN b", (7, 12))]),
            ("  FROM a \r\n", &[("FROM a ", (2, 9))]),
            ("\u{feff} FROM a", &[("FROM a", (4, 10))]),
            ("A \\\n  b", &[("A   b", (0, 7))]),
            ("A \\  \t\nb", &[("A b", (0, 8))]),
            ("A\\\\\nb", &[("A\\\\", (0, 3)), ("b", (4, 5))]),
            ("A \\\r\n# c \\\r\n \\\r\n\r\n b\r\n", &[("A   b", (0, 20))]),
            ("A \\\n\n\nb\nc", &[("A b", (0, 7)), ("c", (8, 9))]),
            ("# escape=`\nA `\nb\\\nc", &[("A b\\", (11, 17)), ("c", (18, 19))]),
            ("A \\", &[("A ", (0, 2))]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|&(text, (start, end))| (text.to_owned(), Span { start, end })).collect();
            assert_eq!(logical(text), expected, "{text:?}");
        }
    }

    #[test]
    fn blank_continuations_warn() {
        let mut reader = LineReader::new("A \\\n\n\nb");
        reader.logical().unwrap();
        let expected = Warning::new(rule::NO_EMPTY_CONTINUATION, "Empty continuation line", Span::from(4..4));
        assert_eq!(reader.warnings, [expected]);
    }

    #[test]
    fn long_lines() {
        let fits = format!("# {}\nA", "x".repeat(LONGEST_LINE_BYTES - 2));
        assert_eq!(logical(&fits).len(), 1);
        let long = format!("A\n# {}", "x".repeat(LONGEST_LINE_BYTES - 1));
        let mut reader = LineReader::new(&long);
        reader.logical().unwrap();
        let error = Error::LineTooLong { bytes: 65_536, span: Span::from(2..65_538) };
        assert_eq!(reader.logical().map(|_| ()), Err(error));
    }
}
