//! The Dockerfile that a backend is given: every word literal, every image by digest, an instruction a line.
//!
//! Commands are written in exec form, which no backend expands; values of variables, paths and names are
//! quoted so that what BuildKit's, buildah's and Kaniko's expansion make of them is the value itself.

use ocib_dockerfile::Span;

/// A Dockerfile whose images have numbers instead of names.
#[derive(Debug, Default)]
pub(crate) struct Template {
    lines: Vec<Line>,
}

/// An instruction.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) pieces: Vec<Piece>,
    /// Where it comes from in the user's Dockerfile.
    pub(crate) span: Span,
    /// The number of the instruction that it carries out; `None` if it only sets the scene for one.
    pub(crate) of: Option<usize>,
    /// What people are shown instead, if it holds secrets.
    pub(crate) shown: Option<String>,
}

/// A piece of an instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    Text(String),
    /// The name of an image.
    Image(usize),
}

impl Template {
    pub(crate) fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// The text, with `names` for the images.
    pub(crate) fn text(&self, names: &[String]) -> String {
        self.lines.iter().map(|line| line.text(names) + "\n").collect()
    }

    /// Its lines as people may see them.
    pub(crate) fn shown(&self, names: &[String]) -> Vec<String> {
        let shown = |line: &Line| line.shown.clone().unwrap_or_else(|| line.text(names));
        self.lines.iter().map(shown).collect()
    }

    /// Where each line comes from.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> {
        self.lines.iter().map(|line| line.span)
    }

    /// For each line but FROM, the instruction that it carries out.
    pub(crate) fn instructions(&self) -> Vec<Option<usize>> {
        self.lines.iter().skip(1).map(|line| line.of).collect()
    }
}

impl Line {
    fn text(&self, names: &[String]) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Image(number) => names[*number].clone(),
        };
        self.pieces.iter().map(piece).collect()
    }
}

/// `NAME="value"` for ENV, or `None` for what no line can hold.
pub(crate) fn environment(name: &str, value: &str) -> Option<String> {
    let name = flag(name).filter(|name| !name.is_empty() && !name.starts_with('-') && !name.contains('='))?;
    Some(format!("{name}={}", word(value)?))
}

/// A word that expands to `value`; `None` if none can be written in one line.
pub(crate) fn word(value: &str) -> Option<String> {
    if value.contains(['\n', '\r', '\0']) {
        return None;
    }
    let mut word = String::with_capacity(value.len() + 2);
    word.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$') {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    Some(word)
}

/// Whether a name means itself wherever backends take wildcards, variables or quotes.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.contains(|c: char| c.is_control() || matches!(c, '*' | '?' | '[' | '\\' | '"' | '\'' | '$'))
}

/// A destination of COPY in its JSON form: what it expands to is `path`.
pub(crate) fn destination_path(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '"' | '\'' | '\\' | '$') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    serde_json::Value::String(escaped).to_string()
}

/// A flag's value as the parsers of instructions take it; `None` if it cannot be written.
pub(crate) fn flag(value: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '$');
    value.chars().all(is_plain).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_literal() {
        for (value, expected) in [
            ("a b", r#""a b""#),
            (r#"a"b"#, r#""a\"b""#),
            (r"a\b", r#""a\\b""#),
            ("${HOME}`x`'", r#""\${HOME}`x`'""#),
            ("", r#""""#),
        ] {
            assert_eq!(word(value).as_deref(), Some(expected));
        }
        assert_eq!(word("a\nb"), None);
    }

    #[test]
    fn names_of_variables_say_nothing_else() {
        assert_eq!(environment("a.b-C_1", "$x").as_deref(), Some(r#"a.b-C_1="\$x""#));
        for name in ["", "a b", "a\nRUN evil", "a=b", "$a", "\"a\"", "--a", "é"] {
            assert_eq!(environment(name, ""), None, "{name}");
        }
    }
}
