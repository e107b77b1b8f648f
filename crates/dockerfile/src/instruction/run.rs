//! RUN. Nothing of it is done here, but enough understood to hand it on whole or to refuse it.

use super::{CommandLine, Keyword, Statement, json_or_shell};
use crate::{
    Error, Heredoc, Spanned,
    flags::{Flags, KnownFlags},
    heredoc,
};

/// A command to run in the image being built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command; in shell form the line as written, with its `<<` words.
    pub command: CommandLine,
    /// `--mount`s in order.
    pub mounts: Vec<Mount>,
    /// `--network`: `default`, `none` or `host`.
    pub network: Option<Spanned<String>>,
    /// `--security`: `sandbox` or `insecure`.
    pub security: Option<Spanned<String>>,
    /// `--device`s in order.
    pub devices: Vec<Spanned<String>>,
    /// The heredocs, in order, with the tabs of `<<-` still in them. Only in shell form.
    pub heredocs: Vec<Heredoc>,
}

impl Run {
    /// The heredoc that is the whole command, `RUN <<EOF`: its content is the script, run by the
    /// shell or by what its `#!` line names. Otherwise heredocs are the shell's to understand
    /// (BuildKit, `dispatchRun`).
    pub fn script(&self) -> Option<&Heredoc> {
        let CommandLine::Shell(text) = &self.command else { return None };
        matches!(heredoc::parse_word(text), Ok(Some(_))).then(|| self.heredocs.first()).flatten()
    }
}

/// A `--mount` of RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The value as written, unexpanded.
    pub text: Spanned<String>,
    /// Its comma-separated options, in order.
    pub options: Vec<MountOption>,
}

impl Mount {
    /// The value of the last option called `name`; empty for one without `=`.
    pub fn option(&self, name: &str) -> Option<&str> {
        let option = self.options.iter().rfind(|option| option.name == name)?;
        Some(option.value.as_deref().unwrap_or_default())
    }
}

/// An option of a [`Mount`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOption {
    /// In lower case.
    pub name: String,
    /// What stands behind the `=`; expands, but for `from`.
    pub value: Option<String>,
}

pub(super) const FLAGS: KnownFlags =
    KnownFlags { text: &["network", "security"], repeatable: &["mount", "device"], boolean: &[] };

pub(super) fn parse(statement: &Statement<'_>, heredocs: Vec<Heredoc>) -> Result<Run, Error> {
    let mut flags = Flags::parse(&statement.flags, Keyword::Run)?;
    let network = one_of(&mut flags, "network", &["default", "none", "host"], "default, none or host")?;
    let security = one_of(&mut flags, "security", &["sandbox", "insecure"], "sandbox or insecure")?;
    Ok(Run {
        command: json_or_shell(statement.args)?,
        mounts: flags.texts("mount").into_iter().map(mount).collect::<Result<_, _>>()?,
        network,
        security,
        devices: flags.texts("device"),
        heredocs,
    })
}

fn one_of(
    flags: &mut Flags,
    flag: &'static str,
    allowed: &[&str],
    wanted: &'static str,
) -> Result<Option<Spanned<String>>, Error> {
    let Some(value) = flags.texts(flag).pop() else { return Ok(None) };
    if allowed.contains(&value.value.as_str()) {
        return Ok(Some(value));
    }
    Err(Error::BadFlagValue { flag: flag.to_owned(), found: value.value, wanted, span: value.span })
}

fn mount(text: Spanned<String>) -> Result<Mount, Error> {
    let bad = |reason: &str| Error::BadMount { reason: reason.to_owned(), span: text.span };
    let option = |field: String| match field.split_once('=') {
        Some((name, value)) => MountOption { name: name.to_lowercase(), value: Some(value.to_owned()) },
        None => MountOption { name: field.to_lowercase(), value: None },
    };
    let options: Vec<_> = fields(&text.value).map_err(bad)?.into_iter().map(option).collect();
    let variable = |value: &str| value.find('$').is_some_and(|dollar| dollar + 1 < value.len());
    if options.iter().any(|o| o.name == "from" && o.value.as_deref().is_some_and(variable)) {
        return Err(bad("'from' doesn't support variable expansion, define alias stage instead"));
    }
    Ok(Mount { text, options })
}

/// The fields of one line of comma-separated values, as Go's `encoding/csv` reads it.
pub(super) fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    if line.is_empty() {
        return Err("it is empty");
    }
    let mut fields = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest {
        let (field, after) = match text.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => match text.split_once(',') {
                Some((field, after)) => (field.to_owned(), Some(after)),
                None => (text.to_owned(), None),
            },
        };
        if !text.starts_with('"') && field.contains('"') {
            return Err("bare \" in non-quoted field");
        }
        fields.push(field);
        rest = after;
    }
    Ok(fields)
}

fn quoted_field(mut text: &str) -> Result<(String, Option<&str>), &'static str> {
    let mut field = String::new();
    while let Some((before, after)) = text.split_once('"') {
        field.push_str(before);
        if let Some(after) = after.strip_prefix('"') {
            field.push('"');
            text = after;
        } else if after.is_empty() {
            return Ok((field, None));
        } else {
            let after = after.strip_prefix(',').ok_or("extraneous or missing \" in quoted-field")?;
            return Ok((field, Some(after)));
        }
    }
    Err("extraneous or missing \" in quoted-field")
}
