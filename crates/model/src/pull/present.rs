//! Which contents are here already, from this pull or an earlier one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ocib_image::Digest;

use super::{
    PullError,
    entry::Kind,
    journal::{KnownLayer, Record, staged},
    place::{Place, State},
    ranges, stream,
    tree::{Content, Node, Tree},
};

/// Where the contents of a tree are, and those that are nowhere.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub(super) at: BTreeMap<Content, String>,
    pub(super) missing: BTreeSet<Digest>,
}

/// What is asked when contents are looked for.
pub(super) struct Search<'a> {
    pub(super) place: &'a Place,
    pub(super) record: &'a Record,
    pub(super) known: &'a HashMap<Digest, KnownLayer>,
    /// Whether no state is believed.
    pub(super) verify: bool,
}

impl Search<'_> {
    /// Looks for each content of the tree: under its temporary name, where the last pull put it, and where
    /// it belongs, as an interrupted pull may have got as far as that. A state that is remembered is
    /// believed; else the bytes are read.
    pub(super) fn run(&self, tree: &Tree) -> Result<Present, PullError> {
        let mut candidates: BTreeMap<Content, BTreeSet<&str>> = BTreeMap::new();
        for (path, node) in tree {
            if let Node::File(content) = node {
                candidates.entry(*content).or_default().insert(path);
            }
        }
        for (path, placed) in &self.record.files {
            let content = Content { layer: placed.layer, entry: placed.entry };
            if let Some(paths) = candidates.get_mut(&content) {
                paths.insert(path);
            }
        }
        let (mut present, mut doubtful) = (Present::default(), BTreeMap::new());
        for (content, paths) in candidates {
            match self.look(content, &paths)? {
                Found::Sure(path) => drop(present.at.insert(content, path)),
                Found::Doubtful(path) => drop(doubtful.insert(content, path)),
                Found::Nothing => drop(present.missing.insert(content.layer)),
            }
        }
        self.judge(&doubtful, &mut present)?;
        Ok(present)
    }

    fn look(&self, content: Content, paths: &BTreeSet<&str>) -> Result<Found, PullError> {
        let Some(known) = self.known.get(&content.layer) else { return Ok(Found::Nothing) };
        let Some(Kind::File { bytes, .. }) = known.entries.get(content.entry).map(|entry| &entry.kind) else {
            return Ok(Found::Nothing);
        };
        let name = staged(content.layer, content.entry);
        let remembered = |path: &str| -> Option<State> {
            if path == name {
                return known.staged.get(&content.entry).copied();
            }
            let placed = self.record.files.get(path)?;
            ((placed.layer, placed.entry) == (content.layer, content.entry)).then_some(placed.state)
        };
        let mut doubtful = None;
        for path in [name.as_str()].iter().chain(paths) {
            let Some(state) = self.place.state(path)?.filter(|state| state.bytes == *bytes) else { continue };
            if !self.verify && remembered(path) == Some(state) {
                return Ok(Found::Sure((*path).to_owned()));
            }
            doubtful.get_or_insert_with(|| (*path).to_owned());
        }
        Ok(doubtful.map_or(Found::Nothing, Found::Doubtful))
    }

    /// Reads what cannot be believed: a file where it has a digest of its own, all of a layer else.
    fn judge(&self, doubtful: &BTreeMap<Content, String>, present: &mut Present) -> Result<(), PullError> {
        let mut whole: BTreeMap<Digest, bool> = BTreeMap::new();
        for (content, path) in doubtful {
            let known = &self.known[&content.layer];
            let is_right = match &known.entries[content.entry].kind {
                Kind::File { bytes, digest: Some(digest) } => {
                    let actual = stream::file_digest(&self.place.read(path)?, *bytes);
                    actual.is_ok_and(|actual| actual == *digest)
                }
                _ => *whole.entry(content.layer).or_insert_with(|| {
                    let of_layer = |(content, path): (&Content, &String)| (content.entry, path.clone());
                    let is_of = |content: &Content| content.layer == known.layer;
                    let sure = present.at.iter().filter(|(content, _)| is_of(content)).map(of_layer);
                    let others = doubtful.iter().filter(|(content, _)| is_of(content)).map(of_layer);
                    ranges::is_whole(self.place, known, &sure.chain(others).collect())
                }),
            };
            match is_right {
                true => drop(present.at.insert(*content, path.clone())),
                false => drop(present.missing.insert(content.layer)),
            }
        }
        Ok(())
    }
}

enum Found {
    Sure(String),
    /// Of the right size, and nothing more is known.
    Doubtful(String),
    Nothing,
}
