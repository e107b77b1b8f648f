//! How the arguments of an instruction become words, before any expansion.

use crate::{Spanned, line::Slice};

/// What separates the words of most instructions: BuildKit's `[\t\v\f\r ]+`, which leaves out the
/// rest of Unicode's white space.
const BLANKS: [char; 5] = ['\t', '\x0b', '\x0c', '\r', ' '];

/// The words between blanks; quotes mean nothing here (BuildKit,
/// `parseStringsWhitespaceDelimited`).
pub(crate) fn blank_separated(text: Slice<'_>) -> Vec<Slice<'_>> {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = split_blank(rest);
        words.push(word);
        let Some(after) = after else { break };
        rest = after;
    }
    words
}

/// The part before the first run of blanks, and the part behind it if there are any.
pub(crate) fn split_blank(text: Slice<'_>) -> (Slice<'_>, Option<Slice<'_>>) {
    let whole = text.text();
    let Some(end) = whole.find(BLANKS) else { return (text, None) };
    let next = whole.len() - whole[end..].trim_start_matches(BLANKS).len();
    (text.part(0, end), Some(text.part(next, whole.len())))
}

/// The words of ENV, LABEL and ARG: separated by white space that is neither quoted nor escaped,
/// with their quotes and escapes left in (BuildKit, `parseWords`).
pub(crate) fn quoted(text: Slice<'_>, escape: char) -> Vec<Spanned<String>> {
    let mut lexer = Lexer { escape, quote: None, chars: text.text().char_indices().peekable() };
    let mut words = Vec::new();
    while let Some((word, start, end)) = lexer.word(text.text().len()) {
        if !word.is_empty() {
            words.push(Spanned::new(word, text.part(start, end).span()));
        }
    }
    words
}

struct Lexer<'t> {
    escape: char,
    quote: Option<char>,
    chars: std::iter::Peekable<std::str::CharIndices<'t>>,
}

impl Lexer<'_> {
    /// The next word, and where it stands. An escape character that ends the text is dropped.
    fn word(&mut self, length: usize) -> Option<(String, usize, usize)> {
        while self.chars.next_if(|&(_, c)| c.is_whitespace()).is_some() {}
        let &(start, _) = self.chars.peek()?;
        let mut word = String::new();
        while let Some((offset, c)) = self.chars.next() {
            if self.quote.is_none() && c.is_whitespace() {
                return Some((word, start, offset));
            }
            match self.quote {
                None if matches!(c, '\'' | '"') => self.quote = Some(c),
                Some(quote) if c == quote => self.quote = None,
                _ => {}
            }
            // Nothing can be escaped between single quotes.
            if c == self.escape && self.quote != Some('\'') {
                let Some((_, escaped)) = self.chars.next() else { break };
                word.push(c);
                word.push(escaped);
            } else {
                word.push(c);
            }
        }
        Some((word, start, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::LineReader;

    #[test]
    fn quoted_words() {
        let cases: [(&str, char, &[(&str, (usize, usize))]); 9] = [
            ("a=1  b=2", '\\', &[("a=1", (0, 3)), ("b=2", (5, 8))]),
            ("a=\"x y\" b='p  q'", '\\', &[("a=\"x y\"", (0, 7)), ("b='p  q'", (8, 16))]),
            (r"a=x\ y", '\\', &[(r"a=x\ y", (0, 6))]),
            (r"a='x\' b", '\\', &[(r"a='x\'", (0, 6)), ("b", (7, 8))]),
            (r#"a="x\" y" b"#, '\\', &[(r#"a="x\" y""#, (0, 9)), ("b", (10, 11))]),
            (r"a=C:\ b", '`', &[(r"a=C:\", (0, 5)), ("b", (6, 7))]),
            ("a\\\n\n b", '\\', &[("a", (0, 1)), ("b", (4, 5))]),
            ("a\\\nb", '\\', &[("ab", (0, 4))]),
            ("a=\"open x", '\\', &[("a=\"open x", (0, 9))]),
        ];
        for (text, escape, expected) in cases {
            let line = LineReader::new(text).logical().unwrap().unwrap();
            let expected: Vec<_> = expected
                .iter()
                .map(|&(word, (start, end))| Spanned::new(word.to_owned(), start..end))
                .collect();
            assert_eq!(quoted(line.all(), escape), expected, "{text:?}");
        }
    }

    #[test]
    fn blank_words() {
        let line = LineReader::new("a\t\"b  c\"\u{a0}d e").logical().unwrap().unwrap();
        let words: Vec<_> = blank_separated(line.all()).into_iter().map(Slice::text).collect();
        assert_eq!(words, ["a", "\"b", "c\"\u{a0}d", "e"]);
    }
}
