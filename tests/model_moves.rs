//! `ocib model build`: what is moved, and what is not moved again.

use std::fs;

use ocib_testkit::{
    FaultProxy, HubServer, Registry, RegistryOptions, RequestKind, S3Server, safetensors_file,
};
use serde_json::Value;

use crate::{
    model::{CONFIG, SHARD_BYTES, built, digests, hub_model, publish, ways, write_model},
    program::{Site, config, ended, names, settle, signal, started, tag_digest, until, wait},
};

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

    settle(&site.path("model"));
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

    let proxy = FaultProxy::start(&registry.host());
    let carriers = [RequestKind::UploadPatch, RequestKind::UploadPut];
    proxy.pause_after(&carriers, 100_000);
    let third = format!("{}/third:1", proxy.host());
    let mut command = site.ocib(&["model", "build", "hf://org/model", "-t", &third, "--push"]);
    let mut child = started(command.env("HF_ENDPOINT", server.endpoint()));
    let sent = || carriers.iter().map(|kind| proxy.sent(*kind)).sum::<u64>();
    until(&mut child, "a shard is on its way", || sent() >= 100_000);
    signal(&child, "INT");
    assert_eq!(wait(child).code(), Some(130));
    assert_eq!(tag_digest(&registry, "third", "1"), None);
}
