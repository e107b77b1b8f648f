//! Who may be asked, and who is told what.

use std::fs;

use ocib_image::PlaceErrorKind;
use ocib_testkit::{GitServer, GitServerOptions, git};

use crate::site::{Site, commit};

/// `x-access-token:token`.
const TOKEN: &str = "Basic eC1hY2Nlc3MtdG9rZW46dG9rZW4=";

fn guarded(authorization: &str, variables: &[(&str, &str)]) -> Site {
    let authorization = Some(authorization.to_owned());
    let site = Site::with(GitServerOptions { authorization, ..GitServerOptions::default() }, variables);
    publish(&site.server, &site);
    site
}

fn publish(server: &GitServer, site: &Site) {
    git(site.dir.path(), &["init", "--quiet", "r"]);
    let work = site.dir.path().join("r");
    fs::write(work.join("a"), "a").unwrap();
    commit(&work, "one");
    server.publish("r", &work);
}

#[tokio::test]
async fn credentials_go_where_they_belong() {
    for (wanted, variables, user) in [
        (TOKEN, &[("GIT_AUTH_TOKEN", "token")][..], ""),
        (TOKEN, &[("GIT_AUTH_TOKEN.127.0.0.1", "token"), ("GIT_AUTH_TOKEN", "other")], ""),
        ("Bearer x", &[("GIT_AUTH_HEADER", "Bearer x"), ("GIT_AUTH_TOKEN", "token")], ""),
        ("Basic bWU6cHc=", &[("GIT_AUTH_TOKEN", "token")], "me:pw@"),
    ] {
        let site = guarded(wanted, variables);
        let url = site.server.url("r.git").replace("http://", &format!("http://{user}"));
        let fetched = site.fetch_url(&url).await.unwrap();
        assert_eq!(fetched.tree.display(b"a"), format!("a in {}", site.server.url("r.git")));
        assert!(site.server.requests().iter().all(|request| request.authorization == wanted));
        assert!(!site.notes.all().join("\n").contains("pw"));
    }
}

#[tokio::test]
async fn the_wrong_ones_are_denied_and_not_shown() {
    let site = guarded(TOKEN, &[("GIT_AUTH_TOKEN", "hunter2")]);
    let url = site.server.url("r.git").replace("http://", "http://me:hunter2@");
    for url in [url, site.server.url("r.git")] {
        let error = site.fetch_url(&url).await.unwrap_err();
        assert_eq!(error.kind, PlaceErrorKind::Denied);
        assert_eq!(
            error.to_string().replace(site.server.origin(), "http://server"),
            "GET http://server/r.git/info/refs?service=git-upload-pack answered 401: who are you?"
        );
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let site = Site::with(GitServerOptions::default(), &[]);
    publish(&site.server, &site);
    let redirect = Some(site.server.origin().to_owned());
    let options = GitServerOptions { redirect, ..GitServerOptions::default() };
    let front = Site::with(options, &[("GIT_AUTH_TOKEN", "token")]);
    let fetched = front.fetch("r.git").await.unwrap();
    assert_eq!(fetched.tree.list(b"").unwrap(), [Box::from(&b"a"[..])]);
    let asked = front.server.requests();
    assert_eq!(asked.iter().map(|request| &*request.authorization).collect::<Vec<_>>(), [TOKEN]);
    let lines: Vec<String> = site.server.requests().into_iter().map(|request| request.line).collect();
    let post = "POST /r.git/git-upload-pack?";
    assert_eq!(lines, ["GET /r.git/info/refs?service=git-upload-pack", post, post]);
    assert!(site.server.requests().iter().all(|request| request.authorization.is_empty()));
}

#[tokio::test]
async fn a_submodule_elsewhere_gets_no_credentials() {
    let other = Site::with(GitServerOptions::default(), &[]);
    publish(&other.server, &other);
    let site = guarded(TOKEN, &[("GIT_AUTH_TOKEN", "token")]);
    let work = site.dir.path().join("r");
    let url = other.server.url("r.git");
    git(&work, &["submodule", "--quiet", "add", "--name", "s", &url, "s"]);
    commit(&work, "two");
    site.server.publish("outer", &work);
    let asked = other.server.requests().len();
    let files = site.files("outer.git").await;
    assert!(files.contains_key("s/a"));
    let requests = other.server.requests().split_off(asked);
    assert!(requests.iter().all(|request| request.authorization.is_empty()), "{requests:?}");
    // A commit is asked for by its name, so there is no list of branches.
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn places_that_are_not_asked() {
    let site = Site::with(GitServerOptions::default(), &[]);
    for (url, kind, expected) in [
        (
            "git@github.com:o/r.git#main",
            PlaceErrorKind::Input,
            "git@github.com:o/r.git#main cannot be fetched: git is spoken over https only, expected \
             https://github.com/o/r.git",
        ),
        (
            "git://h/r",
            PlaceErrorKind::Input,
            "git://h/r cannot be fetched: git is spoken over https only, expected https://h/r.git",
        ),
        (
            "http://git.example/r.git",
            PlaceErrorKind::Refused,
            "http://git.example/r.git/info/refs?service=git-upload-pack is not asked: plain http is for loopback and for hosts \
             named insecure, expected https",
        ),
        (
            "http://me:pw@git.example/r.git",
            PlaceErrorKind::Refused,
            "http://git.example/r.git has a user, whose password is not sent over plain http, expected https",
        ),
        (
            "https://169.254.169.254/r.git",
            PlaceErrorKind::Refused,
            "https://169.254.169.254/r.git/info/refs?service=git-upload-pack is not fetched: its host is the link-local address \
             169.254.169.254",
        ),
        (
            "https://[/r.git",
            PlaceErrorKind::Input,
            "https://[/r.git cannot be fetched: it is no URL, expected one",
        ),
    ] {
        let error = site.fetch_url(url).await.unwrap_err();
        assert_eq!((error.kind, &*error.to_string()), (kind, expected), "{url}");
    }
}

#[tokio::test]
async fn nowhere_to_write_is_said() {
    let site = Site::new();
    fs::remove_dir_all(site.dir.path()).unwrap();
    let scratch = site.dir.path().display();
    assert_eq!(
        site.refused("r.git").await,
        format!(
            "http://server/r.git cannot be spooled to {scratch}: No such file or directory (os error 2), expected \
             room in a directory that can be written (--scratch-dir)"
        )
    );
}
