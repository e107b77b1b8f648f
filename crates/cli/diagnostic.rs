//! From errors to messages with places, remedies and exit codes.

use std::{io::IsTerminal, process::ExitCode};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use ocib_build::Problem;
use ocib_dockerfile::Span;
use ocib_image::{LayerError, PlaceError, PlaceErrorKind, RunError, RunErrorKind};
use ocib_store::{Diagnosis, Login};

use crate::terminal::printable;

/// Where a cause is explained: what ends a RUN is told where its backend is.
pub(crate) fn page(cause: &str) -> String {
    const CAUSES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/causes.md#");
    const PROGRAMS: &str =
        concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/run.md#when-it-does-not-end-well");
    const PODS: &str =
        concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/run-kubernetes.md#when-it-does-not-end-well");
    match cause.starts_with("run-") {
        true if is_of_program(cause) => PROGRAMS.to_owned(),
        true => PODS.to_owned(),
        false => format!("{CAUSES}{cause}"),
    }
}

/// Whether it is a cause of RUN by a program of this host.
#[cfg(feature = "local")]
fn is_of_program(cause: &str) -> bool {
    ocib_local::Cause::named(cause).is_some()
}

#[cfg(not(feature = "local"))]
const fn is_of_program(_: &str) -> bool {
    false
}

/// How a run of the program ended if not well; `docs/errors.md` describes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Input = 3,
    Denied = 4,
    Remote = 5,
    Cluster = 6,
    Interrupted = 130,
}

/// A message for the user and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    help: Option<String>,
    /// The name of what happened, if no table of causes has it.
    id: Option<&'static str>,
    /// What the table of causes says of it.
    diagnosis: Option<Box<Diagnosis>>,
    source: Option<Box<Excerpt>>,
    /// The last lines of what somebody else said.
    log: Vec<String>,
}

/// The part of a file that a message is about.
#[derive(Debug)]
struct Excerpt {
    name: String,
    text: String,
    span: Span,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            help: None,
            id: None,
            diagnosis: None,
            source: None,
            log: Vec::new(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Input, message)
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Shows the place in the Dockerfile `name` that reads `text`.
    pub(crate) fn at(mut self, name: &str, text: &str, span: Span) -> Self {
        self.source = Some(Box::new(Excerpt { name: name.to_owned(), text: text.to_owned(), span }));
        self
    }

    /// An error of a build, placed in the Dockerfile `name` that reads `text`.
    pub(crate) fn of_build(error: &ocib_build::Error, name: &str, text: &str) -> Self {
        let excerpt = |span| Box::new(Excerpt { name: name.to_owned(), text: text.to_owned(), span });
        let own = place_of(error).and_then(named_by_source).map(|found| found.remedy());
        let diagnosis = place_of(error).and_then(diagnosis).map(Box::new);
        let run = run_of(error);
        Self {
            help: own.or_else(|| error.help()).or_else(|| diagnosis.as_ref().map(|found| found.remedy())),
            id: run.map(|error| error.cause),
            diagnosis,
            source: error.span().map(excerpt),
            log: run.map(|error| error.log.clone()).unwrap_or_default(),
            ..Self::new(exit_of(error), with_causes(error))
        }
    }

    /// What a backend of RUN said, without a Dockerfile.
    pub(crate) fn of_run(error: &RunError) -> Self {
        let failure = Self::new(exit_of_run(error.kind), error.to_string()).help(error.remedy.clone());
        Self { id: Some(error.cause), ..failure }
    }

    /// A repository that was to be a context.
    pub(crate) fn of_git(error: &PlaceError) -> Self {
        let failure = Self::of_place(error);
        match error.kind {
            PlaceErrorKind::Denied => failure.help(
                "give a token in GIT_AUTH_TOKEN, a header in GIT_AUTH_HEADER, or a user and password in the URL",
            ),
            _ => failure,
        }
    }

    /// An error of a place that is read or written without a Dockerfile.
    pub(crate) fn of_place(error: &PlaceError) -> Self {
        let diagnosis = diagnosis(error).map(Box::new);
        let help = diagnosis.as_ref().map(|found| found.remedy());
        Self { help, diagnosis, ..Self::new(exit_of_place(error), with_causes(error)) }
    }

    /// An error of a model on its way into an image or out of it.
    #[cfg(feature = "model")]
    pub(crate) fn of_model(error: &ocib_model::Error) -> Self {
        use ocib_model::Error;
        let failure = |exit| Self::new(exit, with_causes(error));
        let failure = match error {
            Error::Place(place) | Error::Layer(LayerError::Place(place)) => return Self::of_place(place),
            Error::Layer(layer @ LayerError::Changed { .. }) => {
                let diagnosis = Diagnosis::named("input-changed", &layer.to_string());
                let help = diagnosis.as_ref().map(Diagnosis::remedy);
                return Self { help, diagnosis: diagnosis.map(Box::new), ..failure(exit_of_layer(layer)) };
            }
            Error::Layer(layer) => failure(exit_of_layer(layer)),
            Error::BrokenPromise { .. } => failure(Exit::Remote),
            Error::NotSuited { .. } | Error::BadPrefix { .. } => failure(Exit::Usage),
            _ => failure(Exit::Input),
        };
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    }

    /// A configuration of registries that cannot be read, placed in its file.
    pub(crate) fn of_registry_config(error: &ocib_store::Error) -> Self {
        let help =
            "it should be as containers-registries.conf(5) says, version 2; --registry-config names another";
        let failure = |message| Self::new(Exit::Usage, message).help(help);
        match error {
            ocib_store::Error::RegistryConfig(problem) => {
                let span = Span { start: problem.span.start, end: problem.span.end };
                let (name, text) = (problem.file.display().to_string(), problem.text.clone());
                let source = Some(Box::new(Excerpt { name, text, span }));
                Self { source, ..failure(problem.why.clone()) }
            }
            error => failure(with_causes(error)),
        }
    }

    /// Adds which way led to the identity that lacks a permission, if it is one of `logins`: whoever
    /// mends it must know whose it is.
    pub(crate) fn with_logins(mut self, logins: &[Login]) -> Self {
        let identity = self.diagnosis.as_ref().and_then(|found| found.denial()?.identity.clone());
        let is_it = |login: &&Login| {
            login.identity.as_ref().is_some_and(|known| known.name.is_some() && known.name == identity)
        };
        if let (Some(login), Some(help)) = (logins.iter().find(is_it), &mut self.help) {
            help.push_str(&format!("; that identity is from {}", login.source));
        }
        self
    }

    /// The exit code that goes with it.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// What is wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do.
    pub(crate) fn remedy(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The id of its cause, if it has one in the table.
    pub(crate) fn cause(&self) -> Option<&'static str> {
        self.diagnosis.as_ref().map(|found| found.cause.id).or(self.id)
    }

    /// Prints the message to stderr; gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let code = self.exit as u8;
        #[expect(clippy::print_stderr, reason = "this is where messages for the user are printed")]
        {
            eprintln!("{}", self.render(std::io::stderr().is_terminal()));
        }
        ExitCode::from(code)
    }

    fn render(&self, is_terminal: bool) -> String {
        let message = printable(&self.message);
        let mut title = Level::ERROR.primary_title(message.as_str());
        if let Some(id) = self.cause() {
            title = title.id(id);
        }
        let name = self.source.as_ref().map(|excerpt| printable(&excerpt.name)).unwrap_or_default();
        let mut groups = vec![match &self.source {
            Some(excerpt) => title.element(snippet(&name, &excerpt.text, excerpt.span)),
            None => Group::with_title(title),
        }];
        let log = (!self.log.is_empty()).then(|| {
            let lines: Vec<String> = self.log.iter().map(|line| printable(line)).collect();
            format!("the last lines were\n{}", lines.join("\n"))
        });
        if let Some(log) = &log {
            groups.push(Group::with_title(Level::NOTE.secondary_title(log.as_str())));
        }
        let help = self.help.as_ref().map(|help| printable(help));
        if let Some(help) = &help {
            groups.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
        }
        renderer(is_terminal).render(&groups)
    }
}

/// A warning that points at its place, as errors do.
pub(crate) struct Notice<'a> {
    pub(crate) rule: &'a str,
    /// Where the rule is explained.
    pub(crate) url: &'a str,
    pub(crate) message: &'a str,
    pub(crate) span: Span,
}

impl Notice<'_> {
    /// The warning with its place in the Dockerfile `name` that reads `text`.
    pub(crate) fn render(&self, name: &str, text: &str, is_terminal: bool) -> String {
        let (message, name) = (printable(self.message), printable(name));
        let title = Level::WARNING.primary_title(message.as_str()).id(self.rule).id_url(self.url);
        renderer(is_terminal).render(&[title.element(snippet(&name, text, self.span))])
    }
}

fn snippet<'t>(name: &'t str, text: &'t str, span: Span) -> Snippet<'t, Annotation<'t>> {
    Snippet::source(text).path(name).annotation(AnnotationKind::Primary.span(range(text, span)))
}

/// Never empty and never outside of the text, or there would be nothing to point at.
fn range(text: &str, span: Span) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.min(text.len()));
    start..end.max(start)
}

fn renderer(is_terminal: bool) -> Renderer {
    if is_terminal { Renderer::styled() } else { Renderer::plain() }
}

/// A warning about a place in the Dockerfile, in one line.
pub(crate) fn warning(rule: &str, message: &str, name: &str, line: usize) -> String {
    printable(&format!("{name}:{line}: {rule}: {message}"))
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Transparent wrappers repeat what they wrap.
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

fn exit_of(error: &ocib_build::Error) -> Exit {
    match error {
        ocib_build::Error::Instruction { problem, .. } => match &**problem {
            Problem::Base { source, .. } | Problem::Fetch { source } | Problem::Source(source) => {
                exit_of_place(source)
            }
            Problem::Layer(error) => exit_of_layer(error),
            Problem::Backend(error) => exit_of_run(error.kind),
            Problem::BadResult { .. } => Exit::Cluster,
            _ => Exit::Input,
        },
        ocib_build::Error::Syntax(_) | ocib_build::Error::UnknownTarget { .. } => Exit::Input,
        ocib_build::Error::Place(error) => exit_of_place(error),
        ocib_build::Error::Layer(error) => exit_of_layer(error),
        _ => Exit::Failed,
    }
}

fn exit_of_run(kind: RunErrorKind) -> Exit {
    match kind {
        RunErrorKind::Command => Exit::Failed,
        RunErrorKind::Denied => Exit::Denied,
        RunErrorKind::Input => Exit::Input,
        RunErrorKind::Registry => Exit::Remote,
        _ => Exit::Cluster,
    }
}

/// What a backend of RUN said.
fn run_of(error: &ocib_build::Error) -> Option<&RunError> {
    match error {
        ocib_build::Error::Instruction { problem, .. } => match &**problem {
            Problem::Backend(error) => Some(error),
            _ => None,
        },
        _ => None,
    }
}

fn exit_of_layer(error: &LayerError) -> Exit {
    match error {
        LayerError::Place(error) => exit_of_place(error),
        LayerError::Output(_) => Exit::Failed,
        _ => Exit::Input,
    }
}

pub(crate) fn exit_of_place(error: &PlaceError) -> Exit {
    exit_of_kind(error.kind)
}

/// The exit code of a failure of this kind.
pub(crate) fn exit_of_kind(kind: PlaceErrorKind) -> Exit {
    match kind {
        PlaceErrorKind::Denied => Exit::Denied,
        PlaceErrorKind::Input => Exit::Input,
        PlaceErrorKind::Local => Exit::Failed,
        _ => Exit::Remote,
    }
}

/// The cause of an error of any place. Sources know theirs, and what they say may hold names of files.
fn diagnosis(error: &PlaceError) -> Option<Diagnosis> {
    named_by_source(error).or_else(|| Diagnosis::of_place(error))
}

fn named_by_source(error: &PlaceError) -> Option<Diagnosis> {
    let source = error.story().downcast_ref::<ocib_source::Error>()?;
    Diagnosis::named(source.cause()?, &source.to_string())
}

/// The error of a place that `error` comes down to.
fn place_of(error: &ocib_build::Error) -> Option<&PlaceError> {
    match error {
        ocib_build::Error::Place(place) | ocib_build::Error::Layer(LayerError::Place(place)) => Some(place),
        ocib_build::Error::Instruction { problem, .. } => match &**problem {
            Problem::Base { source, .. } | Problem::Fetch { source } | Problem::Source(source) => {
                Some(source)
            }
            Problem::Layer(LayerError::Place(place)) => Some(place),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place_and_says_what_to_do() {
        let failure = Failure {
            help: Some("did you mean model?".into()),
            source: Some(Box::new(Excerpt {
                name: "Dockerfile".into(),
                text: "FROM scratch\nCOPY modle /models/\n".into(),
                span: Span { start: 18, end: 23 },
            })),
            ..Failure::input("/modle: not found")
        };
        assert_eq!(
            failure.render(false),
            "\
error: /modle: not found
 --> Dockerfile:2:6
  |
2 | COPY modle /models/
  |      ^^^^^
  |
help: did you mean model?"
        );
    }
}
