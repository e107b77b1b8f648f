//! Running programs that must be there and must succeed.

use std::{
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// Where `program` is. Panics with the Debian package to install if it is nowhere.
pub fn require(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some of these for root only, out of a user's PATH.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is missing: apt-get install {package} (tests/run.sh does it)"))
}

/// Runs a program to its end and returns what it wrote to stdout. Panics with its stderr if it fails.
pub fn run(program: &str, package: &str, arguments: &[&str]) -> String {
    run_command(Command::new(require(program, package)).args(arguments))
}

/// Runs a prepared command to its end and returns what it wrote to stdout. Panics with its stderr
/// if it cannot start or fails.
pub fn run_command(command: &mut Command) -> String {
    let output = output_of(command);
    stdout_of(command, &output)
}

/// Runs a prepared command to its end, however that is.
pub(crate) fn output_of(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("cannot run {}: {error}", shown(command)))
}

/// What a command wrote to stdout. Panics with its stderr if it failed.
pub(crate) fn stdout_of(command: &Command, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\nended with {}\nstdout: {}\nstderr: {}",
        shown(command),
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_stdout() {
        assert_eq!(run("sh", "dash", &["-c", "echo a; echo b >&2"]), "a\n");
    }

    #[test]
    #[should_panic(
        expected = "sh -c echo why >&2; exit 3\nended with exit status: 3\nstdout: \nstderr: why\n"
    )]
    fn a_failure_tells_all() {
        run_command(Command::new("sh").args(["-c", "echo why >&2; exit 3"]));
    }

    #[test]
    #[should_panic(
        expected = "no-such-program is missing: apt-get install some-package (tests/run.sh does it)"
    )]
    fn a_missing_program_names_its_package() {
        require("no-such-program", "some-package");
    }
}
