//! `ocib check`: what is wrong with a Dockerfile, and what is not wrong but could be better.

mod github;
mod json;
mod sarif;

use std::{collections::BTreeSet, io::IsTerminal, sync::Arc};

use ocib_build::{Request, copied};
use ocib_dockerfile::{Dockerfile, Linter, Warning};
use ocib_image::Remote;
use ocib_net::{Backoff, HttpOptions};
use ocib_source::ReadAhead;

use crate::{
    args::{self, Format},
    diagnostic::{Failure, Notice},
    dockerfile::{self, Inputs, Places, Source},
    git, progress, report, sources, wiring,
};

/// Stands in the place of a rule's name for what keeps a Dockerfile from being understood.
const SYNTAX_ERROR: &str = "SyntaxError";
/// Where the rules' pages are.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs");

/// Everything found in one Dockerfile.
struct Findings {
    /// What the Dockerfile is called in messages.
    name: String,
    /// What spans count in, without secrets.
    text: String,
    /// Either warnings or one [`SYNTAX_ERROR`].
    found: Vec<Warning>,
}

/// Runs the command.
pub(crate) fn run(check: &args::Check) -> Result<(), Failure> {
    let build_args = dockerfile::build_args(&check.build_args)?;
    let Inputs { source, tree, ignored } = inputs(check)?;
    let dockerfile = match source.parse() {
        Ok(dockerfile) => dockerfile,
        Err(error) => return Err(syntax_error(check.format, source, error)),
    };
    let target = check.target.as_deref().filter(|name| !name.is_empty());
    let stage = target.map(|name| find_target(&dockerfile, name, &source.name)).transpose()?;
    let mut request = Request::new(dockerfile);
    request.context = tree;
    request.ignored = ignored;
    request.build_args = build_args;
    request.target = target.map(str::to_owned);
    let request = Arc::new(request);
    let linter = Linter {
        advice: true,
        ignored: Some(&request.ignored),
        copied: Some(&copied(&request)),
        build_args: Some(&request.build_args),
        target: stage,
    };
    let dockerfile = &*request.dockerfile;
    let found = linter.check(dockerfile);
    let findings = Findings { name: source.name, text: ocib_dockerfile::redacted(dockerfile), found };
    report::result(&findings.show(check.format));
    let is_error = check.strict || ocib_dockerfile::warnings_are_errors(dockerfile);
    match is_error && !findings.found.is_empty() {
        true => Err(findings.failure()),
        false => Ok(()),
    }
}

/// What the context and `--file` name, without a word of how it came.
fn inputs(check: &args::Check) -> Result<Inputs, Failure> {
    let scratch = std::env::temp_dir();
    // What is elsewhere is read through it.
    let runtime = wiring::runtime()?;
    let fetch = |remote: &Remote| {
        let silence = progress::watch(args::ProgressStyle::Plain, true);
        let http = HttpOptions::default();
        let git = git::git(http.clone(), std::env::temp_dir(), silence);
        let fetcher = sources::fetcher(&http, Backoff::default(), ReadAhead::default(), git)?;
        sources::tree(&runtime, &fetcher, remote)
    };
    let places = Places { scratch: &scratch, note: &|_| {}, fetch: &fetch, keeps_git_dir: false };
    Inputs::read(&check.context, check.file.as_deref(), &places)
}

/// As text the error is shown as any other. Programs find it where they find warnings; stderr then
/// has no word out of the Dockerfile, as GitHub looks for commands there too.
fn syntax_error(format: Format, source: Source, error: ocib_dockerfile::Error) -> Failure {
    let text = source.text();
    if format == Format::Text {
        return Failure::of_build(&error.into(), &source.name, &text);
    }
    let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
    let message = format!("{error}{help}");
    let found = vec![Warning { rule: SYNTAX_ERROR, message, span: error.span().unwrap_or_default() }];
    report::result(&Findings { name: source.name, text, found }.show(format));
    Failure::input("the Dockerfile cannot be understood")
}

/// The number of the stage that `--target` names, as a build finds it.
fn find_target(dockerfile: &Dockerfile, wanted: &str, name: &str) -> Result<usize, Failure> {
    dockerfile.stage(wanted).ok_or_else(|| {
        let stages = dockerfile.stage_names().map(str::to_owned).collect();
        let error = ocib_build::Error::UnknownTarget { name: wanted.to_owned(), stages };
        Failure::of_build(&error, name, &dockerfile.text)
    })
}

impl Findings {
    fn show(&self, format: Format) -> String {
        match format {
            Format::Text => self.excerpts(std::io::stdout().is_terminal()),
            Format::Json => json::array(self),
            Format::Sarif => sarif::log(self),
            Format::Github => github::commands(self),
        }
    }

    fn excerpts(&self, is_terminal: bool) -> String {
        let notice =
            |warning: &Warning| {
                let url = url(warning.rule);
                Notice { rule: warning.rule, url: &url, message: &warning.message, span: warning.span }
                    .render(&self.name, &self.text, is_terminal)
            };
        let mut parts: Vec<String> = self.found.iter().map(notice).collect();
        parts.push(match self.found.len() {
            0 => "no warnings".to_owned(),
            1 => "1 warning".to_owned(),
            count => format!("{count} warnings"),
        });
        parts.join("\n\n")
    }

    /// BuildKit's message, with the rules in order.
    fn failure(&self) -> Failure {
        let rules: BTreeSet<&str> = self.found.iter().map(|warning| warning.rule).collect();
        let rules: Vec<&str> = rules.into_iter().collect();
        Failure::input(format!("lint violation found for rules: {}", rules.join(", ")))
    }
}

/// Where a rule is explained.
fn url(rule: &str) -> String {
    match rule {
        SYNTAX_ERROR => format!("{PAGES}/errors.md"),
        rule => format!("{PAGES}/rules/{rule}.md"),
    }
}
