//! The Hub, as a stand-in speaks it.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::{io::Read, sync::Arc, time::Duration};

use ocib_image::{
    Digest, Digester, Identity, LayerError, Node, NodeKind, PlaceErrorKind, Secret, Timestamp, Tree,
};
use ocib_net::Backoff;
use ocib_source::{Hub, HubFiles, HubLocation, HubOptions, HubSnapshot, ReadAhead};
use ocib_testkit::{HubAccess, HubContent, HubFault, HubServer, Noise};
use tokio::task::spawn_blocking;

const REPOSITORY: &str = "org/model";
const PART_BYTES: u64 = 64 << 10;
const LARGE_BYTES: usize = 300_007;

fn large() -> Vec<u8> {
    Noise::bytes(7, LARGE_BYTES)
}

/// A Hub with a model: two files of git's, one of LFS, one below a directory.
fn server() -> HubServer {
    let server = HubServer::start();
    let files = [
        ("README.md", HubContent::Plain(b"# A model\n".to_vec())),
        ("config.json", HubContent::Plain(b"{}".to_vec())),
        ("model.safetensors", HubContent::Large(large())),
        ("onnx/a b+c%.onnx", HubContent::Large(b"onnx".to_vec())),
    ];
    server.publish(REPOSITORY, &files);
    server
}

fn hub(server: &HubServer, token: Option<&str>) -> Hub {
    let backoff = Backoff { attempts: 3, first: Duration::from_millis(1), longest: Duration::from_millis(2) };
    Hub::new(HubOptions {
        backoff,
        endpoint: server.endpoint().parse().unwrap(),
        token: token.map(Secret::new),
        ahead: ReadAhead { parts: 3, part_bytes: PART_BYTES },
        ..HubOptions::default()
    })
}

async fn open(
    server: &HubServer,
    location: &str,
    token: Option<&str>,
) -> Result<HubSnapshot, (PlaceErrorKind, String)> {
    let location: HubLocation = location.parse().unwrap();
    let opened = hub(server, token).open(&location, &HubFiles::default()).await;
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

fn digest(bytes: &[u8]) -> Digest {
    let mut digester = Digester::new();
    digester.update(bytes);
    digester.finish()
}

fn names(tree: &Arc<dyn Tree>, path: &str) -> Vec<String> {
    let names = tree.list(path.as_bytes()).unwrap();
    names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[tokio::test]
async fn a_commit_is_a_tree() {
    let server = server();
    for page in [1, 2, 1000] {
        server.page(page);
        let opened = open(&server, "hf://org/model", None).await.unwrap();
        let commit = &opened.commit;
        assert_eq!(opened.location.to_string(), format!("hf://org/model@{commit}"));
        assert_eq!(opened.file, None);
        let tree = &opened.tree;
        assert_eq!(names(tree, ""), ["README.md", "config.json", "model.safetensors", "onnx"]);
        assert_eq!(names(tree, "onnx"), ["a b+c%.onnx"]);
        let node =
            |kind, mode| Node { kind, mode, uid: 0, gid: 0, mtime: Timestamp::default(), link_group: None };
        let stat = |path: &str| tree.stat(path.as_bytes()).unwrap();
        let size = LARGE_BYTES as u64;
        assert_eq!(stat("model.safetensors"), Some(node(NodeKind::File { size }, 0o644)));
        assert_eq!(stat("onnx"), Some(node(NodeKind::Directory, 0o755)));
        assert_eq!(stat("nothing"), None);
        let expected = digest(&large());
        assert_eq!(tree.digest(b"model.safetensors").unwrap(), Some(expected));
        assert_eq!(tree.digest(b"config.json").unwrap(), None);
        let identity = Identity::Content(expected.to_string().into_bytes().into());
        assert_eq!(tree.identity(b"model.safetensors").unwrap(), Some(identity));
        let blob = b"git blob 9e26dfeeb6e641a33dae4961196235bdb965b21b";
        assert_eq!(tree.identity(b"config.json").unwrap(), Some(Identity::Content((*blob).into())));
        assert_eq!(tree.display(b"onnx/x"), format!("hf://org/model@{commit}/onnx/x"));
        assert_eq!(server.body_bytes(), 0);
    }
}

#[tokio::test]
async fn files_are_read_from_anywhere_and_verified() {
    let server = server();
    let opened = open(&server, "hf://org/model", None).await.unwrap();
    assert_eq!(read(&opened.tree, "config.json", 0).await.unwrap(), b"{}");
    assert_eq!(read(&opened.tree, "config.json", 1).await.unwrap(), b"}");
    assert_eq!(read(&opened.tree, "README.md", 10).await.unwrap(), b"");
    assert_eq!(read(&opened.tree, "onnx/a b+c%.onnx", 0).await.unwrap(), b"onnx");
    for offset in [0, 1, PART_BYTES as usize, 250_000, LARGE_BYTES] {
        let bytes = read(&opened.tree, "model.safetensors", offset as u64).await.unwrap();
        assert!(bytes == large()[offset..], "{offset}");
    }
}

#[tokio::test]
async fn many_parts_find_their_way_once() {
    let server = server();
    let opened = open(&server, "hf://org/model", None).await.unwrap();
    for _ in 0..2 {
        assert!(read(&opened.tree, "model.safetensors", 0).await.unwrap() == large());
    }
    assert_eq!(server.requests().with("GET", "/resolve/").len(), 1);
    let parts = LARGE_BYTES.div_ceil(PART_BYTES as usize);
    assert_eq!(server.store_requests().0.len(), 2 * parts);
    assert_eq!(server.body_bytes(), 2 * LARGE_BYTES as u64);
    // The URL that was found holds no more.
    server.expire_urls();
    assert!(read(&opened.tree, "model.safetensors", 0).await.unwrap() == large());
}

#[tokio::test]
async fn a_place_may_be_a_directory_a_file_or_a_revision() {
    let server = server();
    let first = open(&server, "hf://org/model", None).await.unwrap().commit;
    server.tag(REPOSITORY, "refs/pr/1");
    let second = server.publish(REPOSITORY, &[("config.json", HubContent::Plain(b"{ }".to_vec()))]);
    assert_ne!(first, second);
    for (place, commit, paths, file) in [
        ("hf://org/model", &second, &["config.json"][..], None),
        ("hf://org/model@refs/pr/1/onnx", &first, &["a b+c%.onnx"], None),
        ("hf://org/model@refs/pr/1/onnx/a b+c%.onnx", &first, &["a b+c%.onnx"], Some("a b+c%.onnx")),
        ("hf://org/model/config.json", &second, &["config.json"], Some("config.json")),
        (&format!("hf://org/model@{first}/config.json"), &first, &["config.json"], Some("config.json")),
    ] {
        let opened = open(&server, place, None).await.unwrap();
        assert_eq!(&opened.commit, commit, "{place}");
        assert_eq!(names(&opened.tree, ""), paths, "{place}");
        assert_eq!(opened.file.as_deref(), file.map(str::as_bytes), "{place}");
    }
    let opened = open(&server, "hf://org/model@refs/pr/1/onnx/a b+c%.onnx", None).await.unwrap();
    assert_eq!(read(&opened.tree, "a b+c%.onnx", 0).await.unwrap(), b"onnx");
    assert_eq!(opened.tree.display(b"a b+c%.onnx"), format!("hf://org/model@{first}/onnx/a b+c%.onnx"));
}

#[tokio::test]
async fn patterns_choose_files() {
    let server = server();
    let list = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    let location: HubLocation = "hf://org/model".parse().unwrap();
    for (include, exclude, expected) in [
        (&["*.json", "*.md"][..], &[][..], &["README.md", "config.json"][..]),
        (&[], &["onnx/", "*.safetensors"], &["README.md", "config.json"]),
        (&["*.onnx"], &[], &["onnx"]),
    ] {
        let files = HubFiles { include: list(include), exclude: list(exclude) };
        let opened = hub(&server, None).open(&location, &files).await.unwrap();
        assert_eq!(names(&opened.tree, ""), expected);
    }
    let files = HubFiles { include: list(&["*.gguf"]), exclude: Vec::new() };
    let error = hub(&server, None).open(&location, &files).await.unwrap_err();
    assert_eq!(
        (error.kind, error.to_string()),
        (
            PlaceErrorKind::Input,
            "hf://org/model@main: none of its 4 files is left by the patterns that include and exclude files"
                .into()
        )
    );
}

#[tokio::test]
async fn what_may_not_be_read_is_explained_before_a_file_is_asked_for() {
    let server = server();
    for (name, access) in [("org/gated", HubAccess::Gated), ("org/private", HubAccess::Private)] {
        server.publish(name, &[("config.json", HubContent::Plain(b"{}".to_vec()))]);
        server.restrict(name, access);
    }
    let (denied, missing) = (PlaceErrorKind::Denied, PlaceErrorKind::NotFound);
    let no_token = "there is no such repository, or it is private: a private one needs a token (HF_TOKEN), and none was given";
    let other_token =
        "there is no such repository, or it is private and the token (HF_TOKEN) may not read it";
    let restricted = "access is restricted: Access to this model is restricted and you are not in the authorized list; expected";
    for (place, token, kind, expected) in [
        ("hf://org/gated", None, denied, format!("{restricted} a token (HF_TOKEN), and none was given")),
        (
            "hf://org/gated",
            Some(server.stranger()),
            denied,
            format!("{restricted} the token (HF_TOKEN) of an account that was given access"),
        ),
        ("hf://org/private", None, denied, no_token.to_owned()),
        ("hf://org/private", Some(server.stranger()), missing, other_token.to_owned()),
        ("hf://org/nothing", None, denied, no_token.to_owned()),
        ("hf://org/nothing", Some(server.token()), missing, other_token.to_owned()),
        (
            "hf://org/model",
            Some("hf_ended"),
            denied,
            "the Hub does not take the token: Invalid credentials in Authorization header, expected one that is valid (HF_TOKEN)".to_owned(),
        ),
        (
            "hf://org/model@v9",
            None,
            missing,
            "the repository has no revision v9, expected a branch, a tag or a commit".to_owned(),
        ),
        ("hf://org/model@main/none/such", None, missing, "the repository has nothing at none/such".to_owned()),
    ] {
        let (actual, text) = open(&server, place, token).await.unwrap_err();
        let text = text.split_once(": ").unwrap().1.to_owned();
        // A gated repository is named by its commit once that is known.
        assert_eq!((actual, text), (kind, expected), "{place} {token:?}");
    }
    for place in ["hf://org/gated", "hf://org/private"] {
        let opened = open(&server, place, Some(server.token())).await.unwrap();
        assert_eq!(read(&opened.tree, "config.json", 0).await.unwrap(), b"{}");
    }
}

#[tokio::test]
async fn transfers_that_break_go_on_where_they_were() {
    for faults in [
        vec![HubFault::Cut(5), HubFault::Cut(100_000), HubFault::Cut(0)],
        vec![HubFault::StoreStatus(503), HubFault::StoreStatus(429)],
        vec![HubFault::WholeFile, HubFault::Cut(70_000), HubFault::WholeFile],
        vec![HubFault::Status(429, Some(1)), HubFault::Status(500, None)],
    ] {
        let server = server();
        let opened = open(&server, "hf://org/model", None).await.unwrap();
        faults.iter().for_each(|fault| server.fail(fault.clone()));
        assert!(read(&opened.tree, "model.safetensors", 0).await.unwrap() == large(), "{faults:?}");
        assert_eq!(server.faults_left(), 0, "{faults:?}");
    }
}

#[tokio::test]
async fn what_always_fails_is_given_up() {
    let server = server();
    let opened = open(&server, "hf://org/model", None).await.unwrap();
    (0..20).for_each(|_| server.fail(HubFault::StoreStatus(503)));
    let error = read(&opened.tree, "onnx/a b+c%.onnx", 0).await.unwrap_err();
    let LayerError::Place(error) = error else { panic!("{error}") };
    assert_eq!(error.kind, PlaceErrorKind::Unreachable, "{error}");
    assert!(!error.to_string().contains("PlantedSignature"), "{error}");
    assert_eq!(server.store_requests().0.len(), 3);
}

#[tokio::test]
async fn other_content_than_was_listed_is_an_error() {
    let server = server();
    let opened = open(&server, "hf://org/model", None).await.unwrap();
    server.fail(HubFault::WrongByte);
    let error = read(&opened.tree, "onnx/a b+c%.onnx", 0).await.unwrap_err();
    let LayerError::Place(error) = error else { panic!("{error}") };
    assert_eq!(error.kind, PlaceErrorKind::Corrupt);
    let name = format!("hf://org/model@{}/onnx/a b+c%.onnx", opened.commit);
    let (expected, actual) = (digest(b"onnx"), digest(b"nnnx"));
    let text = format!("{name} is not what it was said to be: expected {expected}, got {actual}");
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn readers_share_their_parts() {
    let server = server();
    let opened = open(&server, "hf://org/model", None).await.unwrap();
    let all = (0..8).map(|_| read(&opened.tree, "model.safetensors", 0));
    for bytes in futures_util::future::join_all(all).await {
        assert!(bytes.unwrap() == large());
    }
}

#[tokio::test]
async fn names_of_all_kinds_are_asked_for_as_they_are() {
    let server = HubServer::start();
    let names = ["a\tb", "a#b", "a?b", "a%2eb", "%2e%2e", "\u{e9}", "a\\b", "a;b=c&d", "\"'<>|", "a\nb"];
    let files = names.map(|name| (name, HubContent::Plain(name.as_bytes().to_vec())));
    server.publish(REPOSITORY, &files);
    let snapshot = open(&server, "hf://org/model", None).await.unwrap();
    for name in names {
        assert_eq!(read(&snapshot.tree, name, 0).await.unwrap(), name.as_bytes(), "{name:?}");
    }
}

/// What a store has no more is not a repository that is missing, nor a token that is wrong.
#[tokio::test]
async fn a_store_knows_nothing_of_repositories() {
    let server = server();
    let snapshot = open(&server, "hf://org/model", None).await.unwrap();
    for status in [401, 404] {
        server.fail(HubFault::StoreStatus(status));
        let error = read(&snapshot.tree, "model.safetensors", 0).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!(" answered {status}")) && !error.contains("no such repository"),
            "{error}"
        );
    }
}
