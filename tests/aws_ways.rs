//! Ways to be somebody for ECR, and names of its hosts, by the built program.

use std::{fs, path::Path, process::Command};

use ocib_testkit::{
    AwsAction, ConnectProxy, EcrEmulator, EcrOptions, Policy, SsoClient, TlsFront, Trust, run_command,
};
use serde_json::Value;

use crate::program::{Ended, Site, ended};

const ACCOUNT: &str = "123456789012";

fn site() -> Site {
    let site = Site::new("FROM scratch\nCOPY a /\n");
    site.file("context/a", "a");
    site
}

fn emulator() -> EcrEmulator {
    let emulator = EcrEmulator::start(EcrOptions::default());
    emulator.create("team/app");
    emulator
}

/// A build and push with what `home` has in `.aws`, as the profile `ci`. No secret is in what it prints.
fn push(site: &Site, emulator: &EcrEmulator, command: &str) -> Ended {
    let tag = format!("{}/team/app:1", emulator.host());
    let declared = format!("{}={ACCOUNT}/eu-west-1", emulator.host());
    let mut push = Command::new(env!("CARGO_BIN_EXE_ocib"));
    push.args([command, "context", "-t", &tag, "--ecr-host", &declared, "--platform=linux/amd64"]);
    if command == "build" {
        push.arg("--push");
    }
    site.clean(&mut push);
    push.env("AWS_ENDPOINT_URL", emulator.url()).env("AWS_EC2_METADATA_DISABLED", "true");
    push.env("HOME", site.path("home")).env("AWS_PROFILE", "ci");
    let ended = ended(&mut push);
    let printed = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
    for secret in emulator.secrets() {
        assert!(!printed.contains(&secret), "a secret is seen: {printed}");
    }
    ended
}

#[test]
fn a_chain_of_roles_is_gone_through() {
    let (emulator, site) = (emulator(), site());
    let may_assume = |role: &str| Policy::none().allow(&["sts:AssumeRole"], role);
    let builder = emulator.role("builder", Policy::all(), Trust::Account);
    let hop = emulator.role("hop", may_assume(&builder), Trust::Account);
    let user = emulator.user("ada", may_assume(&hop));
    let config = |hop: &str| {
        format!(
            "[profile ci]\nrole_arn = {builder}\nsource_profile = hop\n[profile hop]\nrole_arn = {hop}\n\
             source_profile = ada\n[profile ada]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            user.id, user.secret
        )
    };
    site.file("home/.aws/config", config(&hop));
    let pushed = push(&site, &emulator, "build").done();
    let who = format!("logged in as arn:aws:sts::{ACCOUNT}:assumed-role/builder/");
    assert!(pushed.stderr.contains(&who), "{}", pushed.stderr);
    assert!(pushed.stderr.contains(", from profile"), "{}", pushed.stderr);
    assert_eq!(emulator.count(AwsAction::AssumeRole), 2, "each role once");

    // A role in its middle that nobody may become.
    let stranger = emulator.role("stranger", Policy::all(), Trust::WebIdentity("of-nobody-7f3a".to_owned()));
    site.file("home/.aws/config", config(&stranger));
    let said = push(&site, &emulator, "build").failed(4);
    let denied =
        format!("User: {} is not authorized to perform: sts:AssumeRole on resource: {stranger}", user.arn);
    assert!(said.contains("error[iam-assume-role]: ") && said.contains(&denied), "{said}");
    let looked = push(&site, &emulator, "preflight");
    assert_eq!(looked.code(), Some(4), "{looked:?}");
    assert!(String::from_utf8_lossy(&looked.stdout).contains("[iam-assume-role]"), "{looked:?}");
}

/// What `aws sso login` leaves in the cache of `home`, for the session or start URL `key`.
fn cache_login(site: &Site, key: &str, token: &str, expires: &str) {
    let name = run_command(Command::new("sh").args(["-c", "printf %s \"$1\" | sha1sum", "sh", key]));
    let name = name.split_whitespace().next().unwrap().to_owned();
    let text = format!(
        r#"{{"startUrl":"https://corp.awsapps.example/start","region":"eu-west-1","accessToken":"{token}","expiresAt":"{expires}"}}"#
    );
    site.file(Path::new("home/.aws/sso/cache").join(format!("{name}.json")), text);
}

#[test]
fn a_login_of_sso_is_used_until_its_end() {
    let (emulator, site) = (emulator(), site());
    let role = emulator.role("developer", Policy::all(), Trust::Account);
    let token = emulator.sso_login(&role);
    let start = "https://corp.awsapps.example/start";
    let account = format!("sso_account_id = {ACCOUNT}\nsso_role_name = developer\n");
    let in_session = format!(
        "[profile ci]\nsso_session = corp\n{account}[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = {start}\n"
    );
    let of_old = format!("[profile ci]\nsso_region = eu-west-1\nsso_start_url = {start}\n{account}");
    for (config, key) in [(&in_session, "corp"), (&of_old, start)] {
        site.file("home/.aws/config", config);
        cache_login(&site, key, &token, "2099-01-01T00:00:00Z");
        let pushed = push(&site, &emulator, "build").done();
        let who = format!("logged in as arn:aws:sts::{ACCOUNT}:assumed-role/developer/ada@corp.example");
        assert!(pushed.stderr.contains(&who), "{}", pushed.stderr);

        // The portal has forgotten it, or its end is past: `aws sso login` is the remedy.
        // The old form's end is not looked at.
        let ended = (key == "corp").then_some((&*token, "2020-01-01T00:00:00Z"));
        for (token, expires) in [("aoaAAAAAGforgotten", "2099-01-01T00:00:00Z")].into_iter().chain(ended) {
            cache_login(&site, key, token, expires);
            let said = push(&site, &emulator, "build").failed(4);
            assert!(said.contains("error[aws-session-expired]: "), "{said}");
            assert!(said.contains("`aws sso login`"), "{said}");
            let looked = push(&site, &emulator, "preflight");
            assert!(String::from_utf8_lossy(&looked.stdout).contains("[aws-session-expired]"), "{looked:?}");
            assert_eq!(looked.code(), Some(4), "{looked:?}");
        }
    }
}

/// What `aws sso login` leaves for a registered client, whose access token is past its end.
fn cache_renewable(site: &Site, client: &SsoClient, registered_until: &str) {
    cache_login(site, "corp", "aoaAAAAAGpast", "2020-01-01T00:00:00Z");
    let path = fs::read_dir(site.path("home/.aws/sso/cache")).unwrap().next().unwrap().unwrap().path();
    let mut login: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    login["clientId"] = client.id.clone().into();
    login["clientSecret"] = client.secret.clone().into();
    login["refreshToken"] = client.refresh_token.clone().into();
    login["registrationExpiresAt"] = registered_until.into();
    fs::write(path, login.to_string()).unwrap();
}

#[test]
fn a_login_of_sso_is_renewed_by_its_client() {
    let (emulator, site) = (emulator(), site());
    let role = emulator.role("developer", Policy::all(), Trust::Account);
    site.file(
        "home/.aws/config",
        format!(
            "[profile ci]\nsso_session = corp\nsso_account_id = {ACCOUNT}\nsso_role_name = developer\n\
             [sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.awsapps.example/start\n"
        ),
    );
    let renewals = || emulator.requests().with("POST", "/token").len();

    // A client that may renew it: nobody has to log in.
    let client = emulator.sso_client(&role);
    cache_renewable(&site, &client, "2099-01-01T00:00:00Z");
    let pushed = push(&site, &emulator, "build").done();
    let who = format!("logged in as arn:aws:sts::{ACCOUNT}:assumed-role/developer/ada@corp.example");
    assert!(pushed.stderr.contains(&who), "{}", pushed.stderr);
    assert_eq!(renewals(), 1);
    // The new one is kept for the next run, as AWS's own programs do.
    push(&site, &emulator, "build").done();
    assert_eq!(renewals(), 1);

    // The refresh token was used up by that, or the client's registration has ended.
    for (client, registered_until, asked) in
        [(&client, "2099-01-01T00:00:00Z", 2), (&emulator.sso_client(&role), "2020-01-01T00:00:00Z", 0)]
    {
        let before = renewals();
        cache_renewable(&site, client, registered_until);
        let said = push(&site, &emulator, "build").failed(4);
        assert!(said.contains("error[aws-session-expired]: ") && said.contains("`aws sso login`"), "{said}");
        let looked = push(&site, &emulator, "preflight");
        assert!(String::from_utf8_lossy(&looked.stdout).contains("[aws-session-expired]"), "{looked:?}");
        assert_eq!((looked.code(), renewals() - before), (Some(4), asked), "{looked:?}");
    }

    // Who never logged in.
    fs::remove_dir_all(site.path("home/.aws/sso")).unwrap();
    let said = push(&site, &emulator, "build").failed(4);
    assert!(said.contains("error[aws-sso-cache]: ") && said.contains("`aws sso login`"), "{said}");
}

/// FIPS and dual-stack names, over TLS with a private CA, as a proxy resolves them.
#[test]
fn hosts_of_every_form_are_known_as_ecr() {
    for (region, host) in [
        ("eu-west-1", format!("{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com")),
        ("us-east-1", format!("{ACCOUNT}.dkr.ecr-fips.us-east-1.amazonaws.com")),
        ("us-gov-west-1", format!("{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com")),
        ("eu-west-1", format!("{ACCOUNT}.dkr-ecr.eu-west-1.on.aws")),
        ("us-east-1", format!("{ACCOUNT}.dkr-ecr-fips.us-east-1.on.aws")),
        ("cn-north-1", format!("{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn")),
    ] {
        let options = EcrOptions { region: region.to_owned(), ..EcrOptions::default() };
        let emulator = EcrEmulator::start(options);
        emulator.create("team/app");
        let key = emulator.user("ci", Policy::all());
        let front = TlsFront::start(&emulator.host(), &[&host]);
        let proxy = ConnectProxy::start(&[(&format!("{host}:443"), &front.host())], None);
        let site = site();
        let (tag, ca) = (format!("{host}/team/app:1"), front.ca_pem().display().to_string());
        let mut environment = emulator.environment(&key);
        environment.push(("HTTPS_PROXY", format!("http://{}", proxy.host())));
        let run = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
            site.clean(command.args(arguments).args(["context", "-t", &tag, "--platform=linux/amd64"]));
            ended(command.envs(environment.clone()))
        };
        let pushed = run(&["build", "--push", "--ca-file", &ca]).done();
        assert!(pushed.stderr.contains(&format!("{host}: logged in as {}", key.arn)), "{}", pushed.stderr);
        assert_eq!(emulator.tags("team/app").len(), 1, "{host}");
        let looked = run(&["preflight", "--ca-file", &ca]).done();
        let text = String::from_utf8_lossy(&looked.stdout).into_owned();
        assert!(text.contains("name an image (PutImage): allowed"), "{text}");
        // Who does not know the CA is told so, and sends nothing.
        let calls = emulator.calls().len();
        let said = run(&["build", "--push"]).failed(5);
        assert!(said.contains("error[certificate-unknown]: "), "{said}");
        let since = emulator.calls().split_off(calls);
        assert!(since.iter().all(|call| !call.request.path.starts_with("/v2/")), "{since:?}");
    }
}
