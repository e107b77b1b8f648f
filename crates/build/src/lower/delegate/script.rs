//! The heredoc that is a script of its own, with a `#!` line: BuildKit runs it as a file, `/dev/pipes/EOF`, which
//! is there for that command alone. Not every backend can have such a file; but interpreters that take a script
//! as an argument do the same with it.

use crate::plan::Script;

/// What takes its script behind this option, and then the name that the script shall see as its own, if it can.
const INTERPRETERS: [(&str, &str, bool); 9] = [
    ("sh", "-c", true),
    ("bash", "-c", true),
    ("dash", "-c", true),
    ("ash", "-c", true),
    ("ksh", "-c", true),
    ("zsh", "-c", true),
    ("python", "-c", false),
    ("python3", "-c", false),
    ("perl", "-e", false),
];

/// The command that does what running `script` as a file does; `None` if its interpreter is not known.
pub(super) fn command(script: &Script) -> Option<Vec<String>> {
    let first = script.content.lines().next()?.strip_prefix("#!")?.trim();
    // The kernel hands all that follows the interpreter on as one argument.
    let (program, argument) = match first.split_once(char::is_whitespace) {
        Some((program, argument)) => (program, Some(argument.trim())),
        None => (first, None),
    };
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let interpreter = match (&*base(program), argument) {
        ("env", Some(name)) if !name.starts_with('-') && !name.contains(char::is_whitespace) => base(name),
        (name, _) => name.to_owned(),
    };
    let (_, option, takes_name) = INTERPRETERS.iter().find(|(name, ..)| *name == interpreter)?;
    let mut words = vec![program.to_owned()];
    words.extend(argument.map(str::to_owned));
    words.extend([(*option).to_owned(), script.content.clone()]);
    words.extend(takes_name.then(|| script.path.clone()));
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_become_arguments() {
        let of = |content: &str| {
            command(&Script { path: "/dev/pipes/EOF".to_owned(), content: content.to_owned() })
        };
        for (content, expected) in [
            ("#!/bin/sh\ntrue", &["/bin/sh", "-c", "#!/bin/sh\ntrue", "/dev/pipes/EOF"][..]),
            ("#! /bin/bash -e\nx", &["/bin/bash", "-e", "-c", "#! /bin/bash -e\nx", "/dev/pipes/EOF"]),
            ("#!/usr/bin/env python3\n1", &["/usr/bin/env", "python3", "-c", "#!/usr/bin/env python3\n1"]),
        ] {
            assert_eq!(of(content).unwrap(), expected);
        }
        for content in ["#!/usr/bin/node\n1", "#!/usr/bin/env -S sh -e\n", "#!\n", "true"] {
            assert_eq!(of(content), None, "{content}");
        }
    }
}
