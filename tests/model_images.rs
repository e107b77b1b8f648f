//! `ocib model build oci://…`: models out of images and artifacts into images.

use std::{fs, os::unix::fs::symlink, process::Command};

use ocib_image::Digest;
use ocib_testkit::{
    Fault, FaultProxy, Noise, Registry, RegistryOptions, RequestKind, Served, is_full, noise_file, require,
    run_command,
};
use serde_json::Value;

use crate::{
    memory::{BYTES_WRITTEN_MAX, DISTANT_BUDGET, PEAK_KIB_MAX, measured},
    model::{SHARD_BYTES, assert_same_files, built, digests, ways, write_model},
    model_artifacts::layers_of,
    model_layers::{CONFIG, Part, TAR, hostile, layout},
    program::{Site, config, ended, manifest, set_mode, tag_digest},
};

/// Bytes of these blobs that the registry gave since.
fn fetched(registry: &Registry, before: &Served, blobs: &[String]) -> u64 {
    let requests = registry.requests().since(before);
    let gets = requests.0.iter().filter(|request| request.method == "GET");
    let of_blobs = gets.filter(|request| blobs.iter().any(|blob| request.path.ends_with(blob)));
    of_blobs.map(|request| request.bytes).sum()
}

fn of_disk(site: &Site) -> Vec<String> {
    digests(&built(site, None, &["model", "-o", "type=oci,dest=disk,tar=false"]).1)
}

#[test]
fn an_image_is_packaged_anew_without_its_weights_moving() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    write_model(&site, 3);
    let [old, new] = ["old:1", "new:1"].map(|name| format!("{}/{name}", registry.host()));
    let (_, first) = built(&site, None, &["model", "-t", &old, "--push", "--label", "a=b"]);
    let before = registry.requests();
    let source = format!("oci://{old}");
    let (_, metadata) = built(&site, None, &[&source, "-t", &new, "--push", "--modelpack"]);
    assert_eq!(digests(&metadata), digests(&first));
    let shards: Vec<String> =
        ways(&metadata).into_iter().filter(|way| way.contains(".safetensors")).collect();
    assert!(shards.iter().all(|way| way.ends_with(": reused, mounted")), "{shards:?}");
    assert_eq!(shards.len(), 3);
    // Two looks at headers of each: at the tar's and at the tensors'.
    let asked = fetched(&registry, &before, &digests(&first)[..3]);
    assert!(asked < SHARD_BYTES / 2 * 3 / 2, "{asked} bytes of weights were fetched");
    let labels = &config(&format!("docker://{new}"))["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.source"], format!("oci://{}/old", registry.host()));
    assert_eq!(labels["org.opencontainers.image.revision"], tag_digest(&registry, "old", "1").unwrap());
    assert_eq!(layers_of(&manifest(&format!("{new}-modelpack"))).len(), 5);

    // The second time nothing is sent.
    let before = registry.requests();
    let (_, metadata) = built(&site, None, &[&source, "-t", &new, "--push"]);
    assert_eq!(registry.requests().since(&before).uploads().len(), 0);
    assert!(ways(&metadata).iter().all(|way| way.ends_with("present")), "{metadata:#}");

    // What is known is compared if that is wanted, and another registry gets every byte.
    let (_, metadata) = built(&site, None, &[&source, "-t", &new, "--push", "--verify-reuse"]);
    assert!(ways(&metadata).iter().all(|way| way.ends_with(": hashed-first, present")), "{metadata:#}");
    let elsewhere = Registry::start(RegistryOptions::default());
    let third = format!("{}/third:1", elsewhere.host());
    let (_, metadata) = built(&site, None, &[&source, "-t", &third, "--push"]);
    assert_eq!(digests(&metadata), digests(&first));
    site.done(&["model", "pull", "--quiet", &third, "to"]);
    fs::remove_file(site.path("to/.ocib-pull.json")).unwrap();
    assert_same_files(&site.path("model"), &site.path("to"));
}

/// All files in one layer, as other builders make it.
#[test]
fn layers_of_many_files_are_divided_whatever_they_are_compressed_with() {
    let site = Site::new("FROM scratch\nCOPY other /etc/\nCOPY model /models/\n");
    write_model(&site, 4);
    fs::rename(site.path("model"), site.path("context/model")).unwrap();
    site.file("context/other", "x").file("context/model/sub/a.json", "{}");
    symlink("context/model", site.path("model")).unwrap();
    let expected = of_disk(&site);
    assert_eq!(expected.len(), 6);
    for codec in ["none", "gzip", "zstd"] {
        let registry = Registry::start(RegistryOptions::default());
        let [old, new] = ["old:1", "new:1"].map(|name| format!("{}/{name}", registry.host()));
        site.built(&["--quiet", "--compression", codec, "--push", "-t", &old]);
        let large = layers_of(&manifest(&old)).pop().unwrap().1;
        let before = registry.requests();
        let (_, metadata) = built(&site, None, &[&format!("oci://{old}"), "-t", &new, "--push"]);
        assert_eq!(digests(&metadata), expected, "{codec}");
        // Once to see what is in it, and once in its order.
        let most = 2 * 4 * SHARD_BYTES + SHARD_BYTES;
        let bytes = fetched(&registry, &before, &[large]);
        assert!(bytes <= most, "{codec}: {bytes} bytes of the layer were fetched");
        let (_, metadata) = built(&site, None, &[&format!("oci://{old}"), "-t", &new, "--push"]);
        assert!(
            ways(&metadata).iter().all(|way| way.ends_with(": reused, present")),
            "{codec}: {metadata:#}"
        );
    }
}

#[test]
fn layouts_and_archives_are_sources() {
    let site = Site::new("");
    write_model(&site, 2);
    let expected = of_disk(&site);
    for (output, source) in [
        ("type=oci,dest=layout,tar=false", "oci-layout://layout"),
        ("type=oci,dest=image.tar", "oci-archive://image.tar"),
        ("type=docker,dest=docker.tar", "docker-archive://docker.tar"),
    ] {
        site.done(&["model", "build", "model", "--quiet", "-o", output]);
        let (_, metadata) = built(&site, None, &[source, "-o", "type=oci,dest=again,tar=false"]);
        assert_eq!(digests(&metadata), expected, "{source}");
        let done = site.done(&["model", "inspect", "--json", source]);
        let found: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(found["model"]["architecture"], "LlamaForCausalLM", "{source}");
    }
}

#[test]
fn raw_layers_of_an_artifact_are_taken_as_they_are() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    write_model(&site, 2);
    // The same bytes under two names are one blob.
    site.file("model/copy/config.json", fs::read(site.path("model/config.json")).unwrap());
    let [old, new] = ["old:1", "new:1"].map(|name| format!("{}/{name}", registry.host()));
    built(&site, None, &["model", "-t", &old, "--push", "--modelpack=raw", "--modelpack-tag", "raw"]);
    let source = format!("oci://{}/old:raw", registry.host());
    let raw = layers_of(&manifest(&source["oci://".len()..]));
    let (weights, before) =
        (raw[..2].iter().map(|(_, digest)| digest.clone()).collect::<Vec<_>>(), registry.requests());
    let (_, metadata) =
        built(&site, None, &[&source, "-t", &new, "--push", "--modelpack=raw", "--modelpack-tag", "raw"]);
    assert_eq!(digests(&metadata), of_disk(&site));
    let of_new = layers_of(&manifest(&format!("{}/new:raw", registry.host())));
    assert_eq!(of_new, raw);
    let artifact = &metadata["ocib.artifacts"][0]["layers"];
    let stored: Vec<&Value> = artifact.as_array().unwrap().iter().map(|layer| &layer["stored"]).collect();
    assert!(stored.iter().all(|stored| *stored == "mounted" || *stored == "present"), "{artifact:#}");
    // Once for the tars of the image.
    let bytes = fetched(&registry, &before, &weights);
    assert!(bytes < 3 * SHARD_BYTES, "{bytes} bytes of weights were fetched");
    for tag in ["new:raw", "new:1"] {
        let to = format!("to-{}", tag.replace(':', "-"));
        site.done(&["model", "pull", "--quiet", &format!("{}/{tag}", registry.host()), &to]);
        fs::remove_file(site.path(&to).join(".ocib-pull.json")).unwrap();
        assert_same_files(&site.path("model"), &site.path(&to));
    }
}

#[test]
fn altered_bytes_are_never_named() {
    let site = Site::new("FROM scratch\nCOPY model /models/\n");
    write_model(&site, 2);
    for (what, arguments) in [
        ("one file", &["model", "build", "model", "--quiet"][..]),
        ("many files", &["build", "context", "--quiet", "--compression", "none"]),
    ] {
        fs::rename(site.path("model"), site.path("context/model")).ok();
        symlink("context/model", site.path("model")).ok();
        site.done(&[arguments, &["-o", "type=oci,dest=image,tar=false"]].concat());
        let blobs = site.path("image/blobs/sha256");
        let large = |name: &String| fs::metadata(blobs.join(name)).unwrap().len() > 1 << 20;
        let altered = crate::program::names(&blobs).into_iter().find(large).unwrap();
        let mut bytes = fs::read(blobs.join(&altered)).unwrap();
        let middle = bytes.len() - 500_000;
        bytes[middle] ^= 1;
        fs::write(blobs.join(&altered), &bytes).unwrap();
        let build =
            ["model", "build", "oci-layout://image", "-t", "x/y:1", "-o", "type=oci,dest=out,tar=false"];
        let said = ended(&mut site.ocib(&build)).failed(5);
        assert!(said.contains("error[content-corrupt]: "), "{what}: {said}");
        assert!(said.contains(&altered), "{what}: {said}");
        assert!(!site.path("out/index.json").exists(), "{what}");
        fs::remove_dir_all(site.path("image")).unwrap();
    }
}

#[test]
fn a_connection_that_breaks_is_gone_on_with() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("FROM scratch\nCOPY weights /models/\n");
    site.file("context/weights/a.bin", Noise::bytes(1, 3_000_000))
        .file("context/weights/b.bin", Noise::bytes(2, 3_000_000));
    let old = format!("{}/old:1", registry.host());
    site.built(&["--quiet", "--compression", "gzip", "--push", "-t", &old]);
    let proxy = FaultProxy::start(&registry.host());
    for _ in 0..3 {
        proxy.inject_into(RequestKind::BlobGet, Fault::ResponseBody { after_bytes: 1_000_000 });
    }
    let source = format!("oci://{}/old:1", proxy.host());
    built(&site, None, &[&source, "-o", "type=oci,dest=out,tar=false"]);
    site.done(&["model", "pull", "--quiet", "oci-layout://out", "to"]);
    fs::remove_file(site.path("to/.ocib-pull.json")).unwrap();
    assert_same_files(&site.path("context/weights"), &site.path("to"));
}

#[test]
fn what_an_image_lacks_is_said() {
    let site = Site::new("FROM scratch\nCOPY model /data/\n");
    site.file("context/model/model.bin", "weights");
    site.built(&["--quiet", "-o", "type=oci,dest=image,tar=false"]);
    let said = ended(&mut site.ocib(&["model", "build", "oci-layout://image"])).failed(3);
    assert!(said.contains("the image has no files below /models; at its top it has /data"), "{said}");
    assert!(said.contains("choose another part of the image with --path"), "{said}");
    let (_, metadata) =
        built(&site, None, &["oci-layout://image", "--path", "/data", "-o", "type=oci,dest=out,tar=false"]);
    assert_eq!(ways(&metadata), ["model.bin: streamed, stored"]);
    layout(&site, "odd", CONFIG, &[Part::new("application/x-unknown", "x")]);
    let said = ended(&mut site.ocib(&["model", "build", "oci-layout://odd"])).failed(3);
    assert!(said.contains(&Digest::of(b"x").to_string()), "{said}");
    let said = ended(&mut site.ocib(&["model", "build", "oci://layout/..:x"])).failed(2);
    assert!(said.contains("expected REGISTRY/REPOSITORY"), "{said}");
}

/// What oras pushes names its files by titles, and ModelPack's tars may be compressed by zstd.
#[test]
fn artifacts_of_other_tools_are_pulled_and_packaged() {
    let site = Site::new("");
    let weights = Noise::bytes(1, 2 << 20);
    site.file("in/tokenizer/a.json", "[1]").file("in/tokenizer/b.json", "[2]");
    run_command(Command::new(require("tar", "tar")).args([
        "-C",
        &site.name("in"),
        "-cf",
        &site.name("t.tar"),
        "tokenizer",
    ]));
    run_command(Command::new(require("zstd", "zstd")).args(["-q", &site.name("t.tar")]));
    let zstd = fs::read(site.path("t.tar.zst")).unwrap();
    for (config_type, weight_type, tar_type) in [
        (
            "application/vnd.cncf.model.config.v1+json",
            "application/vnd.cncf.model.weight.v1.raw",
            "application/vnd.cncf.model.weight.config.v1.tar+zstd",
        ),
        (
            "application/vnd.example",
            "application/octet-stream",
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
    ] {
        let parts = [
            Part::new(weight_type, weights.clone()).titled("sub/model.bin"),
            Part::new(tar_type, zstd.clone()),
        ];
        layout(&site, "artifact", config_type, &parts);
        site.done(&["model", "pull", "--quiet", "oci-layout://artifact", "pulled"]);
        let (_, metadata) =
            built(&site, None, &["oci-layout://artifact", "-o", "type=oci,dest=image,tar=false"]);
        let expected = [
            "sub/model.bin: streamed, stored",
            "2 config files, tokenizer/a.json to tokenizer/b.json: streamed, stored",
        ];
        assert_eq!(ways(&metadata), expected);
        site.done(&["model", "pull", "--quiet", "oci-layout://image", "again"]);
        for directory in ["pulled", "again"] {
            assert!(fs::read(site.path(directory).join("sub/model.bin")).unwrap() == weights, "{directory}");
            assert_eq!(fs::read(site.path(directory).join("tokenizer/b.json")).unwrap(), b"[2]");
            fs::remove_dir_all(site.path(directory)).unwrap();
        }
    }
}

#[test]
fn without_a_tag_it_is_the_latest() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    write_model(&site, 1);
    let name = format!("{}/model", registry.host());
    let latest =
        ["--modelpack=raw", "--modelpack-tag", "latest", "-t", &format!("{name}:image")].map(str::to_owned);
    let latest: Vec<&str> = latest.iter().map(String::as_str).collect();
    built(&site, None, &[&["model", "--push"], &latest[..]].concat());
    site.done(&["model", "pull", "--quiet", &name, "to"]);
    fs::remove_file(site.path("to/.ocib-pull.json")).unwrap();
    assert_same_files(&site.path("model"), &site.path("to"));
    built(&site, None, &["model", "--push", "--modelpack", "-t", &name]);
    assert!(tag_digest(&registry, "model", "latest-modelpack").is_some());
    let (_, metadata) = built(&site, None, &[&format!("oci://{name}"), "-o", "type=oci,dest=out,tar=false"]);
    assert_eq!(ways(&metadata).len(), 3);
}

/// Nobody names the directory that a file is in: it comes into being, but not behind a link.
#[test]
fn parents_that_nobody_names_are_no_links() {
    let site = Site::new("");
    site.file("outside/secret", "secret\n");
    let link = hostile(&site, "add('models/l', tarfile.SYMTYPE, 'd'); add('models/d/x', content=b'd')");
    let file = hostile(&site, "add('models/l/x/y', content=b'e')");
    layout(&site, "image", CONFIG, &[Part::new(TAR, link.clone()), Part::new(TAR, file)]);
    let raw = Part::new("application/vnd.cncf.model.doc.v1.raw", "e").at("l/x");
    layout(
        &site,
        "artifact",
        "application/vnd.cncf.model.config.v1+json",
        &[Part::new("application/vnd.cncf.model.doc.v1.tar", link), raw],
    );
    for (image, expected) in
        [("image", "it is below l, which is no directory"), ("artifact", "which is no directory")]
    {
        let image = format!("oci-layout://{image}");
        let pull = ended(&mut site.ocib(&["model", "pull", "--quiet", &image, "to"])).failed(3);
        let build =
            ended(&mut site.ocib(&["model", "build", &image, "-o", "type=oci,dest=out,tar=false"])).failed(3);
        assert!(pull.contains(expected) && build.contains(expected), "{pull}\n{build}");
        assert_eq!(crate::program::names(&site.path("to")), [".ocib-pull"]);
    }
    // A link that was there before the pull is no way out either.
    let deep = hostile(&site, "add('models/l/secret', content=b'e')");
    layout(&site, "deep", CONFIG, &[Part::new(TAR, deep)]);
    fs::create_dir(site.path("into")).unwrap();
    symlink("../outside", site.path("into/l")).unwrap();
    site.done(&["model", "pull", "--quiet", "oci-layout://deep", "into"]);
    assert_eq!(fs::read(site.path("outside/secret")).unwrap(), b"secret\n");
    assert!(site.path("into/l").symlink_metadata().unwrap().is_dir());
}

/// One large archive into a layer a file, on a machine where nothing can be written.
#[test]
fn a_large_image_passes_through_in_little_memory_and_no_disk() {
    let bytes = if is_full() { 1 << 30 } else { 24 << 20 };
    let site = Site::new("FROM scratch\nCOPY weights /models/\n");
    for number in 0..4 {
        noise_file(&site.path(format!("context/weights/{number}.bin")), number, bytes);
    }
    let registry = Registry::start(RegistryOptions::default());
    for codec in ["gzip", "zstd"] {
        let [old, new] = ["old", "new"].map(|name| format!("{}/{name}:{codec}", registry.host()));
        site.built(&["--quiet", "--compression", codec, "--push", "-t", &old]);
        set_mode(site.path("context"), 0o555);
        let arguments = ["model", "build", &format!("oci://{old}"), DISTANT_BUDGET, "--push", "-t", &new];
        let used = measured(&site, &site.path("context"), &arguments, &[]);
        set_mode(site.path("context"), 0o755);
        assert_eq!(tag_digest(&registry, "new", codec).as_deref(), Some(used.ended.digest()));
        let (peak, written) = (used.peak_kib, used.bytes_written);
        println!("4 files of {bytes} bytes out of {codec}: a peak of {peak} KiB, {written} bytes written");
        assert!(peak < PEAK_KIB_MAX, "a peak of {peak} KiB");
        assert!(written < BYTES_WRITTEN_MAX, "{written} bytes were written");
    }
}
