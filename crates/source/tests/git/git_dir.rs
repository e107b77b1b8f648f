//! The `.git` directory of `--keep-git-dir`.

use std::{fs, path::Path};

use ocib_testkit::git;

use crate::site::{Site, assert_same, commit, write_out};

/// Writes what `rest` means to `name`, for git to look at.
async fn written(site: &Site, rest: &str, name: &str) -> std::path::PathBuf {
    let root = site.dir.path().join(name);
    fs::create_dir(&root).unwrap();
    write_out(&site.files(rest).await, &root);
    root
}

fn log(root: &Path) -> String {
    git(root, &["log", "--format=%H %s %ct"])
}

#[tokio::test]
async fn git_takes_it_for_a_shallow_clone() {
    let site = Site::new();
    let work = site.dir.path().join("r");
    let main = git(&work, &["rev-parse", "main"]);
    let root = written(&site, "r.git?keep-git-dir", "out").await;
    assert_eq!(
        git(&root, &["status", "--porcelain=v2", "--branch"]),
        format!("# branch.oid {main}# branch.head (detached)\n")
    );
    assert_eq!(log(&root), format!("{} second 1700000000\n", main.trim()));
    assert_eq!(git(&root, &["fsck", "--full", "--strict"]), "");
    assert_eq!(git(&root, &["rev-parse", "refs/heads/main"]), main);
    assert_eq!(git(&root, &["rev-parse", "--is-shallow-repository"]), "true\n");
    assert_eq!(git(&root, &["remote", "get-url", "origin"]), format!("{}\n", site.server.url("r.git")));
    // It goes on from there as any clone.
    git(&root, &["fetch", "--quiet", "--unshallow", "origin"]);
    assert_eq!(log(&root).lines().count(), 2);
}

#[tokio::test]
async fn tags_and_commits_are_there_under_their_names() {
    let site = Site::new();
    let work = site.dir.path().join("r");
    let (light, heavy) = (git(&work, &["rev-parse", "light"]), git(&work, &["rev-parse", "heavy"]));
    let of = |rest: &str| format!("r.git?keep-git-dir=1&{rest}");
    let by_commit = format!("ref={}", light.trim());
    for (name, rest, refs) in [
        ("a", "ref=light", format!("{} refs/tags/light\n", light.trim())),
        ("b", "ref=heavy", format!("{} refs/tags/heavy\n", heavy.trim())),
        ("c", "branch=topic/one", format!("{} refs/heads/topic/one\n", light.trim())),
        ("d", &by_commit, String::new()),
    ] {
        let root = written(&site, &of(rest), name).await;
        assert_eq!(git(&root, &["for-each-ref", "--format=%(objectname) %(refname)"]), refs);
        assert_eq!(git(&root, &["rev-parse", "HEAD"]), light);
        assert_eq!(git(&root, &["status", "--porcelain"]), "");
        assert_eq!(git(&root, &["fsck", "--full", "--strict"]), "");
        // Its first commit has no history that could be missing.
        assert!(!root.join(".git/shallow").exists());
    }
}

#[tokio::test]
async fn its_bytes_do_not_depend_on_the_pack() {
    let site = Site::new();
    let url = site.server.url("r.git?keep-git-dir");
    let before = site.files("r.git?keep-git-dir").await;
    let served = site.server.repositories().join("r.git");
    git(&served, &["repack", "-a", "-d", "-F", "--quiet", "--depth=0", "--window=0"]);
    let config =
        ["-c", "core.compression=0", "repack", "-a", "-d", "-F", "--quiet", "--depth=0", "--window=0"];
    git(&served, &config);
    assert_same(&site.files("r.git?keep-git-dir").await, &before);
    assert!(before.contains_key(".git/index"), "{url}");
}

#[tokio::test]
async fn there_is_none_unless_it_is_asked_for() {
    let site = Site::new();
    for rest in ["r.git", "r.git?keep-git-dir=0", "r.git?keep-git-dir=1#:sub"] {
        let files = site.files(rest).await;
        assert!(!files.keys().any(|name| name.starts_with(".git")), "{rest}");
    }
}

#[tokio::test]
async fn urls_in_it_have_no_password() {
    let site = Site::new();
    let url = site.server.url("r.git?keep-git-dir").replace("http://", "http://me:hunter2@");
    let fetched = site.fetch_url(&url).await.unwrap();
    let files = crate::site::seen(fetched.tree).await;
    let config = String::from_utf8_lossy(&files[".git/config"].2).into_owned();
    assert!(config.contains(&format!("\turl = \"{}\"\n", site.server.url("r.git"))), "{config}");
    assert!(!config.contains("hunter2"));
}

#[tokio::test]
async fn submodules_have_their_commit_in_the_index() {
    let site = Site::new();
    let work = site.dir.path().join("r");
    let url = site.server.url("r.git");
    git(&work, &["submodule", "--quiet", "add", "--name", "s", &url, "s"]);
    commit(&work, "third");
    site.server.publish("outer", &work);
    let root = written(&site, "outer.git?keep-git-dir", "out").await;
    assert_eq!(git(&root, &["status", "--porcelain"]), "");
    assert!(root.join("s/README.md").exists() && !root.join("s/.git").exists());
}
