//! A build into ECR, as the emulator speaks it, with nothing but variables of the environment.

use std::process::Command;

use ocib_testkit::{AccessKey, AwsAction, EcrEmulator, EcrOptions, EcrRepository, Policy};

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
    let help = "help: a statement with Effect Deny forbids ecr:PutImage for arn:aws:iam::123456789012:user/ci on \
                arn:aws:ecr:eu-west-1:123456789012:repository/team/app: look at";
    assert!(said.contains(help), "{said}");
    assert!(emulator.tags("team/app").is_empty());
}

/// The name of the image and the flags of a push to it.
fn flags(emulator: &EcrEmulator) -> [String; 4] {
    let host = emulator.host();
    [
        "-t".to_owned(),
        format!("{host}/team/app:1"),
        "--ecr-host".to_owned(),
        format!("{host}=123456789012/eu-west-1"),
    ]
}

fn run(site: &Site, emulator: &EcrEmulator, key: &AccessKey, more: &[&str]) -> Ended {
    let flags = flags(emulator);
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    ended(site.build(&flags).envs(emulator.environment(key)))
}

/// A build whose base is in ECR too, by the policy that ocib prints for it.
#[test]
fn the_printed_policy_is_enough_and_nothing_in_it_is_too_much() {
    const ACTIONS: [&str; 8] = [
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
    ];
    for taken in ACTIONS.map(Some).into_iter().chain([None]) {
        let emulator = emulator();
        emulator.create("team/base");
        let admin = emulator.user("admin", Policy::all());
        let base = Site::new("FROM scratch\nCOPY a /\n");
        base.file("context/a", "base");
        let base_tag = format!("{}/team/base:1", emulator.host());
        let declared = format!("{}=123456789012/eu-west-1", emulator.host());
        let push = ["--push", "-t", &base_tag, "--ecr-host", &declared];
        ended(base.build(&push).envs(emulator.environment(&admin))).done();

        let site = Site::new(&format!("FROM {base_tag}\nCOPY --link b /\n"));
        site.file("context/b", "final");
        let before = emulator.calls().len();
        let printed = run(&site, &emulator, &admin, &["--print-iam-policy"]).done();
        assert_eq!(emulator.calls().len(), before, "nobody is asked");
        let policy = Policy::parse(std::str::from_utf8(&printed.stdout).unwrap());
        let policy = taken.iter().fold(policy, |policy, action| policy.without(action));
        let key = emulator.user("ci", policy);
        let built = run(&site, &emulator, &key, &["--push"]);
        match taken {
            None => drop(built.done()),
            Some(action) => {
                let said = built.failed(4);
                let help = format!("help: give {} the permission {action} on ", key.arn);
                assert!(said.contains("error[iam-denied]: ") && said.contains(&help), "{action}: {said}");
                let source = "that identity is from environment variables";
                assert!(said.contains(source), "{action}: {said}");
                assert!(emulator.tags("team/app").is_empty());
            }
        }
    }
}

#[test]
fn a_missing_repository_is_created_as_asked() {
    let lifecycle = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged",
        "countType":"imageCountMoreThan","countNumber":9},"action":{"type":"expire"}}]}"#;
    let site = Site::new("FROM scratch\nCOPY a /\n");
    site.file("context/a", "a").file("policy.json", lifecycle);
    for (flag, immutable, kms, scans) in [
        ("--ecr-create-repository", false, None, false),
        ("--ecr-create-repository=scan,immutable", true, None, true),
        (
            "--ecr-create-repository=kms=arn:aws:kms:eu-west-1:1:key/k",
            false,
            Some("arn:aws:kms:eu-west-1:1:key/k"),
            false,
        ),
    ] {
        let emulator = EcrEmulator::start(EcrOptions::default());
        let admin = emulator.user("admin", Policy::none());
        let more = [flag, "--ecr-lifecycle-policy", "policy.json"];
        let printed = run(&site, &emulator, &admin, &[&more[..], &["--print-iam-policy"]].concat()).done();
        let policy = Policy::parse(std::str::from_utf8(&printed.stdout).unwrap());
        let key = emulator.user("ci", policy.clone());
        run(&site, &emulator, &key, &[&more[..], &["--push"]].concat()).done();
        let made = emulator.repository("team/app").unwrap();
        assert_eq!(
            (made.immutable, made.kms_key.as_deref(), made.scan_on_push),
            (immutable, kms, scans),
            "{flag}"
        );
        for action in ["ecr:CreateRepository", "ecr:PutLifecyclePolicy"] {
            assert!(policy.actions().contains(&action), "{flag}");
        }
    }
    let emulator = EcrEmulator::start(EcrOptions::default());
    let key = emulator.user("ci", Policy::all());
    let said = run(&site, &emulator, &key, &["--push", "--ecr-create-repository=scam"]).failed(2);
    assert!(said.contains("error: --ecr-create-repository: \"scam\" is no setting"), "{said}");
}

/// A token that somebody has put into a file, as for pods without an identity: nothing in AWS is asked, and what only AWS
/// could tell is unknown.
#[test]
fn a_token_in_a_file_is_enough() {
    for alias in [None, Some("corp".to_owned())] {
        let account = if alias.is_some() { "public" } else { "123456789012/eu-west-1" };
        let name = if alias.is_some() { "corp/app" } else { "app" };
        let emulator = EcrEmulator::start(EcrOptions { public_alias: alias, ..EcrOptions::default() });
        emulator.create(name);
        let token = emulator.token(&emulator.user("ci", Policy::all()));
        let host = emulator.host();
        let site = Site::new("FROM scratch\nCOPY a /\n");
        site.file("context/a", "a");
        let login = serde_json::json!({"auths": {&host: {"username": "AWS", "password": token}}});
        site.file("docker/config.json", login.to_string());
        let (tag, declared) = (format!("{host}/{name}:1"), format!("{host}={account}"));
        let run = |command: &[&str]| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_ocib"));
            program.args(command).args(["context", "-t", &tag, "--ecr-host", &declared]);
            site.clean(&mut program);
            let nobody = [("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_CONFIG_FILE", "/dev/null")];
            ended(program.envs(nobody).env("DOCKER_CONFIG", site.path("docker")))
        };
        run(&["build", "--push"]).done();
        assert_eq!(emulator.tags(name).len(), 1);
        let looked = run(&["preflight"]).done();
        let text = String::from_utf8_lossy(&looked.stdout).into_owned();
        assert!(text.contains(&format!("{host}: credentials from ")), "{text}");
        site.file("context/a", "b");
        let looked = run(&["preflight"]).done();
        let text = String::from_utf8_lossy(&looked.stdout).into_owned();
        let unknown = "whether it may be moved cannot be asked without an identity of AWS";
        assert_eq!(text.contains(unknown), account != "public", "{text}");
        // Only somebody in AWS can make a repository.
        let missing = format!("{host}/{name}-2:1");
        let create = ["build", "--push", "--ecr-create-repository", "-t", &missing];
        let said = run(&create).failed(4);
        assert!(said.contains("error[aws-no-identity]: "), "{said}");
    }
}

#[test]
fn an_immutable_tag_takes_the_same_image_and_no_other() {
    let emulator = EcrEmulator::start(EcrOptions::default());
    let name = "team/app".to_owned();
    emulator.create_repository(EcrRepository { name, immutable: true, ..EcrRepository::default() });
    let key = emulator.user("ci", Policy::all());
    let site = Site::new("FROM scratch\nCOPY a /\n");
    site.file("context/a", "a");
    let first = run(&site, &emulator, &key, &["--push"]).done();
    let again = run(&site, &emulator, &key, &["--push"]).done();
    assert_eq!(first.references(), again.references());

    // The layer is known, so is the image: nothing is sent before it is refused.
    site.file("context/Dockerfile", "FROM scratch\nLABEL other=yes\n");
    let (uploads, there) = (emulator.sessions().len(), first.digest().to_owned());
    let said = run(&site, &emulator, &key, &["--push"]).failed(5);
    let start =
        format!("error[tag-immutable]: {}/team/app:1 names {there} and cannot be moved to ", emulator.host());
    assert!(said.contains(&start), "{said}");
    assert_eq!(emulator.sessions().len(), uploads);

    // The layer is not: ECR itself refuses at the end.
    site.file("context/Dockerfile", "FROM scratch\nCOPY a b /\n").file("context/b", "b");
    let said = run(&site, &emulator, &key, &["--push"]).failed(5);
    assert!(said.contains("error[tag-immutable]: PUT "), "{said}");
    assert_eq!(emulator.tags("team/app")[0].1.to_string(), there);
}

#[test]
fn many_layers_for_two_platforms_keep_to_the_quotas_and_are_sent_once() {
    let quotas = [
        AwsAction::InitiateLayerUpload,
        AwsAction::UploadLayerPart,
        AwsAction::CompleteLayerUpload,
        AwsAction::PutImage,
        AwsAction::BatchCheckLayerAvailability,
        AwsAction::BatchGetImage,
    ];
    let quotas = quotas.map(|action| (action, 10)).into();
    let emulator = EcrEmulator::start(EcrOptions { quotas, ..EcrOptions::default() });
    emulator.create("team/app");
    let key = emulator.user("ci", Policy::all());
    let mut dockerfile = "FROM scratch\nARG TARGETARCH\n".to_owned();
    let site = Site::new("");
    for number in 0..20 {
        // Half of the layers are each platform's own.
        let name = if number % 2 == 0 { format!("f{number}") } else { format!("$TARGETARCH/f{number}") };
        dockerfile.push_str(&format!("COPY {name} /\n"));
        for directory in ["", "amd64/", "arm64/"] {
            site.file(format!("context/{directory}f{number}"), format!("{directory}{number}"));
        }
    }
    site.file("context/Dockerfile", dockerfile);
    let platforms = ["--push", "--platform", "linux/amd64,linux/arm64"];
    let first = run(&site, &emulator, &key, &platforms).done();
    let (calls, bytes) = (emulator.calls().len(), emulator.bytes_received());
    let again = run(&site, &emulator, &key, &platforms).done();
    assert_eq!(first.references(), again.references());
    assert_eq!(emulator.bytes_received(), bytes, "no layer byte is sent");
    let asked = emulator.calls().len() - calls;
    assert!(asked < 20, "{asked} requests");
}
