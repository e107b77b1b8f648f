//! Each way to an identity of AWS, against servers on loopback. The SDK reads the environment of its
//! process, so each case is a process of its own: this test program, started again.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, which clippy cannot see here")]

#[path = "../../../store/tests/registry/scripted.rs"]
#[expect(dead_code, reason = "registries need more of it")]
mod scripted;

use std::{env, process::Command, sync::Arc};

use ocib_net::{Http, HttpOptions, aws::Aws};

use crate::scripted::{Received, Reply, Server};

const KEY: &str = "AKIAPLANTED00000000";
const SECRET: &str = "planted-secret-0123456789";
const TOKEN: &str = "planted-session-token-0123456789";
const JWT: &str = "eyJplanted.eyJ3ZWI.aWRlbnRpdHk";
const LEAVE: &str = "planted-leave-to-ask-0123456789";
const CALLER: &str = "arn:aws:sts::123456789012:assumed-role/builder/ocib";

/// Set in the processes that [`says`] starts.
const STARTED: &str = "OCIB_TEST_STARTED";

/// Says who this process is.
#[expect(clippy::print_stdout, reason = "its parent reads this")]
fn say() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let aws = Aws::new(Arc::new(Http::new(HttpOptions::default())));
        match aws.session("eu-central-1").await {
            Ok(session) => {
                println!("SAYS {}", aws.identity("eu-central-1", &session).await);
                println!("SAYS {}", session.credentials.access_key_id());
                println!("DEBUG {session:?} {aws:?}");
            }
            Err(error) => println!("SAYS {error}"),
        }
    });
}

/// What the child says in `environment`; whatever else it prints holds no secret.
fn says(environment: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "nobody", "--nocapture"]).env_clear().env(STARTED, "1");
    let quiet = [("AWS_EC2_METADATA_DISABLED", "true"), ("HOME", "/nonexistent")];
    let output = command.envs(quiet).envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    for planted in [SECRET, TOKEN, JWT, LEAVE] {
        assert!(!printed.contains(planted), "{planted} is seen: {printed}");
    }
    printed.lines().filter_map(|line| Some(line.split_once("SAYS ")?.1.to_owned())).collect()
}

/// STS, a container's endpoint, instance metadata and GitHub's token endpoint in one.
fn cloud() -> Server {
    Server::start(|request, _| answer(request))
}

fn answer(request: &Received) -> Reply {
    let keys = format!(
        r#"{{"Code":"Success","AccessKeyId":"{KEY}","SecretAccessKey":"{SECRET}","Token":"{TOKEN}","Expiration":"2099-01-01T00:00:00Z"}}"#
    );
    match (request.method.as_str(), request.target.as_str()) {
        ("POST", "/") => sts(request),
        ("GET", "/container") if request.header("authorization") == Some(LEAVE) => {
            Reply::status(200).body(keys)
        }
        ("GET", "/container") => Reply::status(401).body(r#"{"code":"Denied","message":"who are you?"}"#),
        ("PUT", "/latest/api/token") => {
            Reply::status(200).header("x-aws-ec2-metadata-token-ttl-seconds", "21600").body("metadata-token")
        }
        ("GET", path) if request.header("x-aws-ec2-metadata-token") == Some("metadata-token") => match path {
            "/latest/meta-data/iam/security-credentials/" => Reply::status(200).body("builder"),
            "/latest/meta-data/iam/security-credentials/builder" => Reply::status(200).body(keys),
            _ => Reply::status(404),
        },
        ("GET", "/oidc?x=1&audience=sts.amazonaws.com")
            if request.header("authorization") == Some(&format!("bearer {LEAVE}")) =>
        {
            Reply::status(200).body(format!(r#"{{"value":"{JWT}"}}"#))
        }
        _ => Reply::status(404),
    }
}

/// The script cannot see bodies, so the action is told by what is signed.
fn sts(request: &Received) -> Reply {
    let body = match request.header("authorization") {
        Some(_) => format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>{CALLER}</Arn><UserId>U</UserId><Account>123456789012</Account></GetCallerIdentityResult>\
             </GetCallerIdentityResponse>"
        ),
        None => format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{KEY}</AccessKeyId>\
             <SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>{TOKEN}</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>"
        ),
    };
    Reply::status(200).body(body)
}

fn identity(provider: &str, until: &str) -> Vec<String> {
    vec![format!("{CALLER}, from {provider}{until}"), KEY.to_owned()]
}

#[test]
fn environment_variables() {
    let server = cloud();
    let sts = format!("http://{}", server.host());
    let environment = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", TOKEN),
        ("AWS_ENDPOINT_URL_STS", &sts),
    ];
    assert_eq!(says(&environment), identity("environment variables", ""));
    assert!(server.received()[0].header("authorization").unwrap().contains("/eu-central-1/sts/aws4_request"));
}

#[test]
fn a_profile() {
    let server = cloud();
    let sts = format!("http://{}", server.host());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let text = format!(
        "[profile work]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\nregion=eu-west-1\n"
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let environment = [("AWS_CONFIG_FILE", file), ("AWS_PROFILE", "work"), ("AWS_ENDPOINT_URL", &sts)];
    assert_eq!(says(&environment), identity("profile", ""));
}

#[test]
fn a_profile_with_a_program() {
    let server = cloud();
    let sts = format!("http://{}", server.host());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let keys = format!(r#"{{"Version":1,"AccessKeyId":"{KEY}","SecretAccessKey":"{SECRET}"}}"#);
    std::fs::write(directory.path().join("keys"), keys).unwrap();
    let program = format!("[default]\ncredential_process=cat {}/keys\n", directory.path().display());
    std::fs::write(&file, program).unwrap();
    let file = file.to_str().unwrap();
    let environment = [("AWS_CONFIG_FILE", file), ("PATH", "/usr/bin:/bin"), ("AWS_ENDPOINT_URL", &sts)];
    assert_eq!(says(&environment), identity("profile", ""));
}

#[test]
fn a_web_identity_token() {
    let server = cloud();
    let sts = format!("http://{}", server.host());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), JWT).unwrap();
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.path().to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/builder"),
        ("AWS_ENDPOINT_URL_STS", &sts),
    ];
    assert_eq!(says(&environment), identity("web identity token", ", until 2099-01-01T00:00:00Z"));
    let body = String::from_utf8(server.received()[0].body.clone()).unwrap();
    assert!(body.contains("Action=AssumeRoleWithWebIdentity"), "{body}");
    assert!(body.contains(&format!("WebIdentityToken={JWT}")), "{body}");
}

#[test]
fn github_oidc() {
    let server = cloud();
    let sts = format!("http://{}", server.host());
    let oidc = format!("http://{}/oidc?x=1", server.host());
    let environment = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/builder"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", &oidc),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", LEAVE),
        ("AWS_ENDPOINT_URL_STS", &sts),
    ];
    assert_eq!(says(&environment), identity("GitHub OIDC", ", until 2099-01-01T00:00:00Z"));
    let body = String::from_utf8(server.received()[1].body.clone()).unwrap();
    assert!(body.contains(&format!("WebIdentityToken={JWT}")), "{body}");
}

#[test]
fn a_container_endpoint() {
    let server = cloud();
    let endpoint = format!("http://{}", server.host());
    let full = format!("{endpoint}/container");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), LEAVE).unwrap();
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.path().to_str().unwrap()),
        ("AWS_ENDPOINT_URL_STS", &endpoint),
    ];
    assert_eq!(says(&environment), identity("container endpoint", ", until 2099-01-01T00:00:00Z"));
}

#[test]
fn instance_metadata() {
    let server = cloud();
    let endpoint = format!("http://{}", server.host());
    let environment = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str()),
        ("AWS_ENDPOINT_URL_STS", &endpoint),
    ];
    assert_eq!(says(&environment), identity("instance metadata", ", until 2099-01-01T00:00:00Z"));
}

#[test]
fn a_caller_that_may_not_ask_who_it_is() {
    let server = Server::start(|_, _| {
        let body =
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
        Reply::status(403).body(body)
    });
    let sts = format!("http://{}", server.host());
    let environment =
        [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_ENDPOINT_URL_STS", &sts)];
    assert_eq!(says(&environment), ["unknown identity, from environment variables", KEY]);
}

const NOT_SET: &str = "no identity for AWS was found: \
    environment variables: AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set; \
    profile: it has no credentials in AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE or ~/.aws";

/// Also what the other tests start: as a process of its own, it is whoever its environment makes it.
#[test]
fn nobody() {
    if env::var_os(STARTED).is_some() {
        return say();
    }
    let expected = format!(
        "{NOT_SET}; web identity token: $AWS_WEB_IDENTITY_TOKEN_FILE was not set; \
         GitHub OIDC: AWS_ROLE_ARN is not set; \
         container endpoint: AWS_CONTAINER_CREDENTIALS_FULL_URI and _RELATIVE_URI are not set; \
         instance metadata: IMDS disabled by AWS_EC2_METADATA_DISABLED env var set to `true`"
    );
    assert_eq!(says(&[]), [expected]);
}

#[test]
fn no_metadata_service_is_not_waited_for() {
    // Port 1 refuses.
    let environment =
        [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")];
    let said = says(&environment).remove(0);
    let (_, imds) = said.split_once("instance metadata: ").unwrap();
    let expected = "could not communicate with IMDS: PUT http://127.0.0.1:1/latest/api/token failed: \
                    Connection refused (os error 111)";
    assert_eq!(imds, expected);
}

#[test]
fn a_way_that_is_configured_and_fails_is_the_last() {
    let server = Server::start(|_, _| {
        let message = format!("Value '{JWT}' at 'webIdentityToken' is expired");
        let body = format!(
            "<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        Reply::status(400).body(body)
    });
    let sts = format!("http://{}", server.host());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), JWT).unwrap();
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.path().to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/builder"),
        ("AWS_ENDPOINT_URL_STS", &sts),
    ];
    let expected = format!(
        "{NOT_SET}; web identity token: ExpiredTokenException: Value '[secret]' at 'webIdentityToken' is expired"
    );
    assert_eq!(says(&environment), [expected]);
}
