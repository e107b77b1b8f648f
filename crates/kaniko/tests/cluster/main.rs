//! The backend against a real cluster with real bytes: what a fake is held against.
//!
//! Run by `tests/cluster.sh`, which says what of a cluster is needed (docs/run-cluster.md); never by
//! `cargo test --workspace`. Of what differs between versions of Kubernetes every form is expected.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

#[expect(dead_code, reason = "the fake's tests use all of it")]
#[path = "../pods/jobs.rs"]
mod jobs;
mod lives;
mod real;

use std::sync::Arc;

use ocib_image::{Compression, Digest, RunBackend as _, Secret};
use ocib_kaniko::{
    ContextWay, Options, RegistryAccess,
    preflight::{self, Found},
    run_pods,
};
use ocib_testkit::{Noise, file_layer};

use crate::{
    jobs::{Heard, with_context},
    real::Real,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_run_is_in_the_registry() {
    let real = Real::from_environment().await;
    let job = real.job("run", "FROM BASE\nRUN echo built in a pod > /made\nRUN busybox cat /made\n");
    let (heard, progress) = Heard::new();
    let backend = real.backend(real.options());
    let made = backend.run(&job, &progress).await;
    let made = made.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
    assert_eq!(real.pushed(&job), made.digest);
    assert_eq!(real.file(&job, "made"), "built in a pod\n");
    assert!(heard.has("built in a pod"), "{:#?}", heard.lines());
    assert_eq!(real.left(&job).await, Vec::<String>::new());
}

/// Much more than the buffers of all who pass it on.
const CONTEXT_BYTES: usize = 256 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_context_goes_over_attach() {
    let real = Real::from_environment().await;
    let content = Noise::bytes(11, CONTEXT_BYTES);
    let job = real.job("attach", "FROM BASE\nCOPY data /data\nRUN busybox sha256sum < /data > /sum\n");
    let context = file_layer("data", content.clone(), Compression::Auto).source;
    let job = with_context(job, context);
    let (heard, progress) = Heard::new();
    let backend = real.backend(Options { context: ContextWay::Attach, ..real.options() });
    let made = backend.run(&job, &progress).await;
    let made = made.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
    assert_eq!(real.pushed(&job), made.digest);
    assert_eq!(real.file(&job, "sum"), format!("{}  -\n", Digest::of(&content).hex()));
    assert_eq!(real.left(&job).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_and_go_with_the_pod() {
    let real = Real::from_environment().await;
    let job = real.job("credentials", "FROM BASE\nRUN true\n");
    let (heard, progress) = Heard::new();
    let config_json = Secret::new(r#"{"auths":{"nobody.example":{"auth":"bm9ib2R5OnNlY3JldA=="}}}"#);
    let registry = RegistryAccess::Shared { config_json, secrets: vec![Secret::new("bm9ib2R5OnNlY3JldA==")] };
    let made = real.backend(Options { registry, ..real.options() }).run(&job, &progress).await;
    let made = made.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
    assert_eq!(real.pushed(&job), made.digest);
    assert_eq!(real.left(&job).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_somebody_deletes() {
    let real = Real::from_environment().await;
    let job = real.job("deleted", "FROM BASE\nRUN echo it runs; busybox sleep 300\n");
    let backend = Arc::new(real.backend(real.options()));
    let (heard, progress) = Heard::new();
    let running = tokio::spawn({
        let (backend, job) = (Arc::clone(&backend), job.clone());
        async move { backend.run(&job, &progress).await }
    });
    heard.until("it runs").await;
    for pod in real.pods(&job).await {
        run_pods::remove(&real.cluster, &pod).await.unwrap();
    }
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.cause, "run-pod-deleted", "{error:?}");
    assert_eq!(real.left(&job).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_given_up_leaves_no_pod() {
    let real = Real::from_environment().await;
    let job = real.job("given-up", "FROM BASE\nRUN echo it runs; busybox sleep 300\n");
    let backend = real.backend(real.options());
    let (heard, progress) = Heard::new();
    tokio::select! {
        ended = backend.run(&job, &progress) => panic!("{ended:?}: {:#?}", heard.lines()),
        () = heard.until("it runs") => {}
    }
    assert_eq!(real.left(&job).await.len(), 1);
    backend.tidied().await;
    assert_eq!(real.left(&job).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn preflight_finds_nothing_bad() {
    let real = Real::from_environment().await;
    let platforms = [ocib_image::Platform::linux_amd64()];
    let options = Options { context: ContextWay::Attach, ..real.options() };
    let findings = preflight::check(&real.cluster, &options, &platforms).await;
    let bad: Vec<_> = findings.iter().filter(|finding| matches!(finding.state, Found::Bad(..))).collect();
    // A node of a kit may lack labels, and then no pod is scheduled by them.
    assert!(bad.iter().all(|finding| finding.what.starts_with("nodes of ")), "{findings:#?}");
}
