//! ECR Public: rights, repositories and remedies of its own, by the built program.

use std::process::Command;

use ocib_testkit::{AccessKey, AwsAction, EcrEmulator, EcrOptions, Policy};

use crate::program::{Ended, Site, ended};

const ACTIONS: [&str; 7] = [
    "ecr-public:GetAuthorizationToken",
    "sts:GetServiceBearerToken",
    "ecr-public:BatchCheckLayerAvailability",
    "ecr-public:CompleteLayerUpload",
    "ecr-public:InitiateLayerUpload",
    "ecr-public:PutImage",
    "ecr-public:UploadLayerPart",
];

fn emulator() -> EcrEmulator {
    let options = EcrOptions { region: "us-east-1".to_owned(), ..EcrOptions::default() };
    EcrEmulator::start(EcrOptions { public_alias: Some("corp".to_owned()), ..options })
}

fn site() -> Site {
    let site = Site::new("FROM scratch\nCOPY a /\n");
    site.file("context/a", "a");
    site
}

/// `command` for an image in the emulator's repository. No secret is in what it prints.
fn run(site: &Site, emulator: &EcrEmulator, key: &AccessKey, command: &[&str]) -> Ended {
    let host = emulator.host();
    let (tag, declared) = (format!("{host}/corp/team/app:1"), format!("{host}=public"));
    let mut program = Command::new(env!("CARGO_BIN_EXE_ocib"));
    site.clean(program.args(command).args(["context", "--ecr-host", &declared, "--platform=linux/amd64"]));
    if !command.contains(&"-t") {
        program.args(["-t", &tag]);
    }
    let ended = ended(program.envs(emulator.environment(key)));
    let printed = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
    for secret in emulator.secrets() {
        assert!(!printed.contains(&secret), "a secret is seen: {printed}");
    }
    ended
}

fn printed_policy(site: &Site, emulator: &EcrEmulator, more: &[&str]) -> Policy {
    let admin = emulator.user("admin", Policy::none());
    let printed = run(site, emulator, &admin, &[&["build", "--print-iam-policy"], more].concat()).done();
    Policy::parse(std::str::from_utf8(&printed.stdout).unwrap())
}

#[test]
fn the_printed_policy_is_enough_and_nothing_in_it_is_too_much() {
    for taken in ACTIONS.map(Some).into_iter().chain([None]) {
        let (emulator, site) = (emulator(), site());
        emulator.create("corp/team/app");
        let policy = printed_policy(&site, &emulator, &[]);
        let mut actions = policy.actions();
        actions.sort_unstable();
        let mut expected = ACTIONS;
        expected.sort_unstable();
        assert_eq!(actions, expected);
        let key =
            emulator.user("ci", taken.iter().fold(policy.clone(), |policy, action| policy.without(action)));
        let looked = run(&site, &emulator, &key, &["preflight"]);
        let text = String::from_utf8_lossy(&looked.stdout).into_owned();
        assert!(emulator.tags("corp/team/app").is_empty() && emulator.bytes_received() == 0);
        let built = run(&site, &emulator, &key, &["build", "--push"]);
        match taken {
            None => {
                assert_eq!(looked.code(), Some(0), "{text}");
                assert!(text.contains("name an image (PutImage): allowed"), "{text}");
                assert!(built.done().stderr.contains(&format!(
                    "{}: logged in as {}",
                    emulator.host(),
                    key.arn
                )));
                assert_eq!(emulator.tags("corp/team/app").len(), 1);
            }
            // Who may not ask for a layer sends it.
            Some("ecr-public:BatchCheckLayerAvailability") => {
                assert_eq!(looked.code(), Some(4), "{text}");
                built.done();
            }
            Some(action) => {
                let help = format!("help: give {} the permission {action} on ", key.arn);
                assert!(text.contains("[iam-denied]") && text.contains(&help), "{action}: {text}");
                let said = built.failed(4);
                assert!(said.contains("error[iam-denied]: ") && said.contains(&help), "{action}: {said}");
                assert!(emulator.tags("corp/team/app").is_empty());
            }
        }
    }
}

#[test]
fn a_missing_repository_is_explained_or_created() {
    let (emulator, site) = (emulator(), site());
    let key = emulator.user("ci", Policy::all());
    let remedy = "`aws ecr-public create-repository --region us-east-1 --repository-name team/app`";
    let looked = run(&site, &emulator, &key, &["preflight"]);
    let text = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(text.contains("[ecr-public-repository-missing]") && text.contains(remedy), "{text}");
    let said = run(&site, &emulator, &key, &["build", "--push"]).failed(5);
    assert!(said.contains("error[ecr-public-repository-missing]: ") && said.contains(remedy), "{said}");
    assert_eq!(emulator.bytes_received(), 0);

    // Settings are for private repositories.
    let said = run(&site, &emulator, &key, &["build", "--push", "--ecr-create-repository=scan"]).failed(2);
    assert!(said.contains("is ECR Public, which has no such settings"), "{said}");

    let create = ["--ecr-create-repository"];
    let policy = printed_policy(&site, &emulator, &create);
    assert!(policy.actions().contains(&"ecr-public:CreateRepository"), "{:?}", policy.actions());
    let creator = emulator.user("creator", policy.clone());
    let looked = run(&site, &emulator, &creator, &[&["preflight"], &create[..]].concat()).done();
    let text = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(text.contains("ecr-public:CreateRepository is needed"), "{text}");
    assert_eq!(emulator.count(AwsAction::CreateRepository), 0);
    let other = emulator.user("other", policy.without("ecr-public:CreateRepository"));
    let said = run(&site, &emulator, &other, &[&["build", "--push"], &create[..]].concat()).failed(4);
    assert!(said.contains("the permission ecr-public:CreateRepository on "), "{said}");
    run(&site, &emulator, &creator, &[&["build", "--push"], &create[..]].concat()).done();
    assert_eq!(emulator.tags("corp/team/app").len(), 1);

    // An alias that is another's: what was made is said.
    let tag = format!("{}/others/app:1", emulator.host());
    let said =
        run(&site, &emulator, &key, &[&["build", "--push", "-t", &tag], &create[..]].concat()).failed(5);
    assert!(
        said.contains("it is corp/app now and not others/app: the registry of that alias is another's"),
        "{said}"
    );
}

/// A base there is read by everybody: also by who may not have a token, as a policy for a private push gives none.
#[test]
fn a_base_needs_no_permission() {
    let public = emulator();
    public.create("corp/team/app");
    let admin = public.user("admin", Policy::all());
    run(&site(), &public, &admin, &["build", "--push"]).done();

    let site = Site::new(&format!("FROM {}/corp/team/app:1\nCOPY --link b /\n", public.host()));
    site.file("context/b", "b");
    let nobody = public.user("ci", Policy::none());
    let tag = "127.0.0.1:1/app:1";
    let built = run(&site, &public, &nobody, &["build", "-o", "type=oci,dest=out.tar", "-t", tag]).done();
    assert!(!built.stderr.contains("denied"), "{}", built.stderr);
    let said = run(&site, &public, &nobody, &["build", "--print-iam-policy", "-t", tag]).failed(2);
    assert!(said.contains("the build needs no permission of ECR"), "{said}");
}
