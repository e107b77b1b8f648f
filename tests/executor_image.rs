//! The image of the stand-in for Kaniko's executor: ocib makes it, as it makes any image without RUN.

use std::fs::{self, File};

use ocib_testkit::{Executor, Podman, Registry, RegistryOptions, require, run, skopeo};
use serde_json::Value;

use crate::program::{Site, set_mode};

/// A build on top of a base, that runs something.
const JOB: &str = "FROM BASE\nRUN busybox mkdir /made && busybox id -u\n";

#[test]
fn ocib_builds_the_executor_and_the_executor_builds() {
    let site = Site::new("");
    fs::remove_dir_all(site.path("context")).unwrap();
    fs::create_dir(site.path("context")).unwrap();
    Executor::new().assemble(&site.path("context"));
    let registry = Registry::start(RegistryOptions::default());
    let executor = format!("{}/executor:1", registry.host());
    site.built(&["--platform", "linux/amd64", "-t", &executor, "--push"]);
    site.built(&["--platform", "linux/amd64", "-o", "type=oci,dest=executor.oci.tar"]);

    let podman = Podman::new();
    let id = podman.pull(&format!("oci-archive:{}", site.name("executor.oci.tar")));
    assert_eq!(podman.pull(&format!("docker://{executor}")), id);
    assert!(podman.run(&id, &["version"]).starts_with("Kaniko version :  none: a stand-in for tests"));

    site.file("base/Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/busybox\n");
    site.file("base/busybox", fs::read(require("busybox", "busybox-static")).unwrap());
    set_mode(site.path("base/busybox"), 0o755);
    let base = format!("{}/base:1", registry.host());
    site.done(&["build", "base", "-t", &base, "--push"]);
    site.file("job/Dockerfile", JOB.replace("BASE", &base));
    run("tar", "tar", &["-czf", &site.name("job.tar.gz"), "-C", &site.name("job"), "."]);

    let out = format!("{}/out:1", registry.host());
    let said = build_in_container(&podman, &id, &site, &out);
    assert!(said.lines().any(|line| line == "0"), "{said}");
    let inspected: Value =
        serde_json::from_str(&skopeo(&["inspect", "--tls-verify=false", &format!("docker://{out}")]))
            .unwrap();
    assert_eq!(said.lines().last(), inspected["Digest"].as_str(), "{said}");
    assert!(site.unpacked(&format!("docker://{out}"), "amd64").join("made").is_dir());
}

/// Runs the executor as a pod would, with the capabilities of one and its context as input. Gives its output,
/// and in the last line the digest that it left behind.
fn build_in_container(podman: &Podman, image: &str, site: &Site, destination: &str) -> String {
    let mut command = podman.run_command("host");
    command.args(["--interactive", "--cap-drop", "ALL", "--cap-add", CAPABILITIES]);
    command.args([
        "--security-opt",
        "no-new-privileges",
        "--entrypoint",
        "/bin/bash",
        image,
        "-c",
        "\
        /kaniko/executor --context=tar://stdin --destination=\"$0\" --digest-file=/dev/termination-log && \
        cat /dev/termination-log",
        destination,
    ]);
    let output = command.stdin(File::open(site.path("job.tar.gz")).unwrap()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Those that a pod of ocib's has.
const CAPABILITIES: &str =
    "CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,MKNOD,NET_BIND_SERVICE,SETFCAP,SETGID,SETUID,SYS_CHROOT";
