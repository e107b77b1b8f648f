//! What can be wrong with a Dockerfile or an ignore file.

use crate::{ExpandError, Span};

/// A Dockerfile, an ONBUILD trigger or an ignore file that cannot be understood.
///
/// [`Error::span`] says where, [`Error::help`] what to try. The texts follow BuildKit's where it
/// has one, so that they can be searched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a single byte.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// Nothing but comments and blank lines.
    #[error("file with no instructions")]
    NoInstructions,
    /// Only ARG.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// BuildKit reads lines into a buffer of 64 KiB, and refuses longer ones.
    #[error("dockerfile line greater than max allowed size of 65535: it has {bytes} bytes")]
    LineTooLong {
        /// The length without the line feed.
        bytes: usize,
        /// The line.
        span: Span,
    },
    /// `# escape=` with anything but the two characters that it may name.
    #[error("invalid escape token '{found}' does not match ` or \\")]
    BadEscapeDirective {
        /// The value.
        found: String,
        /// The value.
        span: Span,
    },
    /// A parser directive given twice.
    #[error("only one {name} parser directive can be used")]
    DuplicateDirective {
        /// Its name in lower case.
        name: String,
        /// The second one.
        span: Span,
    },
    /// A heredoc whose end never comes.
    #[error("unterminated heredoc: no line holds just {name}")]
    UnterminatedHeredoc {
        /// The delimiter.
        name: String,
        /// Its `<<` word.
        span: Span,
    },
    /// A `<<` word whose delimiter has quotes or substitutions that do not close.
    #[error("bad heredoc delimiter: {reason}")]
    BadHeredoc {
        /// What the word lexer says.
        reason: ExpandError,
        /// The `<<` word.
        span: Span,
    },
    /// A line that begins with a word that is no instruction.
    #[error("unknown instruction: {found}")]
    UnknownInstruction {
        /// The word.
        found: String,
        /// A near instruction.
        suggestion: Option<&'static str>,
        /// The word.
        span: Span,
    },
    /// An instruction other than ARG before the first FROM.
    #[error("no build stage in current context: {instruction} stands before the first FROM")]
    BeforeFrom {
        /// Its name.
        instruction: &'static str,
        /// The instruction.
        span: Span,
    },
    /// A flag that this instruction does not have.
    #[error("unknown flag: {found}")]
    UnknownFlag {
        /// With its dashes, without its value.
        found: String,
        /// The instruction.
        instruction: &'static str,
        /// A near flag of this instruction.
        suggestion: Option<&'static str>,
        /// The whole flag.
        span: Span,
    },
    /// A flag given twice.
    #[error("duplicate flag specified: --{flag}")]
    DuplicateFlag {
        /// Its name without dashes.
        flag: String,
        /// The second one.
        span: Span,
    },
    /// A flag without `=`, or a boolean with nothing behind it.
    #[error("missing a value on flag: --{flag}")]
    FlagWithoutValue {
        /// Its name without dashes.
        flag: String,
        /// The flag.
        span: Span,
    },
    /// A flag whose value is none of those that it takes.
    #[error("expecting {wanted} for flag --{flag}, not: {found}")]
    BadFlagValue {
        /// Its name without dashes.
        flag: String,
        /// The value.
        found: String,
        /// What it may be.
        wanted: &'static str,
        /// The value.
        span: Span,
    },
    /// Too few or too many arguments.
    #[error("{instruction} requires {wanted}")]
    ArgumentCount {
        /// The instruction.
        instruction: &'static str,
        /// How many, or which.
        wanted: &'static str,
        /// The arguments, or the keyword where there are none.
        span: Span,
    },
    /// A valid JSON array with something else than strings in it.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings {
        /// The array.
        span: Span,
    },
    /// A word without `=` among `name=value` pairs.
    #[error("syntax error - can't find = in {word:?}. Must be of the form: name=value")]
    NotNameValue {
        /// The word.
        word: String,
        /// The word.
        span: Span,
    },
    /// Nothing before the `=`.
    #[error("{instruction} names can not be blank")]
    BlankName {
        /// The instruction.
        instruction: &'static str,
        /// The pair.
        span: Span,
    },
    /// `VOLUME [""]`.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume {
        /// The volume.
        span: Span,
    },
    /// A heredoc as the last argument of COPY or ADD.
    #[error("{instruction} cannot accept a heredoc as a destination")]
    HeredocDestination {
        /// The instruction.
        instruction: &'static str,
        /// The word.
        span: Span,
    },
    /// A stage name with characters that it may not have.
    #[error("invalid name for build stage: {found:?}, name can't start with a number or contain symbols")]
    BadStageName {
        /// The name as written.
        found: String,
        /// The name.
        span: Span,
    },
    /// `ONBUILD ONBUILD`.
    #[error("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    ChainedOnBuild {
        /// The second keyword.
        span: Span,
    },
    /// An instruction that cannot wait for another build.
    #[error("{trigger} isn't allowed as an ONBUILD trigger")]
    BadTrigger {
        /// FROM or MAINTAINER.
        trigger: &'static str,
        /// The keyword.
        span: Span,
    },
    /// A trigger out of a base image that is not exactly one instruction.
    #[error("onbuild trigger should be a single expression, but has {found} instructions")]
    TriggerCount {
        /// How many.
        found: usize,
    },
    /// HEALTHCHECK with another word than CMD or NONE.
    #[error("unknown type {found:?} in HEALTHCHECK (try CMD)")]
    BadHealthcheck {
        /// The word.
        found: String,
        /// The word.
        span: Span,
    },
    /// A flag whose duration Go's `time.ParseDuration` refuses.
    #[error("bad duration for flag --{flag}: {reason}")]
    BadDuration {
        /// Its name without dashes.
        flag: String,
        /// Go's message.
        reason: String,
        /// The value.
        span: Span,
    },
    /// `--retries` that is no number.
    #[error("--retries has to be a whole number from 0 to 2147483647, not {found:?}")]
    BadRetries {
        /// The value.
        found: String,
        /// The value.
        span: Span,
    },
    /// A `--mount` that is no comma-separated list, or takes its source from a variable.
    #[error("bad --mount: {reason}")]
    BadMount {
        /// What is wrong with it.
        reason: String,
        /// The value.
        span: Span,
    },
    /// A pattern of an ignore file, of `--exclude` or of `--parents` that cannot be matched.
    #[error("{}: {pattern:?}", if *.line == 0 { "bad pattern".to_owned() } else { format!("bad pattern in line {line}") })]
    BadPattern {
        /// The line of the ignore file, from 1; 0 for a pattern that comes from elsewhere.
        line: usize,
        /// The pattern.
        pattern: String,
    },
    /// An ignore file's line that is longer than BuildKit reads.
    #[error("line {line} of the ignore file is longer than 65535 bytes")]
    IgnoreLineTooLong {
        /// The line, from 1.
        line: usize,
    },
}

impl Error {
    /// The text that is wrong, for errors that have a place in a Dockerfile.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Empty
            | Self::NoInstructions
            | Self::NoStages
            | Self::TriggerCount { .. }
            | Self::BadPattern { .. }
            | Self::IgnoreLineTooLong { .. } => None,
            Self::LineTooLong { span, .. }
            | Self::BadEscapeDirective { span, .. }
            | Self::DuplicateDirective { span, .. }
            | Self::UnterminatedHeredoc { span, .. }
            | Self::BadHeredoc { span, .. }
            | Self::UnknownInstruction { span, .. }
            | Self::BeforeFrom { span, .. }
            | Self::UnknownFlag { span, .. }
            | Self::DuplicateFlag { span, .. }
            | Self::FlagWithoutValue { span, .. }
            | Self::BadFlagValue { span, .. }
            | Self::ArgumentCount { span, .. }
            | Self::JsonNotStrings { span }
            | Self::NotNameValue { span, .. }
            | Self::BlankName { span, .. }
            | Self::EmptyVolume { span }
            | Self::HeredocDestination { span, .. }
            | Self::BadStageName { span, .. }
            | Self::ChainedOnBuild { span }
            | Self::BadTrigger { span, .. }
            | Self::BadHealthcheck { span, .. }
            | Self::BadDuration { span, .. }
            | Self::BadRetries { span, .. }
            | Self::BadMount { span, .. } => Some(*span),
        }
    }

    /// What to write instead, where that can be guessed.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::UnknownInstruction { suggestion: Some(name), .. } => Some(format!("did you mean {name}?")),
            Self::UnknownFlag { suggestion: Some(name), .. } => Some(format!("did you mean --{name}?")),
            Self::UnknownFlag { suggestion: None, instruction: "CMD" | "ENTRYPOINT", .. } => Some(
                r#"write the command as a JSON array, ["--flag"], if it shall begin with dashes"#.to_owned(),
            ),
            Self::NotNameValue { word, .. } if word.starts_with('#') => {
                Some("a comment needs a line of its own".to_owned())
            }
            Self::NotNameValue { .. } => {
                Some("quote a value that holds blanks: name=\"some words\"".to_owned())
            }
            Self::BeforeFrom { .. } => Some("begin with FROM; only ARG may stand before it".to_owned()),
            Self::UnterminatedHeredoc { name, .. } => {
                Some(format!("end it with a line that holds {name} and nothing else, not even blanks"))
            }
            _ => None,
        }
    }
}
