//! `ocib model build https://…`: files behind URLs as a model.

use std::{fs, process::Command};

use ocib_image::Digest;
use ocib_testkit::{FileServer, GoogleEmulator, Manner, Noise, Registry, RegistryOptions, S3Server};
use serde_json::Value;

use crate::{
    model::{SHARD_BYTES, built, digests, ways, write_model},
    program::{Site, config, ended, names},
};

/// Serves a directory's files at `/m/`; gives their URLs.
fn served(server: &FileServer, site: &Site, directory: &str) -> Vec<String> {
    let serve = |name: &String| {
        let path = format!("/m/{name}");
        server.put(&path, &fs::read(site.path(directory).join(name)).unwrap());
        server.url(&path)
    };
    names(&site.path(directory)).iter().map(serve).collect()
}

fn arguments<'a>(urls: &'a [String], rest: &[&'a str]) -> Vec<&'a str> {
    urls.iter().map(String::as_str).chain(rest.iter().copied()).collect()
}

#[test]
fn files_behind_urls_are_the_same_and_are_not_read_again() {
    let (server, registry) = (FileServer::start(), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    write_model(&site, 3);
    let urls = served(&server, &site, "model");
    let tag = format!("{}/model:1", registry.host());
    let all = arguments(&urls, &["-t", &tag, "--push", "--revision", "v1"]);
    let (first, metadata) = built(&site, None, &all);
    let (_, of_disk) = built(&site, None, &["model", "-o", "type=oci,dest=out,tar=false"]);
    assert_eq!(digests(&metadata), digests(&of_disk));
    let labels = &config(&format!("docker://{tag}"))["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.source"], server.url("/m"));
    assert_eq!(labels["org.opencontainers.image.revision"], "v1");

    // There is no cache: the programs of a site have no home.
    let (bytes, before) = (server.body_bytes(), registry.requests());
    let (second, metadata) = built(&site, None, &all);
    assert_eq!(second.digest(), first.digest());
    assert_eq!(server.body_bytes(), bytes, "bytes of files were fetched");
    assert_eq!(registry.requests().since(&before).uploads().len(), 0);
    assert!(ways(&metadata).iter().all(|way| way.ends_with(": reused, present")), "{metadata:#}");
    let (verified, metadata) = built(&site, None, &[&all[..], &["--verify-reuse"]].concat());
    assert_eq!(verified.digest(), first.digest());
    assert!(ways(&metadata).iter().all(|way| way.ends_with(": hashed-first, present")), "{metadata:#}");

    let bytes = server.body_bytes();
    ocib_testkit::safetensors_file(&site.path("model/model-00002-of-00003.safetensors"), 99, SHARD_BYTES);
    served(&server, &site, "model");
    let (_, metadata) = built(&site, None, &all);
    let moved: Vec<String> =
        ways(&metadata).into_iter().filter(|way| !way.ends_with("reused, present")).collect();
    assert_eq!(moved, ["model-00002-of-00003.safetensors: streamed, stored"]);
    let fetched = server.body_bytes() - bytes;
    assert!(fetched < 2 * SHARD_BYTES + 300_000, "{fetched} bytes were fetched");
}

/// One large file whose connections break, from servers that know more and less of HTTP.
#[test]
fn a_file_arrives_whatever_its_server_lacks_and_is_known_only_by_what_is_strong() {
    let content = Noise::bytes(3, 5_000_000);
    let registry = Registry::start(RegistryOptions::default());
    let (modified, tag) = (Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some("\"a\"".to_owned()));
    let just_now = Some("Sun, 06 Nov 2016 08:49:30 GMT");
    let weak = Some("W/\"a\"".to_owned());
    let etag = || tag.clone();
    for (number, (manner, is_known)) in [
        (Manner { etag: etag(), cuts: (1_000_000, 3), ..Manner::default() }, true),
        (Manner { etag: etag(), has_head: false, ..Manner::default() }, true),
        (Manner { etag: etag(), has_ranges: false, cuts: (2_000_000, 1), ..Manner::default() }, true),
        (Manner { modified, ..Manner::default() }, true),
        (Manner { modified: just_now, ..Manner::default() }, false),
        (Manner { etag: weak, ..Manner::default() }, false),
        (Manner::default(), false),
    ]
    .into_iter()
    .enumerate()
    {
        let (server, site) = (FileServer::start(), Site::new(""));
        server.put_so("/f/model.bin", &content, manner.clone());
        let (url, tag) =
            (server.url("/f/model.bin?X-Amz-Signature=planted"), format!("{}/m{number}:1", registry.host()));
        let (first, metadata) = built(&site, None, &[&url, "-t", &tag, "--push"]);
        assert_eq!(ways(&metadata), ["model.bin: streamed, stored"], "{manner:?}");
        assert!(server.body_bytes() < 11_000_000, "{manner:?}: {} bytes", server.body_bytes());
        let written = format!("{}{}", first.stderr, config(&format!("docker://{tag}")));
        assert!(!written.contains("planted"), "{written}");
        site.done(&["model", "pull", "--quiet", &tag, "to"]);
        assert!(fs::read(site.path("to/model.bin")).unwrap() == content, "{manner:?}");

        // Signed anew it is the same file.
        let (bytes, url) = (server.body_bytes(), url.replace("planted", "another"));
        let (second, metadata) = built(&site, None, &[&url, "-t", &tag, "--push"]);
        assert_eq!(second.digest(), first.digest(), "{manner:?}");
        let is_reused = ways(&metadata) == ["model.bin: reused, present"];
        assert_eq!(is_reused, is_known, "{manner:?}");
        let looks = if manner.has_head { 0 } else { 1 };
        assert_eq!(server.body_bytes() - bytes == looks, is_known, "{manner:?}");
    }
}

#[test]
fn a_checksum_is_verified_and_is_a_name() {
    let (server, registry) = (FileServer::start(), Registry::start(RegistryOptions::default()));
    let site = Site::new("");
    let content = Noise::bytes(4, 2_000_000);
    server.put_so("/model.bin", &content, Manner::default());
    let tag = format!("{}/model:1", registry.host());
    let url = format!("{}#sha256={}", server.url("/model.bin"), Digest::of(&content).hex());
    built(&site, None, &[&url, "-t", &tag, "--push", "--modelpack=raw"]);
    let bytes = server.body_bytes();
    let (_, metadata) = built(&site, None, &[&url, "-t", &tag, "--push", "--modelpack=raw"]);
    assert_eq!(ways(&metadata), ["model.bin: reused, present"]);
    assert_eq!(server.body_bytes(), bytes, "bytes of files were fetched");

    let other = format!("{}/model:2", registry.host());
    server.put_so("/model.bin", &content[1..], Manner::default());
    let said = ended(&mut site.ocib(&["model", "build", &url, "-t", &other, "--push"])).failed(5);
    assert!(said.contains("error[checksum-mismatch]: "), "{said}");
    assert_eq!(crate::program::tag_digest(&registry, "model", "2"), None);
}

#[test]
fn passwords_go_to_their_host_alone() {
    let (server, store) = (FileServer::start(), FileServer::start());
    let site = Site::new("");
    let content = Noise::bytes(5, 3_000_000);
    store.put("/kept/model.bin", &content);
    let moved = Some(store.url("/kept/model.bin"));
    // me:planted
    let login = Some("bWU6cGxhbnRlZA==");
    server.put_so("/model.bin", b"", Manner { login, moved, ..Manner::default() });
    let out = ["-o", "type=oci,dest=out,tar=false"];
    let url = server.url("/model.bin");
    let said = ended(site.ocib(&["model", "build", &url]).args(out)).failed(4);
    assert!(said.contains("error[url-denied]: "), "{said}");
    let with_login = url.replace("http://", "http://me:planted@");
    let (done, _) = built(&site, None, &[&[&*with_login], &out[..]].concat());
    assert_eq!(store.proofs(), Vec::<String>::new(), "the password went along a redirect");
    assert!(!done.stderr.contains("planted"), "{}", done.stderr);
    let found = Command::new("grep").args(["-r", "planted"]).arg(site.path("out")).output().unwrap();
    assert_eq!(found.stdout, b"");
    assert!(server.proofs().iter().all(|proof| proof == "Basic bWU6cGxhbnRlZA=="));
}

#[test]
fn what_is_no_file_is_said_at_once() {
    let server = FileServer::start();
    let site = Site::new("");
    site.file("model/config.json", "{}");
    server.put_so("/org/model", b"<html>", Manner { kind: "text/html; charset=utf-8", ..Manner::default() });
    server.put("/a/model.bin", b"a");
    server.put("/b/model.bin", b"b");
    let (page, missing) = (server.url("/org/model"), server.url("/none"));
    let [a, b] = ["/a/model.bin", "/b/model.bin"].map(|path| server.url(path));
    let checksum = format!("{a}#sha1=00");
    for (sources, code, expected) in [
        (&[&*page][..], 3, "error[url-page]: "),
        (&[&missing], 5, "error[url-missing]: "),
        (&[&a, &b], 3, "model.bin in the URLs cannot be placed: it is there twice"),
        (&[&checksum], 2, "behind # it has no sha256=DIGEST"),
        (&["model", &a], 2, "2 sources are given, but only URLs of files may be several"),
        (
            &["https://huggingface.co/org/name/blob/main/model.gguf"],
            2,
            "write hf://org/name@main/model.gguf: that is pinned",
        ),
        (&["ftp://h/f"], 2, "ftp:// is no source of models"),
    ] {
        let said = ended(site.ocib(&["model", "build"]).args(sources)).failed(code);
        assert!(said.contains(expected), "{sources:?}: {said}");
    }
}

#[test]
fn a_file_is_inspected_by_its_header() {
    let server = FileServer::start();
    let site = Site::new("");
    let content = crate::model_artifacts::gguf();
    server.put("/model.Q4_K_M.gguf", &content);
    let done = site.done(&["model", "inspect", "--json", &server.url("/model.Q4_K_M.gguf")]);
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(found["model"]["quantization"], "Q4_K_M", "{found:#}");
    assert!(server.body_bytes() < content.len() as u64 / 2, "{} bytes", server.body_bytes());
}

/// Google's store speaks S3's XML; here it is moto that does, and Google's metadata server that says who asks.
#[test]
fn a_model_in_a_bucket_of_google_is_the_same_and_is_not_read_again() {
    let (server, google) = (S3Server::start(), GoogleEmulator::start());
    let registry = Registry::start(RegistryOptions::default());
    let site = Site::new("");
    write_model(&site, 2);
    let read = |name: &String| (format!("m/{name}"), fs::read(site.path("model").join(name)).unwrap());
    let files: Vec<(String, Vec<u8>)> = names(&site.path("model")).iter().map(read).collect();
    let objects: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    server.put("models", &objects, false);
    let tag = format!("{}/model:1", registry.host());
    let run = || {
        let mut command = site.ocib(&["model", "build", "gs://models/m", "-t", &tag, "--push"]);
        command.args(["--metadata-file", "metadata.json"]).env("STORAGE_EMULATOR_HOST", server.endpoint());
        let done = ended(command.env("GCE_METADATA_HOST", google.host())).done();
        assert!(google.secrets().iter().all(|secret| !done.stderr.contains(secret)), "{}", done.stderr);
        serde_json::from_slice::<Value>(&fs::read(site.path("metadata.json")).unwrap()).unwrap()
    };
    let first = run();
    let (_, of_disk) = built(&site, None, &["model", "-o", "type=oci,dest=out,tar=false"]);
    assert_eq!(digests(&first), digests(&of_disk));
    assert!(ways(&run()).iter().all(|way| way.ends_with(": reused, present")));
    let labels = &config(&format!("docker://{tag}"))["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.source"], "gs://models/m");
}
