//! `ocib model build oci://…`: models out of images and artifacts into images.

use std::fs;

use ocib_image::Digest;
use ocib_testkit::{FaultProxy, Noise, Registry, RegistryOptions, RequestKind};
use serde_json::Value;

use crate::{
    model::{assert_same_files, built, digests, layers_of, ways, write_model},
    model_pull::{CONFIG, Part, layout},
    program::{Site, config, ended, manifest, tag_digest},
};

/// Blobs of weights that were asked for since.
fn fetched(registry: &Registry, before: &ocib_testkit::Served, blobs: &[String]) -> usize {
    let requests = registry.requests().since(before);
    requests.fetched().iter().filter(|hex| blobs.iter().any(|blob| blob.ends_with(**hex))).count()
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
    let shards: Vec<String> = ways(&metadata).into_iter().filter(|way| way.contains(".safetensors")).collect();
    assert!(shards.iter().all(|way| way.ends_with(": reused, mounted")), "{shards:?}");
    assert_eq!(shards.len(), 3);
    // Two looks at headers of each: at the tar's and at the tensors'.
    let weights = &digests(&first)[..3];
    let asked: u64 = {
        let requests = registry.requests().since(&before);
        let is_weight = |request: &&ocib_testkit::Request| weights.iter().any(|digest| request.path.ends_with(digest));
        requests.0.iter().filter(|request| request.method == "GET").filter(is_weight).map(|request| request.bytes).sum()
    };
    assert!(asked < 600_000, "{asked} bytes of weights were fetched");
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
    std::os::unix::fs::symlink("context/model", site.path("model")).unwrap();
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
        // Once to see what is in it, then in its order; a plain one is asked for each file.
        let most = if codec == "none" { 8 } else { 2 };
        let times = fetched(&registry, &before, &[large]);
        assert!(times <= most, "{codec}: the layer was asked for {times} times");
        let (_, metadata) = built(&site, None, &[&format!("oci://{old}"), "-t", &new, "--push"]);
        assert!(ways(&metadata).iter().all(|way| way.ends_with(": reused, present")), "{codec}: {metadata:#}");
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
    let (weights, before) = (raw[..2].iter().map(|(_, digest)| digest.clone()).collect::<Vec<_>>(), registry.requests());
    let (_, metadata) =
        built(&site, None, &[&source, "-t", &new, "--push", "--modelpack=raw", "--modelpack-tag", "raw"]);
    assert_eq!(digests(&metadata), of_disk(&site));
    let of_new = layers_of(&manifest(&format!("{}/new:raw", registry.host())));
    assert_eq!(of_new, raw);
    let artifact = &metadata["ocib.artifacts"][0]["layers"];
    let stored: Vec<&Value> = artifact.as_array().unwrap().iter().map(|layer| &layer["stored"]).collect();
    assert!(stored.iter().all(|stored| *stored == "mounted" || *stored == "present"), "{artifact:#}");
    // Their headers, and once for the tars of the image.
    assert!(fetched(&registry, &before, &weights) <= 4, "raw weights were fetched for raw weights");
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
        std::os::unix::fs::symlink("context/model", site.path("model")).ok();
        site.done(&[arguments, &["-o", "type=oci,dest=image,tar=false"]].concat());
        let blobs = site.path("image/blobs/sha256");
        let large = |name: &String| fs::metadata(blobs.join(name)).unwrap().len() > 1 << 20;
        let altered = crate::program::names(&blobs).into_iter().find(large).unwrap();
        let mut bytes = fs::read(blobs.join(&altered)).unwrap();
        let middle = bytes.len() - 500_000;
        bytes[middle] ^= 1;
        fs::write(blobs.join(&altered), &bytes).unwrap();
        let build = ["model", "build", "oci-layout://image", "-t", "x/y:1", "-o", "type=oci,dest=out,tar=false"];
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
    site.file("context/weights/a.bin", Noise::bytes(1, 3_000_000)).file("context/weights/b.bin", Noise::bytes(2, 3_000_000));
    let old = format!("{}/old:1", registry.host());
    site.built(&["--quiet", "--compression", "gzip", "--push", "-t", &old]);
    let proxy = FaultProxy::start(&registry.host());
    for _ in 0..3 {
        proxy.inject_into(RequestKind::BlobGet, ocib_testkit::Fault::ResponseBody { after_bytes: 1_000_000 });
    }
    let source = format!("oci://{}/old:1", proxy.host());
    built(&site, None, &[&source, "-o", "type=oci,dest=out,tar=false", "-t", "x/y:1"]);
    site.done(&["model", "pull", "--quiet", "oci-layout://out:x/y:1", "to"]);
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
    let (_, metadata) = built(&site, None, &["oci-layout://image", "--path", "/data", "-o", "type=oci,dest=out,tar=false"]);
    assert_eq!(ways(&metadata), ["model.bin: streamed, stored"]);
    layout(&site, "odd", CONFIG, &[Part::new("application/x-unknown", "x")]);
    let said = ended(&mut site.ocib(&["model", "build", "oci-layout://odd"])).failed(3);
    assert!(said.contains(&Digest::of(b"x").to_string()), "{said}");
    let said = ended(&mut site.ocib(&["model", "build", "oci://layout/..:x"])).failed(2);
    assert!(said.contains("expected REGISTRY/REPOSITORY"), "{said}");
}
