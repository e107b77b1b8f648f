//! Patterns of paths: `.dockerignore`, `--exclude`, and what `--parents` includes.
//!
//! The rules are those of moby/patternmatcher: Go's `filepath.Match` with `**` added, patterns
//! match whole paths from the root, what they match takes everything below it along, and a later
//! `!pattern` takes back. BuildKit asks them while it walks a tree, each directory's result handed
//! to its entries (`MatchesUsingParentResults`), which differs from asking for a single path in
//! corner cases; so that is what [`Patterns::check`] does.

mod file;
mod pattern;
mod regex;

use crate::Error;
use pattern::Pattern;

/// An ordered list of patterns.
///
/// Paths are relative, slash-separated, clean (`a/b`, not `./a//b/`) and need not be UTF-8.
///
/// ```
/// use ocib_dockerfile::Patterns;
///
/// let ignored = Patterns::parse_ignore_file(b"# big\n*.bin\nmodels\n!models/tiny.bin\n")?;
/// assert!(ignored.matches("a.bin"));
/// assert!(ignored.matches("models/sub/b.txt"));
/// assert!(!ignored.matches("models/tiny.bin"));
/// # Ok::<(), ocib_dockerfile::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Pattern>);

/// Which patterns match a path or a directory above it: what its entries need to know. The default
/// is that of the root, which nothing matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches(Vec<bool>);

impl Patterns {
    /// Reads an ignore file: a byte order mark, lines that begin with `#`, blank lines and white
    /// space around patterns do not count; a leading slash does not either.
    ///
    /// # Errors
    /// [`Error::BadPattern`] with the line of a pattern that is malformed,
    /// [`Error::IgnoreLineTooLong`] for one that BuildKit's scanner would not take.
    pub fn parse_ignore_file(text: &[u8]) -> Result<Self, Error> {
        let mut patterns = Vec::new();
        for (line, text) in file::lines(text)? {
            patterns.extend(Pattern::parse(&text, line)?);
        }
        Ok(Self(patterns))
    }

    /// Patterns as `--exclude` and `--parents` give them; blank ones do not count. A leading slash
    /// is not removed: such a pattern matches nothing.
    ///
    /// # Errors
    /// [`Error::BadPattern`], with 0 for the line.
    pub fn new<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        let parse = |pattern: T| Pattern::parse(pattern.as_ref(), 0).transpose();
        patterns.into_iter().filter_map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any begins with `!`.
    pub fn has_exceptions(&self) -> bool {
        self.0.iter().any(|pattern| pattern.exception)
    }

    /// Whether `path` is meant, given what was found for the directory that holds it; and what to
    /// hand to its own entries.
    pub fn check(&self, path: impl AsRef<[u8]>, parent: &Matches) -> (bool, Matches) {
        let path = path.as_ref();
        let mut matched = false;
        let mut matches = vec![false; self.0.len()];
        for (at, pattern) in self.0.iter().enumerate() {
            // A pattern that could not change the result is not asked, and so counts as not
            // matching for what is below: the quirk that tells this from matching single paths.
            let inherited = parent.0.get(at).copied().unwrap_or(false);
            matches[at] = inherited || (pattern.exception == matched && pattern.matches(path));
            if matches[at] {
                matched = !pattern.exception;
            }
        }
        (matched, Matches(matches))
    }

    /// Whether `path` is meant: [`Patterns::check`] from the root down to it. For many paths of one
    /// tree `check` is the faster way.
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        let slashes = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        let mut result = (false, Matches::default());
        for end in slashes.chain([path.len()]) {
            result = self.check(&path[..end], &result.1);
        }
        result.0
    }

    /// Whether something below `directory`, which itself is meant, may not be: then a walk that
    /// leaves out what is meant has to look inside all the same. Says yes in doubt.
    pub fn exceptions_below(&self, directory: impl AsRef<[u8]>) -> bool {
        let directory = directory.as_ref();
        self.0.iter().any(|pattern| pattern.exception && pattern.may_match_below(directory))
    }

    /// Whether something below `directory`, which itself is not meant, may be: then a walk that
    /// takes only what is meant has to look inside. Says yes in doubt.
    pub fn matches_below(&self, directory: impl AsRef<[u8]>) -> bool {
        let directory = directory.as_ref();
        self.0.iter().any(|pattern| !pattern.exception && pattern.may_match_below(directory))
    }
}

#[cfg(test)]
mod tests;
