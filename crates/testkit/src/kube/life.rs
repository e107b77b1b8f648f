//! What happens to pods: the script of a test, and what deleting does.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use super::{
    KubeStep, Stdin, process,
    world::{World, now_nanos},
};
use crate::http::iso;

/// Does the steps one after the other, as long as the pod is there.
pub(super) fn live(world: &World, name: &str, uid: &str, steps: Vec<KubeStep>) {
    for step in steps {
        if !take(world, name, uid, step) {
            return;
        }
    }
}

/// Whether the pod is still there.
fn take(world: &World, name: &str, uid: &str, step: KubeStep) -> bool {
    let change = |change: &dyn Fn(&mut Value)| world.change(name, uid, change);
    match step {
        KubeStep::Schedule => change(&|pod| {
            pod["spec"]["nodeName"] = "node-0".into();
            pod["status"]["conditions"] = json!([{ "type": "PodScheduled", "status": "True" }]);
        }),
        KubeStep::Unschedulable(message) => change(&|pod| {
            pod["status"]["conditions"] = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message }]);
        }),
        KubeStep::Event(reason, message) => {
            let object = json!({ "kind": "Pod", "name": name });
            let event =
                json!({ "metadata": {}, "involvedObject": object, "reason": reason, "message": message });
            world.lock().events.push(event);
            change(&|_| {})
        }
        KubeStep::Waiting(reason, message) => container(
            world,
            name,
            uid,
            "Pending",
            &json!({ "waiting": { "reason": reason, "message": message } }),
        ),
        KubeStep::Running => {
            container(world, name, uid, "Running", &json!({ "running": { "startedAt": now() } }))
        }
        KubeStep::Log(line) => log(world, name, &line),
        KubeStep::CutLogs => {
            if let Some(pod) = world.lock().pods.get_mut(name) {
                pod.log_cuts += 1;
            }
            change(&|_| {})
        }
        KubeStep::SetBack(milliseconds) => {
            if let Some(pod) = world.lock().pods.get_mut(name) {
                pod.behind += Duration::from_millis(milliseconds);
            }
            change(&|_| {})
        }
        KubeStep::Read(how) => read(world, name, how),
        KubeStep::Exit(code, reason, message) => exit(world, name, uid, code, reason, &message),
        KubeStep::Status(fields) => change(&|pod| set(&mut pod["status"], &fields)),
        KubeStep::Set(fields) => change(&|pod| set(pod, &fields)),
        KubeStep::CutWatches => {
            world.lock().watch_cuts += 1;
            change(&|_| {})
        }
        KubeStep::Forget => {
            let mut state = world.lock();
            state.forgotten = state.version() + 1;
            state.watch_cuts += 1;
            drop(state);
            change(&|_| {})
        }
        KubeStep::Delete => {
            deleted(world, name, uid, false);
            false
        }
        KubeStep::Replace => {
            let Some(pod) = world.lock().pods.get(name).map(|pod| pod.json.clone()) else { return false };
            world.remove(name, uid);
            let mut state = world.lock();
            state.add(name, json!({ "metadata": { "name": name, "namespace": pod["metadata"]["namespace"] }, "spec": pod["spec"] }));
            drop(state);
            world.notify();
            false
        }
        KubeStep::Execute => process::run(world, name, uid),
        KubeStep::Pause(milliseconds) => {
            thread::sleep(Duration::from_millis(milliseconds));
            change(&|_| {})
        }
        KubeStep::Told => told(world, name),
    }
}

fn now() -> String {
    iso(std::time::SystemTime::now())
}

fn set(target: &mut Value, fields: &Value) {
    match (target, fields) {
        (Value::Object(target), Value::Object(fields)) => {
            for (name, value) in fields {
                set(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (target, value) => *target = value.clone(),
    }
}

/// Sets the state of the pod's one container.
pub(super) fn container(world: &World, name: &str, uid: &str, phase: &str, state: &Value) -> bool {
    world.change(name, uid, |pod| {
        let image = pod["spec"]["containers"][0]["image"].clone();
        pod["status"]["phase"] = phase.into();
        pod["status"]["containerStatuses"] = json!([{
            "name": pod["spec"]["containers"][0]["name"], "image": image, "imageID": "", "ready": false,
            "restartCount": 0, "state": state,
        }]);
    })
}

/// The container's end, and a moment later the pod's.
pub(super) fn exit(world: &World, name: &str, uid: &str, code: i32, reason: &str, message: &str) -> bool {
    if let Some(pod) = world.lock().pods.get_mut(name) {
        // Nobody takes input any more.
        pod.output = None;
    }
    let mut terminated =
        json!({ "exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now() });
    if !message.is_empty() {
        terminated["message"] = message.into();
    }
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    container(world, name, uid, "Running", &json!({ "terminated": terminated }))
        && world.change(name, uid, |pod| pod["status"]["phase"] = phase.into())
}

pub(super) fn log(world: &World, name: &str, line: &str) -> bool {
    let mut state = world.lock();
    let Some(pod) = state.pods.get_mut(name) else { return false };
    pod.log.push((now_nanos(pod.behind), line.to_owned()));
    drop(state);
    world.notify();
    true
}

/// Waits until watches know of the pod as it is.
fn told(world: &World, name: &str) -> bool {
    let mut state = world.lock();
    loop {
        match state.pods.get(name) {
            Some(pod) if pod.is_told() => return true,
            Some(_) if !state.is_stopped => state = world.wait(state),
            _ => return false,
        }
    }
}

/// Takes input as the container would.
fn read(world: &World, name: &str, how: Stdin) -> bool {
    let output = world.lock().pods.get_mut(name).and_then(|pod| pod.output.take());
    let Some(output) = output else { return false };
    let mut left = match how {
        Stdin::All => u64::MAX,
        Stdin::Bytes(bytes) => bytes,
    };
    while left > 0 {
        match output.recv_timeout(super::world::NAP) {
            Ok(piece) => left = left.saturating_sub(piece.len() as u64),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                let state = world.lock();
                if state.is_stopped || !state.pods.contains_key(name) {
                    return false;
                }
            }
        }
    }
    if let Some(pod) = world.lock().pods.get_mut(name) {
        pod.output = Some(output);
    }
    true
}

/// What deleting a pod comes to: its container is killed, then it is gone.
pub(super) fn deleted(world: &World, name: &str, uid: &str, at_once: bool) {
    let is_running = {
        let mut state = world.lock();
        let Some(pod) = state.pods.get_mut(name).filter(|pod| pod.json["metadata"]["uid"] == uid) else {
            return;
        };
        super::world::kill(pod);
        !pod.json["status"]["containerStatuses"][0]["state"]["running"].is_null()
    };
    if !at_once {
        world.change(name, uid, |pod| pod["metadata"]["deletionTimestamp"] = now().into());
        if is_running {
            exit(world, name, uid, 143, "Error", "");
        }
    }
    world.remove(name, uid);
}
