//! FROM and the names of stages.

use std::collections::BTreeMap;

use super::{Warning, rule};
use crate::{Command, Dockerfile, Expander, Stage, suggest};

/// Names that mean something else (BuildKit, `reservedStageNames`).
const RESERVED: [&str; 2] = ["context", "scratch"];

/// What BuildKit sets for FROM without any ARG.
const AUTOMATIC: [&str; 8] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
];

pub(super) fn check(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    let globals = globals(dockerfile, None);
    for stage in &dockerfile.stages {
        name(dockerfile, stage, warnings);
        platform(stage, warnings);
        arguments(dockerfile, stage, &globals, warnings);
        default_image(dockerfile, stage, &globals, warnings);
    }
}

fn name(dockerfile: &Dockerfile, stage: &Stage, warnings: &mut Vec<Warning>) {
    let Some(name) = &stage.name else { return };
    if RESERVED.contains(&name.value.as_str()) {
        let message = format!("Stage name should not use the same name as reserved stage {:?}", name.value);
        warnings.push(Warning::new(rule::RESERVED_STAGE_NAME, message, name.span));
    }
    let earlier = &dockerfile.stages[..stage.index];
    if earlier.iter().filter_map(|stage| stage.name.as_ref()).any(|other| other.value == name.value) {
        let message = format!("Duplicate stage name {:?}, stage names should be unique", name.value);
        warnings.push(Warning::new(rule::DUPLICATE_STAGE_NAME, message, name.span));
    }
}

fn platform(stage: &Stage, warnings: &mut Vec<Warning>) {
    let Some(platform) = &stage.from.platform else { return };
    let value = platform.value.as_str();
    if matches!(value, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let message = format!(
            "Setting platform to predefined {value} in FROM is redundant as this is the default behavior"
        );
        warnings.push(Warning::new(rule::REDUNDANT_TARGET_PLATFORM, message, platform.span));
    }
    // A stage that says in its name that it is for one platform may well be.
    let name = stage.name.as_ref().map_or("", |name| name.value.as_str());
    let named = value.split('/').take(2).any(|part| !part.is_empty() && name.contains(part));
    if !value.contains('$') && !named {
        let message = format!("FROM --platform flag should not use constant value {value:?}");
        warnings.push(Warning::new(rule::FROM_PLATFORM_CONST, message, platform.span));
    }
}

/// The global ARGs and what they come to; build args go before defaults.
pub(super) fn globals(
    dockerfile: &Dockerfile,
    build_args: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, Option<String>> {
    let expander = Expander::new(dockerfile.escape);
    let mut globals = BTreeMap::<String, Option<String>>::new();
    for instruction in &dockerfile.global_args {
        let Command::Arg(pairs) = &instruction.command else { continue };
        for pair in pairs {
            let known = |name: &str| globals.get(name).cloned().flatten();
            let given = build_args.and_then(|given| given.get(&pair.key.value)).cloned();
            let default = || expander.word(&pair.value.as_ref()?.value, &known).ok();
            let value = given.or_else(default);
            globals.insert(pair.key.value.clone(), value);
        }
    }
    globals
}

fn arguments(
    dockerfile: &Dockerfile,
    stage: &Stage,
    globals: &BTreeMap<String, Option<String>>,
    warnings: &mut Vec<Warning>,
) {
    let declared = |name: &str| globals.contains_key(name) || AUTOMATIC.contains(&name);
    let variables = |name: &str| declared(name).then(|| "x".to_owned());
    let words = [Some(&stage.from.image), stage.from.platform.as_ref()];
    for word in words.into_iter().flatten() {
        let Ok(expansion) = Expander::new(dockerfile.escape).expand(&word.value, &variables) else {
            continue;
        };
        for name in expansion.undefined {
            let known: Vec<&str> = globals.keys().map(String::as_str).chain(AUTOMATIC).collect();
            let hint = suggest::nearest(&name, &known).map(|near| format!(" (did you mean {near}?)"));
            let message = format!("FROM argument '{name}' is not declared{}", hint.unwrap_or_default());
            warnings.push(Warning::new(rule::UNDEFINED_ARG_IN_FROM, message, word.span));
        }
    }
}

fn default_image(
    dockerfile: &Dockerfile,
    stage: &Stage,
    globals: &BTreeMap<String, Option<String>>,
    warnings: &mut Vec<Warning>,
) {
    let image = &stage.from.image;
    let variables = |name: &str| match globals.get(name) {
        Some(value) => Some(value.clone().unwrap_or_default()),
        None => Some("x".to_owned()),
    };
    if !image.value.contains('$') {
        return;
    }
    let expanded = Expander::new(dockerfile.escape).word(&image.value, &variables);
    if expanded.is_ok_and(|image| !may_be_image(&image)) {
        let message =
            format!("Default value for ARG {} results in empty or invalid base image name", image.value);
        warnings.push(Warning::new(rule::INVALID_DEFAULT_ARG_IN_FROM, message, image.span));
    }
}

/// Whether no part of a reference is missing.
fn may_be_image(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or_default();
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let digest_missing = image.ends_with('@');
    let repository = path.rsplit('/').next().unwrap_or_default();
    !digest_missing
        && tag != Some("")
        && path.split('/').all(|part| !part.is_empty())
        && !repository.contains(|c: char| c.is_uppercase() || c.is_whitespace() || c == ':')
}
