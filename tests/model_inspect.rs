//! `ocib model inspect` and `build`: names, patterns and texts that are not what they seem.

use ocib_testkit::{FileServer, HubContent, HubServer};
use serde_json::{Value, json};

use crate::program::{Site, ended};

/// Docker's builders compress layers, and an upper layer may have another file at a path.
#[test]
fn files_in_images_of_other_builders_are_listed_whatever_their_layers_are() {
    let site = Site::new("FROM scratch\nCOPY lower /models/\nCOPY upper /models/\nCOPY other /etc/\n");
    site.file("context/lower/model.gguf", "x".repeat(1000)).file("context/lower/config.json", "{}");
    site.file("context/upper/config.json", "{\"a\":1}").file("context/other/passwd", "root");
    for codec in ["none", "gzip", "zstd"] {
        let output = format!("type=oci,tar=false,dest={codec}");
        site.built(&["--quiet", "--compression", codec, "-t", "x:1", "-o", &output]);
        let image = format!("oci-layout://{codec}:1");
        let model = |path: &str| {
            let done = site.done(&["model", "inspect", "--json", "--path", path, &image]);
            serde_json::from_slice::<Value>(&done.stdout).unwrap()["model"].clone()
        };
        let expected = json!({"format": "gguf", "files": 2, "bytes": 1007, "weightBytes": 1000});
        assert_eq!(model("/models"), expected, "{codec}");
        assert_eq!(model("/etc"), json!({"files": 1, "bytes": 4, "weightBytes": 0}), "{codec}");
    }
}

/// What others have compressed is named all the same, weights first; of very many files the rest is counted.
#[test]
fn files_in_layers_are_named_up_to_a_number_that_can_be_read() {
    let site = Site::new("FROM scratch\nCOPY model /models/\n");
    site.file("context/model/z.gguf", "x".repeat(1000)).file("context/model/a\u{1b}[31m.json", "{}");
    let inspect = |arguments: &[&str]| {
        let build = ["--quiet", "--compression", "gzip", "-t", "x:1", "-o", "type=oci,tar=false,dest=o"];
        site.built(&build);
        let done = site.done(&[&["model", "inspect", "oci-layout://o:1"], arguments].concat());
        String::from_utf8(done.stdout.clone()).unwrap()
    };
    let table = inspect(&[]);
    let rows = [
        "files below the path",
        "      1000 B  weight  z.gguf",
        "         2 B  config  a\\u{1b}[31m.json",
        "layers",
    ];
    assert!(table.contains(&rows.join("\n")), "{table}");
    for number in 0..300 {
        site.file(format!("context/model/{number:03}.txt"), "text");
    }
    let table = inspect(&[]);
    assert!(table.contains("198.txt\n") && !table.contains("199.txt"), "{table}");
    assert!(table.contains("       406 B          in 102 more files\nlayers\n"), "{table}");
    let json: Value = serde_json::from_str(&inspect(&["--json"])).unwrap();
    let files = json["files"].as_array().unwrap();
    assert_eq!((files.len(), &files[0]), (200, &json!({"path": "z.gguf", "kind": "weight", "bytes": 1000})));
    assert_eq!(json["otherFiles"], json!({"files": 102, "bytes": 101 * 4 + 2}));
}

#[test]
fn a_directory_that_is_none_is_said_in_words_of_models() {
    let site = Site::new("");
    for source in ["none", "context/Dockerfile"] {
        let said = ended(&mut site.ocib(&["model", "build", source])).failed(3);
        assert!(said.contains(&format!("cannot read {source}: N")), "{said}");
        assert!(
            said.contains("help: expected a directory, hf://ORG/NAME") && !said.contains("context,"),
            "{said}"
        );
    }
}

/// What a download that was interrupted, or a pattern, leaves.
#[test]
fn sets_of_shards_that_are_not_whole_are_said() {
    let site = Site::new("");
    site.file("context/m-00001-of-00002.bin", "x");
    let expected = "m-*-of-00002.bin: 1 of 2 files are missing, first m-00002-of-00002.bin";
    let built =
        site.done(&["model", "build", "context", "--base", "scratch", "-o", "type=oci,dest=o,tar=false"]);
    assert!(built.stderr.contains(expected), "{}", built.stderr);
    let table = site.done(&["model", "inspect", "context"]);
    let table = String::from_utf8(table.stdout.clone()).unwrap();
    assert!(table.contains(&format!("missing       {expected}\n")), "{table}");
    site.file("context/m-00002-of-00002.bin", "y");
    let whole = site.done(&["model", "inspect", "--json", "context"]);
    let whole: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!(whole["missing"], json!([]));
}

#[test]
fn what_a_url_is_signed_with_is_not_shown() {
    let server = FileServer::start();
    let site = Site::new("");
    server.put("/model.gguf", &crate::model_artifacts::gguf());
    let url = format!("{}?X-Amz-Signature=planted", server.url("/model.gguf"));
    let url = url.replace("http://", "http://me:planted@");
    for format in [&[][..], &["--json"]] {
        let done = site.done(&[&["model", "inspect", &*url], format].concat());
        let printed = String::from_utf8(done.stdout.clone()).unwrap() + &done.stderr;
        assert!(printed.contains("/model.gguf") && !printed.contains("planted"), "{printed}");
    }
}

#[test]
fn patterns_see_paths_below_what_is_named() {
    let server = HubServer::start();
    let site = Site::new("");
    let files = ["onnx/model.onnx", "onnx/model_q4.onnx", "README.md"];
    server.publish("org/model", &files.map(|name| (name, HubContent::Plain(name.into()))));
    for (arguments, expected) in [
        (&["hf://org/model/onnx", "--include", "model.onnx"][..], 1),
        (&["hf://org/model/onnx", "--exclude", "model_*"], 1),
        (&["hf://org/model/onnx", "--include", "*.onnx"], 2),
        (&["hf://org/model", "--include", "onnx/*"], 2),
    ] {
        let mut command = site.ocib(&[&["model", "inspect", "--json"], arguments].concat());
        let done = ended(command.env("HF_ENDPOINT", server.endpoint())).done();
        let found: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(found["model"]["files"], expected, "{arguments:?}");
    }
}

#[test]
fn two_manifests_never_get_one_name() {
    let site = Site::new("");
    site.file("model/model.bin", "weights");
    for flags in [
        &["--modelpack", "--modelpack-tag", "1"][..],
        &["--modelpack", "--modelpack-tag", "a", "--docker-model", "--docker-model-tag", "a"],
    ] {
        let arguments = [&["model", "build", "model", "-t", "h/m:1"], flags].concat();
        let said = ended(&mut site.ocib(&arguments)).failed(2);
        assert!(said.contains("would be the name of two different things"), "{said}");
    }
}
