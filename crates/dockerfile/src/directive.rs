//! Parser directives: `# name=value` comments at the very top.

use crate::{Error, Span, Spanned};

/// The character that continues lines and quotes characters, unless a directive names the other.
pub(crate) const DEFAULT_ESCAPE: char = '\\';

/// The parser directives of a Dockerfile (BuildKit, `parser/directives.go`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// `syntax`: the image of a frontend, with whatever follows it. ocib has one frontend only.
    pub syntax: Option<Spanned<String>>,
    /// `escape`: a backslash or a backtick.
    pub escape: Option<Spanned<String>>,
    /// `check`: which lint rules to skip, as `skip=Rule,Rule;error=true`.
    pub check: Option<Spanned<String>>,
}

/// Reads directives until the first line that is none.
#[derive(Debug, Default)]
pub(crate) struct DirectiveReader {
    pub(crate) found: Directives,
    done: bool,
}

impl DirectiveReader {
    /// The escape character as of now.
    pub(crate) fn escape(&self) -> char {
        let named = self.found.escape.as_ref().and_then(|escape| escape.value.chars().next());
        named.unwrap_or(DEFAULT_ESCAPE)
    }

    /// Takes notice of a line that begins at byte `start`.
    pub(crate) fn read(&mut self, line: &str, start: usize) -> Result<(), Error> {
        if self.done {
            return Ok(());
        }
        let Some((name, value)) = name_and_value(line) else {
            self.done = true;
            return Ok(());
        };
        let name = name.to_ascii_lowercase();
        let slot = match name.as_str() {
            "syntax" => &mut self.found.syntax,
            "escape" => &mut self.found.escape,
            "check" => &mut self.found.check,
            _ => {
                self.done = true;
                return Ok(());
            }
        };
        if slot.is_some() {
            return Err(Error::DuplicateDirective { name, span: Span::from(start..start + line.len()) });
        }
        let value_start = start + (value.as_ptr().addr() - line.as_ptr().addr());
        let span = Span::from(value_start..value_start + value.len());
        if name == "escape" && !matches!(value, "\\" | "`") {
            return Err(Error::BadEscapeDirective { found: value.to_owned(), span });
        }
        *slot = Some(Spanned::new(value.to_owned(), span));
        Ok(())
    }
}

/// `^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$`
fn name_and_value(line: &str) -> Option<(&str, &str)> {
    const BLANKS: [char; 5] = ['\t', '\n', '\x0c', '\r', ' '];
    let (name, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let (name, value) = (name.trim_end_matches(BLANKS), value.trim_matches(BLANKS));
    let letters = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let valid = letters && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !value.is_empty();
    valid.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Directives, Error> {
        let mut reader = DirectiveReader::default();
        let mut start = 0;
        for line in lines {
            reader.read(line, start)?;
            start += line.len() + 1;
        }
        Ok(reader.found)
    }

    fn at(value: &str, start: usize) -> Option<Spanned<String>> {
        Some(Spanned::new(value.to_owned(), start..start + value.len()))
    }

    #[test]
    fn directives() {
        let cases: [(&[&str], Directives); 6] = [
            (
                &["#syntax=docker/dockerfile:1", "# CHECK = skip=all ", "#  escape = `"],
                Directives {
                    syntax: at("docker/dockerfile:1", 8),
                    escape: at("`", 60),
                    check: at("skip=all", 38),
                },
            ),
            (&["# a comment", "# escape=`"], Directives::default()),
            (&["", "# escape=`"], Directives::default()),
            (&["# other=1", "# escape=`"], Directives::default()),
            (&["# escape="], Directives::default()),
            (&["FROM a", "# escape=x"], Directives::default()),
        ];
        for (lines, expected) in cases {
            assert_eq!(read(lines), Ok(expected), "{lines:?}");
        }
    }

    #[test]
    fn wrong_directives() {
        let cases: [(&[&str], &str, (usize, usize)); 3] = [
            (&["# escape=x"], "invalid escape token 'x' does not match ` or \\", (9, 10)),
            (&["# escape=\\\\"], "invalid escape token '\\\\' does not match ` or \\", (9, 11)),
            (&["# syntax=a", "#Syntax=b"], "only one syntax parser directive can be used", (11, 20)),
        ];
        for (lines, message, (start, end)) in cases {
            let error = read(lines).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.span()), (message, Some(Span { start, end })));
        }
    }
}
