//! Comments that are taken for descriptions.

use super::{Warning, rule};
use crate::{Command, Dockerfile, Span};

/// A comment right above a named stage or an ARG describes it to `docker build --call=outline`, and
/// is to begin with its name (BuildKit, `validateDefinitionDescription`).
pub(super) fn check(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    let in_stages = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    for instruction in dockerfile.global_args.iter().chain(in_stages) {
        if let Command::Arg(pairs) = &instruction.command {
            let names: Vec<&str> = pairs.iter().map(|pair| pair.key.value.as_str()).collect();
            description(dockerfile, "ARG", &names, instruction.span, warnings);
        }
    }
    for stage in &dockerfile.stages {
        let name = stage.name.as_ref().map(|name| name.value.as_str());
        description(dockerfile, "FROM", name.as_slice(), stage.span, warnings);
    }
}

fn description(
    dockerfile: &Dockerfile,
    instruction: &str,
    names: &[&str],
    span: Span,
    warnings: &mut Vec<Warning>,
) {
    let Some(comment) = comment_above(dockerfile, span) else { return };
    let first = comment.split(' ').next().unwrap_or_default();
    let wanted = match names {
        [] => return,
        names if names.contains(&first) => return,
        [name] => name,
        _ => "<arg_key>",
    };
    let message = format!("Comment for {instruction} should follow the format: `# {wanted} <description>`");
    warnings.push(Warning::new(rule::INVALID_DEFINITION_DESCRIPTION, message, span));
}

/// The text of the comment in the line before; a blank comment and a directive are none.
fn comment_above(dockerfile: &Dockerfile, span: Span) -> Option<&str> {
    let (above, _) = dockerfile.text[..span.start].rsplit_once('\n')?;
    let start = above.rfind('\n').map_or(0, |newline| newline + 1);
    let line = above[start..].trim_start_matches('\u{feff}').trim();
    let comment = line.strip_prefix('#')?.trim();
    let directives = &dockerfile.directives;
    let mut directives = [&directives.syntax, &directives.escape, &directives.check].into_iter().flatten();
    let is_directive = directives.any(|directive| (start..above.len()).contains(&directive.span.start));
    (!comment.is_empty() && !is_directive).then_some(comment)
}
