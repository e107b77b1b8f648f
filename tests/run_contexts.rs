//! How files get to pods: over the API server, on a volume, by a bucket; and away from there again.

use std::{fs, process::Command};

use ocib_testkit::{
    KubeFake, KubeOptions, KubeStep, Noise, RegistryOptions, S3Server, is_full, noise_file, require,
};
use serde_json::Value;

use crate::{
    memory::PEAK_KIB_MAX,
    program::{ended, names, signal, started, until, wait},
    run_kaniko::{DOCKERFILE, Runs, executed, with_files},
};

#[test]
fn files_over_the_api_server() {
    for kube in [KubeOptions::default(), KubeOptions::v1_20()] {
        let cluster = KubeFake::start(kube, |_| executed());
        let runs = with_files(Runs::new(DOCKERFILE, RegistryOptions::default(), cluster));
        runs.built(&["--run-context", "attach"]);
        assert_eq!(runs.file("made"), "before\nbetween\n");
        assert_eq!(runs.cluster.created()[0]["spec"]["containers"][0]["stdin"], true);
        assert!(runs.cluster.input_bytes() > 0);
        assert_eq!(runs.cluster.left(), Vec::<String>::new());
    }
}

#[test]
fn files_on_a_volume() {
    let kube = KubeOptions { claims: &[("work", "ReadWriteMany")], ..KubeOptions::default() };
    let cluster = KubeFake::start(kube, |_| executed());
    let runs = with_files(Runs::new(DOCKERFILE, RegistryOptions::default(), cluster));
    // A directory of the volume, as a pod of ocib's would mount it.
    let here = runs.cluster.volume("work").join("ci");
    fs::create_dir(&here).unwrap();
    let way = format!("pvc:work/ci:{}", here.display());
    runs.built(&["--run-context", &way]);
    assert_eq!(runs.file("made"), "before\nbetween\n");
    let pod = &runs.cluster.created()[0];
    assert_eq!(pod["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"], "work");
    assert_eq!(names(&here), Vec::<String>::new());

    // Also after a failure, and where ocib is told to end.
    let wrong = ["--run-context", &way, "--no-cache", "--run-executor-arg", "--none"];
    let failed = ended(&mut runs.build(&wrong)).failed(6);
    assert!(failed.contains("error[run-executor]"), "{failed}");
    assert_eq!((names(&here), runs.cluster.left()), (Vec::new(), Vec::new()));
    let missing =
        ended(&mut runs.build(&["--run-context", "pvc:work:/does/not/exist", "--no-cache"])).failed(3);
    assert!(missing.contains("error[run-context-put]") && missing.contains("/does/not/exist"), "{missing}");
}

#[test]
fn signals_take_the_context_along() {
    let endless = |_: &Value| vec![KubeStep::Schedule, KubeStep::Running, KubeStep::Pause(600_000)];
    let kube = KubeOptions { claims: &[("work", "ReadWriteMany")], ..KubeOptions::default() };
    let cluster = KubeFake::start(kube, endless);
    let runs = with_files(Runs::new(DOCKERFILE, RegistryOptions::default(), cluster));
    let here = runs.cluster.volume("work");
    let mut child = started(&mut runs.build(&["--run-context", &format!("pvc:work:{}", here.display())]));
    until(&mut child, "a pod", || !runs.cluster.created().is_empty());
    assert_eq!(names(&here).len(), 1);
    signal(&child, "INT");
    assert_eq!(wait(child).code(), Some(130));
    assert_eq!((names(&here), runs.cluster.left()), (Vec::new(), Vec::new()));
}

/// Who the pod is in the bucket, and where it finds it, is its own affair in the end: here a patch says it.
#[test]
fn files_by_a_bucket() {
    let server = S3Server::start();
    server.put("contexts", &[("other", b"stays")], false);
    let cluster = KubeFake::start(KubeOptions::default(), |_| executed());
    let runs = with_files(Runs::new(DOCKERFILE, RegistryOptions::default(), cluster));
    // More than a part.
    runs.site.file("context/between", Noise::bytes(3, 9 << 20));
    let patch = |name: &str, variable: &str| {
        let patch = format!("spec:\n  containers:\n  - name: kaniko\n    env:\n    - {variable}\n");
        runs.site.file(name, patch);
    };
    patch(
        "known.yaml",
        "{name: AWS_ACCESS_KEY_ID, value: test}\n    - {name: AWS_SECRET_ACCESS_KEY, value: x}",
    );
    patch("elsewhere.yaml", "{name: S3_ENDPOINT, value: \"http://127.0.0.1:1\"}");
    let way = ["--run-context", "s3://contexts/ci"];
    let plan = ended(&mut runs.ocib(&[&["plan", "context", "--run", "kaniko"], &way[..]].concat())).done();
    let said = "to the pod by s3://contexts/ci: 9439744 bytes as tar";
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains(said), "{plan}");
    let build = |patch: &str| {
        let mut build = runs.build(&[&way[..], &["--run-pod-patch", patch]].concat());
        let keys = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "planted-key")];
        ended(build.envs(keys).env("AWS_ENDPOINT_URL_S3", server.endpoint()))
    };
    let refused = build("elsewhere.yaml").failed(3);
    assert!(refused.contains("error[run-context-read]"), "{refused}");
    assert_eq!(server.keys("contexts"), ["other"]);
    let built = build("known.yaml").done();
    assert_eq!(runs.bytes("made").len(), "before\n".len() + (9 << 20));
    assert_eq!(server.keys("contexts"), ["other"]);
    let pods = runs.cluster.created();
    let arguments = &pods[1]["spec"]["containers"][0]["args"];
    assert!(arguments[1].as_str().unwrap().starts_with("--context=s3://contexts/ci/ocib-"), "{arguments}");
    assert!(!format!("{refused}{built:?}{pods:?}").contains("planted-key"));
    assert_eq!(runs.cluster.left(), Vec::<String>::new());
}

/// However large it is, a part of it at a time.
#[test]
fn a_large_context_by_a_bucket_stays_within_its_budget() {
    let bytes = if is_full() { 1 << 30 } else { 100 << 20 };
    let server = S3Server::start();
    server.put("contexts", &[("other", b"")], false);
    let fails = [KubeStep::Schedule, KubeStep::Running, KubeStep::Exit(42, "Error", String::new())];
    let cluster = KubeFake::start(KubeOptions::default(), move |_| fails.to_vec());
    let runs = with_files(Runs::new(DOCKERFILE, RegistryOptions::default(), cluster));
    noise_file(&runs.site.path("context/between"), 1, bytes);
    let build = runs.build(&["--run-context", "s3://contexts"]);
    let mut time = Command::new(require("time", "time"));
    time.args(["--quiet", "-f", "%M", "-o"]).arg(runs.site.path("used"));
    time.arg(build.get_program()).args(build.get_args());
    runs.site.clean(&mut time);
    time.envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let keys = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
    let said = ended(time.envs(keys).env("AWS_ENDPOINT_URL_S3", server.endpoint())).failed(1);
    assert!(said.contains("bytes of context are at s3://contexts/ocib-"), "{said}");
    let used = fs::read_to_string(runs.site.path("used")).unwrap();
    let peak_kib: u64 = used.trim().parse().unwrap();
    println!("{} MiB of context by a bucket: {peak_kib} KiB resident at most", bytes >> 20);
    assert!(peak_kib < PEAK_KIB_MAX, "{peak_kib} KiB");
    assert_eq!(server.keys("contexts"), ["other"]);
}
