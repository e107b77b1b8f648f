//! Files that are copied twice to the same place.

use super::{Warning, copies::clean, rule};
use crate::{Command, Dockerfile, Span, Stage, Transfer};

/// The bytes of the earlier copy stay in its layer, where nobody sees them.
pub(super) fn check(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) {
    for stage in &dockerfile.stages {
        in_stage(dockerfile, stage, warnings);
    }
}

/// A source of a COPY that has its place in the image by the text alone.
struct Copied<'d> {
    from: Option<&'d str>,
    source: &'d str,
    destination: String,
    /// Whether it is a file rather than a directory, whose entries would be added to others.
    is_file: bool,
    span: Span,
}

impl Copied<'_> {
    fn is_shadowed_by(&self, later: &Self) -> bool {
        let is_same = self.from == later.from && self.source == later.source;
        self.destination == later.destination && (is_same || self.is_file && later.is_file)
    }
}

fn in_stage(dockerfile: &Dockerfile, stage: &Stage, warnings: &mut Vec<Warning>) {
    // Where relative paths begin; that of the base is not known, but stays the same.
    let mut workdir = Some(".".to_owned());
    let mut earlier: Vec<Copied<'_>> = Vec::new();
    for instruction in &stage.instructions {
        match &instruction.command {
            // It may need what was copied before.
            Command::Run(_) => earlier.clear(),
            Command::Workdir(path) => workdir = within(workdir.as_deref(), &path.value),
            Command::Copy(transfer) => {
                for copied in copied(transfer, workdir.as_deref(), instruction.span) {
                    for shadowed in earlier.extract_if(.., |earlier| earlier.is_shadowed_by(&copied)) {
                        let line = dockerfile.position(copied.span.start).line;
                        let message = format!(
                            "{:?} is copied again in line {line}, so this copy only makes the image larger",
                            shadowed.destination
                        );
                        warnings.push(Warning::new(rule::SHADOWED_COPY, message, shadowed.span));
                    }
                    earlier.push(copied);
                }
            }
            _ => {}
        }
    }
}

fn copied<'d>(transfer: &'d Transfer, workdir: Option<&str>, span: Span) -> Vec<Copied<'d>> {
    let Some(destination) = within(workdir, &transfer.destination.value) else { return Vec::new() };
    if transfer.parents || !transfer.exclude.is_empty() {
        return Vec::new();
    }
    let is_single = transfer.sources.len() + transfer.heredocs.len() == 1;
    let written = transfer.destination.value.as_str();
    let into_directory = !is_single || matches!(written.rsplit('/').next(), Some("" | "." | ".."));
    let place = |source: &str| match into_directory {
        true if !clean(source).is_empty() => {
            format!("{}/{}", destination.trim_end_matches('/'), last(source))
        }
        _ => destination.clone(),
    };
    let from = transfer.from.as_ref().map(|from| from.value.as_str());
    let paths = transfer.sources.iter().filter(|source| !source.value.contains(['$', '*', '?', '[', '\\']));
    let paths = paths.map(|source| (source.value.as_str(), source.span, has_extension(&source.value)));
    let heredocs = transfer.heredocs.iter().map(|heredoc| (heredoc.name.as_str(), heredoc.span, true));
    let copied = |(source, own, is_file): (&'d str, Span, bool)| Copied {
        from,
        source,
        destination: place(source),
        is_file: is_file && (into_directory || has_extension(&destination)),
        span: if is_single { span } else { own },
    };
    paths.chain(heredocs).map(copied).collect()
}

/// `path` as seen from `workdir`; `None` if a variable has a say in it.
fn within(workdir: Option<&str>, path: &str) -> Option<String> {
    let path = path.trim_matches(['"', '\'']);
    if path.contains('$') {
        return None;
    }
    if path.starts_with('/') {
        return Some(format!("/{}", clean(path)));
    }
    let workdir = workdir?;
    let root = if workdir.starts_with('/') { "/" } else { "./" };
    Some(format!("{root}{}", clean(&format!("{workdir}/{path}"))))
}

fn last(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Whether a path ends as files do. `conf.d` is a directory by custom, `jdk-17.0` and `.git` are
/// directories more often than not.
fn has_extension(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').is_some_and(|(stem, extension)| {
        !stem.is_empty()
            && extension != "d"
            && extension.starts_with(|first: char| first.is_ascii_alphabetic())
    })
}
