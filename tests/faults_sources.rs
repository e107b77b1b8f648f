//! What goes wrong with hubs, buckets and servers of files, fault by fault: a build names the cause and what to do.

use std::{collections::BTreeSet, process::Command};

use ocib::store::Cause;
use ocib_testkit::{
    BucketServer, FileServer, GoogleEmulator, HubAccess, HubContent, HubFault, HubServer, Manner, Noise,
    S3Server, Scripted, ScriptedRegistry,
};

use crate::program::{Ended, Site, ended};

/// Holds that the program failed with `cause`, said its remedy, and told no secret.
fn assert_named(cause: &str, ended: &Ended) {
    let known = Cause::named(cause).unwrap_or_else(|| panic!("{cause} is no cause"));
    let printed = &ended.stderr;
    assert_ne!(ended.code(), Some(0), "{cause}: {printed}");
    assert!(printed.contains(&format!("error[{cause}]: ")), "expected {cause}:\n{printed}");
    let remedy = known.general_remedy();
    let words: Vec<&str> = remedy.split_whitespace().take(2).collect();
    let help = printed.split("help: ").nth(1).unwrap_or_default();
    assert!(help.starts_with(words[0]), "expected the remedy {remedy:?}:\n{printed}");
    assert!(!printed.to_lowercase().contains("planted"), "a secret is in\n{printed}");
}

/// `ocib model build SOURCE`, and the same source in ADD.
fn built(source: &str, environment: &[(&str, &str)]) -> [Ended; 2] {
    let site = Site::new(&format!("FROM scratch\nADD {source} /m/\n"));
    let mut model = site.ocib(&["model", "build", source]);
    let mut add = site.build(&[]);
    [&mut model, &mut add].map(|command: &mut Command| ended(command.envs(environment.iter().copied())))
}

struct HubCase {
    cause: &'static str,
    source: &'static str,
    token: Option<&'static str>,
    faults: Vec<HubFault>,
}

fn hub_cases() -> Vec<HubCase> {
    let case = |cause, source| HubCase { cause, source, token: None, faults: Vec::new() };
    vec![
        case("hf-gated", "hf://org/gated"),
        HubCase { token: Some("hf_PlantedTokenOfAStranger0"), ..case("hf-gated", "hf://org/gated") },
        case("hf-repository-missing", "hf://org/private"),
        case("hf-repository-missing", "hf://org/none"),
        HubCase {
            token: Some("hf_PlantedTokenOfAStranger0"),
            ..case("hf-repository-missing", "hf://org/private")
        },
        HubCase { token: Some("hf_PlantedTokenThatEnded000"), ..case("hf-token-invalid", "hf://org/model") },
        case("hf-revision-missing", "hf://org/model@none"),
        case("hf-path-missing", "hf://org/model/none"),
        HubCase {
            faults: vec![HubFault::Status(429, Some(0)); 40],
            ..case("hf-throttled", "hf://org/model")
        },
        // The first look at a header shows nothing; what is read whole does.
        HubCase {
            faults: vec![HubFault::WrongByte; 60],
            ..case("source-corrupt", "hf://org/model/model.bin")
        },
    ]
}

#[test]
fn hubs_that_refuse() {
    for HubCase { cause, source, token, faults } in hub_cases() {
        let server = HubServer::start();
        let files = [
            ("config.json", HubContent::Plain(b"{}".to_vec())),
            ("model.bin", HubContent::Large(Noise::bytes(7, 2_000_000))),
        ];
        for name in ["org/model", "org/gated", "org/private"] {
            server.publish(name, &files);
        }
        server.restrict("org/gated", HubAccess::Gated);
        server.restrict("org/private", HubAccess::Private);
        faults.iter().for_each(|fault| server.fail(fault.clone()));
        let endpoint = server.endpoint();
        let mut environment = vec![("HF_ENDPOINT", &*endpoint)];
        environment.extend(token.map(|token| ("HF_TOKEN", token)));
        built(source, &environment).iter().for_each(|ended| assert_named(cause, ended));
    }
    let other = FileServer::start();
    other.put("/api/models/org/model/revision/main", b"{}");
    let endpoint = other.url("");
    let ended = built("hf://org/model", &[("HF_ENDPOINT", &endpoint)]);
    ended.iter().for_each(|ended| assert_named("hf-not-hub", ended));
}

#[test]
fn patterns_that_leave_nothing() {
    let server = HubServer::start();
    server.publish("org/model", &[("config.json", HubContent::Plain(b"{}".to_vec()))]);
    let site = Site::new("");
    let mut command = site.ocib(&["model", "build", "hf://org/model", "--include", "*.gguf"]);
    assert_named("no-files-left", &ended(command.env("HF_ENDPOINT", server.endpoint())));
}

/// What a store of S3's kind answers.
const S3: [(&str, u16, &str, &str); 10] = [
    ("bucket-denied", 403, "AccessDenied", "Access Denied"),
    ("bucket-missing", 404, "NoSuchBucket", "The specified bucket does not exist"),
    (
        "bucket-region",
        301,
        "PermanentRedirect",
        "The bucket you are attempting to access must be addressed using the specified endpoint.",
    ),
    (
        "bucket-region",
        400,
        "AuthorizationHeaderMalformed",
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
    ),
    ("aws-session-expired", 400, "ExpiredToken", "The provided token has expired."),
    (
        "aws-keys-unknown",
        403,
        "InvalidAccessKeyId",
        "The AWS Access Key Id you provided does not exist in our records.",
    ),
    (
        "aws-signature",
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided.",
    ),
    (
        "clock-skew",
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
    ),
    ("bucket-throttled", 503, "SlowDown", "Please reduce your request rate."),
    ("bucket-not-s3", 200, "", ""),
];

const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLEEXAMPLE00"),
    ("AWS_SECRET_ACCESS_KEY", "planted-secret"),
    ("AWS_REGION", "us-east-1"),
];

fn s3(endpoint: &str) -> Vec<(&'static str, &str)> {
    [("AWS_ENDPOINT_URL_S3", endpoint)].into_iter().chain(KEYS).collect()
}

#[test]
fn buckets_that_refuse() {
    for (cause, status, code, message) in S3 {
        let server = ScriptedRegistry::start(move |_, _, _| Scripted::Answer {
            status,
            headers: Vec::new(),
            body: format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            ),
        });
        let endpoint = format!("http://{}", server.host());
        built("s3://models/m", &s3(&endpoint)).iter().for_each(|ended| assert_named(cause, ended));
    }
    // A list may be had where objects may not.
    let list = "<ListBucketResult><Contents><Key>m/a.bin</Key><LastModified>2026-01-01T00:00:00Z</LastModified>\
                <ETag>&quot;a&quot;</ETag><Size>3</Size></Contents></ListBucketResult>";
    let archived = "<Error><Code>InvalidObjectState</Code><Message>The operation is not valid for the object's storage \
                    class</Message></Error>";
    let server = ScriptedRegistry::start(move |_, target, _| Scripted::Answer {
        status: if target.contains("list-type") { 200 } else { 403 },
        headers: Vec::new(),
        body: if target.contains("list-type") { list } else { archived }.to_owned(),
    });
    let endpoint = format!("http://{}", server.host());
    built("s3://models/m", &s3(&endpoint))
        .iter()
        .for_each(|ended| assert_named("bucket-object-archived", ended));
}

#[test]
fn buckets_whose_readers_pay() {
    let server = BucketServer::start_paid("models", &[("m/a.bin", 1, 100)]);
    let google = GoogleEmulator::start();
    let (endpoint, account) = (server.endpoint(), google.host());
    let gcs = [("STORAGE_EMULATOR_HOST", &*endpoint), ("GCE_METADATA_HOST", &*account)];
    for (source, environment, payer, cause) in [
        ("s3://models/m", s3(&endpoint), ("AWS_REQUEST_PAYER", "requester"), "bucket-denied"),
        ("gs://models/m", gcs.to_vec(), ("GS_USER_PROJECT", "payer"), "bucket-requester-pays"),
    ] {
        for refused in built(source, &environment) {
            assert_named(cause, &refused);
            assert!(refused.stderr.contains(payer.0), "{}", refused.stderr);
        }
        let paid = [&environment[..], &[payer]].concat();
        built(source, &paid).into_iter().for_each(|ended| drop(ended.done()));
        // What is no name of whoever pays is said before anybody is asked.
        let wrong = [&environment[..], &[(payer.0, "a b")]].concat();
        built(source, &wrong).into_iter().for_each(|ended| assert!(ended.failed(2).contains(payer.0)));
    }
}

/// A real server's words.
#[test]
fn a_bucket_without_what_is_asked_for() {
    let server = S3Server::start();
    server.put("models", &[("m/config.json", b"{}")], false);
    let endpoint = server.endpoint();
    for (cause, source) in [("bucket-missing", "s3://none/m"), ("bucket-key-missing", "s3://models/none")] {
        built(source, &s3(&endpoint)).iter().for_each(|ended| assert_named(cause, ended));
    }
}

#[test]
fn files_that_cannot_be_had() {
    let server = FileServer::start();
    let page = Manner { kind: "text/html", ..Manner::default() };
    server.put_so("/page", b"<html>", page);
    server.put_so("/closed.bin", b"x", Manner { login: Some("x"), ..Manner::default() });
    server.put("/model.bin", b"weights");
    let zeros = "0".repeat(64);
    for (cause, source) in [
        ("url-missing", server.url("/none.bin")),
        ("url-denied", server.url("/closed.bin")),
        ("url-link-local", "http://169.254.169.254/model.bin".to_owned()),
        ("dns", "https://files.invalid/model.bin".to_owned()),
    ] {
        built(&source, &[]).iter().for_each(|ended| assert_named(cause, ended));
    }
    let site =
        Site::new(&format!("FROM scratch\nADD --checksum=sha256:{zeros} {} /m/\n", server.url("/model.bin")));
    assert_named("checksum-mismatch", &ended(&mut site.build(&[])));
    let site_of = |source: &str| Site::new(&format!("FROM scratch\nADD {source} /m/\n"));
    let plain = site_of("http://me:planted@h.invalid/model.bin");
    assert_named("url-plain-password", &ended(&mut plain.build(&[])));
    for (cause, source) in [
        ("checksum-mismatch", format!("{}#sha256={zeros}", server.url("/model.bin"))),
        ("url-page", server.url("/page")),
    ] {
        assert_named(cause, &ended(&mut site.ocib(&["model", "build", &source])));
    }
}

/// Every cause of sources in the table is provoked above.
#[test]
fn every_cause_of_sources_is_provoked() {
    let mut provoked: BTreeSet<&str> = hub_cases().iter().map(|case| case.cause).collect();
    provoked.extend(S3.iter().map(|(cause, ..)| *cause));
    provoked.extend([
        "hf-not-hub",
        "no-files-left",
        "bucket-object-archived",
        "bucket-requester-pays",
        "bucket-key-missing",
        "url-missing",
        "url-denied",
        "url-link-local",
        "url-plain-password",
        "url-page",
        "checksum-mismatch",
    ]);
    let is_of_sources = |id: &&str| {
        ["hf-", "bucket-", "url-", "source-", "checksum-"].iter().any(|start| id.starts_with(start))
    };
    for id in Cause::all().map(|cause| cause.id).filter(is_of_sources) {
        assert!(provoked.contains(id), "{id} is never provoked");
    }
}
