//! Putting verified contents into their places.

use std::collections::BTreeMap;

use super::{
    PullError,
    journal::{Placed, Record, Stale, TEMPORARY, staged},
    place::Place,
    present::Present,
    tree::{Content, Node, Tree},
};

/// What was done to the directory.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Installed {
    /// Files that were put into place.
    pub(super) placed: usize,
    /// Files that were there already.
    pub(super) kept: usize,
    /// Files, links and directories of earlier pulls that were removed.
    pub(super) removed: usize,
}

/// Makes the directory what `tree` says, out of the contents that are `present`. Every step leaves each
/// content under a name that the next pull looks at, so it can end at any moment.
pub(super) fn install(
    place: &Place,
    tree: &Tree,
    present: Present,
    before: &Record,
    delete: bool,
) -> Result<(Installed, Record), PullError> {
    let mut done = Installed::default();
    let mut at = present.at;
    move_aside(place, tree, &mut at)?;
    let mut record = Record::new(&before.image);
    record.stale = before.stale(|path| !tree.contains_key(path));
    if delete {
        done.removed = remove(place, std::mem::take(&mut record.stale))?;
    }
    for (path, node) in tree {
        if let Node::Directory { mode } = node {
            place.directory(path, Some(*mode))?;
            record.directories.insert(path.clone());
        }
    }
    let mut names: BTreeMap<Content, Vec<&String>> = BTreeMap::new();
    for (path, node) in tree {
        if let Node::File(content) = node {
            names.entry(*content).or_default().push(path);
        }
    }
    for (content, paths) in &names {
        let now = at.get(content).ok_or(PullError::GivenUp)?;
        files(place, now, paths, &mut done)?;
    }
    for (path, node) in tree {
        match node {
            Node::Symlink(target) => {
                if place.target(path).as_ref() != Some(target) {
                    place.symlink(target, TEMPORARY, path)?;
                }
                record.links.insert(path.clone(), target.clone());
            }
            Node::File(Content { layer, entry }) => {
                let state = place.state(path)?.ok_or(PullError::GivenUp)?;
                record.files.insert(path.clone(), Placed { layer: *layer, entry: *entry, state });
            }
            Node::Directory { .. } => {}
        }
    }
    Ok((done, record))
}

/// Contents that are where something else belongs now get back their temporary names.
fn move_aside(place: &Place, tree: &Tree, at: &mut BTreeMap<Content, String>) -> Result<(), PullError> {
    for (content, path) in at.iter_mut() {
        let name = staged(content.layer, content.entry);
        if *path != name && tree.get(path) != Some(&Node::File(*content)) {
            place.rename(path, &name)?;
            *path = name;
        }
    }
    Ok(())
}

/// One content, and all names that it is to have.
fn files(place: &Place, now: &str, paths: &[&String], done: &mut Installed) -> Result<(), PullError> {
    let (first, others) = match paths.iter().position(|path| *path == now) {
        Some(kept) => {
            done.kept += 1;
            (
                now,
                paths
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| *at != kept)
                    .map(|(_, path)| *path)
                    .collect::<Vec<_>>(),
            )
        }
        None => {
            let [first, others @ ..] = paths else { return Ok(()) };
            place.rename(now, first)?;
            done.placed += 1;
            (first.as_str(), others.to_vec())
        }
    };
    let inode = |path: &str| Ok::<_, PullError>(place.state(path)?.map(|state| state.inode));
    for path in others {
        if inode(path)? == inode(first)? {
            done.kept += 1;
        } else {
            place.link(first, TEMPORARY, path)?;
            done.placed += 1;
        }
    }
    Ok(())
}

/// Removes what earlier pulls put here: files and links unless somebody wrote to them or put others in their place,
/// directories only if nothing else is in them.
fn remove(place: &Place, stale: Stale) -> Result<usize, PullError> {
    let mut removed = 0;
    for (path, state) in stale.files {
        if place.state(&path)?.is_some_and(|now| now.is_same_content(&state)) {
            place.remove(&path)?;
            removed += 1;
        }
    }
    for (path, target) in stale.links {
        if place.target(&path).is_some_and(|now| now == target) {
            place.remove(&path)?;
            removed += 1;
        }
    }
    // What is in a directory comes before it.
    let removable = stale.directories.iter().rev().filter(|path| place.remove_empty(path));
    Ok(removed + removable.count())
}
