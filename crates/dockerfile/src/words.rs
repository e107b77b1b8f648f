//! How the arguments of an instruction become words, before any expansion.

use crate::line::Slice;

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
pub(crate) fn quoted(text: Slice<'_>, escape: char) -> Vec<Slice<'_>> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (length, taken) = first_quoted(rest.text(), escape);
        words.push(rest.part(0, length));
        rest = rest.part(taken, rest.text().len()).trim();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The length of the first word, and of what is taken up by it: an escape character that ends the
/// text is dropped.
fn first_quoted(text: &str, escape: char) -> (usize, usize) {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((offset, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            return (offset, offset);
        }
        match quote {
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        // Nothing can be escaped between single quotes.
        if c == escape && quote != Some('\'') && chars.next().is_none() {
            return (offset, text.len());
        }
    }
    (text.len(), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Spanned, line::LineReader};

    /// Texts, and the byte ranges that they stand at.
    type Places<'t> = &'t [(&'t str, (usize, usize))];

    #[test]
    fn quoted_words() {
        let cases: [(&str, char, Places<'_>); 11] = [
            (r"a=x\\ \", '\\', &[(r"a=x\\", (0, 5))]),
            ("a=\"x\\", '\\', &[("a=\"x", (0, 4))]),
            ("a=1  b=2", '\\', &[("a=1", (0, 3)), ("b=2", (5, 8))]),
            ("a=\"x y\" b='p  q'", '\\', &[("a=\"x y\"", (0, 7)), ("b='p  q'", (8, 16))]),
            (r"a=x\ y", '\\', &[(r"a=x\ y", (0, 6))]),
            (r"a='x\' b", '\\', &[(r"a='x\'", (0, 6)), ("b", (7, 8))]),
            (r#"a="x\" y" b"#, '\\', &[(r#"a="x\" y""#, (0, 9)), ("b", (10, 11))]),
            (r"a=C:\ b", '`', &[(r"a=C:\", (0, 5)), ("b", (6, 7))]),
            ("a\\\n\n b", '\\', &[("a", (0, 1)), ("b", (5, 6))]),
            ("a\\\nb", '\\', &[("ab", (0, 4))]),
            ("a=\"open x", '\\', &[("a=\"open x", (0, 9))]),
        ];
        for (text, escape, expected) in cases {
            let line = LineReader::new(text).logical().unwrap().unwrap();
            let expected: Vec<_> = expected
                .iter()
                .map(|&(word, (start, end))| Spanned::new(word.to_owned(), start..end))
                .collect();
            let words: Vec<_> = quoted(line.all(), escape).into_iter().map(Slice::spanned).collect();
            assert_eq!(words, expected, "{text:?}");
        }
    }

    #[test]
    fn blank_words() {
        let line = LineReader::new("a\t\"b  c\"\u{a0}d e").logical().unwrap().unwrap();
        let words: Vec<_> = blank_separated(line.all()).into_iter().map(Slice::text).collect();
        assert_eq!(words, ["a", "\"b", "c\"\u{a0}d", "e"]);
    }
}
