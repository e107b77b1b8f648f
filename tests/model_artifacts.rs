//! `ocib model build`: manifests of other kinds beside the image.

use std::{fs, path::Path, process::Command};

use ocib_testkit::{HubServer, Registry, RegistryOptions, checkout, require, run_command};
use serde_json::{Value, json};

use crate::{
    model::{built, digests, hub_model, publish, write_model},
    program::{Site, ended, manifest, stored_blob},
};

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
    // Two tags in one repository share the name beside them.
    let stable = format!("{}/model:stable", registry.host());
    let arguments = [
        &["hf://org/model", "-t", &tag, "-t", &stable, "-t", &tag][..],
        &["--push", "--modelpack=raw", "--modelpack-tag", "raw"],
    ]
    .concat();
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
