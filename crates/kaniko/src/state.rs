//! What a pod's status means: a pure function, without a look at logs or clocks.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use crate::pod::CONTAINER;

/// What was seen of a pod last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Observed {
    pub(crate) state: State,
    /// Why the cluster takes the pod away: the reason and message of the condition `DisruptionTarget`.
    pub(crate) disruption: Option<(String, String)>,
    /// Whether somebody deleted the pod.
    pub(crate) is_deleted: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// No node took it yet. `said` is what the scheduler says of that.
    Unscheduled {
        said: String,
    },
    /// It is on a node, and its container does not run yet.
    Waiting {
        reason: String,
        message: String,
    },
    Running,
    Ended(Ended),
    /// The pod is not there any more.
    Gone,
    /// Another pod has its name.
    Replaced,
}

/// How a pod ended, in the words of its status. Empty where nothing is said.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    /// Of the executor, if its container's end is known.
    pub(crate) exit_code: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) pod_reason: String,
    pub(crate) pod_message: String,
    /// Whether the pod as a whole has ended, so that no reason will come any more.
    pub(crate) is_final: bool,
}

impl Observed {
    /// Before anything was seen.
    pub(crate) fn nothing() -> Self {
        let state = State::Unscheduled { said: String::new() };
        Self { state, disruption: None, is_deleted: false }
    }

    pub(crate) fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        Self {
            state: state(pod, &status),
            disruption: condition(&status, "DisruptionTarget")
                .filter(|condition| condition.status == "True")
                .map(|condition| (text(condition.reason.as_deref()), text(condition.message.as_deref()))),
            is_deleted: pod.metadata.deletion_timestamp.is_some(),
        }
    }

    /// Whether nothing runs any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended(_) | State::Gone | State::Replaced)
    }
}

fn state(pod: &Pod, status: &PodStatus) -> State {
    let phase = status.phase.as_deref().unwrap_or_default();
    let container = container(status);
    let current = container.and_then(|container| container.state.as_ref());
    let pod_reason = text(status.reason.as_deref());
    let terminated = current.and_then(|state| state.terminated.as_ref());
    // 1.20 leaves the container `running` in a pod whose deadline has passed, so the phase counts too. A
    // sidecar may keep the phase from ever being final, so the container counts without it.
    let is_final = matches!(phase, "Succeeded" | "Failed" | "Unknown") || pod_reason == "NodeLost";
    if is_final || terminated.is_some() {
        return State::Ended(Ended {
            exit_code: terminated.map(|end| end.exit_code),
            reason: text(terminated.and_then(|end| end.reason.as_deref())),
            message: text(terminated.and_then(|end| end.message.as_deref())),
            pod_reason: if phase == "Unknown" { "NodeLost".to_owned() } else { pod_reason },
            pod_message: text(status.message.as_deref()),
            is_final,
        });
    }
    if current.is_some_and(|state| state.running.is_some()) {
        return State::Running;
    }
    if let Some(waiting) = current.and_then(|state| state.waiting.as_ref()) {
        let (reason, message) = (text(waiting.reason.as_deref()), text(waiting.message.as_deref()));
        return State::Waiting { reason, message };
    }
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
        return State::Waiting { reason: "ContainerCreating".to_owned(), message: String::new() };
    }
    let scheduled = condition(status, "PodScheduled").filter(|condition| condition.status == "False");
    State::Unscheduled { said: text(scheduled.and_then(|condition| condition.message.as_deref())) }
}

fn container(status: &PodStatus) -> Option<&ContainerStatus> {
    status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER)
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn state_of(spec: &Value, status: &Value) -> State {
        let pod = json!({ "metadata": {}, "spec": spec, "status": status });
        Observed::of(&serde_json::from_value(pod).unwrap()).state
    }

    fn kaniko(state: Value) -> Value {
        let status = |name: &str, state: Value| json!({ "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state });
        // Sidecars come first, and say nothing.
        json!([status("sidecar", json!({ "running": {} })), status(CONTAINER, state)])
    }

    #[test]
    fn statuses_as_seen_on_clusters() {
        let placed = json!({ "nodeName": "n", "containers": [] });
        let free = json!({ "containers": [] });
        let waiting = |reason: &str| State::Waiting { reason: reason.to_owned(), message: String::new() };
        let ended = |exit_code, reason: &str, pod_reason: &str, is_final| {
            State::Ended(Ended {
                exit_code,
                reason: reason.to_owned(),
                pod_reason: pod_reason.to_owned(),
                is_final,
                ..Ended::default()
            })
        };
        for (spec, status, expected) in [
            (&free, json!({}), State::Unscheduled { said: String::new() }),
            (
                &free,
                json!({ "phase": "Pending", "conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1",
                }] }),
                State::Unscheduled { said: "0/1".to_owned() },
            ),
            (&placed, json!({ "phase": "Pending" }), waiting("ContainerCreating")),
            (
                &placed,
                json!({ "phase": "Pending", "containerStatuses": kaniko(json!({ "waiting": { "reason": "ErrImagePull" } })) }),
                waiting("ErrImagePull"),
            ),
            (
                &placed,
                json!({ "phase": "Running", "containerStatuses": kaniko(json!({ "running": {} })) }),
                State::Running,
            ),
            // With a sidecar, or for a moment on every cluster.
            (
                &placed,
                json!({ "phase": "Running", "containerStatuses": kaniko(json!({ "terminated": { "exitCode": 0, "reason": "Completed" } })) }),
                ended(Some(0), "Completed", "", false),
            ),
            // 1.20: evicted, without any status of a container.
            (&placed, json!({ "phase": "Failed", "reason": "Evicted" }), ended(None, "", "Evicted", true)),
            // 1.20: the deadline has passed, and the container is said to run.
            (
                &placed,
                json!({ "phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": kaniko(json!({ "running": {} })) }),
                ended(None, "", "DeadlineExceeded", true),
            ),
            (&placed, json!({ "phase": "Unknown" }), ended(None, "", "NodeLost", true)),
            (
                &placed,
                json!({ "phase": "Running", "reason": "NodeLost", "containerStatuses": kaniko(json!({ "running": {} })) }),
                ended(None, "", "NodeLost", true),
            ),
        ] {
            assert_eq!(state_of(spec, &status), expected, "{status}");
        }
    }
}
