//! What COPY and ADD take from the context.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::successors,
};

use super::{Linter, Warning, instructions::base_stage, rule, targets::needed};
use crate::{
    Command, CommandLine, Dockerfile, Instruction, Patterns, Run, Span, Spanned, Stage, Transfer, simple,
};

/// Nothing is called so: only a pattern that takes everything takes this too.
const NO_NAME: &str = "\0\0\0\0\0\0\0\0";

/// From how many bytes on a copy before a RUN is worth a word: what takes a second or so at 1 Gbit/s.
const LARGE_BYTES: u64 = 100_000_000;

pub(super) fn check(dockerfile: &Dockerfile, linter: &Linter<'_>, warnings: &mut Vec<Warning>) {
    if let Some(copied) = linter.copied {
        let last = dockerfile.stages.len().saturating_sub(1);
        let needed = needed(dockerfile, linter.target.unwrap_or(last));
        large_copies(dockerfile, &needed, copied, warnings);
    }
    // Whether a RUN that needs a container has come by the end of each stage, be it in a stage that it begins with.
    let mut has_run: Vec<bool> = Vec::new();
    for stage in &dockerfile.stages {
        let ran_before = base_stage(dockerfile, stage).is_some_and(|base| has_run[base.index]);
        has_run.push(ran_before || !container_runs(stage).is_empty());
        if !ran_before {
            whole_context(stage, warnings);
        }
        other_places(stage, warnings);
        // With exceptions the text cannot tell: a directory may be ignored, but not all in it.
        if let Some(ignored) = linter.ignored.filter(|ignored| !ignored.has_exceptions()) {
            ignored_sources(stage, ignored, warnings);
        }
    }
}

/// The RUNs that need a container, by their numbers, as far as the text tells: known commands of the superuser
/// need none.
fn container_runs(stage: &Stage) -> Vec<usize> {
    let mut is_plain = true;
    let mut runs = Vec::new();
    for (number, instruction) in stage.instructions.iter().enumerate() {
        match &instruction.command {
            Command::User(_) | Command::Shell(_) => is_plain = false,
            Command::Run(run) if !is_plain || !is_simple(run) => runs.push(number),
            _ => {}
        }
    }
    runs
}

fn is_simple(run: &Run) -> bool {
    let is_known = match (&run.command, run.script()) {
        (CommandLine::Exec(words), _) => simple::program(words).is_some(),
        (CommandLine::Shell(text), None) => simple::script(text, &BTreeMap::new()).is_some(),
        (CommandLine::Shell(_), Some(script)) => simple::script(&script.content, &BTreeMap::new()).is_some(),
    };
    is_known && run.mounts.is_empty() && run.devices.is_empty()
}

/// Any change of any file has the RUN done again, and what it needs is carried to where it runs.
fn whole_context(stage: &Stage, warnings: &mut Vec<Warning>) {
    let Some(run) = container_runs(stage).first().copied() else { return };
    for (_, transfer) in stage.instructions[..run].iter().filter_map(from_context) {
        if let Some(source) =
            transfer.sources.iter().find(|source| matches!(clean(&source.value).as_str(), "" | "*"))
        {
            let message = "The whole build context is copied before the first RUN, \
                           which is done again whenever any file changes";
            warnings.push(Warning::new(rule::CONTEXT_COPY_BEFORE_RUN, message, source.span));
        }
    }
}

/// What is copied before the last RUN of a stage, or in a stage that it begins with, is carried to where that is
/// carried out.
fn large_copies(
    dockerfile: &Dockerfile,
    needed: &BTreeSet<usize>,
    copied: &BTreeMap<Span, u64>,
    warnings: &mut Vec<Warning>,
) {
    let mut told = BTreeSet::new();
    for stage in dockerfile.stages.iter().filter(|stage| needed.contains(&stage.index)) {
        let Some(&last) = container_runs(stage).last() else { continue };
        let below = successors(base_stage(dockerfile, stage), |base| base_stage(dockerfile, base));
        let before = below.flat_map(|base| &base.instructions).chain(&stage.instructions[..last]);
        for instruction in before {
            let bytes = copied.get(&instruction.span).copied().unwrap_or_default();
            if bytes >= LARGE_BYTES && told.insert(instruction.span) {
                let message = format!(
                    "{bytes} bytes are copied before a RUN and go to where that is carried out; \
                     behind the last RUN they would not"
                );
                warnings.push(Warning::new(rule::LARGE_COPY_BEFORE_RUN, message, instruction.span));
            }
        }
    }
}

/// Schemes of sources that `ADD` takes here and in no other builder, which take them for paths.
pub const ADD_EXTENSIONS: [&str; 3] = ["hf://", "s3://", "gs://"];

fn other_places(stage: &Stage, warnings: &mut Vec<Warning>) {
    for instruction in &stage.instructions {
        let Command::Add(transfer) = &instruction.command else { continue };
        for source in &transfer.sources {
            let Some(scheme) = ADD_EXTENSIONS.iter().find(|scheme| source.value.starts_with(**scheme)) else {
                continue;
            };
            let message =
                format!("ADD of {scheme} is an extension of ocib: other builders take it for a path");
            warnings.push(Warning::new(rule::NON_PORTABLE_ADD_SOURCE, message, source.span));
        }
    }
}

/// BuildKit's `validateCopySourcePath`; sources with variables are left out, as their values are
/// not known.
fn ignored_sources(stage: &Stage, ignored: &Patterns, warnings: &mut Vec<Warning>) {
    for (verb, transfer) in stage.instructions.iter().filter_map(from_context) {
        for source in transfer.sources.iter().filter(|source| is_literal(source)) {
            let path = clean(&source.value);
            let probe = if path.is_empty() { NO_NAME } else { path.as_str() };
            if ignored.matches(probe) {
                let shown = if path.is_empty() { "." } else { path.as_str() };
                let message =
                    format!("Attempting to {verb} file {shown:?} that is excluded by .dockerignore");
                warnings.push(Warning::new(rule::COPY_IGNORED_FILE, message, source.span));
            }
        }
    }
}

/// COPY or ADD without `--from`.
fn from_context(instruction: &Instruction) -> Option<(&'static str, &Transfer)> {
    match &instruction.command {
        Command::Copy(transfer) if transfer.from.is_none() => Some(("Copy", transfer)),
        Command::Add(transfer) => Some(("Add", transfer)),
        _ => None,
    }
}

fn is_literal(source: &Spanned<String>) -> bool {
    !source.value.contains('$') && !source.value.contains("://") && !source.value.starts_with("git@")
}

/// The path from the root of the context, without dots; empty for the root itself.
pub(super) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
