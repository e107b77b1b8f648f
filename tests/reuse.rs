//! What is there is not sent again: on the same machine, on a fresh one, and after a push that was
//! killed.

use std::{fs, process::Command};

use ocib_image::Digest;
use ocib_testkit::{FaultProxy, Noise, Registry, RegistryOptions, RequestKind};
use serde_json::{Value, json};

use crate::program::{
    Ended, Site, ended, names, settle, signal, started, tag_digest, until, uploaded_bytes, wait,
};

/// A site whose programs have a cache directory.
struct Cached(Site);

impl Cached {
    fn new(dockerfile: &str) -> Self {
        Self(Site::new(dockerfile))
    }

    fn built(&self, arguments: &[&str]) -> (Ended, Value) {
        let mut command = self.0.build(&["--progress", "json", "--metadata-file", "metadata.json"]);
        command.args(arguments).env("XDG_CACHE_HOME", self.0.path("cache"));
        let done = ended(&mut command).done();
        (done, serde_json::from_slice(&fs::read(self.0.path("metadata.json")).unwrap()).unwrap())
    }

    /// What `ocib plan` says beforehand, in the words of [`ways`]: of the layers in the last place.
    fn foreseen(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
        self.0.clean(command.args(["plan", "context", "--json", "--quiet"]).args(arguments));
        let done = ended(command.env("XDG_CACHE_HOME", self.0.path("cache"))).done();
        let plan: Value = serde_json::from_slice(&done.stdout).unwrap();
        let place = plan["outputs"].as_array().unwrap().last().unwrap();
        assert_eq!(place["unknown"], Value::Null);
        ways(&json!({"ocib.layers": place["images"]}))
    }

    /// As a pod that has nothing of what others left.
    fn forget(&self) {
        // Files that were just written are not remembered, so there may be none.
        let _ = fs::remove_dir_all(self.0.path("cache"));
    }
}

/// How each made layer came to be where it is, of all platforms.
fn ways(metadata: &Value) -> Vec<String> {
    let images = metadata["ocib.layers"].as_array().unwrap().iter();
    let layers = images.flat_map(|image| image["layers"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let way = |layer: &Value| {
        format!("{}, {}, {}", text(&layer["made"]), text(&layer["stored"]), text(&layer["why"]))
    };
    layers.map(way).collect()
}

/// Bytes of layers that passed through the program, for whatever reason.
fn bytes_made(done: &Ended) -> u64 {
    let events = done.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == "advanced").map(|event| event["bytes"].as_u64().unwrap()).sum()
}

#[test]
fn an_unchanged_image_is_neither_read_nor_sent_and_hardly_asked_for() {
    let registry = Registry::start(RegistryOptions::default());
    let copies: String = (0..20).map(|number| format!("COPY {number} /{number}\n")).collect();
    let site = Cached::new(&format!("FROM scratch\nARG TARGETARCH\n{copies}LABEL arch=$TARGETARCH\n"));
    for number in 0..20 {
        site.0.file(format!("context/{number}"), Noise::bytes(number, 50_000));
    }
    settle(&site.0.path("context"));
    let tag = format!("{}/a:1", registry.host());
    let arguments = ["--push", "--platform", "linux/amd64,linux/arm64", "-t", &tag];
    assert_eq!(site.foreseen(&arguments), vec!["streamed, stored, -"; 40]);
    let (first, metadata) = site.built(&arguments);
    assert_eq!(ways(&metadata), vec!["streamed, stored, -"; 40]);

    assert_eq!(site.foreseen(&arguments), vec!["remembered, present, -"; 40]);
    let before = registry.requests();
    let (second, metadata) = site.built(&arguments);
    let since = registry.requests().since(&before);
    assert_eq!(second.digest(), first.digest());
    assert_eq!(ways(&metadata), vec!["remembered, present, -"; 40]);
    assert_eq!(bytes_made(&second), 0);
    assert_eq!(since.uploads().len(), 0, "{since:?}");
    assert!(since.0.len() < 20, "{} requests: {since:?}", since.0.len());

    // A changed file is one layer.
    site.0.file("context/7", Noise::bytes(99, 50_000));
    let foreseen = site.foreseen(&arguments).into_iter().filter(|way| !way.starts_with("remembered"));
    let like_it = "hashed-first, stored-if-missing, the image that is there has a layer like it";
    assert_eq!(foreseen.collect::<Vec<_>>(), vec![like_it; 2]);
    let before = registry.requests();
    let (_, metadata) = site.built(&arguments);
    let changed: Vec<_> = ways(&metadata).into_iter().filter(|way| !way.starts_with("remembered")).collect();
    assert_eq!(changed, vec!["hashed-first, stored, the image that is there has a layer like it"; 2]);
    // The layer, and two configs.
    assert_eq!(registry.requests().since(&before).uploads().len(), 3);
}

#[test]
fn a_fresh_machine_hashes_what_the_image_may_have() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Cached::new("FROM scratch\nCOPY a /\nCOPY b /\n");
    site.0.file("context/a", Noise::bytes(1, 300_000)).file("context/b", "b\n");
    let tag = format!("{}/a:1", registry.host());
    let (first, _) = site.built(&["--push", "-t", &tag]);

    site.forget();
    let before = registry.requests();
    let (second, metadata) = site.built(&["--push", "-t", &tag]);
    let like_it = "hashed-first, present, the image that is there has a layer like it";
    assert_eq!(ways(&metadata), [like_it; 2]);
    assert_eq!(second.digest(), first.digest());
    assert_eq!(registry.requests().since(&before).uploads().len(), 0);

    // Another repository learns of it by --cache-from, and mounts.
    site.forget();
    let other = format!("{}/other:1", registry.host());
    let from = format!("type=registry,ref={tag}");
    let arguments = ["--push", "-t", &other, "--cache-from", &from];
    assert_eq!(site.foreseen(&arguments), vec![like_it.replace("present", "stored-if-missing"); 2]);
    let before = registry.requests();
    let (_, metadata) = site.built(&arguments);
    assert_eq!(
        ways(&metadata),
        [like_it.replace("present", "mounted"), like_it.replace("present", "mounted")]
    );
    let since = registry.requests().since(&before);
    assert_eq!(since.uploads().len(), 1, "the config: {since:?}");

    for (flag, foreseen, expected) in [
        ("always", "hashed-first, stored-if-missing, as asked for", "hashed-first, present, as asked for"),
        ("never", "streamed, stored, -", "streamed, stored, -"),
    ] {
        site.forget();
        assert_eq!(site.foreseen(&["--push", "-t", &tag, "--hash-first", flag]), [foreseen; 2], "{flag}");
        let (_, metadata) = site.built(&["--push", "-t", &tag, "--hash-first", flag]);
        assert_eq!(ways(&metadata), [expected; 2], "{flag}");
    }
}

#[test]
fn a_layer_goes_to_each_registry_once_and_is_mounted_in_its_other_repositories() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Cached::new("FROM scratch\nCOPY a /\n");
    site.0.file("context/a", Noise::bytes(1, 300_000));
    let [one, two] = ["one:1", "two:1"].map(|name| format!("{}/{name}", registry.host()));
    let by_then = "unknown, unknown, its digest is known from the place before by then";
    assert_eq!(site.foreseen(&["--push", "-t", &one, "-t", &two]), [by_then]);
    let (_, metadata) = site.built(&["--push", "-t", &one, "-t", &two]);
    assert_eq!(ways(&metadata), ["remembered, mounted, -"], "of the last repository");
    assert_eq!(registry.requests().with("PATCH", "/").len(), 1);
    assert_eq!(tag_digest(&registry, "one", "1"), tag_digest(&registry, "two", "1"));
}

#[test]
fn what_a_killed_push_had_finished_is_found_without_any_memory_of_it() {
    let registry = Registry::start(RegistryOptions::default());
    let proxy = FaultProxy::start(&registry.host());
    let site = Cached::new("FROM scratch\nCOPY a /\nCOPY b /\n");
    site.0.file("context/a", Noise::bytes(1, 20 << 20)).file("context/b", Noise::bytes(2, 20 << 20));
    let tag = format!("{}/a:1", proxy.host());
    let arguments = ["--quiet", "--jobs", "1", "--compression", "none", "--push", "-t", &tag];
    // Within the second layer, for as long as it takes to look.
    proxy.pause_after(&[RequestKind::UploadPatch, RequestKind::UploadPut], 22 << 20);
    let mut child = started(&mut site.0.build(&arguments));
    let layers = registry.storage().join("docker/registry/v2/repositories/a/_layers/sha256");
    // Two marks, a layer, and the next on its way.
    until(&mut child, "the second layer is on its way", || {
        layers.exists() && names(&layers).len() == 3 && uploaded_bytes(&registry, "a") > 1 << 20
    });
    signal(&child, "KILL");
    wait(child);
    assert_eq!(tag_digest(&registry, "a", "1"), None);

    proxy.resume();
    let begun = "a push of it began before";
    let foreseen = site.foreseen(&arguments[1..]);
    assert_eq!(foreseen, vec![format!("hashed-first, stored-if-missing, {begun}"); 2]);
    let before = registry.requests();
    let (_, metadata) = site.built(&arguments[1..]);
    assert_eq!(
        ways(&metadata),
        [format!("hashed-first, present, {begun}"), format!("hashed-first, stored, {begun}")]
    );
    // The second layer and the config. The killed request may be logged only now.
    assert_eq!(registry.requests().since(&before).with("PUT", "/blobs/uploads/").len(), 2);
}

#[test]
fn a_memory_that_is_wrong_is_found_out_when_asked_for() {
    let registry = Registry::start(RegistryOptions::default());
    let site = Cached::new("FROM scratch\nCOPY a /\n");
    site.0.file("context/a", Noise::bytes(1, 300_000));
    settle(&site.0.path("context"));
    let tag = format!("{}/a:1", registry.host());
    let (first, _) = site.built(&["--push", "-t", &tag]);
    let right = &first.digest().to_owned();

    let cache = site.0.path("cache/ocib");
    let [name] = &names(&cache)[..] else { panic!("one layer is remembered") };
    let text = fs::read_to_string(cache.join(name)).unwrap();
    let mut lines: Vec<&str> = text[..text.len() - right.len()].split('\n').collect();
    let other = Digest::of(b"other").to_string();
    lines[1] = &other;
    let wrong = lines.join("\n");
    fs::write(cache.join(name), format!("{wrong}{}", Digest::of(wrong.as_bytes()))).unwrap();

    let (second, metadata) = site.built(&["--push", "-t", &tag, "--verify-reuse"]);
    assert_eq!(second.digest(), right);
    assert_eq!(ways(&metadata), ["hashed-first, present, as asked for"]);
    let warning = format!("COPY a /: the digest cache said {other}, but it is sha256:");
    assert!(second.stderr.contains(&warning), "{}", second.stderr);
    let (third, metadata) = site.built(&["--push", "-t", &tag, "--verify-reuse"]);
    assert_eq!(ways(&metadata), ["hashed-first, present, as asked for"]);
    assert!(!third.stderr.contains("digest cache"), "it was mended: {}", third.stderr);
}

#[test]
fn layers_of_a_base_are_foreseen_as_mounted_or_there_and_without_a_login_as_unknown() {
    let registry = Registry::start(RegistryOptions::default());
    let base = Site::new("FROM scratch\nCOPY b /\n");
    base.file("context/b", Noise::bytes(3, 100_000));
    let from = format!("{}/base:1", registry.host());
    base.built(&["--push", "-t", &from]);
    let site = Cached::new(&format!("FROM {from}\nCOPY a /\n"));
    site.0.file("context/a", "a\n");
    let tag = format!("{}/a:1", registry.host());
    let arguments = ["--push", "-t", &tag];
    assert_eq!(site.foreseen(&arguments), ["base, mounted, -", "streamed, stored, -"]);
    let (_, metadata) = site.built(&arguments);
    assert_eq!(ways(&metadata), ["base, -, -", "streamed, stored, -"]);
    assert_eq!(site.foreseen(&arguments)[0], "base, present, -");
    // On a slow machine the file was old enough to be remembered.
    site.forget();
    // Into a layout, and into an archive on a pipe.
    let layout = ["-o", "type=oci,tar=false,dest=out"];
    assert_eq!(site.foreseen(&layout), ["base, stored, -", "streamed, stored, -"]);
    site.built(&layout);
    site.forget();
    assert_eq!(site.foreseen(&layout)[0], "base, present, -");
    let needed = "hashed-first, stored, its digest is needed first";
    assert_eq!(site.foreseen(&["-o", "type=oci,dest=-"]), ["base, stored, -", needed]);

    let private = Registry::start(RegistryOptions {
        login: Some(("user".to_owned(), "secret".to_owned())),
        ..RegistryOptions::default()
    });
    let tag = format!("{}/a:1", private.host());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
    site.0.clean(command.args(["plan", "context", "--push", "-t", &tag]));
    let done = ended(&mut command).done();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("what is there is unknown: "), "{text}");
    assert!(text.contains("answered 401"), "{text}");
}
