//! RUNs that need no container: a few commands that make, remove and label files, each with nothing
//! but literal arguments.
//!
//! This is the part that knows no file: whether a RUN *may* be one of them. What is not certain here is not
//! simple, and a container carries it out.

use ocib_dockerfile::simple::{self, Called, NewMode};

use super::{RunPlan, Start};
use crate::files::Mode;

/// The only shell that is understood.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Who may do everything, as USER can say it.
pub(crate) const SUPERUSER: [&str; 6] = ["", "0", "root", "0:0", "root:root", "root:0"];
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
    /// The superuser, as USER says it.
    pub(crate) user: String,
    /// Where programs are looked for.
    pub(crate) search: String,
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
        let commands = match shell_text {
            Some(text) => simple::script(text, &start.variables)?,
            None => vec![simple::program(command)?],
        };
        let working_dir = if start.working_dir.is_empty() { "/" } else { &start.working_dir };
        Some(Self {
            title: title.to_owned(),
            has_shell: shell_text.is_some(),
            commands,
            working_dir: working_dir.to_owned(),
            user: start.user.clone(),
            search: start.variables.get("PATH").cloned().unwrap_or_default(),
        })
    }
}

/// The mode of what had `mode`, if every `chmod` agrees on it.
pub(crate) fn mode_after(new: &NewMode, mode: u32, is_directory: bool) -> Option<u32> {
    let text = match new {
        // GNU keeps what busybox clears.
        NewMode::Octal(octal) => return (!is_directory || mode & 0o6000 & !octal == 0).then_some(*octal),
        NewMode::Clauses(text) => text,
    };
    if text.contains('=') && mode & 0o7000 != 0 {
        return None;
    }
    // `X` asks what is executable: after the clauses before it (GNU), or before all (busybox).
    let executes = if is_directory || mode & 0o111 != 0 { "x" } else { "" };
    let apply = |text: &str| Mode::parse(text).map(|parsed| parsed.apply(mode, is_directory));
    apply(text).filter(|&after| apply(&text.replace('X', executes)) == Some(after))
}

#[cfg(test)]
mod tests;
