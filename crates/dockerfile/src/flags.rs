//! The `--flags` between an instruction's keyword and its arguments.

use crate::{Error, Span, Spanned, instruction::Keyword, line::Slice, suggest};

/// A word that begins with two dashes.
#[derive(Debug)]
pub(crate) struct FlagWord<'l> {
    /// Without quotes and escapes.
    text: String,
    written: Slice<'l>,
}

#[derive(Debug)]
struct Flag {
    name: String,
    value: Option<Spanned<String>>,
    span: Span,
}

/// The flags of one instruction; taken out one by one by name.
#[derive(Debug)]
pub(crate) struct Flags {
    instruction: &'static str,
    found: Vec<Flag>,
}

impl Flags {
    /// Checks `words` against the flags that the instruction has (BuildKit, `BFlags.Parse`).
    pub(crate) fn parse(words: &[FlagWord<'_>], instruction: Keyword) -> Result<Self, Error> {
        let mut flags = Self { instruction: instruction.name(), found: Vec::new() };
        for word in words {
            let flag = flag(word);
            flags.check(&flag, instruction.flags())?;
            flags.found.push(flag);
        }
        Ok(flags)
    }

    fn check(&self, flag: &Flag, known: &KnownFlags) -> Result<(), Error> {
        let name = flag.name.as_str();
        if !known.all().any(|known| known == name) {
            let names: Vec<_> = known.all().collect();
            return Err(Error::UnknownFlag {
                found: format!("--{name}"),
                instruction: self.instruction,
                suggestion: suggest::nearest(name, &names),
                span: flag.span,
            });
        }
        if !known.repeatable.contains(&name) && self.found.iter().any(|earlier| earlier.name == name) {
            return Err(Error::DuplicateFlag { flag: name.to_owned(), span: flag.span });
        }
        match &flag.value {
            None if known.boolean.contains(&name) => Ok(()),
            None => Err(Error::FlagWithoutValue { flag: name.to_owned(), span: flag.span }),
            Some(value) if known.boolean.contains(&name) => boolean(name, value, flag.span).map(drop),
            Some(_) => Ok(()),
        }
    }

    /// The value of a flag; `None` also for an empty one, which BuildKit takes as not given.
    pub(crate) fn text(&mut self, name: &str) -> Option<Spanned<String>> {
        self.texts(name).pop().filter(|value| !value.value.is_empty())
    }

    /// The values of a repeatable flag, in order.
    pub(crate) fn texts(&mut self, name: &str) -> Vec<Spanned<String>> {
        self.found.extract_if(.., |flag| flag.name == name).filter_map(|flag| flag.value).collect()
    }

    /// Whether a boolean flag is on; `None` if it is not given.
    pub(crate) fn switch(&mut self, name: &str) -> Result<Option<bool>, Error> {
        match self.found.extract_if(.., |flag| flag.name == name).last() {
            None => Ok(None),
            Some(Flag { value: None, .. }) => Ok(Some(true)),
            Some(Flag { value: Some(value), span, .. }) => boolean(name, &value, span).map(Some),
        }
    }
}

/// The flags that an instruction has.
#[derive(Debug)]
pub(crate) struct KnownFlags {
    /// With a value, at most once.
    pub(crate) text: &'static [&'static str],
    /// With a value, any number of times.
    pub(crate) repeatable: &'static [&'static str],
    /// `--flag`, `--flag=true`, `--flag=false`.
    pub(crate) boolean: &'static [&'static str],
}

impl KnownFlags {
    /// For instructions without flags.
    pub(crate) const NONE: Self = Self { text: &[], repeatable: &[], boolean: &[] };

    pub(crate) fn all(&self) -> impl Iterator<Item = &'static str> {
        [self.text, self.repeatable, self.boolean].into_iter().flatten().copied()
    }
}

/// The words at the beginning of `text` that start with `--`, and what follows them. A word `--`
/// ends them.
///
/// BuildKit (`extractBuilderFlags`) goes byte by byte here and garbles characters beyond ASCII;
/// that is not copied.
pub(crate) fn split(text: Slice<'_>, escape: char) -> (Vec<FlagWord<'_>>, Slice<'_>) {
    let whole = text.text();
    let mut flags = Vec::new();
    let mut start = 0;
    loop {
        start = whole.len() - whole[start..].trim_start().len();
        if !whole[start..].starts_with("--") {
            return (flags, text.part(start, whole.len()).trim());
        }
        let (word, length) = unquoted_word(&whole[start..], escape);
        let end = start + length;
        if word == "--" {
            return (flags, text.part(end, whole.len()).trim());
        }
        flags.push(FlagWord { text: word, written: text.part(start, end) });
        start = end;
    }
}

/// The first word of `text` without its quotes and escapes, and how many bytes it takes.
fn unquoted_word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((offset, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, offset),
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => word.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => word.push(c),
        }
    }
    (word, text.len())
}

fn flag(word: &FlagWord<'_>) -> Flag {
    let text = word.text.strip_prefix("--").unwrap_or(&word.text);
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let written = word.written.text();
    let value_start = written.find('=').map_or(0, |equals| equals + 1);
    let value_span = word.written.part(value_start, written.len()).span();
    Flag {
        name: name.to_owned(),
        value: value.map(|value| Spanned::new(value.to_owned(), value_span)),
        span: word.written.span(),
    }
}

fn boolean(name: &str, value: &Spanned<String>, span: Span) -> Result<bool, Error> {
    match value.value.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        "" => Err(Error::FlagWithoutValue { flag: name.to_owned(), span }),
        _ => Err(Error::BadFlagValue {
            flag: name.to_owned(),
            found: value.value.clone(),
            wanted: "boolean value",
            span: value.span,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::LineReader;

    #[test]
    fn flags_end_where_arguments_begin() {
        let cases: [(&str, &[&str], &str); 8] = [
            ("a /b", &[], "a /b"),
            ("--chown=1:2  --link a", &["--chown=1:2", "--link"], "a"),
            ("--chown=\"7 8\" a", &["--chown=7 8"], "a"),
            ("--ch'mod'=640 a", &["--chmod=640"], "a"),
            ("--a=x\\ y -- --b", &["--a=x y"], "--b"),
            ("--a=é -b", &["--a=é"], "-b"),
            ("--a", &["--a"], ""),
            ("--a=\"open  x", &["--a=open  x"], ""),
        ];
        for (text, flags, rest) in cases {
            let line = LineReader::new(text).logical().unwrap().unwrap();
            let (found, after) = split(line.all(), '\\');
            let found: Vec<_> = found.iter().map(|flag| flag.text.as_str()).collect();
            assert_eq!((found.as_slice(), after.text()), (flags, rest), "{text}");
        }
    }

    #[test]
    fn values() {
        let line = LineReader::new("--link=TRUE --chown=1 --exclude=a --exclude= --from=")
            .logical()
            .unwrap()
            .unwrap();
        let mut flags = Flags::parse(&split(line.all(), '\\').0, Keyword::Copy).unwrap();
        assert_eq!(flags.switch("link"), Ok(Some(true)));
        assert_eq!(flags.switch("link"), Ok(None));
        assert_eq!(flags.text("chown"), Some(Spanned::new("1".to_owned(), 20..21)));
        assert_eq!(flags.text("from"), None);
        let excludes = [Spanned::new("a".to_owned(), 32..33), Spanned::new(String::new(), 44..44)];
        assert_eq!(flags.texts("exclude"), excludes);
    }

    #[test]
    fn wrong_flags() {
        for (text, message, help, (start, end)) in [
            ("--chgrp=1", "unknown flag: --chgrp", None, (0, 9)),
            ("--form=x", "unknown flag: --form", Some("did you mean --from?"), (0, 8)),
            ("--chown=1 --chown=2", "duplicate flag specified: --chown", None, (10, 19)),
            ("--link=yes", "expecting boolean value for flag --link, not: yes", None, (7, 10)),
            ("--link=", "missing a value on flag: --link", None, (0, 7)),
            ("--exclude", "missing a value on flag: --exclude", None, (0, 9)),
            ("--exclude=\\\n --from", "missing a value on flag: --from", None, (13, 19)),
        ] {
            let line = LineReader::new(text).logical().unwrap().unwrap();
            let error = Flags::parse(&split(line.all(), '\\').0, Keyword::Copy).unwrap_err();
            let found = (error.to_string(), error.help(), error.span());
            let expected = (message.to_owned(), help.map(str::to_owned), Some(Span { start, end }));
            assert_eq!(found, expected, "{text}");
        }
    }
}
