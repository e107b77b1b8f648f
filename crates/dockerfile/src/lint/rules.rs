//! The rules by name.

/// A rule of lint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name in `CamelCase`, as `# check=skip=…` takes it.
    pub name: &'static str,
    /// What it wants, in one sentence without a full stop.
    pub summary: &'static str,
    /// Who is told.
    pub shown: Shown,
}

/// Where findings of a rule are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// During a build too.
    Always,
    /// Only where advice is asked for ([`Linter::advice`](crate::Linter)): a matter of opinion, or
    /// of which a build fails anyway.
    OnCheck,
    /// Only where a `# check=experimental=…` directive names the rule, or `all`.
    OnRequest,
}

/// The names of the rules.
pub(crate) mod rule {
    pub(crate) const CONSISTENT_INSTRUCTION_CASING: &str = "ConsistentInstructionCasing";
    pub(crate) const CONTEXT_COPY_BEFORE_RUN: &str = "ContextCopyBeforeRun";
    pub(crate) const COPY_IGNORED_FILE: &str = "CopyIgnoredFile";
    pub(crate) const DUPLICATE_STAGE_NAME: &str = "DuplicateStageName";
    pub(crate) const EXPOSE_INVALID_FORMAT: &str = "ExposeInvalidFormat";
    pub(crate) const EXPOSE_PROTO_CASING: &str = "ExposeProtoCasing";
    pub(crate) const FROM_AS_CASING: &str = "FromAsCasing";
    pub(crate) const FROM_PLATFORM_CONST: &str = "FromPlatformFlagConstDisallowed";
    pub(crate) const INVALID_CHECK_OPTION: &str = "InvalidCheckOption";
    pub(crate) const INVALID_DEFAULT_ARG_IN_FROM: &str = "InvalidDefaultArgInFrom";
    pub(crate) const INVALID_DEFINITION_DESCRIPTION: &str = "InvalidDefinitionDescription";
    pub(crate) const JSON_ARGS_RECOMMENDED: &str = "JSONArgsRecommended";
    pub(crate) const LARGE_COPY_BEFORE_RUN: &str = "LargeCopyBeforeRun";
    pub(crate) const LEGACY_KEY_VALUE_FORMAT: &str = "LegacyKeyValueFormat";
    pub(crate) const MAINTAINER_DEPRECATED: &str = "MaintainerDeprecated";
    pub(crate) const MULTIPLE_INSTRUCTIONS: &str = "MultipleInstructionsDisallowed";
    pub(crate) const MUTABLE_BASE_TAG: &str = "MutableBaseTag";
    pub(crate) const NO_EMPTY_CONTINUATION: &str = "NoEmptyContinuation";
    pub(crate) const NON_PORTABLE_ADD_SOURCE: &str = "NonPortableAddSource";
    pub(crate) const REDUNDANT_TARGET_PLATFORM: &str = "RedundantTargetPlatform";
    pub(crate) const RESERVED_STAGE_NAME: &str = "ReservedStageName";
    pub(crate) const SECRET_LIKE_VALUE: &str = "SecretLikeValue";
    pub(crate) const SECRETS_IN_ARG_OR_ENV: &str = "SecretsUsedInArgOrEnv";
    pub(crate) const SHADOWED_COPY: &str = "ShadowedCopy";
    pub(crate) const STAGE_NAME_CASING: &str = "StageNameCasing";
    pub(crate) const UNDEFINED_ARG_IN_FROM: &str = "UndefinedArgInFrom";
    pub(crate) const UNDEFINED_VAR: &str = "UndefinedVar";
    pub(crate) const WORKDIR_RELATIVE_PATH: &str = "WorkdirRelativePath";
}

const fn always(name: &'static str, summary: &'static str) -> Rule {
    Rule { name, summary, shown: Shown::Always }
}

const fn on_check(name: &'static str, summary: &'static str) -> Rule {
    Rule { name, summary, shown: Shown::OnCheck }
}

/// All rules, in the order of their names. Those of BuildKit have its names.
pub const RULES: [Rule; 28] = [
    always(
        rule::CONSISTENT_INSTRUCTION_CASING,
        "All instructions within the Dockerfile should use the same casing, either upper or lower",
    ),
    on_check(
        rule::CONTEXT_COPY_BEFORE_RUN,
        "The whole build context should not be copied before the first RUN of a stage",
    ),
    on_check(rule::COPY_IGNORED_FILE, "COPY and ADD should not name what the ignore file excludes"),
    always(rule::DUPLICATE_STAGE_NAME, "Stage names should be unique"),
    always(rule::EXPOSE_INVALID_FORMAT, "EXPOSE should name ports without IP addresses and host ports"),
    always(rule::EXPOSE_PROTO_CASING, "The protocol in EXPOSE should be lowercase"),
    always(rule::FROM_AS_CASING, "The AS keyword should match the case of the FROM keyword"),
    always(rule::FROM_PLATFORM_CONST, "FROM --platform should not use a constant value"),
    always(rule::INVALID_CHECK_OPTION, "The check directive should hold options that exist"),
    always(
        rule::INVALID_DEFAULT_ARG_IN_FROM,
        "The default value of a global ARG should not result in an empty or invalid base image name",
    ),
    Rule {
        name: rule::INVALID_DEFINITION_DESCRIPTION,
        summary: "The comment above a stage or an ARG should begin with its name",
        shown: Shown::OnRequest,
    },
    always(
        rule::JSON_ARGS_RECOMMENDED,
        "ENTRYPOINT and CMD should be JSON arrays, so that signals reach the program",
    ),
    always(
        rule::LARGE_COPY_BEFORE_RUN,
        "What is large should be copied behind the last RUN, where it does not go to whoever carries that out",
    ),
    always(rule::LEGACY_KEY_VALUE_FORMAT, "ENV and LABEL should have an equals sign between key and value"),
    always(rule::MAINTAINER_DEPRECATED, "A label should be used instead of the MAINTAINER instruction"),
    always(
        rule::MULTIPLE_INSTRUCTIONS,
        "CMD, ENTRYPOINT and HEALTHCHECK should come once in a stage, since only the last counts",
    ),
    on_check(rule::MUTABLE_BASE_TAG, "Base images should have a digest, or at least a tag other than latest"),
    always(rule::NO_EMPTY_CONTINUATION, "Continued instructions should not have empty lines in them"),
    on_check(
        rule::NON_PORTABLE_ADD_SOURCE,
        "ADD should name places that every builder fetches from, unless only ocib builds the file",
    ),
    always(
        rule::REDUNDANT_TARGET_PLATFORM,
        "FROM --platform should not be set to $TARGETPLATFORM, which is the default",
    ),
    always(rule::RESERVED_STAGE_NAME, "Reserved words should not be used as stage names"),
    always(rule::SECRET_LIKE_VALUE, "Values of ARG and ENV should not be keys, tokens or passwords"),
    always(rule::SECRETS_IN_ARG_OR_ENV, "Sensitive data should not be used in ARG or ENV"),
    on_check(rule::SHADOWED_COPY, "A file should not be copied to where a later copy puts another"),
    always(rule::STAGE_NAME_CASING, "Stage names should be lowercase"),
    always(rule::UNDEFINED_ARG_IN_FROM, "FROM should only use ARGs that are declared"),
    always(rule::UNDEFINED_VAR, "Variables should be defined before their use"),
    always(
        rule::WORKDIR_RELATIVE_PATH,
        "A relative WORKDIR should follow an absolute one, so that it does not depend on the base",
    ),
];
