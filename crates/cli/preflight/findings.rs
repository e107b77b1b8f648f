//! What was found, and how it is shown. docs/preflight.md has the schema.

use ocib_image::PlaceError;
use ocib_store::{Cause, Diagnosis};
use serde_json::{Value, json};

use crate::{
    diagnostic::{Exit, Failure, exit_of_kind, exit_of_place, page, with_causes},
    terminal::printable,
};

/// What is known of one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Ok,
    Problem,
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    check: &'static str,
    subject: String,
    status: Status,
    detail: String,
    cause: Option<&'static str>,
    remedy: Option<String>,
    /// The exit code that a build would end with.
    exit: Option<Exit>,
}

/// All that was looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Problem => "problem",
            Self::Unknown => "unknown",
        }
    }
}

impl Finding {
    fn new(
        check: &'static str,
        subject: impl Into<String>,
        status: Status,
        detail: impl Into<String>,
    ) -> Self {
        let (subject, detail) = (subject.into(), detail.into());
        Self { check, subject, status, detail, cause: None, remedy: None, exit: None }
    }

    /// It is as it should be.
    pub(super) fn ok(check: &'static str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(check, subject, Status::Ok, detail)
    }

    /// It could not be found out.
    pub(super) fn unknown(
        check: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(check, subject, Status::Unknown, detail)
    }

    /// A problem of the table of causes.
    pub(super) fn problem(
        check: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
        cause: &Cause,
    ) -> Self {
        Self {
            cause: Some(cause.id),
            remedy: Some(cause.general_remedy()),
            exit: Some(exit_of_kind(cause.kind)),
            ..Self::new(check, subject, Status::Problem, detail)
        }
    }

    /// A question that a place answered with a failure.
    pub(super) fn refused(
        check: &'static str,
        subject: impl Into<String>,
        error: impl Into<PlaceError>,
    ) -> Self {
        let error = error.into();
        let diagnosis = Diagnosis::of_place(&error);
        Self {
            cause: diagnosis.as_ref().map(|found| found.cause.id),
            remedy: diagnosis.as_ref().map(Diagnosis::remedy),
            exit: Some(exit_of_place(&error)),
            ..Self::new(check, subject, Status::Problem, with_causes(&error))
        }
    }

    /// What a build would fail with.
    pub(super) fn failed(check: &'static str, subject: impl Into<String>, failure: &Failure) -> Self {
        Self {
            cause: failure.cause(),
            remedy: failure.remedy().map(str::to_owned),
            exit: Some(failure.exit()),
            ..Self::new(check, subject, Status::Problem, failure.message())
        }
    }

    /// Adds what to do.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn json(&self) -> Value {
        json!({
            "check": self.check,
            "subject": self.subject,
            "status": self.status.word(),
            "detail": self.detail,
            "cause": self.cause,
            "remedy": self.remedy,
            "docs": self.cause.map(page),
        })
    }

    fn line(&self) -> String {
        let between = if self.subject.is_empty() { "" } else { ": " };
        let cause = self.cause.map(|id| format!(" [{id}]")).unwrap_or_default();
        let mut line = format!(
            "{:<8} {:<11} {}{between}{}{cause}",
            self.status.word(),
            self.check,
            self.subject,
            self.detail
        );
        if let Some(remedy) = &self.remedy {
            line.push_str(&format!("\n{:21} help: {remedy}", ""));
        }
        printable(&line)
    }
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    fn count(&self, status: Status) -> usize {
        self.0.iter().filter(|finding| finding.status == status).count()
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let status = if self.count(Status::Problem) == 0 { "ok" } else { "problem" };
        json!({
            "version": 1,
            "status": status,
            "problems": self.count(Status::Problem),
            "unknown": self.count(Status::Unknown),
            "checks": self.0.iter().map(Finding::json).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut lines: Vec<String> = self.0.iter().map(Finding::line).collect();
        let [ok, problems, unknown] =
            [Status::Ok, Status::Problem, Status::Unknown].map(|status| self.count(status));
        lines.push(format!("{ok} ok, {problems} to mend, {unknown} unknown"));
        lines.join("\n")
    }

    /// The end of the program: the worst problem decides.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        const WORST_FIRST: [Exit; 5] = [Exit::Denied, Exit::Remote, Exit::Cluster, Exit::Input, Exit::Failed];
        let problems = || self.0.iter().filter(|finding| finding.status == Status::Problem);
        let count = problems().count();
        if count == 0 {
            return Ok(());
        }
        let has = |exit: &Exit| problems().any(|finding| finding.exit == Some(*exit));
        let exit = WORST_FIRST.into_iter().find(has).unwrap_or(Exit::Failed);
        let noun = if count == 1 { "problem" } else { "problems" };
        Err(Failure::new(exit, format!("the build would fail: {count} {noun} found")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_problem_decides_and_unknown_is_none() {
        let problem = |exit| Finding { exit: Some(exit), ..Finding::new("x", "", Status::Problem, "d") };
        for (findings, expected) in [
            (vec![], None),
            (vec![Finding::ok("a", "", ""), Finding::unknown("b", "", "")], None),
            (vec![problem(Exit::Failed), problem(Exit::Input)], Some(Exit::Input)),
            (vec![problem(Exit::Input), problem(Exit::Remote), problem(Exit::Denied)], Some(Exit::Denied)),
        ] {
            let verdict = Findings(findings).verdict().err().map(|failure| failure.exit());
            assert_eq!(verdict, expected);
        }
    }

    #[test]
    fn lines_hold_no_control_characters() {
        let found = Finding::unknown("tag", "a\u{1b}", "b").remedy("c");
        let expected = "unknown  tag         a\\u{1b}: b\n                      help: c";
        assert_eq!(found.line(), expected);
    }
}
