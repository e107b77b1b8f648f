//! `ocib preflight`: what it says when all is well, what it leaves alone, and what it does not know.

use std::{fs, os::unix::fs::FileExt, process::Command};

use ocib::store::{EcrHost, PolicyOptions, iam_policy};
use ocib_testkit::{
    AwsAction, EcrEmulator, EcrFault, EcrOptions, EcrRepository, Noise, Policy, Registry, RegistryOptions,
    sparse_file,
};
use serde_json::Value;

use crate::program::{Ended, Site, ended};

fn site() -> Site {
    let site = Site::new("FROM scratch\nCOPY a /\n");
    site.file("context/a", "a");
    site
}

fn preflight(site: &Site, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
    command.args(["preflight", "context"]).args(arguments);
    site.clean(&mut command);
    command
}

/// `check status` of each finding in order, those that stand for this machine left out.
fn findings(ended: &Ended) -> Vec<String> {
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["version"], 1);
    let machine = ["memory", "scratch", "cache", "proxy", "certificates"];
    let checks = report["checks"].as_array().unwrap().iter();
    let checks = checks.filter(|check| !machine.contains(&check["check"].as_str().unwrap()));
    checks
        .map(|check| format!("{} {}", check["check"].as_str().unwrap(), check["status"].as_str().unwrap()))
        .collect()
}

fn text(ended: &Ended) -> String {
    String::from_utf8(ended.stdout.clone()).unwrap()
}

#[test]
fn all_is_well_and_nothing_is_changed() {
    let registry = Registry::start(RegistryOptions::default());
    let base = site();
    let tag = format!("{}/base:1", registry.host());
    base.built(&["--push", "-t", &tag]);
    let before = registry.requests();
    let site = Site::new(&format!("FROM {tag}\nCOPY --link b /\n"));
    site.file("context/b", "b");
    let target = format!("{}/app:1", registry.host());
    let done = ended(&mut preflight(&site, &["--json", "-t", &target])).done();
    assert_eq!(
        findings(&done),
        [
            "base ok",
            "dockerfile ok",
            "cluster ok",
            "limits ok",
            "registry ok",
            "clock ok",
            "tag ok",
            "permission ok",
            "permission ok",
            "permission ok",
            "permission ok",
            "permission ok",
            "sending unknown",
            "mounts unknown",
        ]
    );
    let asked = registry.requests().since(&before);
    assert!(asked.uploads().iter().all(|request| request.status != 201), "{asked:?}");
    assert!(asked.with("PUT", "/v2/").iter().all(|request| request.status == 400), "{asked:?}");
    assert!(asked.with("PATCH", "/v2/").iter().all(|request| request.query.contains("_state=")), "{asked:?}");
    let skopeo = ["list-tags", "--tls-verify=false"];
    let none = ended(Command::new("skopeo").args(skopeo).arg(format!("docker://{}/app", registry.host())));
    assert_ne!(none.code(), Some(0), "no repository came into being: {none:?}");
    assert_eq!(site.leftovers(), Vec::<String>::new());

    let done = ended(&mut preflight(&site, &["-t", &target])).done();
    let expected = format!("ok       tag         {target}: ");
    assert!(text(&done).lines().any(|line| line.starts_with(&expected)), "{}", text(&done));
    assert!(text(&done).ends_with("17 ok, 0 to mend, 2 unknown\n"), "{}", text(&done));
}

#[test]
fn the_worst_problem_is_the_exit_code() {
    let site = Site::new("FROM scratch\nCOPY nothing /\n");
    let done = ended(&mut preflight(&site, &[]));
    assert!(
        text(&done).contains("problem  dockerfile  context/Dockerfile: /nothing: not found\n"),
        "{}",
        text(&done)
    );
    assert_eq!(done.code(), Some(3), "{}", done.stderr);
    assert_eq!(done.stderr, "error: the build would fail: 1 problem found\n");
    let done = ended(&mut preflight(&site, &["-t", "127.0.0.1:1/a"]));
    assert_eq!(done.code(), Some(5), "{}", done.stderr);
}

/// ECR takes 52,000 MiB. What is larger may be small enough when it is compressed; what is smaller will be.
#[test]
fn a_layer_that_compression_may_make_small_enough_is_unknown() {
    let site = site();
    let flags = ["--json", "--ecr-host", "127.0.0.1:1=123456789012/eu-west-1", "-t", "127.0.0.1:1/a"];
    for (gib, compression, expected) in [
        (60, "--compression=none", "limits problem"),
        (60, "--compression=gzip", "limits unknown"),
        (40, "--compression=gzip", "limits ok"),
    ] {
        sparse_file(&site.path("context/a"), gib << 30);
        let done = ended(preflight(&site, &flags).arg(compression));
        assert!(findings(&done).contains(&expected.to_owned()), "{gib} {compression}: {:?}", findings(&done));
    }
}

/// What is not compressed because that gains nothing is as large as it is, and that is known beforehand: nothing is sent,
/// not even of the layer before it.
#[test]
fn a_layer_that_compression_will_not_make_smaller_is_too_large() {
    // As many pieces, of this size, are looked at.
    const PIECES: u64 = 64;
    const PIECE: usize = 16 << 10;
    let site = Site::new("FROM scratch\nCOPY a /\nCOPY weights /\n");
    let (path, bytes) = (site.path("context/weights"), 60 << 30);
    site.file("context/a", "a");
    sparse_file(&path, bytes);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for at in 0..PIECES {
        file.write_all_at(&Noise::bytes(at, PIECE), at * (bytes / PIECES)).unwrap();
    }
    let emulator = EcrEmulator::start(EcrOptions::default());
    emulator.create("team/app");
    let (tag, declared) =
        (format!("{}/team/app:1", emulator.host()), format!("{}=123456789012/eu-west-1", emulator.host()));
    let key = emulator.user("ci", Policy::all());
    let flags = ["-t", &tag, "--ecr-host", &declared];
    let looked =
        ended(preflight(&site, &[&["--json"], &flags[..]].concat()).envs(emulator.environment(&key)));
    assert!(findings(&looked).contains(&"limits problem".to_owned()), "{:?}", findings(&looked));
    assert!(text(&looked).contains("\"cause\": \"layer-too-large\""), "{}", text(&looked));
    let mut planned = site.ocib(&[&["plan", "context", "--push"], &flags[..]].concat());
    let planned = ended(planned.envs(emulator.environment(&key))).failed(5);
    let tried = emulator.sessions().len();
    let mut build = site.build(&[&["--push"], &flags[..]].concat());
    let said = ended(build.envs(emulator.environment(&key))).failed(5);
    for said in [said, planned] {
        assert!(said.contains("error[layer-too-large]: COPY weights /, a layer for "), "{said}");
    }
    assert_eq!((emulator.sessions().len(), emulator.bytes_received()), (tried, 0));
}

#[test]
fn what_must_not_be_asked_is_unknown() {
    let emulator = EcrEmulator::start(EcrOptions::default());
    let name = "team/app".to_owned();
    emulator.create_repository(EcrRepository {
        name: name.clone(),
        immutable: true,
        ..EcrRepository::default()
    });
    let (tag, declared) =
        (format!("{}/team/app:1", emulator.host()), format!("{}=123456789012/eu-west-1", emulator.host()));
    let arguments = ["--json", "--compression", "none", "-t", &tag, "--ecr-host", &declared];
    let admin = emulator.user("admin", Policy::all());
    ended(site().build(&["--push", "-t", &tag, "--ecr-host", &declared]).envs(emulator.environment(&admin)))
        .done();

    let host: EcrHost = "123456789012/eu-west-1".parse().unwrap();
    let policy = iam_policy(&[(host, name)], &[], PolicyOptions::default());
    let key = emulator.user("ci", Policy::parse(&policy));
    let other = Site::new("FROM scratch\nLABEL a=b\n");
    let (uploads, tags) = (emulator.bytes_received(), emulator.tags("team/app"));
    let expected = |tag: &str, mounts: &str| {
        let start = ["dockerfile ok", "cluster ok", "limits ok", "registry ok", "clock ok"];
        let permissions = ["permission ok"; 6];
        let all = [&start[..], &[tag], &permissions, &["sending unknown", mounts, "identity ok"]].concat();
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let looked = ended(preflight(&other, &arguments).envs(emulator.environment(&key))).done();
    assert_eq!(findings(&looked), expected("tag unknown", "mounts unknown"));
    // Who may ask is told.
    let looked = ended(preflight(&other, &arguments).envs(emulator.environment(&admin)));
    assert_eq!(findings(&looked), expected("tag problem", "mounts ok"));
    assert!(text(&looked).contains("\"cause\": \"tag-immutable\""), "{}", text(&looked));
    assert_eq!(emulator.bytes_received(), uploads);
    assert_eq!(emulator.count(AwsAction::PutImage), 4, "those of the first push, and two of nothing");
    assert_eq!(emulator.tags("team/app"), tags);
    for secret in emulator.secrets() {
        assert!(!text(&looked).contains(&secret) && !looked.stderr.contains(&secret));
    }
}

/// A service that is not well says nothing of permissions.
#[test]
fn a_failure_of_the_service_is_no_permission() {
    let emulator = EcrEmulator::start(EcrOptions::default());
    emulator.create("team/app");
    for (action, what) in [
        (AwsAction::UploadLayerPart, "send parts (UploadLayerPart)"),
        (AwsAction::CompleteLayerUpload, "complete an upload (CompleteLayerUpload)"),
        (AwsAction::PutImage, "name an image (PutImage)"),
    ] {
        for nth in 1..=2 {
            let message = "the service is not well".to_owned();
            emulator.inject(action, nth, EcrFault::Refuse { status: 503, message });
        }
        let (tag, declared) = (
            format!("{}/team/app:1", emulator.host()),
            format!("{}=123456789012/eu-west-1", emulator.host()),
        );
        let key = emulator.user("ci", Policy::all());
        let arguments = ["-t", &tag, "--ecr-host", &declared];
        let looked = ended(preflight(&site(), &arguments).envs(emulator.environment(&key))).done();
        let unknown = format!("{what}: shows only when it is done; tried with nothing: ");
        assert!(text(&looked).contains(&unknown), "{action}: {}", text(&looked));
        assert!(!text(&looked).contains(&format!("{what}: allowed")), "{action}: {}", text(&looked));
        // What was not used up is not for the next one.
        ended(preflight(&site(), &arguments).envs(emulator.environment(&key))).done();
    }
}

#[test]
fn each_permission_that_is_missing_is_found() {
    for action in [
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload",
        "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload",
        "ecr:PutImage",
    ] {
        let emulator = EcrEmulator::start(EcrOptions::default());
        emulator.create("team/app");
        let (tag, declared) = (
            format!("{}/team/app:1", emulator.host()),
            format!("{}=123456789012/eu-west-1", emulator.host()),
        );
        let host: EcrHost = "123456789012/eu-west-1".parse().unwrap();
        let policy = iam_policy(&[(host, "team/app".to_owned())], &[], PolicyOptions::default());
        let key = emulator.user("ci", Policy::parse(&policy).without(action));
        let arguments = ["-t", &tag, "--ecr-host", &declared];
        let looked = ended(preflight(&site(), &arguments).envs(emulator.environment(&key)));
        assert_eq!(looked.code(), Some(4), "{action}: {}", text(&looked));
        let help = format!("help: give {} the permission {action} on ", key.arn);
        assert!(
            text(&looked).contains(&help) && text(&looked).contains("[iam-denied]"),
            "{action}: {}",
            text(&looked)
        );
        assert!(emulator.tags("team/app").is_empty());
    }
}
