//! Putting verified contents into their places.

use std::collections::{BTreeMap, BTreeSet};

use ocib_image::Digest;

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

/// What becomes of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Install<'a> {
    pub(super) place: &'a Place,
    pub(super) tree: &'a Tree,
    pub(super) before: &'a Record,
    /// Layers that are a file: where several are equal they are one layer, and files of their own all the same.
    pub(super) single: &'a BTreeSet<Digest>,
    /// Whether what the tree has no more is removed.
    pub(super) delete: bool,
    /// Whether no state is believed.
    pub(super) verify: bool,
}

/// Makes the directory what the tree says, out of the contents that are `present`. Every step leaves each
/// content under a name that the next pull looks at, so it can end at any moment.
pub(super) fn install(install: Install<'_>, present: Present) -> Result<(Installed, Record), PullError> {
    let Install { place, tree, before, delete, .. } = install;
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
        install.files(*content, now, paths, &mut done)?;
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

impl Install<'_> {
    /// One content, and all names that it is to have.
    fn files(
        &self,
        content: Content,
        now: &str,
        paths: &[&String],
        done: &mut Installed,
    ) -> Result<(), PullError> {
        let kept = paths.iter().position(|path| *path == now);
        let first = match (kept, paths) {
            (Some(_), _) => now,
            (None, [first, ..]) => {
                self.place.rename(now, first)?;
                first
            }
            (None, []) => return Ok(()),
        };
        *(if kept.is_some() { &mut done.kept } else { &mut done.placed }) += 1;
        let first_number = kept.unwrap_or(0);
        for (_, path) in paths.iter().enumerate().filter(|(number, _)| *number != first_number) {
            match self.is_kept(content, first, path)? {
                true => done.kept += 1,
                false => done.placed += 1,
            }
        }
        Ok(())
    }

    /// Gives a content that is at `first` one more name, unless that has it. Whether it had.
    fn is_kept(&self, content: Content, first: &str, path: &str) -> Result<bool, PullError> {
        let place = self.place;
        if place.is_one_file(first, path) || (!self.verify && self.remembers(content, path)?) {
            return Ok(true);
        }
        let is_link = !self.single.contains(&content.layer);
        if is_link && place.link(first, TEMPORARY, path)? {
            return Ok(false);
        }
        if place.is_equal(first, path)? {
            return Ok(true);
        }
        place.copy(first, TEMPORARY, path)?;
        Ok(false)
    }

    /// Whether the last pull put the content there, and nobody was there since.
    fn remembers(&self, content: Content, path: &str) -> Result<bool, PullError> {
        let Some(placed) = self.before.files.get(path) else { return Ok(false) };
        let is_it = (placed.layer, placed.entry) == (content.layer, content.entry);
        Ok(is_it && self.place.state(path)? == Some(placed.state))
    }
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
