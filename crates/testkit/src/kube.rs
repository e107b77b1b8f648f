//! A Kubernetes API server at the wire: pods, their watch, logs and attach, and what else a program that
//! runs pods asks for. Its pods live as a test scripts them, or run a real program of this host with what
//! was attached as its input.
//!
//! It answers as servers of 1.20 and 1.36 were seen to, in their words, and refuses what they refuse.

mod api;
mod attach;
mod life;
mod logs;
mod process;
mod quota;
mod refusal;
mod strict;
mod watch;
mod websocket;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{HttpServer, Incoming};

use self::world::World;

/// How the server is set up. The default: all is allowed, one node of each architecture, attach v5.
#[derive(Clone, Debug)]
pub struct KubeOptions {
    /// The protocols of attach that it speaks, without `.channel.k8s.io`: 1.20 has no `v5`.
    pub attach: &'static [&'static str],
    /// What it says that it is.
    pub version: &'static str,
    /// What is not allowed: verb and resource, such as `("create", "pods/attach")`.
    pub denied: &'static [(&'static str, &'static str)],
    /// Architectures of its nodes.
    pub nodes: &'static [&'static str],
    /// The level of pod security that its namespace enforces.
    pub pod_security: Option<&'static str>,
    /// How many pods its namespace may have.
    pub pods_max: Option<u64>,
    /// What all of its containers together may ask for, such as `("limits.cpu", "4")`.
    pub quota: &'static [(&'static str, &'static str)],
    /// Its persistent volume claims with their access modes. Their volumes are directories of this machine.
    pub claims: &'static [(&'static str, &'static str)],
    /// Whether pods whose container has not started stay when they are deleted with grace, as on 1.20.
    pub is_stubborn: bool,
    /// Whether secrets go when the pod that owns them goes.
    pub collects_garbage: bool,
}

impl Default for KubeOptions {
    fn default() -> Self {
        Self {
            attach: &["v5", "v4"],
            version: "v1.36.2",
            denied: &[],
            nodes: &["amd64", "arm64"],
            pod_security: None,
            pods_max: None,
            quota: &[],
            claims: &[],
            is_stubborn: false,
            collects_garbage: true,
        }
    }
}

impl KubeOptions {
    /// As a server of 1.20.
    pub fn v1_20() -> Self {
        Self { attach: &["v4"], version: "v1.20.2", is_stubborn: true, ..Self::default() }
    }
}

/// A request that a fault may be chosen for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KubeRequest {
    /// HTTP method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// The query.
    pub query: String,
    /// How many requests of this method and path came before it.
    pub before: usize,
}

/// What goes wrong with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KubeFault {
    /// It is answered like this.
    Answer(u16, String),
    /// The connection ends without an answer, and nothing is done.
    HangUp,
    /// The connection ends without an answer after all was done.
    LoseAnswer,
    /// Nothing is answered, ever.
    Stall,
    /// Of an attach: the connection breaks after so many bytes of input.
    CutAfter(u64),
}

/// What happens to a pod, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum KubeStep {
    /// A node takes it.
    Schedule,
    /// No node does, as the scheduler says.
    Unschedulable(&'static str),
    /// An event of this reason and message is told of it.
    Event(&'static str, &'static str),
    /// Its container waits, for this reason, with this message.
    Waiting(&'static str, &'static str),
    /// Its container runs.
    Running,
    /// It says a line.
    Log(String),
    /// Connections that follow its log end as if all were told.
    CutLogs,
    /// The clock of its node, which stamps its log, is set back by so many milliseconds.
    SetBack(u64),
    /// Its container takes input.
    Read(Stdin),
    /// Its container ends, with this code, reason and termination message.
    Exit(i32, &'static str, String),
    /// Fields of its status are set.
    Status(Value),
    /// Fields of the pod are set.
    Set(Value),
    /// Watches end as if their time were over.
    CutWatches,
    /// What was watched so far is forgotten: who goes on there is told that it is too late.
    Forget,
    /// Somebody deletes it.
    Delete,
    /// Somebody deletes it and makes another of the same name.
    Replace,
    /// The stand-in for the executor runs as its container.
    Execute,
    /// Some milliseconds pass.
    Pause(u64),
    /// Watches are told of it as it is now.
    Told,
}

/// How much input a container takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stdin {
    /// All, to its end.
    All,
    /// So many bytes at least.
    Bytes(u64),
}

/// A running API server, ended when dropped.
#[derive(Debug)]
pub struct KubeFake {
    server: HttpServer,
    world: Arc<World>,
    dir: TempDir,
}

/// The namespace that is there.
const NAMESPACE: &str = "builds";
const TOKEN: &str = "fake-cluster-token";

type LifeOf = dyn Fn(&Value) -> Vec<KubeStep> + Send + Sync;
type FaultOf = dyn Fn(&KubeRequest) -> Option<KubeFault> + Send + Sync;

impl KubeFake {
    /// A server whose pods live as `life` says of each.
    pub fn start(
        options: KubeOptions,
        life: impl Fn(&Value) -> Vec<KubeStep> + Send + Sync + 'static,
    ) -> Self {
        Self::faulty(options, life, |_| None)
    }

    /// A server that does to requests what `fault` says of each.
    pub fn faulty(
        options: KubeOptions,
        life: impl Fn(&Value) -> Vec<KubeStep> + Send + Sync + 'static,
        fault: impl Fn(&KubeRequest) -> Option<KubeFault> + Send + Sync + 'static,
    ) -> Self {
        let dir = TempDir::with_prefix("ocib-kube-").expect("a temporary directory");
        let volumes = dir.path().join("volumes");
        for (claim, _) in options.claims {
            fs::create_dir_all(volumes.join(claim)).expect("a directory of ours");
        }
        let world = Arc::new(World::new(options, Arc::new(life), Arc::new(fault), volumes));
        let handled = Arc::clone(&world);
        let server = HttpServer::start(move |request: &mut Incoming<'_>| api::answer(&handled, request));
        let fake = Self { server, world, dir };
        fs::write(fake.kubeconfig(), fake.kubeconfig_text(TOKEN)).expect("a file in a directory of ours");
        fake
    }

    /// A kubeconfig file that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// A kubeconfig of a user that the server does not know.
    pub fn stranger(&self) -> PathBuf {
        let path = self.dir.path().join("stranger");
        fs::write(&path, self.kubeconfig_text("wrong")).expect("a file in a directory of ours");
        path
    }

    /// The token that opens it, which must not show up anywhere.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// The namespace that is there.
    pub fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    fn kubeconfig_text(&self, token: &str) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{ "name": "fake", "cluster": { "server": format!("http://{}", self.server.host()) } }],
            "users": [{ "name": "ocib", "user": { "token": token } }],
            "contexts": [{ "name": "fake", "context": { "cluster": "fake", "user": "ocib", "namespace": NAMESPACE } }],
        })
        .to_string()
    }

    /// Everything that was made and is still there, as `pods/NAME` or `secrets/NAME`.
    pub fn left(&self) -> Vec<String> {
        self.world.left()
    }

    /// Every pod as it was created, in order.
    pub fn created(&self) -> Vec<Value> {
        self.world.lock().created.clone()
    }

    /// Every secret as it was created, in order.
    pub fn secrets(&self) -> Vec<Value> {
        self.world.lock().created_secrets.clone()
    }

    /// Method and path of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.world
            .lock()
            .requests
            .iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    /// Bytes of input that containers took so far.
    pub fn input_bytes(&self) -> u64 {
        self.world.lock().input_bytes
    }

    /// The directory that is the volume of a claim.
    pub fn volume(&self, claim: &str) -> PathBuf {
        self.world.volumes.join(claim)
    }

    /// Puts a pod there that nobody of this test made.
    pub fn plant(&self, pod: Value) {
        self.world.plant(pod);
    }

    /// A file below a directory of this server's, for what tests need beside it.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.dir.path()).join(name)
    }
}

impl Drop for KubeFake {
    fn drop(&mut self) {
        self.world.stop();
    }
}
