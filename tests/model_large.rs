//! `ocib model build` and `pull`: large models in little memory, without a disk, and files that tar's octal digits
//! cannot describe.

use std::{fs, path::Path, process::Command};

use ocib_testkit::{
    BucketServer, Generated, GoogleEmulator, HubContent, HubServer, Registry, RegistryOptions, is_full,
    require, run_command, sparse_file,
};

use crate::{
    large::{self, largest_blob, listed},
    memory::{BYTES_WRITTEN_MAX, DISTANT_BUDGET, PEAK_KIB_MAX, measured},
    model::{CONFIG, built, digests, publish, ways},
    program::{Site, ended, layers, manifest, set_mode, stored_blob, tag_digest},
};

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
    let arguments = [
        "model",
        "build",
        "hf://org/model",
        "--platform",
        "linux/amd64",
        DISTANT_BUDGET,
        "--push",
        "-t",
        &tag,
    ];
    let used = measured(&site, &site.path("context"), &arguments, &[("HF_ENDPOINT", &endpoint)]);
    assert_eq!(tag_digest(&registry, "model", "large").as_deref(), Some(used.ended.digest()));
    println!(
        "8 shards of {bytes} bytes: a peak of {} KiB, {} bytes written",
        used.peak_kib, used.bytes_written
    );
    assert!(used.peak_kib < PEAK_KIB_MAX, "a peak of {} KiB", used.peak_kib);
    assert!(used.bytes_written < BYTES_WRITTEN_MAX, "{} bytes were written", used.bytes_written);

    // The same model on a disk: the registry has all of it.
    (0..8).for_each(|seed| {
        let path = site.path(format!("model/pytorch_model-{seed}.bin"));
        Generated::new(seed).write(&path, bytes);
    });
    site.file("model/config.json", CONFIG);
    let disk = format!("{}/model:disk", registry.host());
    let (_, metadata) = built(&site, None, &["model", "-t", &disk, "--push", "--hash-first", "always"]);
    assert!(ways(&metadata).iter().all(|way| way.ends_with(": hashed-first, present")), "{metadata:#}");
    let of_disk: Vec<String> = digests(&metadata);
    let of_hub = manifest(&tag);
    let of_hub: Vec<String> = layers(&of_hub).iter().map(|hex| format!("sha256:{hex}")).collect();
    assert_eq!(of_disk, of_hub);
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
        // What it cached of files counts, too, and may fill the rest.
        assert!(peak <= 96 << 20, "{peak}");
    }
}

/// A file that tar's octal digits cannot describe, with `OCIB_TEST_FULL`.
fn beyond_octal() -> u64 {
    if is_full() { large::BYTES } else { 48 << 20 }
}

const NAME: &str = "pytorch_model.bin";

/// A Hub with one large file, the bytes of [`Generated`] with the seed 1.
fn hub_of_one(bytes: u64) -> HubServer {
    let server = HubServer::start();
    publish(&server, &[(NAME.to_owned(), HubContent::Made { seed: 1, bytes })]);
    server
}

/// Pulls an image or an artifact of [`hub_of_one`], and compares the file at `path`.
fn assert_pulled(site: &Site, reference: &str, path: &str, bytes: u64) {
    site.done(&["model", "pull", "--quiet", reference, "to"]);
    assert!(Generated::new(1).is_in(&site.path("to").join(path), bytes), "{reference}");
    fs::remove_dir_all(site.path("to")).unwrap();
}

#[test]
fn a_file_of_9_gib_goes_from_the_hub_through_a_registry_to_a_node() {
    let bytes = beyond_octal();
    let (server, registry) = (hub_of_one(bytes), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    let tag = format!("{}/model:1", registry.host());
    let arguments = ["hf://org/model", "--platform", "linux/amd64", "-t", &tag, "--push", "--modelpack"];
    built(&site, Some(&server), &arguments);
    let manifest = manifest(&tag);
    let layer = stored_blob(&registry, layers(&manifest)[0]);
    assert_eq!(listed(&layer), [("models".to_owned(), 0), (format!("models/{NAME}"), bytes)]);
    assert_pulled(&site, &tag, NAME, bytes);
    // Its layers are the image's, with the image's names.
    assert_pulled(&site, &format!("{tag}-modelpack"), &format!("models/{NAME}"), bytes);
}

#[test]
fn a_file_of_9_gib_is_a_raw_layer() {
    let bytes = beyond_octal();
    let (server, registry) = (hub_of_one(bytes), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    let tag = format!("{}/model:1", registry.host());
    // The image beside it is small: zstd finds what repeats in these bytes.
    let arguments = ["-t", &tag, "--push", "--compression", "zstd", "--modelpack=raw"];
    built(&site, Some(&server), &[&["hf://org/model"], &arguments[..]].concat());
    assert_pulled(&site, &format!("{tag}-modelpack"), NAME, bytes);
    assert_pulled(&site, &tag, NAME, bytes);
}

#[test]
fn a_file_of_9_gib_is_the_same_from_wherever_it_is() {
    let bytes = beyond_octal();
    let (server, google) = (hub_of_one(bytes), GoogleEmulator::start());
    let bucket = BucketServer::start("models", &[(&format!("m/{NAME}"), 1, bytes)]);
    let site = Site::new("");
    let digests_from = |source: &str| {
        let output = ["-o", "type=oci,dest=out,tar=false", "--metadata-file", "metadata.json"];
        let mut command = site.ocib(&["model", "build", source, "--compression", "zstd"]);
        command.args(output).env("HF_ENDPOINT", server.endpoint());
        command.env("AWS_ENDPOINT_URL_S3", bucket.endpoint()).env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("STORAGE_EMULATOR_HOST", bucket.endpoint()).env("GCE_METADATA_HOST", google.host());
        ended(&mut command).done();
        let layer = largest_blob(&site.path("out"));
        assert_eq!(listed(&layer), [("models".to_owned(), 0), (format!("models/{NAME}"), bytes)], "{source}");
        if site.path("image").exists() {
            fs::remove_dir_all(site.path("out")).unwrap();
        } else {
            fs::rename(site.path("out"), site.path("image")).unwrap();
        }
        digests(&serde_json::from_slice(&fs::read(site.path("metadata.json")).unwrap()).unwrap())
    };
    let expected = digests_from("hf://org/model");
    assert_eq!(digests_from("s3://models/m"), expected);
    assert_eq!(digests_from("gs://models/m"), expected);
    // An object that everybody may read is a file behind a URL.
    assert_eq!(digests_from(&format!("{}/models/m/{NAME}", bucket.endpoint())), expected);
    assert_eq!(digests_from("oci-layout://image"), expected);
}

#[test]
fn a_file_of_9_gib_goes_from_a_directory_by_a_layout_and_an_archive() {
    let bytes = beyond_octal();
    let site = Site::new("");
    sparse_file(&site.path("model").join(NAME), bytes);
    let build = ["model", "build", "model", "--compression", "zstd", "-t", "model:1", "-o"];
    for (output, place) in [
        ("type=oci,dest=out,tar=false", "oci-layout://out"),
        ("type=oci,dest=out.tar", "oci-archive://out.tar"),
    ] {
        site.done(&[&build[..], &[output]].concat());
        site.done(&["model", "pull", "--quiet", place, "to"]);
        let mut compare = Command::new(require("cmp", "diffutils"));
        run_command(compare.arg(site.path("model").join(NAME)).arg(site.path("to").join(NAME)));
        fs::remove_dir_all(site.path("to")).unwrap();
    }
    let layer = largest_blob(&site.path("out"));
    assert_eq!(listed(&layer), [("models".to_owned(), 0), (format!("models/{NAME}"), bytes)]);
}
