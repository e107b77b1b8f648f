//! Git repositories: one commit, fetched without its history and read without a git program.
//!
//! ```text
//!  URL ──▶ Service: what does the reference lead to? ── fetch ──▶ pack ──▶ spool: a file without a name
//!                                                                   │
//!   Checkout: a tree ◀── Worktree ◀── Directory: all names ◀── Store: objects by name
//!                            └── submodules: the same again, at their commits
//! ```
//!
//! A pack cannot be read twice, so it is written to a scratch directory while it arrives, and each
//! object is inflated and named on the way. A name is the SHA-1 of what it names, so whatever is reached
//! from the commit is what the commit's author put there. What comes out is bounded everywhere: objects,
//! paths, bytes, depths. Files of Git LFS are their pointers, as a git without that extension has them.
//!
//! Start with [`Git::fetch`]; the modules are in the order of the picture.

mod checkout;
mod credential;
mod delta;
mod directory;
mod dotgit;
mod object;
pub(crate) mod oid;
mod pack;
mod pkt;
mod problem;
mod refs;
mod resolve;
mod service;
mod spool;
mod store;
mod stored;
mod submodule;
mod worktree;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_core::future::BoxFuture;
use ocib_image::{Event, Events, Fetched, GitReference, GitTransport, PlaceError, Tree};
use ocib_net::{Backoff, HttpOptions, Redacted, Url, retry};
use tokio::runtime::Handle;

use self::{
    checkout::Checkout,
    directory::{Directory, Item},
    dotgit::{DotGit, Head},
    object::{Commit, parse_commit, parse_tag},
    oid::{Kind, Oid},
    problem::Failure,
    refs::{Chosen, Wanted},
    service::Service,
    spool::Spool,
    store::Store,
    submodule::Submodule,
    worktree::{Found, Worktree},
};
pub use self::{credential::GitCredentials, problem::GitProblem};
use crate::{
    Error,
    client::{Client, PlainHttp},
    watched::watched,
};

/// Tags that lead to tags that lead to a commit.
const TAGS_MAX: usize = 8;
/// Submodules of one repository, with theirs.
const SUBMODULES_MAX: usize = 256;
/// Submodules within each other.
const SUBMODULE_DEPTH_MAX: usize = 8;

/// How repositories are fetched.
#[derive(Clone)]
pub struct GitOptions {
    /// How to speak HTTP. Plain http is for this machine and for hosts named insecure.
    pub http: HttpOptions,
    /// How often what broke off is tried again.
    pub backoff: Backoff,
    /// A directory that can be written: packs are kept there while they are read, in files of mode 0600
    /// that have no name, so that their space is free again however the process ends.
    pub scratch: PathBuf,
    /// Who ocib is to the servers.
    pub credentials: GitCredentials,
    /// Told before the first byte of a pack is written, and how many it were.
    pub events: Arc<dyn Events>,
}

/// Fetches git repositories over https. Must be used within a runtime of tokio.
///
/// Link-local addresses are refused, as are redirects from https to http. Credentials go to the origin
/// that they are for, never along redirects.
///
/// ```
/// use std::sync::Arc;
///
/// use ocib_image::{Event, Events};
/// use ocib_net::{Backoff, HttpOptions};
/// use ocib_source::{Git, GitCredentials, GitOptions};
///
/// struct Silence;
/// impl Events for Silence {
///     fn emit(&self, _: Event<'_>) {}
/// }
/// let git = Git::new(GitOptions {
///     http: HttpOptions::default(),
///     backoff: Backoff::default(),
///     scratch: std::env::temp_dir(),
///     credentials: GitCredentials::default(),
///     events: Arc::new(Silence),
/// });
/// # let _ = git;
/// ```
#[derive(Clone)]
pub struct Git {
    client: Arc<Client>,
    options: Arc<GitOptions>,
}

/// One repository on the way to a worktree.
struct Visit<'a> {
    reference: &'a GitReference,
    /// Without options, perhaps with user and password.
    url: Url,
    /// Where credentials for any host may go.
    trusted: Url,
    depth: usize,
    /// How many submodules there were in all.
    submodules: &'a AtomicUsize,
}

/// What a repository had.
struct Visited {
    worktree: Worktree,
    chosen: Chosen,
    /// From what was asked for to the commit.
    chain: Vec<Oid>,
    commit: Commit,
}

impl Git {
    /// Fetches as `options` say.
    pub fn new(options: GitOptions) -> Self {
        let client = Arc::new(Client::new(options.http.clone(), PlainHttp::Trusted));
        Self { client, options: Arc::new(options) }
    }

    /// What `reference` means: the files of a commit, or a directory of it, with those of its submodules
    /// unless they are left out.
    ///
    /// Modes are 0644 and 0755, of links 0777; owners are 0:0; every time is that of the commit. There is
    /// a `.git` directory only where it is asked for, and never with a subdirectory (BuildKit,
    /// `source/git`). Dropping the future ends the transfer.
    ///
    /// # Errors
    /// By kind: `NotFound` for a reference that the repository lacks, `Denied` as the server says,
    /// `Unreachable` after all attempts, `Refused` for what is no repository or asks for too much,
    /// `Corrupt` for another commit than the checksum says, `Input` for what cannot be fetched at all.
    pub async fn fetch(&self, reference: &GitReference) -> Result<Fetched, PlaceError> {
        let checkout = self.checkout(reference).await?;
        Ok(Fetched { tree: Arc::new(checkout) as Arc<dyn Tree>, file: None })
    }

    async fn checkout(&self, reference: &GitReference) -> Result<Checkout, Error> {
        let url = place(reference)?;
        let submodules = AtomicUsize::new(0);
        let visit = Visit { reference, trusted: url.clone(), url, depth: 0, submodules: &submodules };
        let shown = Redacted::of(&visit.url);
        let Visited { worktree, chosen, chain, commit } = self.visit(&visit).await?;
        let subdir = worktree.subdir(reference.subdir.as_deref().unwrap_or_default());
        let subdir = subdir.map_err(|problem| Failure::from(problem).at(&shown))?;
        let keeps_git_dir = reference.keep_git_dir == Some(true) && subdir.is_empty();
        let git_dir = keeps_git_dir.then(|| {
            let url = without_user(&visit.url);
            let name = chosen.name.as_deref();
            let head = Head { chain: &chain, name, has_parents: commit.has_parents, url: url.as_str() };
            DotGit::new(Arc::clone(&worktree.store), &worktree.root, &head)
        });
        Ok(Checkout { worktree, subdir, git_dir, time: commit.time, name: reference.to_string() })
    }

    fn visit<'a>(&'a self, visit: &'a Visit<'a>) -> BoxFuture<'a, Result<Visited, Error>> {
        Box::pin(async move {
            let shown = Redacted::of(&visit.url);
            let at = |problem: GitProblem| Failure::from(problem).at(&shown);
            let wanted = Wanted::new(visit.reference.reference.as_deref()).map_err(at)?;
            let service = self.service(visit).await?;
            let mut chosen = match &wanted {
                Wanted::Commit(_) => wanted.choose(&[]),
                _ => {
                    let prefixes = wanted.prefixes();
                    wanted.choose(&retry(self.options.backoff, async || service.refs(&prefixes).await).await?)
                }
            }
            .map_err(at)?;
            let checksum = visit.reference.checksum.as_deref();
            if chosen.name.is_some() {
                chosen.check(checksum).map_err(at)?;
            }
            let store = self.store(&service, chosen.oid, &shown).await?;
            let (chain, commit) = commit(&store, chosen.oid).map_err(|failure| failure.at(&shown))?;
            // What the server said of a tag counts only until its objects are here.
            chosen.peeled = chain.last().copied().filter(|_| chain.len() > 1);
            chosen.check(checksum).map_err(at)?;
            let (on_thread, tree, url) = (Arc::clone(&store), commit.tree, shown.clone());
            let root = watched(
                move |_| Directory::read(&on_thread, tree).map_err(|failure| failure.at(&url)),
                || Error::BrokenOff { url: shown.clone() },
            );
            let mut worktree = Worktree { store, root: root.await?, modules: BTreeMap::new() };
            if visit.reference.submodules != Some(false) {
                worktree.modules = self.modules(visit, &worktree).await?;
            }
            Ok(Visited { worktree, chosen, chain, commit })
        })
    }

    async fn service(&self, visit: &Visit<'_>) -> Result<Service, Error> {
        let is_trusted = visit.url.origin() == visit.trusted.origin();
        let authorization = self.options.credentials.authorization(&visit.url, is_trusted)?;
        let url = without_user(&visit.url);
        let find = async || Service::find(Arc::clone(&self.client), &url, authorization.clone()).await;
        retry(self.options.backoff, find).await
    }

    /// Fetches all objects of `oid`.
    async fn store(&self, service: &Service, oid: Oid, url: &Redacted) -> Result<Arc<Store>, Error> {
        let scratch = &self.options.scratch;
        let note = |text: &str| self.options.events.emit(Event::Note(text));
        note(&format!("{url} cannot be read twice: it is written to {}", scratch.display()));
        let (store, bytes) = retry(self.options.backoff, async || {
            let response = service.fetch(oid).await?;
            let runtime = Handle::current();
            let spool = Spool { name: url.clone(), directory: scratch.clone() };
            let broken_off = || Error::BrokenOff { url: url.clone() };
            watched(move |watch| spool.receive(response, &runtime, watch.clone()), broken_off).await
        })
        .await?;
        note(&format!("{bytes} bytes written for {url}"));
        Ok(Arc::new(store))
    }

    /// The submodules of `worktree`, with theirs.
    async fn modules(
        &self,
        visit: &Visit<'_>,
        worktree: &Worktree,
    ) -> Result<BTreeMap<Box<[u8]>, Worktree>, Error> {
        let mut modules = BTreeMap::new();
        let mut links = Vec::new();
        submodules(&worktree.root, &mut Vec::new(), &mut links);
        if links.is_empty() {
            return Ok(modules);
        }
        let shown = Redacted::of(&visit.url);
        let known = gitmodules(worktree).map_err(|failure| failure.at(&shown))?;
        for (path, commit) in links {
            let at = |why: String| {
                let path = ocib_net::printable(&path, 200);
                Failure::from(GitProblem::Submodule { path, why }).at(&shown)
            };
            let said = known.iter().find(|module| module.path == path && !module.url.is_empty());
            let said = said.ok_or_else(|| at("no url found for it in .gitmodules".to_owned()))?;
            if said.is_left_out {
                continue;
            }
            let reference = submodule::resolve(visit.url.as_str(), &said.url)
                .and_then(|url| GitReference::at_commit(&url, &commit.to_string()))
                .ok_or_else(|| at("its url leads to no place of repositories".to_owned()))?;
            let url = place(&reference).map_err(|error| at(error.to_string()))?;
            let count = visit.submodules.fetch_add(1, Ordering::Relaxed);
            let limit = |what, limit: usize| {
                Failure::from(GitProblem::Limit { what, limit: limit as u64 }).at(&shown)
            };
            if visit.depth == SUBMODULE_DEPTH_MAX {
                return Err(limit("submodules within each other", SUBMODULE_DEPTH_MAX));
            }
            if count >= SUBMODULES_MAX {
                return Err(limit("submodules", SUBMODULES_MAX));
            }
            let (trusted, depth) = (visit.trusted.clone(), visit.depth + 1);
            let below = Visit { reference: &reference, url, trusted, depth, submodules: visit.submodules };
            let visited = self.visit(&below).await?;
            modules.insert(path.into(), visited.worktree);
        }
        Ok(modules)
    }
}

impl fmt::Debug for Git {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

impl fmt::Debug for GitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitOptions").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

/// Where a repository is.
fn place(reference: &GitReference) -> Result<Url, Error> {
    let url = match reference.transport {
        GitTransport::Https | GitTransport::Http => reference.remote().parse::<Url>().ok(),
        GitTransport::Ssh | GitTransport::Git => {
            let problem = Box::new(GitProblem::Transport { https: reference.https_form() });
            return Err(Error::GitPlace { name: reference.to_string(), problem });
        }
    };
    url.filter(Url::has_host).ok_or_else(|| Error::BadUrl {
        url: ocib_net::printable(reference.to_string().as_bytes(), 100),
        why: "it is no URL, expected one",
    })
}

fn without_user(url: &Url) -> Url {
    let mut url = url.clone();
    // Both fail only for URLs that cannot have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// What leads from `oid` to a commit, and the commit.
fn commit(store: &Store, oid: Oid) -> Result<(Vec<Oid>, Commit), Failure> {
    let mut chain = vec![oid];
    for _ in 0..=TAGS_MAX {
        let oid = chain.last().copied().unwrap_or(oid);
        let object = store.find(oid)?;
        let broken = |why| GitProblem::of_object(oid, why);
        match object.kind {
            Kind::Commit => {
                let commit = parse_commit(&store.document(object)?).map_err(broken)?;
                return Ok((chain, commit));
            }
            Kind::Tag => chain.push(parse_tag(&store.document(object)?).map_err(broken)?),
            Kind::Tree | Kind::Blob => return Err(broken("it leads to no commit, as it must").into()),
        }
    }
    Err(GitProblem::Limit { what: "tags that lead to tags", limit: TAGS_MAX as u64 }.into())
}

/// Paths and commits of all submodules below `directory`.
fn submodules(directory: &Directory, path: &mut Vec<u8>, found: &mut Vec<(Vec<u8>, Oid)>) {
    let parent = path.len();
    for entry in &directory.entries {
        if parent > 0 {
            path.push(b'/');
        }
        path.extend(&*entry.name);
        match &entry.item {
            Item::Directory(below) => submodules(below, path, found),
            Item::Submodule(commit) => found.push((path.clone(), *commit)),
            Item::File { .. } | Item::Symlink { .. } => {}
        }
        path.truncate(parent);
    }
}

/// What `.gitmodules` says. A link of that name is not followed, as git does not either.
fn gitmodules(worktree: &Worktree) -> Result<Vec<Submodule>, Failure> {
    match worktree.find(b".gitmodules") {
        Some(Found::File { store, oid, .. }) => Ok(submodule::parse(&store.document(store.find(oid)?)?)),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests;
