//! RUN in pods: the built program against an API server whose pods run the stand-in executor.

use std::{
    fs,
    process::Command,
    sync::{Condvar, Mutex},
    time::Duration,
};

use ocib_testkit::{
    KubeFake, KubeOptions, KubeStep, Registry, RegistryOptions, arm64_busybox, checkout, is_full, noise_file,
    require,
};
use serde_json::{Value, json};

use crate::program::{
    Ended, Site, ended, manifest, names, set_mode, signal, started, stored_blob, tag_digest, until, wait,
};

/// A registry with a base that has a shell, a cluster, and a Dockerfile.
pub(crate) struct Runs {
    registry: Registry,
    pub(crate) cluster: KubeFake,
    pub(crate) site: Site,
}

/// A pod as the stand-in executor lives it.
pub(crate) fn executed() -> Vec<KubeStep> {
    vec![KubeStep::Schedule, KubeStep::Waiting("ContainerCreating", ""), KubeStep::Execute]
}

impl Runs {
    /// `@BASE@` in the Dockerfile stands for the base.
    pub(crate) fn new(dockerfile: &str, options: RegistryOptions, cluster: KubeFake) -> Self {
        Self::on(dockerfile, options, cluster, "linux/amd64")
    }

    /// The same on a base for these platforms, with the same program for all of them.
    fn on(dockerfile: &str, options: RegistryOptions, cluster: KubeFake, platforms: &str) -> Self {
        let base = Site::new("FROM scratch\nCOPY bin /bin/\n");
        base.file("context/bin/sh", fs::read(require("busybox", "busybox-static")).unwrap());
        set_mode(base.path("context/bin/sh"), 0o755);
        std::os::unix::fs::symlink("sh", base.path("context/bin/cat")).unwrap();
        Self::based(dockerfile, options, cluster, (&base, platforms))
    }

    /// The same on a base that is built from there, for these platforms.
    fn based(
        dockerfile: &str,
        options: RegistryOptions,
        cluster: KubeFake,
        (base, platforms): (&Site, &str),
    ) -> Self {
        let registry = Registry::start(options);
        let name = format!("{}/base:1", registry.host());
        let runs = Self { site: Site::new(&dockerfile.replace("@BASE@", &name)), registry, cluster };
        login(&runs.registry, base);
        let mut push = base.build(&["--push", "-t", &name, "--platform", platforms]);
        ended(push.env("DOCKER_CONFIG", base.path("docker"))).done();
        login(&runs.registry, &runs.site);
        runs
    }

    pub(crate) fn ocib(&self, arguments: &[&str]) -> Command {
        let mut command = self.site.ocib(arguments);
        command.env("KUBECONFIG", self.cluster.kubeconfig()).env("DOCKER_CONFIG", self.site.path("docker"));
        command
    }

    pub(crate) fn build(&self, more: &[&str]) -> Command {
        let tag = format!("{}/app:1", self.registry.host());
        self.ocib(&[&["build", "context", "--run", "kaniko", "--push", "-t", &tag], more].concat())
    }

    pub(crate) fn built(&self, more: &[&str]) -> Ended {
        ended(&mut self.build(more)).done()
    }

    /// What a file of the image holds.
    pub(crate) fn file(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let image = self.site.unpacked(&format!("docker://{}/app:1", self.registry.host()), "amd64");
        fs::read(image.join(name)).unwrap()
    }
}

/// The login that the registry asks for, if it asks.
fn login(registry: &Registry, site: &Site) {
    let auth = json!({ "auths": { registry.host(): { "auth": "Y2k6cGxhbnRlZC1wYXNzd29yZA==" } } });
    site.file("docker/config.json", auth.to_string());
}

pub(crate) const DOCKERFILE: &str = "FROM @BASE@\nCOPY before /before\nRUN cat /before > /made\nCOPY between /between\n\
                          RUN cat /between >> /made\nCOPY after /after\n";

pub(crate) fn with_files(runs: Runs) -> Runs {
    for name in ["before", "between", "after"] {
        runs.site.file(format!("context/{name}"), format!("{name}\n"));
    }
    runs
}

#[test]
fn only_what_must_goes_to_a_pod() {
    let cluster = KubeFake::start(KubeOptions::default(), |_| executed());
    let runs = with_files(Runs::new(DOCKERFILE, RegistryOptions::default(), cluster));
    let first = runs.built(&["--metadata-file", "metadata.json", "--progress", "plain"]);
    assert_eq!(
        (runs.file("made"), runs.file("after")),
        ("before\nbetween\n".to_owned(), "after\n".to_owned())
    );
    // What RUN made is no base's.
    let metadata = fs::read(runs.site.path("metadata.json")).unwrap();
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    let layers = metadata["ocib.layers"][0]["layers"].as_array().unwrap().iter();
    let titles = layers.map(|layer| (layer["title"].as_str().unwrap(), layer["made"] == "run"));
    assert_eq!(
        titles.collect::<Vec<_>>(),
        [
            ("base layer", false),
            ("COPY before /before", false),
            ("RUN cat /before > /made", true),
            ("COPY between /between", true),
            ("RUN cat /between >> /made", true),
            ("COPY after /after", false),
        ]
    );
    assert!(first.stderr.contains("RUN cat /between >> /made: "), "{}", first.stderr);
    assert_eq!(metadata["ocib.layers"][0]["layers"][0]["made"], "base");
    let pods = runs.cluster.created();
    assert_eq!(pods.len(), 1);
    let dockerfile = pods[0]["metadata"]["annotations"]["io.github.ocib/dockerfile"].as_str().unwrap();
    assert!(!dockerfile.contains("after"), "{dockerfile}");
    assert_eq!(pods[0]["spec"]["containers"][0]["stdin"], false);
    // The second time nothing runs.
    let again = runs.built(&[]);
    assert_eq!((again.digest(), runs.cluster.created().len()), (first.digest(), 1));
    assert_eq!(runs.cluster.left(), Vec::<String>::new());
}

/// Of a model that is copied after the last RUN nothing passes through the cluster.
#[test]
fn a_model_that_is_copied_after_a_run_never_goes_to_a_pod() {
    let bytes = if is_full() { 2 << 30 } else { 8 << 20 };
    let cluster = KubeFake::start(KubeOptions::default(), |_| executed());
    let runs = Runs::new(
        "FROM @BASE@\nRUN cat /bin/sh > /made\nCOPY model /models/\n",
        RegistryOptions::default(),
        cluster,
    );
    noise_file(&runs.site.path("context/model"), 1, bytes);
    let place = format!("{}/runs", runs.registry.host());
    runs.built(&["--run-repository", &place, "--compression", "none"]);
    let pods = runs.cluster.created();
    assert_eq!(pods.len(), 1);
    let image = manifest(&format!("{}/app:1", runs.registry.host()));
    let sizes = image["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap());
    assert!(sizes.max().unwrap() > bytes);
    // All that a pod can get at: its own words, and what lies in the run repository.
    assert!(!pods[0].to_string().contains("model"), "{}", pods[0]);
    let kept = names(&runs.registry.storage().join("docker/registry/v2/repositories/runs/_layers/sha256"));
    assert!(!kept.is_empty());
    let kept = kept.iter().map(|hex| fs::metadata(stored_blob(&runs.registry, hex)).unwrap().len());
    let largest = kept.max().unwrap();
    assert!(largest < 6 << 20, "a blob of {largest} bytes is in the run repository");
    assert_eq!(runs.cluster.left(), Vec::<String>::new());
}

/// No pod goes on before the other is there.
#[test]
fn platforms_run_at_once_and_end_in_one_index() {
    const BOTH: &str = "linux/amd64,linux/arm64";
    let pods = (Mutex::new(0), Condvar::new());
    let cluster = KubeFake::start(KubeOptions::default(), move |_| {
        let (created, changed) = &pods;
        let mut created = created.lock().unwrap();
        *created += 1;
        changed.notify_all();
        let (created, _) =
            changed.wait_timeout_while(created, Duration::from_secs(300), |created| *created < 2).unwrap();
        assert_eq!(*created, 2, "the other platform's pod does not come");
        executed()
    });
    let runs = with_files(Runs::on(DOCKERFILE, RegistryOptions::default(), cluster, BOTH));
    let first = runs.built(&["--platform", BOTH]);
    let selected = |pod: &Value| pod["spec"]["nodeSelector"]["kubernetes.io/arch"].clone();
    let mut nodes: Vec<String> = runs.cluster.created().iter().map(|pod| selected(pod).to_string()).collect();
    nodes.sort();
    assert_eq!(nodes, ["\"amd64\"", "\"arm64\""]);
    let tag = format!("{}/app:1", runs.registry.host());
    assert_eq!(manifest(&tag)["manifests"].as_array().unwrap().len(), 2);
    for architecture in ["amd64", "arm64"] {
        let files = runs.site.unpacked(&format!("docker://{tag}"), architecture);
        assert_eq!(fs::read_to_string(files.join("made")).unwrap(), "before\nbetween\n");
    }
    // The second time nothing runs.
    let again = runs.built(&["--platform", BOTH]);
    assert_eq!((again.digest(), runs.cluster.created().len()), (first.digest(), 2));
    assert_eq!(runs.cluster.left(), Vec::<String>::new());
}

/// The shell of each platform's base is a program for that platform, which says what it runs on.
#[test]
fn each_platform_is_run_on_its_own_architecture() {
    const BOTH: &str = "linux/amd64,linux/arm64";
    let base = Site::new("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /bin/\n");
    for (architecture, busybox) in
        [("amd64", require("busybox", "busybox-static")), ("arm64", arm64_busybox())]
    {
        for name in ["busybox", "sh"] {
            let path = format!("context/{architecture}/{name}");
            base.file(&path, fs::read(&busybox).unwrap());
            set_mode(base.path(&path), 0o755);
        }
    }
    let cluster = KubeFake::start(KubeOptions::default(), |_| executed());
    let dockerfile =
        "FROM @BASE@\nCOPY file /\nRUN busybox uname -m > /machine; busybox cat /file >> /machine\n";
    let runs = Runs::based(dockerfile, RegistryOptions::default(), cluster, (&base, BOTH));
    runs.site.file("context/file", "copied\n");
    runs.built(&["--platform", BOTH]);
    let tag = format!("{}/app:1", runs.registry.host());
    assert_eq!(manifest(&tag)["manifests"].as_array().unwrap().len(), 2);
    for (architecture, machine) in [("amd64", "x86_64"), ("arm64", "aarch64")] {
        let files = runs.site.unpacked(&format!("docker://{tag}"), architecture);
        let said = fs::read_to_string(files.join("machine")).unwrap();
        assert_eq!(said, format!("{machine}\ncopied\n"), "{architecture}");
    }
    assert_eq!(runs.cluster.left(), Vec::<String>::new());
}

/// The registry asks for a login; the pod gets ocib's, and nothing else sees it.
#[test]
fn credentials_are_shared_only_when_told() {
    let dockerfile = "FROM @BASE@\nRUN echo made > /made\n";
    let options = RegistryOptions {
        login: Some(("ci".to_owned(), "planted-password".to_owned())),
        ..RegistryOptions::default()
    };
    let cluster = KubeFake::start(KubeOptions::default(), |_| executed());
    let runs = Runs::new(dockerfile, options, cluster);
    let refused = ended(&mut runs.build(&[])).failed(5);
    assert!(refused.contains("error[run-base]"), "{refused}");
    assert_eq!(runs.cluster.secrets().len(), 0);
    // That it ends well says that the pod pulled and pushed: a result that is not in the registry is an error.
    let said = runs.built(&["--run-share-credentials"]);
    assert_eq!(runs.cluster.secrets().len(), 1);
    let all = format!("{refused}{said:?}{:?}", runs.cluster.created());
    assert!(!all.contains("planted-password") && !all.contains("Y2k6"), "{all}");
    assert_eq!(runs.cluster.left(), Vec::<String>::new());
}

#[test]
fn a_command_that_fails_shows_its_line_and_its_last_words() {
    let dockerfile = "FROM @BASE@\nRUN true\nRUN echo the \\\n  reason; sleep 1; exit 42\n";
    let cluster = KubeFake::start(KubeOptions::default(), |_| executed());
    let runs = Runs::new(dockerfile, RegistryOptions::default(), cluster);
    let said = ended(&mut runs.build(&[])).failed(1);
    assert!(said.contains("error[run-command]") && said.contains("it exited with 42"), "{said}");
    assert!(said.contains("the reason"), "{said}");
    assert_eq!(tag_digest(&runs.registry, "app", "1"), None);
    assert_eq!(runs.cluster.left(), Vec::<String>::new());
}

/// What the pod says is held against the registry.
#[test]
fn a_digest_that_the_registry_does_not_know_is_refused() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let end = KubeStep::Exit(0, "Completed", digest.clone());
    let cluster = KubeFake::start(KubeOptions::default(), move |_| {
        vec![KubeStep::Schedule, KubeStep::Running, end.clone()]
    });
    let runs = Runs::new("FROM @BASE@\nRUN echo made > /made\n", RegistryOptions::default(), cluster);
    let said = ended(&mut runs.build(&[])).failed(6);
    let expected = format!(
        "error: kaniko gave {digest}, which is not what was asked for: {}/app does not have it\n --> context/Dockerfile:2:1\n",
        runs.registry.host()
    );
    assert!(said.contains(&expected), "{said}");
    assert_eq!(runs.cluster.left(), Vec::<String>::new());
}

#[test]
fn signals_take_the_pod_along() {
    for name in ["INT", "TERM"] {
        let endless = |_: &Value| vec![KubeStep::Schedule, KubeStep::Running, KubeStep::Pause(600_000)];
        let cluster = KubeFake::start(KubeOptions::default(), endless);
        let runs = Runs::new("FROM @BASE@\nRUN cat\n", RegistryOptions::default(), cluster);
        let mut child = started(&mut runs.build(&[]));
        until(&mut child, "a pod", || !runs.cluster.created().is_empty());
        signal(&child, name);
        let ended = wait(child);
        assert_eq!(ended.code(), Some(130), "{ended:?}");
        assert_eq!(runs.cluster.left(), Vec::<String>::new());
    }
}

/// What a cluster says of a build beforehand, and what a build then says.
#[test]
fn preflight_looks_at_the_cluster() {
    let dockerfile = "FROM @BASE@\nRUN true\n";
    let of = |options: KubeOptions| {
        let cluster = KubeFake::start(options, |_| executed());
        let runs = Runs::new(dockerfile, RegistryOptions::default(), cluster);
        let tag = format!("{}/app:1", runs.registry.host());
        let image = format!("{}/base:1", runs.registry.host());
        let flags = ["preflight", "context", "--run", "kaniko", "--run-image", &image, "-t", &tag, "--json"];
        let ended = ended(&mut runs.ocib(&flags));
        let found: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
        assert_eq!(runs.cluster.created(), Vec::<Value>::new());
        (ended.code(), found)
    };
    let (code, found) = of(KubeOptions::default());
    assert_eq!(code, Some(0), "{found:#}");
    for (options, cause, code) in [
        (KubeOptions { denied: &[("delete", "pods")], ..KubeOptions::default() }, "run-forbidden", 4),
        (KubeOptions { pod_security: Some("restricted"), ..KubeOptions::default() }, "run-pod-security", 4),
        (KubeOptions { nodes: &["arm64"], ..KubeOptions::default() }, "run-no-node-of-architecture", 6),
        (KubeOptions { pods_max: Some(0), ..KubeOptions::default() }, "run-quota", 6),
        (
            KubeOptions { quota: &[("requests.ephemeral-storage", "1Gi")], ..KubeOptions::default() },
            "run-quota",
            6,
        ),
        (KubeOptions { quota: &[("limits.memory", "1Gi")], ..KubeOptions::default() }, "run-quota", 6),
    ] {
        let (ended, found) = of(options);
        let problems: Vec<&Value> =
            found["checks"].as_array().unwrap().iter().filter(|found| found["status"] == "problem").collect();
        assert_eq!((ended, problems.len()), (Some(code), 1), "{found:#}");
        assert_eq!(problems[0]["cause"], cause, "{found:#}");
    }
    // Without the right to look it is unknown, and not taken for good or bad.
    let denied = &[("list", "nodes"), ("get", "namespaces"), ("list", "resourcequotas"), ("list", "events")];
    let (code, found) = of(KubeOptions { denied, ..KubeOptions::default() });
    let unknown = found["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|found| found["check"] == "cluster" && found["status"] == "unknown")
        .count();
    assert_eq!((code, unknown), (Some(0), 4), "{found:#}");
}

#[test]
fn preflight_looks_where_files_would_go() {
    let of = |claims, way: &dyn Fn(&KubeFake) -> String| {
        let cluster = KubeFake::start(KubeOptions { claims, ..KubeOptions::default() }, |_| executed());
        let runs = Runs::new("FROM @BASE@\nRUN true\n", RegistryOptions::default(), cluster);
        let tag = format!("{}/app:1", runs.registry.host());
        let way = way(&runs.cluster);
        let flags = ["preflight", "context", "--run", "kaniko", "-t", &tag, "--json", "--run-context", &way];
        let mut preflight = runs.ocib(&flags);
        let ended = ended(preflight.env("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1"));
        let found: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
        let is_meant = |check: &&Value| {
            let subject = check["subject"].as_str().unwrap_or_default();
            ["claim", "contexts"].iter().any(|word| subject.contains(word))
        };
        let checks = found["checks"].as_array().unwrap().iter().filter(is_meant);
        let states =
            checks.map(|check| format!("{} {}", check["status"], check["cause"])).collect::<Vec<_>>();
        (ended.code(), states.join(", ").replace('"', ""))
    };
    let here = |cluster: &KubeFake| format!("pvc:work:{}", cluster.volume("work").display());
    let many = &[("work", "ReadWriteMany")][..];
    assert_eq!(of(many, &here), (Some(0), "ok null, ok null".to_owned()));
    let once = &[("work", "ReadWriteOnce")];
    assert_eq!(of(once, &here), (Some(0), "unknown null, ok null".to_owned()));
    let gone = of(&[], &|_| "pvc:work:/does/not/exist".to_owned());
    assert_eq!(gone, (Some(6), "problem run-volume, problem run-context-put".to_owned()));
    let bucket = of(&[], &|_| "s3://contexts".to_owned());
    assert_eq!(bucket, (Some(6), "problem run-context-put".to_owned()));
}

#[test]
fn pods_of_builds_are_listed_and_removed() {
    let cluster = KubeFake::start(KubeOptions::default(), |_| executed());
    let runs = Runs::new("FROM @BASE@\nRUN echo x > /x\n", RegistryOptions::default(), cluster);
    runs.built(&["--run-keep"]);
    let left = runs.cluster.left();
    assert_eq!(left.len(), 1);
    let name = left[0].strip_prefix("pods/").unwrap();
    let list = ended(&mut runs.ocib(&["run-pods", "list"])).done();
    assert!(list.stdout.starts_with(format!("builds/{name}  ended  ").as_bytes()), "{list:?}");
    let clean = ended(&mut runs.ocib(&["run-pods", "clean"])).done();
    assert_eq!(clean.stdout, format!("builds/{name}\n").as_bytes());
    assert_eq!(runs.cluster.left(), Vec::<String>::new());
    let elsewhere = ended(runs.ocib(&["run-pods", "list"]).env("KUBECONFIG", "/does/not/exist")).failed(3);
    assert!(elsewhere.contains("error[run-kubeconfig]"), "{elsewhere}");
}

/// The guide has every end with its remedy, and no other.
#[test]
fn the_table_of_ends_in_the_guide_is_true() {
    let guide = fs::read_to_string(checkout().join("docs/run-kubernetes.md")).unwrap();
    let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("| `run-")).collect();
    let expected: Vec<String> = ocib::kaniko::End::ALL
        .iter()
        .map(|end| format!("| `{}` | {} | {} |", end.cause(), end.what(), end.remedy().replace('|', "\\|")))
        .collect();
    assert_eq!(rows, expected, "write this:\n{}", expected.join("\n"));
}
