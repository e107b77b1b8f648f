//! Other people's clients: what they take for ECR is ECR enough.

use std::{path::Path, process::Command};

use ocib_image::Digest;

use crate::{
    ecr::{AwsAction, EcrEmulator, EcrOptions, Policy, Trust},
    process::run_command,
    skopeo, umoci,
};

/// Debian's packages are not seen by other interpreters.
const PYTHON: &str = "/usr/bin/python3";
const BOTO3: &str = "/usr/lib/python3/dist-packages/boto3";

fn boto3(emulator: &EcrEmulator, case: &str, more: &[(&str, String)]) -> String {
    assert!(
        Path::new(BOTO3).is_dir(),
        "{BOTO3} is missing: apt-get install python3-boto3 (tests/run.sh does it)"
    );
    let mut command = Command::new(PYTHON);
    command.env_clear().args(["-c", include_str!("boto3.py"), case, &emulator.url()]);
    command.env("AWS_DEFAULT_REGION", "eu-west-1").env("AWS_CONFIG_FILE", "/dev/null");
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command.envs(more.iter().map(|(name, value)| (*name, value)));
    run_command(&mut command)
}

#[test]
fn skopeo_pushes_and_pulls() {
    let emulator = EcrEmulator::start(EcrOptions::default());
    emulator.create("team/a");
    let key = emulator.user("ci", Policy::all());
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let file = path("file");
    std::fs::write(&file, "content").unwrap();
    let layout = path("layout");
    umoci(&["init", "--layout", &layout]);
    let image = format!("{layout}:1");
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--image", &image, &file, "/file"]);

    let name = format!("docker://{}/team/a:1", emulator.host());
    let login = format!("AWS:{}", emulator.token(&key));
    skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds", &login, &format!("oci:{image}"), &name]);
    let tags = emulator.tags("team/a");
    let [(tag, digest)] = tags.as_slice() else { panic!("{tags:?}") };
    assert_eq!(tag, "1");
    assert_eq!(Digest::of(&emulator.manifest("team/a", *digest).unwrap()), *digest);
    // A config and a layer.
    assert_eq!(emulator.blobs("team/a").len(), 2);
    let sent: u64 = emulator.blobs("team/a").iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(emulator.bytes_received(), sent);

    let back = path("back");
    skopeo(&["copy", "--src-tls-verify=false", "--src-creds", &login, &name, &format!("oci:{back}:1")]);
    crate::verify_layout(Path::new(&back));
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(Path::new(&back).join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest.to_string());
    assert!(emulator.count(AwsAction::GetObject) > 0);
}

#[test]
fn boto3_uploads_a_layer_by_the_api() {
    let options = EcrOptions { part_bytes: 5..=10, parts_max: 3, ..EcrOptions::default() };
    let emulator = EcrEmulator::start(options);
    let key = emulator.user("ci", Policy::all());
    let output = boto3(&emulator, "layers", &emulator.environment(&key));
    assert_eq!(output, include_str!("layers.txt"));
}

#[test]
fn boto3_is_told_what_is_wrong() {
    let emulator = EcrEmulator::start(EcrOptions::default());
    let key = emulator.user("ci", Policy::all().deny("ecr:CreateRepository"));
    let output = boto3(&emulator, "errors", &emulator.environment(&key));
    assert_eq!(output, include_str!("errors.txt"));
}

#[test]
fn boto3_becomes_somebody_everywhere() {
    let emulator = EcrEmulator::start(EcrOptions::default());
    let policy = || Policy::none().allow(&["ecr:GetAuthorizationToken"], "*");
    let instance = emulator.role("instance", policy(), Trust::Account);
    let pod = emulator.role("pod", policy(), Trust::Account);
    emulator.role("ci", policy(), Trust::WebIdentity("the token".to_owned()));
    emulator.instance_role(&instance);
    emulator.container_role(&pod, "pod-token");
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", emulator.url());
    let arn = |session: &str| format!("arn:aws:sts::123456789012:assumed-role/{session}\n");
    assert_eq!(boto3(&emulator, "whoami", &[endpoint]), arn("instance/i-0123456789abcdef0"));
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", emulator.container_credentials_url()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token".to_owned()),
    ];
    assert_eq!(boto3(&emulator, "whoami", &container), arn("pod/eks-pod"));
    let output = boto3(&emulator, "web-identity", &[]);
    assert_eq!(output, include_str!("web-identity.txt"));
    assert_eq!(emulator.count(AwsAction::AssumeRoleWithWebIdentity), 3);
}
