//! The Hugging Face Hub: its API for model repositories, and the store that keeps large files, on another
//! port (huggingface_hub's client; Hub API endpoints). Plain HTTP on loopback.
//!
//! Strict where clients go wrong: files are given by commit alone, and the store refuses whoever brings a
//! token, as a signed URL's host does. Files need not be kept: they may be [`Generated`].

mod answer;
mod repository;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

pub use self::repository::HubContent;
use self::repository::Repository;
use crate::{
    http::{HttpServer, locked},
    registry::{Request, Served},
};

/// A Hub and its store, ended when dropped.
#[derive(Debug)]
pub struct HubServer {
    hub: HttpServer,
    store: HttpServer,
    state: Arc<State>,
}

/// Who may read a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HubAccess {
    /// Everybody.
    Public,
    /// Everybody sees what is there; whoever was given access reads it.
    Gated,
    /// Whoever has the right token knows that it is there.
    Private,
}

/// What goes wrong, once for each time that it is asked for.
#[derive(Clone, Debug)]
pub enum HubFault {
    /// The Hub answers so, and asks to be left alone for so many seconds.
    Status(u16, Option<u64>),
    /// The store answers so.
    StoreStatus(u16),
    /// The store's connection ends after so many bytes of a body.
    Cut(u64),
    /// The first byte of what the store sends is another.
    WrongByte,
    /// The store ignores a range.
    WholeFile,
}

#[derive(Default)]
struct State {
    /// Of the store, once it runs.
    store: Mutex<String>,
    repositories: Mutex<BTreeMap<String, Repository>>,
    faults: Mutex<VecDeque<HubFault>>,
    /// Signatures of URLs that were handed out and hold.
    signed: Mutex<BTreeSet<String>>,
    options: Mutex<Options>,
    sent: Arc<AtomicU64>,
    hub_requests: Mutex<Vec<Request>>,
    store_requests: Mutex<Vec<Request>>,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    page: usize,
    rate: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { page: 1000, rate: None }
    }
}

/// A token with access to everything.
const TOKEN: &str = "hf_PlantedTokenWithAccess00";
/// A token of somebody without access.
const STRANGER: &str = "hf_PlantedTokenOfAStranger0";

impl HubServer {
    /// Starts an empty Hub.
    pub fn start() -> Self {
        let state = Arc::new(State::default());
        let (hub, store) = (state.clone(), state.clone());
        let store = HttpServer::start(move |request| Some(store.answer_store(request)));
        *locked(&state.store) = store.host();
        let hub = HttpServer::start(move |request| Some(hub.answer_hub(request)));
        Self { hub, store, state }
    }

    /// The value of `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.hub.host())
    }

    /// `127.0.0.1:PORT` of where large files are.
    pub fn store_host(&self) -> String {
        self.store.host()
    }

    /// Makes a commit of these files, and no others, on the branch `main`; its 40 digits.
    pub fn publish(&self, repository: &str, files: &[(&str, HubContent)]) -> String {
        let mut repositories = locked(&self.state.repositories);
        repositories.entry(repository.to_owned()).or_default().commit(files)
    }

    /// Lets `revision` mean what `main` means now.
    pub fn tag(&self, repository: &str, revision: &str) {
        self.with(repository, |repository| repository.tag(revision));
    }

    /// Who may read a repository: everybody, unless something else is said.
    pub fn restrict(&self, repository: &str, access: HubAccess) {
        self.with(repository, |repository| repository.access = access);
    }

    fn with(&self, name: &str, change: impl FnOnce(&mut Repository)) {
        let mut repositories = locked(&self.state.repositories);
        change(repositories.get_mut(name).unwrap_or_else(|| panic!("no repository {name} was published")));
    }

    /// A token with access to everything.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// A valid token of somebody without access to what is not public.
    pub fn stranger(&self) -> &'static str {
        STRANGER
    }

    /// Lists so many entries in a page.
    pub fn page(&self, entries: usize) {
        locked(&self.state.options).page = entries;
    }

    /// Each of the store's connections gives so many bytes in a second.
    pub fn throttle(&self, bytes_per_second: Option<u64>) {
        locked(&self.state.options).rate = bytes_per_second;
    }

    /// Goes wrong in this way at the next request that it fits.
    pub fn fail(&self, fault: HubFault) {
        locked(&self.state.faults).push_back(fault);
    }

    /// Faults that did not happen yet.
    pub fn faults_left(&self) -> usize {
        locked(&self.state.faults).len()
    }

    /// URLs of the store that were handed out hold no more.
    pub fn expire_urls(&self) {
        locked(&self.state.signed).clear();
    }

    /// What the Hub was asked, in order.
    pub fn requests(&self) -> Served {
        Served(locked(&self.state.hub_requests).clone())
    }

    /// What the store was asked, in order.
    pub fn store_requests(&self) -> Served {
        Served(locked(&self.state.store_requests).clone())
    }

    /// Bytes of files that were sent so far, by the Hub and by the store, taken or not.
    pub fn body_bytes(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }
}

impl State {
    /// The next fault, if it is one that `fits`.
    fn fault(&self, fits: impl FnOnce(&HubFault) -> bool) -> Option<HubFault> {
        let mut faults = locked(&self.faults);
        if faults.front().is_some_and(fits) { faults.pop_front() } else { None }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}
