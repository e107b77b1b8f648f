//! The pod of a job, to the letter. `OCIB_UPDATE_GOLDEN=1` writes the files anew; each is judged by the
//! schemas of Kubernetes besides.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use ocib_image::{Credential, Digest, Platform, RunJob, Secret};
use ocib_kaniko::{ContextAt, ContextUrl, Names, Options, Owner, Patience, RegistryAccess, pod};
use ocib_testkit::{checkout, file_layer, run_command};
use serde_json::json;

/// The oldest and the newest version whose schemas the validator has and that ocib is for.
const VERSIONS: [&str; 2] = ["1.25", "1.37"];

fn job() -> RunJob {
    RunJob {
        key: Digest::of(b"job"),
        title: "build, lines 3 to 5".to_owned(),
        dockerfile: "FROM registry.example/base@sha256:0\nRUN make\n".to_owned(),
        lines: vec![1, 3],
        platform: Platform::linux_amd64(),
        destination: "registry.example/team/app:run-0123".parse().unwrap(),
        context: None,
        proxies: BTreeMap::new(),
        is_fresh: false,
        secrets: Vec::new(),
        disk_bytes: 4 << 30,
    }
}

fn names() -> Names {
    Names {
        name: "ocib-0123-amd64-4567-1".to_owned(),
        namespace: "builds".to_owned(),
        build: "456789ab".to_owned(),
        owner: None,
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn everything() -> Options {
    Options {
        image: "mirror.example/kaniko@sha256:1".to_owned(),
        pull_secrets: vec!["pull".to_owned()],
        service_account: Some("builder".to_owned()),
        requests: map(&[("cpu", "2"), ("memory", "4Gi")]),
        limits: map(&[("memory", "8Gi")]),
        node_selector: map(&[("pool", "builds")]),
        tolerations: vec!["spot".parse().unwrap(), "team=build:NoSchedule".parse().unwrap()],
        labels: map(&[("team", "build")]),
        annotations: map(&[("note", "a \"quoted\" one")]),
        patch: Some(json!({ "spec": { "priorityClassName": "low", "containers": [
            { "name": "kaniko", "env": [{ "name": "AWS_REGION", "value": "eu-central-1" }] },
        ] } })),
        cache: Some("registry.example/team/cache".parse().unwrap()),
        arguments: vec!["--verbosity=debug".to_owned()],
        ca_bundle: Some("-----BEGIN CERTIFICATE-----\n".to_owned()),
        insecure_hosts: vec!["registry.example".to_owned()],
        patience: Patience { deadline: Duration::from_secs(600), ..Patience::default() },
        ..Options::default()
    }
}

#[test]
fn pods() {
    let credential = Credential::Basic { user: "ci".to_owned(), password: Secret::new("never seen") };
    let owner = Some(Owner { name: "ci-job".to_owned(), uid: "1-2-3".to_owned() });
    let source = file_layer("a", Vec::new(), ocib_image::Compression::Auto).source;
    let with_context = |job: RunJob| RunJob { context: Some(Arc::clone(&source)), ..job };
    let arm = |job: RunJob| RunJob { platform: "linux/arm/v7".parse().unwrap(), ..with_context(job) };
    // With two dollars where Kubernetes would take one for the start of a variable, and without the cache.
    let proxies = [("HTTP_PROXY".to_owned(), Secret::new("http://ci:a$(b)$$@proxy"))].into();
    let by_proxy = RunJob { proxies, is_fresh: true, ..job() };
    let volume = ContextAt::Volume { claim: "work".to_owned(), directory: "ci/ocib-0123".to_owned() };
    let bucket = ContextAt::Url(ContextUrl {
        url: "s3://contexts/ci/ocib-0123.tar.gz".to_owned(),
        environment: vec![("AWS_REGION".to_owned(), "eu-central-1".to_owned())],
    });
    for (name, job, context, options, names) in [
        ("plain", job(), ContextAt::Nowhere, Options::default(), names()),
        ("everything", job(), ContextAt::Nowhere, everything(), Names { owner, ..names() }),
        ("proxies", by_proxy, ContextAt::Nowhere, everything(), names()),
        (
            "context",
            arm(job()),
            ContextAt::Input,
            Options { registry: RegistryAccess::Named("login".to_owned()), ..Options::default() },
            names(),
        ),
        ("volume", with_context(job()), volume, Options::default(), names()),
        (
            "bucket",
            with_context(job()),
            bucket,
            Options { service_account: Some("reader".to_owned()), ..Options::default() },
            names(),
        ),
        (
            "shared",
            job(),
            ContextAt::Nowhere,
            Options {
                registry: RegistryAccess::shared([("registry.example", &credential)]),
                ..Options::default()
            },
            names(),
        ),
    ] {
        let made = format!("{:#}\n", pod(&job, &context, &options, &names).unwrap());
        let file = directory().join(format!("{name}.json"));
        if std::env::var_os("OCIB_UPDATE_GOLDEN").is_some() {
            fs::write(&file, &made).unwrap();
        }
        assert_eq!(made, fs::read_to_string(&file).unwrap(), "{name}");
        validate(&file);
    }
}

fn directory() -> PathBuf {
    checkout().join("crates/kaniko/tests/golden")
}

/// Judges a file by Kubernetes' own schemas, in an environment of Python that `tests/run.sh` makes.
fn validate(file: &Path) {
    const SCRIPT: &str = "import json, sys, kubernetes_validate\n\
        [kubernetes_validate.validate(json.load(open(sys.argv[1])), version, strict=True) for version in sys.argv[2:]]";
    let python = checkout().join("target/test-data/kubernetes-validate/bin/python");
    assert!(python.exists(), "{} is missing: tests/run.sh makes it", python.display());
    run_command(Command::new(&python).args(["-c", SCRIPT]).arg(file).args(VERSIONS));
}
