//! A model as the Hub's own client keeps it (`huggingface_hub`, "Understand caching").
//!
//! ```text
//! models--ORG--NAME/refs/main                   COMMIT
//! models--ORG--NAME/snapshots/COMMIT/a/model    -> ../../../blobs/NAME
//! models--ORG--NAME/blobs/NAME                  the content
//! ```

use std::{
    fs,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use ocib_image::{Digest, Identity, LayerError, Node, NodeKind, Tree, Xattrs};

use crate::Directory;

const SNAPSHOTS: &str = "snapshots";
const BLOBS: &[u8] = b"blobs/";

/// A snapshot in the cache of the Hub's client, with files in the places of links to its blobs. Nothing else of the
/// cache is read.
#[derive(Debug)]
pub struct HubCache {
    cache: Directory,
    repository: String,
    commit: String,
    /// Where the snapshot, or what is meant of it, is in the cache.
    below: Vec<u8>,
}

impl HubCache {
    /// The snapshot at `path`, or a directory of it; of a whole model that to which `refs/main` points. `None` if
    /// `path` is nothing of that kind, or has no such reference.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>, LayerError> {
        let Some((cache, commit, rest)) = located(path) else { return Ok(None) };
        let name = cache.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_prefix("models--")) else { return Ok(None) };
        let repository = name.replace("--", "/");
        let below = Path::new(SNAPSHOTS).join(&commit).join(rest).as_os_str().as_bytes().to_vec();
        let below = below.strip_suffix(b"/").map_or(below.clone(), <[u8]>::to_vec);
        Ok(Some(Self { cache: Directory::open(&cache)?, repository, commit, below }))
    }

    /// The model's name on the Hub.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The commit that the snapshot is of.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    fn inside(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() { self.below.clone() } else { [&self.below, &b"/"[..], path].concat() }
    }

    /// Where the content of `path` is.
    fn content(&self, path: &[u8]) -> Result<Vec<u8>, LayerError> {
        let inside = self.inside(path);
        let link = self.cache.stat(&inside)?.map(|node| node.kind);
        let blob = match &link {
            Some(NodeKind::Symlink(target)) => blob(&inside, target),
            _ => None,
        };
        Ok(blob.unwrap_or(inside))
    }
}

/// The model's directory in the cache, the commit, and what is meant below that.
fn located(path: &Path) -> Option<(PathBuf, String, PathBuf)> {
    let path = fs::canonicalize(path).ok()?;
    let is_cache = |path: &Path| path.join("blobs").is_dir() && path.join(SNAPSHOTS).is_dir();
    if is_cache(&path) {
        let main = fs::read_to_string(path.join("refs/main")).ok()?;
        let commit = main.trim().to_owned();
        let is_there = !commit.contains('/') && path.join(SNAPSHOTS).join(&commit).is_dir();
        return is_there.then(|| (path, commit, PathBuf::new()));
    }
    let commit = path.ancestors().find(|above| {
        above.parent().is_some_and(|snapshots| {
            snapshots.ends_with(SNAPSHOTS) && snapshots.parent().is_some_and(is_cache)
        })
    })?;
    let rest = path.strip_prefix(commit).ok()?.to_owned();
    let cache = commit.parent()?.parent()?.to_owned();
    Some((cache, commit.file_name()?.to_str()?.to_owned(), rest))
}

/// The blob that a link at `path` leads to, if it leads to one as the client makes them.
fn blob(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let depth = path.iter().filter(|&&b| b == b'/').count();
    let name = target.strip_prefix(b"../".repeat(depth).as_slice())?.strip_prefix(BLOBS)?;
    (!name.contains(&b'/')).then(|| [BLOBS, name].concat())
}

impl Tree for HubCache {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, LayerError> {
        self.cache.stat(&self.content(path)?)
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        self.cache.list(&self.inside(path))
    }

    fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn Read + Send>, LayerError> {
        self.cache.open(&self.content(path)?, offset)
    }

    fn xattrs(&self, path: &[u8]) -> Result<Xattrs, LayerError> {
        self.cache.xattrs(&self.content(path)?)
    }

    fn identity(&self, path: &[u8]) -> Result<Option<Identity>, LayerError> {
        self.cache.identity(&self.content(path)?)
    }

    fn digest(&self, path: &[u8]) -> Result<Option<Digest>, LayerError> {
        self.cache.digest(&self.content(path)?)
    }

    fn display(&self, path: &[u8]) -> String {
        self.cache.display(&self.inside(path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_to_blobs_are_files_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("models--org--tiny");
        let snapshot = cache.join("snapshots/abc");
        for directory in ["blobs", "refs", "snapshots/abc/onnx"] {
            fs::create_dir_all(cache.join(directory)).unwrap();
        }
        fs::write(cache.join("refs/main"), "abc").unwrap();
        fs::write(cache.join("blobs/1"), "weights").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        for (name, target) in [
            ("model", "../../blobs/1"),
            ("onnx/model", "../../../blobs/1"),
            ("out", "../../../secret"),
            ("blobs", "../../blobs/../../secret"),
            ("deep", "../../../blobs/1"),
            ("gone", "../../blobs/2"),
        ] {
            symlink(target, snapshot.join(name)).unwrap();
        }
        for (path, expected) in [
            (
                &snapshot,
                &[("model", 'f'), ("onnx/model", 'f'), ("out", 'l'), ("blobs", 'l'), ("deep", 'l')][..],
            ),
            (&cache, &[("model", 'f'), ("onnx", 'd'), ("none", '-'), ("gone", '-')]),
            (&snapshot.join("onnx"), &[("model", 'f')]),
        ] {
            let tree = HubCache::open(path).unwrap().unwrap();
            assert_eq!((tree.repository(), tree.commit()), ("org/tiny", "abc"));
            for (name, kind) in expected {
                let found = tree.stat(name.as_bytes()).unwrap().map(|node| node.kind);
                let actual = match found {
                    None => '-',
                    Some(NodeKind::File { size }) => {
                        if size == 7 {
                            'f'
                        } else {
                            '?'
                        }
                    }
                    Some(NodeKind::Directory) => 'd',
                    Some(_) => 'l',
                };
                assert_eq!(actual, *kind, "{name}");
            }
            let mut text = String::new();
            tree.open(b"model", 0).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "weights");
        }
        assert!(HubCache::open(dir.path()).unwrap().is_none());
        assert!(HubCache::open(&cache.join("snapshots")).unwrap().is_none());
        fs::remove_file(cache.join("refs/main")).unwrap();
        assert!(HubCache::open(&cache).unwrap().is_none());
    }
}
