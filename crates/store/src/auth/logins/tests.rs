use std::{fs, time::Instant};

use ocib_image::{PlaceErrorKind, Secret};

use super::*;

/// A cloud with one registry, whose token is `t1`, `t2` and so on.
#[derive(Default)]
struct Sky {
    refused: Mutex<usize>,
}

const REGISTRY: &str = "cloud.example";

impl Credentials for Sky {
    fn find<'a>(&'a self, _: &'a Reference) -> BoxFuture<'a, Result<Option<Credential>, PlaceError>> {
        let token = Secret::new(format!("t{}", *self.refused.lock().unwrap() + 1));
        let found = Credential::Session { user: "sky".into(), token, fresh_until: Instant::now() };
        Box::pin(async { Ok(Some(found)) })
    }

    fn refused<'a>(&'a self, _: &'a Reference, _: &'a Credential) -> BoxFuture<'a, ()> {
        *self.refused.lock().unwrap() += 1;
        Box::pin(async {})
    }
}

impl Cloud for Sky {
    fn is_for(&self, registry: &str) -> bool {
        registry == REGISTRY
    }

    fn identity<'a>(&'a self, _: &'a str) -> BoxFuture<'a, (Option<Identity>, Option<String>)> {
        let identity =
            Identity { provider: "stars".into(), name: Some("me".into()), account: None, expires: None };
        Box::pin(async { (Some(identity), Some("it rains".into())) })
    }
}

fn shown(credential: &Credential) -> String {
    match credential {
        Credential::Session { user, token, .. } => format!("{user}:{}", token.reveal()),
        Credential::Basic { user, password } => format!("{user}:{}", password.reveal()),
        Credential::IdentityToken(_) => "token".to_owned(),
    }
}

/// What is found with `config.json`, and which logins are told; the file is called FILE.
async fn look(config: &str, repository: &str) -> (Result<Option<String>, PlaceErrorKind>, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.json");
    fs::write(&file, config).unwrap();
    let directory = home.path().to_str().unwrap().to_owned();
    let files =
        DockerAuth::from_environment(&move |name| (name == "DOCKER_CONFIG").then(|| directory.clone()));
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let on_login = move |login: &Login| tell.lock().unwrap().push(login.to_string());
    let logins = Logins::new(files, vec![Arc::new(Sky::default())], Arc::new(on_login));
    let repository = repository.parse().unwrap();
    let found = logins.find(&repository).await;
    let found = found.map(|found| found.as_ref().map(shown)).map_err(|error| error.kind);
    let _ = logins.find(&repository).await;
    let told =
        told.lock().unwrap().iter().map(|login| login.replace(file.to_str().unwrap(), "FILE")).collect();
    (found, told)
}

#[tokio::test]
async fn files_come_first_and_missing_helpers_are_not_needed() {
    let by_cloud = "cloud.example: logged in as me, from stars";
    for (config, repository, found, told) in [
        ("{}", "cloud.example/a", Ok(Some("sky:t1")), &[format!("{by_cloud}; it rains")][..]),
        (
            r#"{"auths":{"cloud.example":{"auth":"dTpw"}}}"#,
            "cloud.example/a",
            Ok(Some("u:p")),
            &["cloud.example: logged in from FILE".to_owned()],
        ),
        (
            r#"{"credHelpers":{"cloud.example":"gone"}}"#,
            "cloud.example/a",
            Ok(Some("sky:t1")),
            &[format!(
                "{by_cloud}; docker-credential-gone, named in FILE, is not installed and not needed; it rains"
            )],
        ),
        (r#"{"credsStore":"gone"}"#, "other.example/a", Err(PlaceErrorKind::Denied), &[]),
        ("{}", "other.example/a", Ok(None), &[]),
    ] {
        let found = found.map(|found| found.map(str::to_owned));
        assert_eq!(look(config, repository).await, (found, told.to_vec()), "{config} {repository}");
    }
}

#[tokio::test]
async fn clouds_hear_of_refusals() {
    let logins = Logins::new(
        DockerAuth::from_environment(&|_| None),
        vec![Arc::new(Sky::default())],
        Arc::new(|_| {}),
    );
    let repository = "cloud.example/a".parse().unwrap();
    let first = logins.find(&repository).await.unwrap().unwrap();
    logins.refused(&repository, &first).await;
    assert_eq!(shown(&logins.find(&repository).await.unwrap().unwrap()), "sky:t2");
}
