//! A build into ECR, as the emulator speaks it, with nothing but variables of the environment.

use ocib_testkit::{EcrEmulator, EcrOptions, Policy};

use crate::program::{Ended, Site, ended};

/// An emulator with one repository.
fn emulator() -> EcrEmulator {
    let emulator = EcrEmulator::start(EcrOptions::default());
    emulator.create("team/app");
    emulator
}

/// A build and push as an identity with `policy`. No secret is in what it prints.
fn push(emulator: &EcrEmulator, policy: Policy) -> Ended {
    let site = Site::new("FROM scratch\nCOPY a /\n");
    site.file("context/a", "a");
    let tag = format!("{}/team/app:1", emulator.host());
    let declared = format!("{}=123456789012/eu-west-1", emulator.host());
    let mut build = site.build(&["--push", "-t", &tag, "--ecr-host", &declared, "--platform=linux/amd64"]);
    build.envs(emulator.environment(&emulator.user("ci", policy)));
    let ended = ended(&mut build);
    let printed = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
    for secret in emulator.secrets() {
        assert!(!printed.contains(&secret), "a secret is seen: {printed}");
    }
    ended
}

#[test]
fn who_pushes_is_said_once() {
    let emulator = emulator();
    let pushed = push(&emulator, Policy::all()).done();
    let start = format!("{}/team/app@sha256:", emulator.host());
    assert!(pushed.references()[0].starts_with(&start), "{:?}", pushed.references());
    let host = emulator.host();
    let login = format!("{host}: logged in as arn:aws:iam::123456789012:user/ci, from environment variables");
    assert_eq!(pushed.stderr.matches(&login).count(), 1, "{}", pushed.stderr);
}

#[test]
fn a_missing_permission_is_named_with_its_owner() {
    let emulator = emulator();
    let said = push(&emulator, Policy::all().deny("ecr:PutImage")).failed(4);
    let help = "help: give arn:aws:iam::123456789012:user/ci the permission ecr:PutImage on \
                arn:aws:ecr:eu-west-1:123456789012:repository/team/app";
    assert!(said.contains(help), "{said}");
    assert!(emulator.tags("team/app").is_empty());
}
