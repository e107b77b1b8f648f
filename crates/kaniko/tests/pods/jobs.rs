//! Jobs as a planner would make them, written by hand, and who listens to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ocib_image::{Digest, Event, Events, LayerSource, Platform, Progress, RunJob, TaskId};
use ocib_kaniko::{Access, Cluster, Kaniko, Options, Patience};
use ocib_testkit::KubeFake;

/// A job of these instructions that pushes to `destination`, a repository with a tag.
pub(crate) fn job(dockerfile: &str, destination: &str) -> RunJob {
    RunJob {
        key: Digest::of(dockerfile.as_bytes()),
        title: "build, lines 2 to 3".to_owned(),
        dockerfile: dockerfile.to_owned(),
        lines: (1..=dockerfile.lines().count()).collect(),
        platform: Platform::linux_amd64(),
        destination: destination.parse().unwrap(),
        context: None,
        proxies: BTreeMap::new(),
        is_fresh: false,
        secrets: Vec::new(),
        disk_bytes: 100 << 20,
    }
}

/// The same job with files of its own.
pub(crate) fn with_context(job: RunJob, context: Arc<dyn LayerSource>) -> RunJob {
    RunJob { context: Some(context), ..job }
}

/// Waits that no test sits out on a machine as slow as may be. A test of a wait's end shortens that one.
pub(crate) fn patience() -> Patience {
    // Each removal of a pod that an old kubelet never finishes takes the one, each silent watch the other.
    Patience { settle: Duration::from_secs(5), relist: Duration::from_secs(2), ..Patience::default() }
}

pub(crate) fn options() -> Options {
    Options { patience: patience(), ..Options::default() }
}

/// A backend in the fake's cluster.
pub(crate) async fn backend(fake: &KubeFake, options: Options) -> Kaniko {
    Kaniko::new(cluster(fake).await, options)
}

pub(crate) async fn cluster(fake: &KubeFake) -> Cluster {
    let access = Access { kubeconfig: Some(fake.kubeconfig()), context: None };
    Cluster::connect(&access).await.unwrap()
}

/// Remembers what a job says.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub(crate) fn new() -> (Arc<Self>, Progress) {
        let heard = Arc::new(Self::default());
        (Arc::clone(&heard), Progress::new(heard, TaskId(1)))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn has(&self, part: &str) -> bool {
        self.lines().iter().any(|line| line.contains(part))
    }
}

impl Events for Heard {
    fn emit(&self, event: Event<'_>) {
        match event {
            Event::Log { line, .. } => self.0.lock().unwrap().push(line.to_owned()),
            Event::Restarted { why, .. } => self.0.lock().unwrap().push(format!("restarted: {why}")),
            _ => {}
        }
    }
}

/// What is left after a while: what a server removes by itself takes its moment.
pub(crate) async fn left(fake: &KubeFake) -> Vec<String> {
    for _ in 0..3000 {
        if fake.left().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fake.left()
}
