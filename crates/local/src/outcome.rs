//! How a program ended, and what of the job that means.

use std::{collections::VecDeque, process::ExitStatus};

use ocib_image::{RunError, RunErrorKind, RunJob};

/// How many of the last lines an error shows.
const LOG_LINES: usize = 20;

/// The end of what a program says.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    /// The last line of the job's Dockerfile that it began with, if it counts them.
    pub(crate) step: Option<usize>,
}

impl Tail {
    pub(crate) fn push(&mut self, line: String) {
        self.step = step(&line).or(self.step);
        if self.lines.len() == LOG_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) step: Option<usize>,
    pub(crate) log: Vec<String>,
}

impl Ended {
    pub(crate) fn is_done(&self) -> bool {
        self.status.success()
    }
}

/// The instruction that `STEP 3/7: RUN …` (buildah, podman) or `Dockerfile:3` (docker, in its last words)
/// tells of. Each of a job's instructions is one line, the first of them FROM.
fn step(line: &str) -> Option<usize> {
    let number = match line.strip_prefix("STEP ") {
        Some(rest) => rest.split_once('/')?.0,
        None => line.strip_prefix("Dockerfile:")?,
    };
    number.trim().parse().ok()
}

/// `#12 [2/3] RUN …` and `exit code: 3` of docker, `exit status 3` of buildah and podman.
fn exit_code(log: &[String]) -> Option<i32> {
    let of_line = |line: &String| {
        let (_, rest) = line.rsplit_once("exit status ").or_else(|| line.rsplit_once("exit code: "))?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    log.iter().rev().find_map(of_line)
}

/// What became of a build.
pub(crate) fn of_build(job: &RunJob, ended: Ended) -> Result<(), RunError> {
    if ended.is_done() {
        return Ok(());
    }
    let line = ended.step;
    let instruction = line.and_then(|line| job.dockerfile.lines().nth(line.checked_sub(1)?));
    let is = |word: &str| instruction.is_some_and(|line| line.starts_with(word));
    let cannot_run = ended.log.iter().any(|line| line.to_lowercase().contains("exec format error"));
    let error = match exit_code(&ended.log) {
        _ if cannot_run && is("RUN ") => RunError::new(
            RunErrorKind::Backend,
            "run-exec-format",
            format!("this host cannot run programs for {}", job.platform),
            "register an emulator (Debian: qemu-user-static with binfmt-support), or build on a host of that platform",
        ),
        Some(code) if is("RUN ") => RunError::new(
            RunErrorKind::Command,
            "run-command-failed",
            format!("the command ended with exit code {code}"),
            "see what it said above",
        ),
        _ if is("FROM ") || is("COPY ") => RunError::new(
            RunErrorKind::Registry,
            "run-input-missing",
            "the backend could not get an image that the part begins with or copies from",
            "see what it said above; it reads registries with its own configuration and the named file of credentials",
        ),
        _ => RunError::new(
            RunErrorKind::Backend,
            "run-build-failed",
            format!("the backend failed, with {}", ended.status),
            "see what it said above",
        ),
    };
    Err(error.at_line(line).with_log(ended.log))
}

/// What became of a push.
pub(crate) fn of_push(job: &RunJob, ended: Ended) -> Result<Ended, RunError> {
    if ended.is_done() {
        return Ok(ended);
    }
    Err(RunError::new(
        RunErrorKind::Registry,
        "run-push-failed",
        format!("the backend could not push the result to {}", job.destination),
        "see what it said above; it needs the right to push there, with its own credentials or those of a named file",
    )
    .with_log(ended.log))
}

/// The digest in docker's `1: digest: sha256:… size: 528`.
pub(crate) fn pushed_digest(log: &[String]) -> Option<String> {
    let of_line = |line: &String| Some(line.split_once("digest: ")?.1.split_once(' ')?.0.to_owned());
    log.iter().rev().find_map(of_line)
}
