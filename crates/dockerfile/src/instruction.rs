//! What each instruction says, its words not yet expanded.
//!
//! The split is BuildKit's: `parser/line_parsers.go` decides what the arguments are,
//! `instructions/parse.go` checks them. Both happen here in one step.

mod healthcheck;
mod keyword;
mod onbuild;
mod pairs;
mod run;
mod statement;
mod transfer;

pub use healthcheck::Healthcheck;
pub use pairs::{ArgPair, Pair};
pub use run::{Mount, MountOption, Run};
pub use transfer::Transfer;

pub use keyword::instruction_flags;

pub(crate) use keyword::Keyword;
pub(crate) use statement::Statement;

use crate::{
    Error, Heredoc, Span, Spanned,
    flags::Flags,
    json,
    line::Slice,
    stage::{self, StageStart},
    words,
};

/// One instruction of a stage, or a global ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// From its keyword to its last argument; bodies of heredocs are not in it.
    pub span: Span,
    /// The instruction in one line, with its continuations joined (BuildKit's `Node.Original`),
    /// without the bodies of heredocs.
    pub original: String,
    /// What it says.
    pub command: Command,
}

/// What an instruction says.
///
/// Words that BuildKit expands are raw: quotes, escapes and `$` are as written, and
/// [`Expander`](crate::Expander) is to be called on them. Words of JSON arrays are decoded, but
/// expanded all the same where the instruction expands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// ADD.
    Add(Transfer),
    /// COPY.
    Copy(Transfer),
    /// ARG; keys and values expand.
    Arg(Vec<ArgPair>),
    /// CMD; expands nothing.
    Cmd(CommandLine),
    /// ENTRYPOINT; expands nothing.
    Entrypoint(CommandLine),
    /// ENV; keys and values expand, with the variables as they were before the instruction.
    Env(Vec<Pair>),
    /// EXPOSE: ports as written; each expands to any number of words.
    Expose(Vec<Spanned<String>>),
    /// HEALTHCHECK; expands nothing.
    Healthcheck(Healthcheck),
    /// LABEL; keys and values expand.
    Label(Vec<Pair>),
    /// MAINTAINER; expands nothing.
    Maintainer(String),
    /// ONBUILD: the trigger as the config's `OnBuild` holds it, see [`parse_trigger`](crate::parse_trigger).
    OnBuild(String),
    /// RUN; the shell expands, not the builder.
    Run(Run),
    /// SHELL; expands nothing, never empty.
    Shell(Vec<String>),
    /// STOPSIGNAL; expands.
    StopSignal(Spanned<String>),
    /// USER; expands.
    User(Spanned<String>),
    /// VOLUME: trimmed, none empty; each expands.
    Volume(Vec<Spanned<String>>),
    /// WORKDIR; expands.
    Workdir(Spanned<String>),
}

/// The two ways to give a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// For the shell, which is put in front: the rest of the line, perhaps empty.
    Shell(String),
    /// A JSON array, started as it is: perhaps empty, which resets ENTRYPOINT or CMD.
    Exec(Vec<String>),
}

/// What a statement turns out to be.
#[derive(Debug)]
pub(crate) enum Parsed {
    Stage(StageStart),
    Instruction(Instruction),
}

/// Understands a statement; `heredocs` are those that its line announces.
pub(crate) fn parse(statement: &Statement<'_>, heredocs: Vec<Heredoc>) -> Result<Parsed, Error> {
    let keyword = statement.keyword()?;
    let command = match keyword {
        Keyword::From => return stage::start(statement).map(Parsed::Stage),
        Keyword::Add | Keyword::Copy => transfer::parse(statement, keyword, &heredocs)?,
        Keyword::Arg => Command::Arg(pairs::arg(statement)?),
        Keyword::Cmd => Command::Cmd(command_line(statement)?),
        Keyword::Entrypoint => Command::Entrypoint(command_line(statement)?),
        Keyword::Env => Command::Env(pairs::env_or_label(statement, "ENV")?),
        Keyword::Expose => Command::Expose(expose(statement)?),
        Keyword::Healthcheck => Command::Healthcheck(healthcheck::parse(statement)?),
        Keyword::Label => Command::Label(pairs::env_or_label(statement, "LABEL")?),
        Keyword::Maintainer => Command::Maintainer(one(statement, "MAINTAINER")?.value),
        Keyword::Onbuild => Command::OnBuild(onbuild::parse(statement, &heredocs)?),
        Keyword::Run => Command::Run(run::parse(statement, heredocs)?),
        Keyword::Shell => Command::Shell(shell(statement)?),
        // BuildKit does not look at the flags of STOPSIGNAL and ARG, so any are accepted.
        Keyword::Stopsignal => Command::StopSignal(rest(statement, "STOPSIGNAL")?),
        Keyword::User => Command::User(one(statement, "USER")?),
        Keyword::Volume => Command::Volume(volume(statement)?),
        Keyword::Workdir => Command::Workdir(one(statement, "WORKDIR")?),
    };
    Ok(Parsed::Instruction(Instruction {
        span: statement.span(),
        original: statement.original().to_owned(),
        command,
    }))
}

/// The whole rest of the line as one argument.
fn rest(statement: &Statement<'_>, instruction: &'static str) -> Result<Spanned<String>, Error> {
    if statement.args.is_empty() {
        return Err(statement.count(instruction, "exactly one argument"));
    }
    Ok(statement.args.spanned())
}

fn one(statement: &Statement<'_>, instruction: &'static str) -> Result<Spanned<String>, Error> {
    let argument = rest(statement, instruction)?;
    no_flags(statement)?;
    Ok(argument)
}

/// For instructions that have none.
fn no_flags(statement: &Statement<'_>) -> Result<(), Error> {
    Flags::parse(&statement.flags, statement.keyword()?).map(drop)
}

fn command_line(statement: &Statement<'_>) -> Result<CommandLine, Error> {
    no_flags(statement)?;
    json_or_shell(statement.args)
}

/// A JSON array of strings, or shell form for whatever is none.
fn json_or_shell(text: Slice<'_>) -> Result<CommandLine, Error> {
    Ok(match json::strings(text)? {
        Some(words) => CommandLine::Exec(words.into_iter().map(|word| word.value).collect()),
        None => CommandLine::Shell(text.text().to_owned()),
    })
}

/// A JSON array of strings, or words between blanks.
fn json_or_words(text: Slice<'_>) -> Result<Vec<Spanned<String>>, Error> {
    let words = || words::blank_separated(text).into_iter().map(Slice::spanned).collect();
    Ok(json::strings(text)?.unwrap_or_else(words))
}

fn expose(statement: &Statement<'_>) -> Result<Vec<Spanned<String>>, Error> {
    if statement.args.is_empty() {
        return Err(statement.count("EXPOSE", "at least one argument"));
    }
    no_flags(statement)?;
    Ok(words::blank_separated(statement.args).into_iter().map(Slice::spanned).collect())
}

fn shell(statement: &Statement<'_>) -> Result<Vec<String>, Error> {
    no_flags(statement)?;
    match json_or_shell(statement.args)? {
        CommandLine::Exec(words) if !words.is_empty() => Ok(words),
        CommandLine::Shell(text) if !text.is_empty() => {
            Err(statement.count("SHELL", "the arguments to be in JSON form"))
        }
        _ => Err(statement.count("SHELL", "at least one argument")),
    }
}

fn volume(statement: &Statement<'_>) -> Result<Vec<Spanned<String>>, Error> {
    let volumes = json_or_words(statement.args)?;
    if volumes.is_empty() {
        return Err(statement.count("VOLUME", "at least one argument"));
    }
    no_flags(statement)?;
    let trimmed = |volume: Spanned<String>| match volume.value.trim() {
        "" => Err(Error::EmptyVolume { span: volume.span }),
        path => Ok(Spanned::new(path.to_owned(), volume.span)),
    };
    volumes.into_iter().map(trimmed).collect()
}

#[cfg(test)]
mod tests;
