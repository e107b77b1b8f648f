//! ENV, LABEL and ARG: names and values.

use super::{Statement, no_flags};
use crate::{Error, Span, Spanned, line::Slice, words};

/// A name and its value, of ENV or LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name, unexpanded, not empty.
    pub key: Spanned<String>,
    /// The value, unexpanded.
    pub value: Spanned<String>,
    /// Both.
    pub span: Span,
    /// `ENV name value`: a blank instead of the equals sign, and the rest of the line as value.
    pub legacy: bool,
}

/// A name and perhaps a default, of ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgPair {
    /// The name, unexpanded, not empty.
    pub key: Spanned<String>,
    /// The default, unexpanded.
    pub value: Option<Spanned<String>>,
    /// Both.
    pub span: Span,
}

pub(super) fn arg(statement: &Statement<'_>) -> Result<Vec<ArgPair>, Error> {
    let words = words::quoted(statement.args, statement.escape);
    if words.is_empty() {
        return Err(statement.count("ARG", "at least one argument"));
    }
    let pair = |word: Slice<'_>| match key_and_value(word) {
        Some((key, _)) if key.is_empty() => Err(Error::BlankName { instruction: "ARG", span: word.span() }),
        Some((key, value)) => {
            Ok(ArgPair { key: key.spanned(), value: Some(value.spanned()), span: word.span() })
        }
        None => Ok(ArgPair { key: word.spanned(), value: None, span: word.span() }),
    };
    words.into_iter().map(pair).collect()
}

pub(super) fn env_or_label(statement: &Statement<'_>, instruction: &'static str) -> Result<Vec<Pair>, Error> {
    let pairs = pairs(statement, instruction)?;
    no_flags(statement)?;
    if pairs.is_empty() {
        return Err(statement.count(instruction, "at least one argument"));
    }
    match pairs.iter().find(|pair| pair.key.value.is_empty()) {
        Some(blank) => Err(Error::BlankName { instruction, span: blank.span }),
        None => Ok(pairs),
    }
}

/// What BuildKit's first parser pass takes for pairs (`parseNameVal`); names may be blank still.
pub(super) fn pairs(statement: &Statement<'_>, instruction: &'static str) -> Result<Vec<Pair>, Error> {
    let words = words::quoted(statement.args, statement.escape);
    if words.first().is_some_and(|first| !first.text().contains('=')) {
        let (key, Some(value)) = words::split_blank(statement.args) else {
            return Err(statement.count(instruction, "two arguments, a name and a value"));
        };
        let (key, value, span) = (key.spanned(), value.spanned(), statement.args.span());
        return Ok(vec![Pair { key, value, span, legacy: true }]);
    }
    let pair = |word: Slice<'_>| match key_and_value(word) {
        Some((key, value)) => {
            Ok(Pair { key: key.spanned(), value: value.spanned(), span: word.span(), legacy: false })
        }
        None => Err(Error::NotNameValue { word: word.text().to_owned(), span: word.span() }),
    };
    words.into_iter().map(pair).collect()
}

/// Cuts at the first equals sign.
fn key_and_value(word: Slice<'_>) -> Option<(Slice<'_>, Slice<'_>)> {
    let equals = word.text().find('=')?;
    Some((word.part(0, equals), word.part(equals + 1, word.text().len())))
}
