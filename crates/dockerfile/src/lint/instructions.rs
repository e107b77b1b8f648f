//! What single instructions and their repetition are warned of.

use super::{Warning, rule};
use crate::{Command, CommandLine, Dockerfile, Instruction, Pair, Span, Spanned, Stage};

/// Words that name a secret when a name holds one of them between underscores, unless it also holds
/// one of [`NO_SECRETS`] (BuildKit, `getSecretsRegex`).
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const NO_SECRETS: [&str; 3] = ["public", "file", "version"];

pub(super) fn check(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    dockerfile.global_args.iter().for_each(|instruction| single(instruction, warnings));
    // What a stage leaves to those that begin with it: whether SHELL and an absolute WORKDIR are set.
    let mut left = Vec::new();
    for stage in &dockerfile.stages {
        stage.instructions.iter().for_each(|instruction| single(instruction, warnings));
        repetitions(stage, warnings);
        let base = base_stage(dockerfile, stage);
        let inherited = base.and_then(|base| left.get(base.index)).copied().unwrap_or_default();
        left.push(settings(stage, inherited, warnings));
    }
}

/// The stage of this file that `stage` begins with.
pub(super) fn base_stage<'d>(dockerfile: &'d Dockerfile, stage: &Stage) -> Option<&'d Stage> {
    let named =
        |earlier: &&Stage| earlier.name.as_ref().is_some_and(|name| name.value == stage.from.image.value);
    dockerfile.stages[..stage.index].iter().rfind(named)
}

#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    shell: bool,
    workdir: bool,
}

fn settings(stage: &Stage, mut settings: Settings, warnings: &mut Vec<Warning>) -> Settings {
    for Instruction { command, span, .. } in &stage.instructions {
        match command {
            Command::Shell(_) => settings.shell = true,
            Command::Cmd(line) if !settings.shell => {
                json_recommended("CMD", line, *span, warnings);
            }
            Command::Entrypoint(line) if !settings.shell => {
                json_recommended("ENTRYPOINT", line, *span, warnings);
            }
            Command::Workdir(path) => {
                if !settings.workdir && !path.value.trim_matches(['"', '\'']).starts_with(['/', '$']) {
                    let message = format!(
                        "Relative workdir {:?} can have unexpected results if the base image changes",
                        path.value
                    );
                    warnings.push(Warning::new(rule::WORKDIR_RELATIVE_PATH, message, path.span));
                }
                settings.workdir = true;
            }
            _ => {}
        }
    }
    settings
}

fn json_recommended(instruction: &str, line: &CommandLine, span: Span, warnings: &mut Vec<Warning>) {
    if matches!(line, CommandLine::Shell(_)) {
        let message = format!(
            "JSON arguments recommended for {instruction} to prevent unintended behavior related to OS signals"
        );
        warnings.push(Warning::new(rule::JSON_ARGS_RECOMMENDED, message, span));
    }
}

/// The earlier one is reported, since it has no effect.
fn repetitions(stage: &Stage, warnings: &mut Vec<Warning>) {
    for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let of_kind = |instruction: &&Instruction| match instruction.command {
            Command::Cmd(_) => name == "CMD",
            Command::Entrypoint(_) => name == "ENTRYPOINT",
            Command::Healthcheck(_) => name == "HEALTHCHECK",
            _ => false,
        };
        let all: Vec<&Instruction> = stage.instructions.iter().filter(of_kind).collect();
        for ignored in all.iter().rev().skip(1) {
            let message = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            warnings.push(Warning::new(rule::MULTIPLE_INSTRUCTIONS, message, ignored.span));
        }
    }
}

fn single(instruction: &Instruction, warnings: &mut Vec<Warning>) {
    match &instruction.command {
        Command::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            warnings.push(Warning::new(rule::MAINTAINER_DEPRECATED, message, instruction.span));
        }
        Command::Env(pairs) => {
            legacy("ENV", pairs, warnings);
            pairs.iter().for_each(|pair| secret("ENV", &pair.key, warnings));
        }
        Command::Label(pairs) => legacy("LABEL", pairs, warnings),
        Command::Arg(pairs) => pairs.iter().for_each(|pair| secret("ARG", &pair.key, warnings)),
        Command::Expose(ports) => ports.iter().for_each(|port| expose(port, warnings)),
        _ => {}
    }
}

fn legacy(instruction: &str, pairs: &[Pair], warnings: &mut Vec<Warning>) {
    for pair in pairs.iter().filter(|pair| pair.legacy) {
        let message = format!(
            "\"{instruction} key=value\" should be used instead of legacy \"{instruction} key value\" format"
        );
        warnings.push(Warning::new(rule::LEGACY_KEY_VALUE_FORMAT, message, pair.span));
    }
}

fn secret(instruction: &str, key: &Spanned<String>, warnings: &mut Vec<Warning>) {
    if is_secret_name(&key.value) {
        let message =
            format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {:?})", key.value);
        warnings.push(Warning::new(rule::SECRETS_IN_ARG_OR_ENV, message, key.span));
    }
}

/// Whether what is called so is probably a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let holds = |words: &[&str]| name.split('_').any(|part| words.contains(&part));
    holds(&SECRETS) && !holds(&NO_SECRETS)
}

fn expose(port: &Spanned<String>, warnings: &mut Vec<Warning>) {
    let value = port.value.as_str();
    if value.contains('$') {
        return;
    }
    if value.contains(':') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{value}'"
        );
        warnings.push(Warning::new(rule::EXPOSE_INVALID_FORMAT, message, port.span));
    }
    if value.rsplit_once('/').is_some_and(|(_, protocol)| protocol.contains(char::is_uppercase)) {
        let message = format!("Defined protocol '{value}' in EXPOSE instruction should be lowercase");
        warnings.push(Warning::new(rule::EXPOSE_PROTO_CASING, message, port.span));
    }
}
