//! What is there: objects with versions, what changed, and who waits for it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard,
        mpsc::{Receiver, SyncSender},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{FaultOf, KubeOptions, KubeRequest, LifeOf, NAMESPACE};
use crate::http::{iso, locked};

/// Pieces of input that wait for a container: a pipe's worth of a client's small frames.
const INPUT_PIECES: usize = 64;
/// How often those who wait look whether the server ends.
pub(super) const NAP: Duration = Duration::from_millis(50);

pub(super) struct World {
    pub(super) options: KubeOptions,
    pub(super) life: Arc<LifeOf>,
    pub(super) fault: Arc<FaultOf>,
    /// Has the volumes of claims.
    pub(super) volumes: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("options", &self.options).finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(super) struct State {
    version: u64,
    /// Older changes are forgotten.
    pub(super) forgotten: u64,
    pub(super) pods: BTreeMap<String, Pod>,
    pub(super) secrets: BTreeMap<String, Value>,
    pub(super) events: Vec<Value>,
    pub(super) changes: Vec<Change>,
    /// Grows when watches shall end.
    pub(super) watch_cuts: u64,
    pub(super) requests: Vec<KubeRequest>,
    pub(super) created: Vec<Value>,
    pub(super) created_secrets: Vec<Value>,
    pub(super) input_bytes: u64,
    pub(super) is_stopped: bool,
}

/// Something that watches tell.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: &'static str,
    pub(super) pod: Value,
}

/// A pod, and what its node knows of it.
pub(super) struct Pod {
    pub(super) json: Value,
    /// Times and lines.
    pub(super) log: Vec<(String, String)>,
    /// Grows when connections that follow the log shall end.
    pub(super) log_cuts: u64,
    /// What watches know of: their last change of it, or what was listed before they began.
    pub(super) told: u64,
    /// How far the clock of its node is behind.
    pub(super) behind: Duration,
    /// Where input goes; taken by the first who attaches.
    pub(super) input: Option<SyncSender<Vec<u8>>>,
    /// Where it comes from; taken by the container.
    pub(super) output: Option<Receiver<Vec<u8>>>,
    pub(super) process: Option<Child>,
}

impl World {
    pub(super) fn new(
        options: KubeOptions,
        life: Arc<LifeOf>,
        fault: Arc<FaultOf>,
        volumes: PathBuf,
    ) -> Self {
        let state = State { version: 100, ..State::default() };
        Self { options, life, fault, volumes, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Waits for a change, or a moment.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, NAP)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
    }

    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        for pod in state.pods.values_mut() {
            kill(pod);
        }
        drop(state);
        self.notify();
    }

    pub(super) fn left(&self) -> Vec<String> {
        let state = self.lock();
        let pods = state.pods.keys().map(|name| format!("pods/{name}"));
        pods.chain(state.secrets.keys().map(|name| format!("secrets/{name}"))).collect()
    }

    pub(super) fn plant(&self, mut pod: Value) {
        let name = pod["metadata"]["name"].as_str().expect("a pod has a name").to_owned();
        pod["metadata"]["namespace"] = NAMESPACE.into();
        self.lock().add(&name, pod);
        self.notify();
    }

    /// Changes a pod and tells the watches. Nothing if it is not there, or is another than `uid`.
    pub(super) fn change(&self, name: &str, uid: &str, change: impl FnOnce(&mut Value)) -> bool {
        let mut state = self.lock();
        let is_there = state.pods.get(name).is_some_and(|pod| uid_of(&pod.json) == uid);
        if is_there {
            let pod = state.pods.get_mut(name).expect("it was there a line before");
            change(&mut pod.json);
            state.tell(name, "MODIFIED");
        }
        drop(state);
        self.notify();
        is_there
    }

    /// Takes a pod away, and what it owns.
    pub(super) fn remove(&self, name: &str, uid: &str) {
        let mut state = self.lock();
        if state.pods.get(name).is_some_and(|pod| uid_of(&pod.json) == uid) {
            state.tell(name, "DELETED");
            if let Some(mut pod) = state.pods.remove(name) {
                kill(&mut pod);
            }
            if self.options.collects_garbage {
                state.secrets.retain(|_, secret| secret["metadata"]["ownerReferences"][0]["uid"] != uid);
            }
        }
        drop(state);
        self.notify();
    }
}

impl State {
    pub(super) fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Adds a pod with all that the server gives it. Returns it.
    pub(super) fn add(&mut self, name: &str, mut json: Value) -> Value {
        let version = self.next_version();
        json["metadata"]["uid"] = format!("00000000-0000-4000-8000-{version:0>12}").into();
        json["metadata"]["creationTimestamp"] = iso(SystemTime::now()).into();
        if json["status"].is_null() {
            json["status"] = json!({ "phase": "Pending", "qosClass": "Burstable" });
        }
        let (input, output) = std::sync::mpsc::sync_channel(INPUT_PIECES);
        let pod = Pod {
            json,
            log: Vec::new(),
            log_cuts: 0,
            told: 0,
            behind: Duration::ZERO,
            input: Some(input),
            output: Some(output),
            process: None,
        };
        self.pods.insert(name.to_owned(), pod);
        self.tell(name, "ADDED");
        self.pods[name].json.clone()
    }

    fn tell(&mut self, name: &str, kind: &'static str) {
        let version = self.next_version();
        let pod = self.pods.get_mut(name).expect("what is told of is there");
        pod.json["metadata"]["resourceVersion"] = version.into();
        let pod = pod.json.clone();
        self.changes.push(Change { version: self.version, kind, pod });
    }
}

impl Pod {
    /// Whether a watch has told it as it is now.
    pub(super) fn is_told(&self) -> bool {
        let version = self.json["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        version.is_some_and(|version: u64| self.told >= version)
    }
}

/// Ends the program of a pod, and whatever it started.
pub(super) fn kill(pod: &mut Pod) {
    if let Some(mut child) = pod.process.take() {
        let group = format!("-{}", child.id());
        // It may have ended by itself.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).output();
        let _ = child.wait();
    }
}

pub(super) fn uid_of(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap_or_default()
}

/// Now on a clock that is so far behind, to the nanosecond, as kubelets write it. Whatever becomes of this machine's
/// clock, it only goes on.
pub(super) fn now_nanos(behind: Duration) -> String {
    static START: LazyLock<(SystemTime, Instant)> = LazyLock::new(|| (SystemTime::now(), Instant::now()));
    let now = START.0 + START.1.elapsed() - behind;
    let nanos = now.duration_since(UNIX_EPOCH).expect("the clock is past 1970").subsec_nanos();
    format!("{}.{nanos:09}Z", iso(now).trim_end_matches('Z'))
}
