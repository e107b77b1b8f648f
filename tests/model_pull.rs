//! `ocib model pull`: what other people's unpackers give, nothing twice, nothing half.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use ocib_image::Digest;
use ocib_testkit::{
    Fault, FaultProxy, Noise, Registry, RegistryOptions, RequestKind, is_full, noise_file, require,
    run_command, skopeo, umoci,
};

use crate::program::{Site, ended, names, signal, started, until, wait};

/// Files, links and directories with modes, sizes and contents, by path; ocib's own are left out.
fn listing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            if name.starts_with(".ocib-pull") {
                continue;
            }
            let mode = metadata.permissions().mode() & 0o7777;
            found.push(if metadata.is_dir() {
                todo.push(path);
                format!("{name} d {mode:o}")
            } else if metadata.is_symlink() {
                format!("{name} -> {}", fs::read_link(&path).unwrap().display())
            } else {
                let digest = Digest::of(&fs::read(&path).unwrap()).hex();
                format!("{name} {mode:o} {} {} {}", metadata.len(), metadata.mtime(), &digest[..12])
            });
        }
    }
    found.sort();
    found
}

/// Digests of layers that were asked for since.
fn fetched(registry: &Registry, before: &ocib_testkit::Served, layers: &[String]) -> Vec<String> {
    let requests = registry.requests().since(before);
    let is_layer = |digest: &&str| layers.iter().any(|layer| layer == digest);
    let mut fetched: Vec<String> =
        requests.fetched().into_iter().filter(is_layer).map(str::to_owned).collect();
    fetched.sort();
    fetched.dedup();
    fetched
}

fn layer_digests(reference: &str) -> Vec<String> {
    let manifest = crate::program::manifest(reference);
    crate::program::layers(&manifest).into_iter().map(str::to_owned).collect()
}

/// A model of a large shard, a small one, text and links, with a layer for each but the last ones.
fn model(site: &Site, large_bytes: u64) {
    noise_file(&site.path("context/model-1.safetensors"), 1, large_bytes);
    noise_file(&site.path("context/model-2.safetensors"), 2, 3 << 20);
    site.file("context/text/config.json", "{}\n")
        .file("context/text/sub/tokenizer.json", "[]\n".repeat(1000));
    symlink("../config.json", site.path("context/text/sub/link")).unwrap();
    fs::hard_link(site.path("context/text/config.json"), site.path("context/text/second.json")).unwrap();
}

const DOCKERFILE: &str = "\
FROM scratch
COPY other /etc/
COPY model-1.safetensors /models/
COPY model-2.safetensors /models/
COPY --chmod=0750 text /models/
";

#[test]
fn files_are_those_that_umoci_unpacks_and_move_once() {
    let site = Site::new(DOCKERFILE);
    site.file("context/other/passwd", "root\n");
    model(&site, 70 << 20);
    let registry = Registry::start(RegistryOptions::default());
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "zstd"] {
        let tag = format!("{}/model:{codec}", registry.host());
        site.built(&["--quiet", "--compression", codec, "--push", "-t", &tag]);
        // Debian's umoci reads no zstd, but the files are the same.
        if codec != "zstd" {
            expected = listing(&site.unpacked(&format!("docker://{tag}"), "amd64").join("models"));
            assert_eq!(expected.len(), 7, "{expected:?}");
        }
        let directory = format!("to-{codec}");
        let pulled = site.done(&["model", "pull", "--quiet", &tag, &directory]);
        assert!(pulled.references()[0].starts_with(&format!("{}/model@sha256:", registry.host())));
        assert_eq!(listing(&site.path(&directory)), expected, "{codec}");
        assert_eq!(
            names(&site.path(&directory)).iter().filter(|name| name.starts_with(".ocib")).collect::<Vec<_>>(),
            [".ocib-pull.json"]
        );
        let inode = |name: &str| fs::metadata(site.path(&directory).join(name)).unwrap().ino();
        assert_eq!(inode("config.json"), inode("second.json"));

        let before = registry.requests();
        site.done(&["model", "pull", "--quiet", &tag, &directory]);
        site.done(&["model", "pull", "--quiet", "--verify", &tag, &directory]);
        assert_eq!(fetched(&registry, &before, &layer_digests(&tag)), Vec::<String>::new(), "{codec}");
        assert_eq!(listing(&site.path(&directory)), expected, "{codec}");
    }
    // What somebody changed is noticed: where its state is another one, and on demand whatever it is.
    let large = site.path("to-none/model-1.safetensors");
    let mut bytes = fs::read(&large).unwrap();
    bytes[12345] ^= 1;
    fs::write(&large, bytes).unwrap();
    let tag = format!("{}/model:none", registry.host());
    let before = registry.requests();
    site.done(&["model", "pull", "--quiet", &tag, "to-none"]);
    assert_eq!(fetched(&registry, &before, &layer_digests(&tag)), [layer_digests(&tag)[1].clone()]);
    assert_eq!(listing(&site.path("to-none")), listing(&site.path("to-gzip")));
}

#[test]
fn another_revision_moves_what_changed_and_removes_what_is_stale() {
    let site = Site::new(DOCKERFILE);
    site.file("context/other/passwd", "root\n");
    model(&site, 40 << 20);
    let registry = Registry::start(RegistryOptions::default());
    let tags = ["1", "2"].map(|tag| format!("{}/model:{tag}", registry.host()));
    site.built(&["--quiet", "--compression", "none", "--push", "-t", &tags[0]]);
    site.done(&["model", "pull", "--quiet", &tags[0], "to"]);
    site.file("to/mine", "not from an image\n");
    let kept = fs::metadata(site.path("to/model-1.safetensors")).unwrap();

    noise_file(&site.path("context/model-2.safetensors"), 3, 3 << 20);
    fs::remove_file(site.path("context/text/sub/tokenizer.json")).unwrap();
    fs::remove_file(site.path("context/text/sub/link")).unwrap();
    fs::remove_dir(site.path("context/text/sub")).unwrap();
    site.built(&["--quiet", "--compression", "none", "--push", "-t", &tags[1]]);
    let before = registry.requests();
    site.done(&["model", "pull", "--quiet", &tags[1], "to"]);
    let layers = layer_digests(&tags[1]);
    let mut changed = layers[2..].to_vec();
    changed.sort();
    assert_eq!(fetched(&registry, &before, &layers), changed);
    let now = fs::metadata(site.path("to/model-1.safetensors")).unwrap();
    assert_eq!((now.ino(), now.ctime()), (kept.ino(), kept.ctime()));
    assert!(site.path("to/sub/tokenizer.json").exists());

    site.done(&["model", "pull", "--quiet", "--delete", &tags[1], "to"]);
    let expected = ["config.json", "mine", "model-1.safetensors", "model-2.safetensors", "second.json"];
    assert_eq!(names(&site.path("to")).split_off(1), expected);
    assert_eq!(fs::read(site.path("to/model-2.safetensors")).unwrap(), Noise::bytes(3, 3 << 20));
}

/// Kills a pull as soon as so many bytes have passed, and lets another one go on.
#[test]
fn a_pull_that_is_killed_at_any_moment_goes_on() {
    const CONNECTIONS: u64 = 2;
    let bytes: u64 = if is_full() { 1 << 30 } else { 160 << 20 };
    let site = Site::new("FROM scratch\nCOPY model.gguf /models/\nCOPY config.json /models/\n");
    noise_file(&site.path("context/model.gguf"), 1, bytes);
    site.file("context/config.json", "{}\n");
    let registry = Registry::start(RegistryOptions::default());
    let tag = format!("{}/model:1", registry.host());
    site.built(&["--quiet", "--compression", "none", "--push", "-t", &tag]);
    for (number, percent) in [3, 40, 75, 97].into_iter().enumerate() {
        let proxy = FaultProxy::start(&registry.host());
        let (tag, directory) = (format!("{}/model:1", proxy.host()), format!("to-{number}"));
        let jobs = CONNECTIONS.to_string();
        let arguments = ["model", "pull", "--quiet", "--jobs", &jobs, &tag, &directory];
        // However late this test looks: no more passes.
        proxy.pause_after(&[RequestKind::BlobGet], bytes * percent / 100);
        let mut child = started(&mut site.ocib(&arguments));
        until(&mut child, "enough bytes have passed", || {
            proxy.received(RequestKind::BlobGet) >= bytes * percent / 100
        });
        signal(&child, "KILL");
        wait(child);
        proxy.resume();
        assert_eq!(names(&site.path(&directory)), [".ocib-pull"], "a name was there before its content");
        let (before, written_down) =
            (proxy.received(RequestKind::BlobGet), written_down(&site.path(&directory)));
        // A step of 4 MiB for each connection, and what sockets held when the process ended.
        let lost = CONNECTIONS * (4 << 20) + CONNECTIONS * sockets_bytes();
        assert!(before <= written_down + lost, "{before} bytes passed, {written_down} written down");
        // The successor has a connection cut under it, too.
        proxy.inject_into(RequestKind::BlobGet, Fault::ResponseBody { after_bytes: 1 << 20 });
        site.done(&arguments);
        assert_eq!(names(&site.path(&directory)), [".ocib-pull.json", "config.json", "model.gguf"]);
        let mut compare = Command::new(require("cmp", "diffutils"));
        run_command(
            compare.arg(site.path("context/model.gguf")).arg(site.path(&directory).join("model.gguf")),
        );
        // The rest; of the answer that was cut after 1 MiB that much at most, and the small blobs.
        let most = bytes + (2 << 20) - written_down;
        let received = proxy.received(RequestKind::BlobGet) - before;
        assert!(received <= most, "{received} bytes of {most} passed again, killed at {percent} %");
    }
}

/// Bytes that the journal of an interrupted pull says are there: its lines are the number of a part and how
/// far it is.
fn written_down(directory: &Path) -> u64 {
    let mut parts = BTreeMap::new();
    for entry in fs::read_dir(directory.join(".ocib-pull")).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == "partial") {
            let text = fs::read_to_string(entry.path()).unwrap();
            let lines = text.split_inclusive('\n').skip(1).filter(|line| line.ends_with('\n'));
            parts.extend(lines.map(|line| {
                let (part, bytes) = line.trim_end().split_once(' ').unwrap();
                (part.to_owned(), bytes.parse::<u64>().unwrap())
            }));
        }
    }
    parts.values().sum()
}

/// What the kernel may hold of a connection on its two sides: a reader on a busy machine lags behind.
fn sockets_bytes() -> u64 {
    let most = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        text.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    most("tcp_rmem") + most("tcp_wmem")
}

#[test]
fn wrong_bytes_are_never_put_into_place() {
    let site = Site::new("FROM scratch\nCOPY model /models/\n");
    noise_file(&site.path("context/model"), 1, 40 << 20);
    let registry = Registry::start(RegistryOptions::default());
    for codec in ["none", "zstd"] {
        let tag = format!("{}/model:{codec}", registry.host());
        site.built(&["--quiet", "--compression", codec, "--push", "-t", &tag]);
        let proxy = FaultProxy::start(&registry.host());
        proxy.inject_into(RequestKind::BlobGet, Fault::ResponseByte { at: 5 << 20 });
        let tag = format!("{}/model:{codec}", proxy.host());
        let said = ended(&mut site.ocib(&["model", "pull", "--quiet", &tag, codec])).failed(5);
        assert!(said.contains("so its bytes are not those that the manifest means"), "{said}");
        assert!(!site.path(codec).join("model").exists());
        site.done(&["model", "pull", "--quiet", &tag, codec]);
        assert!(
            fs::read(site.path(codec).join("model")).unwrap()
                == fs::read(site.path("context/model")).unwrap()
        );
    }
}

#[test]
fn whiteouts_of_umoci_are_respected() {
    let site = Site::new("FROM scratch\nCOPY models /models/\n");
    for name in ["a", "b", "old/x", "old/y"] {
        site.file(format!("context/models/{name}"), name);
    }
    site.built(&["--quiet", "-t", "x:1", "-o", "type=oci,tar=false,dest=image"]);
    site.file("new/z", "z");
    let image = format!("{}:1", site.name("image"));
    umoci(&["insert", "--image", &image, "--whiteout", "/models/a"]);
    umoci(&["insert", "--image", &image, "--opaque", &site.name("new"), "/models/old"]);
    site.done(&["model", "pull", "--quiet", "oci-layout://image:1", "to"]);
    let expected = listing(&site.unpacked(&format!("oci:{image}"), "amd64").join("models"));
    assert_eq!(listing(&site.path("to")), expected);
    assert_eq!(names(&site.path("to/old")), ["z"]);
    // The same of another part of the image, and an answer for one that has nothing.
    site.done(&["model", "pull", "--quiet", "--path", "/models/old", "oci-layout://image:1", "part"]);
    assert_eq!(names(&site.path("part")), [".ocib-pull.json", "z"]);
    let said = ended(&mut site.ocib(&[
        "model",
        "pull",
        "--quiet",
        "--path",
        "weights",
        "oci-layout://image:1",
        "none",
    ]));
    let said = said.failed(3);
    assert!(
        said.starts_with("error: the image has no files below /weights; at its top it has /models\n"),
        "{said}"
    );
}

#[test]
fn the_platform_is_chosen() {
    let site = Site::new("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /models/\n");
    site.file("context/amd64/who", "amd64").file("context/arm64/who", "arm64");
    site.built(&[
        "--quiet",
        "--platform",
        "linux/amd64,linux/arm64",
        "-t",
        "x:1",
        "-o",
        "type=oci,tar=false,dest=image",
    ]);
    for (flags, expected) in [(&[][..], "amd64"), (&["--platform", "linux/arm64"], "arm64")] {
        let arguments = [&["model", "pull", "--quiet"], flags, &["oci-layout://image:1", "to"]].concat();
        site.done(&arguments);
        assert_eq!(fs::read_to_string(site.path("to/who")).unwrap(), expected);
    }
    skopeo(&[
        "copy",
        "--override-arch",
        "arm64",
        &format!("oci:{}:1", site.name("image")),
        &format!("oci-archive:{}:1", site.name("a.tar")),
    ]);
    site.done(&[
        "model",
        "pull",
        "--quiet",
        "--platform",
        "linux/arm64",
        "oci-archive://a.tar:1",
        "from-archive",
    ]);
    assert_eq!(fs::read_to_string(site.path("from-archive/who")).unwrap(), "arm64");
}

#[test]
fn large_layers_pass_through_64_mib() {
    let bytes: u64 = if is_full() { 2 << 30 } else { 300 << 20 };
    let site = Site::new("FROM scratch\nCOPY model.gguf /models/\n");
    noise_file(&site.path("context/model.gguf"), 1, bytes);
    let registry = Registry::start(RegistryOptions::default());
    for codec in ["none", "gzip", "zstd"] {
        let tag = format!("{}/model:{codec}", registry.host());
        site.built(&["--quiet", "--compression", codec, "--push", "-t", &tag]);
        let pull = site.ocib(&["model", "pull", "--quiet", "--jobs", "16", &tag, "to"]);
        let mut time = Command::new(require("time", "time"));
        time.args(["--quiet", "-f", "%M", "-o"])
            .arg(site.path("used"))
            .arg(pull.get_program())
            .args(pull.get_args());
        site.clean(&mut time);
        ended(&mut time).done();
        let peak_kib: u64 = fs::read_to_string(site.path("used")).unwrap().trim().parse().unwrap();
        assert!(peak_kib < 64 << 10, "{codec}: a peak of {peak_kib} KiB");
        fs::remove_dir_all(site.path("to")).unwrap();
    }
}
