//! The files of a model: which there are, what each is for, and what tells its content.

use ocib_image::{Digest, Identity, LayerError, NodeKind, Tree};
use ocib_source::HubFiles;

use crate::{Error, pull::RESERVED};

/// One file of a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its path in the source, which is also that below the image's prefix.
    pub path: Box<[u8]>,
    /// Where its content is, if `path` is a link.
    pub(crate) content: Box<[u8]>,
    /// Size in bytes.
    pub bytes: u64,
    /// What it is for.
    pub kind: FileKind,
    /// The digest of its content, where the source knows it.
    pub digest: Option<Digest>,
    /// What says that it is the same file as at another time, where anything does.
    pub identity: Option<Identity>,
}

/// What a file of a model is for: the kinds of layers that ModelPack knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileKind {
    /// Weights.
    Weight,
    /// What is needed to load and use the weights: config, tokenizer, templates.
    Config,
    /// What people read.
    Doc,
    /// Programs.
    Code,
    /// Data to train or judge with.
    Dataset,
}

impl File {
    /// The format of the weights, with that of the files before it; the ending of a name says it.
    pub(crate) fn format(&self, before: Option<String>) -> Option<String> {
        let lower = String::from_utf8_lossy(&self.path).to_lowercase();
        match lower.rsplit_once('.') {
            Some((_, end @ ("safetensors" | "gguf"))) => Some(end.to_owned()),
            Some((_, end)) if before.is_none() && self.kind == FileKind::Weight => Some(end.to_owned()),
            _ => before,
        }
    }
}

impl FileKind {
    /// The kind in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Config => "config",
            Self::Doc => "doc",
            Self::Code => "code",
            Self::Dataset => "dataset",
        }
    }

    /// What the name of a file says of it.
    pub fn of(path: &[u8]) -> Self {
        let path = String::from_utf8_lossy(path).to_lowercase();
        let name = path.rsplit('/').next().unwrap_or_default();
        let ends = |all: &[&str]| all.iter().any(|end| name.ends_with(end));
        if ends(&WEIGHTS) {
            Self::Weight
        } else if ends(&CODE) {
            Self::Code
        } else if ends(&DATA) {
            Self::Dataset
        } else if ends(&DOCS) || DOC_NAMES.iter().any(|start| name.starts_with(start)) {
            Self::Doc
        } else {
            Self::Config
        }
    }
}

const WEIGHTS: [&str; 36] = [
    ".safetensors",
    ".gguf",
    ".ggml",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".onnx",
    ".onnx_data",
    ".onnx.data",
    ".h5",
    ".hdf5",
    ".msgpack",
    ".npz",
    ".npy",
    ".tflite",
    ".pb",
    ".joblib",
    ".pkl",
    ".plan",
    ".engine",
    ".trt",
    ".jit",
    ".torchscript",
    ".pt2",
    ".pte",
    ".ptl",
    ".keras",
    ".mlmodel",
    ".pdmodel",
    ".pdiparams",
    ".pdparams",
    ".caffemodel",
    ".params",
    ".nemo",
    ".llamafile",
];
const CODE: [&str; 5] = [".py", ".sh", ".ipynb", ".cpp", ".rs"];
const DATA: [&str; 5] = [".parquet", ".arrow", ".jsonl", ".csv", ".tfrecord"];
const DOCS: [&str; 8] = [".md", ".pdf", ".rst", ".png", ".jpg", ".jpeg", ".gif", ".svg"];
const DOC_NAMES: [&str; 5] = ["readme", "license", "licence", "notice", "use_policy"];

/// Whether a file is taken. Names that begin with a dot belong to programs (git, the Hub's client), unless a
/// pattern asks for them.
fn takes(selection: &HubFiles, path: &[u8]) -> bool {
    let is_hidden = path.split(|&b| b == b'/').any(|name| name.starts_with(b"."));
    selection.has(&String::from_utf8_lossy(path)) && (!is_hidden || !selection.include.is_empty())
}

/// Whether nothing below a directory is taken.
fn leaves_out(selection: &HubFiles, path: &[u8]) -> bool {
    let is_hidden = path.split(|&b| b == b'/').any(|name| name.starts_with(b"."));
    is_hidden && selection.include.is_empty()
        || selection.leaves_out_all_below(&String::from_utf8_lossy(path))
}

/// As many links as are followed, one after another.
const LINKS_MAX: usize = 16;

/// The files of `tree` that `selection` takes, sorted by path. Blocks; reads no content.
pub(crate) fn list(tree: &dyn Tree, selection: &HubFiles) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    let mut todo: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(directory) = todo.pop() {
        for name in tree.list(&directory)? {
            let path = match directory.is_empty() {
                true => name.to_vec(),
                false => [&directory, &b"/"[..], &name].concat(),
            };
            match tree.stat(&path)?.map(|node| node.kind) {
                // What `pull` keeps beside the files is of that directory, and refused in images.
                _ if path.starts_with(RESERVED.as_bytes()) => {}
                // What is left out need not be readable: volumes have a `lost+found` of root's.
                Some(NodeKind::Directory) if leaves_out(selection, &path) => {}
                Some(NodeKind::Directory) => todo.push(path),
                Some(NodeKind::File { size }) if takes(selection, &path) => {
                    files.push(file(tree, &path, &path, size)?);
                }
                Some(NodeKind::Symlink(target)) if takes(selection, &path) => {
                    let (content, size) = follow(tree, &path, &target)?;
                    files.push(file(tree, &path, &content, size)?);
                }
                _ => {}
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    match files.is_empty() {
        true => Err(Error::Empty { name: tree.display(b"") }),
        false => Ok(files),
    }
}

fn file(tree: &dyn Tree, path: &[u8], content: &[u8], bytes: u64) -> Result<File, LayerError> {
    let kind = FileKind::of(path);
    let (digest, identity) = (tree.digest(content)?, tree.identity(content)?);
    Ok(File { path: path.into(), content: content.into(), bytes, kind, digest, identity })
}

/// The file of the tree that a link leads to, and its size.
fn follow(tree: &dyn Tree, link: &[u8], target: &[u8]) -> Result<(Vec<u8>, u64), Error> {
    let (mut at, mut leads) = (link.to_vec(), target.to_vec());
    for _ in 0..LINKS_MAX {
        let Some(next) = joined(&at, &leads) else { break };
        match tree.stat(&next)?.map(|node| node.kind) {
            Some(NodeKind::File { size }) => return Ok((next, size)),
            Some(NodeKind::Symlink(further)) => (at, leads) = (next, further.to_vec()),
            _ => break,
        }
    }
    let target = String::from_utf8_lossy(target).into_owned();
    Err(Error::BadLink { name: tree.display(link), target })
}

/// Where `target` leads, seen from the link at `path`; `None` if out of the tree.
fn joined(path: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut names: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
    names.pop();
    if target.starts_with(b"/") {
        return None;
    }
    for name in target.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use ocib_source::Directory;

    use super::*;

    #[test]
    fn kinds_by_name() {
        for (path, expected) in [
            ("model-00001-of-00002.safetensors", FileKind::Weight),
            ("q4/model.GGUF", FileKind::Weight),
            ("silero_vad.jit", FileKind::Weight),
            ("config.json", FileKind::Config),
            ("model.safetensors.index.json", FileKind::Config),
            ("merges.txt", FileKind::Config),
            ("README.md", FileKind::Doc),
            ("LICENSE", FileKind::Doc),
            ("modeling_x.py", FileKind::Code),
            ("data/train.parquet", FileKind::Dataset),
        ] {
            assert_eq!(FileKind::of(path.as_bytes()), expected, "{path}");
        }
    }

    /// A tree whose directories `sub` and `.git` only somebody else may list.
    #[derive(Debug)]
    struct Shut(Directory);

    impl Tree for Shut {
        fn stat(&self, path: &[u8]) -> Result<Option<ocib_image::Node>, LayerError> {
            self.0.stat(path)
        }

        fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
            match path {
                b"sub" | b".git" => Err(LayerError::Read {
                    name: self.display(path),
                    source: std::io::ErrorKind::PermissionDenied.into(),
                }),
                path => self.0.list(path),
            }
        }

        fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn std::io::Read + Send>, LayerError> {
            self.0.open(path, offset)
        }

        fn xattrs(&self, path: &[u8]) -> Result<ocib_image::Xattrs, LayerError> {
            self.0.xattrs(path)
        }

        fn display(&self, path: &[u8]) -> String {
            self.0.display(path)
        }
    }

    #[test]
    fn lists_what_is_taken_and_follows_links_inside() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["blobs/abc", ".git/config", "sub/b.json", "a.json", ".ocib-pull/x.json", ".ocib-pull.json"]
        {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        symlink("../blobs/abc", dir.path().join("sub/model.safetensors")).unwrap();
        let tree = Directory::open(dir.path()).unwrap();
        let names = |selection: &HubFiles| {
            let files = list(&tree, selection).unwrap();
            files.iter().map(|file| String::from_utf8_lossy(&file.path).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            names(&HubFiles::default()),
            ["a.json", "blobs/abc", "sub/b.json", "sub/model.safetensors"]
        );
        let some = HubFiles { include: vec!["*.json".into(), ".git/".into()], exclude: vec!["a*".into()] };
        assert_eq!(names(&some), [".git/config", "sub/b.json"]);
        let shut = Shut(tree);
        let without = |pattern: &str| HubFiles { exclude: vec![pattern.into()], ..HubFiles::default() };
        assert!(list(&shut, &HubFiles::default()).is_err());
        assert_eq!(list(&shut, &without("sub/")).unwrap().len(), 2);
        let tree = shut.0;
        let none = HubFiles { include: vec!["x".into()], ..HubFiles::default() };
        let error = list(&tree, &none).unwrap_err();
        assert_eq!(error.to_string(), format!("{} has no file to package", tree.display(b"")));

        symlink("../../etc/passwd", dir.path().join("sub/out")).unwrap();
        let error = list(&tree, &HubFiles::default()).unwrap_err();
        let name = tree.display(b"sub/out");
        assert_eq!(
            error.to_string(),
            format!("{name} is a link to ../../etc/passwd, which is no file of the source")
        );
    }
}
