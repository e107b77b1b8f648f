//! Every way in which a pod can end badly, as a life of its own: it ends under the right name, with what the
//! cluster said, and leaves nothing behind.

mod lives;
mod refusals;

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use ocib_image::{LayerError, LayerSource, RunBackend as _, RunError, RunErrorKind, RunJob};
use ocib_kaniko::{Access, Cluster, ContextWay, End, Kaniko, Options, Patience};
use ocib_testkit::{KubeFake, KubeFault, KubeOptions, KubeRequest, KubeStep, Stdin, noise_source};
use serde_json::json;

use crate::jobs::{Heard, job, left, options, patience, with_context};

/// A wait that a life ends by: long enough for what comes before its end.
const SOON: Duration = Duration::from_secs(5);

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

    /// Ends by the end of this wait.
    fn waiting(self, wait: fn(&mut Patience) -> &mut Duration) -> Self {
        self.with(|options| *wait(&mut options.patience) = SOON)
    }

    fn sending(self, bytes: u64) -> Self {
        Self { context: Some(bytes), ..self }.with(|options| options.context = ContextWay::Attach)
    }

    fn faulty(self, fault: fn(&KubeRequest) -> Option<KubeFault>) -> Self {
        Self { fault, ..self }
    }
}

fn some_job(context: Option<u64>) -> RunJob {
    let job = job("FROM base\nRUN false\n", "127.0.0.1:1/app:run");
    match context {
        Some(bytes) => with_context(job, noise_source(bytes)),
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
    // Only where nobody answers may something be left.
    assert!(cause == End::Unreachable || !heard.has("run-pods clean"), "{name}: {:?}", heard.lines());
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
    all(lives::lives()).await;
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

/// A pod that the server refused, again and again, was not made: it is not said to be kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_refused_is_not_there() {
    let counted = |request: &KubeRequest| {
        let said = "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified";
        let status = json!({ "kind": "Status", "code": 409, "reason": "Conflict", "message": said });
        (request.method == "POST").then(|| KubeFault::Answer(409, status.to_string()))
    };
    let fake = KubeFake::faulty(KubeOptions::default(), |_| Vec::new(), counted);
    let access = Access { kubeconfig: Some(fake.kubeconfig()), context: None };
    let backend = Kaniko::new(Cluster::connect(&access).await.unwrap(), Options { keep: true, ..options() });
    let (heard, progress) = Heard::new();
    let error = backend.run(&some_job(None), &progress).await.unwrap_err();
    assert_eq!(error.cause, End::Quota.cause(), "{error}");
    assert!(!heard.has("is kept"), "{:?}", heard.lines());
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
