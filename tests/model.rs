//! `ocib model build` and `inspect`: what an image of a model holds, and who can use it.

use std::{fs, path::Path, process::Command};

use ocib_testkit::{
    HubContent, HubServer, Podman, Registry, RegistryOptions, require, run_command, safetensors_file, skopeo,
};
use serde_json::{Value, json};

use crate::program::{Ended, Site, config, ended, names, set_mode, tag_digest};

pub(crate) const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","max_position_embeddings":8192,"torch_dtype":"bfloat16"}"#;
const CARD: &str = "---\nlicense: apache-2.0\nbase_model: org/base\n---\n# A model\n";
pub(crate) const SHARD_BYTES: u64 = 1 << 20;

/// Writes a model of so many shards into the directory `model` of the site.
pub(crate) fn write_model(site: &Site, shards: u64) {
    for number in 1..=shards {
        let name = format!("model/model-{number:05}-of-{shards:05}.safetensors");
        safetensors_file(&site.path(name), number, SHARD_BYTES);
    }
    site.file("model/config.json", CONFIG).file("model/README.md", CARD);
    site.file("model/tokenizer.json", "{\"version\":\"1.0\"}").file("model/.gitattributes", "*.bin lfs\n");
}

/// The same files on a Hub.
pub(crate) fn hub_model(site: &Site) -> Vec<(String, HubContent)> {
    let name = |name: &String| {
        let bytes = fs::read(site.path("model").join(name)).unwrap();
        let content = match name.ends_with(".safetensors") {
            true => HubContent::Large(bytes),
            false => HubContent::Plain(bytes),
        };
        (name.clone(), content)
    };
    names(&site.path("model")).iter().map(name).collect()
}

pub(crate) fn publish(server: &HubServer, files: &[(String, HubContent)]) -> String {
    let files: Vec<(&str, HubContent)> =
        files.iter().map(|(name, content)| (&**name, content.clone())).collect();
    server.publish("org/model", &files)
}

/// `ocib model build`, and what it wrote into the metadata file.
pub(crate) fn built(site: &Site, hub: Option<&HubServer>, arguments: &[&str]) -> (Ended, Value) {
    let all = [&["model", "build"], arguments, &["--metadata-file", "metadata.json"]].concat();
    let mut command = site.ocib(&all);
    if let Some(hub) = hub {
        command.env("HF_ENDPOINT", hub.endpoint());
    }
    let done = ended(&mut command).done();
    (done, serde_json::from_slice(&fs::read(site.path("metadata.json")).unwrap()).unwrap())
}

/// How each layer came to be where it is.
pub(crate) fn ways(metadata: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let way = |layer: &Value| {
        format!("{}: {}, {}", text(&layer["title"]), text(&layer["made"]), text(&layer["stored"]))
    };
    metadata["ocib.layers"].as_array().unwrap().iter().map(way).collect()
}

pub(crate) fn digests(metadata: &Value) -> Vec<String> {
    let layers = metadata["ocib.layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_directory_becomes_an_image_of_a_layer_for_each_shard() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    write_model(&site, 3);
    site.file("model/original/params.json", "{}");
    let tag = format!("{}/model:1", registry.host());
    let (done, metadata) = built(&site, None, &["model", "-t", &tag, "--push", "--revision", "abc"]);
    assert_eq!(tag_digest(&registry, "model", "1").as_deref(), Some(done.digest()));
    let expected = [
        "model-00001-of-00003.safetensors: streamed, stored",
        "model-00002-of-00003.safetensors: streamed, stored",
        "model-00003-of-00003.safetensors: streamed, stored",
        "3 config files, config.json to tokenizer.json: streamed, stored",
        "README.md: streamed, stored",
    ];
    assert_eq!(ways(&metadata), expected);
    let labels = &config(&format!("docker://{tag}"))["config"]["Labels"];
    let expected = json!({
        "io.github.ocib.model.architecture": "LlamaForCausalLM",
        "io.github.ocib.model.base": "org/base",
        "io.github.ocib.model.context-length": "8192",
        "io.github.ocib.model.format": "safetensors",
        "io.github.ocib.model.parameters": "3145728",
        "io.github.ocib.model.precision": "u8",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.revision": "abc",
    });
    assert_eq!(*labels, expected);
    let rootfs = site.unpacked(&format!("docker://{tag}"), "amd64");
    assert_same_files(&site.path("model"), &rootfs.join("models"));
    let listed =
        run_command(Command::new("find").arg(rootfs.join("models")).args(["-printf", "%m %U:%G %T@ %P\n"]));
    for line in listed.lines() {
        let is_right = line.starts_with("664 0:0 0.0") || line.starts_with("775 0:0 0.0");
        assert!(is_right, "{line}");
    }
}

#[test]
fn more_layers_than_nodes_mount_are_warned_of_once() {
    let copies = (0..121).map(|number| format!("COPY a /{number}\n"));
    let site = Site::new(&format!("FROM scratch\n{}", copies.collect::<String>()));
    site.file("context/a", "a");
    site.built(&["--quiet", "-o", "type=oci,tar=false,dest=base"]);
    write_model(&site, 3);
    let arguments = ["model", "build", "model", "--base", "oci-layout://base"];
    for (flags, advice) in [
        (&[][..], "a --layer-size of several GB gives fewer"),
        (&["--layer-size", "1MiB"], "a larger --layer-size, or none, gives fewer"),
    ] {
        let outputs = ["-o", "type=oci,tar=false,dest=one", "-o", "type=oci,tar=false,dest=two"];
        let said = site.done(&[&arguments[..], flags, &outputs].concat()).stderr;
        let warning =
            format!("the image has 126 layers, of which not every node can mount more than 125; {advice}");
        assert_eq!(said.matches(&warning).count(), 1, "{said}");
    }
}

/// Compares two directories; files whose names begin with a dot are no part of a model.
pub(crate) fn assert_same_files(expected: &Path, actual: &Path) {
    run_command(Command::new("diff").args(["-r", "--exclude=.*"]).args([expected, actual]));
}

#[test]
fn podman_reads_the_model_as_any_user() {
    let site = Site::new("FROM scratch\nCOPY bin/ /bin/\n");
    write_model(&site, 2);
    let busybox = fs::read(require("busybox", "busybox-static")).unwrap();
    for program in ["sh", "ln", "ls", "sleep", "cat", "id", "sha256sum"] {
        site.file(format!("context/bin/{program}"), &busybox);
        set_mode(site.path(format!("context/bin/{program}")), 0o755);
    }
    site.built(&["--platform", "linux/amd64,linux/arm64", "-o", "type=oci,dest=base,tar=false"]);
    let registry = Registry::start(RegistryOptions::default());
    let tag = format!("{}/model:1", registry.host());
    let arguments = ["model", "--base", "oci-layout://base", "-t", &tag, "--push"];
    let (_, metadata) = built(&site, None, &arguments);
    let index = "application/vnd.oci.image.index.v1+json";
    assert_eq!(metadata["containerimage.descriptor"]["mediaType"], index);
    let podman = Podman::new();
    let id = podman.pull(&format!("docker://{tag}"));
    for user in ["1010", "1010:1010", "1000750000:0"] {
        let read = podman.run_with(&["--user", user], &id, &["/bin/cat", "/models/config.json"]);
        assert_eq!(read, CONFIG, "{user}");
        let sum = podman.run_with(
            &["--user", user],
            &id,
            &["/bin/sha256sum", "/models/model-00001-of-00002.safetensors"],
        );
        let own =
            run_command(Command::new("sha256sum").arg(site.path("model/model-00001-of-00002.safetensors")));
        assert_eq!(sum[..64], own[..64], "{user}");
    }
    assert_eq!(platforms(&tag), ["linux/amd64", "linux/arm64"]);
    // What KServe's webhook gives the sidecar to run, but for the sleep.
    let link = "ln -sf /proc/$$/root/models /tmp/mnt && cat /tmp/mnt/config.json";
    let volume = ["--user", "1010", "--tmpfs", "/tmp:rw,mode=1777"];
    assert_eq!(podman.run_with(&volume, &id, &["/bin/sh", "-c", link]), CONFIG);
    site.done(&["model", "check", &tag]);
}

/// The platforms that the index has, or the only one that its manifest is for.
fn platforms(tag: &str) -> Vec<String> {
    let root: Value = serde_json::from_str(&skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{tag}"),
    ]))
    .unwrap();
    let named = |platform: &Value| {
        format!("{}/{}", platform["os"].as_str().unwrap(), platform["architecture"].as_str().unwrap())
    };
    match root["manifests"].as_array() {
        Some(manifests) => manifests.iter().map(|manifest| named(&manifest["platform"])).collect(),
        None => vec![named(&config(&format!("docker://{tag}")))],
    }
}

#[test]
fn a_model_is_for_the_platforms_that_its_base_is_for() {
    let site = Site::new("FROM scratch\nLABEL a=b\n");
    write_model(&site, 1);
    let registry = Registry::start(RegistryOptions::default());
    let tag = |name: &str| format!("{}/{name}:1", registry.host());
    site.built(&["--platform", "linux/arm64", "--push", "-t", &tag("arm")]);
    site.built(&["--platform", "linux/s390x", "--push", "-t", &tag("z")]);
    site.built(&["--platform", "linux/s390x,linux/arm64", "--push", "-t", &tag("both")]);
    let expected = [
        (None, &["linux/amd64", "linux/arm64"][..]),
        (Some("arm"), &["linux/arm64"]),
        (Some("both"), &["linux/arm64"]),
        (Some("z"), &["linux/s390x"]),
    ];
    for (base, expected) in expected {
        let (base, made) = (base.map(tag), tag("model"));
        let base: Vec<&str> = base.iter().flat_map(|base| ["--base", base]).collect();
        built(&site, None, &[&["model", "-t", &made, "--push"], &base[..]].concat());
        assert_eq!(platforms(&made), expected, "{base:?}");
    }
    built(&site, None, &["model", "-t", "model:1", "-o", "type=docker,dest=model.tar"]);
    let asked = ["model", "build", "model", "--base", &tag("both"), "--platform", "linux/amd64"];
    let said = ended(&mut site.ocib(&[&asked[..], &["-t", &tag("model"), "--push"]].concat())).failed(5);
    assert!(said.contains("linux/amd64"), "{said}");
}

#[test]
fn inspect_says_the_same_of_a_directory_a_hub_and_an_image() {
    let (server, registry) = (HubServer::start(), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    write_model(&site, 2);
    publish(&server, &hub_model(&site));
    let tag = format!("{}/model:1", registry.host());
    built(&site, None, &["model", "-t", &tag, "--push"]);
    let inspected = |model: &str| {
        let mut command = site.ocib(&["model", "inspect", model, "--json"]);
        let done = ended(command.env("HF_ENDPOINT", server.endpoint())).done();
        serde_json::from_slice::<Value>(&done.stdout).unwrap()["model"].clone()
    };
    let of_directory = inspected("model");
    let expected = json!({
        "format": "safetensors", "architecture": "LlamaForCausalLM", "modelType": "llama",
        "parameters": 2 << 20, "tensors": 2, "elements": {"U8": 2 << 20}, "dtype": "bfloat16",
        "contextLength": 8192, "license": "Apache-2.0", "baseModel": "org/base",
        "files": 5, "bytes": of_directory["bytes"], "weightBytes": of_directory["weightBytes"],
    });
    assert_eq!(of_directory, expected);
    let before = registry.requests();
    assert_eq!(inspected(&tag), expected);
    assert_eq!(registry.requests().since(&before).fetched().len(), 0, "a layer was read");
    assert_eq!(inspected("hf://org/model"), expected);
    let table = String::from_utf8(site.done(&["model", "inspect", "model"]).stdout).unwrap();
    assert!(table.contains("parameters    2.1M (2097152)\n"), "{table}");
}

#[test]
fn a_model_that_was_cut_off_is_refused_before_anything_is_sent() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    write_model(&site, 2);
    let path = site.path("model/model-00002-of-00002.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 7]).unwrap();
    let tag = format!("{}/model:1", registry.host());
    let refused = ended(&mut site.ocib(&["model", "build", "model", "-t", &tag, "--push"])).failed(3);
    let name = "model/model-00002-of-00002.safetensors is no whole safetensors file: its tensors take 1048576 bytes, but 1048569 follow the header";
    assert!(refused.contains(name), "{refused}");
    assert_eq!(registry.requests().uploads().len(), 0);
}
