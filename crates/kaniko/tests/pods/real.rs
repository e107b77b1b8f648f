//! Builds whose bytes really flow: a pod's program is a stand-in for the executor that builds with buildah.

use ocib_image::{Compression, RunBackend as _, RunFiles};
use ocib_kaniko::Options;
use ocib_testkit::{
    Execute, KubeFake, KubeOptions, KubeStep, Registry, RegistryOptions, checkout, file_layer, require,
    rootfs, run, skopeo,
};

use crate::jobs::{Heard, backend, job, options, with_context};

/// Pods that run the stand-in.
fn cluster(options: KubeOptions) -> KubeFake {
    KubeFake::start(options, |_| {
        let program = checkout().join("testdata/kaniko/executor");
        vec![
            KubeStep::Schedule,
            KubeStep::Waiting("ContainerCreating", ""),
            KubeStep::Execute(Execute { program }),
        ]
    })
}

/// A base image with a shell, pinned.
fn base(registry: &Registry) -> String {
    let dir = tempfile::tempdir().unwrap();
    let busybox = require("busybox", "busybox-static");
    std::fs::copy(busybox, dir.path().join("busybox")).unwrap();
    let file = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nENV PATH=/bin\nRUN busybox --install -s /bin\n";
    std::fs::write(dir.path().join("Dockerfile"), file).unwrap();
    let repository = format!("{}/base", registry.host());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let buildah = |arguments: &[&str]| {
        let (root, runroot) = (path("storage"), path("run"));
        let storage = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
        run("buildah", "buildah", &[&storage[..], arguments].concat())
    };
    buildah(&["bud", "--isolation", "chroot", "--tag", "base", &path("")]);
    let target = format!("docker://{repository}:latest");
    buildah(&["push", "--tls-verify=false", "--digestfile", &path("digest"), "base", &target]);
    format!("{repository}@{}", std::fs::read_to_string(path("digest")).unwrap())
}

/// What a file of the image `app` holds.
fn image_file(registry: &Registry, digest: &str, name: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let (from, to) =
        (format!("docker://{}/app@{digest}", registry.host()), format!("oci:{}:x", layout.display()));
    skopeo(&["copy", "--src-tls-verify=false", &from, &to]);
    let files = rootfs(&layout);
    String::from_utf8(files[name].content.clone()).unwrap()
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
    assert_eq!(image_file(&registry, &made.digest.to_string(), "made"), "built in a pod\n");
    assert!(heard.has("INFO[0000] RUN cat /made") && heard.has("built in a pod"), "{:#?}", heard.lines());
    assert_eq!(fake.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_over_attach() {
    for kube in [KubeOptions::default(), KubeOptions::v1_20()] {
        let registry = Registry::start(RegistryOptions::default());
        let fake = cluster(kube);
        let backend = backend(&fake, Options { files: RunFiles::Context, ..options() }).await;
        let dockerfile = format!("FROM {}\nCOPY data /data\nRUN cat /data > /copy\n", base(&registry));
        let context = file_layer("data", b"from the context\n".to_vec(), Compression::Auto).source;
        let job = job(&dockerfile, &format!("{}/app:run", registry.host()));
        let job = with_context(job, context);
        let (heard, progress) = Heard::new();
        let made = backend.run(&job, &progress).await;
        let made = made.unwrap_or_else(|error| panic!("{error}: {:#?}", heard.lines()));
        assert_eq!(image_file(&registry, &made.digest.to_string(), "copy"), "from the context\n");
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
