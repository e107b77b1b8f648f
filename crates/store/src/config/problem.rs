//! What is wrong with a file of rules, and where.

use std::{fmt, ops::Range, path::PathBuf};

/// What is wrong in a file of rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigProblem {
    /// The file.
    pub file: PathBuf,
    /// What stands in it.
    pub text: String,
    /// The part that is wrong, in bytes of the text.
    pub span: Range<usize>,
    /// What is wrong, and what was expected.
    pub why: String,
}

/// Longer lines are cut.
const EXCERPT_CHARS: usize = 80;

impl ConfigProblem {
    /// Line and column in which it begins, both from 1; columns are characters.
    pub fn position(&self) -> (usize, usize) {
        let before = &self.text[..self.start()];
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    fn start(&self) -> usize {
        self.text.floor_char_boundary(self.span.start.min(self.text.len()))
    }
}

impl fmt::Display for ConfigProblem {
    /// `FILE:LINE:COLUMN: what is wrong`, and the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position();
        let excerpt = self.text.lines().nth(line - 1).unwrap_or_default().trim();
        write!(f, "{}:{line}:{column}: {}", self.file.display(), self.why)?;
        match ocib_net::printable(excerpt.as_bytes(), EXCERPT_CHARS) {
            excerpt if excerpt.is_empty() => Ok(()),
            excerpt => write!(f, ", in `{excerpt}`"),
        }
    }
}
