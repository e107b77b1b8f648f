use super::*;

fn patterns(patterns: &[&str]) -> Patterns {
    Patterns::new(patterns).unwrap()
}

/// moby/patternmatcher's own table; the last column is true also where only a parent matches.
#[test]
fn single_patterns() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**/", "file", true),
        ("**", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**/file", "dir/dir/file", true),
        ("**/file*", "dir/dir/file.txt", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        ("dist/*.whl", "dist/p-2.4.0rc3.dev36+g08acad9-none-any.whl", true),
        ("**/", "sub/f", true),
        ("**/**/*.md", "top.md", true),
        ("**/top*.md", "x/y/top.md", true),
        ("m**/*.md", "m/n/x.md", true),
        ("m/*.md", "m/x.md", true),
        ("k[b-d]m", "kam", false),
        ("k.m", "km", false),
        ("k.m", "k.m", true),
        ("**/x/y", "x/y", true),
        ("**/x/y", "d/x/y", true),
        ("xyz/**", "xyz/f", true),
        ("x(y)z/f", "x(y)z/g", false),
        ("d/p-1.0+g1.whl", "d/p-1.0+g1.whl", true),
        ("*", "name", true),
        ("*e", "name", true),
        // What is below a match is meant as well.
        ("n*", "name/below", true),
        ("n*/b", "n/x/b", false),
        ("n*a*m*/f", "nxaxm/f", true),
        ("n*a*m*/f", "nxa/m/f", false),
        ("n*a?m*x", "nabaxmzzx", true),
        ("n[e-g]", "nc", false),
        ("n[^c]", "nc", false),
        ("n[^b-d]", "nc", false),
        ("n[^e-g]", "nc", true),
        ("n\\*b", "nb", false),
        ("n[^a][^a][^a]b", "n\u{263a}b", false),
        ("*[a-\u{3b6}]", "A", false),
        ("n?b", "n/b", false),
        ("n*b", "n/b", false),
        ("[\\-]", "-", true),
        ("[\\-n]", "n", true),
        ("[\\-n]", "a", false),
        ("[n\\-]", "z", false),
        ("a\\\\", "a\\", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("a?b", "a☺b", true),
        ("a[^a]b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("[a-ζ]*", "α", true),
        ("[\\]a]", "]", true),
        ("[x\\-]", "-", true),
        ("[!x]", "x", true),
        ("[!x]", "!", true),
        ("{a,b}", "a", false),
        ("foo/../bar", "bar", true),
        ("./foo/", "foo/x", true),
        ("  foo ", "foo", true),
        ("/foo", "foo", false),
        ("foo", "dir/foo", false),
        ("*.md", "dir/a.md", false),
        (".", "a", false),
        // What becomes of brackets, stars and backslashes in the expression.
        ("[*]a", "[]a", true),
        ("[*]a", "*a", false),
        ("\\d", "7", true),
        ("\\d", "d", false),
        ("[\\w]", "q", true),
        ("x*[[:digit:]]", "xy7", true),
        ("*^b", "b", true),
        ("*^b", "x^b", false),
        ("a[^b]c", "a/c", true),
    ] {
        assert_eq!(patterns(&[pattern]).matches(path), expected, "{pattern} {path}");
    }
    assert!(patterns(&["a?c"]).matches(b"a\xffc"));
    assert!(patterns(&["*.bin"]).matches(b"\xff\n.bin"));
    assert!(!patterns(&["**/x*"]).matches(b"a\nb/x"));
}

#[test]
fn exceptions() {
    let cases: [(&[&str], &str, bool); 15] = [
        (&[], "any/path", false),
        (&["docs/", "!docs/README.md"], "docs/README.md", false),
        (&["docs", "  !docs/a"], "docs/a", false),
        (&["docs", "!docs/a  "], "docs/a", false),
        (&["**", "!d/p-1.0+g1.whl"], "d/p-1.0+g1.whl", false),
        (&["**", "!util/docker/web"], "util/docker/web/foo", false),
        (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
        (&["**", "!dist/*.whl"], "dist/a-1+b.whl", false),
        (&["!a.go", "*.go"], "a.go", true),
        (&["*.go", "!a.go"], "a.go", false),
        (&["docs", "!docs/README.md"], "docs/README.md", false),
        (&["docs", "!docs/README.md"], "docs/a", true),
        (&["docs/*", "!docs/README.md"], "docs/README.md", false),
        (&["*", "!a", "!*.txt", "a/b/c"], "a/b/c/h.md", true),
        // A walk skips `!a` at `a`, so that what `a/b` says stands; asked for alone it would not.
        (&["a/b", "!a"], "a/b", true),
    ];
    for (list, path, expected) in cases {
        assert_eq!(patterns(list).matches(path), expected, "{list:?} {path}");
    }
}

#[test]
fn walking() {
    let patterns = patterns(&["**", "!a/b/g.txt", "!x*/*/k", "!logs/x"]);
    let root = Matches::default();
    let (a, in_a) = patterns.check("a", &root);
    let (b, in_b) = patterns.check("a/b", &in_a);
    assert_eq!(
        (a, b, patterns.check("a/b/g.txt", &in_b).0, patterns.check("a/b/h", &in_b).0),
        (true, true, false, true)
    );
    for (directory, expected) in [
        ("", true),
        ("a", true),
        ("a/b", true),
        ("a/b/g.txt", false),
        ("a/c", false),
        ("b", false),
        ("xy", true),
        ("xy/any", true),
        ("xy/any/k", false),
        ("logs", true),
    ] {
        assert_eq!(patterns.exceptions_below(directory), expected, "{directory}");
    }
}

/// Found by the fuzz target: such a byte is U+FFFD to an expression, but not to `filepath.Match`.
#[test]
fn names_that_are_no_utf_8_are_not_left_out() {
    let patterns = patterns(&["*\u{fffd}*/s", "**", "!*\u{fffd}/t"]);
    assert!(patterns.matches(b"a\xffb/s"));
    assert!(patterns.matches_below(b"a\xffb"));
    assert!(!patterns.matches(b"\xff/t"));
    assert!(patterns.exceptions_below(b"\xff"));
}

#[test]
fn including() {
    for (pattern, directory, expected) in [
        ("a/b/*.c", "a", true),
        ("a/b/*.c", "a/b", true),
        ("a/b/*.c", "a/c", false),
        ("a/**/x", "a/q/r", true),
        ("a/**/x", "b", false),
        ("**/x", "b", true),
        ("[ab]/x", "c", true),
        ("a", "a", false),
    ] {
        assert_eq!(patterns(&[pattern]).matches_below(directory), expected, "{pattern} {directory}");
    }
}

#[test]
fn bad_patterns() {
    for (text, message) in [
        ("a\n[\n", "bad pattern in line 2: \"[\""),
        ("!", "bad pattern in line 1: \"!\""),
        ("a\n! ", "bad pattern in line 2: \"!\""),
        ("[-]", "bad pattern in line 1: \"[-]\""),
        ("[-a]", "bad pattern in line 1: \"[-a]\""),
        ("[a-b-c]", "bad pattern in line 1: \"[a-b-c]\""),
        ("[^", "bad pattern in line 1: \"[^\""),
        ("[^bc", "bad pattern in line 1: \"[^bc\""),
        ("a[", "bad pattern in line 1: \"a[\""),
        ("# x\n\n  a\\ \n", "bad pattern in line 3: \"a\\\\\""),
        ("[]a]", "bad pattern in line 1: \"[]a]\""),
        ("[a-]", "bad pattern in line 1: \"[a-]\""),
        ("\\p", "bad pattern in line 1: \"\\\\p\""),
        ("[z-a]", "bad pattern in line 1: \"[z-a]\""),
    ] {
        assert_eq!(Patterns::parse_ignore_file(text.as_bytes()).unwrap_err().to_string(), message, "{text}");
    }
    assert_eq!(Patterns::new(["ok", "["]).unwrap_err().to_string(), "bad pattern: \"[\"");
}

#[test]
fn ignore_files() {
    let ignored =
        Patterns::parse_ignore_file("\u{feff}/top.txt\r\nd/\r\n./a/b\nlogs/../k.log\n!  d/keep\n".as_bytes());
    let ignored = ignored.unwrap();
    for (path, expected) in [
        ("top.txt", true),
        ("d", true),
        ("d/x", true),
        ("d/keep", false),
        ("a/b/c", true),
        ("k.log", true),
        ("a", false),
    ] {
        assert_eq!(ignored.matches(path), expected, "{path}");
    }
    assert!(ignored.has_exceptions() && !ignored.is_empty());
    assert!(Patterns::parse_ignore_file(b"\n# x\n").unwrap().is_empty());
}
