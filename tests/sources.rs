//! Sources that only ocib has, in ADD: what images hold of them, and what is said when they cannot be had.

use std::{fs, process::Command};

use ocib_testkit::{
    GoogleEmulator, HubAccess, HubContent, HubFault, HubServer, Noise, Registry, RegistryOptions, S3Server,
    is_full, rootfs,
};

use crate::{
    memory::{BYTES_WRITTEN_MAX, DISTANT_BUDGET, PEAK_KIB_MAX, measured},
    program::{Ended, Site, ended, set_mode, tag_digest},
};

/// A Hub with a public, a gated and a private model.
fn hub() -> HubServer {
    let server = HubServer::start();
    let files = [
        ("README.md", HubContent::Plain(b"# A model\n".to_vec())),
        ("config.json", HubContent::Plain(b"{}".to_vec())),
        ("model.safetensors", HubContent::Large(Noise::bytes(7, 5_000_000))),
        ("onnx/model.onnx", HubContent::Large(b"onnx".to_vec())),
    ];
    for name in ["org/model", "org/gated", "org/private"] {
        server.publish(name, &files);
    }
    server.restrict("org/gated", HubAccess::Gated);
    server.restrict("org/private", HubAccess::Private);
    server
}

fn build(site: &Site, server: &HubServer, arguments: &[&str]) -> Command {
    let mut build = site.build(arguments);
    build.env("HF_ENDPOINT", server.endpoint());
    build
}

fn built(site: &Site, server: &HubServer, arguments: &[&str]) -> Ended {
    ended(&mut build(site, server, arguments)).done()
}

/// Paths of the image in ./ocib-out, with type, mode, owner, size and link.
fn paths(site: &Site) -> Vec<String> {
    let files = rootfs(&site.path("ocib-out"), "linux/amd64");
    files.iter().map(|(path, file)| format!("{path} {file}")).collect()
}

#[test]
fn a_model_a_directory_and_a_file_are_added() {
    let server = hub();
    for (add, expected) in [
        (
            "ADD hf://org/model /models/",
            &[
                "models d 0755 0:0 0",
                "models/README.md f 0644 0:0 10",
                "models/config.json f 0644 0:0 2",
                "models/model.safetensors f 0644 0:0 5000000",
                "models/onnx d 0755 0:0 0",
                "models/onnx/model.onnx f 0644 0:0 4",
            ][..],
        ),
        ("ADD hf://org/model@main/onnx /m/", &["m d 0755 0:0 0", "m/model.onnx f 0644 0:0 4"]),
        (
            "ADD --chown=1010:0 --chmod=0664 hf://org/model/config.json /m/",
            &["m d 0664 1010:0 0", "m/config.json f 0664 1010:0 2"],
        ),
        ("ADD hf://org/model/config.json /other.json", &["other.json f 0644 0:0 2"]),
        (
            "ADD --exclude=*.safetensors --exclude=onnx hf://org/model /m",
            &["m d 0755 0:0 0", "m/README.md f 0644 0:0 10", "m/config.json f 0644 0:0 2"],
        ),
    ] {
        let site = Site::new(&format!("FROM scratch\n{add}\n"));
        built(&site, &server, &[]);
        assert_eq!(paths(&site), expected, "{add}");
    }
}

#[test]
fn checksums_are_of_files() {
    let server = hub();
    // sha256sum of `{}` and of `onnx`.
    let config = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let onnx = "sha256:7cb89f01f9caa9a4d9bf7ff3c98dd3a5b3f5d29ab1d2f3d7a47e6c1b1a6c4b8a";
    let site = Site::new(&format!("FROM scratch\nADD --checksum={config} hf://org/model/config.json /\n"));
    built(&site, &server, &[]);
    for (place, checksum, expected) in [
        ("hf://org/model/README.md", config, "README.md is not what it was said to be: expected sha256:4413"),
        ("hf://org/model/onnx/model.onnx", onnx, "digest mismatch sha256:"),
        ("hf://org/model", config, "it is a directory, expected a file for a checksum"),
    ] {
        let site = Site::new(&format!("FROM scratch\nADD --checksum={checksum} {place} /\n"));
        let ended = ended(&mut build(&site, &server, &[]));
        assert!(ended.stderr.contains(expected), "{place}: {}", ended.stderr);
        assert_ne!(ended.code(), Some(0));
    }
}

#[test]
fn the_token_is_found_where_the_hubs_client_keeps_it() {
    let server = hub();
    let site = Site::new("FROM scratch\nADD hf://org/gated /g/\nADD hf://org/private /p/\n");
    let token = server.token();
    site.file("cache/huggingface/token", format!("{token}\n")).file("named", token).file("home/token", token);
    site.file("user/.cache/huggingface/token", token);
    for (variable, value) in [
        ("HF_TOKEN", token.to_owned()),
        ("HUGGING_FACE_HUB_TOKEN", token.to_owned()),
        ("HF_TOKEN_PATH", site.name("named")),
        ("HF_HOME", site.name("home")),
        ("XDG_CACHE_HOME", site.name("cache")),
        ("HOME", site.name("user")),
    ] {
        let ended = ended(build(&site, &server, &[]).env(variable, value)).done();
        assert!(!ended.stderr.contains(token), "{variable}");
        let written = Command::new("grep").args(["-r", token]).arg(site.path("ocib-out")).output().unwrap();
        assert_eq!(written.stdout, b"", "{variable}");
        fs::remove_dir_all(site.path("ocib-out")).unwrap();
    }
}

#[test]
fn what_cannot_be_had_is_explained_at_its_line() {
    let server = hub();
    let private = "there is no such repository, or it is private";
    for (place, token, code, expected) in [
        ("hf://org/gated", "", 4, "access is restricted: Access to this model is restricted and you are"),
        ("hf://org/gated", server.stranger(), 4, "the token (HF_TOKEN) of an account that was given access"),
        ("hf://org/private", "", 4, private),
        ("hf://org/private", server.stranger(), 5, private),
        ("hf://org/model", "hf_PlantedTokenThatEnded", 4, "the Hub does not take the token"),
        ("hf://org/model@v9", "", 5, "the repository has no revision v9"),
        ("hf://org/model/none", "", 5, "the repository has nothing at none"),
        ("hf://gpt2", "", 3, "it has no repository, expected hf://ORG/NAME[@REVISION][/PATH]"),
    ] {
        let site = Site::new(&format!("FROM scratch\nADD {place} /m/\n"));
        let stderr = ended(build(&site, &server, &[]).env("HF_TOKEN", token)).failed(code);
        assert!(stderr.contains(expected), "{place} {token}: {stderr}");
        assert!(stderr.contains(&format!("2 | ADD {place} /m/")), "{stderr}");
        assert!(!stderr.contains("hf_Planted"), "{stderr}");
    }
    let site = Site::new("FROM scratch\nCOPY hf://org/model /m/\n");
    assert!(site.refused(3, &[]).contains("error: source can't be a URL for COPY\n"));
    let stderr = ended(site.build(&[]).env("HF_ENDPOINT", "https://u:secret@h")).failed(2);
    let expected = "error: HF_ENDPOINT names no server, expected a URL such as https://huggingface.co\n";
    assert!(stderr.ends_with(expected), "{stderr}");
    let stderr = ended(site.build(&[]).env("HF_TOKEN_PATH", "none")).failed(3);
    assert!(stderr.contains("error: cannot read the token in none: No such file"), "{stderr}");
}

#[test]
fn wrong_bytes_make_no_image() {
    let server = hub();
    let site = Site::new("FROM scratch\nADD hf://org/model/onnx/model.onnx /m/\n");
    server.fail(HubFault::WrongByte);
    let stderr = ended(&mut build(&site, &server, &[])).failed(5);
    assert!(stderr.contains("/onnx/model.onnx is not what it was said to be: expected sha256:"), "{stderr}");
    assert!(!site.path("ocib-out/index.json").exists());
}

#[test]
fn what_did_not_change_is_not_fetched_again() {
    let server = hub();
    let site = Site::new("FROM scratch\nADD hf://org/model /m/\n");
    let run = || {
        let registry_less = ["-o", "type=oci,dest=out,tar=false"];
        let mut build = build(&site, &server, &registry_less);
        ended(build.env("XDG_CACHE_HOME", site.path("cache"))).done().digest().to_owned()
    };
    let first = run();
    let fetched = server.body_bytes();
    assert!(fetched >= 5_000_000 + 4 + 10 + 2, "{fetched}");
    assert_eq!(run(), first);
    assert_eq!(server.body_bytes(), fetched);
}

/// Files that come over the network need memory on their way, which every command counts as a build does.
#[test]
fn all_commands_count_the_memory_of_distant_files() {
    let server = hub();
    let site = Site::new("FROM scratch\nADD hf://org/model /m/\n");
    site.file("context/Local", "FROM scratch\nCOPY Local /\n");
    let little = ["--memory", "32MiB", "--compression", "none", "--tag", "127.0.0.1:9/model"];
    for command in ["plan", "build"] {
        ended(site.ocib(&[command, "context", "-f", "context/Local"]).args(little)).done();
    }
    for command in ["plan", "preflight", "build"] {
        let mut refused = site.ocib(&[command, "context"]);
        let stderr = ended(refused.args(little).env("HF_ENDPOINT", server.endpoint())).failed(2);
        assert!(stderr.contains("is too small, expected at least"), "{command}: {stderr}");
    }
}

/// Eight shards at a time out of a Hub that nobody keeps, into a registry.
#[test]
fn large_models_pass_through_in_little_memory() {
    let bytes = if is_full() { 1 << 30 } else { 48 << 20 };
    let mut shards: Vec<u64> = (0..8).map(|_| bytes).collect();
    if is_full() {
        shards.push(9 << 30);
    }
    let (server, registry) = (HubServer::start(), Registry::start(RegistryOptions::default()));
    let name = |number: usize| format!("model-{number}.safetensors");
    let names: Vec<String> = (0..shards.len()).map(name).collect();
    let made = names.iter().zip(&shards).zip(1..);
    let files: Vec<(&str, HubContent)> =
        made.map(|((name, &bytes), seed)| (name.as_str(), HubContent::Made { seed, bytes })).collect();
    server.publish("org/large", &files);
    let adds: String = names.iter().map(|name| format!("ADD hf://org/large/{name} /models/\n")).collect();
    let site = Site::new(&format!("FROM scratch\n{adds}"));
    set_mode(site.path("context"), 0o755);
    let tag = format!("{}/model:large", registry.host());
    let endpoint = server.endpoint();
    let arguments = ["build", ".", "--jobs", "16", DISTANT_BUDGET, "--push", "-t", &tag];
    let used = measured(&site, &site.path("context"), &arguments, &[("HF_ENDPOINT", &endpoint)]);
    assert_eq!(tag_digest(&registry, "model", "large").as_deref(), Some(used.ended.digest()));
    println!("{} shards of {bytes} bytes: a peak of {} KiB", shards.len(), used.peak_kib);
    assert!(used.peak_kib < PEAK_KIB_MAX, "a peak of {} KiB", used.peak_kib);
    assert!(used.bytes_written < BYTES_WRITTEN_MAX, "{} bytes were written", used.bytes_written);
}

/// Signed with a key out of the environment; Google's store is asked with the metadata server's token.
#[test]
fn objects_of_buckets_are_added() {
    let (server, google) = (S3Server::start(), GoogleEmulator::start());
    let objects: [(&str, &[u8]); 3] = [("m/config.json", b"{}"), ("m/sub/w", b"weights"), ("other", b"o")];
    server.put("models", &objects, false);
    for (add, expected) in [
        (
            "ADD s3://models/m /m/",
            &["m d 0755 0:0 0", "m/config.json f 0644 0:0 2", "m/sub d 0755 0:0 0", "m/sub/w f 0644 0:0 7"][..],
        ),
        ("ADD s3://models/other /m/", &["m d 0755 0:0 0", "m/other f 0644 0:0 1"]),
        ("ADD gs://models/m/sub /g/", &["g d 0755 0:0 0", "g/w f 0644 0:0 7"]),
    ] {
        let site = Site::new(&format!("FROM scratch\n{add}\n"));
        let mut build = site.build(&[]);
        build.env("AWS_ENDPOINT_URL_S3", server.endpoint()).env("STORAGE_EMULATOR_HOST", server.endpoint());
        build.env("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST").env("AWS_SECRET_ACCESS_KEY", "PlantedSecret");
        build.env("GCE_METADATA_HOST", google.host());
        let ended = ended(&mut build).done();
        assert!(!ended.stderr.contains("PlantedSecret"));
        assert_eq!(paths(&site), expected, "{add}");
    }
    let site = Site::new("FROM scratch\nADD s3://models/none /m/\n");
    let mut build = site.build(&[]);
    build.env("AWS_ENDPOINT_URL", server.endpoint()).env("AWS_EC2_METADATA_DISABLED", "true");
    let stderr = ended(&mut build).failed(5);
    assert!(stderr.contains("s3://models/none: there is no such object, and none below it"), "{stderr}");
}

/// The whole context, or a named one: only what the Dockerfile and COPY want is read.
#[test]
fn buckets_and_hubs_are_contexts() {
    let (server, hub) = (S3Server::start(), hub());
    let weights = Noise::bytes(3, 3 << 20);
    let objects: [(&str, &[u8]); 5] = [
        ("app/Dockerfile", b"FROM scratch\nCOPY . /app/\nCOPY --from=weights *.safetensors /models/\n"),
        ("app/.dockerignore", b"secret*\n"),
        ("app/main", b"main"),
        ("app/secret.txt", b"planted"),
        ("app/sub/model.bin", &weights),
    ];
    server.put("contexts", &objects, true);
    let site = Site::new("FROM scratch\nCOPY missing /x\n");
    let ocib = |arguments: &[&str]| {
        let mut command = site.ocib(arguments);
        command.env("AWS_ENDPOINT_URL_S3", server.endpoint()).env("HF_ENDPOINT", hub.endpoint());
        command
            .env("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
            .env("AWS_SECRET_ACCESS_KEY", "PlantedSecret");
        command
    };
    let context = ["s3://contexts/app", "--build-context", "weights=hf://org/model"];
    let first = ended(&mut ocib(&[&["build"], &context[..]].concat())).done();
    let expected = [
        "app d 0755 0:0 0",
        "app/Dockerfile f 0644 0:0 69",
        "app/main f 0644 0:0 4",
        "app/sub d 0755 0:0 0",
        "app/sub/model.bin f 0644 0:0 3145728",
        "models d 0755 0:0 0",
        "models/model.safetensors f 0644 0:0 5000000",
    ];
    let found = paths(&site);
    assert_eq!(found.iter().filter(|path| !path.starts_with("app/.docker")).collect::<Vec<_>>(), expected);
    assert_eq!(hub.store_requests().with("GET", "onnx").len(), 0);
    // The same files from a disk are the same image.
    for (name, content) in objects {
        let name = format!("disk/{name}");
        site.file(&name, content);
        set_mode(site.path(&name), 0o644);
    }
    let disk = ["build", "disk/app", "--build-context", "weights=hf://org/model"];
    assert_eq!(ended(&mut ocib(&disk)).done().digest(), first.digest());

    let planned = ended(&mut ocib(&[&["plan"], &context[..]].concat())).done();
    assert!(String::from_utf8_lossy(&planned.stdout).contains("COPY . /app/"));
    ended(&mut ocib(&["check", "s3://contexts/app"])).done();
    for (context, code, expected) in [
        ("s3://contexts/app/main", 3, "s3://contexts/app/main is a file, expected a directory for a context"),
        ("s3://contexts/app/sub", 3, "s3://contexts/app/sub has no Dockerfile"),
        ("s3://none/app", 5, "error[bucket-missing]: "),
        ("hf://org/none", 4, "error[hf-repository-missing]: "),
    ] {
        let said = ended(&mut ocib(&["build", context])).failed(code);
        assert!(said.contains(expected), "{context}: {said}");
    }
}
