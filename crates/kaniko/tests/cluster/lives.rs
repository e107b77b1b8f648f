//! Every end that can be brought about on any cluster, under its name.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use ocib_image::RunBackend as _;
use ocib_kaniko::{Options, RegistryAccess};
use serde_json::{Value, json};

use crate::{jobs::Heard, real::Real};

/// Pods at a time: small nodes take no more.
const PODS: usize = 3;

/// A job and how it ends.
struct Life {
    name: &'static str,
    dockerfile: &'static str,
    change: fn(&mut Options),
    /// Names of the end: several where versions or schedulers differ.
    causes: &'static [&'static str],
    /// What the message, or the log, says.
    says: &'static str,
}

const SLEEPS: &str = "FROM BASE\nRUN busybox sleep 600\n";
const NOTHING: fn(&mut Options) = |_| {};

const LIVES: &[Life] = &[
    Life {
        name: "exit-42",
        dockerfile: "FROM BASE\nRUN true\nRUN echo why it fails; exit 42\n",
        change: NOTHING,
        causes: &["run-command"],
        says: "it exited with 42",
    },
    Life {
        name: "signal",
        dockerfile: "FROM BASE\nRUN kill -9 $$\n",
        change: NOTHING,
        causes: &["run-command-killed"],
        says: "",
    },
    Life {
        name: "memory",
        dockerfile: "FROM BASE\nRUN x=aaaaaaaa; while true; do x=$x$x; done\n",
        change: |options| {
            options.limits.insert("memory".to_owned(), "128Mi".to_owned());
        },
        causes: &["run-oom-killed"],
        says: "",
    },
    Life {
        name: "disk",
        dockerfile: "FROM BASE\nRUN busybox dd if=/dev/zero of=/big bs=1048576 count=400; busybox sleep 600\n",
        change: |options| {
            options.limits.insert("ephemeral-storage".to_owned(), "128Mi".to_owned());
        },
        causes: &["run-evicted"],
        says: "ephemeral local storage usage exceeds",
    },
    Life {
        name: "deadline",
        dockerfile: SLEEPS,
        change: |options| options.patience.deadline = Duration::from_secs(15),
        causes: &["run-deadline"],
        says: "longer than the specified deadline",
    },
    Life {
        name: "base",
        dockerfile: "FROM BASE-that-is-not-there\nRUN true\n",
        change: NOTHING,
        causes: &["run-base"],
        says: "MANIFEST_UNKNOWN",
    },
    Life {
        name: "push",
        dockerfile: "FROM BASE\nRUN true\n",
        change: |options| {
            // The last destination counts for nothing that was built before.
            options.arguments = vec!["--destination=127.0.0.1:1/nobody/listens:1".to_owned()];
        },
        causes: &["run-push"],
        says: "connection refused",
    },
    Life {
        name: "flag",
        dockerfile: "FROM BASE\nRUN true\n",
        change: |options| options.arguments = vec!["--no-such-flag".to_owned()],
        causes: &["run-executor"],
        says: "unknown flag: --no-such-flag",
    },
    Life {
        name: "no-digest",
        dockerfile: "FROM BASE\n",
        change: |options| patch(options, json!({ "command": ["/bin/bash", "-c", "exit 0"] })),
        causes: &["run-no-digest"],
        says: "",
    },
    Life {
        name: "no-program",
        dockerfile: "FROM BASE\n",
        change: |options| patch(options, json!({ "command": ["/no/such/program"] })),
        causes: &["run-start-failed"],
        says: "/no/such/program",
    },
    Life {
        name: "no-image",
        dockerfile: "FROM BASE\n",
        change: |options| options.image = options.image.replace("ocib-executor", "ocib-none"),
        causes: &["run-image-pull"],
        says: "not found",
    },
    Life {
        name: "image-name",
        dockerfile: "FROM BASE\n",
        change: |options| options.image = "Not//a-name".to_owned(),
        causes: &["run-image-name", "run-pod-invalid"],
        says: "",
    },
    Life {
        name: "image-absent",
        dockerfile: "FROM BASE\n",
        change: |options| {
            options.image = "localhost/ocib-none:1".to_owned();
            patch(options, json!({ "imagePullPolicy": "Never" }));
        },
        causes: &["run-image-absent"],
        says: "pull policy of Never",
    },
    Life {
        name: "secret-of-the-registry",
        dockerfile: "FROM BASE\n",
        change: |options| options.registry = RegistryAccess::Named("ocib-none".to_owned()),
        causes: &["run-volume"],
        says: "ocib-none",
    },
    Life {
        name: "secret-of-a-variable",
        dockerfile: "FROM BASE\n",
        change: |options| {
            let secret = json!({ "secretKeyRef": { "name": "ocib-none", "key": "k" } });
            patch(options, json!({ "env": [{ "name": "X", "valueFrom": secret }] }));
        },
        causes: &["run-container-config"],
        says: "ocib-none",
    },
    Life {
        name: "no-cpu",
        dockerfile: "FROM BASE\n",
        change: |options| {
            options.requests.insert("cpu".to_owned(), "10000".to_owned());
        },
        // Where the patch names the node there is no scheduler to ask.
        causes: &["run-no-room", "run-not-admitted"],
        says: "cpu",
    },
    Life {
        name: "no-node",
        dockerfile: "FROM BASE\n",
        change: |options| {
            options.node_selector.insert("ocib.example/no-node".to_owned(), "has-it".to_owned());
        },
        causes: &["run-no-node-of-architecture", "run-unschedulable", "run-not-admitted"],
        says: "",
    },
    Life {
        name: "pod-invalid",
        dockerfile: "FROM BASE\n",
        change: |options| {
            options.limits.insert("memory".to_owned(), "1".to_owned());
            options.requests.insert("memory".to_owned(), "2".to_owned());
        },
        causes: &["run-pod-invalid"],
        says: "memory",
    },
];

/// Patches the executor's container besides what the cluster needs.
fn patch(options: &mut Options, container: Value) {
    let mut whole = options.patch.take().unwrap_or_else(|| json!({ "spec": {} }));
    let containers = whole["spec"].as_object_mut().unwrap().entry("containers").or_insert_with(|| json!([]));
    let containers = containers.as_array_mut().unwrap();
    if containers.is_empty() {
        containers.push(json!({ "name": "kaniko" }));
    }
    for (name, value) in container.as_object().unwrap() {
        containers[0][name] = value.clone();
    }
    options.patch = Some(whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_has_its_name_and_leaves_nothing() {
    let real = Real::from_environment().await;
    let only = std::env::var("OCIB_TEST_KUBE_LIFE").ok();
    let lives = LIVES.iter().filter(|life| only.as_ref().is_none_or(|only| only == life.name));
    let wrong: Vec<String> = stream::iter(lives)
        .map(|life| lived(&real, life))
        .buffer_unordered(PODS)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Runs one, and says what was not as it should be.
async fn lived(real: &Real, life: &Life) -> Option<String> {
    let job = real.job(life.name, life.dockerfile);
    let mut options = real.options();
    (life.change)(&mut options);
    let (heard, progress) = Heard::new();
    let ended = real.backend(options).run(&job, &progress).await;
    let left = real.left(&job).await;
    let name = life.name;
    println!(
        "{name}: {}",
        ended.as_ref().map_or_else(|error| format!("{} ({error})", error.cause), |_| "built".to_owned())
    );
    let heard = heard.lines().join("\n  ");
    let Err(error) = ended else { return Some(format!("{name} was built:\n  {heard}")) };
    let has_said = error.message.contains(life.says) || error.log.iter().any(|line| line.contains(life.says));
    if life.causes.contains(&error.cause) && has_said && left.is_empty() {
        return None;
    }
    Some(format!(
        "{name} ended as {}: {error}\nexpected {:?} with {:?}; left are {left:?}\n  {heard}",
        error.cause, life.causes, life.says
    ))
}
