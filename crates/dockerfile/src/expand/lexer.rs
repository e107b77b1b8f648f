//! One pass over a word.

use std::{collections::BTreeSet, iter::Peekable, mem, str::Chars};

use super::{ExpandError, ExpandReason, Expansion, Variables, pattern::Pattern};

/// BuildKit recurses as deep as Go's heap allows; here the stack is finite.
const DEEPEST: usize = 128;
/// How much longer a text may become by expansion, in bytes. Substitutions within substitutions
/// multiply: without a limit a line of a hundred characters fills any memory. Linux starts no process
/// with a variable of more than 128 KiB (`MAX_ARG_STRLEN`).
const LONGER_BYTES_MAX: usize = 1 << 20;

/// How a lexer treats what is not a variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoting {
    /// The quoting character.
    pub(crate) escape: char,
    /// Quotes are characters like others.
    pub(crate) ignore_quotes: bool,
    /// Quotes keep their meaning, but stay in the text.
    pub(crate) keep_quotes: bool,
    /// Escapes keep their meaning, but stay in the text.
    pub(crate) keep_escapes: bool,
    /// Variables without a value stay as written.
    pub(crate) keep_unset: bool,
}

impl Default for Quoting {
    fn default() -> Self {
        Self {
            escape: '\\',
            ignore_quotes: false,
            keep_quotes: false,
            keep_escapes: false,
            keep_unset: false,
        }
    }
}

pub(crate) struct Lexer<'t, V: ?Sized> {
    chars: Peekable<Chars<'t>>,
    variables: &'t V,
    quoting: Quoting,
    undefined: BTreeSet<String>,
    depth: usize,
    /// The longest text, in bytes.
    longest: usize,
}

impl<'t, V: Variables + ?Sized> Lexer<'t, V> {
    pub(crate) fn new(text: &'t str, variables: &'t V, quoting: Quoting) -> Self {
        // Go's scanner, through which BuildKit reads words, drops a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let longest = text.len() + LONGER_BYTES_MAX;
        let chars = text.chars().peekable();
        Self { chars, variables, quoting, undefined: BTreeSet::new(), depth: 0, longest }
    }

    pub(crate) fn run(mut self, source: &str) -> Result<Expansion, ExpandError> {
        match self.until(None, self.quoting.keep_escapes) {
            Ok(pieces) => {
                Ok(Expansion { text: pieces.text, words: pieces.words.finish(), undefined: self.undefined })
            }
            Err(reason) => Err(ExpandError { word: source.to_owned(), reason }),
        }
    }

    /// Everything up to the stop character, which is consumed, or to the end if there is none.
    fn until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<Pieces, ExpandReason> {
        let outer = mem::replace(&mut self.quoting.keep_escapes, keep_escapes);
        self.depth += 1;
        let pieces = if self.depth > DEEPEST {
            Err(ExpandReason::TooDeep { limit: DEEPEST })
        } else {
            self.pieces(stop)
        };
        self.depth -= 1;
        self.quoting.keep_escapes = outer;
        pieces
    }

    fn pieces(&mut self, stop: Option<char>) -> Result<Pieces, ExpandReason> {
        let mut pieces = Pieces::default();
        while let Some(&c) = self.chars.peek() {
            if Some(c) == stop {
                self.chars.next();
                return Ok(pieces);
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    pieces.push_value(self.fitting(pieces.text.len(), &value)?);
                }
                '\'' if !self.quoting.ignore_quotes => pieces.push_quoted(&self.single_quoted()?),
                '"' if !self.quoting.ignore_quotes => {
                    let text = self.double_quoted()?;
                    pieces.push_quoted(self.fitting(pieces.text.len(), &text)?);
                }
                _ => {
                    self.chars.next();
                    if c == self.quoting.escape { self.escaped(&mut pieces) } else { pieces.push(c) }
                }
            }
        }
        // Whoever asked for a stop character replaces this by what it misses.
        if stop.is_some() { Err(ExpandReason::MissingBrace) } else { Ok(pieces) }
    }

    /// `more`, if it may be added to a text of `length` bytes.
    fn fitting<'m>(&self, length: usize, more: &'m str) -> Result<&'m str, ExpandReason> {
        match length.saturating_add(more.len()) > self.longest {
            true => Err(ExpandReason::TooLong { limit: self.longest }),
            false => Ok(more),
        }
    }

    fn escaped(&mut self, pieces: &mut Pieces) {
        if self.quoting.keep_escapes {
            pieces.push_raw(self.quoting.escape);
        }
        if let Some(c) = self.chars.next() {
            pieces.push_raw(c);
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandReason> {
        let mut text = self.open_quote();
        loop {
            match self.chars.next() {
                None => return Err(ExpandReason::UnclosedQuote { quote: '\'' }),
                Some('\'') => return Ok(self.close_quote(text, '\'')),
                Some(c) => text.push(c),
            }
        }
    }

    /// Within double quotes an escape character is one only before `"`, `$` and itself.
    fn double_quoted(&mut self) -> Result<String, ExpandReason> {
        let mut text = self.open_quote();
        let escape = self.quoting.escape;
        loop {
            match self.chars.peek() {
                None => return Err(ExpandReason::UnclosedQuote { quote: '"' }),
                Some('"') => {
                    self.chars.next();
                    return Ok(self.close_quote(text, '"'));
                }
                Some('$') => {
                    let value = self.dollar()?;
                    text.push_str(self.fitting(text.len(), &value)?);
                }
                Some(&c) => {
                    self.chars.next();
                    if c == escape && self.quoting.keep_escapes {
                        text.push(c);
                    }
                    let special = |&next: &char| c == escape && (matches!(next, '"' | '$') || next == escape);
                    match self.chars.next_if(special) {
                        Some(escaped) => text.push(escaped),
                        None if c == escape && self.chars.peek().is_none() => {}
                        None => text.push(c),
                    }
                }
            }
        }
    }

    fn open_quote(&mut self) -> String {
        let quote = self.chars.next();
        quote.filter(|_| self.quoting.keep_quotes).map(String::from).unwrap_or_default()
    }

    fn close_quote(&self, mut text: String, quote: char) -> String {
        if self.quoting.keep_quotes {
            text.push(quote);
        }
        text
    }

    fn dollar(&mut self) -> Result<String, ExpandReason> {
        self.chars.next();
        if self.chars.next_if_eq(&'{').is_some() {
            return self.braces();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(self.plain(&name, &format!("${name}")))
    }

    fn braces(&mut self) -> Result<String, ExpandReason> {
        match self.chars.peek() {
            None => return Err(ExpandReason::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandReason::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let operator = self.chars.next();
        match operator {
            Some('}') => Ok(self.plain(&name, &format!("${{{name}}}"))),
            Some(':') => match self.chars.next() {
                Some(operator @ ('+' | '-' | '?')) => self.conditional(&name, operator, true),
                other if matches!(other, Some('#' | '%')) => Err(unsupported(":", other)),
                other => self.unknown_conditional(&name, other),
            },
            Some(operator @ ('+' | '-' | '?')) => self.conditional(&name, operator, false),
            Some(operator @ ('#' | '%')) => self.trimmed(&name, operator),
            Some('/') => self.replaced(&name),
            other => Err(unsupported("", other)),
        }
    }

    /// `$name` and `${name}`.
    fn plain(&mut self, name: &str, written: &str) -> String {
        match self.variables.lookup(name) {
            Some(value) => value,
            None if self.quoting.keep_unset => written.to_owned(),
            None => {
                self.undefined.insert(name.to_owned());
                String::new()
            }
        }
    }

    /// `-`, `+` and `?`; with a colon, an empty value counts as none.
    fn conditional(&mut self, name: &str, operator: char, colon: bool) -> Result<String, ExpandReason> {
        let word = self.argument('}', false, ExpandReason::MissingBrace)?;
        let value = self.variables.lookup(name);
        if value.is_none() && self.quoting.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let unset = value.is_none();
        match (operator, value.filter(|value| !(colon && value.is_empty()))) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let standing_in =
                    if unset { "is not allowed to be unset" } else { "is not allowed to be empty" };
                let message = if word.is_empty() { standing_in.to_owned() } else { word };
                Err(ExpandReason::Required { name: name.to_owned(), message })
            }
        }
    }

    /// A colon with an operator that does not exist. BuildKit says so only after it has read the
    /// rest, and not at all of a variable that stays as written: a RUN may use the shell's `:=`.
    fn unknown_conditional(&mut self, name: &str, operator: Option<char>) -> Result<String, ExpandReason> {
        let word = self.argument('}', false, ExpandReason::MissingBrace)?;
        match operator {
            Some(operator) if self.quoting.keep_unset && self.variables.lookup(name).is_none() => {
                Ok(format!("${{{name}:{operator}{word}}}"))
            }
            _ => Err(unsupported(":", operator)),
        }
    }

    /// `#`, `##`, `%` and `%%`: without what matches at the beginning or at the end.
    fn trimmed(&mut self, name: &str, operator: char) -> Result<String, ExpandReason> {
        let word = self.argument('}', true, ExpandReason::MissingBrace)?;
        let value = self.variables.lookup(name);
        if value.is_none() && self.quoting.keep_unset {
            return Ok(format!("${{{name}{operator}{word}}}"));
        }
        let value = self.or_empty(name, value);
        let (pattern, longest) = match word.strip_prefix(operator) {
            Some(pattern) => (pattern, true),
            None => (word.as_str(), false),
        };
        if operator == '#' {
            Ok(Pattern::parse(pattern)?.without_prefix(&value, longest))
        } else {
            Ok(Pattern::parse_reversed(pattern)?.without_suffix(&value, longest))
        }
    }

    /// `/` and `//`: the first or every match replaced.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandReason> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.argument('/', true, ExpandReason::MissingSlash)?;
        let replacement = self.argument('}', true, ExpandReason::MissingBrace)?;
        let value = self.variables.lookup(name);
        if value.is_none() && self.quoting.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = self.or_empty(name, value);
        let pattern = Pattern::parse(&pattern)?;
        if all {
            return pattern.replace_all(&value, &replacement, self.longest);
        }
        Ok(pattern.replace_first(&value, &replacement))
    }

    fn or_empty(&mut self, name: &str, value: Option<String>) -> String {
        value.unwrap_or_else(|| {
            self.undefined.insert(name.to_owned());
            String::new()
        })
    }

    /// An operator's argument, itself expanded. Whatever goes wrong at the very end of the word is
    /// blamed on what is missing there.
    fn argument(
        &mut self,
        stop: char,
        keep_escapes: bool,
        missing: ExpandReason,
    ) -> Result<String, ExpandReason> {
        match self.until(Some(stop), keep_escapes) {
            Ok(pieces) => Ok(pieces.text),
            Err(reason @ (ExpandReason::TooDeep { .. } | ExpandReason::TooLong { .. })) => Err(reason),
            Err(_) if self.chars.peek().is_none() => Err(missing),
            Err(reason) => Err(reason),
        }
    }

    /// A name, a number, or one of the shell's special parameters; empty if none stands here.
    fn name(&mut self) -> String {
        let special = |c: &char| matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!');
        if let Some(parameter) = self.chars.next_if(special) {
            return parameter.to_string();
        }
        let number = self.chars.peek().is_some_and(char::is_ascii_digit);
        let mut name = String::new();
        let belongs = |c: &char| if number { c.is_ascii_digit() } else { c.is_alphanumeric() || *c == '_' };
        while let Some(c) = self.chars.next_if(belongs) {
            name.push(c);
        }
        name
    }
}

fn unsupported(before: &str, found: Option<char>) -> ExpandReason {
    let found = found.unwrap_or(char::REPLACEMENT_CHARACTER);
    ExpandReason::UnsupportedModifier { modifier: format!("{before}{found}") }
}

/// Text, and the same text as words.
#[derive(Default)]
struct Pieces {
    text: String,
    words: Words,
}

impl Pieces {
    fn push(&mut self, c: char) {
        self.text.push(c);
        self.words.push(c);
    }

    fn push_raw(&mut self, c: char) {
        self.text.push(c);
        self.words.last.push(c);
    }

    /// A variable's value: its blanks separate words.
    fn push_value(&mut self, value: &str) {
        self.text.push_str(value);
        value.chars().for_each(|c| self.words.push(c));
    }

    fn push_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.words.last.push_str(text);
    }
}

#[derive(Default)]
struct Words {
    done: Vec<String>,
    last: String,
}

impl Words {
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.last.push(c);
        } else if !self.last.is_empty() {
            self.done.push(mem::take(&mut self.last));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.last.is_empty() {
            self.done.push(self.last);
        }
        self.done
    }
}
