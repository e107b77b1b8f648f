//! Repositories in repositories.

use std::{fs, path::Path};

use ocib_testkit::{GitServerOptions, git};

use crate::site::{Site, assert_same, checked_out, commit};

fn add(work: &Path, url: &str, path: &str) {
    git(work, &["submodule", "--quiet", "add", "--name", path, url, path]);
}

/// `outer` has `middle` in a directory, which has `inner`.
fn nested() -> Site {
    let site = Site::with(GitServerOptions::default(), &[]);
    for name in ["inner", "middle", "outer"] {
        git(site.dir.path(), &["init", "--quiet", name]);
        let work = site.dir.path().join(name);
        fs::write(work.join(name), name).unwrap();
        match name {
            "middle" => add(&work, &site.server.url("inner.git"), "deep/inner"),
            "outer" => {
                add(&work, &site.server.url("middle.git"), "libs/middle");
                git(
                    &work,
                    &["config", "--file", ".gitmodules", "submodule.libs/middle.url", "../middle.git"],
                );
            }
            _ => {}
        }
        commit(&work, "one");
        site.server.publish(name, &work);
    }
    site
}

#[tokio::test]
async fn submodules_are_there_with_theirs() {
    let site = nested();
    let url = site.server.url("outer.git");
    git(site.dir.path(), &["clone", "--quiet", "--recurse-submodules", &url, "clone"]);
    let expected = checked_out(&site.dir.path().join("clone"));
    assert!(expected.contains_key("libs/middle/deep/inner/inner"));
    let all = site.files("outer.git").await;
    assert_same(&all, &expected);
    let inner = site.files("outer.git#:libs/middle/deep/inner").await;
    assert_eq!(inner.keys().collect::<Vec<_>>(), ["inner"]);
}

#[tokio::test]
async fn submodules_can_be_left_out() {
    let site = nested();
    git(site.dir.path(), &["clone", "--quiet", &site.server.url("outer.git"), "clone"]);
    let expected = checked_out(&site.dir.path().join("clone"));
    assert_same(&site.files("outer.git?submodules=false").await, &expected);
    let work = site.dir.path().join("outer");
    git(&work, &["config", "--file", ".gitmodules", "submodule.libs/middle.update", "none"]);
    commit(&work, "two");
    site.server.publish("none", &work);
    assert_eq!(site.files("none.git").await.keys().filter(|name| name.starts_with("libs/")).count(), 1);
}

#[tokio::test]
async fn submodules_that_cannot_be_had_are_said() {
    let site = nested();
    let rest = "expected ?submodules=false to leave submodules out";
    for (name, url, expected) in [
        (
            "ssh",
            "git@github.com:o/r.git",
            format!(
                "http://server/ssh.git: submodule libs/middle: git@github.com:o/r.git#OID cannot be fetched: git is \
                 spoken over https only, expected https://github.com/o/r.git, {rest}"
            ),
        ),
        (
            "file",
            "file:///srv/r.git",
            format!(
                "http://server/file.git: submodule libs/middle: its url leads to no place of repositories, {rest}"
            ),
        ),
        (
            "above",
            "../../../r.git",
            format!(
                "http://server/above.git: submodule libs/middle: its url leads to no place of repositories, {rest}"
            ),
        ),
        (
            "gone",
            "../gone2.git",
            "GET http://server/gone2.git/info/refs?service=git-upload-pack answered 404".to_owned(),
        ),
    ] {
        let work = site.dir.path().join("outer");
        git(&work, &["config", "--file", ".gitmodules", "submodule.libs/middle.url", url]);
        commit(&work, name);
        site.server.publish(name, &work);
        let oid = git(&work, &["rev-parse", "HEAD:libs/middle"]);
        assert_eq!(site.refused(&format!("{name}.git")).await, expected.replace("OID", oid.trim()));
    }
    let work = site.dir.path().join("outer");
    fs::write(work.join(".gitmodules"), "").unwrap();
    commit(&work, "nothing");
    site.server.publish("nothing", &work);
    let expected = format!(
        "http://server/nothing.git: submodule libs/middle: no url found for it in .gitmodules, {rest}"
    );
    assert_eq!(site.refused("nothing.git").await, expected);
}

#[tokio::test]
async fn a_repository_in_itself_has_an_end() {
    let site = Site::with(GitServerOptions::default(), &[]);
    git(site.dir.path(), &["init", "--quiet", "loop"]);
    let work = site.dir.path().join("loop");
    fs::write(work.join("a"), "a").unwrap();
    let mut oid = commit(&work, "0");
    // Each commit has the one before as a submodule.
    for depth in 1..12 {
        fs::write(work.join(".gitmodules"), "[submodule \"s\"]\npath = s\nurl = ../loop.git\n").unwrap();
        git(&work, &["update-index", "--add", "--cacheinfo", &format!("160000,{oid},s")]);
        git(&work, &["add", ".gitmodules"]);
        git(&work, &["commit", "--quiet", "--message", &depth.to_string()]);
        oid = git(&work, &["rev-parse", "HEAD"]).trim().to_owned();
    }
    site.server.publish("loop", &work);
    let error = site.refused("loop.git").await;
    assert_eq!(
        error,
        "http://server/loop.git: it is refused: submodules within each other past the limit of 8"
    );
}
