//! `ocib model pull`: files out of images and artifacts, whatever happens on the way.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use ocib_testkit::{Fault, FaultProxy, Registry, RegistryOptions, RequestKind, require, safetensors_file};

use crate::{
    model::{assert_same_files, write_model},
    program::{Site, ended, names, signal, started, until, wait},
};

/// A site with a model of two shards, pushed as image, as a ModelPack of raw files and of tars.
fn pushed(registry: &Registry) -> Site {
    let site = Site::new("");
    write_model(&site, 2);
    site.file("model/sub/extra.json", "{\"a\":1}");
    let tag = format!("{}/model:1", registry.host());
    site.done(&["model", "build", "model", "-t", &tag, "--push", "--modelpack"]);
    site.done(&[
        "model",
        "build",
        "model",
        "-t",
        &tag,
        "--push",
        "--modelpack=raw",
        "--modelpack-tag",
        "raw",
    ]);
    site
}

#[test]
fn images_and_artifacts_give_the_files_back() {
    let registry = Registry::start(RegistryOptions::default());
    let site = pushed(&registry);
    for name in ["1", "1-modelpack", "raw"] {
        let reference = format!("{}/model:{name}", registry.host());
        site.done(&["model", "pull", &reference, name]);
        assert_same_files(&site.path("model"), &site.path(name));
        assert!(!site.path(name).join(".ocib-pull").exists());
        // Again: nothing but headers and what is compressed is fetched.
        let before = registry.requests();
        let again = site.done(&["model", "pull", &reference, name]);
        assert!(again.stderr.contains("is there already"), "{}", again.stderr);
        let bytes: u64 = registry.requests().since(&before).0.iter().map(|request| request.bytes).sum();
        assert!(bytes < 2 << 20, "{name}: {bytes} bytes were fetched again");
    }
}

#[test]
fn a_file_that_was_damaged_is_fetched_again() {
    let registry = Registry::start(RegistryOptions::default());
    let site = pushed(&registry);
    let reference = format!("{}/model:1", registry.host());
    site.done(&["model", "pull", &reference, "out"]);
    let path = site.path("out/model-00001-of-00002.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    bytes[500_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::remove_file(site.path("out/config.json")).unwrap();
    site.done(&["model", "pull", &reference, "out"]);
    assert_same_files(&site.path("model"), &site.path("out"));
}

#[test]
fn a_pull_that_was_killed_goes_on_and_shows_nothing_before() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    let bytes = 96 << 20;
    safetensors_file(&site.path("model/model.safetensors"), 1, bytes);
    site.file("model/config.json", "{}");
    let proxy = FaultProxy::start(&registry.host());
    site.done(&["model", "build", "model", "-t", &format!("{}/model:1", registry.host()), "--push"]);
    let reference = format!("{}/model:1", proxy.host());
    proxy.throttle(32 << 20);
    let arguments = ["model", "pull", &reference, "out", "--jobs", "1", "--quiet"];
    let mut child = started(&mut site.ocib(&arguments));
    until(&mut child, "a range is complete", || {
        let layers = fs::read_dir(site.path("out/.ocib-pull")).into_iter().flatten().flatten();
        layers
            .filter_map(|layer| fs::read_to_string(layer.path().join("ranges")).ok())
            .any(|text| !text.is_empty())
    });
    signal(&child, "KILL");
    wait(child);
    assert_eq!(names(&site.path("out")), [".ocib-pull"], "something looks complete");
    proxy.throttle(u64::MAX);
    let before = registry.requests();
    site.done(&arguments);
    assert_same_files(&site.path("model"), &site.path("out"));
    let ranges = registry.requests().since(&before);
    let whole = ranges.0.iter().filter(|request| request.method == "GET" && request.status == 206).count();
    assert!(whole >= 2, "ranges were asked for: {ranges:?}");
}

#[test]
fn a_connection_that_breaks_is_no_matter_and_wrong_bytes_are() {
    let registry = Registry::start(RegistryOptions::default());
    let site = pushed(&registry);
    let proxy = FaultProxy::start(&registry.host());
    let reference = format!("{}/model:1", proxy.host());
    for _ in 0..3 {
        proxy.inject_into(RequestKind::BlobGet, Fault::ResponseBody { after_bytes: 300_000 });
    }
    site.done(&["model", "pull", &reference, "out"]);
    assert_same_files(&site.path("model"), &site.path("out"));

    let hex = "model-00001-of-00002.safetensors";
    let layer = fs::read_dir(registry.storage().join("docker/registry/v2/blobs/sha256")).unwrap();
    let data = layer.flatten().flat_map(|dir| fs::read_dir(dir.path()).unwrap().flatten());
    let large: Vec<_> = data
        .map(|blob| blob.path().join("data"))
        .filter(|path| fs::metadata(path).unwrap().len() > 1 << 20)
        .collect();
    assert!(!large.is_empty(), "{hex}");
    for path in large {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let stderr = ended(&mut site.ocib(&["model", "pull", &reference, "other"])).failed(3);
    assert!(stderr.contains("cannot be unpacked: its bytes have another digest"), "{stderr}");
    assert_eq!(names(&site.path("other")), [".ocib-pull"]);
}

/// An archive made by Python, of entries `TYPE NAME CONTENT-OR-TARGET`.
fn archive(path: &Path, entries: &[(&str, &str, &str)]) {
    let script = "import io,sys,tarfile\n\
                  t=tarfile.open(sys.argv[1],'w')\n\
                  for line in sys.stdin.read().splitlines():\n  \
                    kind,name,rest=line.split('\\t')\n  i=tarfile.TarInfo(name)\n  \
                    i.type={'f':b'0','l':b'2','h':b'1'}[kind]\n  i.mode=0o644\n  \
                    data=rest.encode() if kind=='f' else b''\n  i.size=len(data)\n  \
                    i.linkname='' if kind=='f' else rest\n  t.addfile(i,io.BytesIO(data))\n\
                  t.close()\n";
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut python = Command::new(require("python3", "python3"))
        .args(["-c", script])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String =
        entries.iter().map(|(kind, name, rest)| format!("{kind}\t{name}\t{rest}\n")).collect();
    python.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(python.wait().unwrap().success());
}

/// A layout with one image of one layer, which is that archive.
fn layout(site: &Site, entries: &[(&str, &str, &str)]) {
    use ocib_image::{Annotations, Descriptor, Digest, Index, Manifest, MediaType};
    let put = |bytes: &[u8]| site.file(format!("layout/blobs/sha256/{}", Digest::of(bytes).hex()), bytes);
    archive(&site.path("layer.tar"), entries);
    let layer = fs::read(site.path("layer.tar")).unwrap();
    let digest = Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
    );
    let descriptor = |media_type, bytes: &[u8]| Descriptor::of(media_type, bytes);
    let manifest = Manifest::new(
        descriptor(MediaType::Config, config.as_bytes()),
        vec![descriptor(MediaType::LayerTar, &layer)],
        Annotations::new(),
    );
    put(&layer);
    put(config.as_bytes());
    put(manifest.raw());
    let index = Index::new(vec![manifest.descriptor()], Annotations::new());
    site.file("layout/index.json", index.raw())
        .file("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[test]
fn archives_that_lead_elsewhere_are_refused() {
    let file = ("f", "models/a", "content");
    for (entries, expected) in [
        (
            vec![("f", "models/../../escaped", "x")],
            "models/../../escaped cannot be unpacked: its path leads out",
        ),
        (vec![file, ("l", "models/b", "/etc/passwd")], "b cannot be unpacked: it is a link that leads out"),
        (vec![file, ("l", "models/b", "../../x")], "b cannot be unpacked: it is a link that leads out"),
        (
            vec![("l", "models/d", "sub"), ("f", "models/d/x", "x")],
            "d/x cannot be unpacked: something above it is no directory",
        ),
        (vec![file, ("h", "models/b", "etc/passwd")], "b cannot be unpacked: it is a hard link to no file"),
        (vec![("f", "etc/a", "x")], "it has no file of a model"),
    ] {
        let site = Site::new("");
        layout(&site, &entries);
        let stderr = ended(&mut site.ocib(&["model", "pull", "oci-layout://layout", "in/out"])).failed(3);
        assert!(stderr.contains(expected), "{entries:?}: {stderr}");
        assert!(!site.path("escaped").exists() && !site.path("in/escaped").exists());
    }
    // What a directory of the user's leads elsewhere by is not followed.
    let site = Site::new("");
    layout(&site, &[("f", "models/d/x", "x")]);
    fs::create_dir_all(site.path("elsewhere")).unwrap();
    fs::create_dir_all(site.path("out")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", site.path("out/d")).unwrap();
    ended(&mut site.ocib(&["model", "pull", "oci-layout://layout", "out"])).failed(3);
    assert_eq!(names(&site.path("elsewhere")), Vec::<String>::new());
}

#[test]
fn links_within_a_model_are_made_and_whiteouts_obeyed() {
    let site = Site::new("");
    let entries = [
        ("f", "models/a", "one"),
        ("l", "models/b", "a"),
        ("h", "models/c", "models/a"),
        ("f", "models/sub/d", "two"),
        ("l", "models/sub/e", "../a"),
    ];
    layout(&site, &entries);
    site.done(&["model", "pull", "oci-layout://layout", "out"]);
    for (name, content) in [("a", "one"), ("b", "one"), ("c", "one"), ("sub/d", "two"), ("sub/e", "one")] {
        assert_eq!(fs::read_to_string(site.path("out").join(name)).unwrap(), content, "{name}");
    }
    // A second time over what is there.
    site.done(&["model", "pull", "oci-layout://layout", "out"]);
    let site = Site::new("");
    layout(&site, &[("f", "models/a", "one"), ("f", "models/b", "two"), ("f", "models/.wh.a", "")]);
    site.done(&["model", "pull", "oci-layout://layout", "out"]);
    assert_eq!(names(&site.path("out")), ["b"]);
}

#[test]
fn what_keeps_kserve_from_a_model_is_said() {
    let site = Site::new("FROM scratch\nCOPY --chmod=0600 config.json /models/config.json\n");
    site.file("context/config.json", "{}");
    site.built(&["--platform", "linux/arm64", "-o", "type=oci,dest=out,tar=false", "-t", "x:latest"]);
    let ended = ended(&mut site.ocib(&["model", "check", "oci-layout://out"]));
    assert_eq!(ended.code(), Some(1));
    let expected = "\
problem  oci:// (sidecar): /models/config.json cannot be read by every user
problem  oci:// (sidecar): /models cannot be entered by every user
problem  oci:// (sidecar): it has no sh, no ln, no sleep
problem  oci:// (sidecar): it is for linux/arm64, not for linux/amd64
problem  oci+native:// (image volume): /models/config.json cannot be read by every user
problem  oci+native:// (image volume): /models cannot be entered by every user
problem  oci+fetch:// (extraction): /models/config.json cannot be read by every user
problem  oci+fetch:// (extraction): /models cannot be entered by every user
";
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), expected);
}
