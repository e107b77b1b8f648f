//! What clusters do all day and what a job must live through: it ends well.

use std::{sync::Arc, time::Duration};

use ocib_image::{Compression, RunBackend as _};
use ocib_kaniko::{ContextWay, Options, Patience};
use ocib_testkit::{KubeFake, KubeFault, KubeOptions, KubeRequest, KubeStep, Stdin, file_layer};
use serde_json::json;

use crate::jobs::{Heard, backend, job, left, options, with_context};

fn good() -> KubeStep {
    KubeStep::Exit(0, "Completed", format!("sha256:{}", "a".repeat(64)))
}

fn log(line: &str) -> KubeStep {
    KubeStep::Log(line.to_owned())
}

/// Runs a job through such a life; returns the fake and what was heard.
async fn lives(
    kube: KubeOptions,
    steps: Vec<KubeStep>,
    has_context: bool,
    fault: fn(&KubeRequest) -> Option<KubeFault>,
) -> (KubeFake, Arc<Heard>) {
    let fake = KubeFake::faulty(kube, move |_| steps.clone(), fault);
    let context = if has_context { ContextWay::Attach } else { ContextWay::Registry };
    let backend = backend(&fake, Options { context, ..options() }).await;
    let mut job = job("FROM base\nRUN true\n", "127.0.0.1:1/app:run");
    if has_context {
        job = with_context(job, file_layer("data", vec![7; 1 << 20], Compression::Auto).source);
    }
    let (heard, progress) = Heard::new();
    let made = backend.run(&job, &progress).await;
    let made = made.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
    assert_eq!(made.digest.hex(), "a".repeat(64));
    assert_eq!(left(&fake).await, Vec::<String>::new());
    (fake, heard)
}

fn calm(_: &KubeRequest) -> Option<KubeFault> {
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_end_and_forget() {
    let steps = vec![
        KubeStep::Schedule,
        KubeStep::CutWatches,
        KubeStep::Waiting("ContainerCreating", ""),
        KubeStep::Forget,
        KubeStep::Running,
        KubeStep::Pause(300),
        KubeStep::Forget,
        KubeStep::CutWatches,
        KubeStep::Pause(300),
        good(),
    ];
    lives(KubeOptions::default(), steps, false, calm).await;
}

/// The secret of the pod comes a moment after it, so that mounting it may fail once: that event stays, and says
/// nothing of an image that takes long.
#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_failed_at_first() {
    let steps = vec![
        // All of them before the pod is seen to wait: between them it would be given up, and rightly.
        KubeStep::Event("FailedMount", "MountVolume.SetUp failed for volume \"registry\": not found"),
        KubeStep::Event("FailedCreatePodSandBox", "plugin type=\"calico\" failed"),
        KubeStep::Event("Pulling", "Pulling image \"kaniko\""),
        KubeStep::Schedule,
        KubeStep::Waiting("ContainerCreating", ""),
        KubeStep::Pause(1500),
        KubeStep::Running,
        good(),
    ];
    let fake = KubeFake::start(KubeOptions::default(), move |_| steps.clone());
    let patience = Patience { retry: Duration::from_millis(200), ..options().patience };
    let backend = backend(&fake, Options { patience, ..options() }).await;
    let (heard, progress) = Heard::new();
    let made = backend.run(&job("FROM base\nRUN true\n", "127.0.0.1:1/app:run"), &progress).await;
    made.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
    assert_eq!(left(&fake).await, Vec::<String>::new());
}

/// An "already exists" after an answer that was lost is our own pod.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_the_creation_is_lost() {
    let lost = |request: &KubeRequest| {
        let is_first = request.method == "POST" && request.path.ends_with("/pods") && request.before == 0;
        is_first.then_some(KubeFault::LoseAnswer)
    };
    let (fake, _) =
        lives(KubeOptions::default(), vec![KubeStep::Schedule, KubeStep::Running, good()], false, lost).await;
    assert_eq!(fake.created().len(), 1);
}

/// Everything that is asked fails twice: too many requests, bad gateway, no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server() {
    let busy = |request: &KubeRequest| match request.before {
        0 if request.path.ends_with("/pods") => Some(KubeFault::Answer(429, "too many requests".to_owned())),
        1 if request.path.ends_with("/pods") => Some(KubeFault::Answer(502, "bad gateway".to_owned())),
        0 => Some(KubeFault::HangUp),
        _ => None,
    };
    lives(KubeOptions::default(), vec![KubeStep::Schedule, KubeStep::Running, good()], false, busy).await;
}

/// A server that was started anew has not read the roles yet, and forbids everything to everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_knows_no_roles_for_a_moment() {
    let forgetful = |request: &KubeRequest| {
        let is_meant = match &*request.method {
            "GET" => request.path.ends_with("/pods") && (2..5).contains(&request.before),
            "DELETE" => request.before < 2,
            _ => false,
        };
        is_meant.then(|| KubeFault::Answer(403, "pods is forbidden: User \"ocib\" cannot list".to_owned()))
    };
    let steps = vec![
        KubeStep::Schedule,
        KubeStep::Running,
        KubeStep::Pause(300),
        KubeStep::CutWatches,
        KubeStep::Pause(300),
        good(),
    ];
    lives(KubeOptions::default(), steps, false, forgetful).await;
}

/// The pod's phase stays `Running` as long as a sidecar runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_outlives_the_executor() {
    let ended = json!({ "terminated": { "exitCode": 0, "reason": "Completed", "message": format!("sha256:{}", "a".repeat(64)) } });
    let status = |name: &str, state: serde_json::Value| json!({ "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state });
    let both = json!({ "phase": "Running", "containerStatuses": [status("proxy", json!({ "running": {} })), status("kaniko", ended)] });
    lives(KubeOptions::default(), vec![KubeStep::Schedule, KubeStep::Status(both)], false, calm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_survive_reconnects_and_lines_come_once() {
    let mut steps = vec![KubeStep::Schedule, KubeStep::Running];
    for number in 0..6 {
        steps.extend([log(&format!("line {number}")), log(&format!("line {number} again"))]);
        if number % 2 == 1 {
            steps.extend([KubeStep::Pause(700), KubeStep::CutLogs]);
        }
    }
    steps.extend([KubeStep::Pause(200), log("the last words"), good()]);
    let (_, heard) = lives(KubeOptions::default(), steps, false, calm).await;
    let lines: Vec<String> = heard.lines().into_iter().filter(|line| line.starts_with("line")).collect();
    let expected: Vec<String> =
        (0..6).flat_map(|number| [format!("line {number}"), format!("line {number} again")]).collect();
    assert_eq!(lines, expected);
    assert!(heard.has("the last words"));
}

/// Lines that are said while the clock of the node is behind what it was are told, and those before not again.
#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_the_node_is_set_back() {
    let mut steps = vec![KubeStep::Schedule, KubeStep::Running];
    let told = ["line 0", "line 1", "line 2", "line 3", "line 4", "line 5"];
    for (number, line) in told.iter().enumerate() {
        steps.extend([log(line), KubeStep::Pause(200), KubeStep::SetBack(800)]);
        if number == 2 {
            steps.push(KubeStep::CutLogs);
        }
    }
    steps.extend([KubeStep::Pause(200), good()]);
    let (_, heard) = lives(KubeOptions::default(), steps, false, calm).await;
    let lines: Vec<String> = heard.lines().into_iter().filter(|line| line.starts_with("line")).collect();
    assert_eq!(lines, told);
}

/// A pod that nobody hears of is looked at before it is said that no node takes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_watch_is_no_word_of_the_scheduler() {
    let silent = |request: &KubeRequest| request.query.contains("watch=").then_some(KubeFault::Stall);
    let steps = vec![KubeStep::Pause(300), KubeStep::Schedule, KubeStep::Running, good()];
    let fake = KubeFake::faulty(KubeOptions::default(), move |_| steps.clone(), silent);
    let patience = Patience { schedule: Duration::from_secs(5), ..options().patience };
    let backend = backend(&fake, Options { patience, ..options() }).await;
    let (_, progress) = Heard::new();
    backend.run(&job("FROM base\nRUN true\n", "127.0.0.1:1/app:run"), &progress).await.unwrap();
    assert_eq!(left(&fake).await, Vec::<String>::new());
}

/// It ended before anybody saw it run; its log is read all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_faster_than_its_watch() {
    let (_, heard) = lives(
        KubeOptions::default(),
        vec![KubeStep::Schedule, KubeStep::Running, log("quick"), good()],
        false,
        calm,
    )
    .await;
    assert!(heard.has("quick"));
}

/// Kubelets say "container not found" for a moment after it runs.
#[tokio::test(flavor = "multi_thread")]
async fn attach_comes_before_the_kubelet_knows() {
    let early = |request: &KubeRequest| match (request.path.ends_with("/attach"), request.before) {
        (true, 0) => Some(KubeFault::Answer(500, "container kaniko not found in pod p_builds".to_owned())),
        (true, 1) => Some(KubeFault::Answer(
            400,
            r#"{"kind":"Status","code":400,"message":"pod p does not have a host assigned"}"#.to_owned(),
        )),
        _ => None,
    };
    for kube in [KubeOptions::default(), KubeOptions::v1_20()] {
        let steps = vec![
            KubeStep::Schedule,
            KubeStep::Pause(200),
            KubeStep::Running,
            KubeStep::Read(Stdin::All),
            good(),
        ];
        let (fake, _) = lives(kube, steps, true, early).await;
        assert!(fake.input_bytes() > 1000, "{}", fake.input_bytes());
    }
}

/// Kaniko stops at the tar's end marker; what comes after is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn the_executor_need_not_read_to_the_end() {
    let steps = vec![
        KubeStep::Schedule,
        KubeStep::Running,
        KubeStep::Read(Stdin::Bytes(100)),
        KubeStep::Pause(200),
        good(),
    ];
    lives(KubeOptions::default(), steps, true, calm).await;
}

/// Pods that were seen by nobody's watch are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_says_nothing() {
    let silent = |request: &KubeRequest| request.query.contains("watch=").then_some(KubeFault::Stall);
    let steps = vec![KubeStep::Schedule, KubeStep::Running, KubeStep::Pause(500), good()];
    let fake = KubeFake::faulty(KubeOptions::default(), move |_| steps.clone(), silent);
    // A watch that is not even answered is given up after the time of any request.
    let backend = backend(&fake, options()).await;
    let (_, progress) = Heard::new();
    backend.run(&job("FROM base\nRUN true\n", "127.0.0.1:1/app:run"), &progress).await.unwrap();
}
