//! What was *written*: the text of a Dockerfile as values, and the rules that give them meaning.
//!
//! ```text
//!  text ──parse──▶ Dockerfile { global_args, stages { from, instructions } }   every word with its span
//!                        │ word by word, when its turn comes
//!                        ▼
//!                   Expander::word(raw, variables) ──▶ what COPY, ENV, … really say
//!
//!  .dockerignore, --exclude, --parents ──▶ Patterns ──▶ is this path meant?
//! ```
//!
//! The crate is pure: text in, values out. It reads no file, environment or network, knows
//! no image and plans nothing. It follows BuildKit's Dockerfile frontend, quirks included: a
//! Dockerfile is a program that people have already debugged against that one implementation.
//!
//! Start reading at [`parse()`], then `instruction.rs` for what each instruction says, `line.rs` for
//! how lines become instructions, [`Expander`] for variables, [`Patterns`] for ignore files,
//! [`lint()`] for advice.

mod directive;
mod duration;
mod error;
mod expand;
mod flags;
pub mod glob;
mod heredoc;
mod ignore;
mod instruction;
mod json;
mod line;
mod lint;
mod parse;
pub mod simple;
mod span;
mod stage;
mod suggest;
mod words;

pub use directive::Directives;
pub use error::Error;
pub use expand::{ExpandError, ExpandReason, Expander, Expansion, Variables};
pub use heredoc::Heredoc;
pub use ignore::{Matches, Patterns};
pub use instruction::{
    ArgPair, Command, CommandLine, Healthcheck, Instruction, Mount, MountOption, Pair, Run, Transfer,
    instruction_flags,
};
pub use lint::{
    ADD_EXTENSIONS, Linter, RULES, Rule, Shown, Warning, bad_check_option, is_secret, lint, redacted,
    redacted_instruction, redacted_text, warnings_are_errors, warns_of,
};
pub use parse::{Dockerfile, parse, parse_trigger};
pub use span::{Position, Span, Spanned};
pub use stage::{From, Stage};
pub use suggest::edit_distance;
