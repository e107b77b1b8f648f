//! Advice about a Dockerfile that is not wrong: BuildKit's build checks and some of our own.
//!
//! BuildKit's rules and messages are those of `frontend/dockerfile/linter/ruleset.go`. Base images
//! and files are not known here: where a rule would need them, it says nothing. [`RULES`] lists all
//! rules, and `docs/rules` of the project has a page for each.
//!
//! Each module below looks at one subject and pushes everything it finds; [`Linter::check`] then
//! leaves out what nobody wants to know.

mod bases;
mod casing;
mod comments;
mod copies;
mod instructions;
mod options;
mod overwrites;
mod rules;
mod stages;
mod targets;
mod values;
mod variables;

use std::collections::BTreeMap;

pub use copies::ADD_EXTENSIONS;
pub use options::{bad_check_option, warnings_are_errors, warns_of};
pub use rules::{RULES, Rule, Shown};
pub use values::{is_secret, redacted, redacted_instruction, redacted_text};

pub(crate) use rules::rule;

use crate::{Dockerfile, Patterns, Position, Span};
use options::CheckOptions;

/// A finding of lint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The name of one of the [`RULES`], such as `StageNameCasing`.
    pub rule: &'static str,
    /// What was found.
    pub message: String,
    /// Where.
    pub span: Span,
}

impl Warning {
    pub(crate) fn new(rule: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self { rule, message: message.into(), span }
    }

    /// Where it begins in `text`, the Dockerfile's, and where the first character behind it is.
    pub fn place(&self, text: &str) -> (Position, Position) {
        (Position::of(text, self.span.start), Position::of(text, self.span.end))
    }
}

/// What there is to know besides the Dockerfile, and how much is wanted. The default knows nothing
/// and wants what BuildKit shows during a build.
///
/// ```
/// use ocib_dockerfile::{Linter, parse};
///
/// let dockerfile = parse(b"FROM alpine AS Tools\n")?;
/// let rules = |linter: Linter<'_>| {
///     linter.check(&dockerfile).into_iter().map(|warning| warning.rule).collect::<Vec<_>>()
/// };
/// assert_eq!(rules(Linter::default()), ["StageNameCasing"]);
/// assert_eq!(
///     rules(Linter { advice: true, ..Linter::default() }),
///     ["MutableBaseTag", "StageNameCasing"]
/// );
/// # Ok::<(), ocib_dockerfile::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Linter<'a> {
    /// Whether the rules count that are [`Shown::OnCheck`].
    pub advice: bool,
    /// The context's ignore file. Without it no source is known to be ignored.
    pub ignored: Option<&'a Patterns>,
    /// How many bytes each COPY and ADD takes, by the instruction's span. Without it none is known to be large.
    pub copied: Option<&'a BTreeMap<Span, u64>>,
    /// Build args by name; without them all ARGs have their defaults.
    pub build_args: Option<&'a BTreeMap<String, String>>,
    /// The number of the stage that is to be built: only what it needs is looked at.
    pub target: Option<usize>,
}

impl Linter<'_> {
    /// All findings in the order of the text, without those that a `# check=skip=…` directive names.
    pub fn check(&self, dockerfile: &Dockerfile) -> Vec<Warning> {
        let mut warnings = dockerfile.warnings.clone();
        casing::check(dockerfile, &mut warnings);
        stages::check(dockerfile, &mut warnings);
        instructions::check(dockerfile, &mut warnings);
        variables::check(dockerfile, &mut warnings);
        comments::check(dockerfile, &mut warnings);
        values::check(dockerfile, &mut warnings);
        bases::check(dockerfile, self.build_args, &mut warnings);
        copies::check(dockerfile, self, &mut warnings);
        overwrites::check(dockerfile, &mut warnings);
        let options = CheckOptions::of(dockerfile, &mut warnings);
        warnings.retain(|warning| options.shows(warning.rule, self.advice));
        if let Some(target) = self.target {
            targets::keep_needed(dockerfile, target, &mut warnings);
        }
        warnings.sort_by_key(|warning| warning.span);
        warnings
    }
}

/// What [`Linter::default`] finds: the warnings of a build.
pub fn lint(dockerfile: &Dockerfile) -> Vec<Warning> {
    Linter::default().check(dockerfile)
}

#[cfg(test)]
mod tests;
