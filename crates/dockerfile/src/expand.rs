//! Word expansion: quotes, escapes, `$name` and `${name…}`, as BuildKit's `shell/lex.go` does it.
//!
//! The text of an instruction is expanded when its turn comes, since only then is it known what
//! the variables hold. [`Expander`] is that step; it knows no variables itself, but asks
//! [`Variables`] for each.

mod lexer;
mod pattern;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use lexer::{Lexer, Quoting};

/// What variables hold.
///
/// Closures from a name to its value implement it, and maps.
pub trait Variables {
    /// The value of `name`; `None` if it is not set, which is different from empty. Names are
    /// looked up as written: `*`, `@`, `#`, `?`, `-`, `$`, `!` and numbers may be asked for too.
    fn lookup(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn lookup(&self, name: &str) -> Option<String> {
        self(name)
    }
}

impl Variables for BTreeMap<String, String> {
    fn lookup(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

/// Expands words.
///
/// ```
/// use ocib_dockerfile::Expander;
///
/// let variables = |name: &str| (name == "USER").then(|| "app".to_owned());
/// let expander = Expander::new('\\');
/// let home = expander.word(r#"/home/${USER:-root}/"$USER's"\$"#, &variables)?;
/// assert_eq!(home, "/home/app/app's$");
/// # Ok::<(), ocib_dockerfile::ExpandError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expander {
    escape: char,
}

/// A word after expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The word, blanks and all.
    pub text: String,
    /// The same split at blanks that were not quoted, in the word and in values: what EXPOSE
    /// goes by.
    pub words: Vec<String>,
    /// Names that had no value where the word gives no default, for lint.
    pub undefined: BTreeSet<String>,
}

impl Expander {
    /// Expands with `escape` as the quoting character: [`Dockerfile::escape`](crate::Dockerfile).
    pub fn new(escape: char) -> Self {
        Self { escape }
    }

    /// `raw` with quotes and escapes removed and variables replaced; one word whatever the values
    /// hold (BuildKit's `ProcessWord`).
    ///
    /// # Errors
    /// [`ExpandError`] for quotes and braces that do not close, unknown operators, `${v:?…}` of a
    /// variable without a value, and what becomes more than 1 MiB longer than `raw`.
    pub fn word(&self, raw: &str, variables: &(impl Variables + ?Sized)) -> Result<String, ExpandError> {
        self.expand(raw, variables).map(|expansion| expansion.text)
    }

    /// The same split into words (BuildKit's `ProcessWords`). Of an empty expansion there are none.
    ///
    /// # Errors
    /// As [`Expander::word`].
    pub fn words(
        &self,
        raw: &str,
        variables: &(impl Variables + ?Sized),
    ) -> Result<Vec<String>, ExpandError> {
        self.expand(raw, variables).map(|expansion| expansion.words)
    }

    /// Text, words and undefined names at once.
    ///
    /// # Errors
    /// As [`Expander::word`].
    pub fn expand(&self, raw: &str, variables: &(impl Variables + ?Sized)) -> Result<Expansion, ExpandError> {
        Lexer::new(raw, variables, Quoting { escape: self.escape, ..Quoting::default() }).run(raw)
    }

    /// The body of a heredoc with variables replaced: quotes stay, and a backslash escapes
    /// whatever the escape directive says (BuildKit, `ExpandRaw`).
    ///
    /// # Errors
    /// As [`Expander::word`], but quotes need not close.
    pub fn heredoc(
        &self,
        content: &str,
        variables: &(impl Variables + ?Sized),
    ) -> Result<String, ExpandError> {
        let quoting = Quoting { ignore_quotes: true, ..Quoting::default() };
        Lexer::new(content, variables, quoting).run(content).map(|expansion| expansion.text)
    }
}

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {reason}")]
pub struct ExpandError {
    /// The word as written.
    pub word: String,
    /// What is wrong with it.
    pub reason: ExpandReason,
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandReason {
    /// A quote that does not close.
    #[error("unexpected end of statement while looking for matching {}-quote", if *.quote == '"' { "double" } else { "single" })]
    UnclosedQuote {
        /// `'` or `"`.
        quote: char,
    },
    /// `${` that does not close.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${name/pattern` without a replacement.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:…}`, `${{…}`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// An operator that does not exist.
    #[error("unsupported modifier ({modifier}) in substitution")]
    UnsupportedModifier {
        /// What stands behind the name; U+FFFD for the end of the word.
        modifier: String,
    },
    /// `${name?message}` of a variable without a value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message, or one that stands in for it.
        message: String,
    },
    /// A pattern that escapes a character that needs no escape.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    BadPattern {
        /// The pattern after expansion.
        pattern: String,
        /// The character; U+FFFD for the end of the pattern.
        escaped: char,
    },
    /// Substitutions within substitutions beyond what any file needs.
    #[error("substitutions are nested more than {limit} deep")]
    TooDeep {
        /// How deep they may be.
        limit: usize,
    },
    /// Substitutions that multiply what variables hold: 1 MiB more than the text's own length.
    #[error("the expansion is longer than {limit} bytes")]
    TooLong {
        /// How long it may be, in bytes.
        limit: usize,
    },
}

#[cfg(test)]
mod tests;
