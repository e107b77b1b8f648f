//! `ocib model pull`: artifacts of all kinds, and layers that were made to do harm.

use std::{fs, os::unix::fs::symlink, process::Command};

use ocib_image::Digest;
use ocib_testkit::{Noise, require, run_command};
use serde_json::{Value, json};

use crate::program::{Site, ended, names};

pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A layer of an image that is written by hand.
pub(crate) struct Part<'a> {
    media_type: &'a str,
    bytes: Vec<u8>,
    annotations: Value,
}

impl<'a> Part<'a> {
    pub(crate) fn new(media_type: &'a str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { media_type, bytes: bytes.into(), annotations: json!({}) }
    }

    pub(crate) fn at(self, path: &str) -> Self {
        Self { annotations: json!({"org.cncf.model.filepath": path}), ..self }
    }

    pub(crate) fn titled(self, name: &str) -> Self {
        Self { annotations: json!({"org.opencontainers.image.title": name}), ..self }
    }
}

/// Writes an OCI layout of one manifest with these layers.
pub(crate) fn layout(site: &Site, name: &str, config_type: &str, parts: &[Part<'_>]) {
    let blob = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        site.file(format!("{name}/blobs/sha256/{}", digest.hex()), bytes);
        (digest.to_string(), bytes.len())
    };
    let layers: Vec<Value> = parts
        .iter()
        .map(|part| {
            let (digest, size) = blob(&part.bytes);
            json!({"mediaType": part.media_type, "digest": digest, "size": size, "annotations": part.annotations})
        })
        .collect();
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let (digest, size) = blob(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": config_type, "digest": digest, "size": size},
        "layers": layers,
    });
    let (digest, size) = blob(manifest.to_string().as_bytes());
    let entry = json!({"mediaType": manifest["mediaType"], "digest": digest, "size": size});
    site.file(format!("{name}/index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string());
    site.file(format!("{name}/oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#);
}

/// A tar of what is in a directory, by GNU tar.
fn tar(site: &Site, directory: &str, names: &[&str]) -> Vec<u8> {
    let mut command = Command::new(require("tar", "tar"));
    command
        .args(["--sort=name", "--mtime=@1000", "--format=gnu", "-C"])
        .arg(site.path(directory))
        .arg("-cf")
        .arg(site.path("made.tar"))
        .args(names);
    run_command(&mut command);
    fs::read(site.path("made.tar")).unwrap()
}

#[test]
fn artifacts_of_all_kinds() {
    let site = Site::new("");
    site.file("in/tokenizer/a.json", "[1]")
        .file("in/tokenizer/b.json", "[2]")
        .file("car/models/w.bin", "shared");
    let text = tar(&site, "in", &["tokenizer"]);
    let shared = tar(&site, "car", &["models"]);
    let weights = Noise::bytes(1, 33 << 20);
    let gz = {
        site.file("text.tar", &text);
        run_command(Command::new(require("gzip", "gzip")).arg("-k").arg(site.path("text.tar")));
        fs::read(site.path("text.tar.gz")).unwrap()
    };
    let modelpack = "application/vnd.cncf.model.config.v1+json";
    layout(
        &site,
        "raw",
        modelpack,
        &[
            Part::new("application/vnd.cncf.model.weight.v1.raw", weights.clone())
                .at("sub/model.safetensors"),
            Part::new("application/vnd.cncf.model.weight.config.v1.raw", "{}").at("config.json"),
            Part::new("application/vnd.cncf.model.doc.v1.tar+gzip", gz).at("tokenizer"),
        ],
    );
    site.done(&["model", "pull", "--quiet", "oci-layout://raw", "raw-to"]);
    assert_eq!(names(&site.path("raw-to")), [".ocib-pull.json", "config.json", "sub", "tokenizer"]);
    assert!(fs::read(site.path("raw-to/sub/model.safetensors")).unwrap() == weights);
    assert_eq!(fs::read(site.path("raw-to/tokenizer/b.json")).unwrap(), b"[2]");

    // A layer that an image shares has the image's names.
    layout(
        &site,
        "tar",
        modelpack,
        &[
            Part::new("application/vnd.cncf.model.weight.v1.tar", shared).at("w.bin"),
            Part::new("application/vnd.cncf.model.doc.v1.tar", text).at("tokenizer"),
        ],
    );
    site.done(&["model", "pull", "--quiet", "oci-layout://tar", "tar-to"]);
    assert_eq!(names(&site.path("tar-to")), [".ocib-pull.json", "tokenizer", "w.bin"]);

    layout(
        &site,
        "docker",
        "application/vnd.docker.ai.model.config.v0.1+json",
        &[
            Part::new("application/vnd.docker.ai.gguf.v3", "GGUF"),
            Part::new("application/vnd.docker.ai.license", "free"),
        ],
    );
    site.done(&["model", "pull", "--quiet", "oci-layout://docker", "docker-to"]);
    assert_eq!(names(&site.path("docker-to")), [".ocib-pull.json", "LICENSE-2", "model.gguf"]);

    layout(&site, "other", "application/vnd.example", &[Part::new("application/x-any", "bytes")]);
    let said =
        ended(&mut site.ocib(&["model", "pull", "--quiet", "oci-layout://other", "other-to"])).failed(3);
    assert!(said.contains("is of type application/x-any, expected a tar, or a file with"), "{said}");
    for path in ["../up", ".ocib-pull.json", ""] {
        layout(&site, "bad", modelpack, &[Part::new("application/vnd.cncf.model.doc.v1.raw", path).at(path)]);
        let said =
            ended(&mut site.ocib(&["model", "pull", "--quiet", "oci-layout://bad", "bad-to"])).failed(3);
        assert!(said.contains("help: do not use the image, and tell its owner"), "{path}: {said}");
    }
}

/// A member of an archive made to do harm, by Python's tarfile.
pub(crate) fn hostile(site: &Site, members: &str) -> Vec<u8> {
    let script = format!(
        "import tarfile, io, sys\n\
         archive = tarfile.open({:?}, 'w')\n\
         def add(name, type=tarfile.REGTYPE, link='', content=b''):\n\
         \x20   member = tarfile.TarInfo(name); member.type = type; member.linkname = link; member.size = len(content)\n\
         \x20   archive.addfile(member, io.BytesIO(content))\n\
         {members}\n\
         archive.close()\n",
        site.name("hostile.tar")
    );
    run_command(Command::new(require("python3", "python3")).args(["-c", &script]));
    fs::read(site.path("hostile.tar")).unwrap()
}

#[test]
fn hostile_layers_write_nothing_outside() {
    for (members, why) in [
        ("add('models/../../up', content=b'e')", "it has .. in its path"),
        ("add('models/l', tarfile.SYMTYPE, '../outside')", "it is a link to outside of what is pulled"),
        ("add('models/l', tarfile.SYMTYPE, '/outside')", "it is a link to outside of what is pulled"),
        (
            "add('models/d/l', tarfile.SYMTYPE, 'x/../../..')",
            "it is a link whose target has .. behind a name",
        ),
        (
            "add('models/l', tarfile.SYMTYPE, 'd'); add('models/l/x', content=b'e')",
            "it is below l, which is no directory",
        ),
        (
            "add('models/h', tarfile.LNKTYPE, 'etc/passwd')",
            "it is a hard link to a file outside of what is pulled",
        ),
        (
            "add('models/h', tarfile.LNKTYPE, 'models/none')",
            "it is a hard link to none, which is no file before it",
        ),
        ("add('models/null', tarfile.CHRTYPE)", "it is a device or a pipe"),
        ("add('models', tarfile.SYMTYPE, 'outside')", "it is no directory"),
        ("add('models/.ocib-pull.json', content=b'{}')", "names that begin with .ocib-pull are ocib's own"),
    ] {
        let site = Site::new("");
        site.file("outside/secret", "secret\n");
        let layer = hostile(&site, members);
        for large in [false, true] {
            // Large layers are looked at by their headers.
            let layer = match large {
                false => layer.clone(),
                true => [&layer[..layer.len() / 10240 * 10240], &vec![0; 33 << 20]].concat(),
            };
            layout(&site, "image", CONFIG, &[Part::new(TAR, layer)]);
            let said = ended(&mut site.ocib(&["model", "pull", "--quiet", "oci-layout://image", "to/there"]))
                .failed(3);
            assert!(said.contains(why), "{members}: {said}");
            assert_eq!(names(&site.path("outside")), ["secret"]);
            assert_eq!(names(&site.path("to")), ["there"]);
            assert_eq!(names(&site.path("to/there")), [".ocib-pull"], "{members}");
        }
    }
}

#[test]
fn what_is_in_the_directory_leads_nowhere_else() {
    let site = Site::new("");
    site.file("outside/secret", "secret\n");
    let layer = hostile(
        &site,
        "add('models/d/secret', content=b'e'); add('models/d/f', content=b'1'); add('models/d/f', content=b'22')",
    );
    layout(&site, "image", CONFIG, &[Part::new(TAR, layer)]);
    fs::create_dir(site.path("to")).unwrap();
    symlink("../outside", site.path("to/d")).unwrap();
    site.done(&["model", "pull", "--quiet", "oci-layout://image", "to"]);
    assert_eq!(fs::read(site.path("outside/secret")).unwrap(), b"secret\n");
    assert!(site.path("to/d").symlink_metadata().unwrap().is_dir());
    // Of two entries of one name the later one counts.
    assert_eq!(fs::read(site.path("to/d/f")).unwrap(), b"22");
}
