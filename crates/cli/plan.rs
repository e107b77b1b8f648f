//! `ocib plan`: what a build with the same flags would do, without doing it.

mod fate;
mod json;
mod text;

use std::sync::Arc;

use ocib_build::{DelegatedOutline, Outline, PartOutline, Request, TargetOutline, outline};
use ocib_dockerfile::{Command, Instruction, Span};
use ocib_image::{Compression, ContainerConfig};
use ocib_net::Backoff;
use serde_json::Value;

use crate::{
    args,
    build::{self, Wired},
    diagnostic::Failure,
    output::{Means, Output},
    progress, report, run, wiring,
};

/// Stands in the place of values that seem to be secret.
const HIDDEN: &str = "*******";

/// A plan and what is needed to show it.
struct Shown {
    /// What the Dockerfile is called in messages.
    name: String,
    request: Arc<Request>,
    outline: Outline,
    places: Vec<fate::Place>,
    /// Whether there is who carries out RUN.
    has_backend: bool,
    /// How files that RUN needs get there.
    files_by: String,
    /// The names of the image, complete.
    names: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(plan: &args::Plan) -> Result<(), Failure> {
    let flags = &plan.build;
    let outputs = Output::all(&flags.image)?;
    let events = progress::watch(flags.shared.progress, flags.shared.quiet);
    let (wired, runtime) = Wired::new(flags, events, &wiring::http(&flags.shared)?, Backoff::default())?;
    let backend = run::backend(flags, &wired.clients)?;
    let has_backend = backend.is_some();
    // What a build would refuse before it starts is refused here, too; sinks touch nothing yet.
    let means = Means::of(&flags.image, wired.clients.clone(), wired.sealer(flags)?)?;
    outputs.iter().try_for_each(|output| output.clone().sinks(&flags.image.tags, &means).map(drop))?;
    let (name, request) = (wired.name.clone(), Arc::clone(&wired.request));
    // Progress is drawn to its end before anything else is said.
    let (outline, places) = wiring::finish(runtime, async move {
        let Wired { request, name, images, fetcher, events, .. } = &wired;
        let outline = outline(Arc::clone(request), images, Some(fetcher), backend.as_deref()).await;
        let outline = outline.map_err(|error| wired.failure(&error))?;
        build::warn_of(&outline.warnings, request, name, &**events)?;
        let places = fate::places(&outline, &outputs, &means).await;
        let places = places.map_err(|failure| wired.clients.explained(failure))?;
        Ok((outline, places))
    })?;
    let (names, files_by) = (flags.image.names(), flags.run.files_by());
    let shown = Shown { name, request, outline, has_backend, files_by, places, names };
    report::result(&if plan.json { json::object(&shown) } else { text::plan(&shown) });
    Ok(())
}

impl Shown {
    /// The first and the last line of an instruction, with the bodies of its heredocs.
    fn lines(&self, span: Span) -> (usize, usize) {
        let dockerfile = &self.request.dockerfile;
        let line = |offset| dockerfile.position(offset).line;
        let mut all = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let below = all.find(|instruction| instruction.span == span).map_or(0, lines_below);
        (line(span.start), line(span.end.saturating_sub(1).max(span.start)) + below)
    }

    /// The first and the last line of a delegated part.
    fn part_lines(&self, part: &DelegatedOutline) -> (usize, usize) {
        let all = || part.instructions.iter().map(|instruction| self.lines(instruction.span));
        let (first, last) = self.lines(part.span);
        (first, all().map(|(_, end)| end).fold(last, usize::max))
    }

    /// Whether every part can be carried out as the flags are.
    fn is_buildable(&self) -> bool {
        self.has_backend || self.outline.targets.iter().all(|target| delegated(target).next().is_none())
    }
}

/// As `--compression` takes it.
fn codec(compression: Compression) -> String {
    match compression {
        Compression::Auto => "auto".to_owned(),
        Compression::Fixed(codec) => codec.to_string(),
    }
}

/// How many lines the bodies of heredocs take, with the lines that end them.
fn lines_below(instruction: &Instruction) -> usize {
    let heredocs = match &instruction.command {
        Command::Run(run) => &run.heredocs,
        Command::Copy(transfer) | Command::Add(transfer) => &transfer.heredocs,
        _ => return 0,
    };
    heredocs.iter().map(|heredoc| heredoc.content.lines().count() + 1).sum()
}

/// The parts of a target that need a container, with the numbers of their stages.
fn delegated(target: &TargetOutline) -> impl Iterator<Item = (usize, &DelegatedOutline)> {
    let parts = target.stages.iter().flat_map(|stage| stage.parts.iter().map(|part| (stage.index, part)));
    parts.filter_map(|(stage, part)| match part {
        PartOutline::Delegated(delegated) => Some((stage, &**delegated)),
        PartOutline::Native(_) => None,
    })
}

/// A variable's value as a log may have it.
fn shown_value<'a>(name: &str, value: &'a str) -> &'a str {
    if ocib_dockerfile::is_secret(name, value) { HIDDEN } else { value }
}

/// How containers of the image start: the config's own `config` object, without secrets.
fn runtime_config(config: &ContainerConfig) -> Value {
    let document: Value = serde_json::from_slice(&config.to_bytes()).unwrap_or_default();
    let mut runtime =
        document.get("config").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    for pair in runtime.get_mut("Env").and_then(Value::as_array_mut).into_iter().flatten() {
        let shown = match pair.as_str().and_then(|pair| pair.split_once('=')) {
            Some((name, value)) => format!("{name}={}", shown_value(name, value)),
            None => continue,
        };
        *pair = Value::String(shown);
    }
    runtime
}
