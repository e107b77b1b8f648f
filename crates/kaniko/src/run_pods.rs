//! Pods that ocib made, wherever it ran: to list them, and to remove those that nobody waits for any more.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::api::ListParams;
use ocib_image::RunError;

use crate::{
    cleanup::remove_pod,
    cluster::{Cluster, REQUEST, timed},
    options::Patience,
    pod::{BUILD_LABEL, MANAGED_BY, TITLE},
    state::{Observed, State},
};

/// A pod that ocib made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunPod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Which run of ocib made it.
    pub build: String,
    /// What it builds.
    pub title: String,
    /// What it does: `pending`, `running`, `ended`.
    pub state: &'static str,
    /// How long ago it was made.
    pub age: Duration,
    uid: String,
}

/// The pods of ocib in `namespace`, or in the cluster's usual one, the oldest first.
pub async fn list(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<RunPod>, RunError> {
    let namespace = namespace.unwrap_or(cluster.namespace());
    let parameters =
        ListParams::default().labels(&format!("{}={},{BUILD_LABEL}", MANAGED_BY.0, MANAGED_BY.1));
    let listed = timed(REQUEST, cluster.pods(namespace).list(&parameters)).await;
    let listed = listed.map_err(|refused| refused.error())?;
    let mut pods: Vec<RunPod> = listed.items.iter().map(|pod| run_pod(pod, namespace)).collect();
    pods.sort_by(|a, b| b.age.cmp(&a.age).then_with(|| a.name.cmp(&b.name)));
    Ok(pods)
}

fn run_pod(pod: &Pod, namespace: &str) -> RunPod {
    let metadata = &pod.metadata;
    let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|all| all.get(name)).cloned();
    let made = metadata.creation_timestamp.as_ref().map(|time| time.0);
    let age = made.and_then(|made| Duration::try_from(Timestamp::now() - made).ok());
    RunPod {
        name: metadata.name.clone().unwrap_or_default(),
        namespace: namespace.to_owned(),
        build: label(BUILD_LABEL).unwrap_or_default(),
        title: annotation(TITLE).unwrap_or_default(),
        state: match Observed::of(pod).state {
            State::Unscheduled { .. } | State::Waiting { .. } => "pending",
            State::Running => "running",
            State::Ended(_) | State::Gone | State::Replaced => "ended",
        },
        age: age.unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

/// Removes a pod and waits until it is gone; its secret goes with it. Says why if it does not go.
pub async fn remove(cluster: &Cluster, pod: &RunPod) -> Result<(), String> {
    remove_pod(cluster, &pod.namespace, &pod.name, &pod.uid, &Patience::default()).await
}
