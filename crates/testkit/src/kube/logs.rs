//! A container's log, as kubelets serve it.

use super::{
    refusal::{not_found, status},
    watch::{begin, chunk, finish},
    world::World,
};
use crate::http::{Incoming, Reply};

/// Serves the log over the connection, or gives the refusal.
pub(super) fn serve(world: &World, request: &mut Incoming<'_>, name: &str) -> Option<Reply> {
    let is_set = |parameter: &str| request.parameter(parameter).is_some_and(|value| value == "true");
    let (follows, has_times) = (is_set("follow"), is_set("timestamps"));
    let container = request.parameter("container").unwrap_or_default();
    // Whole seconds count, as the parameter has no others.
    let since = request
        .parameter("sinceTime")
        .map(|time| time.chars().take(19).collect::<String>())
        .unwrap_or_default();
    let mut state = world.lock();
    let Some(pod) = state.pods.get(name) else { return Some(not_found("pods", name)) };
    if !pod.json["spec"]["nodeName"].is_string() {
        return Some(Reply::new(204));
    }
    // A pod that was evicted has no statuses of containers any more.
    if pod.json["status"]["phase"] == "Failed" && pod.json["status"]["containerStatuses"].is_null() {
        let message = format!("container \"{container}\" in pod \"{name}\" is not available");
        return Some(status(400, "BadRequest", &message));
    }
    let current = &pod.json["status"]["containerStatuses"][0]["state"];
    if current.is_null() || !current["waiting"].is_null() {
        let reason = current["waiting"]["reason"].as_str().unwrap_or("ContainerCreating");
        let reason = if reason == "ImagePullBackOff" { "trying and failing to pull image" } else { reason };
        let message = format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}");
        return Some(status(400, "BadRequest", &message));
    }
    let cuts = pod.log_cuts;
    let (_, mut out) = request.wire();
    if begin(&mut out, "text/plain").is_err() {
        return None;
    }
    let mut told = 0;
    loop {
        let Some(pod) = state.pods.get(name) else {
            // In the midst of the text, as 1.20 does.
            let error = b"rpc error: code = NotFound desc = an error occurred when try to find container\n";
            let _ = chunk(&mut out, error).and_then(|()| finish(&mut out));
            return None;
        };
        let mut text = String::new();
        for (time, line) in &pod.log[told..] {
            if time[..19] >= *since {
                text.push_str(&if has_times { format!("{time} {line}\n") } else { format!("{line}\n") });
            }
        }
        told = pod.log.len();
        let is_ended = !pod.json["status"]["containerStatuses"][0]["state"]["terminated"].is_null();
        let is_over = !follows || is_ended || pod.log_cuts != cuts || state.is_stopped;
        drop(state);
        if chunk(&mut out, text.as_bytes()).is_err() {
            return None;
        }
        if is_over {
            let _ = finish(&mut out);
            return None;
        }
        state = world.wait(world.lock());
    }
}
