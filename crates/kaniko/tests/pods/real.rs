//! Builds whose bytes really flow: a pod's program is a stand-in for the executor that builds with buildah.

use ocib_image::{Compression, Digest, RunBackend as _};
use ocib_kaniko::{ContextWay, Options};
use ocib_testkit::{
    Executor, KubeFake, KubeOptions, KubeStep, Registry, RegistryOptions, file_layer, require, rootfs, run,
    run_command, skopeo,
};

use crate::jobs::{Heard, backend, job, options, with_context};

/// Pods that run the stand-in.
fn cluster(options: KubeOptions) -> KubeFake {
    KubeFake::start(options, |_| {
        vec![KubeStep::Schedule, KubeStep::Waiting("ContainerCreating", ""), KubeStep::Execute]
    })
}

/// A base image with a shell, pinned.
fn base(registry: &Registry) -> String {
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().join("kaniko/context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::copy(require("busybox", "busybox-static"), context.join("busybox")).unwrap();
    let file = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nCOPY busybox /bin/cat\n";
    std::fs::write(context.join("Dockerfile"), file).unwrap();
    let repository = format!("{}/base", registry.host());
    let mut command = Executor::new().command(dir.path());
    command.args(["--context=dir:///kaniko/context", "--digest-file=/dev/termination-log"]);
    run_command(command.arg(format!("--destination={repository}:latest")));
    format!("{repository}@{}", std::fs::read_to_string(dir.path().join("dev/termination-log")).unwrap())
}

/// Asserts what a file of the image `app` holds.
fn assert_file(registry: &Registry, digest: &Digest, name: &str, content: &str) {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let (from, to) =
        (format!("docker://{}/app@{digest}", registry.host()), format!("oci:{}:x", layout.display()));
    skopeo(&["copy", "--src-tls-verify=false", &from, &to]);
    let files = rootfs(&layout, "linux/amd64");
    let there = files.get(name).and_then(|file| file.sha256.clone());
    assert_eq!(there, Some(Digest::of(content.as_bytes()).hex()), "{:?}", files.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_context() {
    let registry = Registry::start(RegistryOptions::default());
    let fake = cluster(KubeOptions::default());
    let backend = backend(&fake, options()).await;
    let dockerfile = format!("FROM {}\nRUN echo built in a pod > /made\nRUN cat /made\n", base(&registry));
    let job = job(&dockerfile, &format!("{}/app:run", registry.host()));
    let (heard, progress) = Heard::new();
    let made = backend.run(&job, &progress).await;
    let made = made.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
    assert_file(&registry, &made.digest, "made", "built in a pod\n");
    assert!(
        heard.lines().contains(&"RUN cat /made".to_owned()) && heard.has("built in a pod"),
        "{:#?}",
        heard.lines()
    );
    assert_eq!(fake.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_over_attach() {
    for kube in [KubeOptions::default(), KubeOptions::v1_20()] {
        let registry = Registry::start(RegistryOptions::default());
        let fake = cluster(kube);
        let backend = backend(&fake, Options { context: ContextWay::Attach, ..options() }).await;
        let dockerfile = format!("FROM {}\nCOPY data /data\nRUN cat /data > /copy\n", base(&registry));
        let context = file_layer("data", b"from the context\n".to_vec(), Compression::Auto).source;
        let job = job(&dockerfile, &format!("{}/app:run", registry.host()));
        let job = with_context(job, context);
        let (heard, progress) = Heard::new();
        let made = backend.run(&job, &progress).await;
        let made = made.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
        assert_file(&registry, &made.digest, "copy", "from the context\n");
        assert_eq!(fake.left(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails() {
    let registry = Registry::start(RegistryOptions::default());
    let fake = cluster(KubeOptions::default());
    let backend = backend(&fake, options()).await;
    let dockerfile = format!("FROM {}\nRUN true\nRUN echo why it fails; exit 42\n", base(&registry));
    let job = job(&dockerfile, &format!("{}/app:run", registry.host()));
    let (_, progress) = Heard::new();
    let error = backend.run(&job, &progress).await.unwrap_err();
    assert_eq!((error.cause, error.line), ("run-command", Some(3)), "{error:?}");
    assert_eq!(error.message, "a command of the Dockerfile failed: it exited with 42");
    assert!(error.log.iter().any(|line| line == "why it fails"), "{:?}", error.log);
    assert_eq!(fake.left(), Vec::<String>::new());
    // Nothing was pushed under the name.
    let tags = run("curl", "curl", &["-s", &format!("{}/v2/app/tags/list", registry.url())]);
    assert!(tags.contains("NAME_UNKNOWN"), "{tags}");
}
