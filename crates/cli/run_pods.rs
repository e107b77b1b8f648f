//! `ocib run-pods`: pods that builds have made and that are still there.

use std::time::Duration;

use clap::{Args, Subcommand};
use ocib_kaniko::run_pods::{self, RunPod};

use crate::{
    diagnostic::{Exit, Failure},
    report,
    run::ClusterFlags,
    terminal::printable,
    wiring,
};

#[derive(Args, Debug)]
pub(crate) struct RunPods {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the pods that builds have made, the oldest first.
    List(List),
    /// Remove those that have ended, and with a flag those that still run.
    Clean(Clean),
}

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Args, Debug)]
struct Clean {
    #[command(flatten)]
    cluster: ClusterFlags,

    /// Also pods that were made longer ago than this, whatever they do.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,

    /// All of them, also those that builds still wait for.
    #[arg(long, conflicts_with = "older_than")]
    all: bool,
}

/// Runs the command.
pub(crate) fn run(command: &RunPods) -> Result<(), Failure> {
    match &command.action {
        Action::List(list) => {
            let pods = wiring::run(found(&list.cluster))?;
            pods.iter().for_each(|pod| report::result(&line(pod)));
            Ok(())
        }
        Action::Clean(clean) => wiring::run(cleaned(clean)),
    }
}

async fn found(flags: &ClusterFlags) -> Result<Vec<RunPod>, Failure> {
    let cluster = flags.connect().await.map_err(|error| Failure::of_run(&error))?;
    run_pods::list(&cluster, flags.namespace()).await.map_err(|error| Failure::of_run(&error))
}

async fn cleaned(clean: &Clean) -> Result<(), Failure> {
    let cluster = clean.cluster.connect().await.map_err(|error| Failure::of_run(&error))?;
    let pods = run_pods::list(&cluster, clean.cluster.namespace()).await;
    let pods = pods.map_err(|error| Failure::of_run(&error))?;
    let is_meant = |pod: &RunPod| {
        clean.all || pod.state == "ended" || clean.older_than.is_some_and(|limit| pod.age > limit)
    };
    let mut left = Vec::new();
    for pod in pods.iter().filter(|pod| is_meant(pod)) {
        match run_pods::remove(&cluster, pod).await {
            Ok(()) => report::result(&format!("{}/{}", pod.namespace, pod.name)),
            Err(why) => left.push(why),
        }
    }
    match left.as_slice() {
        [] => Ok(()),
        left => Err(Failure::new(Exit::Cluster, left.join("; ")).help("look at the node that holds them")),
    }
}

fn line(pod: &RunPod) -> String {
    let age = humantime::format_duration(Duration::from_secs(pod.age.as_secs()));
    printable(&format!("{}/{}  {}  {age}  {}  {}", pod.namespace, pod.name, pod.state, pod.build, pod.title))
}
