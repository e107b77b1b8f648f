//! Repositories of the Hugging Face Hub, listed but not kept.
//!
//! ```text
//!  hf://org/name@revision ──API──▶ commit ──API──▶ files: size, oid ──▶ a tree
//!                                                     └── read: resolve URL ──▶ wherever the Hub keeps it
//! ```
//!
//! A revision becomes a commit first, so whatever is read later is of that commit. The list of files says
//! of each what its content is: the SHA-256 of what is kept by LFS or Xet, git's name of the rest. All that
//! is read from its start is verified by that. The token goes to the Hub alone, never to where it
//! keeps large files.

mod api;
mod cache;
mod file;
mod location;
mod pattern;
mod problem;

use std::{fmt, sync::Arc};

use ocib_image::{Digest, Fetched, PlaceError, Secret, Timestamp, Tree};
use ocib_net::{Backoff, HttpOptions, Url};
use tokio::runtime::Handle;

use self::{
    api::{Api, Item},
    file::HubFile,
};
pub use self::{cache::HubCache, location::HubLocation, pattern::HubFiles, problem::HubProblem};
use crate::{
    Error, ReadAhead,
    client::{Client, PlainHttp},
    flat::Flat,
    listed::{Listed, Member, Transfers},
    transfer::Ahead,
};

/// Where the Hub is, and who asks.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// How to speak HTTP.
    pub http: HttpOptions,
    /// When to try again.
    pub backoff: Backoff,
    /// The Hub, or a mirror that speaks its API (`HF_ENDPOINT`).
    pub endpoint: Url,
    /// What opens gated and private repositories (`HF_TOKEN`).
    pub token: Option<Secret>,
    /// How far large files are fetched ahead, by all readers together.
    pub ahead: ReadAhead,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            http: HttpOptions::default(),
            backoff: Backoff::default(),
            endpoint: Url::parse("https://huggingface.co").expect("it is a URL"),
            token: None,
            ahead: ReadAhead::default(),
        }
    }
}

/// The Hugging Face Hub. Must be used within a runtime of tokio, which must live as long as the trees that it
/// gives.
///
/// ```
/// use ocib_source::{Hub, HubOptions};
/// let hub = Hub::new(HubOptions::default());
/// # let _ = hub;
/// ```
#[derive(Clone)]
pub struct Hub {
    api: Arc<Api>,
    backoff: Backoff,
    ahead: Ahead,
}

/// The files of a repository at one commit.
#[derive(Clone, Debug)]
pub struct HubSnapshot {
    /// What was asked for, at the commit.
    pub location: HubLocation,
    /// The commit, 40 hex digits.
    pub commit: String,
    /// The files that are meant, beneath the location's path; where that is a file, it alone, by its last
    /// name. Mode 0644, owner 0:0, time 1970: the Hub keeps none of them, and a time of commit would make
    /// another layer of an unchanged file.
    pub tree: Arc<dyn Tree>,
    /// The file that is meant, if one is.
    pub file: Option<Box<[u8]>>,
}

/// A [`HubSnapshot`] whose tree may still be changed.
struct Snapshot {
    location: HubLocation,
    commit: String,
    listed: Listed,
    file: Option<Box<[u8]>>,
}

impl Hub {
    /// Asks nobody yet.
    pub fn new(options: HubOptions) -> Self {
        let HubOptions { http, backoff, endpoint, token, ahead } = options;
        let client = Client::new(http, PlainHttp::Trusted);
        Self { api: Arc::new(Api::new(client, endpoint, token)), backoff, ahead: Ahead::new(ahead) }
    }

    /// The files that `location` names and `files` leaves. Two requests and one more for each 1,000 files;
    /// one more where access is restricted, so that a missing right shows now.
    ///
    /// # Errors
    /// By kind: `NotFound` for a repository, revision or path that is not there, `Denied` where a token is
    /// missing or has no access, `Unreachable` after all attempts, `Input` where nothing is left, `Refused`
    /// for what does not answer as the Hub does. Content that is not what the Hub says of it fails while it is
    /// read, with `Corrupt`.
    pub async fn open(&self, location: &HubLocation, files: &HubFiles) -> Result<HubSnapshot, PlaceError> {
        let Snapshot { location, commit, listed, file } = self.find(location, files).await?;
        Ok(HubSnapshot { location, commit, tree: Arc::new(listed), file })
    }

    /// What `text`, an `hf://` location, names, as ADD wants it. A `digest` is of one file: it is compared with
    /// the Hub's at once where that is the same kind, else verified when the file is read.
    ///
    /// # Errors
    /// Those of [`Hub::open`]; `Input` for a digest of a directory, `Corrupt` for another digest.
    pub async fn fetch(&self, text: &str, digest: Option<&Digest>) -> Result<Fetched, PlaceError> {
        let snapshot = self.find(&text.parse()?, &HubFiles::default()).await?;
        Ok(snapshot.listed.fetched(snapshot.file, digest)?)
    }

    async fn find(&self, location: &HubLocation, wanted: &HubFiles) -> Result<Snapshot, Error> {
        // Whoever wrote its parts may have written any text.
        let location = &location.to_string().parse::<HubLocation>()?;
        let problem = |problem| Error::Hub { name: location.to_string(), problem: Box::new(problem) };
        let revision = self.api.revision(location, self.backoff).await?;
        let pinned = HubLocation { revision: revision.commit.clone(), ..location.clone() };
        let all = self.api.files(&pinned, self.backoff).await?;
        let (all_count, is_wanted) = (all.len(), |item: &Item| wanted.has(&item.path));
        let items: Vec<Item> = all.into_iter().filter(is_wanted).collect();
        let beneath = |path: &str| relative(path, &pinned.path).map(str::to_owned);
        let (mut tree, mut file, mut first) = (Flat::default(), None, None);
        for item in items {
            let Some(path) = beneath(&item.path) else { continue };
            if item.path == pinned.path {
                file = Some(path.clone().into_bytes().into_boxed_slice());
            }
            let hub_file = Arc::new(HubFile::new(Arc::clone(&self.api), &pinned, &item));
            first.get_or_insert_with(|| Arc::clone(&hub_file));
            tree.insert(path.as_bytes(), member(hub_file, &item)).map_err(|why| Error::BadMember {
                archive: location.to_string(),
                member: ocib_net::printable(item.path.as_bytes(), 100),
                why,
            })?;
        }
        let Some(first) = first else {
            return Err(problem(match all_count {
                0 => HubProblem::NoPath { path: or_root(&pinned.path) },
                files => HubProblem::NothingIncluded { files },
            }));
        };
        if revision.is_gated {
            first.ask_for_access(self.backoff).await?;
        }
        let name = match &file {
            Some(_) => HubLocation { path: parent(&pinned.path).to_owned(), ..pinned.clone() },
            None => pinned.clone(),
        };
        let transfers =
            Transfers { backoff: self.backoff, ahead: self.ahead.clone(), runtime: Handle::current() };
        let listed = Listed { name: name.to_string(), files: tree, transfers };
        Ok(Snapshot { commit: revision.commit, location: pinned, listed, file })
    }
}

fn member(stored: Arc<HubFile>, item: &Item) -> Member {
    let (identity, expected) = (item.oid.to_string().into_bytes().into(), Some(item.oid));
    Member { stored, size: item.size, modified: Timestamp::default(), expected, identity: Some(identity) }
}

/// `path` as it is seen from `root`, which is a directory or the file itself; nothing if it is elsewhere.
fn relative<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    match path.strip_prefix(root)? {
        "" => path.rsplit('/').next(),
        rest if root.is_empty() => Some(rest),
        rest => rest.strip_prefix('/'),
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn or_root(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("endpoint", &self.api.shown()).finish_non_exhaustive()
    }
}
