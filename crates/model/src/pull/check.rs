//! Whether KServe finds in an image what it expects, told from headers of the layers.
//!
//! KServe has three ways to a model in an image, each with needs of its own:
//!
//! - `oci://`, a sidecar: `sh -c "ln -sf /proc/$$/root/models /mnt && sleep infinity"` runs in the image, as UID
//!   1010 or whatever a namespace of OpenShift gives, always in group 0 (storage.go, `uidModelcar`); an init
//!   container of the image looks before whether `ls -A /models` finds anything;
//! - `oci+native://`, an image volume: the runtime mounts the image, which it must take for an ordinary one;
//! - `oci+fetch://`, an init container that unpacks `/models`.

use std::collections::{BTreeMap, BTreeSet};

use ocib_image::{Config, EntryKind, Image, TarEntry};

use super::{
    PullError,
    entry::{self, Names},
    index::members,
    source::{self, Source},
    tree::remove_below,
};

/// The user that KServe runs a sidecar as, unless OpenShift chooses another one.
const KSERVE_UID: u32 = 1010;
/// Any user that no image knows.
const ARBITRARY_UID: u32 = 1_000_650_000;
/// What KServe's two containers of the image run, beside what a shell has built in.
const PROGRAMS: [&str; 4] = ["ln", "ls", "sh", "sleep"];
/// Where programs are looked for if the image has no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Links that are followed on the way to a program, as Linux has it.
const LINKS_MAX: usize = 40;
/// Compressed weights of this size are worth a word: a node unpacks them before anything can start.
const LARGE_BYTES: u64 = 64 << 20;
/// Names that are given in one finding.
const NAMES_MAX: usize = 3;

/// A way from an image to a model server of KServe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Way {
    /// `oci://`: a container beside the server.
    Sidecar,
    /// `oci+native://`: a volume of type image.
    Volume,
    /// `oci+fetch://`: unpacked before the server starts.
    Fetch,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sidecar, Self::Volume, Self::Fetch];

    /// How KServe's URIs begin.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Sidecar => "oci://",
            Self::Volume => "oci+native://",
            Self::Fetch => "oci+fetch://",
        }
    }
}

/// What was found out about one way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suitability {
    /// Which one.
    pub way: Way,
    /// What keeps it from working; nothing if it works.
    pub wrong: Vec<String>,
    /// What works and could be better.
    pub notes: Vec<String>,
}

/// Looks whether KServe can use `image` in each of `ways`. `tag` is what it would be named by. Of plain layers
/// only headers are read; compressed ones are read whole, once. Nothing is written. Must be called
/// within a runtime of tokio.
///
/// # Errors
/// [`PullError::Place`], [`PullError::Archive`], [`PullError::WrongDigest`], and [`PullError::Hostile`] if there are more
/// names than memory should hold: nothing is known then.
pub async fn check(image: &Image, tag: Option<&str>, ways: &[Way]) -> Result<Vec<Suitability>, PullError> {
    let (mut seen, names) = (Seen::default(), Names::default());
    for source in sources(image, &mut seen)? {
        let members = members(&source, &names, |tar| Ok(Some(without_attributes(tar)))).await?;
        seen.add(&source, &members);
    }
    seen.note_config(image, tag);
    Ok(ways.iter().map(|way| seen.judge(*way)).collect())
}

fn without_attributes(tar: &TarEntry) -> TarEntry {
    let mut tar = tar.clone();
    tar.entry.xattrs = None;
    tar
}

fn sources(image: &Image, seen: &mut Seen) -> Result<Vec<Source>, PullError> {
    match source::of(&image.manifest, &image.layers, entry::MODELS) {
        Ok(sources) => Ok(sources),
        Err(error @ (PullError::UnknownLayer { .. } | PullError::Hostile { .. })) => {
            seen.hostile.push(error.to_string());
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// What is at a path of the image.
#[derive(Clone, Debug)]
struct Node {
    kind: EntryKind,
    mode: u32,
    owner: (u32, u32),
}

impl Node {
    fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }

    /// Whether a user in group 0 has these permissions (4 read, 1 execute or enter).
    fn allows(&self, uid: u32, wanted: u32) -> bool {
        let bits = match self.owner {
            (owner, _) if owner == uid => self.mode >> 6,
            (_, 0) => self.mode >> 3,
            _ => self.mode,
        };
        bits & wanted == wanted
    }
}

/// All that the headers of an image say.
#[derive(Default)]
struct Seen {
    nodes: BTreeMap<String, Node>,
    /// Why files would not be unpacked, of the first ones.
    hostile: Vec<String>,
    /// Large files below `/models` in compressed layers, in bytes.
    compressed_bytes: u64,
    is_artifact: bool,
    path: String,
    tag: Option<String>,
}

impl Seen {
    fn add(&mut self, source: &Source, members: &[TarEntry]) {
        let is_compressed = source.kind.is_compressed();
        let named =
            members.iter().filter_map(|member| Some((entry::clean(&member.entry.name).ok()?, member)));
        let named: Vec<(String, &TarEntry)> = named.collect();
        for (path, _) in &named {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            if name == entry::OPAQUE {
                remove_below(&mut self.nodes, parent);
            } else if let Some(removed) = name.strip_prefix(entry::WHITEOUT) {
                let removed =
                    if parent.is_empty() { removed.to_owned() } else { format!("{parent}/{removed}") };
                self.nodes.remove(&removed);
                remove_below(&mut self.nodes, &removed);
            }
        }
        for (path, TarEntry { entry, .. }) in named {
            if path.rsplit('/').next().is_some_and(|name| name.starts_with(entry::WHITEOUT))
                || path.is_empty()
            {
                continue;
            }
            if is_compressed && is_model(&path) {
                self.compressed_bytes = self.compressed_bytes.saturating_add(entry.size());
            }
            let node = Node { kind: entry.kind.clone(), mode: entry.mode, owner: (entry.uid, entry.gid) };
            let node = match &entry.kind {
                EntryKind::Hardlink(target) => {
                    let target =
                        entry::clean(target).ok().and_then(|target| self.nodes.get(&target).cloned());
                    target.unwrap_or(node)
                }
                EntryKind::Directory => node,
                _ => {
                    remove_below(&mut self.nodes, &path);
                    node
                }
            };
            self.nodes.insert(path, node);
        }
        let hostile = members.iter().filter_map(|member| source.scope.entry(member).err());
        self.hostile.extend(hostile.take(NAMES_MAX).map(|error| error.to_string()));
    }

    fn note_config(&mut self, image: &Image, tag: Option<&str>) {
        self.tag = tag.map(str::to_owned);
        self.path = PATH.to_owned();
        match &image.config {
            Config::Container(config) => {
                let path = config.runtime.env.iter().find_map(|variable| variable.strip_prefix("PATH="));
                self.path = path.unwrap_or(PATH).to_owned();
            }
            Config::Artifact(..) => self.is_artifact = true,
        }
    }

    fn judge(&self, way: Way) -> Suitability {
        let (mut wrong, mut notes) = (Vec::new(), Vec::new());
        if self.is_artifact {
            wrong.push("it is an artifact, and no runtime takes it for an image".to_owned());
        }
        wrong.extend(self.without_models());
        match way {
            Way::Sidecar => {
                let missing: Vec<&str> =
                    PROGRAMS.into_iter().filter(|name| !self.has_program(name)).collect();
                if !missing.is_empty() {
                    wrong.push(format!("the sidecar runs what is not in the image: {}", missing.join(", ")));
                }
                wrong.extend(self.unreadable());
                if self.tag.as_deref() == Some("latest") {
                    wrong.push("its tag is latest, which is pulled again at each start".to_owned());
                }
            }
            Way::Volume => {
                wrong.extend(self.unreadable());
                if self.compressed_bytes >= LARGE_BYTES {
                    let bytes = self.compressed_bytes;
                    notes.push(format!(
                        "{bytes} bytes of the model are compressed, and each node unpacks them"
                    ));
                }
            }
            Way::Fetch => wrong.extend(self.hostile.iter().take(NAMES_MAX).cloned()),
        }
        Suitability { way, wrong, notes }
    }

    fn models(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.nodes.iter().filter(|(path, _)| is_model(path))
    }

    fn without_models(&self) -> Option<String> {
        match self.nodes.get(entry::MODELS) {
            Some(node) if !node.is_directory() => Some("/models is no directory".to_owned()),
            _ if !self
                .models()
                .any(|(_, node)| matches!(node.kind, EntryKind::File { .. } | EntryKind::Symlink(_))) =>
            {
                Some("there are no files below /models".to_owned())
            }
            _ => None,
        }
    }

    fn unreadable(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (uid, who) in [(KSERVE_UID, "UID 1010"), (ARBITRARY_UID, "an arbitrary UID in group 0")] {
            let is_closed = |node: &Node| match node.kind {
                EntryKind::Directory => !node.allows(uid, 5),
                EntryKind::File { .. } => !node.allows(uid, 4),
                _ => false,
            };
            let closed =
                self.models().filter(|(_, node)| is_closed(node)).map(|(path, _)| format!("/{path}"));
            wrong.extend(list(&format!("{who} cannot read "), &closed.collect()));
        }
        wrong
    }

    fn has_program(&self, name: &str) -> bool {
        let found = self.path.split(':').map(|directory| format!("{directory}/{name}"));
        found.into_iter().any(|path| {
            let node = self.resolve(&path);
            node.is_some_and(|node| {
                matches!(node.kind, EntryKind::File { .. })
                    && [KSERVE_UID, ARBITRARY_UID].iter().all(|uid| node.allows(*uid, 1))
            })
        })
    }

    /// What is at a path, as a process in the image would see it.
    fn resolve(&self, path: &str) -> Option<&Node> {
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let (mut at, mut links): (Vec<String>, usize) = (Vec::new(), 0);
        while let Some(name) = todo.pop() {
            match name.as_str() {
                "" | "." => {}
                ".." => drop(at.pop()),
                _ => {
                    at.push(name);
                    if let Some(Node { kind: EntryKind::Symlink(target), .. }) = self.nodes.get(&at.join("/"))
                    {
                        links += 1;
                        let target = std::str::from_utf8(target).ok().filter(|_| links <= LINKS_MAX)?;
                        at.pop();
                        if target.starts_with('/') {
                            at.clear();
                        }
                        todo.extend(target.split('/').rev().map(str::to_owned));
                    }
                }
            }
        }
        self.nodes.get(&at.join("/"))
    }
}

fn is_model(path: &str) -> bool {
    path == entry::MODELS || path.strip_prefix(entry::MODELS).is_some_and(|rest| rest.starts_with('/'))
}

/// The first of some names, in a sentence; nothing if there are none.
fn list(what: &str, names: &BTreeSet<String>) -> Option<String> {
    let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
    let more = names.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!names.is_empty()).then(|| format!("{what}{}{more}", shown.join(", ")))
}
