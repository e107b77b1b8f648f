//! Commands that are known to the last detail: they make, remove and label files, and every argument is
//! literal.
//!
//! Only what every shell reads the same way is read, and only options that GNU's and busybox's commands
//! share. What is not certain has no reading; that is no error, a shell knows what it means.

mod command;
mod words;

use std::collections::BTreeMap;

pub use command::{Command, Group, NewMode, Owner};

/// A command and how it is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Called {
    /// The program that has to be there; `None` for what the shell does itself.
    pub program: Option<String>,
    /// The whole command in one line, for people.
    pub text: String,
    /// What it does.
    pub command: Command,
}

/// The commands of a script, at least one, if all are known: joined by `&&`, `;` or new lines. `variables` are all
/// that its shell starts with.
pub fn script(text: &str, variables: &BTreeMap<String, String>) -> Option<Vec<Called>> {
    let lines = words::read(text, variables)?;
    let commands: Vec<Called> = lines.iter().map(|words| Called::read(words, true)).collect::<Option<_>>()?;
    (!commands.is_empty()).then_some(commands)
}

/// A program with its arguments, started without a shell.
pub fn program(words: &[String]) -> Option<Called> {
    Called::read(words, false)
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

#[cfg(test)]
mod tests;
