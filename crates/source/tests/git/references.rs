//! What a reference means.

use ocib_testkit::git;

use crate::site::{Site, assert_same, checked_out, commit};

#[tokio::test]
async fn every_file_is_what_git_checks_out() {
    let site = Site::new();
    git(site.dir.path(), &["clone", "--quiet", &site.server.url("r.git"), "clone"]);
    let expected = checked_out(&site.dir.path().join("clone"));
    assert!(expected.len() > 50);
    assert_same(&site.files("r.git").await, &expected);
    let url = site.server.url("r.git");
    let notes = site.notes.all();
    assert_eq!(notes.len(), 2, "{notes:?}");
    let scratch = site.dir.path().display();
    assert_eq!(notes[0], format!("{url} cannot be read twice: it is written to {scratch}"));
    let bytes = notes[1].strip_suffix(&format!(" bytes written for {url}")).unwrap();
    assert!(bytes.parse::<u64>().unwrap() > 5_000_000, "{bytes}");
    assert_eq!(site.server.requests().len(), 3 + 3, "git's, then ours: a service, its branches, a pack");
}

#[tokio::test]
async fn references_of_all_kinds() {
    let site = Site::new();
    let work = site.dir.path().join("r");
    let oid = |name: &str| git(&work, &["rev-parse", name]).trim().to_owned();
    let (first, second, tag) = (oid("light"), oid("main"), oid("heavy"));
    for (reference, is_first) in [
        ("#main", false),
        ("#refs/heads/main", false),
        ("#heads/main", false),
        ("?branch=main", false),
        ("#topic/one", true),
        ("#light", true),
        ("#heavy", true),
        ("#heavier", true),
        ("#tags/heavy", true),
        ("?tag=heavy", true),
        (&format!("#{first}"), true),
        (&format!("#{second}"), false),
        (&format!("#{tag}"), true),
        (&format!("?ref=main&commit={second}"), false),
        (&format!("?ref=main&commit={}", &second[..7]), false),
        (&format!("?ref=heavy&checksum={first}"), true),
        (&format!("?ref=heavy&checksum={tag}"), true),
        (&format!("?checksum={first}"), true),
    ] {
        let files = site.files(&format!("r.git{reference}")).await;
        let expected = if is_first { "first\n" } else { "second\n" };
        assert_eq!(String::from_utf8_lossy(&files["README.md"].2), expected, "{reference}");
        assert_eq!(files.len() == 1, is_first, "{reference}");
    }
}

#[tokio::test]
async fn references_that_lead_nowhere() {
    let site = Site::new();
    let work = site.dir.path().join("r");
    let oid = |name: &str| git(&work, &["rev-parse", name]).trim().to_owned();
    let (first, main, tag, tree) = (oid("light"), oid("main"), oid("heavy"), oid("main^{tree}"));
    let absent = "1234567890123456789012345678901234567890";
    for (reference, expected) in [
        ("#nowhere", "repository does not contain ref nowhere".to_owned()),
        (
            &*format!("#{}", &first[..7]),
            format!(
                "repository does not contain ref {}, and a commit is named by all 40 digits",
                &first[..7]
            ),
        ),
        (&format!("#{absent}"), format!("the server refused: upload-pack: not our ref {absent}")),
        (&format!("#{tree}"), format!("object {tree} is broken: it leads to no commit, as it must")),
        ("?ref=main&commit=abcdef", format!("expected checksum to match abcdef, got {main}")),
        ("?ref=heavy&commit=abcdef", format!("expected checksum to match abcdef, got {tag} or {first}")),
        (
            &format!("?ref={tag}&commit=abcdef"),
            format!("expected checksum to match abcdef, got {tag} or {first}"),
        ),
        ("?ref=main&commit=v1", "invalid checksum v1 for Git URL, expected hex commit hash".to_owned()),
        ("#:nowhere", "failed to open subdir nowhere: there is no such directory".to_owned()),
        ("#:README.md", "failed to open subdir README.md: it is no directory".to_owned()),
        ("#:..", "failed to open subdir ..: it leads out of the repository".to_owned()),
        ("#:sub/../..", "failed to open subdir sub/../..: it leads out of the repository".to_owned()),
        ("#:up", "failed to open subdir up: it leads out of the repository".to_owned()),
        ("#:sub/out", "failed to open subdir sub/out: it leads out of the repository".to_owned()),
        ("#:rooted", "failed to open subdir rooted: a link in it leads out of the repository".to_owned()),
    ] {
        let error = site.refused(&format!("r.git{reference}")).await;
        assert_eq!(error, format!("http://server/r.git: {expected}"), "{reference}");
    }
}

#[tokio::test]
async fn subdirectories() {
    let site = Site::new();
    let all = site.files("r.git").await;
    for (subdir, prefix) in [
        ("sub", "sub/"),
        ("/sub//dir/", "sub/dir/"),
        ("./sub/../sub/dir", "sub/dir/"),
        ("link", "sub/dir/"),
        ("link/..", "sub/"),
        (".", ""),
        ("/", ""),
    ] {
        let below =
            all.iter().filter_map(|(name, file)| Some((name.strip_prefix(prefix)?.to_owned(), file.clone())));
        assert_same(&site.files(&format!("r.git#:{subdir}")).await, &below.collect());
    }
}

#[tokio::test]
async fn repositories_without_a_branch_to_begin_with() {
    let site = Site::with(ocib_testkit::GitServerOptions::default(), &[]);
    git(site.server.repositories(), &["init", "--quiet", "--bare", "empty.git"]);
    git(site.dir.path(), &["init", "--quiet", "work"]);
    let work = site.dir.path().join("work");
    std::fs::write(work.join("a"), "a").unwrap();
    let oid = commit(&work, "one");
    let detached = site.server.publish("detached", &work);
    std::fs::write(detached.join("HEAD"), format!("{oid}\n")).unwrap();
    git(site.server.repositories(), &["init", "--quiet", "--bare", "--object-format=sha256", "other.git"]);
    let no_branch =
        "could not find default branch for repository, expected a branch, a tag or a commit after #";
    for (rest, expected) in [
        ("empty.git", format!("http://server/empty.git: {no_branch}")),
        ("detached.git", format!("http://server/detached.git: {no_branch}")),
        ("other.git", "http://server/other.git: its objects are named by sha256, expected sha1".to_owned()),
        ("none.git", "GET http://server/none.git/info/refs?service=git-upload-pack answered 404".to_owned()),
    ] {
        assert_eq!(site.refused(rest).await, expected);
    }
    assert_eq!(site.files(&format!("detached.git#{oid}")).await.len(), 1);
}
