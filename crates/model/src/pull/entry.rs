//! What a layer says of one path, with names that are safe to use.

use ocib_image::{Digest, EntryKind, TarEntry};
use serde::{Deserialize, Serialize};

use super::PullError;

/// Names of ours in the directory that is pulled to.
pub(super) const RESERVED: &str = ".ocib-pull";
/// Where model images keep their files.
pub(super) const MODELS: &str = "models";
/// Names at the top of an image that are remembered, for messages.
const TOPS_MAX: usize = 16;
/// Marks of removed files in layers (image-spec, "whiteouts").
pub(super) const WHITEOUT: &str = ".wh.";
pub(super) const OPAQUE: &str = ".wh..wh..opq";

/// One path of a layer, relative to what is pulled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Clean: no empty component, no `.` and `..`. Empty for the top itself.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Nine bits; set-user-ID and its like are dropped.
    pub(super) mode: u32,
    pub(super) mtime: (i64, u32),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    File {
        bytes: u64,
        /// Of the content, where the layer's own digest does not vouch for it.
        digest: Option<Digest>,
    },
    Directory,
    /// To a target that stays inside.
    Symlink(String),
    /// To a path like [`Entry::path`].
    Hardlink(String),
    /// Nothing of lower layers is at the path.
    Whiteout,
    /// Nothing of lower layers is below the path.
    Opaque,
}

impl Entry {
    /// A layer that is a file as it is.
    pub(super) fn raw(path: &str, bytes: u64, digest: Digest) -> Self {
        let kind = Kind::File { bytes, digest: Some(digest) };
        Self { path: path.to_owned(), kind, mode: 0o644, mtime: (0, 0) }
    }
}

/// Holes cost a layer nothing, so sparse files are the one way left to ask for endless content. As much as a layer may
/// become that is decoded ([`ocib_image::ExpansionLimit::LAYER`]).
const SPARSE_BYTES_MAX: u64 = 64 << 30;

/// What the sparse files of a layer have so far.
#[derive(Default, Debug)]
pub(super) struct Holes(u64);

impl Holes {
    /// Counts an entry if it is such a file.
    pub(super) fn count(&mut self, scope: &Scope, tar: &TarEntry) -> Result<(), PullError> {
        if tar.offset.is_none() {
            self.0 = self.0.saturating_add(tar.entry.size());
        }
        match self.0 <= SPARSE_BYTES_MAX {
            true => Ok(()),
            false => {
                let why = format!("its sparse files are larger than {SPARSE_BYTES_MAX} bytes");
                Err(scope.hostile(&tar.entry.name, why))
            }
        }
    }
}

/// Which entries of a layer are wanted.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) layer: Digest,
    /// Path in the image, clean; empty for all of it.
    pub(super) prefix: String,
    /// Whether names outside of the prefix are wanted as they are: in artifacts the prefix is a habit of
    /// layers that an image shares.
    pub(super) takes_all: bool,
}

/// Where a path is.
enum Relation<'a> {
    Inside(&'a str),
    /// The prefix or one of its parents.
    Above,
    Outside,
}

impl Scope {
    /// The entry as it is wanted; `None` if it is not. Names that are not wanted may be anything.
    pub(super) fn entry(&self, tar: &TarEntry) -> Result<Option<Entry>, PullError> {
        let raw = &tar.entry.name;
        let name = match clean(raw) {
            Ok(name) => name,
            Err(why) => return Err(self.hostile(raw, why)),
        };
        let (parent, last) = name.rsplit_once('/').unwrap_or(("", &name));
        let mode = tar.entry.mode & 0o777;
        let mtime = (tar.entry.mtime.seconds, tar.entry.mtime.nanoseconds);
        let made = |path: &str, kind| Ok(Some(Entry { path: path.to_owned(), kind, mode, mtime }));
        if last == OPAQUE {
            return match self.relation(parent) {
                Relation::Inside(path) => made(path, Kind::Opaque),
                Relation::Above => made("", Kind::Opaque),
                Relation::Outside => Ok(None),
            };
        }
        if let Some(removed) = last.strip_prefix(WHITEOUT) {
            let path = if parent.is_empty() { removed.to_owned() } else { format!("{parent}/{removed}") };
            return match self.relation(&path) {
                Relation::Inside(path) if !path.is_empty() => made(path, Kind::Whiteout),
                Relation::Outside => Ok(None),
                _ => made("", Kind::Opaque),
            };
        }
        let path = match self.relation(&name) {
            Relation::Inside(path) => path,
            Relation::Above if tar.entry.kind == EntryKind::Directory => return Ok(None),
            Relation::Above => {
                let why = format!("it is no directory, so nothing can be below /{}", self.prefix);
                return Err(self.hostile(raw, &why));
            }
            Relation::Outside => return Ok(None),
        };
        if path.split('/').next().is_some_and(|top| top.starts_with(RESERVED)) {
            return Err(self.hostile(raw, "names that begin with .ocib-pull are ocib's own"));
        }
        let kind = match &tar.entry.kind {
            EntryKind::File { size } => Kind::File { bytes: *size, digest: None },
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink(target) => {
                let depth = path.matches('/').count();
                let safe = self.symlink(target, depth).map_err(|why| self.hostile(raw, why))?;
                Kind::Symlink(safe)
            }
            EntryKind::Hardlink(target) => {
                let target = clean(target).map_err(|why| self.hostile(raw, why))?;
                match self.relation(&target) {
                    Relation::Inside(target) => Kind::Hardlink(target.to_owned()),
                    _ => {
                        return Err(
                            self.hostile(raw, "it is a hard link to a file outside of what is pulled")
                        );
                    }
                }
            }
            EntryKind::Fifo | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => {
                return Err(
                    self.hostile(raw, "it is a device or a pipe, expected files, directories and links")
                );
            }
        };
        if path.is_empty() && kind != Kind::Directory {
            return Err(self.hostile(raw, "it is no directory, expected one to pull"));
        }
        made(path, kind)
    }

    /// Adds where in the image the entry is, if nobody has seen that yet.
    pub(super) fn note_top(tar: &TarEntry, tops: &mut Vec<String>) {
        if let Ok(name) = clean(&tar.entry.name)
            && let Some(top) = name.split('/').next()
            && !top.is_empty()
            && tops.len() < TOPS_MAX
            && !tops.iter().any(|known| known == top)
        {
            tops.push(top.chars().take(64).collect());
        }
    }

    pub(super) fn hostile(&self, name: &[u8], why: impl Into<String>) -> PullError {
        let name = String::from_utf8_lossy(name).chars().take(200).collect();
        PullError::Hostile { layer: self.layer, name, why: why.into() }
    }

    fn relation<'a>(&self, path: &'a str) -> Relation<'a> {
        let inside = match self.prefix.as_str() {
            "" => Some(path),
            prefix if prefix == path => Some(""),
            prefix => path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')),
        };
        match inside {
            Some(rest) => Relation::Inside(rest),
            None if path.is_empty()
                || self.prefix.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')) =>
            {
                Relation::Above
            }
            None if self.takes_all => Relation::Inside(path),
            None => Relation::Outside,
        }
    }

    /// The target of a link in a directory so deep, such that it stays inside whatever other links there
    /// are: as `..` comes first only, it climbs from a real directory.
    fn symlink(&self, target: &[u8], depth: usize) -> Result<String, &'static str> {
        let text = std::str::from_utf8(target).map_err(|_| NO_UTF8)?;
        let parts = |text: &str| {
            text.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect::<Vec<_>>()
        };
        if text.starts_with('/') {
            let inside = clean(target)?;
            return match self.relation(&inside) {
                Relation::Inside(inside) => {
                    let up = "../".repeat(depth);
                    Ok(if up.is_empty() && inside.is_empty() {
                        ".".to_owned()
                    } else {
                        format!("{up}{inside}")
                    })
                }
                _ => Err("it is a link to outside of what is pulled"),
            };
        }
        let parts = parts(text);
        let ups = parts.iter().take_while(|part| *part == "..").count();
        if ups > depth {
            return Err("it is a link to outside of what is pulled");
        }
        if parts[ups..].iter().any(|part| part == "..") {
            return Err("it is a link whose target has .. behind a name, which leads nobody knows where");
        }
        if text.is_empty() {
            return Err("it is a link to nothing");
        }
        Ok(text.to_owned())
    }
}

const NO_UTF8: &str = "it is no UTF-8, expected names that every program can read";

/// A name without a leading slash, empty parts and dots. Absolute names are below the image's root, as
/// every unpacker takes them.
pub(super) fn clean(name: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(name).map_err(|_| NO_UTF8)?;
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    match parts.contains(&"..") {
        true => Err("it has .. in its path"),
        false => Ok(parts.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use ocib_image::{Entry as Tar, Timestamp};

    use super::*;

    fn scope(prefix: &str) -> Scope {
        Scope { layer: Digest::of(b""), prefix: prefix.to_owned(), takes_all: false }
    }

    fn of(prefix: &str, name: &str, kind: EntryKind) -> Result<Option<(String, Kind)>, String> {
        let mtime = Timestamp::default();
        let entry =
            Tar { name: name.as_bytes().into(), kind, mode: 0o6755, uid: 1, gid: 2, mtime, xattrs: None };
        match scope(prefix).entry(&TarEntry { entry, offset: Some(512), odd_type: None }) {
            Ok(found) => Ok(found.map(|found| {
                assert_eq!(found.mode, 0o755);
                (found.path, found.kind)
            })),
            Err(PullError::Hostile { why, .. }) => Err(why),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn names_are_cut_to_what_is_wanted() {
        let file = EntryKind::File { size: 3 };
        let wanted = Kind::File { bytes: 3, digest: None };
        for (prefix, name, expected) in [
            ("models", "models/a/b", Some(("a/b", wanted.clone()))),
            ("models", "./models//a", Some(("a", wanted.clone()))),
            ("models", "/models/a", Some(("a", wanted.clone()))),
            ("models", "modelsx/a", None),
            ("models", "etc/passwd", None),
            ("", "etc/passwd", Some(("etc/passwd", wanted.clone()))),
            ("models", "models/.wh.a", Some(("a", Kind::Whiteout))),
            ("models", "models/d/.wh..wh..opq", Some(("d", Kind::Opaque))),
            ("models", ".wh.models", Some(("", Kind::Opaque))),
            ("a/b", ".wh.a", Some(("", Kind::Opaque))),
            ("models", "etc/.wh.x", None),
        ] {
            let expected = expected.map(|(path, kind)| (path.to_owned(), kind));
            assert_eq!(of(prefix, name, file.clone()).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn what_leaves_is_refused() {
        let link = |target: &str| EntryKind::Symlink(target.as_bytes().into());
        let hard = |target: &str| EntryKind::Hardlink(target.as_bytes().into());
        for (name, kind, expected) in [
            ("models/../etc/x", link("y"), Err("it has .. in its path")),
            ("models/a", link("../etc/passwd"), Err("it is a link to outside of what is pulled")),
            ("models/a", link("/etc/passwd"), Err("it is a link to outside of what is pulled")),
            (
                "models/a",
                link("d/../../etc"),
                Err("it is a link whose target has .. behind a name, which leads nobody knows where"),
            ),
            ("models/a", hard("etc/passwd"), Err("it is a hard link to a file outside of what is pulled")),
            (
                "models/a",
                EntryKind::Fifo,
                Err("it is a device or a pipe, expected files, directories and links"),
            ),
            ("models/.ocib-pull/x", link("y"), Err("names that begin with .ocib-pull are ocib's own")),
            ("models", link("x"), Err("it is no directory, expected one to pull")),
            ("models/s/x/a", link("../../blobs/1"), Ok(Kind::Symlink("../../blobs/1".to_owned()))),
            ("models/s/a", link("/models/blobs/1"), Ok(Kind::Symlink("../blobs/1".to_owned()))),
            ("models/s/a", hard("models/b"), Ok(Kind::Hardlink("b".to_owned()))),
        ] {
            let found = of("models", name, kind.clone()).map(|found| found.unwrap().1);
            assert_eq!(found, expected.map_err(str::to_owned), "{name} {kind:?}");
        }
    }
}
