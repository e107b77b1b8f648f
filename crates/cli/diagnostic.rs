//! From errors to messages with places, remedies and exit codes.

use std::{io::IsTerminal, process::ExitCode};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use ocib_build::Problem;
use ocib_dockerfile::Span;
use ocib_image::{LayerError, PlaceError, PlaceErrorKind};
use ocib_store::IamDenial;

use crate::terminal::printable;

/// How a run of the program ended if not well; `docs/errors.md` describes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Input = 3,
    Denied = 4,
    Remote = 5,
    Interrupted = 130,
}

/// A message for the user and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    help: Option<String>,
    source: Option<Excerpt>,
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
        Self { exit, message: message.into(), help: None, source: None }
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

    /// An error of a build, placed in the Dockerfile `name` that reads `text`.
    pub(crate) fn of_build(error: &ocib_build::Error, name: &str, text: &str) -> Self {
        let excerpt = |span| Excerpt { name: name.to_owned(), text: text.to_owned(), span };
        Self {
            exit: exit_of(error),
            message: with_causes(error),
            help: error.help().or_else(|| place_help(error)),
            source: error.span().map(excerpt),
        }
    }

    /// A repository that was to be a context.
    pub(crate) fn of_git(error: &PlaceError) -> Self {
        let help = match error.kind {
            PlaceErrorKind::Denied => Some(
                "give a token in GIT_AUTH_TOKEN, a header in GIT_AUTH_HEADER, or a user and password in the URL",
            ),
            kind => place_kind_help(kind),
        };
        Self {
            exit: exit_of_place(error),
            message: with_causes(error),
            help: help.map(str::to_owned),
            source: None,
        }
    }

    /// An error of a place that is read or written without a Dockerfile.
    pub(crate) fn of_place(error: &PlaceError) -> Self {
        let help = place_kind_help(error.kind).map(str::to_owned);
        Self { exit: exit_of_place(error), message: with_causes(error), help, source: None }
    }

    /// What the help says.
    #[cfg(test)]
    pub(crate) fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
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
                let source = Some(Excerpt { name, text, span });
                Self { source, ..failure(problem.why.clone()) }
            }
            error => failure(with_causes(error)),
        }
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
        let title = Level::ERROR.primary_title(message.as_str());
        let name = self.source.as_ref().map(|excerpt| printable(&excerpt.name)).unwrap_or_default();
        let mut groups = vec![match &self.source {
            Some(excerpt) => title.element(snippet(&name, &excerpt.text, excerpt.span)),
            None => Group::with_title(title),
        }];
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

fn with_causes(error: &dyn std::error::Error) -> String {
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
            _ => Exit::Input,
        },
        ocib_build::Error::Syntax(_) | ocib_build::Error::UnknownTarget { .. } => Exit::Input,
        ocib_build::Error::Place(error) => exit_of_place(error),
        ocib_build::Error::Layer(error) => exit_of_layer(error),
        _ => Exit::Failed,
    }
}

fn exit_of_layer(error: &LayerError) -> Exit {
    match error {
        LayerError::Place(error) => exit_of_place(error),
        LayerError::Output(_) => Exit::Failed,
        _ => Exit::Input,
    }
}

fn exit_of_place(error: &PlaceError) -> Exit {
    match error.kind {
        PlaceErrorKind::Denied => Exit::Denied,
        PlaceErrorKind::Input => Exit::Input,
        PlaceErrorKind::Local => Exit::Failed,
        _ => Exit::Remote,
    }
}

fn place_help(error: &ocib_build::Error) -> Option<String> {
    let place = match error {
        ocib_build::Error::Place(place) => place,
        ocib_build::Error::Instruction { problem, .. } => match &**problem {
            Problem::Base { source, .. } | Problem::Fetch { source } | Problem::Source(source) => source,
            Problem::Layer(LayerError::Place(place)) => place,
            _ => return None,
        },
        ocib_build::Error::Layer(LayerError::Place(place)) => place,
        _ => return None,
    };
    if let Some(denial) =
        IamDenial::parse(&place.to_string()).filter(|_| place.kind == PlaceErrorKind::Denied)
    {
        return Some(permission_help(&denial));
    }
    place_kind_help(place.kind).map(str::to_owned)
}

fn place_kind_help(kind: PlaceErrorKind) -> Option<&'static str> {
    let help = match kind {
        PlaceErrorKind::Denied => {
            "log in with `docker login`, `podman login` or `skopeo login`, or set REGISTRY_AUTH_FILE or DOCKER_CONFIG"
        }
        PlaceErrorKind::Unreachable => {
            "check the host name, the port and the proxy; nothing was published, and the same command can be run again"
        }
        PlaceErrorKind::Corrupt => {
            "the content is not what its digest says: do not use it, and tell its owner"
        }
        _ => return None,
    };
    Some(help)
}

/// What to ask whoever administers AWS for.
fn permission_help(denial: &IamDenial) -> String {
    let identity = denial.identity.as_deref().unwrap_or("the identity");
    let resource = denial.resource.as_deref().map(|resource| format!(" on {resource}")).unwrap_or_default();
    format!("give {identity} the permission {}{resource}", denial.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place_and_says_what_to_do() {
        let failure = Failure {
            exit: Exit::Input,
            message: "/modle: not found".into(),
            help: Some("did you mean model?".into()),
            source: Some(Excerpt {
                name: "Dockerfile".into(),
                text: "FROM scratch\nCOPY modle /models/\n".into(),
                span: Span { start: 18, end: 23 },
            }),
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
