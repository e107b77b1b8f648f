use super::*;

fn parsed(text: &str) -> Option<GitReference> {
    GitReference::parse(text).unwrap()
}

#[test]
fn what_is_a_repository() {
    use GitTransport::{Git, Http, Https, Ssh};
    // The first rows are BuildKit's own (dfgitutil/git_ref_test.go).
    for (text, expected) in [
        ("https://example.com/", None),
        ("https://example.com/foo", None),
        ("https://example.com/foo.git", Some((Https, "https://example.com/foo.git", "", ""))),
        (
            "https://example.com/foo.git#deadbeef",
            Some((Https, "https://example.com/foo.git", "deadbeef", "")),
        ),
        (
            "https://example.com/foo.git#release/1.2",
            Some((Https, "https://example.com/foo.git", "release/1.2", "")),
        ),
        ("https://example.com/foo.git/", None),
        ("https://example.com/foo.git.bar", None),
        ("git://example.com/foo", Some((Git, "git://example.com/foo", "", ""))),
        ("github.com/moby/buildkit", Some((Https, "https://github.com/moby/buildkit", "", ""))),
        ("github.com/moby/buildkit#v1:x", Some((Https, "https://github.com/moby/buildkit", "v1", "x"))),
        ("custom.xyz/moby/buildkit.git", None),
        ("https://github.com/moby/buildkit", None),
        (
            "https://foo:bar@github.com/moby/buildkit.git",
            Some((Https, "https://foo:bar@github.com/moby/buildkit.git", "", "")),
        ),
        ("git@github.com:moby/buildkit", Some((Ssh, "git@github.com:moby/buildkit", "", ""))),
        ("git@bitbucket.org:a/b.git#x", Some((Ssh, "git@bitbucket.org:a/b.git", "x", ""))),
        (
            "https://github.com/foo/bar.git#baz/qux:quux/quuz",
            Some((Https, "https://github.com/foo/bar.git", "baz/qux", "quux/quuz")),
        ),
        ("http://github.com/docker/docker.git:#branch", None),
        (
            "https://github.com/docker/docker.git#:myfolder",
            Some((Https, "https://github.com/docker/docker.git", "", "myfolder")),
        ),
        ("./.git", None),
        ("../a:b", None),
        (".git", None),
        ("ssh://git@h:22/a/b", Some((Ssh, "ssh://git@h:22/a/b", "", ""))),
        ("HTTP://h/a.git", Some((Http, "HTTP://h/a.git", "", ""))),
        ("https://h/a%2Egit", Some((Https, "https://h/a%2Egit", "", ""))),
        ("https://h/%zz.git", None),
        ("https://h/a.git?ref=b%2Fc&subdir=%2Fd+e", Some((Https, "https://h/a.git", "b/c", "/d e"))),
        ("https://h/a.git?tag=v1", Some((Https, "https://h/a.git", "refs/tags/v1", ""))),
        ("https://h/a.git?tag=refs/tags/v1", Some((Https, "https://h/a.git", "refs/tags/v1", ""))),
        ("https://h/a.git?branch=x", Some((Https, "https://h/a.git", "refs/heads/x", ""))),
        ("https://h/a.git?ref=x#x:y", Some((Https, "https://h/a.git", "x", "y"))),
        ("https://h/a.git?commit=abc", Some((Https, "https://h/a.git", "abc", ""))),
        ("https://h/a.git?mtime=commit&fetch-by-commit=1", Some((Https, "https://h/a.git", "", ""))),
        ("host:path", Some((Ssh, "host:path", "", ""))),
        ("1.2.3.4:/p", Some((Ssh, "1.2.3.4:/p", "", ""))),
        ("host:/path", None),
        ("host:", None),
        ("a b@host:path", None),
        ("a/b:c", None),
        ("file:///a.git", None),
        ("s3://b/a.git", None),
        ("", None),
    ] {
        let git = parsed(text);
        let actual = git.as_ref().map(|git| {
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            (git.transport, git.remote().to_owned(), part(&git.reference), part(&git.subdir))
        });
        let expected = expected.map(|(transport, remote, reference, subdir)| {
            (transport, remote.to_owned(), reference.to_owned(), subdir.to_owned())
        });
        assert_eq!(actual, expected, "{text}");
    }
}

#[test]
fn options_of_the_query() {
    for (query, expected) in [
        ("", (None, None, None)),
        ("keep-git-dir", (Some(true), None, None)),
        ("keep-git-dir=&submodules=0", (Some(true), Some(false), None)),
        ("keep-git-dir=False&submodules=T", (Some(false), Some(true), None)),
        ("checksum=abc&ref=main", (None, None, Some("abc"))),
    ] {
        let git = parsed(&format!("https://h/a.git?{query}")).unwrap();
        let actual = (git.keep_git_dir, git.submodules, git.checksum.as_deref());
        assert_eq!(actual, expected, "{query}");
    }
}

#[test]
fn options_that_are_refused() {
    for (rest, why) in [
        ("?foo=bar", "unexpected query \"foo\""),
        ("?ref", "query \"ref\" has no value"),
        ("?foo", "query \"foo\" has no value"),
        ("?subdir=", "query \"subdir\" has no value"),
        ("?ref=a&ref=a", "query \"ref\" has multiple values"),
        ("?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
        ("?subdir=a#:b", "subdir conflicts: \"b\" vs \"a\""),
        ("?tag=a#b", "ref conflicts: \"b\" vs \"refs/tags/a\""),
        ("?tag=a&branch=a", "branch conflicts with tag"),
        ("?commit=a&checksum=b", "checksum conflicts: \"b\" vs \"a\""),
        ("?keep-git-dir=yes", "invalid keep-git-dir value: \"yes\""),
        ("?submodules=2", "invalid submodules value: \"2\""),
        ("?fetch-by-commit=x", "invalid fetch-by-commit value: \"x\""),
        ("?mtime=now", "invalid mtime value: \"now\""),
        (
            "?mtime=checkout",
            "mtime=checkout is the time of the build, which is never in an image, expected mtime=commit",
        ),
        ("?ref=%zz", "its query is not encoded as URLs are"),
    ] {
        let error = GitReference::parse(&format!("https://me:pw@h/a.git{rest}")).unwrap_err();
        assert_eq!(error.to_string(), format!("https://h/a.git is not a git reference: {why}"), "{rest}");
    }
}

#[test]
fn the_same_over_https() {
    for (text, expected) in [
        ("git@github.com:moby/buildkit", "https://github.com/moby/buildkit.git"),
        ("ssh://git@h:22/a/b.git#x", "https://h/a/b.git"),
        ("git://h/a", "https://h/a.git"),
        ("git@h:/a/", "https://h/a.git"),
    ] {
        assert_eq!(parsed(text).unwrap().https_form(), expected, "{text}");
    }
}

#[test]
fn users_and_passwords_are_not_shown() {
    for (text, expected) in [
        ("https://me:p@w@h/a.git?subdir=b", "https://h/a.git#:b"),
        ("https://token@h:1/a@b.git#v1", "https://h:1/a@b.git#v1"),
        ("git@h:a", "git@h:a"),
    ] {
        let git = parsed(text).unwrap();
        assert_eq!(git.to_string(), expected);
        for secret in ["me:", "p@w", "token"] {
            assert!(!format!("{git:?}").contains(secret), "{git:?}");
        }
    }
}
