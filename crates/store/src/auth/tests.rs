use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use ocib_image::{PlaceErrorKind, Secret};
use tempfile::TempDir;

use super::*;

/// A home with files, and a helper that knows `helped.example` and says no to all else.
struct Home(TempDir);

impl Home {
    fn with(files: &[(&str, &str)]) -> Self {
        let home = Self(TempDir::new().unwrap());
        let helper = "#!/bin/sh\nread -r server\ncase $server in\n\
            helped.example|https://index.docker.io/v1/) echo '{\"Username\":\"by-helper\",\"Secret\":\"hs\"}';;\n\
            token.example) echo '{\"Username\":\"<token>\",\"Secret\":\"refresh\"}';;\n\
            broken.example) echo SECRET; echo 'no keychain' >&2; exit 3;;\n\
            garbage.example) echo SECRET;;\n\
            *) echo 'credentials not found in native keychain'; exit 1;;\nesac\n";
        home.write("bin/docker-credential-fake", helper);
        let helper = home.path("bin/docker-credential-fake");
        fs::set_permissions(helper, fs::Permissions::from_mode(0o755)).unwrap();
        files.iter().for_each(|(path, text)| home.write(path, text));
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `variables` hold paths below the home; `HOME` and `PATH` are set besides.
    async fn find(&self, variables: &[(&str, &str)], repository: &str) -> Result<Option<String>, PlaceError> {
        let path = |path: &str| self.path(path).to_str().unwrap().to_owned();
        let environment = |name: &str| match name {
            "HOME" => Some(path("")),
            "PATH" => Some(format!("/nowhere:{}", path("bin"))),
            _ => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| path(value)),
        };
        let auth = DockerAuth::from_environment(&environment);
        let found = auth.find(&repository.parse().unwrap()).await?;
        Ok(found.map(|credential| match credential {
            Credential::Basic { user, password } => format!("{user}:{}", password.reveal()),
            Credential::Session { user, .. } => panic!("{user} has a session, but files have none"),
            Credential::IdentityToken(token) => format!("token {}", token.reveal()),
        }))
    }
}

const FILE: &str = r#"{
    "auths": {
        "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
        "r.example": {"auth": "cjpwdzp3aXRoOmNvbG9ucw=="},
        "r.example/team": {"auth": "dGVhbTpwdw=="},
        "r.example/team/app": {"username": "app", "password": "pw"},
        "id.example": {"auth": "PHRva2VuPjo=", "identitytoken": "idt"},
        "marked.example": {"auth": "PHRva2VuPjpyZWZyZXNo"},
        "padded.example": {"auth": "dTpwdwAAAA"},
        "empty.example": {},
        "helped.example": {"auth": "ZmlsZTpwdw=="},
        "fallback.example": {"auth": "ZmlsZTpwdw=="},
        "bad.example": {"auth": "SECRET!"}
    },
    "credHelpers": {
        "helped.example": "fake", "token.example": "fake", "fallback.example": "fake", "broken.example": "fake",
        "garbage.example": "fake", "missing.example": "gone", "path.example": "../../bin/sh"
    },
    "HttpHeaders": {"X": "y"}
}"#;

#[tokio::test]
async fn entries_and_helpers() {
    let home = Home::with(&[(".docker/config.json", FILE)]);
    for (repository, expected) in [
        ("busybox", Some("hub:pw")),
        ("r.example/other", Some("r:pw:with:colons")),
        ("r.example/team/x", Some("team:pw")),
        ("r.example/teams", Some("r:pw:with:colons")),
        ("r.example/team/app/sub", Some("app:pw")),
        ("id.example/x", Some("token idt")),
        ("marked.example/x", Some("token refresh")),
        ("padded.example/x", Some("u:pw")),
        ("empty.example/x", None),
        ("unknown.example/x", None),
        ("helped.example/x", Some("by-helper:hs")),
        ("token.example/x", Some("token refresh")),
        ("fallback.example/x", Some("file:pw")),
    ] {
        assert_eq!(home.find(&[], repository).await.unwrap().as_deref(), expected, "{repository}");
    }
}

#[tokio::test]
async fn failures_name_what_failed_and_no_secret() {
    let home = Home::with(&[(".docker/config.json", FILE)]);
    let file = home.path(".docker/config.json");
    let file = file.display();
    for (repository, kind, expected) in [
        (
            "bad.example/x",
            PlaceErrorKind::Denied,
            format!(
                "cannot use the credentials file {file}: bad.example: auth is not the base64 of user:password"
            ),
        ),
        (
            "broken.example/x",
            PlaceErrorKind::Denied,
            format!(
                "credential helper \"docker-credential-fake\", named in {file}: it ended with exit status: 3: no keychain"
            ),
        ),
        (
            "garbage.example/x",
            PlaceErrorKind::Denied,
            format!(
                "credential helper \"docker-credential-fake\", named in {file}: its answer is not JSON with Username \
                 and Secret"
            ),
        ),
        (
            "missing.example/x",
            PlaceErrorKind::Denied,
            format!(
                "credential helper \"docker-credential-gone\", named in {file}: there is no such program in PATH"
            ),
        ),
        (
            "path.example/x",
            PlaceErrorKind::Denied,
            format!(
                "credential helper \"docker-credential-../../bin/sh\", named in {file}: its name is a path, expected \
                 the NAME of docker-credential-NAME"
            ),
        ),
    ] {
        let error = home.find(&[], repository).await.unwrap_err();
        assert_eq!((error.kind, error.to_string()), (kind, expected));
    }
}

#[tokio::test]
async fn a_store_comes_before_the_files_own_entries() {
    let file = r#"{"credsStore": "fake", "auths": {"a.example": {"auth": "ZmlsZTpwdw=="}, "docker.io": {"auth": "ZmlsZTpwdw=="}}}"#;
    let home = Home::with(&[(".docker/config.json", file)]);
    for (repository, expected) in
        [("busybox", Some("by-helper:hs")), ("a.example/x", Some("file:pw")), ("b.example/x", None)]
    {
        assert_eq!(home.find(&[], repository).await.unwrap().as_deref(), expected, "{repository}");
    }
}

#[tokio::test]
async fn order_of_the_files() {
    let entry = |number: &str| {
        format!(r#"{{"auths": {{"r.example": {{"username": "u", "password": "{number}"}}}}}}"#)
    };
    let paths = [
        "named",
        "config/config.json",
        ".docker/config.json",
        "run/containers/auth.json",
        ".config/containers/auth.json",
    ];
    let variables =
        [("REGISTRY_AUTH_FILE", "named"), ("DOCKER_CONFIG", "config"), ("XDG_RUNTIME_DIR", "run")];
    for first in 0..paths.len() {
        let home = Home::with(&[("named", "{}")]);
        paths.iter().enumerate().skip(first).for_each(|(at, path)| home.write(path, &entry(&at.to_string())));
        let found = home.find(&variables, "r.example/x").await.unwrap();
        assert_eq!(found, Some(format!("u:{first}")), "{}", paths[first]);
    }
}

#[tokio::test]
async fn files_that_are_missing_or_broken() {
    let home = Home::with(&[(".docker/config.json", " \n")]);
    assert_eq!(home.find(&[("DOCKER_CONFIG", "nowhere")], "r.example/x").await.unwrap(), None);

    let named = home.find(&[("REGISTRY_AUTH_FILE", "nowhere")], "r.example/x").await.unwrap_err();
    let path = home.path("nowhere");
    assert_eq!(
        named.to_string(),
        format!("cannot use the credentials file {}: No such file or directory (os error 2)", path.display())
    );

    home.write(".docker/config.json", "{\"auths\": \"SECRET\"}");
    let broken = home.find(&[], "r.example/x").await.unwrap_err();
    let path = home.path(".docker/config.json");
    let expected = format!(
        "cannot use the credentials file {}: not a file of credentials (line 1, column 18)",
        path.display()
    );
    assert_eq!((broken.kind, broken.to_string()), (PlaceErrorKind::Denied, expected));
}

#[tokio::test]
async fn no_home_at_all() {
    let auth = DockerAuth::from_environment(&|_| None);
    assert_eq!(auth.find(&"r.example/x".parse().unwrap()).await.unwrap(), None);
}

#[test]
fn debug_shows_no_secret() {
    let credential = file::credential("u", "SECRET");
    assert_eq!(credential, Credential::Basic { user: "u".into(), password: Secret::new("SECRET") });
    assert!(!format!("{credential:?}").contains("SECRET"));
    let auth = DockerAuth::from_environment(&|name| (name == "HOME").then(|| "/h".into()));
    assert!(auth.files.contains(&Path::new("/h/.docker/config.json").to_owned()));
}
