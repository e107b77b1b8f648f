//! What a stage needs, as far as the text tells.

use std::collections::BTreeSet;

use super::{Warning, instructions::base_stage};
use crate::{Command, Dockerfile, Instruction, Stage};

/// Leaves out what stages have that `target` does not need. What stands before the first stage
/// stays.
pub(super) fn keep_needed(dockerfile: &Dockerfile, target: usize, warnings: &mut Vec<Warning>) {
    let needed = needed(dockerfile, target);
    let starts: Vec<usize> = dockerfile.stages.iter().map(|stage| stage.span.start).collect();
    warnings.retain(|warning| {
        let begun = starts.partition_point(|start| *start <= warning.span.start);
        begun.checked_sub(1).is_none_or(|stage| needed.contains(&stage))
    });
}

/// The numbers of the stages that `target` needs.
pub(super) fn needed(dockerfile: &Dockerfile, target: usize) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut todo = vec![target];
    while let Some(stage) = todo.pop().and_then(|index| dockerfile.stages.get(index)) {
        if needed.insert(stage.index) {
            todo.extend(base_stage(dockerfile, stage).map(|base| base.index));
            let named = stage.instructions.iter().flat_map(named_sources);
            todo.extend(named.filter_map(|name| source_stage(dockerfile, stage, name)));
        }
    }
    needed
}

/// What `--from` of a COPY and `from=` of a RUN's mounts name.
fn named_sources(instruction: &Instruction) -> Vec<&str> {
    match &instruction.command {
        Command::Copy(transfer) => transfer.from.iter().map(|from| from.value.as_str()).collect(),
        Command::Run(run) => run.mounts.iter().filter_map(|mount| mount.option("from")).collect(),
        _ => Vec::new(),
    }
}

/// The last stage before `current` with that name, or number.
fn source_stage(dockerfile: &Dockerfile, current: &Stage, name: &str) -> Option<usize> {
    let earlier = &dockerfile.stages[..current.index];
    let lower = name.to_lowercase();
    let named = earlier.iter().rposition(|stage| stage.name.as_ref().is_some_and(|own| own.value == lower));
    named.or_else(|| name.parse().ok().filter(|index| *index < current.index))
}
