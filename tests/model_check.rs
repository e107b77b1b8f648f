//! `ocib model check`: what it says is what a container sees.

use std::{fs, os::unix::fs::symlink};

use ocib_testkit::{FaultProxy, Podman, Registry, RegistryOptions, RequestKind, noise_file, require};
use serde_json::{Value, json};

use crate::{
    model_layers::{CONFIG, Part, TAR, hostile, layout},
    program::{Site, ended, names},
};

/// A base of one static program, which is a shell, ln, ls and sleep by its names.
const MODELCAR: &str = "\
FROM scratch
COPY bin /bin/
COPY config.json /models/
COPY model.gguf /models/
";

fn modelcar(site: &Site) {
    let busybox = require("busybox", "busybox-static");
    fs::create_dir_all(site.path("context/bin")).unwrap();
    fs::copy(busybox, site.path("context/bin/busybox")).unwrap();
    for name in ["sh", "ln", "ls", "sleep", "cat"] {
        symlink("busybox", site.path("context/bin").join(name)).unwrap();
    }
    site.file("context/config.json", "{}\n");
    noise_file(&site.path("context/model.gguf"), 1, 40 << 20);
}

#[test]
fn what_check_says_of_a_modelcar_is_what_podman_sees() {
    let site = Site::new(MODELCAR);
    modelcar(&site);
    let registry = Registry::start(RegistryOptions::default());
    let tag = format!("{}/car:1", registry.host());
    site.built(&["--quiet", "--compression", "none", "--push", "-t", &tag]);
    let proxy = FaultProxy::start(&registry.host());
    let through = format!("{}/car:1", proxy.host());
    let checked = site.done(&["model", "check", "--quiet", &through]);
    assert_eq!(checked.references(), ["ok     oci://", "ok     oci+native://", "ok     oci+fetch://"]);
    assert!(proxy.received(RequestKind::BlobGet) < 4 << 20, "headers are little");

    let podman = Podman::new();
    let image = podman.pull(&format!("docker://{tag}"));
    for user in ["1010:0", "1000650000:0"] {
        let script = "ln -sf /models /dev/shm/x && cat /dev/shm/x/config.json && cat /models/model.gguf > /dev/null && sleep 0";
        assert_eq!(podman.run_with(&["--user", user], &image, &["sh", "-c", script]), "{}\n");
    }
    site.done(&["model", "pull", "--quiet", &tag, "to"]);
    assert_eq!(names(&site.path("to")), [".ocib-pull.json", "config.json", "model.gguf"]);
}

#[test]
fn check_says_what_each_way_lacks() {
    let site = Site::new("FROM scratch\nCOPY --chmod=0600 secret /models/\n");
    site.file("context/secret", "x");
    site.built(&["--quiet", "-t", "x:1", "-o", "type=oci,tar=false,dest=image"]);
    let said = ended(&mut site.ocib(&["model", "check", "--quiet", "oci-layout://image:1"]));
    assert_eq!(said.code(), Some(1), "{}", said.stderr);
    let unreadable = [
        "       UID 1010 cannot read /models, /models/secret",
        "       an arbitrary UID in group 0 cannot read /models, /models/secret",
    ];
    let expected = [
        &["wrong  oci://", "       the sidecar runs what is not in the image: ln, ls, sh, sleep"][..],
        &unreadable,
        &["wrong  oci+native://"],
        &unreadable,
        &["ok     oci+fetch://"],
    ];
    assert_eq!(said.references(), expected.concat());
    assert!(
        said.stderr.starts_with("error: 2 of 3 ways to oci-layout://image:1 do not work\n"),
        "{}",
        said.stderr
    );

    let fetch = site.done(&["model", "check", "--quiet", "--way", "fetch", "--json", "oci-layout://image:1"]);
    let found: Value = serde_json::from_slice(&fetch.stdout).unwrap();
    assert_eq!(found["ways"], json!([{"scheme": "oci+fetch://", "ok": true, "wrong": [], "notes": []}]));

    layout(
        &site,
        "device",
        CONFIG,
        &[Part::new(
            TAR,
            hostile(&site, "add('models/a', content=b'e'); add('models/null', tarfile.CHRTYPE)"),
        )],
    );
    let said = ended(&mut site.ocib(&["model", "check", "--quiet", "--way", "fetch", "oci-layout://device"]));
    assert!(String::from_utf8_lossy(&said.stdout).contains("it is a device or a pipe"), "{said:?}");
    let artifact = "application/vnd.cncf.model.config.v1+json";
    layout(&site, "artifact", artifact, &[Part::new("application/vnd.cncf.model.doc.v1.raw", "x").at("x")]);
    let said =
        ended(&mut site.ocib(&["model", "check", "--quiet", "--way", "volume", "oci-layout://artifact"]));
    assert_eq!(said.references()[1], "       it is an artifact, and no runtime takes it for an image");
}
