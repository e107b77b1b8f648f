//! Buckets, as moto's server has them.
#![cfg(all(feature = "s3", feature = "gcs"))]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::{io::Read, sync::Arc, time::Duration};

use ocib_image::{Digest, Digester, Identity, LayerError, NodeKind, PlaceErrorKind, Timestamp, Tree};
use ocib_net::{Backoff, Http, HttpOptions, google::Google};
use ocib_source::{BucketLocation, BucketOptions, BucketSnapshot, Buckets, ReadAhead};
use ocib_testkit::{GoogleEmulator, Noise, S3Server, is_full};
use tokio::task::spawn_blocking;

const LARGE_BYTES: usize = 300_007;

fn large() -> Vec<u8> {
    Noise::bytes(7, LARGE_BYTES)
}

fn server() -> S3Server {
    let server = S3Server::start();
    let objects: [(&str, &[u8]); 6] = [
        ("models/8b/config.json", b"{}"),
        ("models/8b/", b""),
        ("models/8b/sub/a b+c%.txt", b"text\n"),
        ("models/8b-other/x", b"x"),
        ("plain", b"plain\n"),
        ("models/8b/weights", &large()),
    ];
    server.put("bucket", &objects, false);
    server.put("bucket", &[("models/8b/summed", b"summed\n")], true);
    server
}

fn options(server: &S3Server) -> BucketOptions {
    BucketOptions {
        backoff: Backoff { attempts: 3, first: Duration::from_millis(1), longest: Duration::from_millis(2) },
        ahead: ReadAhead { parts: 3, part_bytes: 64 << 10 },
        s3_endpoint: Some(server.endpoint().parse().unwrap()),
        gcs_endpoint: Some(server.endpoint().parse().unwrap()),
        ..BucketOptions::default()
    }
}

async fn open(server: &S3Server, place: &str) -> Result<BucketSnapshot, (PlaceErrorKind, String)> {
    let location: BucketLocation = place.parse().unwrap();
    let opened = Buckets::new(options(server)).open(&location).await;
    opened.map_err(|error| (error.kind, error.to_string()))
}

async fn read(tree: &Arc<dyn Tree>, path: &str, offset: u64) -> Result<Vec<u8>, LayerError> {
    let (tree, path) = (Arc::clone(tree), path.to_owned());
    spawn_blocking(move || {
        let mut bytes = Vec::new();
        match tree.open(path.as_bytes(), offset)?.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(error.downcast::<LayerError>().unwrap()),
        }
    })
    .await
    .unwrap()
}

fn names(tree: &Arc<dyn Tree>, path: &str) -> Vec<String> {
    let names = tree.list(path.as_bytes()).unwrap();
    names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

fn digest(bytes: &[u8]) -> Digest {
    let mut digester = Digester::new();
    digester.update(bytes);
    digester.finish()
}

/// One server for all, which takes seconds to start. What changes objects comes last.
#[tokio::test]
async fn buckets() {
    let server = server();
    a_prefix_is_a_tree_and_an_object_a_file(&server).await;
    lists_go_on_over_pages(&server).await;
    what_is_not_there(&server).await;
    google_is_asked_with_its_token(&server).await;
    digests_are_those_that_the_store_keeps(&server).await;
    an_object_that_was_replaced_is_an_error(&server).await;
    what_is_written_can_be_read_and_removed(&server).await;
    what_was_begun_is_taken_away(&server).await;
}

async fn a_prefix_is_a_tree_and_an_object_a_file(server: &S3Server) {
    for place in ["s3://bucket/models/8b", "s3://bucket/models/8b/", "gs://bucket/models/8b"] {
        let opened = open(server, place).await.unwrap();
        let tree = &opened.tree;
        assert_eq!(opened.file, None);
        assert_eq!(names(tree, ""), ["config.json", "sub", "summed", "weights"], "{place}");
        assert_eq!(names(tree, "sub"), ["a b+c%.txt"]);
        let node = tree.stat(b"weights").unwrap().unwrap();
        let size = LARGE_BYTES as u64;
        assert_eq!(
            (node.kind, node.mode, node.mtime),
            (NodeKind::File { size }, 0o644, Timestamp::default())
        );
        let name = tree.display(b"sub/a b+c%.txt");
        assert_eq!(name, format!("{}/sub/a b+c%.txt", place.trim_end_matches('/')));
        assert_eq!(read(tree, "sub/a b+c%.txt", 0).await.unwrap(), b"text\n");
        for offset in [0, 1, 100_000, LARGE_BYTES] {
            assert!(read(tree, "weights", offset as u64).await.unwrap() == large()[offset..], "{offset}");
        }
    }
    let opened = open(server, "s3://bucket/models/8b/sub/a b+c%.txt").await.unwrap();
    assert_eq!(opened.file.as_deref(), Some(&b"a b+c%.txt"[..]));
    assert_eq!(names(&opened.tree, ""), ["a b+c%.txt"]);
    let all = open(server, "s3://bucket").await.unwrap();
    assert_eq!(names(&all.tree, ""), ["models", "plain"]);
}

async fn digests_are_those_that_the_store_keeps(server: &S3Server) {
    let tree = open(server, "s3://bucket/models/8b").await.unwrap().tree;
    let expected = digest(b"summed\n");
    assert_eq!(tree.digest(b"summed").unwrap(), Some(expected));
    let identity = Identity::Content(expected.to_string().into_bytes().into());
    assert_eq!(tree.identity(b"summed").unwrap(), Some(identity));
    assert_eq!(read(&tree, "summed", 0).await.unwrap(), b"summed\n");
    assert_eq!(tree.digest(b"weights").unwrap(), None);
    let Some(Identity::Content(first)) = tree.identity(b"config.json").unwrap() else {
        panic!("no identity")
    };
    server.put("bucket", &[("models/8b/config.json", b"{ }")], false);
    let tree = open(server, "s3://bucket/models/8b").await.unwrap().tree;
    assert_ne!(tree.identity(b"config.json").unwrap(), Some(Identity::Content(first)));
}

async fn an_object_that_was_replaced_is_an_error(server: &S3Server) {
    let tree = open(server, "s3://bucket/plain").await.unwrap().tree;
    server.put("bucket", &[("plain", b"other\n")], false);
    let error = read(&tree, "plain", 0).await.unwrap_err();
    let LayerError::Changed { what, .. } = error else { panic!("{error}") };
    assert_eq!(what, "it has another entity tag now");
}

/// Of one part, of several, and of nothing; by somebody, as moto lets nobody write.
async fn what_is_written_can_be_read_and_removed(server: &S3Server) {
    server.put("written", &[("other", b"")], false);
    let google = GoogleEmulator::start();
    for (place, key) in [("gs://written/a/b/", "a/b/new &1.tar"), ("gs://written", "new &1.tar")] {
        let uploads = Buckets::new(known(server, &google)).uploads(&place.parse().unwrap()).unwrap();
        for bytes in [0, (8 << 20) + 1, 20 << 20] {
            let content = Noise::bytes(9, bytes);
            let mut upload = uploads.begin("new &1.tar");
            for piece in content.chunks(1 << 16) {
                upload.write(piece).await.unwrap();
            }
            upload.finish().await.unwrap();
            assert_eq!(server.keys("written"), [key, "other"]);
            assert!(server.object("written", key) == content, "{place} {bytes}");
            uploads.remove("new &1.tar").await.unwrap();
            assert_eq!(server.keys("written"), ["other"]);
        }
        // Once more: nothing is there, and that is fine.
        uploads.remove("new &1.tar").await.unwrap();
        uploads.check("probe").await.unwrap();
        assert_eq!(server.keys("written"), ["other"]);
    }
    let none = Buckets::new(known(server, &google)).uploads(&"gs://nothing/x".parse().unwrap()).unwrap();
    let error = none.check("probe").await.unwrap_err();
    let expected = (PlaceErrorKind::NotFound, "gs://nothing/x: there is no such bucket");
    assert_eq!((error.kind, &*error.to_string()), expected);
}

/// Somebody gave up in the midst.
async fn what_was_begun_is_taken_away(server: &S3Server) {
    server.put("begun", &[("other", b"")], false);
    let google = GoogleEmulator::start();
    let uploads = Buckets::new(known(server, &google)).uploads(&"gs://begun".parse().unwrap()).unwrap();
    let mut upload = uploads.begin("large");
    upload.write(&Noise::bytes(9, 9 << 20)).await.unwrap();
    drop(upload);
    assert_eq!(server.keys("begun"), ["large", "other"], "an upload that goes on");
    uploads.remove("large").await.unwrap();
    assert_eq!(server.keys("begun"), ["other"]);
}

async fn lists_go_on_over_pages(server: &S3Server) {
    // A page has 1,000; to put more takes moto a minute.
    let count = if is_full() { 1203 } else { 3 };
    let keys: Vec<String> = (0..count).map(|number| format!("m/{number:04}")).collect();
    let objects: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &b"x"[..])).collect();
    server.put("many", &objects, false);
    let tree = open(server, "s3://many/m").await.unwrap().tree;
    assert_eq!(names(&tree, "").len(), count);
}

async fn what_is_not_there(server: &S3Server) {
    for (place, kind, expected) in [
        ("s3://nothing/x", PlaceErrorKind::NotFound, "s3://nothing/x: there is no such bucket"),
        (
            "s3://bucket/models/9b",
            PlaceErrorKind::NotFound,
            "s3://bucket/models/9b: there is no such object, and none below it",
        ),
        (
            "s3://bucket/models/8",
            PlaceErrorKind::NotFound,
            "s3://bucket/models/8: there is no such object, and none below it",
        ),
    ] {
        assert_eq!(open(server, place).await.map(drop), Err((kind, expected.to_owned())), "{place}");
    }
}

/// As somebody whom Google knows.
fn known(server: &S3Server, google: &GoogleEmulator) -> BucketOptions {
    let host = google.host();
    let environment = move |name: &str| (name == "GCE_METADATA_HOST").then(|| host.clone());
    let http = Arc::new(Http::new(HttpOptions::default()));
    let identity = Google::from_environment(http, Arc::new(environment));
    BucketOptions { google: Some(Arc::new(identity)), ..options(server) }
}

async fn google_is_asked_with_its_token(server: &S3Server) {
    let google = GoogleEmulator::start();
    let options = known(server, &google);
    let location: BucketLocation = "gs://bucket/plain".parse().unwrap();
    let opened = Buckets::new(options).open(&location).await.unwrap();
    assert_eq!(read(&opened.tree, "plain", 0).await.unwrap(), b"plain\n");
    assert!(!google.requests().with("GET", "/token").is_empty());
}
