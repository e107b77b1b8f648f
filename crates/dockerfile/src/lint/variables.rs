//! Variables that nothing sets.

use std::collections::BTreeSet;

use super::{Warning, instructions::base_stage, rule};
use crate::{Command, Dockerfile, Expander, Instruction, Spanned, Stage, Transfer, suggest};

/// Arguments that mean something without being variables (BuildKit, `nonEnvArgs`).
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Only for stages that begin with `scratch` in the end: what an image's environment holds is not
/// known here.
pub(super) fn check(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    let mut left: Vec<Option<BTreeSet<String>>> = Vec::new();
    for stage in &dockerfile.stages {
        let mut known = match base_stage(dockerfile, stage) {
            Some(base) => left[base.index].clone(),
            None if stage.from.image.value == "scratch" => Some(BTreeSet::from(["PATH".to_owned()])),
            None => None,
        };
        if let Some(known) = &mut known {
            instructions(dockerfile.escape, stage, known, warnings);
        }
        left.push(known);
    }
}

fn instructions(escape: char, stage: &Stage, known: &mut BTreeSet<String>, warnings: &mut Vec<Warning>) {
    for instruction in &stage.instructions {
        // One ARG after the other is set, but all of an ENV at once.
        if let Command::Arg(pairs) = &instruction.command {
            for pair in pairs {
                let words = [Some(&pair.key), pair.value.as_ref()];
                words.into_iter().flatten().for_each(|word| undefined(escape, word, known, warnings));
                known.insert(pair.key.value.clone());
            }
            continue;
        }
        expanding(instruction).into_iter().for_each(|word| undefined(escape, word, known, warnings));
        if let Command::Env(pairs) = &instruction.command {
            known.extend(pairs.iter().map(|pair| pair.key.value.clone()));
        }
    }
}

/// The words of an instruction that expand.
fn expanding(instruction: &Instruction) -> Vec<&Spanned<String>> {
    match &instruction.command {
        Command::Add(transfer) | Command::Copy(transfer) => {
            let Transfer { sources, destination, chown, chmod, checksum, .. } = transfer;
            let flags = [chown, chmod, checksum].into_iter().flatten();
            flags.chain(sources).chain([destination]).collect()
        }
        Command::Env(pairs) | Command::Label(pairs) => {
            pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect()
        }
        Command::Expose(words) | Command::Volume(words) => words.iter().collect(),
        Command::StopSignal(word) | Command::User(word) | Command::Workdir(word) => vec![word],
        _ => Vec::new(),
    }
}

fn undefined(escape: char, word: &Spanned<String>, known: &BTreeSet<String>, warnings: &mut Vec<Warning>) {
    let variables = |name: &str| known.contains(name).then(|| "x".to_owned());
    let Ok(expansion) = Expander::new(escape).expand(&word.value, &variables) else { return };
    for name in expansion.undefined.iter().filter(|name| !NO_VARIABLES.contains(&name.as_str())) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let hint = suggest::nearest(name, &names).map(|near| format!(" (did you mean ${near}?)"));
        let message = format!("Usage of undefined variable '${name}'{}", hint.unwrap_or_default());
        warnings.push(Warning::new(rule::UNDEFINED_VAR, message, word.span));
    }
}
