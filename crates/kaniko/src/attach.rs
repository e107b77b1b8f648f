//! Sending a context to the executor's standard input, as a gzip stream made on the way.
//!
//! What kube's attach does not do for us: it never ends a write that nobody takes, whether the container has
//! exited, the connection is gone or the server is, so every write races with the connection's end, the
//! pod's, and a clock. Only standard input is attached, as the other streams would block it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, AttachedProcess},
};
use ocib_image::{LayerError, LayerSource, Progress, RunError};
use tokio::{io::AsyncWriteExt as _, sync::watch::Receiver};

use crate::{
    cluster::{REQUEST, Refused, timed},
    context::{ContextError, PackedContext},
    ends::End,
    options::Patience,
    pod::CONTAINER,
    state::Observed,
};

/// kube's own pipe to the connection, 1 KiB by default.
const PIPE_BYTES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(300);

/// Sends `context` to the container of `name`, which runs or will in a moment. That all of it was sent is no
/// sign that it was taken: only the pod's end tells. The connection that is returned carries what the
/// executor has not read yet, so it is to be kept until then.
pub(crate) async fn send(
    pods: &Api<Pod>,
    name: &str,
    context: &Arc<dyn LayerSource>,
    mut observed: Receiver<Observed>,
    progress: &Progress,
    patience: &Patience,
) -> Result<Option<AttachedProcess>, RunError> {
    let Some(mut attached) = attach(pods, name, &observed, patience).await? else { return Ok(None) };
    let mut packed = PackedContext::new(context, progress);
    match pump(&mut attached, &mut packed, &mut observed, patience).await {
        Pumped::Whole => Ok(Some(attached)),
        Pumped::Unread(error) => Err(ContextError::from(error).error()),
        Pumped::Over => Ok(None),
        Pumped::Cut(bytes) => cut(bytes, observed, patience).await.map(|()| None),
        Pumped::Stalled(bytes) => Err(End::ContextStalled
            .error(format!("after {bytes} bytes nothing was taken for {} s", patience.stall.as_secs()))),
    }
}

/// Opens the connection. Nothing if the pod has ended by then. Until the first byte was sent it may be tried
/// again; after it never, as the kubelet swallows what a second connection sends.
async fn attach(
    pods: &Api<Pod>,
    name: &str,
    observed: &Receiver<Observed>,
    patience: &Patience,
) -> Result<Option<AttachedProcess>, RunError> {
    let parameters = AttachParams {
        container: Some(CONTAINER.to_owned()),
        stdin: true,
        stdout: false,
        stderr: false,
        max_stdin_buf_size: Some(PIPE_BYTES),
        ..AttachParams::default()
    };
    let begun = Instant::now();
    loop {
        let refused = match timed(REQUEST, pods.attach(name, &parameters)).await {
            Ok(attached) => return Ok(Some(attached)),
            Err(refused) => refused,
        };
        if observed.borrow().is_over() {
            return Ok(None);
        }
        match refused {
            // The kubelet's view of the container lags: "container kaniko not found in pod" is a 500, "does
            // not have a host assigned" a 400.
            Refused::Passing(_) | Refused::Status { code: 400, .. } if begun.elapsed() < patience.retry => {}
            Refused::Status { code: 403, message, .. } if !message.contains("pods/attach") => {
                return Err(match message.is_empty() {
                    // No protocol in common: an answer without a body.
                    true => End::AttachRefused.error("403"),
                    // Kubernetes 1.35 and later ask for `create` besides `get`, and do not say so.
                    false => End::Forbidden.error(format!("{message} (verbs get and create of pods/attach)")),
                });
            }
            refused @ (Refused::Status { code: 401 | 403, .. } | Refused::Auth(_)) => {
                return Err(refused.error());
            }
            Refused::Passing(said) => return Err(End::AttachRefused.error(said)),
            Refused::Status { message, code, .. } => {
                return Err(End::AttachRefused.error(format!("{code} {message}")));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How sending ended.
enum Pumped {
    /// There is nothing more to send.
    Whole,
    /// There would be more, but it cannot be read.
    Unread(LayerError),
    /// The pod ended.
    Over,
    /// The connection ended, after so many bytes.
    Cut(u64),
    /// Nothing was taken any more, after so many bytes.
    Stalled(u64),
}

async fn pump(
    attached: &mut AttachedProcess,
    packed: &mut PackedContext,
    observed: &mut Receiver<Observed>,
    patience: &Patience,
) -> Pumped {
    let mut stdin = attached.stdin().expect("it was asked for");
    // Its end is the connection's, however that comes.
    let mut status = Box::pin(attached.take_status().expect("it is taken once"));
    let mut sent = 0;
    loop {
        let piece = match packed.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => return Pumped::Unread(error),
        };
        let length = piece.len() as u64;
        tokio::select! {
            written = stdin.write_all(&piece) => if written.is_err() { return Pumped::Cut(sent) },
            _ = &mut status => return Pumped::Cut(sent),
            _ = observed.wait_for(Observed::is_over) => return Pumped::Over,
            () = tokio::time::sleep(patience.stall) => return Pumped::Stalled(sent),
        }
        sent += length;
    }
    // Dropping it would not end the input. What kube still holds must be taken first.
    let whole = async {
        let _ = stdin.shutdown().await;
        status.await
    };
    tokio::select! {
        // v5: a status, as soon as the input is closed. v4: the connection's end.
        _ = whole => Pumped::Whole,
        _ = observed.wait_for(Observed::is_over) => Pumped::Over,
        // The executor reads a tar to its end marker and not to the end of its input, so the rest may be left.
        () = tokio::time::sleep(patience.stall) => Pumped::Whole,
    }
}

/// The connection ended before all was sent. If the executor has ended, that is why; if it has not, it will
/// never get the rest.
async fn cut(bytes: u64, mut observed: Receiver<Observed>, patience: &Patience) -> Result<(), RunError> {
    let ended = observed.wait_for(Observed::is_over);
    match tokio::time::timeout(patience.settle, ended).await {
        Ok(_) => Ok(()),
        Err(_) => Err(End::ContextCut.error(format!("after {bytes} bytes"))),
    }
}
