use std::os::unix::fs::symlink;

use ocib_image::PlaceError;
use tempfile::TempDir;

use super::*;

const FILE: &str = "registries.conf";

fn parsed(text: &str) -> Result<RegistryConfig, Error> {
    RegistryConfig::parse(FILE.as_ref(), text)
}

/// Names in the order in which they are asked; `!` marks the insecure ones.
fn sources(config: &RegistryConfig, name: &str) -> Vec<String> {
    let shown = |source: &PullSource| format!("{}{}", source.name, if source.is_insecure { "!" } else { "" });
    config.sources(&name.parse().unwrap()).unwrap().iter().map(shown).collect()
}

/// containers-registries.conf(5), "EXAMPLE".
const EXAMPLE: &str = r#"
unqualified-search-registries = ["example.com"]

[[registry]]
prefix = "example.com/foo"
insecure = false
blocked = false
location = "internal-registry-for-example.com/bar"

[[registry.mirror]]
location = "example-mirror-0.local/mirror-for-foo"

[[registry.mirror]]
location = "example-mirror-1.local/mirrors/foo"
insecure = true
"#;

#[test]
fn the_example_of_the_man_page() {
    let config = parsed(EXAMPLE).unwrap();
    let expected = [
        "example-mirror-0.local/mirror-for-foo/image:latest",
        "example-mirror-1.local/mirrors/foo/image:latest!",
        "internal-registry-for-example.com/bar/image:latest",
    ];
    assert_eq!(sources(&config, "example.com/foo/image:latest"), expected);
    assert_eq!(sources(&config, "example.com/food/image"), ["example.com/food/image"]);
    let why = "short names are completed as Docker does, with docker.io";
    let note = format!("{FILE}:2: `unqualified-search-registries` makes no difference: {why}");
    assert_eq!(config.notes(), [note]);
}

#[test]
fn prefixes_are_for_whole_parts_of_names() {
    for (name, prefix, expected) in [
        ("a.example/b/c", "a.example", Some(9)),
        ("a.example/b/c", "a.example/b", Some(11)),
        ("a.example/b/c", "a.example/b/c", Some(13)),
        ("a.example/b/c", "a.example/b/c/d", None),
        ("a.example/bc", "a.example/b", None),
        ("a.example:5000/b", "a.example", None),
        ("a.example:5000/b", "a.example:5000", Some(14)),
        ("a.example.org/b", "a.example", None),
        ("x.a.example/b", "*.a.example", Some(11)),
        ("y.x.a.example/b", "*.a.example", Some(13)),
        ("a.example/b", "*.a.example", None),
        ("xa.example/b", "*.a.example", None),
        ("x.a.example:5000/b", "*.a.example", None),
        ("x.a.example:5000/b", "*.a.example:5000", Some(16)),
        ("x.a.example.a.example/b", "*.a.example", Some(21)),
        ("evil.org/x.a.example/b", "*.a.example", None),
        ("x.a.example/b/c", "*.a.example/b", Some(13)),
    ] {
        assert_eq!(match_end(name, prefix), expected, "{name} {prefix}");
    }
}

#[test]
fn the_longest_prefix_and_its_location() {
    let config = parsed(
        r#"
        registry = [
            { location = "ab.example", insecure = true },
            { prefix = "ab.example/b", location = "b.example/x/" },
            { prefix = "ab.example/b/c/d", location = "d.example:5000/whole" },
            { prefix = "*.example", location = "caught.org" },
            { prefix = "*.kept.example" },
            { location = "x.tie" },
            { prefix = "*.tie", location = "first.org" },
        ]
        "#,
    )
    .unwrap();
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (name, expected) in [
        ("ab.example/x:1", "ab.example/x:1!".to_owned()),
        ("ab.example/b/c:1", "b.example/x/c:1".to_owned()),
        (&format!("ab.example/b/c:1@{digest}"), format!("b.example/x/c:1@{digest}")),
        ("ab.example/b/c/d", "d.example:5000/whole".to_owned()),
        ("ab.example/b/c/d:2", "d.example:5000/whole:2".to_owned()),
        ("ab.example/b/c/d/e", "d.example:5000/whole/e".to_owned()),
        ("z.example/b", "caught.org/b".to_owned()),
        ("z.kept.example/b", "z.kept.example/b".to_owned()),
        // Of the same length; containers/image takes the first in the order of bytes.
        ("x.tie/b", "first.org/b".to_owned()),
        ("docker.io/library/busybox", "docker.io/library/busybox".to_owned()),
    ] {
        assert_eq!(sources(&config, name), [expected], "{name}");
    }
    let secure = |name: &str| !config.is_insecure(&name.parse().unwrap());
    assert!(secure("ab.example/b/c") && secure("ab.example:5000/x") && !secure("ab.example/x"));
}

#[test]
fn mirrors_by_digest_or_by_tag() {
    let pinned = "a.example/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let own = "[[registry]]\nlocation = 'a.example'\n";
    let mirror = |host: &str, pulls: &str| {
        format!("[[registry.mirror]]\nlocation = '{host}'\npull-from-mirror = '{pulls}'\n")
    };
    let each = [
        own,
        &mirror("all.org", "all"),
        &mirror("digest.org", "digest-only"),
        &mirror("tag.org", "tag-only"),
    ]
    .concat();
    let pinned_only = format!("{own}mirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'm.org'\n");
    for (text, name, expected) in [
        (&each, "a.example/x", &["all.org", "tag.org", "a.example"][..]),
        (&each, pinned, &["all.org", "digest.org", "a.example"]),
        (&pinned_only, "a.example/x", &["a.example"]),
        (&pinned_only, pinned, &["m.org", "a.example"]),
    ] {
        let config = parsed(text).unwrap();
        let hosts = config.sources(&name.parse().unwrap()).unwrap();
        let hosts: Vec<_> = hosts.iter().map(|source| source.name.registry()).collect();
        assert_eq!(hosts, expected, "{text} {name}");
    }
}

#[test]
fn blocked_names_and_locations_that_make_no_name() {
    let config = parsed(
        "[[registry]]\nlocation = \"a.example/x\"\nblocked = true\n\n\
         [[registry]]\nprefix = \"a.example/y\"\nlocation = \"mirror/y\"\n",
    )
    .unwrap();
    for (name, expected) in [
        ("a.example/x/z:1", "a.example/x/z is blocked by registries.conf:1, with the prefix a.example/x"),
        (
            "a.example/y/z:1",
            "registries.conf:5 makes mirror/y/z:1 of a.example/y/z:1, expected HOST[:PORT]/PATH with a dot or a \
             port in the host",
        ),
    ] {
        let error = config.sources(&name.parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{name}");
    }
    let blocked = config.check(&"a.example/x".parse().unwrap()).unwrap_err();
    assert_eq!(PlaceError::from(blocked).kind, ocib_image::PlaceErrorKind::Refused);
    assert!(config.check(&"a.example/y".parse().unwrap()).is_ok());
}

#[test]
fn what_is_wrong_is_shown_at_its_place() {
    for (text, expected) in [
        ("a = 1\nb = = 2\n", "2:5: not TOML: extra `=`, expected nothing, in `b = = 2`"),
        (
            "[[registry]]\ninsecure = 'yes'\nlocation = 'a'",
            "2:12: this is of the type string, expected true or false, in `insecure = 'yes'`",
        ),
        (
            "[[registry]]\nlocation = 5",
            "2:12: this is of the type integer, expected a string, in `location = 5`",
        ),
        (
            "[registry]\nlocation = 'a'",
            "1:1: this is of the type table, expected tables, each under [[registry]], in `[registry]`",
        ),
        (
            "registry = ['a']",
            "1:13: this is of the type string, expected tables, each under [[registry]], in `registry = ['a']`",
        ),
        (
            "\n  [[registry]]\n  insecure = true",
            "2:3: this table has neither `prefix` nor `location`, expected one, in `[[registry]]`",
        ),
        (
            "[[registry]]\nprefix = 'a.example'",
            "1:1: this table has no `location`, which only a `prefix` like *.example.com can do without, in `[[registry]]`",
        ),
        (
            "[[registry]]\nlocation = 'https://a.example'",
            "2:12: this is a URL, expected HOST[:PORT][/PATH], in `location = 'https://a.example'`",
        ),
        ("[[registry]]\nlocation = '/'", "2:12: expected HOST[:PORT][/PATH], in `location = '/'`"),
        (
            "[[registry]]\nlocation = 'a'\n[[registry.mirror]]\ninsecure = true",
            "3:1: this mirror has no `location`, in `[[registry.mirror]]`",
        ),
        (
            "[[registry]]\nlocation = 'a'\npull-from-mirror = 'all'",
            "3:1: `pull-from-mirror` is for mirrors only, in `pull-from-mirror = 'all'`",
        ),
        (
            "[[registry]]\nlocation = 'a'\n[[registry.mirror]]\nlocation = 'b'\npull-from-mirror = 'never'",
            "5:20: expected \"all\", \"digest-only\" or \"tag-only\", in `pull-from-mirror = 'never'`",
        ),
        (
            "[[registry]]\nlocation = 'a'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'b'\npull-from-mirror = 'all'",
            "6:20: `pull-from-mirror` cannot stand beside the registry's `mirror-by-digest-only`, in `pull-from-mirror = 'all'`",
        ),
        (
            "[[registry]]\nlocation = 'a'\n[[registry]]\nprefix = 'b'\nlocation = 'a'\ninsecure = true",
            "3:1: a has another `insecure` in line 1, expected the same, in `[[registry]]`",
        ),
        (
            "[[registry]]\nlocation = 'a'\n[[registry]]\nprefix = 'b'\nlocation = 'a'\nblocked = true",
            "3:1: a has another `blocked` in line 1, expected the same, in `[[registry]]`",
        ),
        (
            "[registries.insecure]\nregistries = ['a.example']",
            "1:13: version 1 of the format, expected [[registry]] tables with `insecure` or `blocked`, in `[registries.insecure]`",
        ),
    ] {
        let error = parsed(text).unwrap_err();
        assert_eq!(error.to_string(), format!("{FILE}:{expected}"), "{text}");
    }
}

#[test]
fn what_makes_no_difference_is_noted() {
    let config = parsed(
        "short-name-mode = 'enforcing'\n[aliases]\na = 'b'\n[registries.search]\nregistries = ['x']\n\
         [[registry]]\nlocation = 'a'\ninsecrue = true\n[[registry]]\nprefix = 'a'\nlocation = 'b'\n",
    )
    .unwrap();
    let short = "makes no difference: short names are completed as Docker does, with docker.io";
    let expected = [
        format!("1: `short-name-mode` {short}"),
        format!("2: `aliases` {short}"),
        "4: `registries` makes no difference: its lists are those of version 1".to_owned(),
        "8: `insecrue` makes no difference: there is no such key".to_owned(),
        "9: this table makes no difference: the prefix a has its rule in line 6".to_owned(),
    ];
    assert_eq!(config.notes(), expected.map(|note| format!("{FILE}:{note}")));
    assert_eq!(config.rules.len(), 1);
}

fn rule(location: &str) -> String {
    format!("[[registry]]\nprefix = \"x.example\"\nlocation = \"{location}\"\n")
}

/// Where `x.example/a` is, by the files below a directory that stands for `/etc` and `~/.config`.
fn found(dir: &TempDir, named: Option<&str>) -> Result<String, String> {
    let named = named.map(|name| dir.path().join(name));
    let (user, system) = (dir.path().join("user"), dir.path().join("etc"));
    let places = Places::of(named.as_deref(), Some(&user), &system);
    let config = places.and_then(|places| RegistryConfig::read(&places));
    let config = config.map_err(|error| error.to_string().replace(&dir.path().display().to_string(), ""))?;
    Ok(sources(&config, "x.example/a").concat())
}

#[test]
fn files_by_their_precedence() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    assert_eq!(found(&dir, None).unwrap(), "x.example/a");
    let expected = |name: &str, host: &str, named: Option<&str>| {
        write(name, &rule(host));
        assert_eq!(found(&dir, named).unwrap(), format!("{host}/a"), "{name}");
    };
    expected("etc/containers/registries.conf", "system.org", None);
    expected("etc/containers/registries.conf.d/a.conf", "drop-in-a.org", None);
    expected("etc/containers/registries.conf.d/b.conf", "drop-in-b.org", None);
    expected("user/containers/registries.conf.d/0.conf", "user-drop-in.org", None);
    fs::remove_dir_all(dir.path().join("user")).unwrap();
    expected("user/containers/registries.conf", "user.org", None);
    expected("named.conf", "named.org", Some("named.conf"));
    expected("named/registries.conf.d/z.conf", "in-named.org", Some("named"));
    write("named/registries.conf.d/zz.conf.off", "not TOML");
    assert_eq!(found(&dir, Some("named")).unwrap(), "in-named.org/a");

    write("empty/certs.txt", "");
    let none = "it has neither registries.conf nor registries.conf.d nor certs.d";
    assert_eq!(
        found(&dir, Some("empty")).unwrap_err(),
        format!("cannot configure registries by /empty: {none}")
    );
    let missing = found(&dir, Some("missing.conf")).unwrap_err();
    assert_eq!(missing, "cannot read /missing.conf: No such file or directory (os error 2)");
    symlink(dir.path().join("named"), dir.path().join("link")).unwrap();
    assert_eq!(found(&dir, Some("link")).unwrap(), "in-named.org/a");
}

#[test]
fn a_variable_names_a_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("r.conf");
    fs::write(&path, rule("var.org")).unwrap();
    let environment = |name: &str| (name == "CONTAINERS_REGISTRIES_CONF").then(|| path.display().to_string());
    let config = RegistryConfig::find(None, &environment).unwrap();
    assert_eq!(sources(&config, "x.example/a"), ["var.org/a"]);
    assert!(config.certificates.iter().any(|place| place == Path::new("/etc/docker/certs.d")));
    let flag = RegistryConfig::find(Some("/dev/null".as_ref()), &environment).unwrap();
    assert_eq!(sources(&flag, "x.example/a"), ["x.example/a"]);
}

#[test]
fn insecure_hosts_are_named_with_their_ports() {
    for (host, expected) in [
        ("a.example", &["a.example:443", "a.example:80"][..]),
        ("a.example:5000", &["a.example:5000"]),
        ("[::1]", &["[::1]:443", "[::1]:80"]),
        ("[::1]:5000", &["[::1]:5000"]),
    ] {
        assert_eq!(with_ports(host), expected, "{host}");
    }
}

#[test]
fn certificates_that_cannot_be_used() {
    let dir = TempDir::new().unwrap();
    let own = dir.path().join("a.example:5000");
    fs::create_dir(&own).unwrap();
    let none = dir.path().join("none");
    let trust = |registry: &str| {
        let found = certificates::trust(&[none.clone(), dir.path().to_owned()], registry);
        let shown = found.map(|trust| trust.map(|trust| format!("{trust:?}")));
        shown.map_err(|error| error.to_string().replace(&own.display().to_string(), ""))
    };
    assert_eq!(trust("a.example"), Ok(None));
    assert_eq!(trust("a.example:5000").unwrap().unwrap(), "HostTrust { certificates: 0, identity: None }");
    let write = |name: &str| fs::write(own.join(name), "secret").unwrap();
    for (name, expected) in [
        ("a.key", "cannot use /a.key: its certificate a.cert is not beside it"),
        ("a.cert", "cannot use /a.cert: unexpected error: private key or certificate not found"),
        ("b.cert", "cannot use /b.cert: its key b.key is not beside it; certificates of CAs end with .crt"),
        ("b.key", "cannot use : it has 2 client certificates, expected one"),
        ("ca.crt", "cannot use /ca.crt: there is no certificate in PEM form"),
    ] {
        write(name);
        assert_eq!(trust("a.example:5000"), Err(expected.to_owned()), "{name}");
    }
}
