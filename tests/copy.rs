//! `ocib copy` and `ocib tag`: bytes stay as they are, between all kinds of places, judged by skopeo.

use std::{fs, process::Command};

use ocib_testkit::{
    Fault, FaultProxy, Noise, Podman, Registry, RegistryOptions, RequestKind, require, run_command, skopeo,
    untar, verify_layout,
};
use serde_json::Value;

use crate::program::{Ended, Site, ended, layers, manifest, names, signal, started, tag_digest, until, wait};

const BOTH: &str = "linux/amd64,linux/arm64";

/// A site whose image has two layers, one of them random, for two platforms.
fn images() -> Site {
    let site = Site::new("FROM scratch\nARG TARGETARCH\nCOPY shared /\nCOPY for-$TARGETARCH /own\nENV A=b\n");
    site.file("context/shared", Noise::bytes(1, 700_000));
    site.file("context/for-amd64", "amd64\n").file("context/for-arm64", "arm64\n");
    site
}

/// Pushes an index of both; gives its name.
fn pushed(site: &Site, host: &str) -> String {
    let tag = format!("{host}/team/app:1.0");
    site.built(&["--quiet", "--platform", BOTH, "--push", "-t", &tag]);
    tag
}

fn raw(image: &str) -> String {
    skopeo(&["inspect", "--raw", "--tls-verify=false", image])
}

fn skopeo_digest(image: &str) -> String {
    skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", image]).trim().to_owned()
}

#[test]
fn a_whole_index_gets_from_registry_to_registry_unchanged() {
    let (from, to) =
        (Registry::start(RegistryOptions::default()), Registry::start(RegistryOptions::default()));
    let site = images();
    let source = pushed(&site, &from.host());
    let target = format!("{}/mirror/app:2", to.host());
    let done = site.done(&["copy", &source, &target]);
    let digest = tag_digest(&from, "team/app", "1.0").unwrap();
    assert_eq!(done.references(), [format!("{}/mirror/app@{digest}", to.host())]);
    assert_eq!(tag_digest(&to, "mirror/app", "2").as_ref(), Some(&digest));
    assert_eq!(raw(&format!("docker://{target}")), raw(&format!("docker://{source}")));
    for entry in manifest(&source)["manifests"].as_array().unwrap() {
        let child = entry["digest"].as_str().unwrap();
        let [a, b] =
            [format!("{}/team/app@{child}", from.host()), format!("{}/mirror/app@{child}", to.host())];
        assert_eq!(raw(&format!("docker://{a}")), raw(&format!("docker://{b}")));
    }
    assert_eq!(site.leftovers(), Vec::<String>::new());

    let before = to.requests();
    site.done(&["copy", &source, &target]);
    let again = to.requests().since(&before);
    assert!(again.uploads().is_empty() && again.with("PUT", "/").is_empty(), "{again:?}");
}

#[test]
fn one_platform_is_its_manifest_and_several_are_a_new_index() {
    let registry = Registry::start(RegistryOptions::default());
    let site = images();
    let source = format!("{}/app:1", registry.host());
    site.built(&[
        "--quiet",
        "--platform",
        &format!("{BOTH},linux/s390x"),
        "--push",
        "-t",
        &source,
        "--build-arg",
        "TARGETARCH=amd64",
    ]);
    let index = manifest(&source);
    let child = |at: usize| index["manifests"][at]["digest"].as_str().unwrap();
    let one =
        site.done(&["copy", "--platform", "linux/arm64", &source, &format!("{}/one:1", registry.host())]);
    assert_eq!(one.digest(), child(1));
    let found = tag_digest(&registry, "app", "1").unwrap();
    let note = format!("what was picked has digest {}, all of it {found}\n", child(1));
    assert!(one.stderr.starts_with(&note), "{}", one.stderr);

    let two = format!("{}/two:1", registry.host());
    site.done(&["copy", "--platform", "linux/s390x,linux/amd64", &source, &two]);
    let picked = manifest(&two);
    assert_eq!(picked["mediaType"], index["mediaType"]);
    assert_eq!(
        picked["manifests"],
        Value::from(vec![index["manifests"][0].clone(), index["manifests"][2].clone()])
    );

    let said = ended(&mut site.ocib(&["copy", "--platform", "linux/riscv64", &source, &two])).failed(5);
    let expected = format!(
        "error[platform-missing]: {source} has no image for linux/riscv64, only for linux/amd64, linux/arm64, \
         linux/s390x\n |\nhelp: choose one of the platforms that the message names with --platform, or another base\n"
    );
    assert_eq!(said, expected);
    let said = ended(&mut site.ocib(&[
        "copy",
        "--platform",
        "linux/amd64",
        &format!("{}/one:1", registry.host()),
        &two,
    ]))
    .failed(5);
    assert_eq!(
        said,
        format!(
            "error[platform-missing]: {}/one:1 has no image for linux/amd64, only for linux/arm64\n |\nhelp: choose one \
             of the platforms that the message names with --platform, or another base\n",
            registry.host()
        )
    );
}

#[test]
fn through_every_kind_of_place_and_back() {
    let registry = Registry::start(RegistryOptions::default());
    let site = images();
    let source = pushed(&site, &registry.host());
    let digest = tag_digest(&registry, "team/app", "1.0").unwrap();
    let steps = [
        (source.as_str(), "oci-layout://layout:a", format!("oci-layout://layout:a@{digest}")),
        ("oci-layout://layout:a", "oci-archive://app.tar:b", format!("oci-archive://app.tar:b@{digest}")),
        ("oci-archive://app.tar", "oci-layout://second", format!("oci-layout://second@{digest}")),
        (
            "oci-archive://app.tar:b",
            &*format!("{}/back:1", registry.host()),
            format!("{}/back@{digest}", registry.host()),
        ),
    ];
    for (from, to, expected) in steps {
        assert_eq!(site.done(&["copy", from, to]).references(), [expected], "{from} {to}");
    }
    verify_layout(&site.path("layout"));
    verify_layout(&site.path("second"));
    untar(&site.path("app.tar"), &site.path("untarred"));
    verify_layout(&site.path("untarred"));
    assert_eq!(skopeo_digest(&format!("oci-archive:{}", site.name("app.tar"))), digest);
    assert_eq!(tag_digest(&registry, "back", "1"), Some(digest));
}

#[test]
fn docker_archives_hold_one_platform() {
    let registry = Registry::start(RegistryOptions::default());
    let site =
        Site::new("FROM scratch\nCOPY --chmod=755 busybox /\nCMD [\"/busybox\", \"echo\", \"hello\"]\n");
    site.file("context/busybox", fs::read(require("busybox", "busybox-static")).unwrap());
    let source = format!("{}/app:1", registry.host());
    site.built(&["--quiet", "--platform", BOTH, "--push", "-t", &source]);
    let said = ended(&mut site.ocib(&["copy", &source, "docker-archive://app.tar:app:1"])).failed(2);
    assert_eq!(
        said,
        "error: a docker archive holds one platform, but the image has linux/amd64, linux/arm64\n \
         |\nhelp: pick one with --platform, or write an oci-archive://\n"
    );
    site.done(&["copy", "--platform", "linux/amd64", &source, "docker-archive://app.tar:app:1"]);
    let podman = Podman::new();
    podman.load(&site.path("app.tar"));
    assert_eq!(podman.run("docker.io/library/app:1", &[]), "hello\n");
    let digest = skopeo_digest(&format!("docker://{source}"));
    let back = site.done(&["copy", "docker-archive://app.tar:app:1", &format!("{}/back:1", registry.host())]);
    assert_eq!(Some(back.digest()), manifest(&source)["manifests"][0]["digest"].as_str());
    assert_ne!(back.digest(), digest);
    let piped =
        ended(&mut site.ocib(&["copy", "-q", "docker-archive://app.tar", "docker-archive://-"])).done();
    let untagged = site.done(&["copy", "-q", "docker-archive://app.tar", "docker-archive://again.tar"]);
    assert_eq!(untagged.digest(), back.digest());
    assert!(piped.stdout == fs::read(site.path("again.tar")).unwrap());
}

/// skopeo writes no index.json, plain tars, and links for old versions of docker.
#[test]
fn archives_without_manifests_get_one() {
    let registry = Registry::start(RegistryOptions::default());
    let site = images();
    let source = format!("{}/app:1", registry.host());
    site.built(&["--quiet", "--compression", "gzip", "--push", "-t", &source]);
    let archive = site.name("skopeo.tar");
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        &format!("docker://{source}"),
        &format!("docker-archive:{archive}:app:1"),
    ]);
    site.done(&["copy", "docker-archive://skopeo.tar:app:1", "oci-layout://out:1"]);
    verify_layout(&site.path("out"));
    let made: Value = serde_json::from_str(&raw(&format!("oci:{}:1", site.name("out")))).unwrap();
    let types = made["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].as_str().unwrap());
    assert_eq!(types.collect::<Vec<_>>(), ["application/vnd.oci.image.layer.v1.tar"; 2]);
    assert_eq!(made["config"]["digest"], manifest(&source)["config"]["digest"]);
    site.done(&["verify", "docker-archive://skopeo.tar"]);

    run_command(Command::new(require("gzip", "gzip")).arg(&archive));
    let said =
        ended(&mut site.ocib(&["copy", "docker-archive://skopeo.tar.gz", "oci-layout://no"])).failed(3);
    assert_eq!(
        said,
        "error: skopeo.tar.gz is not an archive of images: it is compressed by gzip, and nothing could be found in it: \
         decompress it first\n"
    );
    let said = ended(&mut site.ocib(&["copy", "oci-archive://missing.tar", "oci-layout://no"])).failed(3);
    assert_eq!(said, "error: cannot open missing.tar: No such file or directory (os error 2)\n");
    assert!(!site.path("no").exists());
}

#[test]
fn docker_manifests_stay_what_they_are() {
    let registry = Registry::start(RegistryOptions::default());
    let site = images();
    let (oci, docker) = (format!("{}/oci:1", registry.host()), format!("{}/docker:1", registry.host()));
    site.built(&["--quiet", "--compression", "gzip", "--push", "-t", &oci]);
    skopeo(&[
        "copy",
        "--format",
        "v2s2",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &format!("docker://{oci}"),
        &format!("docker://{docker}"),
    ]);
    let digest = tag_digest(&registry, "docker", "1").unwrap();
    let layout = site.done(&["copy", &docker, "oci-layout://out:1"]);
    assert_eq!(layout.digest(), digest);
    assert!(
        layout.stderr.starts_with("the image keeps Docker's media types, and so its digest;"),
        "{}",
        layout.stderr
    );
    let back = site.done(&["copy", "oci-layout://out:1", &format!("{}/back:1", registry.host())]);
    assert_eq!(back.digest(), digest);
    assert_eq!(raw(&format!("docker://{docker}")), raw(&format!("docker://{}/back:1", registry.host())));
}

#[test]
fn another_repository_of_the_registry_mounts_what_is_there() {
    let registry = Registry::start(RegistryOptions::default());
    let site = images();
    let source = pushed(&site, &registry.host());
    let before = registry.requests();
    site.done(&["copy", &source, &format!("{}/other:1", registry.host())]);
    let sent = registry.requests().since(&before);
    assert!(sent.uploads().is_empty(), "{sent:?}");
    assert_eq!(tag_digest(&registry, "other", "1"), tag_digest(&registry, "team/app", "1.0"));
    let layers: Vec<_> = sent.fetched().into_iter().collect();
    assert_eq!(layers, Vec::<&str>::new());
}

#[test]
fn tags_move_no_blob() {
    let registry = Registry::start(RegistryOptions::default());
    let site = images();
    let source = pushed(&site, &registry.host());
    let digest = tag_digest(&registry, "team/app", "1.0").unwrap();
    let before = registry.requests();
    let other = format!("{}/prod/app:live", registry.host());
    let done = site.done(&["tag", &source, "1", "latest", &other]);
    let pinned = |repository: &str| format!("{}/{repository}@{digest}", registry.host());
    assert_eq!(done.references(), [pinned("prod/app"), pinned("team/app")]);
    let sent = registry.requests().since(&before);
    assert!(sent.uploads().is_empty() && sent.fetched().is_empty(), "{sent:?}");
    for (repository, tag) in [("team/app", "1"), ("team/app", "latest"), ("prod/app", "live")] {
        assert_eq!(tag_digest(&registry, repository, tag).as_ref(), Some(&digest), "{repository}:{tag}");
    }
    let before = registry.requests();
    site.done(&["tag", &source, "1", "latest"]);
    let again = registry.requests().since(&before);
    assert!(again.with("PUT", "/").is_empty(), "a tag that is there is success: {again:?}");

    let said = ended(&mut site.ocib(&["tag", &source, "elsewhere.example/app:1"])).failed(2);
    let expected = format!(
        "error: elsewhere.example/app:1 is in another registry than {source}\n |\nhelp: ocib copy {source} elsewhere.example/app:1\n"
    );
    assert_eq!(said, expected);
}

#[test]
fn a_download_that_breaks_goes_on_in_the_middle_of_a_copy() {
    let (from, to) =
        (Registry::start(RegistryOptions::default()), Registry::start(RegistryOptions::default()));
    let proxy = FaultProxy::start(&from.host());
    let site = Site::new("FROM scratch\nCOPY big /\n");
    site.file("context/big", Noise::bytes(5, 8 << 20));
    let source = format!("{}/app:1", from.host());
    site.built(&["--quiet", "--compression", "none", "--push", "-t", &source]);
    for after_bytes in [3 << 20, 2 << 20] {
        proxy.inject(Fault::Response { after_bytes });
    }
    let done = site.done(&["copy", &format!("{}/app:1", proxy.host()), &format!("{}/copy:1", to.host())]);
    assert_eq!(proxy.happened(), 2);
    assert_eq!(Some(done.digest()), tag_digest(&from, "app", "1").as_deref());
    let layer = layers(&manifest(&source))[0].to_owned();
    let served = from.requests();
    let with =
        |status| served.with("GET", &layer).into_iter().filter(|request| request.status == status).count();
    // The registry may not live to log the first answer, whose connection broke under it.
    assert!(with(206) == 2 && with(200) <= 1, "{served:?}");
    assert_eq!(to.requests().uploads().len(), 2, "one upload of the config, one of the layer");
}

#[test]
fn a_copy_that_is_ended_leaves_no_tag_and_can_be_run_again() {
    let (from, to) =
        (Registry::start(RegistryOptions::default()), Registry::start(RegistryOptions::default()));
    let site = Site::new("FROM scratch\nCOPY big /\n");
    site.file("context/big", Noise::bytes(6, 32 << 20));
    let source = format!("{}/app:1", from.host());
    site.built(&["--quiet", "--compression", "none", "--push", "-t", &source]);
    let carriers = [RequestKind::UploadPatch, RequestKind::UploadPut];
    for name in ["INT", "KILL"] {
        let proxy = FaultProxy::start(&to.host());
        proxy.pause_after(&carriers, 4 << 20);
        let target = format!("{}/copy:1", proxy.host());
        let mut child = started(&mut site.ocib(&["copy", "-q", &source, &target]));
        let sent = || carriers.iter().map(|kind| proxy.sent(*kind)).sum::<u64>();
        until(&mut child, "bytes have passed", || sent() >= 4 << 20);
        signal(&child, name);
        match name {
            "INT" => {
                let said = wait(child).failed(130);
                assert_eq!(
                    said,
                    "error: interrupted by SIGINT\n |\nhelp: no tag was moved; the same command can be run again\n"
                );
            }
            _ => drop(wait(child)),
        }
        assert_eq!(tag_digest(&to, "copy", "1"), None, "{name}");
    }
    let done = site.done(&["copy", "-q", &source, &format!("{}/copy:1", to.host())]);
    assert_eq!(tag_digest(&to, "copy", "1").as_deref(), Some(done.digest()));
    let layout = site.path("layout");
    assert!(!layout.exists());
}

#[test]
fn a_source_with_wrong_bytes_is_not_copied() {
    let (from, to) =
        (Registry::start(RegistryOptions::default()), Registry::start(RegistryOptions::default()));
    let site = images();
    let source = pushed(&site, &from.host());
    let child = manifest(&source)["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let image = manifest(&format!("{}/team/app@{child}", from.host()));
    let hex = layers(&image)[0];
    let stored = crate::program::stored_blob(&from, hex);
    let mut bytes = fs::read(&stored).unwrap();
    bytes[1000] ^= 1;
    fs::write(&stored, &bytes).unwrap();
    let said = ended(&mut site.ocib(&["copy", "-q", &source, &format!("{}/copy:1", to.host())])).failed(5);
    assert!(said.starts_with("error[content-corrupt]: the blob has digest sha256:"), "{said}");
    assert!(said.ends_with(&format!("expected sha256:{hex}\n |\nhelp: the content is not what its digest says: do not use it, and tell its owner\n")), "{said}");
    assert_eq!(tag_digest(&to, "copy", "1"), None);
}

#[test]
fn credentials_are_never_printed() {
    let login = Some(("ada".to_owned(), "planted-s3cret".to_owned()));
    let registry = Registry::start(RegistryOptions { login, ..RegistryOptions::default() });
    let open = Registry::start(RegistryOptions::default());
    let site = images();
    let source = pushed(&site, &open.host());
    // `ada:planted-s3cret` and `ada:planted-wr0ng`, in base64.
    for (name, auth) in [("right", "YWRhOnBsYW50ZWQtczNjcmV0"), ("wrong", "YWRhOnBsYW50ZWQtd3Iwbmc=")] {
        site.file(
            format!("{name}.json"),
            format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host()),
        );
    }
    let target = format!("{}/app:1", registry.host());
    let run = |auth: &str, arguments: &[&str]| -> Ended {
        let mut command = site.ocib(arguments);
        command.env("REGISTRY_AUTH_FILE", site.path(auth));
        let ended = ended(&mut command);
        let all = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
        assert!(!all.contains("planted") && !all.contains("YWRhOn"), "{all}");
        ended
    };
    for arguments in [
        &["copy", "--progress", "json", &source, &target][..],
        &["tag", &target, "2"],
        &["inspect", &target],
        &["verify", &target],
    ] {
        run("right.json", arguments).done();
        run("wrong.json", arguments).failed(4);
    }
    assert_eq!(tag_digest(&registry, "app", "2"), tag_digest(&open, "team/app", "1.0"));
    assert_eq!(names(&site.path("")).len(), 3, "context and two files of credentials");
}
