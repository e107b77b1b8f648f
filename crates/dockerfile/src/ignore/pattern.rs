//! A single pattern.

use std::{iter::Peekable, str::Chars};

use super::{file::clean, regex::Regex};
use crate::{Error, glob};

#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// `!`
    pub(super) exception: bool,
    /// Cleaned, without the `!`.
    text: String,
    matcher: Matcher,
}

/// The forms that moby/patternmatcher tells apart in `Pattern.compile`, since their results differ
/// from what the expression would give.
#[derive(Debug, Clone)]
enum Matcher {
    /// No wildcard.
    Exact,
    /// What stands before a final `**`.
    Prefix(usize),
    /// What stands behind a leading `**`.
    Suffix(usize),
    Regex(Regex),
}

impl Pattern {
    /// `None` for a blank.
    pub(super) fn parse(text: &str, line: usize) -> Result<Option<Self>, Error> {
        let bad = || Error::BadPattern { line, pattern: text.trim().to_owned() };
        if text.trim().is_empty() {
            return Ok(None);
        }
        let cleaned = clean(text.trim());
        let (exception, pattern) = cleaned.strip_prefix('!').map_or((false, cleaned.as_str()), |p| (true, p));
        if exception && pattern.is_empty() {
            return Err(bad());
        }
        // Not what matches later, but what moby checks the syntax with.
        glob::matches(pattern, ".").map_err(|_| bad())?;
        let matcher = Matcher::compile(pattern).ok_or_else(bad)?;
        Ok(Some(Self { exception, text: pattern.to_owned(), matcher }))
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let text = self.text.as_bytes();
        match &self.matcher {
            Matcher::Exact => path == text,
            Matcher::Prefix(length) => path.starts_with(&text[..*length]),
            Matcher::Suffix(start) => {
                let suffix = &text[*start..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|rest| path == rest)
            }
            Matcher::Regex(regex) => regex.matches(path),
        }
    }

    /// Whether a path below `directory` (empty: the root) could match: compares element by element, as far as the
    /// pattern's elements cannot match a slash.
    pub(super) fn may_match_below(&self, directory: &[u8]) -> bool {
        if directory.is_empty() {
            return true;
        }
        let mut elements = self.text.split('/');
        for name in directory.split(|&byte| byte == b'/') {
            let Some(element) = elements.next() else { return false };
            // Where an expression may match what `filepath.Match` does not: U+FFFD is any byte that is no
            // UTF-8 to the one, and its own three bytes to the other.
            if element.contains("**") || element.contains(['[', '\\', '^', char::REPLACEMENT_CHARACTER]) {
                return true;
            }
            if !glob::matches(element, name).unwrap_or(true) {
                return false;
            }
        }
        elements.next().is_some()
    }
}

impl Matcher {
    /// `None` for a pattern that is no valid expression.
    fn compile(pattern: &str) -> Option<Self> {
        let mut translation = Translation { expression: String::new(), form: Form::Exact };
        let mut chars = pattern.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            translation.push(c, &mut chars, first);
            first = false;
        }
        Some(match translation.form {
            Form::Exact => Self::Exact,
            Form::Prefix => Self::Prefix(pattern.len() - "**".len()),
            Form::Suffix => Self::Suffix("**".len()),
            Form::Regex => Self::Regex(Regex::parse(&translation.expression)?),
        })
    }
}

/// A pattern as far as it has been read.
struct Translation {
    expression: String,
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    Exact,
    Prefix,
    Suffix,
    Regex,
}

impl Translation {
    fn push(&mut self, c: char, rest: &mut Peekable<Chars<'_>>, first: bool) {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => self.push_double_star(rest, first),
            '*' => self.push_expression("[^/]*"),
            '?' => self.push_expression("[^/]"),
            '[' => self.push_expression("["),
            ']' => self.push_expression("]"),
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => self.expression.extend(['\\', c]),
            '\\' => {
                self.expression.push('\\');
                if let Some(escaped) = rest.next() {
                    self.push_expression(escaped.encode_utf8(&mut [0; 4]));
                }
            }
            _ => self.expression.push(c),
        }
    }

    /// `**` and `**/`, which also stand for no directory at all.
    fn push_double_star(&mut self, rest: &mut Peekable<Chars<'_>>, first: bool) {
        let _ = rest.next_if_eq(&'/');
        let last = rest.peek().is_none();
        self.expression.push_str(if last { ".*" } else { "(.*/)?" });
        self.form = match self.form {
            _ if first => Form::Suffix,
            Form::Exact if last => Form::Prefix,
            _ => Form::Regex,
        };
    }

    fn push_expression(&mut self, expression: &str) {
        self.expression.push_str(expression);
        self.form = Form::Regex;
    }
}
