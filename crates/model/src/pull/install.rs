//! Putting verified contents into their places.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    PullError,
    journal::{Placed, Record, TEMPORARY, staged},
    place::{Place, State, There},
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
    let is_stale = |path: &String| !tree.contains_key(path);
    let stale_files =
        before.all_files().filter(|(path, _)| is_stale(path)).map(|(path, state)| (path.clone(), state));
    record.stale_files = stale_files.collect();
    record.stale = before.others().filter(|path| is_stale(path)).cloned().collect();
    if delete {
        let (files, others) = (std::mem::take(&mut record.stale_files), std::mem::take(&mut record.stale));
        done.removed = remove(place, files, others)?;
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
                record.links.insert(path.clone());
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

/// Removes what earlier pulls put here: files unless somebody wrote to them or put others in their place, directories
/// only if nothing else is in them.
fn remove(
    place: &Place,
    files: BTreeMap<String, State>,
    others: BTreeSet<String>,
) -> Result<usize, PullError> {
    let mut removed = 0;
    for (path, state) in files {
        if place.state(&path)?.is_some_and(|now| now.is_same_content(&state)) {
            place.remove(&path)?;
            removed += 1;
        }
    }
    // What is in a directory comes before it.
    for path in others.into_iter().rev() {
        removed += usize::from(match place.there(&path)? {
            Some(There::Directory) => place.remove_empty(&path),
            Some(There::Other) if place.target(&path).is_some() => {
                place.remove(&path)?;
                true
            }
            _ => false,
        });
    }
    Ok(removed)
}
