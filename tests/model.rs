//! `ocib model build`: models from directories and the Hub as images, and beside them as artifacts.

use std::{fs, path::Path, process::Command};

use ocib_testkit::{
    HubContent, HubServer, Podman, Registry, RegistryOptions, S3Server, checkout, is_full, require,
    run_command, safetensors_file, skopeo,
};
use serde_json::{Value, json};

use crate::{
    memory::{BYTES_WRITTEN_MAX, PEAK_KIB_MAX_DISTANT, measured},
    program::{
        Ended, Site, config, ended, manifest, names, set_mode, signal, started, stored_blob, tag_digest,
        until, uploaded_bytes, wait,
    },
};

const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","max_position_embeddings":8192,"torch_dtype":"bfloat16"}"#;
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
fn hub_model(site: &Site) -> Vec<(String, HubContent)> {
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

fn publish(server: &HubServer, files: &[(String, HubContent)]) -> String {
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

/// Compares two directories; files whose names begin with a dot are no part of a model.
pub(crate) fn assert_same_files(expected: &Path, actual: &Path) {
    run_command(Command::new("diff").args(["-r", "--exclude=.*"]).args([expected, actual]));
}

#[test]
fn podman_reads_the_model_as_any_user() {
    let site = Site::new("FROM scratch\nCOPY bin/ /bin/\n");
    write_model(&site, 2);
    let busybox = fs::read(require("busybox", "busybox-static")).unwrap();
    for program in ["sh", "ln", "sleep", "cat", "id", "sha256sum"] {
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
fn an_unchanged_revision_moves_nothing_and_a_changed_shard_itself() {
    let (server, registry) = (HubServer::start(), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    write_model(&site, 8);
    let mut files = hub_model(&site);
    publish(&server, &files);
    let tag = format!("{}/model:1", registry.host());
    let arguments = ["hf://org/model", "-t", &tag, "--push"];
    let (first, metadata) = built(&site, Some(&server), &arguments);
    let all = digests(&metadata);

    // There is no cache: the programs of a site have no home.
    let (bytes, before) = (server.body_bytes(), registry.requests());
    let (second, metadata) = built(&site, Some(&server), &arguments);
    assert_eq!(second.digest(), first.digest());
    assert_eq!(server.body_bytes(), bytes, "bytes of files were fetched");
    let since = registry.requests().since(&before);
    assert_eq!(since.uploads().len(), 0, "{since:?}");
    assert!(ways(&metadata).iter().all(|way| way.ends_with(": reused, present")), "{metadata:#}");

    let (bytes, before) = (server.body_bytes(), registry.requests());
    safetensors_file(&site.path("model/model-00003-of-00008.safetensors"), 99, SHARD_BYTES);
    files.clone_from(&hub_model(&site));
    publish(&server, &files);
    let (_, metadata) = built(&site, Some(&server), &arguments);
    let moved: Vec<String> =
        ways(&metadata).into_iter().filter(|way| !way.ends_with("reused, present")).collect();
    assert_eq!(moved, ["model-00003-of-00008.safetensors: streamed, stored"]);
    let changed: Vec<bool> = digests(&metadata).iter().zip(&all).map(|(now, then)| now != then).collect();
    assert_eq!(changed.iter().filter(|is_changed| **is_changed).count(), 1);
    // The layer, and a config for each platform.
    assert_eq!(registry.requests().since(&before).with("PUT", "/blobs/uploads/").len(), 3);
    // A look at its header, and its bytes.
    let fetched = server.body_bytes() - bytes;
    assert!(fetched < 2 * SHARD_BYTES + 1000, "{fetched} bytes were fetched");

    // A config that changed is some hundred bytes.
    site.file("model/config.json", CONFIG.replace("8192", "16384"));
    files.clone_from(&hub_model(&site));
    publish(&server, &files);
    let (_, metadata) = built(&site, Some(&server), &arguments);
    let moved: Vec<&Value> = metadata["ocib.layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|layer| layer["stored"] == "stored")
        .collect();
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert!(moved[0]["size"].as_u64().unwrap() < 1 << 20);
    assert_eq!(metadata["ocib.model"]["contextLength"], 16384);

    // Asked to, it derives all of it again, and comes to the same.
    let (last, _) = built(&site, Some(&server), &arguments);
    let (verified, metadata) = built(&site, Some(&server), &[&arguments[..], &["--verify-reuse"]].concat());
    assert_eq!(verified.digest(), last.digest());
    assert!(ways(&metadata).iter().all(|way| way.ends_with(": hashed-first, present")), "{metadata:#}");
    assert!(!verified.stderr.contains("warning"), "{}", verified.stderr);
}

#[test]
fn layers_from_the_hub_are_those_from_disk_and_the_cache_spares_reading() {
    let (server, registry) = (HubServer::start(), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    write_model(&site, 2);
    let commit = publish(&server, &hub_model(&site));
    let [hub, disk] = ["hub:1", "disk:1"].map(|name| format!("{}/{name}", registry.host()));
    let (_, of_hub) = built(&site, Some(&server), &["hf://org/model", "-t", &hub, "--push"]);
    let (_, of_disk) = built(&site, None, &["model", "-t", &disk, "--push"]);
    assert_eq!(digests(&of_hub), digests(&of_disk));
    let labels = &config(&format!("docker://{hub}"))["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.revision"], *commit);
    assert_eq!(labels["org.opencontainers.image.source"], "https://huggingface.co/org/model");

    // Files are remembered only once they are older than the coarsest clock's tick.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let cached = |arguments: &[&str]| {
        let all =
            [&["model", "build", "model", "-t", &disk, "--push", "--progress", "json"], arguments].concat();
        let done = ended(site.ocib(&all).env("XDG_CACHE_HOME", site.path("cache"))).done();
        done.stderr.lines().filter(|line| line.contains("\"advanced\"")).count()
    };
    assert!(cached(&[]) > 0);
    assert_eq!(cached(&[]), 0, "what is remembered was read again");
    assert!(cached(&["--no-cache"]) > 0);
}

#[test]
fn a_model_in_a_bucket_is_the_same_and_is_not_read_again() {
    let (server, registry) = (S3Server::start(), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    write_model(&site, 2);
    let files: Vec<(String, Vec<u8>)> = names(&site.path("model"))
        .iter()
        .map(|name| (format!("m/{name}"), fs::read(site.path("model").join(name)).unwrap()))
        .collect();
    let objects: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    server.put("models", &objects, true);
    let tag = format!("{}/model:1", registry.host());
    let run = || {
        let mut command = site.ocib(&["model", "build", "s3://models/m", "-t", &tag, "--push"]);
        command.args(["--metadata-file", "metadata.json"]).env("AWS_ENDPOINT_URL_S3", server.endpoint());
        command.env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "planted");
        ended(command.env("AWS_REGION", "us-east-1")).done();
        serde_json::from_slice::<Value>(&fs::read(site.path("metadata.json")).unwrap()).unwrap()
    };
    let first = run();
    let (_, of_disk) = built(&site, None, &["model", "-o", "type=oci,dest=out,tar=false"]);
    assert_eq!(digests(&first), digests(&of_disk));
    let again = run();
    assert!(ways(&again).iter().all(|way| way.ends_with(": reused, present")), "{again:#}");
}

/// Judges a document by a JSON schema.
fn assert_valid(document: &Path) {
    let schema = checkout().join("testdata/modelpack/config-schema.json");
    let judge = "import json,sys; import jsonschema; a,b=[json.load(open(p)) for p in sys.argv[1:]]; \
                 jsonschema.validate(b,a,format_checker=jsonschema.FormatChecker())";
    run_command(Command::new(require("python3", "python3")).args(["-c", judge]).args([&schema, document]));
}

pub(crate) fn layers_of(manifest: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| (text(&layer["mediaType"]), text(&layer["digest"]))).collect()
}

#[test]
fn a_modelpack_manifest_has_the_layers_of_the_image() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    write_model(&site, 2);
    site.file("model/modeling.py", "pass\n");
    let tag = format!("{}/model:1", registry.host());
    let before = registry.requests();
    let (_, metadata) = built(&site, None, &["model", "-t", &tag, "--push", "--modelpack"]);
    let pack = manifest(&format!("{tag}-modelpack"));
    assert_eq!(pack["artifactType"], "application/vnd.cncf.model.manifest.v1+json");
    assert_eq!(pack["config"]["mediaType"], "application/vnd.cncf.model.config.v1+json");
    let types: Vec<String> = layers_of(&pack).into_iter().map(|(media_type, _)| media_type).collect();
    let expected = [
        "weight.v1.tar",
        "weight.v1.tar",
        "weight.config.v1.tar+gzip",
        "doc.v1.tar+gzip",
        "code.v1.tar+gzip",
    ];
    assert_eq!(types, expected.map(|end| format!("application/vnd.cncf.model.{end}")));
    let own: Vec<String> = layers_of(&pack).into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(own, digests(&metadata));
    // Five layers, the configs of two platforms and that of the ModelPack.
    assert_eq!(registry.requests().since(&before).with("PUT", "/blobs/uploads/").len(), 8);
    assert_eq!(
        pack["layers"][0]["annotations"]["org.cncf.model.filepath"],
        "models/model-00001-of-00002.safetensors"
    );
    let hex = pack["config"]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert_valid(&stored_blob(&registry, hex));
}

#[test]
fn raw_layers_are_the_files_themselves_and_are_asked_for_before_they_are_read() {
    let (server, registry) = (HubServer::start(), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    write_model(&site, 2);
    publish(&server, &hub_model(&site));
    let tag = format!("{}/model:1", registry.host());
    let arguments = ["hf://org/model", "-t", &tag, "--push", "--modelpack=raw", "--modelpack-tag", "raw"];
    built(&site, Some(&server), &arguments);
    let pack = manifest(&format!("{}/model:raw", registry.host()));
    let layers = layers_of(&pack);
    assert_eq!(layers.len(), 5, "{pack:#}");
    for ((media_type, digest), layer) in layers.iter().zip(pack["layers"].as_array().unwrap()) {
        assert!(media_type.ends_with(".raw"), "{media_type}");
        let path = layer["annotations"]["org.cncf.model.filepath"].as_str().unwrap();
        let sum = run_command(Command::new("sha256sum").arg(site.path("model").join(path)));
        assert_eq!(digest["sha256:".len()..], sum[..64], "{path}");
    }
    let hex = pack["config"]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert_valid(&stored_blob(&registry, hex));
    let bytes = server.store_requests().0.len();
    built(&site, Some(&server), &arguments);
    assert_eq!(server.store_requests().0.len(), bytes, "weights were asked for");
}

/// A model in GGUF: two tensors, a vocabulary of two words.
pub(crate) fn gguf() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let pair = |key: &str, kind: u32, value: &[u8]| [&text(key)[..], &kind.to_le_bytes(), value].concat();
    let words = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text("a"), &text("b")].concat();
    let tensor = |name: &str, side: u64| {
        [&text(name)[..], &1_u32.to_le_bytes(), &side.to_le_bytes(), &[0; 12]].concat()
    };
    [
        b"GGUF".to_vec(),
        [&3_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &3_u64.to_le_bytes()].concat(),
        pair("general.architecture", 8, &text("llama")),
        pair("tokenizer.ggml.tokens", 9, &words),
        pair("general.file_type", 4, &15_u32.to_le_bytes()),
        tensor("a", 4_000_000),
        tensor("b", 500_000),
        vec![7; 2 << 20],
    ]
    .concat()
}

#[test]
fn docker_model_runner_gets_gguf_and_nothing_else() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    site.file("model/model.Q4_K_M.gguf", gguf())
        .file("model/LICENSE", "MIT License\n")
        .file("model/README.md", "x");
    let tag = format!("{}/model:1", registry.host());
    built(&site, None, &["model", "-t", &tag, "--push", "--docker-model"]);
    let model = manifest(&format!("{tag}-docker"));
    let types: Vec<String> = layers_of(&model).into_iter().map(|(media_type, _)| media_type).collect();
    assert_eq!(types, ["application/vnd.docker.ai.license", "application/vnd.docker.ai.gguf.v3"]);
    assert_eq!(model["config"]["mediaType"], "application/vnd.docker.ai.model.config.v0.1+json");
    let hex = model["config"]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let config: Value = serde_json::from_slice(&fs::read(stored_blob(&registry, hex)).unwrap()).unwrap();
    let expected = json!({"architecture": "llama", "parameter_count": "4.5M", "quantization": "Q4_K_M"});
    assert_eq!(config["config"]["gguf"], expected);
    assert_eq!(config["config"]["format"], "gguf");
    assert_eq!(config["files"][1]["diffID"], model["layers"][1]["digest"]);

    write_model(&site, 1);
    fs::remove_file(site.path("model/model.Q4_K_M.gguf")).unwrap();
    let refused = ended(&mut site.ocib(&["model", "build", "model", "-t", &tag, "--push", "--docker-model"]));
    assert_eq!(refused.code(), Some(2));
    let expected = "the model cannot be described as a model for Docker Model Runner: its weights are safetensors, expected gguf";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
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

/// From the Hub to a registry, on a machine where nothing can be written.
#[test]
fn a_large_model_passes_through_in_little_memory_and_no_disk() {
    let bytes = if is_full() { 1 << 30 } else { 32 << 20 };
    let (server, registry) = (HubServer::start(), Registry::start(RegistryOptions::default()));
    let name =
        |number: u64| (format!("pytorch_model-{number}.bin"), HubContent::Made { seed: number, bytes });
    let mut files: Vec<(String, HubContent)> = (0..8).map(name).collect();
    files.push(("config.json".to_owned(), HubContent::Plain(CONFIG.into())));
    publish(&server, &files);
    let site = Site::new("");
    set_mode(site.path("context"), 0o555);
    let (tag, endpoint) = (format!("{}/model:large", registry.host()), server.endpoint());
    let arguments = ["model", "build", "hf://org/model", "--push", "-t", &tag];
    let used = measured(&site, &site.path("context"), &arguments, &[("HF_ENDPOINT", &endpoint)]);
    assert_eq!(tag_digest(&registry, "model", "large").as_deref(), Some(used.ended.digest()));
    println!(
        "8 shards of {bytes} bytes: a peak of {} KiB, {} bytes written",
        used.peak_kib, used.bytes_written
    );
    assert!(used.peak_kib < PEAK_KIB_MAX_DISTANT, "a peak of {} KiB", used.peak_kib);
    assert!(used.bytes_written < BYTES_WRITTEN_MAX, "{} bytes were written", used.bytes_written);
}

/// A memory cgroup, where this machine lets one be made (as root, version 1).
struct MemoryCgroup(std::path::PathBuf);

impl MemoryCgroup {
    fn new(bytes: u64) -> Option<Self> {
        let path = Path::new("/sys/fs/cgroup/memory").join(format!("ocib-test-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let cgroup = Self(path);
        fs::write(cgroup.0.join("memory.limit_in_bytes"), bytes.to_string()).ok()?;
        Some(cgroup)
    }

    fn number(&self, file: &str) -> u64 {
        fs::read_to_string(self.0.join(file)).unwrap().trim().parse().unwrap()
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_model_passes_through_a_pod_of_96_mib() {
    let bytes = if is_full() { 1 << 30 } else { 32 << 20 };
    let (server, registry) = (HubServer::start(), Registry::start(RegistryOptions::default()));
    let name =
        |number: u64| (format!("pytorch_model-{number}.bin"), HubContent::Made { seed: number, bytes });
    publish(&server, &(0..8).map(name).collect::<Vec<_>>());
    let site = Site::new("");
    set_mode(site.path("context"), 0o555);
    let tag = format!("{}/model:pod", registry.host());
    let cgroup = MemoryCgroup::new(96 << 20);
    let enter = match &cgroup {
        Some(cgroup) => format!("echo $$ > {}/cgroup.procs; ", cgroup.0.display()),
        None => {
            println!("no memory cgroup can be made here: the program runs outside of one");
            String::new()
        }
    };
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{enter}cd context; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_ocib")]);
    command.args(["model", "build", "hf://org/model", "--push", "--quiet", "-t", &tag]);
    site.clean(&mut command);
    let done = ended(command.env("HF_ENDPOINT", server.endpoint())).done();
    assert_eq!(tag_digest(&registry, "model", "pod").as_deref(), Some(done.digest()));
    if let Some(cgroup) = &cgroup {
        let peak = cgroup.number("memory.max_usage_in_bytes");
        println!("8 shards of {bytes} bytes: at most {} KiB in the cgroup", peak >> 10);
        assert!(peak < 96 << 20, "{peak}");
    }
}

#[test]
fn a_new_tag_learns_of_the_old_one_and_an_interrupted_push_leaves_none() {
    let (server, registry) = (HubServer::start(), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    write_model(&site, 4);
    publish(&server, &hub_model(&site));
    let [old, new, other] =
        ["model:1", "model:2", "other:1"].map(|name| format!("{}/{name}", registry.host()));
    built(&site, Some(&server), &["hf://org/model", "-t", &old, "--push"]);
    let bytes = server.body_bytes();
    let (_, metadata) =
        built(&site, Some(&server), &["hf://org/model", "-t", &new, "--push", "--cache-from", &old]);
    assert!(ways(&metadata).iter().all(|way| way.ends_with(": reused, present")), "{metadata:#}");
    let (_, metadata) =
        built(&site, Some(&server), &["hf://org/model", "-t", &other, "--push", "--cache-from", &old]);
    assert!(ways(&metadata).iter().all(|way| way.ends_with(": reused, mounted")), "{metadata:#}");
    assert_eq!(server.body_bytes(), bytes, "bytes of files were fetched");

    server.throttle(Some(200_000));
    let third = format!("{}/third:1", registry.host());
    let mut command = site.ocib(&["model", "build", "hf://org/model", "-t", &third, "--push"]);
    let mut child = started(command.env("HF_ENDPOINT", server.endpoint()));
    until(&mut child, "a shard is on its way", || uploaded_bytes(&registry, "third") > 0);
    signal(&child, "INT");
    assert_eq!(wait(child).code(), Some(130));
    assert_eq!(tag_digest(&registry, "third", "1"), None);
}
