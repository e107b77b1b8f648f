//! Removing what was made, whatever happens: when a job ended, and when its future is dropped in the midst.

use std::{future::Future, sync::Arc, time::Duration};

use kube::api::{DeleteParams, Preconditions};
use tokio::{runtime::Handle, sync::watch, time::Instant};

use crate::{
    cluster::{Cluster, REQUEST, Refused, timed},
    create::is_ours,
    options::Patience,
    pod::Names,
};

const PAUSE: Duration = Duration::from_millis(300);

/// Knows which removals are under way.
#[derive(Clone, Debug)]
pub(crate) struct Removals(Arc<watch::Sender<usize>>);

impl Removals {
    pub(crate) fn none() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Has something removed by a task of its own; nobody is left who could be told how that ends.
    pub(crate) fn begin(&self, removal: impl Future + Send + 'static) {
        // Without a runtime nobody can be asked; the pod's deadline and `ocib run-pods` remain.
        let Ok(runtime) = Handle::try_current() else { return };
        let count = Arc::clone(&self.0);
        count.send_modify(|count| *count += 1);
        runtime.spawn(async move {
            removal.await;
            count.send_modify(|count| *count -= 1);
        });
    }

    /// Waits until none is under way.
    pub(crate) async fn done(&self) {
        // The sender is here, so it does not go away.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// The objects of one job. Dropped, it has them removed by a task of its own.
#[derive(Debug)]
pub(crate) struct Guard {
    objects: Option<Objects>,
    removals: Removals,
}

/// What is to be removed, and how.
#[derive(Clone, Debug)]
struct Objects {
    cluster: Cluster,
    names: Names,
    /// Of the pod, once that is known.
    uid: Option<String>,
    has_secret: bool,
    patience: Patience,
}

impl Guard {
    /// For objects that are about to be made.
    pub(crate) fn new(cluster: &Cluster, names: &Names, patience: Patience, removals: &Removals) -> Self {
        let objects = Objects {
            cluster: cluster.clone(),
            names: names.clone(),
            uid: None,
            has_secret: false,
            patience,
        };
        Self { objects: Some(objects), removals: removals.clone() }
    }

    /// The pod was made, and a secret for it will be or not.
    pub(crate) fn made(&mut self, uid: &str, has_secret: bool) {
        if let Some(objects) = &mut self.objects {
            objects.uid = Some(uid.to_owned());
            objects.has_secret = has_secret;
        }
    }

    /// The cluster did not make the pod, so there is nothing to look for.
    pub(crate) fn nothing_made(&mut self) {
        self.objects = None;
    }

    /// Whether there is, or may be, something to remove.
    pub(crate) fn has_objects(&self) -> bool {
        self.objects.is_some()
    }

    /// Leaves everything where it is.
    pub(crate) fn keep(mut self) {
        self.objects = None;
    }

    /// Removes everything. Says what is left if it could not be removed.
    pub(crate) async fn remove(mut self) -> Result<(), String> {
        let result = match &self.objects {
            Some(objects) => objects.remove().await,
            None => Ok(()),
        };
        self.objects = None;
        result
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(objects) = self.objects.take() {
            self.removals.begin(async move { objects.remove().await });
        }
    }
}

impl Objects {
    async fn remove(&self) -> Result<(), String> {
        if self.has_secret {
            let secrets = self.cluster.secrets(&self.names.namespace);
            // Whatever becomes of this, the pod's end takes its secret along.
            let _ = timed(REQUEST, secrets.delete(&self.names.name, &DeleteParams::default())).await;
        }
        let uid = match &self.uid {
            Some(uid) => Some(uid.clone()),
            None => self.find().await?,
        };
        match uid {
            Some(uid) => {
                remove_pod(&self.cluster, &self.names.namespace, &self.names.name, &uid, &self.patience).await
            }
            None => Ok(()),
        }
    }

    /// The uid of the pod, if its creation has come through after all.
    async fn find(&self) -> Result<Option<String>, String> {
        let pods = self.cluster.pods(&self.names.namespace);
        let end = Instant::now() + self.patience.settle / 5;
        loop {
            match timed(REQUEST, pods.get_opt(&self.names.name)).await {
                Ok(Some(pod)) => return Ok(is_ours(&pod, &self.names).then_some(pod.metadata.uid).flatten()),
                Ok(None) if Instant::now() > end => return Ok(None),
                Ok(None) => {}
                Err(Refused::Passing(_)) if Instant::now() < end => {}
                Err(refused) => return Err(refused.error().message),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Deletes a pod and waits until it is gone; one that does not go is deleted without grace, as kubelets of
/// old never finish with pods whose container has not started.
pub(crate) async fn remove_pod(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    uid: &str,
    patience: &Patience,
) -> Result<(), String> {
    let pods = cluster.pods(namespace);
    let mut said = String::new();
    for grace in [None, Some(0)] {
        let parameters = DeleteParams {
            grace_period_seconds: grace,
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        let end = Instant::now() + patience.settle;
        let mut is_asked = false;
        while Instant::now() < end {
            if !is_asked {
                match timed(REQUEST, pods.delete(name, &parameters)).await {
                    Ok(_) => is_asked = true,
                    // Gone, or another pod of this name.
                    Err(refused) if refused.is_not_found() || refused.is_conflict() => return Ok(()),
                    Err(Refused::Passing(why)) => said = why,
                    // It was allowed to make the pod, so this may pass too.
                    Err(refused) if refused.is_denial() => said = refused.error().message,
                    Err(refused) => return Err(refused.error().message),
                }
            }
            match timed(REQUEST, pods.get_opt(name)).await {
                Ok(None) => return Ok(()),
                Ok(Some(pod)) if pod.metadata.uid.as_deref() != Some(uid) => return Ok(()),
                Ok(Some(_)) => {}
                // Without the right to look, asking must do.
                Err(Refused::Status { .. }) if is_asked => return Ok(()),
                Err(refused) => said = refused.error().message,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Err(format!("pod {namespace}/{name} is still there{}{said}", if said.is_empty() { "" } else { ": " }))
}
