//! A real API server that dies and comes back while pods run. Apart from the other tests on a cluster, which
//! need it all the time. `OCIB_TEST_KUBE_OUTAGE` is the command that kills it and starts it again.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

#[expect(dead_code, reason = "the fake's tests use all of it")]
#[path = "../pods/jobs.rs"]
mod jobs;
#[expect(dead_code, reason = "the other tests use all of it")]
#[path = "../cluster/real.rs"]
mod real;

use std::time::Duration;

use ocib_image::{Compression, RunBackend as _};
use ocib_kaniko::{ContextWay, Options};
use ocib_testkit::{Noise, file_layer, run};

use crate::{
    jobs::{Heard, with_context},
    real::Real,
};

async fn outage() {
    let command = std::env::var("OCIB_TEST_KUBE_OUTAGE").expect("tests/cluster.sh sets it");
    tokio::task::spawn_blocking(move || run("bash", "bash", &["-c", &command])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_dies_and_comes_back() {
    let real = Real::from_environment().await;
    // A command goes on, and its end is seen by another watch.
    let job = real.job("outage", "FROM BASE\nRUN echo it runs; busybox sleep 40; echo made > /made\n");
    let backend = real.backend(real.options());
    let (heard, progress) = Heard::new();
    let (ended, ()) = tokio::join!(backend.run(&job, &progress), async {
        heard.until("it runs").await;
        outage().await;
    });
    let made = ended.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
    assert_eq!(real.pushed(&job), made.digest);
    assert_eq!(real.left(&job).await, Vec::<String>::new());

    // A context that is cut off is sent again, to another pod.
    let job = real.job("outage-of-attach", "FROM BASE\nCOPY data /data\nRUN true\n");
    let context = file_layer("data", Noise::bytes(5, 160 << 20), Compression::Auto).source;
    let job = with_context(job, context);
    let backend = real.backend(Options { context: ContextWay::Attach, ..real.options() });
    let (heard, progress) = Heard::new();
    let (ended, ()) = tokio::join!(backend.run(&job, &progress), async {
        heard.until("waits: ContainerCreating").await;
        while real.pods(&job).await.iter().any(|pod| pod.state == "pending") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // The first bytes are on their way.
        tokio::time::sleep(Duration::from_secs(1)).await;
        outage().await;
    });
    let made = ended.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
    assert!(heard.has("restarted: "), "the outage came too late: {:#?}", heard.lines());
    assert_eq!(real.pushed(&job), made.digest);
    assert_eq!(real.left(&job).await, Vec::<String>::new());
}
