//! The commands that are known, and of their options those that GNU coreutils and busybox share.

use std::fmt;

/// What a command does. Paths are as they were written, never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `true`, `:` and the like.
    Nothing,
    /// `mkdir`.
    MakeDirectories {
        /// What is meant, at least one.
        paths: Vec<String>,
        /// `-p`.
        parents: bool,
        /// `-m`: 12 bits.
        mode: Option<u32>,
    },
    /// `chmod`.
    ChangeMode {
        /// What becomes of the mode.
        mode: NewMode,
        /// What is meant, at least one.
        paths: Vec<String>,
        /// `-R`.
        recursive: bool,
    },
    /// `chown` and `chgrp`.
    ChangeOwner {
        /// The new owner, group or both.
        owner: Owner,
        /// What is meant, at least one.
        paths: Vec<String>,
        /// `-R`.
        recursive: bool,
    },
    /// `ln -s`.
    Link {
        /// What the link says.
        target: String,
        /// Where it is made, or in which directory.
        link: String,
        /// `-f`.
        force: bool,
        /// `-n`.
        no_dereference: bool,
    },
    /// `touch`.
    Touch {
        /// What is meant, at least one.
        paths: Vec<String>,
    },
    /// `rm`.
    Remove {
        /// What is meant; none is fine with `-f`.
        paths: Vec<String>,
        /// `-f`.
        force: bool,
        /// `-r`.
        recursive: bool,
    },
}

/// What `chmod` is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NewMode {
    /// 12 bits.
    Octal(u32),
    /// As POSIX has them: `u+x,go=rX`.
    Clauses(String),
}

impl fmt::Display for NewMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octal(mode) => write!(f, "{mode:o}"),
            Self::Clauses(text) => f.write_str(text),
        }
    }
}

/// Whom files are given to: names or numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The new owner.
    pub user: Option<String>,
    /// The new group.
    pub group: Option<Group>,
}

/// A group of an [`Owner`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Group {
    /// The primary one of the user.
    Primary,
    /// By name or number.
    Called(String),
}

/// A command that the shell carries out itself, and that makes nothing.
pub(super) fn builtin(name: &str, arguments: &[String]) -> Option<Command> {
    let is_flags = |word: &String| {
        word.strip_prefix('-')
            .is_some_and(|flags| !flags.is_empty() && flags.chars().all(|c| "eux".contains(c)))
    };
    match name {
        "true" | ":" => Some(Command::Nothing),
        "set" if !arguments.is_empty() && arguments.iter().all(is_flags) => Some(Command::Nothing),
        _ => None,
    }
}

/// A program by its name with its arguments.
pub(super) fn read(name: &str, arguments: &[String]) -> Option<Command> {
    let command = match name {
        "true" => Command::Nothing,
        "mkdir" => {
            let Options { flags, value, operands } = options(arguments, "p", Some('m'))?;
            let mode = value.map(|value| octal(&value)).map_or(Some(None), |mode| mode.map(Some))?;
            Command::MakeDirectories { paths: some(operands)?, parents: flags.contains('p'), mode }
        }
        "chmod" => {
            let Options { flags, operands, .. } = options(arguments, "R", None)?;
            let (mode, paths) = operands.split_first()?;
            Command::ChangeMode { mode: new_mode(mode)?, paths: some(paths)?, recursive: flags.contains('R') }
        }
        "chown" | "chgrp" => {
            let Options { flags, operands, .. } = options(arguments, "R", None)?;
            let (owner, paths) = operands.split_first()?;
            let owner = if name == "chown" { owner_of(owner)? } else { group_alone(owner)? };
            Command::ChangeOwner { owner, paths: some(paths)?, recursive: flags.contains('R') }
        }
        "ln" => {
            let Options { flags, operands, .. } = options(arguments, "sfn", None)?;
            let [target, link] = operands else { return None };
            flags.contains('s').then(|| Command::Link {
                target: target.clone(),
                link: link.clone(),
                force: flags.contains('f'),
                no_dereference: flags.contains('n'),
            })?
        }
        "touch" => Command::Touch { paths: some(options(arguments, "", None)?.operands)? },
        "rm" => {
            let Options { flags, operands, .. } = options(arguments, "rRf", None)?;
            let (force, recursive) = (flags.contains('f'), flags.contains(['r', 'R']));
            let paths = if force { operands.to_vec() } else { some(operands)? };
            Command::Remove { paths, force, recursive }
        }
        _ => return None,
    };
    Some(command)
}

/// At least one.
fn some(operands: &[String]) -> Option<Vec<String>> {
    (!operands.is_empty()).then(|| operands.to_vec())
}

struct Options<'a> {
    flags: String,
    /// Of the one that takes a value.
    value: Option<String>,
    operands: &'a [String],
}

/// Splits options from operands. Long ones are not known, and none may follow an operand: there GNU's
/// and musl's `getopt` differ.
fn options<'a>(mut arguments: &'a [String], known: &str, with_value: Option<char>) -> Option<Options<'a>> {
    let (mut flags, mut value) = (String::new(), None);
    while let Some((first, rest)) = arguments.split_first() {
        let Some(letters) = first.strip_prefix('-') else { break };
        arguments = rest;
        if letters == "-" {
            break;
        }
        if letters.is_empty() {
            return None;
        }
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            if Some(letter) == with_value {
                let attached: String = letters.by_ref().collect();
                value = Some(match attached.is_empty() {
                    false => attached,
                    true => {
                        let (next, rest) = arguments.split_first()?;
                        arguments = rest;
                        next.clone()
                    }
                });
            } else if known.contains(letter) {
                flags.push(letter);
            } else {
                return None;
            }
        }
    }
    let is_path = |word: &String| !word.is_empty() && !word.starts_with('-');
    arguments.iter().all(is_path).then_some(Options { flags, value, operands: arguments })
}

fn octal(text: &str) -> Option<u32> {
    // A fifth digit says more than a number to GNU's commands.
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

/// Octal, or clauses such as `u+rwX` and `g=u`: one operator each, whoever is meant named. Without a
/// name the umask has a say, which leaves reading and executing alone.
fn new_mode(text: &str) -> Option<NewMode> {
    let is_known_clause = |clause: &str| {
        let Some(at) = clause.find(['+', '-', '=']) else { return false };
        let (who, operator, permissions) = (&clause[..at], &clause[at..=at], &clause[at + 1..]);
        let all = |text: &str, known: &str| text.chars().all(|c| known.contains(c));
        match (who, permissions) {
            ("", _) => operator == "+" && !permissions.is_empty() && all(permissions, "rxX"),
            (_, "") => operator == "=" && all(who, "ugoa"),
            (_, "u" | "g" | "o") => operator != "-" && all(who, "ugoa"),
            _ => all(permissions, "rwxX") && all(who, "ugoa") || all(permissions, "rwxs") && all(who, "ug"),
        }
    };
    let is_known = || matches!(text, "+t" | "a+t") || text.split(',').all(is_known_clause);
    octal(text).map(NewMode::Octal).or_else(|| is_known().then(|| NewMode::Clauses(text.to_owned())))
}

fn owner_of(text: &str) -> Option<Owner> {
    let (user, group) = match text.split_once(':') {
        None => (text, None),
        Some((user, "")) => (user, Some(Group::Primary)),
        Some((user, group)) => (user, Some(Group::Called(named(group)?))),
    };
    let user = match user {
        "" => None,
        user => Some(named(user)?),
    };
    let says_nothing = user.is_none() && !matches!(group, Some(Group::Called(_)));
    (!says_nothing).then_some(Owner { user, group })
}

fn group_alone(text: &str) -> Option<Owner> {
    Some(Owner { user: None, group: Some(Group::Called(named(text)?)) })
}

/// A name or number; dots once stood for colons.
fn named(text: &str) -> Option<String> {
    let is_known = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    (is_known && !text.is_empty()).then(|| text.to_owned())
}
