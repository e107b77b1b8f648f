//! Layers put upon each other: what is to be at each path in the end.

use std::collections::BTreeMap;

use ocib_image::Digest;

use super::{
    PullError, Scope,
    entry::{Entry, Kind},
};

/// The content of a file: the entry of that number in that layer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Content {
    pub(super) layer: Digest,
    pub(super) entry: usize,
}

/// What is to be at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Directory {
        mode: u32,
    },
    /// Several paths with the same content are names of one file, unless that is a layer of its own.
    File(Content),
    Symlink(String),
}

/// The paths, parents before what is in them.
pub(super) type Tree = BTreeMap<String, Node>;

/// Puts `entries` of one layer upon `tree`, as image-spec has it: first its whiteouts, which are about lower
/// layers only, then its entries in their order.
pub(super) fn apply(tree: &mut Tree, scope: &Scope, entries: &[Entry]) -> Result<(), PullError> {
    for entry in entries {
        match entry.kind {
            Kind::Whiteout => remove(tree, &entry.path),
            Kind::Opaque => remove_below(tree, &entry.path),
            _ => {}
        }
    }
    for (number, entry) in entries.iter().enumerate() {
        let path = &entry.path;
        let node = match &entry.kind {
            Kind::Whiteout | Kind::Opaque => continue,
            Kind::Directory if path.is_empty() => continue,
            Kind::Directory => Node::Directory { mode: entry.mode },
            Kind::File { .. } => Node::File(Content { layer: scope.layer, entry: number }),
            Kind::Symlink(target) => Node::Symlink(target.clone()),
            Kind::Hardlink(target) => match tree.get(target) {
                Some(node @ (Node::File(_) | Node::Symlink(_))) => node.clone(),
                _ => {
                    return Err(scope.hostile(
                        path.as_bytes(),
                        format!("it is a hard link to {target}, which is no file before it"),
                    ));
                }
            },
        };
        check_parents(tree, scope, path)?;
        if !matches!(node, Node::Directory { .. }) || !matches!(tree.get(path), Some(Node::Directory { .. }))
        {
            remove(tree, path);
        }
        tree.insert(path.clone(), node);
    }
    Ok(())
}

/// Nothing is put behind a link: where that leads is for whoever unpacks to say, and they differ.
fn check_parents(tree: &Tree, scope: &Scope, path: &str) -> Result<(), PullError> {
    for (at, _) in path.match_indices('/') {
        if let Some(Node::Symlink(_) | Node::File(_)) = tree.get(&path[..at]) {
            let why = format!("it is below {}, which is no directory", &path[..at]);
            return Err(scope.hostile(path.as_bytes(), why));
        }
    }
    Ok(())
}

fn remove(tree: &mut Tree, path: &str) {
    if matches!(tree.remove(path), Some(Node::Directory { .. }) | None) {
        remove_below(tree, path);
    }
}

/// Removes what is below `path`, which is all if that is the top.
pub(super) fn remove_below<T>(tree: &mut BTreeMap<String, T>, path: &str) {
    if path.is_empty() {
        return tree.clear();
    }
    // `0` is what follows `/`, so this is all that begins with `path/`.
    let below: Vec<String> =
        tree.range(format!("{path}/")..format!("{path}0")).map(|(path, _)| path.clone()).collect();
    below.iter().for_each(|path| drop(tree.remove(path)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(number: u8, entries: &[(&str, Kind)]) -> (Scope, Vec<Entry>) {
        let scope = Scope { layer: Digest::of(&[number]), prefix: String::new(), takes_all: false };
        let entries = entries.iter().map(|(path, kind)| Entry {
            path: (*path).to_owned(),
            kind: kind.clone(),
            mode: 0o644,
            mtime: (0, 0),
        });
        (scope, entries.collect())
    }

    fn file() -> Kind {
        Kind::File { bytes: 1, digest: None }
    }

    fn shown(layers: &[(Scope, Vec<Entry>)]) -> Result<Vec<String>, String> {
        let mut tree = Tree::new();
        for (scope, entries) in layers {
            apply(&mut tree, scope, entries).map_err(|error| match error {
                PullError::Hostile { why, .. } => why,
                error => error.to_string(),
            })?;
        }
        let number = |digest| layers.iter().position(|(scope, _)| scope.layer == digest).unwrap();
        Ok(tree
            .iter()
            .map(|(path, node)| match node {
                Node::Directory { .. } => format!("{path}/"),
                Node::File(content) => format!("{path}={}.{}", number(content.layer), content.entry),
                Node::Symlink(target) => format!("{path}->{target}"),
            })
            .collect())
    }

    #[test]
    fn upper_layers_win() {
        let base = || layer(0, &[("d", Kind::Directory), ("d/a", file()), ("d/b", file()), ("d0", file())]);
        for (upper, expected) in [
            (&[("d/a", file())][..], &["d/", "d/a=1.0", "d/b=0.2", "d0=0.3"][..]),
            (&[("d/a", Kind::Whiteout)], &["d/", "d/b=0.2", "d0=0.3"]),
            (&[("d", Kind::Whiteout)], &["d0=0.3"]),
            (&[("d/c", file()), ("d", Kind::Opaque)], &["d/", "d/c=1.0", "d0=0.3"]),
            (&[("", Kind::Opaque), ("x", file())], &["x=1.1"]),
            (&[("d", file())], &["d=1.0", "d0=0.3"]),
            (&[("d", Kind::Directory)], &["d/", "d/a=0.1", "d/b=0.2", "d0=0.3"]),
            (
                &[("h", Kind::Hardlink("d/a".into())), ("d/a", file())],
                &["d/", "d/a=1.1", "d/b=0.2", "d0=0.3", "h=0.1"],
            ),
            (
                &[("d0", file()), ("d0", Kind::Symlink("d/a".into()))],
                &["d/", "d/a=0.1", "d/b=0.2", "d0->d/a"],
            ),
        ] {
            assert_eq!(shown(&[base(), layer(1, upper)]).unwrap(), expected, "{upper:?}");
        }
    }

    #[test]
    fn nothing_goes_behind_links() {
        let lower = layer(0, &[("l", Kind::Symlink("d".into()))]);
        let wrong = shown(&[lower.clone(), layer(1, &[("l/x", file())])]).unwrap_err();
        assert_eq!(wrong, "it is below l, which is no directory");
        let wrong = shown(&[lower, layer(1, &[("h", Kind::Hardlink("none".into()))])]).unwrap_err();
        assert_eq!(wrong, "it is a hard link to none, which is no file before it");
    }
}
