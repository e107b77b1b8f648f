//! What goes wrong on the wire, fault by fault: a build names the cause and what to do, and a preflight
//! never says that all is well.

use std::{collections::BTreeSet, fs, process::Command, thread};

use ocib::store::Cause;
use ocib_testkit::{
    AwsAction, EcrEmulator, EcrFault, EcrOptions, EcrRepository, MissingRepository, Policy, Registry,
    RegistryOptions, Scripted, ScriptedRegistry, Trust, closed_host,
};
use serde_json::Value;

use crate::program::{Ended, Site, ended, set_mode};

/// A secret that is in every credentials file of these tests.
const PLANTED: &str = "planted-pass-7f3a";
/// `ada:planted-pass-7f3a` in base64.
const PLANTED_BASE64: &str = "YWRhOnBsYW50ZWQtcGFzcy03ZjNh";
/// So many builds at a time: most of them wait for their next attempt.
const AT_A_TIME: usize = 8;

/// A registry that does one thing wrong.
struct Fault {
    cause: &'static str,
    /// Which requests.
    method: &'static str,
    part: &'static str,
    /// What it answers, if it does.
    status: u16,
    header: Option<(&'static str, &'static str)>,
    body: &'static str,
    /// The credentials file's content, with `HOST` for the registry's host.
    login: &'static str,
}

const LOGIN: &str = r#"{"auths":{"HOST":{"auth":"YWRhOnBsYW50ZWQtcGFzcy03ZjNh"}}}"#;
const TOKEN_LOGIN: &str = r#"{"auths":{"HOST":{"identitytoken":"planted-pass-7f3a"}}}"#;

const fn fault(
    cause: &'static str,
    method: &'static str,
    part: &'static str,
    status: u16,
    body: &'static str,
) -> Fault {
    Fault { cause, method, part, status, header: None, body, login: LOGIN }
}

impl Fault {
    const fn with(self, name: &'static str, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    const fn login(self, login: &'static str) -> Self {
        Self { login, ..self }
    }

    fn registry(&'static self) -> ScriptedRegistry {
        ScriptedRegistry::start(move |method, target, host| {
            if method != self.method || !target.contains(self.part) {
                return Scripted::Usual;
            }
            match self.status {
                0 => Scripted::HangUp,
                1 => Scripted::Stall,
                status => Scripted::Answer {
                    status,
                    headers: self
                        .header
                        .iter()
                        .map(|(name, value)| (*name, value.replace("HOST", host)))
                        .collect(),
                    body: self.body.to_owned(),
                },
            }
        })
    }
}

const CHALLENGE: &str = "www-authenticate";
const UPLOADS: &str = "/blobs/uploads/";
const MANIFESTS: &str = "/manifests/";

static FAULTS: [Fault; 32] = [
    fault("connection-reset", "GET", "/v2/", 0, ""),
    fault(
        "registry-failed",
        "POST",
        UPLOADS,
        500,
        r#"{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}"#,
    ),
    fault("bad-gateway", "POST", UPLOADS, 502, "<h1>Bad Gateway</h1>"),
    fault("registry-unavailable", "POST", UPLOADS, 503, "later"),
    fault("bad-gateway", "PATCH", UPLOADS, 504, "upstream timed"),
    fault("quota-storage-full", "PATCH", UPLOADS, 507, ""),
    fault("body-too-large", "PATCH", UPLOADS, 413, "<title>413 Request Entity Too Large</title>"),
    fault(
        "quota-storage-full",
        "PATCH",
        UPLOADS,
        403,
        r#"{"errors":[{"code":"DENIED","message":"adding 3.1 GiB of storage resource, which when updated to current usage of 9.0 GiB will exceed the configured upper limit of 10.0 GiB."}]}"#,
    ),
    fault(
        "registry-read-only",
        "POST",
        UPLOADS,
        405,
        r#"{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}"#,
    ),
    fault(
        "upload-session-lost",
        "PATCH",
        UPLOADS,
        404,
        r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}"#,
    ),
    fault(
        "digest-invalid",
        "PUT",
        UPLOADS,
        400,
        r#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}"#,
    ),
    fault(
        "manifest-blob-unknown",
        "PUT",
        MANIFESTS,
        404,
        r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#,
    ),
    fault(
        "manifest-refused",
        "PUT",
        MANIFESTS,
        400,
        r#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}"#,
    ),
    fault(
        "repository-name",
        "POST",
        UPLOADS,
        400,
        r#"{"errors":[{"code":"NAME_INVALID","message":"invalid repository name"}]}"#,
    ),
    fault(
        "repository-missing",
        "POST",
        UPLOADS,
        404,
        r#"{"errors":[{"code":"NAME_UNKNOWN","message":"project team not found"}]}"#,
    ),
    fault(
        "tag-immutable",
        "PUT",
        MANIFESTS,
        412,
        r#"{"errors":[{"code":"PRECONDITION","message":"Failed to process request due to 'a:1' configured as immutable."}]}"#,
    ),
    fault("html-instead-of-json", "POST", UPLOADS, 404, "<!DOCTYPE html><html><body>Sign in</body></html>"),
    fault(
        "proxy-intercepts",
        "POST",
        UPLOADS,
        403,
        "This page was blocked by your organisation's policy (Zscaler)",
    ),
    fault("http-on-https", "POST", UPLOADS, 400, "Client sent an HTTP request to an HTTPS server."),
    fault("denied", "POST", UPLOADS, 403, r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#),
    fault(
        "scope-downgraded",
        "POST",
        UPLOADS,
        403,
        r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
    ),
    fault(
        "github-packages-denied",
        "POST",
        UPLOADS,
        403,
        r#"{"errors":[{"code":"DENIED","message":"permission_denied: write_package"}]}"#,
    ),
    fault(
        "google-denied",
        "POST",
        UPLOADS,
        403,
        r#"{"errors":[{"code":"DENIED","message":"Permission \"artifactregistry.repositories.uploadArtifacts\" denied on resource"}]}"#,
    ),
    fault("no-credentials", "POST", UPLOADS, 401, "").with(CHALLENGE, "Basic realm=\"r\""),
    fault(
        "push-denied-anonymous",
        "POST",
        UPLOADS,
        401,
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
    )
    .with(CHALLENGE, "Basic realm=\"r\"")
    .login("{}"),
    fault("wrong-password", "POST", UPLOADS, 401, r#"{"details":"incorrect username or password"}"#)
        .with(CHALLENGE, "Basic realm=\"r\""),
    fault("foreign-realm", "GET", "/v2/", 401, "")
        .with(CHALLENGE, "Bearer realm=\"https://evil.example/token\""),
    fault("bad-realm", "GET", "/v2/", 401, "").with(CHALLENGE, "Bearer realm=\"https://[\""),
    fault("plain-http-refused", "GET", "/v2/", 401, "")
        .with(CHALLENGE, "Bearer realm=\"http://tokens.example/token\"")
        .login("{}"),
    fault("needs-password", "GET", "/v2/", 401, "").with(CHALLENGE, "Basic realm=\"r\"").login(TOKEN_LOGIN),
    fault("incomplete-answer", "POST", UPLOADS, 202, ""),
    fault("redirect-refused", "POST", UPLOADS, 307, "").with("location", "/v2/a/blobs/uploads/"),
];

fn site() -> Site {
    let site = Site::new("FROM scratch\nCOPY a /\nCOPY b /\n");
    site.file("context/a", "a").file("context/b", "b");
    site
}

fn preflight(site: &Site, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
    command.args(["preflight", "context", "--json"]).args(arguments);
    site.clean(&mut command);
    command
}

/// What a run wrote, in which none of `secrets` may be.
fn printed(ended: &Ended, secrets: &[String]) -> String {
    let printed = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
    for secret in secrets.iter().map(String::as_str).chain([PLANTED, PLANTED_BASE64]) {
        assert!(!printed.contains(secret), "a secret is seen: {printed}");
    }
    printed
}

/// Holds that a build fails for `cause`, with its remedy.
fn assert_named(cause: &str, ended: &Ended, secrets: &[String]) {
    let printed = printed(ended, secrets);
    let known = Cause::named(cause).unwrap_or_else(|| panic!("{cause} is no cause"));
    assert!(printed.contains(&format!("error[{cause}]: ")), "expected {cause}:\n{printed}");
    // What a remedy begins with before it names something.
    let remedy = known.general_remedy();
    let words: Vec<&str> = remedy.split_whitespace().take(2).collect();
    let help = printed.split("help: ").nth(1).unwrap_or_default();
    assert!(help.starts_with(words[0]), "expected the remedy {remedy:?}:\n{printed}");
}

/// Holds that a preflight reports `cause`, or at least says that it does not know.
fn assert_not_well(cause: &str, ended: &Ended, secrets: &[String]) {
    let printed = printed(ended, secrets);
    let report: Value =
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{cause}: {printed}"));
    let checks = report["checks"].as_array().unwrap();
    let problems: Vec<&str> = checks
        .iter()
        .filter(|check| check["status"] == "problem")
        .map(|check| check["cause"].as_str().unwrap_or_else(|| panic!("a problem without a cause: {check}")))
        .collect();
    let is_of_sending = |check: &Value| check["check"] == "permission" || check["check"] == "sending";
    let is_open = checks.iter().any(|check| is_of_sending(check) && check["status"] == "unknown");
    match problems.is_empty() {
        true => assert!(is_open, "{cause}: all is well, says {printed}"),
        false => assert!(problems.contains(&cause), "{cause}: {printed}"),
    }
    assert!(
        checks.iter().all(|check| check["status"] != "problem" || check["remedy"].is_string()),
        "{printed}"
    );
}

/// Runs all of `work`, some at a time.
fn all<T: Sync>(work: &[T], run: impl Fn(&T) + Sync) {
    for some in work.chunks(AT_A_TIME) {
        thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|one| scope.spawn(|| run(one))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

#[test]
fn registries_that_misbehave() {
    let faults: Vec<&'static Fault> = FAULTS.iter().collect();
    all(&faults, |fault| {
        let registry = fault.registry();
        let site = site();
        site.file("auth.json", fault.login.replace("HOST", &registry.host()));
        let tag = format!("{}/a:1", registry.host());
        let file = site.path("auth.json");
        let mut build = site.build(&["--push", "-t", &tag]);
        let built = ended(build.env("REGISTRY_AUTH_FILE", &file));
        assert_named(fault.cause, &built, &[]);
        let mut command = preflight(&site, &["-t", &tag]);
        let looked = ended(command.env("REGISTRY_AUTH_FILE", &file));
        assert_not_well(fault.cause, &looked, &[]);
    });
}

#[test]
fn credentials_that_cannot_be_used() {
    let registry = Registry::start(RegistryOptions {
        login: Some(("ada".to_owned(), PLANTED.to_owned())),
        ..RegistryOptions::default()
    });
    let tag = format!("{}/a:1", registry.host());
    let host = registry.host();
    for (cause, config) in [
        ("helper-missing", format!(r#"{{"credHelpers":{{"{host}":"not-there"}}}}"#)),
        ("helper-failed", format!(r#"{{"credHelpers":{{"{host}":"fails"}}}}"#)),
        ("credentials-file", format!("not JSON, but {PLANTED}")),
    ] {
        let site = site();
        site.file("auth.json", config);
        site.file(
            "bin/docker-credential-fails",
            format!("#!/bin/sh\necho {PLANTED}\necho broken >&2\nexit 1\n"),
        );
        set_mode(site.path("bin/docker-credential-fails"), 0o755);
        let path = format!("{}:{}", site.name("bin"), std::env::var("PATH").unwrap());
        let environment = [("REGISTRY_AUTH_FILE", site.name("auth.json")), ("PATH", path)];
        let built = ended(site.build(&["--push", "-t", &tag]).envs(environment.clone()));
        assert_named(cause, &built, &[]);
        assert_not_well(cause, &ended(preflight(&site, &["-t", &tag]).envs(environment)), &[]);
    }
}

#[test]
fn networks_that_lead_nowhere() {
    let refused = closed_host();
    let tls = Registry::start(RegistryOptions { tls: true, ..RegistryOptions::default() });
    let plain = ScriptedRegistry::start(|_, _, _| Scripted::Answer {
        status: 400,
        headers: Vec::new(),
        body: "this port speaks http, but only to those who ask otherwise".to_owned(),
    });
    let proxy = |status| {
        ScriptedRegistry::start(move |_, _, _| Scripted::Answer {
            status,
            headers: Vec::new(),
            body: String::new(),
        })
    };
    let (asking, refusing) = (proxy(407), proxy(403));
    let through =
        |proxy: &ScriptedRegistry| Some(("HTTPS_PROXY", format!("http://ada:{PLANTED}@{}", proxy.host())));
    let cases = [
        ("connection-refused", format!("{refused}/a:1"), None),
        ("dns", "registry.invalid/a:1".to_owned(), None),
        ("certificate-unknown", format!("{}/a:1", tls.host()), None),
        ("https-on-http", format!("{}/a:1", plain.host()), None),
        ("proxy-login", "registry.invalid/a:1".to_owned(), through(&asking)),
        ("proxy-intercepts", "registry.invalid/a:1".to_owned(), through(&refusing)),
        (
            "no-system-certificates",
            "registry.invalid/a:1".to_owned(),
            Some(("SSL_CERT_FILE", "/dev/null".to_owned())),
        ),
    ];
    all(&cases, |(cause, tag, variable)| {
        let site = site();
        let built = ended(site.build(&["--push", "-t", tag]).envs(variable.clone()));
        assert_named(cause, &built, &[]);
        assert_not_well(cause, &ended(preflight(&site, &["-t", tag]).envs(variable.clone())), &[]);
    });
}

#[test]
fn bases_that_cannot_be_had() {
    let registry = Registry::start(RegistryOptions::default());
    let base = site();
    let tag = format!("{}/base:1", registry.host());
    base.built(&["--platform", "linux/arm64,linux/amd64", "--push", "-t", &tag]);
    let scripted = ScriptedRegistry::start(|method, target, _| {
        match (method, target.contains("/manifests/")) {
        ("GET", true) => Scripted::Answer {
            status: 200,
            headers: vec![("docker-content-digest", format!("sha256:{}", "0".repeat(64)))],
            body: r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#.to_owned(),
        },
        _ => Scripted::Usual,
    }
    });
    let limited =
        ScriptedRegistry::start(|method, target, _| match (method, target.contains("/manifests/")) {
            ("GET", true) => Scripted::Answer {
                status: 403,
                headers: Vec::new(),
                body: r#"{"errors":[{"code":"DENIED","message":"You have reached your pull rate limit."}]}"#
                    .to_owned(),
            },
            _ => Scripted::Usual,
        });
    for (cause, base, platform) in [
        ("platform-missing", tag.clone(), "linux/s390x"),
        ("tag-missing", format!("{}/base:other", registry.host()), "linux/amd64"),
        ("content-corrupt", format!("{}/base:1", scripted.host()), "linux/amd64"),
        ("hub-rate-limit", format!("{}/base:1", limited.host()), "linux/amd64"),
    ] {
        let site = Site::new(&format!("FROM {base}\n"));
        let arguments = ["--platform", platform];
        assert_named(cause, &ended(&mut site.build(&arguments)), &[]);
        assert_not_well(cause, &ended(&mut preflight(&site, &arguments)), &[]);
    }
}

/// An emulator, what it is asked as, and what goes wrong with it.
struct EcrCase {
    cause: &'static str,
    options: EcrOptions,
    prepare: fn(&EcrEmulator) -> Vec<(&'static str, String)>,
    flags: &'static [&'static str],
}

fn user(emulator: &EcrEmulator, policy: Policy) -> Vec<(&'static str, String)> {
    emulator.environment(&emulator.user("ci", policy))
}

fn with_repository(emulator: &EcrEmulator) -> Vec<(&'static str, String)> {
    emulator.create("app");
    user(emulator, Policy::all())
}

fn refusing(
    emulator: &EcrEmulator,
    action: AwsAction,
    status: u16,
    message: &str,
) -> Vec<(&'static str, String)> {
    for nth in 1..=60 {
        emulator.inject(action, nth, EcrFault::Refuse { status, message: message.to_owned() });
    }
    user(emulator, Policy::all())
}

fn other(
    name: &'static str,
    value: &str,
    mut environment: Vec<(&'static str, String)>,
) -> Vec<(&'static str, String)> {
    environment.retain(|(known, _)| *known != name);
    environment.push((name, value.to_owned()));
    environment
}

fn ecr_cases() -> Vec<EcrCase> {
    let case = |cause, prepare| EcrCase { cause, options: EcrOptions::default(), prepare, flags: &[] };
    vec![
        case("ecr-repository-missing", |emulator| user(emulator, Policy::all())),
        EcrCase {
            options: EcrOptions { missing_repository: MissingRepository::HangUp, ..EcrOptions::default() },
            ..case("ecr-repository-missing", |emulator| user(emulator, Policy::all()))
        },
        case("iam-denied", |emulator| {
            emulator.create("app");
            let actions =
                ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:BatchCheckLayerAvailability"];
            user(emulator, Policy::none().allow(&actions, "*"))
        }),
        case("iam-explicit-deny", |emulator| {
            emulator.create("app");
            user(emulator, Policy::all().deny("ecr:InitiateLayerUpload"))
        }),
        case("iam-assume-role", |emulator| {
            emulator.create("app");
            let role = emulator.role("builder", Policy::all(), Trust::Account);
            vec![
                ("AWS_ROLE_ARN", role),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "token".to_owned()),
                ("AWS_ENDPOINT_URL", emulator.url()),
                ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ]
        }),
        case("aws-no-identity", |_| vec![("AWS_EC2_METADATA_DISABLED", "true".to_owned())]),
        case("aws-keys-unknown", |emulator| {
            other("AWS_ACCESS_KEY_ID", "AKIAUNKNOWNUNKNOWN00", with_repository(emulator))
        }),
        case("aws-signature", |emulator| {
            other("AWS_SECRET_ACCESS_KEY", "another-secret-key", with_repository(emulator))
        }),
        EcrCase {
            options: EcrOptions { region: "us-east-1".to_owned(), ..EcrOptions::default() },
            ..case("wrong-region", with_repository)
        },
        case("aws-session-expired", |emulator| {
            emulator.create("app");
            let role = emulator.role("builder", Policy::all(), Trust::Account);
            let key = emulator.session(&role, "pod", std::time::Duration::from_secs(3600));
            emulator.expire_sessions();
            emulator.environment(&key)
        }),
        case("token-expired", |emulator| {
            emulator.create("app");
            let text = "Your authorization token has expired. Reauthenticate and try again.";
            refusing(emulator, AwsAction::InitiateLayerUpload, 403, text)
        }),
        EcrCase {
            options: EcrOptions { layers_max: 1, ..EcrOptions::default() },
            ..case("too-many-layers", with_repository)
        },
        EcrCase {
            options: EcrOptions { layer_bytes_max: 100, ..EcrOptions::default() },
            ..case("layer-too-large", with_repository)
        },
        EcrCase {
            flags: &["--ecr-create-repository=kms"],
            ..case("ecr-kms", |emulator| {
                refusing(emulator, AwsAction::CreateRepository, 400, "KmsException: the KMS key is disabled")
            })
        },
        EcrCase {
            flags: &["--ecr-create-repository", "--ecr-lifecycle-policy", "policy.json"],
            ..case("ecr-lifecycle-policy", |emulator| user(emulator, Policy::all()))
        },
        EcrCase {
            flags: &["--ecr-create-repository"],
            ..case("ecr-quota", |emulator| {
                let text = "LimitExceededException: the limit of repositories is reached";
                refusing(emulator, AwsAction::CreateRepository, 400, text)
            })
        },
        case("tag-immutable", |emulator| {
            let settings =
                EcrRepository { name: "app".to_owned(), immutable: true, ..EcrRepository::default() };
            emulator.create_repository(settings);
            let environment = user(emulator, Policy::all());
            let first = Site::new("FROM scratch\nLABEL first=yes\n");
            let (tag, declared) = names(emulator);
            ended(first.build(&["--push", "-t", &tag, "--ecr-host", &declared]).envs(environment.clone()))
                .done();
            environment
        }),
        case("upload-session-lost", |emulator| {
            emulator.create("app");
            for nth in 1..=20 {
                emulator.inject(AwsAction::UploadLayerPart, nth, EcrFault::DropUpload);
            }
            user(emulator, Policy::all())
        }),
    ]
}

/// The image's name, and the declaration of its host.
fn names(emulator: &EcrEmulator) -> (String, String) {
    (format!("{}/app:1", emulator.host()), format!("{}=123456789012/eu-west-1", emulator.host()))
}

#[test]
fn ecr_that_refuses() {
    all(&ecr_cases(), |case| {
        let emulator = EcrEmulator::start(case.options.clone());
        let environment = (case.prepare)(&emulator);
        let (tag, declared) = names(&emulator);
        let site = site();
        site.file("token", "eyJub3QiOiJ5b3VycyJ9.eyJub3QiOiJ5b3VycyJ9.c2ln");
        site.file("policy.json", "{}");
        let arguments = [&["--push", "-t", &tag, "--ecr-host", &declared], case.flags].concat();
        // Whatever preflight asks for must not use up what is planned for the build.
        let looked = ended(preflight(&site, &arguments).envs(environment.clone()));
        let built = ended(site.build(&arguments).envs(environment));
        let mut secrets = emulator.secrets();
        secrets.push(fs::read_to_string(site.path("token")).unwrap());
        assert_named(case.cause, &built, &secrets);
        assert_not_well(case.cause, &looked, &secrets);
    });
}

#[test]
fn a_clock_that_is_wrong_is_seen_beforehand() {
    let emulator = EcrEmulator::start(EcrOptions { clock_ahead_seconds: 3600, ..EcrOptions::default() });
    let environment = with_repository(&emulator);
    let (tag, declared) = names(&emulator);
    let looked = ended(preflight(&site(), &["-t", &tag, "--ecr-host", &declared]).envs(environment));
    assert_not_well("clock-skew", &looked, &emulator.secrets());
}

/// The stand-ins above provoke at least forty of the causes.
#[test]
fn forty_causes_are_provoked() {
    let cases = ecr_cases();
    let mut provoked: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.cause).collect();
    provoked.extend(cases.iter().map(|case| case.cause));
    assert!(FAULTS.len() + cases.len() >= 40 && provoked.len() >= 40, "{provoked:?}");
}
