//! Pushing to a real registry, read back by other people's programs.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use ocib_image::Digest;
use ocib_testkit::{
    Noise, Registry, RegistryOptions, Scripted, ScriptedRegistry, require, rootfs, run_command, skopeo,
    verify_layout,
};

use crate::program::{Site, ended, set_mode, tag_digest};

const MODEL: &str = "FROM scratch\nCOPY model /models/\nENV MODEL=/models\n";

fn model() -> Site {
    let site = Site::new(MODEL);
    site.file("context/model/config.json", "{}\n");
    site.file("context/model/weights.bin", Noise::bytes(1, 700_000));
    site
}

fn skopeo_digest(image: &str) -> String {
    let format = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", image];
    skopeo(&format).trim().to_owned()
}

#[test]
fn stdout_is_the_pinned_references_and_skopeo_finds_them() {
    let registry = Registry::start(RegistryOptions::default());
    let site = model();
    let tag = format!("{}/team/model:1.0", registry.host());
    let done = site.built(&["--push", "-t", &tag]);
    let digest = skopeo_digest(&format!("docker://{tag}"));
    let pinned = format!("{}/team/model@{digest}", registry.host());
    assert_eq!(String::from_utf8(done.stdout).unwrap(), format!("{pinned}\n"));
    assert_eq!(site.leftovers(), Vec::<String>::new());

    let layout = site.path("layout");
    let target = format!("oci:{}:x", layout.display());
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{pinned}"), &target]);
    verify_layout(&layout);
    let shown: BTreeMap<_, _> = rootfs(&layout, "linux/amd64")
        .into_iter()
        .map(|(path, file)| (path, (file.to_string(), file.mtime)))
        .collect();
    let expected = [
        ("models", "d 0755 0:0 0"),
        ("models/config.json", "f 0644 0:0 3"),
        ("models/weights.bin", "f 0644 0:0 700000"),
    ];
    assert_eq!(shown, expected.map(|(path, file)| (path.to_owned(), (file.to_owned(), 0))).into());
}

#[test]
fn every_tag_is_moved_in_each_repository() {
    let registry = Registry::start(RegistryOptions::default());
    let site = model();
    let tag = |name: &str| format!("{}/{name}", registry.host());
    let tags = [tag("a:1"), tag("a:latest-ish"), tag("b/c"), tag("a:3")];
    let mut arguments = vec!["--push"];
    tags.iter().for_each(|tag| arguments.extend(["-t", tag]));
    let done = site.built(&arguments);
    let digest = done.digest();
    let pinned = |name: &str| format!("{}/{name}@{digest}", registry.host());
    assert_eq!(done.references(), [pinned("a"), pinned("b/c")]);
    for (repository, tag) in [("a", "1"), ("a", "latest-ish"), ("a", "3"), ("b/c", "latest")] {
        assert_eq!(tag_digest(&registry, repository, tag).as_deref(), Some(digest), "{repository}:{tag}");
    }
}

#[test]
fn what_is_there_is_not_sent_again() {
    let registry = Registry::start(RegistryOptions::default());
    let base = Site::new("FROM scratch\nCOPY f /base/\n");
    base.file("context/f", Noise::bytes(2, 500_000));
    let base_tag = format!("{}/app/base:1", registry.host());
    base.built(&["--push", "-t", &base_tag]);

    let site = Site::new(&format!("FROM {base_tag}\nCOPY --link g /app/\nLABEL a=b\n"));
    site.file("context/g", "g\n");
    let tag = format!("{}/app/final:1", registry.host());
    let first = site.built(&["--push", "-t", &tag]);
    let before = registry.requests();
    let second = site.built(&["--push", "-t", &tag]);
    assert_eq!(first.references(), second.references());
    let sent = registry.requests().since(&before);
    // The image that is there has a layer like the one that is made here: it is hashed first.
    let bodies = sent.uploads();
    assert!(bodies.is_empty(), "{bodies:?}");
    let manifests: Vec<_> = sent.with("PUT", "/manifests/");
    assert!(manifests.is_empty(), "{manifests:?}");
}

#[test]
fn tls_needs_the_registrys_ca() {
    let registry = Registry::start(RegistryOptions { tls: true, ..RegistryOptions::default() });
    let site = model();
    let tag = format!("{}/a:1", registry.host());
    let ca = registry.ca_pem().display().to_string();
    let done = site.built(&["--push", "-t", &tag, "--ca-file", &ca]);
    assert_eq!(tag_digest(&registry, "a", "1").as_deref(), Some(done.digest()));

    let other = format!("{}/b:1", registry.host());
    let said = site.refused(5, &["--quiet", "--push", "-t", &other]);
    let start = format!(
        "error[certificate-unknown]: GET {}/v2/ failed: the server's certificate is not trusted: invalid peer certificate: ",
        registry.url()
    );
    assert!(said.starts_with(&start), "{said}");
    assert_eq!(tag_digest(&registry, "b", "1"), None);

    let unverified = site.built(&["--push", "-t", &other, "--insecure-registry", &registry.host()]);
    assert_eq!(tag_digest(&registry, "b", "1").as_deref(), Some(unverified.digest()));
}

#[test]
fn credentials_come_from_auth_files() {
    let login = Some(("ada".to_owned(), "s3cret pass".to_owned()));
    let registry = Registry::start(RegistryOptions { login, ..RegistryOptions::default() });
    let site = model();
    let auths = |auth: &str| format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host());
    // `ada:s3cret pass` and `ada:wrong`, in base64.
    site.file("right/auth.json", auths("YWRhOnMzY3JldCBwYXNz"));
    site.file("docker/config.json", auths("YWRhOnMzY3JldCBwYXNz"));
    site.file("home/.docker/config.json", auths("YWRhOnMzY3JldCBwYXNz"));
    site.file("wrong/auth.json", auths("YWRhOndyb25n"));
    let push = |repository: &str, variables: &[(&str, &str)]| {
        let tag = format!("{}/{repository}:1", registry.host());
        let mut command = site.build(&["--quiet", "--push", "-t", &tag]);
        ended(command.envs(variables.iter().map(|(name, path)| (name, site.path(path)))))
    };
    for (repository, variables) in [
        ("a", [("REGISTRY_AUTH_FILE", "right/auth.json")]),
        ("b", [("DOCKER_CONFIG", "docker")]),
        ("c", [("HOME", "home")]),
    ] {
        let done = push(repository, &variables).done();
        assert_eq!(tag_digest(&registry, repository, "1").as_deref(), Some(done.digest()), "{repository}");
    }
    let help = "help: log in with `docker login`, `podman login` or `skopeo login`, or set REGISTRY_AUTH_FILE or \
                DOCKER_CONFIG\n";
    for (variables, user) in [(&[("REGISTRY_AUTH_FILE", "wrong/auth.json")][..], "ada"), (&[], "")] {
        let said = push("d", variables).failed(4);
        assert!(said.contains(" answered 401: UNAUTHORIZED: authentication required"), "{said}");
        assert!(said.ends_with(help), "{said}");
        assert!(!said.contains("wrong") && !said.contains("YWRh"), "{said} tells the password of {user:?}");
    }
    assert_eq!(tag_digest(&registry, "d", "1"), None);
}

/// Everything that a file can be, but for owners: those are 0:0 in the image, and here.
fn odd_files(site: &Site) {
    let root = site.path("context/tree");
    let long = |letter: &str, length: usize| letter.repeat(length);
    let (above_100, longest) = (long("n", 101), long("m", 255));
    let deep = format!("{}/{}/{}", long("d", 90), long("e", 200), long("f", 250));
    let files: [(&OsStr, &[u8]); 10] = [
        (OsStr::new("plain"), b"plain\n"),
        (OsStr::new("empty"), b""),
        (OsStr::new(&above_100), b"more than 100 bytes"),
        (OsStr::new(&longest), b"255 bytes"),
        (OsStr::new(&deep), b"more than 512 bytes in all"),
        (OsStr::from_bytes(b"caf\xe9/\xff\xfe"), b"not UTF-8"),
        (OsStr::new("日本語/käse 🧀"), b"not ASCII"),
        (OsStr::new(" spaces\tand\nlines "), b"odd"),
        (OsStr::new("-dash"), b"dash"),
        (OsStr::new("big"), &Noise::bytes(3, 3_000_001)),
    ];
    for (name, content) in files {
        site.file(root.join(name), content);
    }
    for directory in ["void", "void/inner", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for (name, mode) in [("plain", 0o640), ("empty", 0o4711), ("-dash", 0o444), ("tmp", 0o1777)] {
        set_mode(root.join(name), mode);
    }
    set_mode(root.join("void"), 0o700);
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, root.join(name)).unwrap();
    link("plain", "link");
    link("/nowhere/at/all", "dangling");
    link(&long("t", 300), "long-target");
    fs::hard_link(root.join("big"), root.join("also-big")).unwrap();
    fs::hard_link(root.join("big"), root.join("void/big too")).unwrap();
    for (name, attribute, value) in [
        ("plain", "user.text", "value with spaces"),
        ("plain", "user.binary", "0x00ff0a3d"),
        ("void", "user.on-a-directory", "yes"),
    ] {
        let mut set = Command::new(require("setfattr", "attr"));
        run_command(set.args(["-n", attribute, "-v", value]).arg(root.join(name)));
    }
}

/// What is there, as sorted lines that tests can compare.
fn listing(root: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    let mut inodes: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else {
            inodes.entry(metadata.ino()).or_default().push(name.clone());
            Digest::of(&fs::read(&path).unwrap()).to_string()
        };
        lines.push(format!("{name}: {:o} {}:{} {content}", metadata.mode(), metadata.uid(), metadata.gid()));
    }
    for mut group in inodes.into_values().filter(|group| group.len() > 1) {
        group.sort();
        lines.push(format!("one file: {group:?}"));
    }
    let mut attributes = Command::new(require("getfattr", "attr"));
    attributes.args(["-R", "-h", "-d", "-e", "hex", "-m", "^user[.]", "."]).current_dir(root);
    lines.extend(run_command(&mut attributes).split("\n\n").map(|file| format!("attributes: {file}")));
    lines.sort();
    lines
}

#[test]
fn umoci_unpacks_the_very_files_that_were_copied() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("FROM scratch\nCOPY tree /tree/\n");
    odd_files(&site);
    let expected = listing(&site.path("context/tree"));
    assert!(expected.iter().any(|line| line == r#"one file: ["also-big", "big", "void/big too"]"#));
    // Debian's umoci does not know zstd.
    for codec in ["none", "gzip", "auto"] {
        let tag = format!("{}/odd:{codec}", registry.host());
        site.built(&["--push", "--compression", codec, "-t", &tag]);
        let files = site.unpacked(&format!("docker://{tag}"), "amd64");
        assert_eq!(listing(&files.join("tree")), expected, "{codec}");
    }
}

#[test]
fn gnu_tar_reads_the_layers() {
    let site = Site::new("FROM scratch\nCOPY tree /tree/\n");
    odd_files(&site);
    let expected = listing(&site.path("context/tree"));
    require("zstd", "zstd");
    for (codec, flag) in [("none", "--no-auto-compress"), ("gzip", "--gzip"), ("zstd", "--zstd")] {
        let layout = site.path(format!("layout-{codec}"));
        let output = format!("type=oci,tar=false,dest={}", layout.display());
        site.built(&["--compression", codec, "-o", &output]);
        verify_layout(&layout);
        let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
        let layer = blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        let out = site.path(format!("out-{codec}"));
        fs::create_dir(&out).unwrap();
        let mut tar = Command::new(require("tar", "tar"));
        tar.args(["-xp", flag, "--xattrs", "--xattrs-include=user.*", "-f"]).arg(layer);
        run_command(tar.current_dir(&out));
        assert_eq!(listing(&out.join("tree")), expected, "{codec}");
    }
}

/// As distribution 2.8 does while somebody else pushes the same blob. One that is really missing is told at once.
#[test]
fn a_blob_that_a_registry_does_not_find_for_a_moment_is_no_failure() {
    const UNKNOWN: &str =
        r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    // Refused twice, and then the digest and the tag.
    for (is_there, expected) in [(true, (0, 4)), (false, (5, 1))] {
        let puts: &'static AtomicUsize = Box::leak(Box::default());
        let registry = ScriptedRegistry::start(move |method, target, _| {
            let is_named = target.contains("/manifests/");
            let is_refused = || puts.fetch_add(1, Ordering::SeqCst) < 2;
            match method {
                "PUT" if is_named && is_refused() => {
                    Scripted::Answer { status: 400, headers: Vec::new(), body: UNKNOWN.to_owned() }
                }
                "HEAD" if !is_named && is_there && puts.load(Ordering::SeqCst) > 0 => {
                    Scripted::Answer { status: 200, headers: Vec::new(), body: String::new() }
                }
                _ => Scripted::Usual,
            }
        });
        let site = model();
        let done = ended(&mut site.build(&["--push", "-t", &format!("{}/a:1", registry.host())]));
        assert_eq!((done.code(), puts.load(Ordering::SeqCst)), (Some(expected.0), expected.1), "{done:?}");
    }
}
