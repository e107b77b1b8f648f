//! Every way in which a pod can end badly, as a life of its own: it ends under the right name, with what the
//! cluster said, and leaves nothing behind.

mod refusals;

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use ocib_image::{LayerError, LayerSource, RunBackend as _, RunError, RunErrorKind, RunFiles, RunJob};
use ocib_kaniko::{Access, Cluster, End, Kaniko, Options, Patience};
use ocib_testkit::{KubeFake, KubeFault, KubeOptions, KubeRequest, KubeStep, Noise, Stdin};
use serde_json::{Value, json};

use crate::jobs::{Heard, job, left, options, patience, with_context};

/// A life and how it ends.
struct Case {
    name: &'static str,
    kube: KubeOptions,
    options: Options,
    steps: Vec<KubeStep>,
    /// How many bytes of context the job has, if it has one.
    context: Option<u64>,
    fault: fn(&KubeRequest) -> Option<KubeFault>,
    cause: End,
    /// What the message says.
    said: &'static str,
}

impl Case {
    fn new(name: &'static str, cause: End, said: &'static str, steps: impl Into<Vec<KubeStep>>) -> Self {
        Self {
            name,
            kube: KubeOptions::default(),
            options: options(),
            steps: steps.into(),
            context: None,
            fault: |_| None,
            cause,
            said,
        }
    }

    /// After a node took the pod and its container ran.
    fn ran(name: &'static str, cause: End, said: &'static str, steps: impl Into<Vec<KubeStep>>) -> Self {
        let steps = [KubeStep::Schedule, KubeStep::Waiting("ContainerCreating", ""), KubeStep::Running]
            .into_iter()
            .chain(steps.into())
            .collect::<Vec<_>>();
        Self::new(name, cause, said, steps)
    }

    /// The container ended, having said this last.
    fn exited(name: &'static str, cause: End, said: &'static str, code: i32, log: &str) -> Self {
        let line = KubeStep::Log(log.to_owned());
        Self::ran(name, cause, said, [line, KubeStep::Exit(code, "Error", String::new())])
    }

    fn on(self, kube: KubeOptions) -> Self {
        Self { kube, ..self }
    }

    fn with(self, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.options;
        change(&mut options);
        Self { options, ..self }
    }

    fn sending(self, bytes: u64) -> Self {
        Self { context: Some(bytes), ..self }.with(|options| options.files = RunFiles::Context)
    }

    fn faulty(self, fault: fn(&KubeRequest) -> Option<KubeFault>) -> Self {
        Self { fault, ..self }
    }
}

fn failed(reason: &str, message: &str, containers: &Value) -> KubeStep {
    KubeStep::Status(
        json!({ "phase": "Failed", "reason": reason, "message": message, "containerStatuses": containers }),
    )
}

fn waits(reason: &'static str, message: &'static str) -> Vec<KubeStep> {
    vec![KubeStep::Schedule, KubeStep::Waiting("ContainerCreating", ""), KubeStep::Waiting(reason, message)]
}

/// Lives that are told by the pod alone.
fn lives() -> Vec<Case> {
    use End::{
        Architecture, Base, Command, CommandKilled, ContainerConfig, ContainerCreate, ContextCut, Deadline,
        DiskFull, Evicted, Executor, ImageAbsent, ImageName, ImagePull, Killed, NoArchitecture, NoDigest,
        NoRoom, NodeLost, NotAdmitted, OomKilled, PodDeleted, Preempted, Push, Replaced, Sandbox,
        StartFailed, StartSlow, Tainted, Unschedulable, Volume,
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
                KubeStep::Pause(300),
                KubeStep::Status(
                    json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage." }),
                ),
            ],
        ),
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
            [
                KubeStep::Exit(143, "Error", String::new()),
                KubeStep::Status(
                    json!({ "reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline" }),
                ),
            ],
        ),
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
                KubeStep::Pause(200),
                KubeStep::Waiting("ImagePullBackOff", "Back-off pulling image"),
            ]);
            steps
        }),
        Case::new("no image on an old node", ImagePull, "ErrImagePull", waits("ErrImagePull", "not found"))
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
        ),
        Case::new(
            "no network",
            Sandbox,
            "plugin type=\"calico\" failed",
            [KubeStep::Schedule, KubeStep::Event("FailedCreatePodSandBox", "plugin type=\"calico\" failed")],
        ),
        Case::new(
            "a slow start",
            StartSlow,
            "Pulling image",
            [KubeStep::Schedule, KubeStep::Event("Pulling", "Pulling image \"x\"")],
        ),
        Case::new("nobody schedules", Unschedulable, "", []),
        Case::new(
            "no room",
            NoRoom,
            "Insufficient memory",
            [KubeStep::Unschedulable("0/2 nodes are available: 2 Insufficient memory.")],
        ),
        Case::new(
            "no such architecture",
            NoArchitecture,
            "affinity/selector",
            [KubeStep::Unschedulable(
                "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 node(s) didn't match Pod's node affinity/selector.",
            )],
        ),
        Case::new(
            "tainted nodes",
            Tainted,
            "untolerated taint",
            [KubeStep::Unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {spot: }.")],
        ),
        Case::new(
            "unschedulable as an event says",
            Tainted,
            "had taint",
            [KubeStep::Event("FailedScheduling", "0/1 nodes are available: 1 node(s) had taint {a: b}")],
        ),
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
                KubeStep::Pause(2_000),
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
        // The log is lost: what the container left stands in.
        Case::ran(
            "a lost log",
            DiskFull,
            "no space left",
            [KubeStep::Exit(1, "Error", "error building image: no space left on device\n".to_owned())],
        ),
    ]
}

/// So many bytes that do not compress; not a tar, as nobody here unpacks them.
#[derive(Debug)]
struct Bytes(u64);

impl LayerSource for Bytes {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        io::copy(&mut Noise::new(1, self.0), out).map(drop).map_err(LayerError::Output)
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.0)
    }

    fn sample(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        Ok(())
    }
}

fn some_job(context: Option<u64>) -> RunJob {
    let job = job("FROM base\nRUN false\n", "127.0.0.1:1/app:run");
    match context {
        Some(bytes) => with_context(job, Arc::new(Bytes(bytes))),
        None => job,
    }
}

async fn ends_as_it_should(case: Case) {
    let Case { name, kube, options, steps, context, fault, cause, said } = case;
    let fake = KubeFake::faulty(kube, move |_| steps.clone(), fault);
    let access = Access { kubeconfig: Some(fake.kubeconfig()), context: None };
    let backend = Kaniko::new(Cluster::connect(&access).await.unwrap(), options);
    let (heard, progress) = Heard::new();
    let error = backend.run(&some_job(context), &progress).await.expect_err(name);
    assert_eq!(error.cause, cause.cause(), "{name}: {error}: {:?}", heard.lines());
    assert!(error.message.starts_with(cause.what()), "{name}: {error}");
    assert!(error.message.contains(said), "{name}: {error}");
    assert_eq!((error.kind, &*error.remedy), (cause.kind(), cause.remedy()), "{name}");
    assert!(!error.to_string().contains(fake.token()), "{name}: {error}");
    let is_other = |left: &String| cause == End::Replaced && left.starts_with("pods/");
    let left: Vec<String> = left(&fake).await.into_iter().filter(|left| !is_other(left)).collect();
    assert_eq!(left, Vec::<String>::new(), "{name}");
}

async fn all(cases: Vec<Case>) {
    let running: Vec<_> =
        cases.into_iter().map(|case| (case.name, tokio::spawn(ends_as_it_should(case)))).collect();
    let mut failed = Vec::new();
    for (name, case) in running {
        if let Err(error) = case.await {
            failed.push(format!("{name}: {error}"));
        }
    }
    assert_eq!(failed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_end_under_their_names() {
    all(lives()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_end_under_their_names() {
    all(refusals::refusals()).await;
}

/// Ends that no life of a pod has.
#[tokio::test(flavor = "multi_thread")]
async fn other_ends() {
    let connect = |kubeconfig: std::path::PathBuf| async move {
        Cluster::connect(&Access { kubeconfig: Some(kubeconfig), context: None }).await
    };
    let error = connect("/does/not/exist".into()).await.unwrap_err();
    assert_eq!((error.cause, error.kind), ("run-kubeconfig", RunErrorKind::Input));

    let fake = KubeFake::start(KubeOptions::default(), |_| Vec::new());
    let stranger = Kaniko::new(connect(fake.stranger()).await.unwrap(), options());
    let (_, progress) = Heard::new();
    let error = stranger.run(&some_job(None), &progress).await.unwrap_err();
    assert_eq!((error.cause, error.kind), ("run-unauthenticated", RunErrorKind::Denied));

    #[derive(Debug)]
    struct Unreadable;
    impl LayerSource for Unreadable {
        fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
            out.write_all(&[0; 1 << 20]).map_err(LayerError::Output)?;
            Err(LayerError::Read {
                name: "a/file".to_owned(),
                source: io::ErrorKind::PermissionDenied.into(),
            })
        }
        fn bytes(&self) -> Option<u64> {
            None
        }
        fn sample(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
            Ok(())
        }
    }
    let running =
        [KubeStep::Schedule, KubeStep::Running, KubeStep::Read(Stdin::All), KubeStep::Pause(60_000)];
    let fake = KubeFake::start(KubeOptions::default(), move |_| running.to_vec());
    let backend = Kaniko::new(connect(fake.kubeconfig()).await.unwrap(), options());
    let job = with_context(some_job(None), Arc::new(Unreadable));
    let error = backend.run(&job, &progress).await.unwrap_err();
    assert_eq!((error.cause, error.kind), ("run-context-source", RunErrorKind::Input));
    assert_eq!(error.message, "the context cannot be read: cannot read a/file: permission denied");
    assert_eq!(left(&fake).await, Vec::<String>::new());
}

/// What is given to a second pod, and what is not.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_safe_is_tried_again() {
    let fake = KubeFake::start(KubeOptions::default(), |pod| {
        let is_first = pod["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-1"));
        let lost = KubeStep::Status(json!({ "reason": "NodeLost", "message": "gone" }));
        let good = KubeStep::Exit(0, "Completed", format!("sha256:{}", "a".repeat(64)));
        vec![KubeStep::Schedule, KubeStep::Running, if is_first { lost } else { good }]
    });
    let access = Access { kubeconfig: Some(fake.kubeconfig()), context: None };
    let cluster = Cluster::connect(&access).await.unwrap();
    let backend = Kaniko::new(cluster.clone(), options());
    let (heard, progress) = Heard::new();
    let made = backend.run(&some_job(None), &progress).await.unwrap();
    assert_eq!(made.digest.hex(), "a".repeat(64));
    assert!(
        heard.has("restarted: the node that ran the pod is gone or out of reach: gone"),
        "{:?}",
        heard.lines()
    );
    assert_eq!(fake.created().len(), 2);
    assert_eq!(left(&fake).await, Vec::<String>::new());

    // A command that failed would fail again.
    let fake = KubeFake::start(KubeOptions::default(), |_| {
        vec![KubeStep::Schedule, KubeStep::Running, KubeStep::Exit(42, "Error", String::new())]
    });
    let access = Access { kubeconfig: Some(fake.kubeconfig()), context: None };
    let backend = Kaniko::new(Cluster::connect(&access).await.unwrap(), options());
    let error: RunError = backend.run(&some_job(None), &progress).await.unwrap_err();
    assert_eq!((error.cause, fake.created().len()), ("run-command", 1));
}

/// A pod's own deadline is kept by the cluster; if it does not, it is kept here.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_is_in_the_pod() {
    let fake = KubeFake::start(KubeOptions::default(), |_| {
        vec![KubeStep::Schedule, KubeStep::Running, KubeStep::Exit(1, "Error", String::new())]
    });
    let patience = Patience { deadline: Duration::from_secs(90), ..patience() };
    let access = Access { kubeconfig: Some(fake.kubeconfig()), context: None };
    let backend = Kaniko::new(Cluster::connect(&access).await.unwrap(), Options { patience, ..options() });
    let (_, progress) = Heard::new();
    backend.run(&some_job(None), &progress).await.unwrap_err();
    assert_eq!(fake.created()[0]["spec"]["activeDeadlineSeconds"], 90);
}
