//! Nothing is left behind, however a job ends, and what others left can be found.

use std::{sync::Arc, time::Duration};

use ocib_image::{Credential, RunBackend as _, Secret};
use ocib_kaniko::{Options, RegistryAccess, run_pods};
use ocib_testkit::{KubeFake, KubeOptions, KubeRequest, KubeStep};
use serde_json::json;

use crate::jobs::{Heard, backend, cluster, job, left, options};

fn good() -> KubeStep {
    KubeStep::Exit(0, "Completed", format!("sha256:{}", "a".repeat(64)))
}

fn endless() -> Vec<KubeStep> {
    vec![KubeStep::Schedule, KubeStep::Running, KubeStep::Pause(600_000)]
}

/// Waits until the fake has made so many pods.
async fn until_created(fake: &KubeFake, count: usize) {
    while fake.created().len() < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_job_takes_its_pod_along() {
    for kube in [KubeOptions::default(), KubeOptions::v1_20()] {
        let fake = KubeFake::start(kube, |_| endless());
        let backend = Arc::new(backend(&fake, options()).await);
        let running = tokio::spawn({
            let backend = Arc::clone(&backend);
            async move {
                let (_, progress) = Heard::new();
                backend.run(&job("FROM base\nRUN sleep\n", "127.0.0.1:1/a:b"), &progress).await
            }
        });
        until_created(&fake, 1).await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        backend.tidied().await;
        assert_eq!(fake.left(), Vec::<String>::new());
    }
}

/// Dropped while the creation's answer is on its way: the pod is there, and its uid nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_dropped_while_its_pod_is_made() {
    let slow = |request: &KubeRequest| {
        (request.method == "POST" && request.before == 0).then_some(ocib_testkit::KubeFault::LoseAnswer)
    };
    let fake = KubeFake::faulty(KubeOptions::default(), |_| endless(), slow);
    let backend = Arc::new(backend(&fake, options()).await);
    let running = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move {
            let (_, progress) = Heard::new();
            backend.run(&job("FROM base\nRUN sleep\n", "127.0.0.1:1/a:b"), &progress).await
        }
    });
    until_created(&fake, 1).await;
    running.abort();
    let _ = running.await;
    backend.tidied().await;
    assert_eq!(fake.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_pods_stay() {
    let fake =
        KubeFake::start(KubeOptions::default(), |_| vec![KubeStep::Schedule, KubeStep::Running, good()]);
    let backend = backend(&fake, Options { keep: true, ..options() }).await;
    let (heard, progress) = Heard::new();
    backend.run(&job("FROM base\nRUN true\n", "127.0.0.1:1/a:b"), &progress).await.unwrap();
    assert_eq!(fake.left().len(), 1);
    assert!(heard.has("is kept"));
}

/// The secret belongs to the pod from its first moment on, and neither outlives the job. Nothing of it is
/// seen, though the executor prints it.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_credential() {
    let password = "planted-password";
    for collects_garbage in [true, false] {
        let kube = KubeOptions { collects_garbage, ..KubeOptions::default() };
        let fake = KubeFake::start(kube, move |_| {
            let line = KubeStep::Log(format!(
                "cat /kaniko/.docker/config.json: {password} Y2k6cGxhbnRlZC1wYXNzd29yZA=="
            ));
            let last = format!("error building image: denied for {password}");
            vec![KubeStep::Schedule, KubeStep::Running, line, KubeStep::Exit(1, "Error", last)]
        });
        let credential = Credential::Basic { user: "ci".to_owned(), password: Secret::new(password) };
        let registry = RegistryAccess::shared([("127.0.0.1:1", &credential)]);
        let backend = backend(&fake, Options { registry, ..options() }).await;
        let (heard, progress) = Heard::new();
        let error =
            backend.run(&job("FROM base\nRUN true\n", "127.0.0.1:1/a:b"), &progress).await.unwrap_err();
        assert_eq!(left(&fake).await, Vec::<String>::new());
        let secret = &fake.secrets()[0];
        let owner = &secret["metadata"]["ownerReferences"][0];
        assert_eq!(
            (owner["kind"].as_str(), owner["name"].as_str()),
            (Some("Pod"), secret["metadata"]["name"].as_str())
        );
        assert!(heard.has("cat /kaniko/.docker/config.json: [secret] [secret]"), "{:?}", heard.lines());
        let pod = fake.created()[0].to_string();
        let all = format!("{pod} {error:?} {:?} {backend:?}", heard.lines());
        assert!(!all.contains(password) && !all.contains("Y2k6"), "{all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_nobody_waits_for_are_found() {
    let fake = KubeFake::start(KubeOptions::default(), |_| endless());
    let pod = |name: &str, labels: serde_json::Value, state: serde_json::Value| {
        json!({
            "metadata": { "name": name, "labels": labels, "annotations": { "io.github.ocib/title": "build, lines 1 to 2" } },
            "spec": { "nodeName": "n", "containers": [] },
            "status": { "phase": "Running", "containerStatuses": [{
                "name": "kaniko", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }] },
        })
    };
    let ours = json!({ "app.kubernetes.io/managed-by": "ocib", "io.github.ocib/build": "0123" });
    fake.plant(pod("orphan", ours.clone(), json!({ "running": {} })));
    fake.plant(pod("ended", ours, json!({ "terminated": { "exitCode": 1 } })));
    fake.plant(pod("foreign", json!({ "app": "web" }), json!({ "running": {} })));
    let cluster = cluster(&fake).await;
    let found = run_pods::list(&cluster, None).await.unwrap();
    let mut shown: Vec<_> = found
        .iter()
        .map(|pod| (pod.name.as_str(), pod.state, pod.build.as_str(), pod.title.as_str()))
        .collect();
    shown.sort_unstable();
    let title = "build, lines 1 to 2";
    assert_eq!(shown, [("ended", "ended", "0123", title), ("orphan", "running", "0123", title)]);
    for pod in &found {
        run_pods::remove(&cluster, pod).await.unwrap();
    }
    assert_eq!(fake.left(), ["pods/foreign"]);
}

/// Owners are looked up where the pod lives; a stranger's pod cannot be one.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_owns_those_that_it_makes() {
    let fake =
        KubeFake::start(KubeOptions::default(), |_| vec![KubeStep::Schedule, KubeStep::Running, good()]);
    fake.plant(json!({ "metadata": { "name": "ci-job-1" }, "spec": { "containers": [] } }));
    let (_, progress) = Heard::new();
    let job = job("FROM base\nRUN true\n", "127.0.0.1:1/a:b");
    let kaniko = backend(&fake, options()).await.owned_by("ci-job-1").await;
    kaniko.run(&job, &progress).await.unwrap();
    let owned = &fake.created()[0]["metadata"]["ownerReferences"][0];
    assert_eq!((owned["kind"].as_str(), owned["name"].as_str()), (Some("Pod"), Some("ci-job-1")));
    let kaniko = backend(&fake, options()).await.owned_by("not-there").await;
    kaniko.run(&job, &progress).await.unwrap();
    assert!(fake.created()[1]["metadata"]["ownerReferences"].is_null());
}
