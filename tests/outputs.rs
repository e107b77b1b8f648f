//! Layouts and archives: read by other people's programs, and never half there.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use ocib_image::Digest;
use ocib_testkit::{Podman, require, run_command, skopeo, verify_layout};
use serde_json::{Value, json};

use crate::program::{Site, config, ended, set_mode};

/// An image that can be run anywhere: one static program.
fn busybox() -> Site {
    let dockerfile = "FROM scratch\n\
                      COPY busybox /bin/busybox\n\
                      COPY greeting /etc/greeting\n\
                      ENV WHOM=world\n\
                      LABEL a=b\n\
                      ENTRYPOINT [\"/bin/busybox\"]\n\
                      CMD [\"cat\", \"/etc/greeting\"]\n";
    let site = Site::new(dockerfile);
    let program = require("busybox", "busybox-static");
    site.file("context/busybox", fs::read(program).unwrap());
    set_mode(site.path("context/busybox"), 0o755);
    site.file("context/greeting", "hello from an image\n");
    site
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

const NAME: &str = "registry.example/team/busybox:1";

#[test]
fn podman_runs_what_was_built() {
    let site = busybox();
    site.built(&["-t", NAME, "-o", "type=docker,dest=docker.tar"]);
    let podman = Podman::new();
    assert_eq!(podman.load(&site.path("docker.tar")), format!("Loaded image: {NAME}\n"));
    assert_eq!(podman.run(NAME, &[]), "hello from an image\n");
    assert_eq!(podman.run(NAME, &["sh", "-c", "echo $WHOM; /bin/busybox id -u"]), "world\n0\n");

    site.built(&["-o", "type=oci,dest=oci.tar"]);
    let id = podman.pull(&format!("oci-archive:{}", site.name("oci.tar")));
    assert_eq!(podman.run(&id, &[]), "hello from an image\n");
}

#[test]
fn without_an_output_the_image_is_a_layout_beside() {
    let site = busybox();
    let done = site.built(&[]);
    let expected = format!("oci-layout://ocib-out@{}", done.digest());
    assert_eq!(done.references(), [expected]);
    assert_eq!(site.leftovers(), ["ocib-out"]);
    verify_layout(&site.path("ocib-out"));
}

#[test]
fn skopeo_inspects_every_kind_of_output() {
    let site = busybox();
    let outputs = ["type=oci,tar=false,dest=layout", "type=oci,dest=oci.tar", "type=docker,dest=docker.tar"];
    let mut arguments = vec!["-t", NAME];
    outputs.iter().for_each(|output| arguments.extend(["-o", output]));
    let done = site.built(&arguments);
    let digest = done.digest();
    assert_eq!(
        done.references(),
        [
            format!("oci-layout://layout:1@{digest}"),
            format!("oci-archive://oci.tar:1@{digest}"),
            format!("docker-archive://docker.tar:{NAME}@{digest}"),
        ]
    );
    assert_eq!(site.leftovers(), ["docker.tar", "layout", "oci.tar"]);
    let layout = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "WHOM=world"],
            "Entrypoint": ["/bin/busybox"],
            "Cmd": ["cat", "/etc/greeting"],
            "Labels": {"a": "b"},
        },
    });
    for image in [
        format!("oci:{}:1", site.name("layout")),
        format!("oci-archive:{}:1", site.name("oci.tar")),
        format!("docker-archive:{}:{NAME}", site.name("docker.tar")),
    ] {
        let config = config(&image);
        for key in ["architecture", "os", "created"] {
            assert_eq!(config[key], layout[key], "{image} {key}");
        }
        for key in ["Env", "Entrypoint", "Cmd", "Labels"] {
            assert_eq!(config["config"][key], layout["config"][key], "{image} {key}");
        }
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2, "{image}");
        let inspected: Value = serde_json::from_str(&skopeo(&["inspect", &image])).unwrap();
        assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2, "{image}");
        assert_eq!(inspected["Labels"], json!({"a": "b"}), "{image}");
    }
}

#[test]
fn archives_are_layouts_in_a_tar() {
    let site = busybox();
    site.built(&["-t", NAME, "-o", "type=oci,dest=oci.tar", "-o", "type=oci,tar=false,dest=layout"]);
    ocib_testkit::untar(&site.path("oci.tar"), &site.path("unpacked"));
    verify_layout(&site.path("unpacked"));
    let index = |directory: &str| json_file(&site.path(directory).join("index.json"));
    assert_eq!(index("unpacked"), index("layout"));
}

#[test]
fn an_archive_on_stdout_is_the_same_archive() {
    let site = busybox();
    for kind in ["oci", "docker"] {
        site.built(&["-t", NAME, "-o", &format!("type={kind},dest=file.tar")]);
        let piped = site.built(&["-t", NAME, "-o", &format!("type={kind},dest=-")]);
        assert!(piped.stdout == fs::read(site.path("file.tar")).unwrap(), "{kind}");
    }
    let said = site.refused(2, &["-o", "type=oci,dest=-", "-o", "type=docker,dest=-"]);
    let expected = "error: stdout takes one archive, but several are asked for\n |\n\
                    help: give the others a file, as in dest=FILE\n";
    assert_eq!(said, expected);
}

#[test]
fn a_closed_stdout_ends_the_build() {
    let site = busybox();
    site.file("context/greeting", ocib_testkit::Noise::bytes(1, 3_000_000));
    let mut command = site.build(&["-o", "type=oci,dest=-"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let said = crate::program::wait(child).failed(1);
    assert!(said.contains("Broken pipe"), "{said}");
}

/// buildx's part of the metadata file.
fn metadata(site: &Site) -> Value {
    let mut metadata = json_file(&site.path("meta.json"));
    metadata.as_object_mut().unwrap().retain(|key, _| !key.starts_with("ocib."));
    metadata
}

#[test]
fn scripts_get_metadata_and_the_image_id() {
    let site = busybox();
    let files = ["--metadata-file", "meta.json", "--iidfile", "iid"];
    let done = site.built(&[&["-t", NAME, "-o", "type=oci,tar=false,dest=layout"], &files[..]].concat());
    let digest = done.digest();
    let manifest_path = site.path("layout/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    let manifest = json_file(&manifest_path);
    let config = &manifest["config"]["digest"];
    let expected = json!({
        "containerimage.digest": digest,
        "containerimage.config.digest": config,
        "containerimage.descriptor": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": fs::metadata(&manifest_path).unwrap().len(),
        },
        "image.name": NAME,
    });
    assert_eq!(metadata(&site), expected);
    assert_eq!(fs::read_to_string(site.path("iid")).unwrap(), config.as_str().unwrap());

    let several = ["--platform", "linux/amd64,linux/arm64", "-o", "type=oci,tar=false,dest=both"];
    let done = site.built(&[&several, &files[..]].concat());
    let digest = done.digest();
    assert_eq!(fs::read_to_string(site.path("iid")).unwrap(), digest);
    let index_path = site.path("both/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    let expected = json!({
        "containerimage.digest": digest,
        "containerimage.descriptor": {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest,
            "size": fs::metadata(&index_path).unwrap().len(),
        },
    });
    assert_eq!(metadata(&site), expected);
    assert_eq!(Digest::of(&fs::read(index_path).unwrap()).to_string(), digest);
}

#[test]
fn several_platforms_do_not_fit_into_a_docker_archive() {
    let site = busybox();
    let platforms = ["--platform", "linux/amd64,linux/arm64", "-o", "type=docker,dest=docker.tar"];
    let said = site.refused(2, &platforms);
    let expected = "error: a docker archive holds one platform, but several are asked for\n |\n\
                    help: build one --platform for it, or use type=oci\n";
    assert_eq!(said, expected);
    assert_eq!(site.leftovers(), Vec::<String>::new());
}

#[test]
fn a_failing_build_leaves_no_file() {
    let site = busybox();
    // The second layer fails when the first one is in the archive already.
    site.file("context/Dockerfile", "FROM scratch\nCOPY busybox /\nCOPY secret /\n");
    site.file("context/secret", "nobody may read this");
    set_mode(site.path("context/secret"), 0o000);
    set_mode(site.path(""), 0o777);
    set_mode(site.path("context"), 0o755);
    site.file("old.tar", "what was there");
    set_mode(site.path("old.tar"), 0o666);
    let program = site.path("ocib");
    fs::copy(env!("CARGO_BIN_EXE_ocib"), &program).unwrap();
    let before = site.leftovers();
    for output in [
        "type=oci,dest=out.tar",
        "type=docker,dest=out.tar",
        "type=oci,dest=old.tar",
        "type=oci,tar=false,dest=layout",
    ] {
        let mut command = crate::program::as_nobody(&program);
        site.clean(command.args(["build", "context", "--quiet", "-o", output]));
        let said = ended(&mut command).failed(3);
        let expected = "error: cannot read context/secret: Permission denied (os error 13)\n";
        assert!(said.ends_with(expected), "{output}: {said}");
        let mut after = site.leftovers();
        // A layout may keep blobs that are whole, but shows no image.
        after.retain(|name| name != "layout");
        assert_eq!(after, before, "{output}");
    }
    assert_eq!(fs::read(site.path("old.tar")).unwrap(), b"what was there");
    assert!(!site.path("layout/index.json").exists());
    let mut find = Command::new(require("find", "findutils"));
    assert_eq!(run_command(find.arg(site.path("")).args(["-name", "*tmp*"])), "");
}
