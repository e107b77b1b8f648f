//! What went wrong with a COPY, said of its place in the Dockerfile.

use std::sync::Arc;

use ocib_dockerfile::Span;
use ocib_image::Tree;

use crate::{
    Error, Problem,
    error::similar,
    files::{CopyError, Files, MakeError},
    path,
};

/// Whom to blame for what goes wrong with a source.
pub(super) struct Blame<'a> {
    pub(super) step_span: Span,
    pub(super) from: Option<(&'a dyn Files, &'a str)>,
}

impl Blame<'_> {
    pub(super) fn make(&self, error: MakeError) -> Error {
        self.copy(error.into())
    }

    pub(super) fn copy(&self, error: CopyError) -> Error {
        let text = |path: Vec<u8>| String::from_utf8_lossy(&path).into_owned();
        let problem = match error {
            CopyError::NotFound(path) => self.not_found(path),
            CopyError::BadPattern => {
                Problem::BadWildcard { pattern: self.from.map_or("", |(_, source)| source).to_owned() }
            }
            CopyError::NotADirectory(path) => Problem::NotADirectory { path: text(path) },
            CopyError::OverDirectory(path) => Problem::OverDirectory { path: text(path) },
            CopyError::OverFile(path) => Problem::OverFile { path: text(path) },
            CopyError::Layer(error) => Problem::Layer(error),
        };
        problem.at(self.step_span)
    }

    fn not_found(&self, path: String) -> Problem {
        let place = path::clean(path.as_bytes());
        let Some((from, _)) = self.from else {
            return Problem::NotFound { path, is_ignored: false, similar: Vec::new() };
        };
        let is_there = |tree: Arc<dyn Tree>| tree.stat(&place).ok().flatten().is_some();
        let parent = path::parent(&place);
        let names = from.names(parent).unwrap_or_default();
        let names: Vec<String> =
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let wanted = String::from_utf8_lossy(path::base(&place)).into_owned();
        let full = |name: String| match parent {
            b"" => name,
            parent => format!("{}/{name}", String::from_utf8_lossy(parent)),
        };
        // A link whose target is missing can be seen, and need not be proposed.
        let is_seen = names.contains(&wanted);
        let others = names.iter().map(String::as_str).filter(|name| *name != wanted);
        Problem::NotFound {
            is_ignored: !is_seen && from.tree().is_some_and(is_there),
            similar: similar(&wanted, others).into_iter().map(full).collect(),
            path,
        }
    }
}
