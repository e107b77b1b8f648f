//! HEALTHCHECK.

use std::time::Duration;

use super::{CommandLine, Keyword, Statement, json_or_shell};
use crate::{
    Error, Spanned, duration,
    flags::{Flags, KnownFlags},
    line::Slice,
};

/// How a container's health is found out.
///
/// Durations are `None` where no flag gives them or gives zero: the runtime's default applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// NONE: not at all, even if the base image says so.
    None,
    /// By a command.
    Check {
        /// As the config stores it: `CMD` and words, or `CMD-SHELL` and a text.
        test: Vec<String>,
        /// `--interval`.
        interval: Option<Duration>,
        /// `--timeout`.
        timeout: Option<Duration>,
        /// `--start-period`.
        start_period: Option<Duration>,
        /// `--start-interval`.
        start_interval: Option<Duration>,
        /// `--retries`, at least 1.
        retries: Option<u32>,
    },
}

/// `container.MinimumDuration` of the Docker API.
const SHORTEST_NANOSECONDS: i64 = 1_000_000;

pub(super) const FLAGS: KnownFlags = KnownFlags {
    text: &["interval", "timeout", "start-period", "start-interval", "retries"],
    repeatable: &[],
    boolean: &[],
};

pub(super) fn parse(statement: &Statement<'_>) -> Result<Healthcheck, Error> {
    let (kind, rest) = split(statement.args);
    if kind.is_empty() {
        return Err(statement.count("HEALTHCHECK", "at least one argument"));
    }
    let command = command(statement)?;
    if kind.text().eq_ignore_ascii_case("NONE") {
        return match command {
            CommandLine::Shell(text) if text.is_empty() => Ok(Healthcheck::None),
            CommandLine::Exec(words) if words.is_empty() => Ok(Healthcheck::None),
            _ => Err(Error::ArgumentCount {
                instruction: "HEALTHCHECK NONE",
                wanted: "no arguments",
                span: rest.span(),
            }),
        };
    }
    let mut flags = Flags::parse(&statement.flags, Keyword::Healthcheck)?;
    if !kind.text().eq_ignore_ascii_case("CMD") {
        return Err(Error::BadHealthcheck { found: kind.text().to_owned(), span: kind.span() });
    }
    let test = match command {
        CommandLine::Shell(text) if !text.is_empty() => vec!["CMD-SHELL".to_owned(), text],
        CommandLine::Exec(words) if !words.is_empty() => [vec!["CMD".to_owned()], words].concat(),
        _ => {
            let wanted = "a command";
            return Err(Error::ArgumentCount { instruction: "HEALTHCHECK CMD", wanted, span: kind.span() });
        }
    };
    Ok(Healthcheck::Check {
        test,
        interval: interval(&mut flags, "interval")?,
        timeout: interval(&mut flags, "timeout")?,
        start_period: interval(&mut flags, "start-period")?,
        start_interval: interval(&mut flags, "start-interval")?,
        retries: flags.text("retries").map(retries).transpose()?.filter(|&retries| retries > 0),
    })
}

/// What stands behind the first argument.
pub(super) fn command(statement: &Statement<'_>) -> Result<CommandLine, Error> {
    json_or_shell(split(statement.args).1)
}

fn split(args: Slice<'_>) -> (Slice<'_>, Slice<'_>) {
    let text = args.text();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (args.part(0, end), args.part(end, text.len()).trim())
}

fn interval(flags: &mut Flags, flag: &'static str) -> Result<Option<Duration>, Error> {
    let Some(value) = flags.text(flag) else { return Ok(None) };
    let bad = |reason| Error::BadDuration { flag: flag.to_owned(), reason, span: value.span };
    let nanoseconds = duration::parse(&value.value).map_err(bad)?;
    if nanoseconds != 0 && nanoseconds < SHORTEST_NANOSECONDS {
        return Err(bad(format!("{} is less than 1ms", value.value)));
    }
    Ok(duration::non_zero(nanoseconds))
}

/// Go's `strconv.ParseInt(…, 10, 32)`, without the negative half.
fn retries(value: Spanned<String>) -> Result<u32, Error> {
    let parsed: Option<i32> = value.value.parse().ok();
    match parsed.and_then(|number| u32::try_from(number).ok()) {
        Some(number) => Ok(number),
        None => Err(Error::BadRetries { found: value.value, span: value.span }),
    }
}
