//! How a program ended, and what of the job that means.

use std::{collections::VecDeque, process::ExitStatus};

use ocib_image::{RunError, RunJob};

use crate::cause::{
    BUILD_FAILED, COMMAND_FAILED, COMMAND_KILLED, Cause, DISK_FULL, EXEC_FORMAT, INPUT_MISSING, ISOLATION,
    NO_COMMAND, PLAIN_HTTP, PUSH_FAILED, SEAL_BUSY, USER_NAMESPACE,
};

/// How many of the last lines an error shows.
const LOG_LINES: usize = 20;
/// How many of the last lines may be a program's own.
const OWN_LINES: usize = 6;

/// The end of what a program says.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    /// The last instruction of the job's Dockerfile that it named.
    pub(crate) step: Option<Step>,
}

impl Tail {
    pub(crate) fn push(&mut self, line: String) {
        self.step = match (Step::of(&line), self.step) {
            // A line says more.
            (Some(Step::Vertex(_)), Some(Step::Line(known))) => Some(Step::Line(known)),
            (found, known) => found.or(known),
        };
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
    pub(crate) step: Option<Step>,
    pub(crate) log: Vec<String>,
}

impl Ended {
    pub(crate) fn is_done(&self) -> bool {
        self.status.success()
    }

    /// It failed before the command that it was to begin, by what passes by itself.
    pub(crate) fn is_passing(&self) -> bool {
        !self.is_done() && could_not_seal(&self.log)
    }
}

/// Where in the job's Dockerfile a program is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// At a line; each of a job's instructions is one, the first of them FROM.
    Line(usize),
    /// At the instruction of this number among those that docker carries out, FROM being the first.
    Vertex(usize),
}

impl Step {
    /// What `STEP 3/7: RUN …` (buildah, podman), `Dockerfile:3` or ` > [stage-0 2/4] RUN …` (docker, in its last
    /// words) or its parser tell of.
    fn of(line: &str) -> Option<Self> {
        if let Some(rest) = line.strip_prefix(" > [") {
            let counted = rest.split_once(']')?.0.rsplit(' ').next()?;
            return counted.split_once('/')?.0.parse().ok().map(Self::Vertex);
        }
        let number = if let Some(rest) = line.strip_prefix("STEP ") {
            rest.split_once('/')?.0
        } else if let Some(rest) = line.strip_prefix("Dockerfile:") {
            rest
        } else {
            line.split_once("dockerfile parse error line ")?.1.split_once(':')?.0
        };
        number.trim().parse().ok().map(Self::Line)
    }

    /// The line of `dockerfile`, counted from 1.
    fn line(self, dockerfile: &str) -> Option<usize> {
        let is_vertex = |line: &str| {
            ["FROM ", "RUN ", "COPY ", "ADD ", "WORKDIR "].iter().any(|word| line.starts_with(word))
        };
        match self {
            Self::Line(line) => Some(line),
            Self::Vertex(number) => {
                let mut vertices = dockerfile.lines().enumerate().filter(|(_, line)| is_vertex(line));
                vertices.nth(number.checked_sub(1)?).map(|(line, _)| line + 1)
            }
        }
    }
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

/// The signal in `subprocess exited on killed` of buildah and podman, or what a shell makes of one.
fn is_killed(log: &[String], code: Option<i32>) -> bool {
    code.is_some_and(|code| code > 128) || last(log).any(|line| line.starts_with("subprocess exited on "))
}

/// The lines in which a program tells of its own end, the last one first. All before may be a command's.
fn last(log: &[String]) -> impl Iterator<Item = &String> {
    log.iter().rev().take(OWN_LINES)
}

/// The cause that the last words speak of, if it is one of `those`.
fn said(log: &[String], those: &[&'static Cause]) -> Option<&'static Cause> {
    let of_line =
        |line: &String| Cause::of_line(line).filter(|cause| those.iter().any(|one| one.id == cause.id));
    last(log).find_map(of_line)
}

/// Whether buildah or podman could not seal the copy of itself that holds a command. A command may print their words,
/// but after one they say how it ended.
fn could_not_seal(log: &[String]) -> bool {
    let says_so = |line: &String| {
        let begins = line.split_once(" sealing memfd copy: ").is_some_and(|(who, _)| !who.contains(' '));
        begins && Cause::of_line(line).is_some_and(|cause| cause.id == SEAL_BUSY.id)
    };
    last(log).any(says_so) && !log.iter().any(|line| line.starts_with("subprocess exited "))
}

/// What became of a build.
pub(crate) fn of_build(job: &RunJob, ended: Ended) -> Result<(), RunError> {
    if ended.is_done() {
        return Ok(());
    }
    let line = ended.step.and_then(|step| step.line(&job.dockerfile));
    let instruction = line.and_then(|line| job.dockerfile.lines().nth(line.checked_sub(1)?));
    let is = |word: &str| instruction.is_some_and(|line| line.starts_with(word));
    let code = exit_code(&ended.log);
    let error = if is("RUN ") && code.is_some() {
        of_command(job, &ended.log, code)
    } else if let Some(cause) = last(&ended.log).find_map(|line| Cause::of_line(line)) {
        cause.error(cause.title)
    } else if is("FROM ") || is("COPY ") {
        INPUT_MISSING.error(INPUT_MISSING.title)
    } else {
        BUILD_FAILED.error(format!("the backend failed, with {}", ended.status))
    };
    Err(error.at_line(line).with_log(ended.log))
}

/// Why a command did not end well, or was not even started.
fn of_command(job: &RunJob, log: &[String], code: Option<i32>) -> RunError {
    if could_not_seal(log) {
        return SEAL_BUSY.error(SEAL_BUSY.title);
    }
    match said(log, &[&NO_COMMAND, &EXEC_FORMAT, &USER_NAMESPACE, &ISOLATION]) {
        Some(cause) if cause.id == EXEC_FORMAT.id => {
            cause.error(format!("this host cannot run programs for {}", job.platform))
        }
        Some(cause) => cause.error(cause.title),
        None if is_killed(log, code) => COMMAND_KILLED.error(COMMAND_KILLED.title),
        None => {
            let code = code.unwrap_or_default();
            COMMAND_FAILED.error(format!("the command ended with exit code {code}"))
        }
    }
}

/// What became of a push.
pub(crate) fn of_push(job: &RunJob, ended: Ended) -> Result<Ended, RunError> {
    if ended.is_done() {
        return Ok(ended);
    }
    let cause = said(&ended.log, &[&DISK_FULL, &PLAIN_HTTP]).unwrap_or(&PUSH_FAILED);
    Err(cause.error(format!("{} ({})", cause.title, job.destination)).with_log(ended.log))
}

/// The digest in docker's `1: digest: sha256:… size: 528`.
pub(crate) fn pushed_digest(log: &[String]) -> Option<String> {
    let of_line = |line: &String| Some(line.split_once("digest: ")?.1.split_once(' ')?.0.to_owned());
    log.iter().rev().find_map(of_line)
}
