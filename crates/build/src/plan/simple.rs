//! RUNs that need no container: a few commands that make, remove and label files, each with nothing
//! but literal arguments.
//!
//! This is the part that knows no file: whether a RUN *may* be one of them. It takes only what every
//! shell reads the same way, and only options that GNU's and busybox's commands share. What is not
//! certain here is not simple, and a container carries it out.

mod command;
mod words;

use std::collections::BTreeMap;

pub(crate) use command::{Command, Group, Owner, mode_after};

use super::{RunPlan, Start};

/// The only shell that is understood.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Who may do everything, as USER can say it.
const SUPERUSER: [&str; 6] = ["", "0", "root", "0:0", "root:root", "root:0"];
/// Variables that change what a shell or a command does, or begin the names of such.
const MEDDLING: [&str; 9] =
    ["BASH", "ENV", "IFS", "LD_", "POSIXLY_CORRECT", "SHELLOPTS", "_POSIX2_VERSION", "GLIBC_", "ASH_"];

/// A RUN as a list of commands that ocib knows. It succeeds if all of them do, and only then is it
/// carried out here: so it does not matter whether `&&` or a new line stands between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SimpleRun {
    /// As progress shows it.
    pub(crate) title: String,
    /// Whether a shell reads it: then that has to be there.
    pub(crate) has_shell: bool,
    /// In order.
    pub(crate) commands: Vec<Called>,
    /// Where it starts; absolute.
    pub(crate) working_dir: String,
    /// Where programs are looked for.
    pub(crate) search: String,
}

/// A command and how it is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Called {
    /// The program that has to be there; `None` for what the shell does itself.
    pub(crate) program: Option<String>,
    /// The whole command in one line, for people.
    pub(crate) text: String,
    /// What it does.
    pub(crate) command: Command,
}

impl SimpleRun {
    /// Reads a RUN that is run from `start`; `None` if it is not certain to be simple. `title` is what
    /// progress shows.
    pub(super) fn read(run: &RunPlan, start: &Start, title: &str) -> Option<Self> {
        let RunPlan { command, script, mounts, network: _, security, devices, .. } = run;
        let is_plain = script.is_none()
            && mounts.is_empty()
            && devices.is_empty()
            && security.as_deref().is_none_or(|security| security == "sandbox");
        let meddles = |name: &String| MEDDLING.iter().any(|meddling| name.starts_with(meddling));
        if !is_plain
            || start.platform.os != "linux"
            || !SUPERUSER.contains(&&*start.user)
            || start.variables.keys().any(meddles)
        {
            return None;
        }
        let shell_text = match &command[..] {
            [shell, flag, text] if [&**shell, &**flag] == SHELL => Some(text),
            _ => None,
        };
        let lines = match shell_text {
            Some(text) => words::read(text, &start.variables)?,
            None => vec![command.clone()],
        };
        let has_shell = shell_text.is_some();
        let commands: Vec<Called> =
            lines.iter().map(|words| Called::read(words, has_shell)).collect::<Option<_>>()?;
        let working_dir = if start.working_dir.is_empty() { "/" } else { &start.working_dir };
        (!commands.is_empty()).then_some(Self {
            title: title.to_owned(),
            has_shell,
            commands,
            working_dir: working_dir.to_owned(),
            search: start.variables.get("PATH").cloned().unwrap_or_default(),
        })
    }
}

impl Called {
    fn read(words: &[String], in_shell: bool) -> Option<Self> {
        let (program, arguments) = words.split_first()?;
        let text = words.join(" ");
        if in_shell && let Some(command) = command::builtin(program, arguments) {
            return Some(Self { program: None, text, command });
        }
        let name = match program.rsplit_once('/') {
            Some((directory, name)) if directory.starts_with('/') => name,
            Some(_) => return None,
            None => program,
        };
        let command = command::read(name, arguments)?;
        Some(Self { program: Some(program.clone()), text, command })
    }
}

/// The variables of a RUN, by name.
type Variables = BTreeMap<String, String>;

#[cfg(test)]
mod tests;
