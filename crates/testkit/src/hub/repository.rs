//! Repositories: commits of files.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
};

use sha1::Digest as _;

use super::HubAccess;
use crate::content::Generated;

/// What a file holds.
#[derive(Clone, Debug)]
pub enum HubContent {
    /// Kept in git itself.
    Plain(Vec<u8>),
    /// Kept by LFS.
    Large(Vec<u8>),
    /// Kept by LFS, and made from a seed while it is sent.
    Made {
        /// The seed of [`Generated`].
        seed: u64,
        /// How many bytes.
        bytes: u64,
    },
}

#[derive(Debug)]
pub(super) struct Repository {
    pub(super) access: HubAccess,
    /// By branch, tag and commit.
    pub(super) revisions: BTreeMap<String, String>,
    pub(super) commits: BTreeMap<String, BTreeMap<String, File>>,
}

/// A file of a commit.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) content: HubContent,
    pub(super) size: u64,
    /// Git's name of what git keeps.
    pub(super) blob: String,
    /// What LFS names it by.
    pub(super) sha256: Option<String>,
}

impl Default for Repository {
    fn default() -> Self {
        Self { access: HubAccess::Public, revisions: BTreeMap::new(), commits: BTreeMap::new() }
    }
}

impl Repository {
    pub(super) fn commit(&mut self, files: &[(&str, HubContent)]) -> String {
        let files: BTreeMap<String, File> =
            files.iter().map(|(path, content)| ((*path).to_owned(), File::new(content.clone()))).collect();
        let list: Vec<String> = files.iter().map(|(path, file)| format!("{} {path}", file.blob)).collect();
        let commit = git_name("commit", list.join("\n").as_bytes());
        for name in ["main", &commit] {
            self.revisions.insert(name.to_owned(), commit.clone());
        }
        self.commits.insert(commit.clone(), files);
        commit
    }

    pub(super) fn tag(&mut self, revision: &str) {
        let main = self.revisions["main"].clone();
        self.revisions.insert(revision.to_owned(), main);
    }

    pub(super) fn files(&self, revision: &str) -> Option<(&str, &BTreeMap<String, File>)> {
        let commit = self.revisions.get(revision)?;
        Some((commit, self.commits.get(commit)?))
    }
}

impl File {
    fn new(content: HubContent) -> Self {
        let size = match &content {
            HubContent::Plain(bytes) | HubContent::Large(bytes) => bytes.len() as u64,
            HubContent::Made { bytes, .. } => *bytes,
        };
        let mut file = Self { content, size, blob: String::new(), sha256: None };
        match &file.content {
            HubContent::Plain(bytes) => file.blob = git_name("blob", bytes),
            _ => {
                let oid = file.sha256();
                let pointer =
                    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
                file.blob = git_name("blob", pointer.as_bytes());
                file.sha256 = Some(oid);
            }
        }
        file
    }

    /// The bytes from `from` to before `until`.
    pub(super) fn read(&self, from: u64, until: u64) -> Box<dyn Read> {
        match &self.content {
            HubContent::Plain(bytes) | HubContent::Large(bytes) => {
                Box::new(Cursor::new(bytes[from as usize..until as usize].to_vec()))
            }
            HubContent::Made { seed, .. } => Box::new(Generated::new(*seed).range(from, until)),
        }
    }

    fn sha256(&self) -> String {
        let mut hasher = sha2::Sha256::new();
        let (mut content, mut piece) = (self.read(0, self.size), vec![0; 1 << 20]);
        loop {
            match content.read(&mut piece).expect("reading from memory does not fail") {
                0 => break hex(&hasher.finalize()),
                got => hasher.update(&piece[..got]),
            }
        }
    }
}

fn git_name(kind: &str, content: &[u8]) -> String {
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("{kind} {}\0", content.len()));
    hasher.update(content);
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
