//! Capitals or small letters, but not both.

use super::{Warning, rule};
use crate::{Dockerfile, Span, Stage};

pub(super) fn check(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    keywords(dockerfile, warnings);
    for stage in &dockerfile.stages {
        as_keyword(stage, warnings);
        stage_name(dockerfile, stage, warnings);
    }
}

fn keywords(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    let lines = dockerfile.stages.iter().flat_map(|stage| {
        let from = (stage.from.original.as_str(), stage.span);
        let rest = stage.instructions.iter().map(|i| (i.original.as_str(), i.span));
        std::iter::once(from).chain(rest)
    });
    let keywords: Vec<(&str, Span)> = lines
        .map(|(line, span)| (line.split_whitespace().next().unwrap_or_default(), span))
        .map(|(word, span)| (word, Span { end: span.end.min(span.start + word.len()), ..span }))
        .collect();
    let count = |case: fn(&str) -> bool| keywords.iter().filter(|(word, _)| case(word)).count();
    let (is_wanted, wanted): (fn(&str) -> bool, _) =
        if count(is_lower) > count(is_upper) { (is_lower, "lowercase") } else { (is_upper, "uppercase") };
    for (word, span) in keywords.into_iter().filter(|(word, _)| !is_wanted(word)) {
        let message = format!("Command '{word}' should match the case of the command majority ({wanted})");
        warnings.push(Warning::new(rule::CONSISTENT_INSTRUCTION_CASING, message, span));
    }
}

/// `AS` like `FROM`; a `FrOm` has its own warning already.
fn as_keyword(stage: &Stage, warnings: &mut Vec<Warning>) {
    let mut words = stage.from.original.split_whitespace();
    let from = words.next().unwrap_or_default();
    let Some(as_word) = words.rev().nth(1).filter(|_| stage.name.is_some()) else { return };
    if (is_lower(from) && !is_lower(as_word)) || (is_upper(from) && !is_upper(as_word)) {
        let message = format!("'{as_word}' and '{from}' keywords' casing do not match");
        warnings.push(Warning::new(rule::FROM_AS_CASING, message, stage.span));
    }
}

fn stage_name(dockerfile: &Dockerfile, stage: &Stage, warnings: &mut Vec<Warning>) {
    let Some(name) = &stage.name else { return };
    let written = &dockerfile.text[name.span.start..name.span.end];
    if written.to_lowercase() != written {
        let message = format!("Stage name '{written}' should be lowercase");
        warnings.push(Warning::new(rule::STAGE_NAME_CASING, message, name.span));
    }
}

fn is_lower(word: &str) -> bool {
    !word.contains(char::is_uppercase)
}

fn is_upper(word: &str) -> bool {
    !word.contains(char::is_lowercase)
}
