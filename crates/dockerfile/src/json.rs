//! The JSON that Dockerfiles hold: arrays of strings.

use std::{char, iter::Peekable, str::CharIndices};

use crate::{Error, Spanned, line::Slice};

/// Deeper nesting is no JSON to Go's decoder.
const DEEPEST: usize = 10_000;

/// The strings of `text` if it is a JSON array of strings.
///
/// `Ok(None)` if it is no valid JSON array: most instructions then take the text in shell form
/// (BuildKit, `parseJSON`). Like Go, lone surrogates become U+FFFD.
///
/// # Errors
/// [`Error::JsonNotStrings`] for a valid array that holds anything else.
pub(crate) fn strings(text: Slice<'_>) -> Result<Option<Vec<Spanned<String>>>, Error> {
    let text = text.trim();
    if !text.text().starts_with('[') {
        return Ok(None);
    }
    let mut reader = Reader { text: text.text(), chars: text.text().char_indices().peekable() };
    match reader.array() {
        None => Ok(None),
        Some(elements) => elements
            .into_iter()
            .map(|element| match element {
                Element::String { value, start, end } => {
                    Ok(Spanned::new(value, text.part(start, end).span()))
                }
                Element::Other => Err(Error::JsonNotStrings { span: text.span() }),
            })
            .collect::<Result<_, _>>()
            .map(Some),
    }
}

enum Element {
    String { value: String, start: usize, end: usize },
    Other,
}

/// A validating reader; each method is `None` where the text is no JSON.
struct Reader<'t> {
    text: &'t str,
    chars: Peekable<CharIndices<'t>>,
}

impl Reader<'_> {
    /// The array that the whole text is.
    fn array(&mut self) -> Option<Vec<Element>> {
        self.expect('[')?;
        let mut elements = Vec::new();
        self.blanks();
        if !self.eat(']') {
            loop {
                self.blanks();
                elements.push(self.element()?);
                self.blanks();
                if self.eat(']') {
                    break;
                }
                self.expect(',')?;
            }
        }
        self.blanks();
        self.chars.peek().is_none().then_some(elements)
    }

    fn element(&mut self) -> Option<Element> {
        let start = self.offset();
        if self.peek() == Some('"') {
            let value = self.string()?;
            return Some(Element::String { value, start, end: self.offset() });
        }
        self.value()?;
        Some(Element::Other)
    }

    /// Any value, without recursion: nesting comes from the text and must not exhaust the stack.
    fn value(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            self.blanks();
            match self.peek()? {
                '[' | '{' => {
                    let bracket = self.next()?;
                    open.push(bracket);
                    if open.len() > DEEPEST {
                        return None;
                    }
                    self.blanks();
                    if !self.eat(closing(bracket)) {
                        self.key_of(bracket)?;
                        continue;
                    }
                    open.pop();
                }
                '"' => drop(self.string()?),
                _ => self.scalar()?,
            }
            self.close(&mut open)?;
            if open.is_empty() {
                return Some(());
            }
        }
    }

    /// After a value: closes what ends here, and steps over the comma to the next value.
    fn close(&mut self, open: &mut Vec<char>) -> Option<()> {
        while let Some(&bracket) = open.last() {
            self.blanks();
            if !self.eat(closing(bracket)) {
                self.expect(',')?;
                return self.key_of(bracket);
            }
            open.pop();
        }
        Some(())
    }

    fn key_of(&mut self, bracket: char) -> Option<()> {
        if bracket == '{' {
            self.blanks();
            self.string()?;
            self.blanks();
            self.expect(':')?;
        }
        Some(())
    }

    /// A number or one of the three words.
    fn scalar(&mut self) -> Option<()> {
        let start = self.offset();
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
            self.next();
        }
        let word = &self.text[start..self.offset()];
        (matches!(word, "true" | "false" | "null") || is_number(word)).then_some(())
    }

    fn string(&mut self) -> Option<String> {
        self.expect('"')?;
        let mut value = String::new();
        loop {
            match self.next()? {
                '"' => return Some(value),
                '\\' => value.push(self.escaped()?),
                control if control < ' ' => return None,
                other => value.push(other),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.next()? {
            plain @ ('"' | '\\' | '/') => plain,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = self.hex()?;
                self.surrogate(unit)?
            }
            _ => return None,
        })
    }

    /// The character of a UTF-16 unit, with the low surrogate that may follow a high one.
    fn surrogate(&mut self, unit: u32) -> Option<char> {
        let rest = &self.text[self.offset()..];
        if (0xd800..0xdc00).contains(&unit)
            && let Some(low) = rest.strip_prefix("\\u").and_then(|digits| digits.get(..4))
            && let Ok(low @ 0xdc00..=0xdfff) = u32::from_str_radix(low, 16)
        {
            self.chars.nth(5)?;
            return char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
        }
        Some(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |value, _| Some(value * 16 + self.next()?.to_digit(16)?))
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|c| matches!(c, ' ' | '\t' | '\r' | '\n')) {
            self.next();
        }
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.chars.next_if(|&(_, c)| c == wanted).is_some()
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        self.eat(wanted).then_some(())
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|&(_, c)| c)
    }

    fn next(&mut self) -> Option<char> {
        self.chars.next().map(|(_, c)| c)
    }

    fn offset(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |&(offset, _)| offset)
    }
}

fn closing(bracket: char) -> char {
    if bracket == '[' { ']' } else { '}' }
}

/// RFC 8259, section 6: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = word.split_once(['e', 'E']).map_or((word, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Span, line::LineReader};

    /// Texts, and the byte ranges that they stand at.
    type Places<'t> = &'t [(&'t str, (usize, usize))];

    fn read(text: &str) -> Result<Option<Vec<Spanned<String>>>, Error> {
        let line = LineReader::new(text).logical().unwrap().unwrap();
        strings(line.all())
    }

    #[test]
    fn arrays_of_strings() {
        let cases: [(&str, Places<'_>); 6] = [
            ("[]", &[]),
            ("[ ]", &[]),
            (r#"["a", "b c"]"#, &[("a", (1, 4)), ("b c", (6, 11))]),
            (r#"  [ "\u0063\t\"\\\/" ]  "#, &[("c\t\"\\/", (4, 20))]),
            (r#"["\ud83d\ude00\ud800x"]"#, &[("😀\u{fffd}x", (1, 22))]),
            ("[\"a\",\\\n \"b\"]", &[("a", (1, 4)), ("b", (8, 11))]),
        ];
        for (text, expected) in cases {
            let expected = expected
                .iter()
                .map(|&(value, (start, end))| Spanned::new(value.to_owned(), start..end))
                .collect();
            assert_eq!(read(text), Ok(Some(expected)), "{text}");
        }
    }

    #[test]
    fn no_arrays() {
        for text in [
            "x",
            "['a']",
            r#"["a""#,
            r#"["a",]"#,
            r#"["a"] x"#,
            r#"["\x"]"#,
            r#"["a" "b"]"#,
            "[\"a\tb\"]",
            "[01]",
            "[1.]",
            "[tru]",
            "[{]",
            r#"[{"a"}]"#,
            "[",
            "[,]",
        ] {
            assert_eq!(read(text), Ok(None), "{text}");
        }
        assert_eq!(read(&"[".repeat(60_000)), Ok(None));
    }

    #[test]
    fn other_arrays() {
        for text in
            ["[1]", r#"["a", null]"#, r#"[{"a": [1, {}], "b": -0.5e+3}]"#, "[[]]", "[[[true], []], 0]"]
        {
            let span = Span::from(0..text.len());
            assert_eq!(read(text), Err(Error::JsonNotStrings { span }), "{text}");
        }
    }
}
