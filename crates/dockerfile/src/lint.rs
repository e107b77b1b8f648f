//! Advice about a Dockerfile that is not wrong: those of BuildKit's build checks that the text
//! alone decides.
//!
//! Rules and messages are BuildKit's (`frontend/dockerfile/linter/ruleset.go`). Values of build
//! arguments, base images and the context are not known here: where a rule would need them, it
//! says nothing.

mod casing;
mod instructions;
mod stages;
mod variables;

use crate::{Dockerfile, Span};

/// A finding of lint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule's name, such as `StageNameCasing`, under which
    /// <https://docs.docker.com/reference/build-checks/> explains it.
    pub rule: &'static str,
    /// What was found.
    pub message: String,
    /// Where.
    pub span: Span,
}

impl Warning {
    pub(crate) fn new(rule: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self { rule, message: message.into(), span }
    }
}

/// The names of the rules.
pub(crate) mod rule {
    pub(crate) const CONSISTENT_INSTRUCTION_CASING: &str = "ConsistentInstructionCasing";
    pub(crate) const DUPLICATE_STAGE_NAME: &str = "DuplicateStageName";
    pub(crate) const EXPOSE_INVALID_FORMAT: &str = "ExposeInvalidFormat";
    pub(crate) const EXPOSE_PROTO_CASING: &str = "ExposeProtoCasing";
    pub(crate) const FROM_AS_CASING: &str = "FromAsCasing";
    pub(crate) const FROM_PLATFORM_CONST: &str = "FromPlatformFlagConstDisallowed";
    pub(crate) const INVALID_DEFAULT_ARG_IN_FROM: &str = "InvalidDefaultArgInFrom";
    pub(crate) const JSON_ARGS_RECOMMENDED: &str = "JSONArgsRecommended";
    pub(crate) const LEGACY_KEY_VALUE_FORMAT: &str = "LegacyKeyValueFormat";
    pub(crate) const MAINTAINER_DEPRECATED: &str = "MaintainerDeprecated";
    pub(crate) const MULTIPLE_INSTRUCTIONS: &str = "MultipleInstructionsDisallowed";
    pub(crate) const NO_EMPTY_CONTINUATION: &str = "NoEmptyContinuation";
    pub(crate) const REDUNDANT_TARGET_PLATFORM: &str = "RedundantTargetPlatform";
    pub(crate) const RESERVED_STAGE_NAME: &str = "ReservedStageName";
    pub(crate) const SECRETS_IN_ARG_OR_ENV: &str = "SecretsUsedInArgOrEnv";
    pub(crate) const STAGE_NAME_CASING: &str = "StageNameCasing";
    pub(crate) const UNDEFINED_ARG_IN_FROM: &str = "UndefinedArgInFrom";
    pub(crate) const UNDEFINED_VAR: &str = "UndefinedVar";
    pub(crate) const WORKDIR_RELATIVE_PATH: &str = "WorkdirRelativePath";
}

/// All findings in the order of the text, without those that a `# check=skip=…` directive names.
pub fn lint(dockerfile: &Dockerfile) -> Vec<Warning> {
    let mut warnings = dockerfile.warnings.clone();
    casing::check(dockerfile, &mut warnings);
    stages::check(dockerfile, &mut warnings);
    instructions::check(dockerfile, &mut warnings);
    variables::check(dockerfile, &mut warnings);
    let skipped = skipped(dockerfile);
    let skip = |rule: &str| skipped.iter().any(|&name| name == rule || name.eq_ignore_ascii_case("all"));
    warnings.retain(|warning| !skip(warning.rule));
    warnings.sort_by_key(|warning| warning.span);
    warnings
}

/// What stands behind `skip=` in the `check` directive (BuildKit, `linter.ParseLintOptions`).
fn skipped(dockerfile: &Dockerfile) -> Vec<&str> {
    let check = dockerfile.directives.check.as_ref().map_or("", |check| check.value.as_str());
    let options = check.split(';').filter_map(|option| option.trim().split_once('='));
    options
        .filter(|(name, _)| name.trim() == "skip")
        .flat_map(|(_, rules)| rules.split(','))
        .map(str::trim)
        .collect()
}

#[cfg(test)]
mod tests;
