//! Watching one pod: list, then watch from there, and again whenever that breaks.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};
use ocib_image::RunError;
use tokio::sync::{mpsc, oneshot, watch::Sender};

use crate::{
    cluster::{REQUEST, Refused, timed},
    options::Patience,
    state::{Observed, State},
};

const PAUSE: Duration = Duration::from_millis(500);
/// Servers end watches after five minutes or so by themselves; at 295 s at most (kube).
const WATCH_SECONDS: u32 = 240;

/// Asks whoever watches to look at the pod anew, as a watch may be silent without anybody's knowledge.
#[derive(Debug)]
pub(crate) struct Ask(mpsc::Sender<oneshot::Sender<()>>);

/// Who asked.
#[derive(Debug)]
pub(crate) struct Asked(mpsc::Receiver<oneshot::Sender<()>>);

impl Ask {
    pub(crate) fn new() -> (Self, Asked) {
        let (ask, asked) = mpsc::channel(1);
        (Self(ask), Asked(asked))
    }

    /// Waits until the pod was looked at, or as long as a request may take.
    pub(crate) async fn look(&self) {
        let (answer, looked) = oneshot::channel();
        if self.0.send(answer).await.is_ok() {
            let _ = tokio::time::timeout(REQUEST, looked).await;
        }
    }
}

/// Tells `observed` all that happens to the pod `name`, whose uid is `uid`. Ends only with an error: that the
/// cluster cannot be asked any more.
pub(crate) async fn watch(
    pods: &Api<Pod>,
    (name, uid): (&str, &str),
    observed: &Sender<Observed>,
    mut asked: Asked,
    patience: &Patience,
) -> RunError {
    let selector = format!("metadata.name={name}");
    let (mut worked, mut failing) = (false, None::<Instant>);
    let mut answer = None::<oneshot::Sender<()>>;
    loop {
        let refused = match list(pods, &selector).await {
            Ok((pod, version)) => {
                failing = None;
                tell(observed, pod.as_ref(), uid);
                // Who asked may have stopped waiting.
                let _ = answer.take().map(|answer| answer.send(()));
                // Without a refusal the watch ended, as they do, or its past is gone: the list comes next.
                tokio::select! {
                    refused = follow(pods, &selector, version, observed, (uid, patience), &mut worked) => refused,
                    Some(again) = asked.0.recv() => {
                        answer = Some(again);
                        continue;
                    }
                }
            }
            Err(refused) => Some(refused),
        };
        if let Some(refused) = refused {
            let since = failing.get_or_insert_with(Instant::now);
            let may_pass = refused.is_passing() || worked && refused.is_denial();
            if !may_pass || since.elapsed() >= patience.api {
                return refused.error();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The pod, if it is there, and the version to watch from: the list's, as the pod's own may be long gone.
async fn list(pods: &Api<Pod>, selector: &str) -> Result<(Option<Pod>, String), Refused> {
    let list = timed(REQUEST, pods.list(&ListParams::default().fields(selector))).await?;
    Ok((list.items.into_iter().next(), list.metadata.resource_version.unwrap_or_default()))
}

/// Watches until the watch ends, or until it was silent for so long that it may be dead. `worked` is set as soon
/// as the server has let us watch.
async fn follow(
    pods: &Api<Pod>,
    selector: &str,
    mut version: String,
    observed: &Sender<Observed>,
    (uid, patience): (&str, &Patience),
    worked: &mut bool,
) -> Option<Refused> {
    loop {
        let parameters = WatchParams::default().fields(selector).timeout(WATCH_SECONDS);
        let events = match timed(REQUEST, pods.watch(&parameters, &version)).await {
            Ok(events) => events.into_stream(),
            Err(Refused::Status { code: 410, .. }) => return None,
            Err(refused) => return Some(refused),
        };
        *worked = true;
        pin_mut!(events);
        let mut seen = false;
        loop {
            let event = match tokio::time::timeout(patience.relist, events.next()).await {
                Ok(Some(Ok(event))) => event,
                // A broken connection, or an error in its midst.
                Ok(Some(Err(_))) | Err(_) => return None,
                Ok(None) => break,
            };
            seen = true;
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    version = pod.metadata.resource_version.clone().unwrap_or(version);
                    tell(observed, Some(&pod), uid);
                }
                WatchEvent::Deleted(pod) => {
                    version = pod.metadata.resource_version.clone().unwrap_or(version);
                    // What it says last, before that it is gone.
                    tell(observed, Some(&pod), uid);
                    tell(observed, None, uid);
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                // 410: what happened since is forgotten.
                WatchEvent::Error(_) => return None,
            }
        }
        // A server that ends each watch at once would otherwise be asked without a pause.
        if !seen {
            return None;
        }
    }
}

/// An end stays: a pod that is removed afterwards has ended as it did.
fn tell(observed: &Sender<Observed>, pod: Option<&Pod>, uid: &str) {
    observed.send_if_modified(|known| {
        let next = match pod {
            Some(pod) if pod.metadata.uid.as_deref() == Some(uid) => Observed::of(pod),
            Some(_) => Observed { state: State::Replaced, ..known.clone() },
            None => Observed { state: State::Gone, is_deleted: true, ..known.clone() },
        };
        let was_over = known.is_over() && !matches!(next.state, State::Ended(_));
        if was_over || next == *known {
            return false;
        }
        *known = next;
        true
    });
}
