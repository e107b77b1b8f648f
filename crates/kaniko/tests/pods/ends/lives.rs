//! Ends of pods that got as far as a node, or did not.

use std::time::Duration;

use ocib_kaniko::End;
use ocib_testkit::{KubeOptions, KubeStep};
use serde_json::{Value, json};

use super::Case;

fn failed(reason: &str, message: &str, containers: &Value) -> KubeStep {
    KubeStep::Status(
        json!({ "phase": "Failed", "reason": reason, "message": message, "containerStatuses": containers }),
    )
}

fn waits(reason: &'static str, message: &'static str) -> Vec<KubeStep> {
    vec![KubeStep::Schedule, KubeStep::Waiting("ContainerCreating", ""), KubeStep::Waiting(reason, message)]
}

/// Lives that are told by the pod alone.
pub(super) fn lives() -> Vec<Case> {
    use End::{
        Architecture, Base, Command, CommandKilled, ContainerConfig, ContainerCreate, ContextCut,
        ContextRead, Deadline, DiskFull, Evicted, Executor, ImageAbsent, ImageName, ImagePull, Killed,
        NoArchitecture, NoDigest, NoRoom, NodeLost, NotAdmitted, OomKilled, PodDeleted, Preempted, Push,
        Replaced, Sandbox, StartFailed, StartSlow, Tainted, Unschedulable, Volume,
    };
    let preempted = json!([{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": "default-scheduler: preempting to accommodate a higher priority pod",
    }]);
    vec![
        Case::exited("a command fails", Command, "it exited with 42", 42, "no"),
        Case::exited(
            "a command fails with the executor's own code",
            Command,
            "it exited with 1",
            1,
            "error building image: error building stage: failed to execute command: waiting for process to exit: exit status 1",
        ),
        Case::exited("a command is killed", CommandKilled, "", 255, "Killed"),
        Case::ran("out of memory, 255", OomKilled, "", [KubeStep::Exit(255, "OOMKilled", String::new())]),
        Case::ran("out of memory, 137", OomKilled, "", [KubeStep::Exit(137, "OOMKilled", String::new())]),
        Case::ran(
            "evicted on 1.20",
            Evicted,
            "exceeds the total limit of containers 50Mi",
            [failed(
                "Evicted",
                "Pod ephemeral local storage usage exceeds the total limit of containers 50Mi.",
                &Value::Null,
            )],
        ),
        Case::ran(
            "evicted on 1.36: killed first, explained later",
            Evicted,
            "low on resource",
            [
                KubeStep::Status(json!({ "containerStatuses": [{
                    "name": "kaniko", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": { "terminated": { "exitCode": 137, "reason": "Error" } },
                }] })),
                KubeStep::Told,
                KubeStep::Pause(300),
                KubeStep::Status(
                    json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage." }),
                ),
            ],
        )
        .with(|options| options.patience.settle = Duration::from_secs(60)),
        Case::ran(
            "too late on 1.20: said to run",
            Deadline,
            "active on the node longer than",
            [KubeStep::Status(
                json!({ "phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline" }),
            )],
        ),
        Case::ran(
            "too late on 1.36",
            Deadline,
            "longer than",
            // The container's end first; why, and that the pod has ended with it, in one step.
            [
                KubeStep::Status(json!({ "containerStatuses": [{
                    "name": "kaniko", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": { "terminated": { "exitCode": 143, "reason": "Error" } },
                }] })),
                KubeStep::Status(
                    json!({ "phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline" }),
                ),
            ],
        )
        .with(|options| options.patience.settle = Duration::from_secs(60)),
        Case::ran("deleted while it runs", PodDeleted, "", [KubeStep::Delete]),
        Case::new("deleted while it waits", PodDeleted, "", [KubeStep::Schedule, KubeStep::Delete]),
        Case::ran("replaced", Replaced, "", [KubeStep::Replace]),
        Case::ran(
            "no such program",
            StartFailed,
            "executable file not found",
            [KubeStep::Exit(
                128,
                "StartError",
                "failed to create containerd task: exec: \"/x\": executable file not found in $PATH"
                    .to_owned(),
            )],
        ),
        Case::ran(
            "another architecture's program",
            Architecture,
            "exec format error",
            [KubeStep::Exit(128, "StartError", "exec /kaniko/executor: exec format error".to_owned())],
        ),
        Case::new("no image", ImagePull, "ErrImagePull: not found", {
            let mut steps = waits("ErrImagePull", "not found");
            steps.extend([
                KubeStep::Told,
                KubeStep::Pause(1_000),
                KubeStep::Waiting("ImagePullBackOff", "Back-off pulling image"),
            ]);
            steps
        })
        .waiting(|patience| &mut patience.retry),
        Case::new("no image on an old node", ImagePull, "ErrImagePull", waits("ErrImagePull", "not found"))
        .waiting(|patience| &mut patience.retry)
            .on(KubeOptions::v1_20()),
        Case::new(
            "a wrong name of an image",
            ImageName,
            "couldn't parse",
            waits("InvalidImageName", "couldn't parse image reference"),
        )
        .on(KubeOptions::v1_20()),
        Case::new(
            "an image that must be there",
            ImageAbsent,
            "is not present",
            waits("ErrImageNeverPull", "Container image \"x\" is not present with pull policy of Never"),
        ),
        Case::new(
            "a missing key of a secret",
            ContainerConfig,
            "secret \"x\" not found",
            waits("CreateContainerConfigError", "secret \"x\" not found"),
        ),
        Case::new(
            "a container that cannot be made",
            ContainerCreate,
            "mount",
            waits("CreateContainerError", "cannot mount"),
        ),
        Case::new(
            "a missing volume",
            Volume,
            "secret \"login\" not found",
            [
                KubeStep::Schedule,
                KubeStep::Waiting("ContainerCreating", ""),
                KubeStep::Event(
                    "FailedMount",
                    "MountVolume.SetUp failed for volume \"registry\" : secret \"login\" not found",
                ),
            ],
        )
        .waiting(|patience| &mut patience.retry),
        Case::new(
            "no network",
            Sandbox,
            "plugin type=\"calico\" failed",
            [KubeStep::Schedule, KubeStep::Event("FailedCreatePodSandBox", "plugin type=\"calico\" failed")],
        )
        .waiting(|patience| &mut patience.retry),
        Case::new(
            "a slow start",
            StartSlow,
            "Pulling image",
            [KubeStep::Schedule, KubeStep::Event("Pulling", "Pulling image \"x\"")],
        )
        .waiting(|patience| &mut patience.start),
        Case::new("nobody schedules", Unschedulable, "", [])
        .waiting(|patience| &mut patience.schedule),
        Case::new(
            "no room",
            NoRoom,
            "Insufficient memory",
            [KubeStep::Unschedulable("0/2 nodes are available: 2 Insufficient memory.")],
        )
        .waiting(|patience| &mut patience.schedule),
        Case::new(
            "no such architecture",
            NoArchitecture,
            "affinity/selector",
            [KubeStep::Unschedulable(
                "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 node(s) didn't match Pod's node affinity/selector.",
            )],
        )
        .waiting(|patience| &mut patience.schedule),
        Case::new(
            "tainted nodes",
            Tainted,
            "untolerated taint",
            [KubeStep::Unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {spot: }.")],
        )
        .waiting(|patience| &mut patience.schedule),
        Case::new(
            "unschedulable as an event says",
            Tainted,
            "had taint",
            [KubeStep::Event("FailedScheduling", "0/1 nodes are available: 1 node(s) had taint {a: b}")],
        )
        .waiting(|patience| &mut patience.schedule),
        Case::ran(
            "a lost node",
            NodeLost,
            "",
            [KubeStep::Status(json!({ "reason": "NodeLost", "message": "Node n is unresponsive" }))],
        ),
        Case::ran(
            "a node that shuts down",
            NodeLost,
            "in response to imminent node shutdown",
            [failed("Terminated", "Pod was terminated in response to imminent node shutdown.", &Value::Null)],
        ),
        Case::ran(
            "preempted",
            Preempted,
            "higher priority",
            [
                KubeStep::Status(json!({ "conditions": preempted })),
                // Seen before it is gone.
                KubeStep::Told,
                KubeStep::Pause(1_000),
                KubeStep::Delete,
            ],
        ),
        Case::new(
            "a node without room",
            NotAdmitted,
            "Pod Node didn't have enough resource: cpu",
            [
                KubeStep::Schedule,
                failed("OutOfcpu", "Pod Node didn't have enough resource: cpu", &Value::Null),
            ],
        ),
        Case::ran("killed by hand", Killed, "", [KubeStep::Exit(137, "Error", String::new())]),
        Case::ran("no digest", NoDigest, "", [KubeStep::Exit(0, "Completed", String::new())]),
        Case::exited("an unknown flag", Executor, "unknown flag: --force", 1, "Error: unknown flag: --force"),
        Case::exited(
            "a push that is denied",
            Push,
            "DENIED",
            1,
            "error pushing image: failed to push to destination r/a:b: DENIED: no",
        ),
        Case::exited(
            "rights are checked before the build",
            Push,
            "correct tag name",
            1,
            "error checking push permissions -- make sure you entered the correct tag name, and that you are authenticated correctly",
        ),
        Case::exited(
            "a base that is not there",
            Base,
            "MANIFEST_UNKNOWN",
            1,
            "error building image: MANIFEST_UNKNOWN: manifest unknown",
        ),
        Case::exited(
            "a full disk",
            DiskFull,
            "no space left",
            1,
            "error building image: write /kaniko/0: no space left on device",
        ),
        Case::exited(
            "a context that is cut",
            ContextCut,
            "unexpected EOF",
            1,
            "Error: error resolving source context: unexpected EOF",
        ),
        // The digest is there before the push, so a bad end beats it.
        Case::ran(
            "a digest of a push that failed",
            Push,
            "DENIED",
            [
                KubeStep::Log("error pushing image: DENIED".to_owned()),
                KubeStep::Exit(1, "Error", format!("sha256:{}", "0".repeat(64))),
            ],
        ),
        Case::exited(
            "a context that the executor may not read",
            ContextRead,
            "AccessDenied",
            1,
            "Error: error resolving source context: operation error S3: GetObject, https response error StatusCode: 403, AccessDenied",
        ),
        // The log is lost: what the container left stands in.
        Case::ran(
            "a lost log",
            DiskFull,
            "no space left",
            [KubeStep::Exit(1, "Error", "error building image: no space left on device\n".to_owned())],
        ),
    ]
}
