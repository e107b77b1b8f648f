//! Pushing to Amazon ECR's dialect.

use std::{collections::BTreeSet, fs};

use ocib_testkit::{AwsAction, EcrEmulator, EcrOptions, Noise, Policy, is_full, skopeo};

use crate::program::{Site, ended};

const MODEL: &str = "FROM scratch\nCOPY model/config.json /models/\nCOPY model/weights.bin /models/\n";

/// A file as `docker login` leaves it, and the directory that it is in.
fn logged_in(site: &Site, host: &str, token: &str) -> String {
    let login = serde_json::json!({"username": "AWS", "password": token});
    site.file("docker/config.json", serde_json::json!({"auths": {host: login}}).to_string());
    site.name("docker")
}

#[test]
fn a_push_speaks_ecrs_dialect() {
    let bytes = if is_full() { 2 << 30 } else { 3 << 20 };
    // Large layers are digested and counted only.
    let emulator = EcrEmulator::start(EcrOptions::default());
    emulator.create("team/model");
    let rights = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:InitiateLayerUpload",
        "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload",
        "ecr:PutImage",
        "ecr:BatchGetImage",
    ];
    let repository = "arn:aws:ecr:eu-west-1:123456789012:repository/team/model";
    let key = emulator.user("ci", Policy::none().allow(&rights, repository));
    let token = emulator.token(&key);
    let site = Site::new(MODEL);
    site.file("context/model/config.json", "{}\n");
    ocib_testkit::noise_file(&site.path("context/model/weights.bin"), 1, bytes);

    let tag = format!("{}/team/model:1.0", emulator.host());
    let mut build = site.build(&["--push", "-t", &tag]);
    let done = ended(build.env("DOCKER_CONFIG", logged_in(&site, &emulator.host(), &token))).done();

    let digest = done.digest().to_owned();
    let tags: Vec<_> =
        emulator.tags("team/model").into_iter().map(|(tag, digest)| (tag, digest.to_string())).collect();
    assert_eq!(tags, [("1.0".to_owned(), digest)]);
    // Each upload became a blob, and each blob came once.
    let sessions = emulator.sessions();
    let blobs: BTreeSet<_> =
        emulator.blobs("team/model").into_iter().map(|(digest, _)| Some(digest)).collect();
    assert_eq!(blobs, sessions.iter().map(|session| session.digest).collect());
    assert_eq!((sessions.len(), emulator.count(AwsAction::InitiateLayerUpload)), (3, 3));
    assert_eq!(
        emulator.bytes_received(),
        emulator.blobs("team/model").iter().map(|(_, bytes)| bytes).sum::<u64>()
    );
    let said = format!("{}{}", done.stderr, String::from_utf8_lossy(&done.stdout));
    assert!(emulator.secrets().iter().all(|secret| !said.contains(secret)), "{said}");
}

#[test]
fn skopeo_reads_what_was_pushed() {
    let emulator = EcrEmulator::start(EcrOptions::default());
    emulator.create("team/model");
    let token = emulator.token(&emulator.user("ci", Policy::all()));
    let site = Site::new(MODEL);
    site.file("context/model/config.json", "{}\n");
    site.file("context/model/weights.bin", Noise::bytes(1, 700_000));
    let tag = format!("{}/team/model:1.0", emulator.host());
    let mut build = site.build(&["--push", "-t", &tag]);
    ended(build.env("DOCKER_CONFIG", logged_in(&site, &emulator.host(), &token))).done();
    let (login, layout) = (format!("AWS:{token}"), format!("oci:{}:x", site.name("layout")));
    skopeo(&["copy", "--src-tls-verify=false", "--src-creds", &login, &format!("docker://{tag}"), &layout]);
    ocib_testkit::verify_layout(&site.path("layout"));
    assert!(fs::read_dir(site.path("layout/blobs/sha256")).unwrap().count() >= 4);
}
