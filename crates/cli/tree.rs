//! Files out of contexts that are no directories of this machine.

use std::io::Read;

use ocib_dockerfile::Patterns;
use ocib_image::{LayerError, NodeKind, Tree};

use crate::{
    diagnostic::Failure,
    dockerfile::{TEXT_MAX, patterns},
};

/// As many links as containerd follows within a root.
const LINKS_MAX: usize = 255;

/// A file of a tree as text, if it is there. Links are followed within the tree.
pub(crate) fn read(tree: &dyn Tree, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::input(format!("cannot read {name}: {error}"));
    let Some(path) = follow(tree, name.as_bytes()).map_err(|error| bad(&error))? else { return Ok(None) };
    let mut bytes = Vec::new();
    let file = tree.open(&path, 0).map_err(|error| bad(&error))?;
    file.take(TEXT_MAX).read_to_end(&mut bytes).map_err(|error| bad(&error))?;
    Ok(Some(bytes))
}

/// The ignore file of the Dockerfile `name`, else that of the context.
pub(crate) fn ignored(tree: &dyn Tree, name: Option<&str>) -> Result<Patterns, Failure> {
    if let Some(own) = name.map(|name| format!("{name}.dockerignore"))
        && let Some(text) = read(tree, &own)?
    {
        return patterns(&own, &text);
    }
    patterns(".dockerignore", &read(tree, ".dockerignore")?.unwrap_or_default())
}

/// Where `path` leads in the tree; `None` if that is nowhere.
fn follow(tree: &dyn Tree, path: &[u8]) -> Result<Option<Vec<u8>>, LayerError> {
    let mut todo = names(path);
    let mut at: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            at.pop();
            continue;
        }
        at.push(name);
        let Some(node) = tree.stat(&at.join(&b'/'))? else { return Ok(None) };
        if let NodeKind::Symlink(target) = node.kind {
            links += 1;
            if links > LINKS_MAX {
                return Ok(None);
            }
            at.pop();
            if target.starts_with(b"/") {
                at.clear();
            }
            todo.extend(names(&target));
        }
    }
    Ok(Some(at.join(&b'/')))
}

/// The names of a path, the last one first.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let mut names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
    names.reverse();
    names
}
