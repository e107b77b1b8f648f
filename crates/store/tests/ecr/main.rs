//! ECR, as the emulator speaks it. AWS's SDK reads the environment of its process, so each case is a
//! process of its own: this test program, started again.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, which clippy cannot see here")]

mod cases;
mod moto;

use ocib_store::{PolicyOptions, iam_policy};
use ocib_testkit::{AccessKey, AwsAction, EcrEmulator, EcrFault, EcrOptions, Policy, Trust};

const REPOSITORY: &str = "team/app";

/// An emulator with one repository.
fn emulator() -> EcrEmulator {
    let emulator = EcrEmulator::start(EcrOptions::default());
    emulator.create(REPOSITORY);
    emulator
}

/// Runs `case` as `key`; returns what it says. No secret of the emulator is in what it prints.
fn run(emulator: &EcrEmulator, key: &AccessKey, case: &str) -> Vec<String> {
    run_in(emulator, case, &emulator.environment(key))
}

fn run_in(emulator: &EcrEmulator, case: &str, environment: &[(&str, String)]) -> Vec<String> {
    let mut command = cases::process(case);
    command.env("HOST", emulator.host());
    let output = command.envs(environment.iter().map(|(name, value)| (*name, value))).output().unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{printed}");
    for secret in emulator.secrets() {
        assert!(!printed.contains(&secret), "a secret is seen: {printed}");
    }
    printed.lines().filter_map(|line| Some(line.split_once("SAYS ")?.1.to_owned())).collect()
}

/// The policy that ocib prints for a push into the repository.
fn printed_policy() -> Policy {
    let repositories = [("123456789012/eu-west-1".parse().unwrap(), REPOSITORY.to_owned())];
    Policy::parse(&iam_policy(&repositories, &[], PolicyOptions::default()))
}

#[test]
fn the_printed_policy_is_enough_for_a_push() {
    let emulator = emulator();
    let key = emulator.user("ci", printed_policy());
    let said = run(&emulator, &key, "push");
    assert_eq!(said, [format!("LOGIN {}", key.arn), "PUSHED".to_owned()]);
    assert_eq!(emulator.tags(REPOSITORY).len(), 1);
    assert_eq!(emulator.count(AwsAction::GetAuthorizationToken), 1, "one token serves all");
}

/// Whether a layer is there need not be told: then it is sent.
#[test]
fn a_missing_permission_is_named() {
    for action in [
        "ecr:GetAuthorizationToken",
        "ecr:InitiateLayerUpload",
        "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload",
        "ecr:PutImage",
    ] {
        let emulator = emulator();
        let key = emulator.user("ci", printed_policy().without(action));
        let said = run(&emulator, &key, "push");
        let expected = format!("DENIED {action} to {}", key.arn);
        assert_eq!(said.last(), Some(&expected), "{action}: {said:?}");
        assert!(emulator.tags(REPOSITORY).is_empty());
    }
}

#[test]
fn a_token_that_ends_in_the_middle_of_a_push() {
    for action in [AwsAction::UploadLayerPart, AwsAction::CompleteLayerUpload, AwsAction::PutImage] {
        let emulator = emulator();
        let key = emulator.user("ci", printed_policy());
        emulator.inject(action, 1, EcrFault::ExpireTokens);
        let said = run(&emulator, &key, "push");
        assert_eq!(said.last().map(String::as_str), Some("PUSHED"), "{action:?}: {said:?}");
        assert_eq!(emulator.happened(), 1);
        assert_eq!(emulator.count(AwsAction::GetAuthorizationToken), 2, "{action:?}");
    }
}

#[test]
fn a_role_by_web_identity() {
    let emulator = emulator();
    let token = "eyJwb2Q.eyJzdWIi.cG9k";
    let role = emulator.role("builder", printed_policy(), Trust::WebIdentity(token.to_owned()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token).unwrap();
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.path().display().to_string()),
        ("AWS_ROLE_ARN", role),
        ("AWS_ROLE_SESSION_NAME", "pod".to_owned()),
        ("AWS_ENDPOINT_URL", emulator.url()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    let said = run_in(&emulator, "push", &environment);
    assert_eq!(said, ["LOGIN arn:aws:sts::123456789012:assumed-role/builder/pod", "PUSHED"]);
}

#[test]
fn nobody_is_explained() {
    let emulator = emulator();
    let environment = [("AWS_EC2_METADATA_DISABLED", "true".to_owned())];
    let said = run_in(&emulator, "push", &environment);
    let expected = "FAILED no identity for AWS was found: environment variables: AWS_ACCESS_KEY_ID or \
                    AWS_SECRET_ACCESS_KEY is not set";
    assert!(said[0].starts_with(expected), "{said:?}");
}

#[test]
fn repositories_are_created_and_described() {
    let emulator = emulator();
    let key = emulator.user("admin", Policy::all());
    assert_eq!(
        run(&emulator, &key, "repositories"),
        [
            "BEFORE Known(None)",
            "AFTER Immutable { except: [] } Kms(Some(\"arn:aws:kms:eu-west-1:123456789012:alias/aws/ecr\")) true",
            "MOUNTS Known(false)",
        ]
    );
}

/// An attempt whose answer got lost may have made it; what was there before is left as it is.
#[test]
fn a_repository_is_set_up_although_an_answer_got_lost() {
    const EXISTS: &str = "RepositoryAlreadyExistsException";
    let refuse = |status| EcrFault::Refuse { status, message: "later".to_owned() };
    for (is_there, fault, expected, policies) in [
        (false, Some(EcrFault::LoseAnswer), "CREATED", 1),
        (false, Some(refuse(500)), "CREATED", 1),
        (true, None, EXISTS, 0),
        // That one was not carried out.
        (true, Some(refuse(429)), EXISTS, 0),
    ] {
        let emulator = emulator();
        let key = emulator.user("admin", Policy::all());
        if is_there {
            emulator.create("new");
        }
        let attempts = if fault.is_some() { 2 } else { 1 };
        if let Some(fault) = fault.clone() {
            emulator.inject(AwsAction::CreateRepository, 1, fault);
        }
        assert_eq!(run(&emulator, &key, "create"), [expected], "{fault:?}");
        let asked = [AwsAction::CreateRepository, AwsAction::PutLifecyclePolicy];
        assert_eq!(asked.map(|action| emulator.count(action)), [attempts, policies], "{fault:?}");
    }
}

#[test]
fn what_must_not_be_asked_stays_unknown() {
    let emulator = emulator();
    let key = emulator.user("ci", printed_policy());
    let said = run(&emulator, &key, "unknown");
    let denied = |action: &str| format!("UNKNOWN {action} to {}", key.arn);
    assert_eq!(said, [denied("ecr:DescribeRepositories"), denied("ecr:GetAccountSetting")]);
}

#[test]
fn a_layer_in_parts_goes_on_where_it_stopped() {
    let emulator = emulator();
    let key = emulator.user("ci", printed_policy());
    let said = run(&emulator, &key, "parts");
    assert_eq!(said, ["Taken", "ContinueAt(5242880)", "Taken", "COMPLETE", "MISSING 1"]);
    let sizes: Vec<u64> = emulator.blobs(REPOSITORY).iter().map(|(_, bytes)| *bytes).collect();
    assert_eq!(sizes, [(5 << 20) + 10]);
}

#[test]
fn a_token_of_ecr_public() {
    let emulator = emulator();
    let key = emulator.user("ci", Policy::all());
    assert_eq!(run(&emulator, &key, "public"), ["FOUND AWS"]);
}
