//! Pushing.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use ocib_image::{
    Annotations, Codec, Compression, Digest, Event, Events, Foreknown, ImageName, ImageSource, LayerError,
    LayerSource, Outcome, PlaceErrorKind, Platform, Progress, Sink, TaskId, Unsealed,
};
use ocib_store::{Registries, RegistriesOptions};
use ocib_testkit::{
    Fault, FaultProxy, Noise, Registry, RegistryOptions, SinkCase, file_layer, sink_suite, skopeo,
    verify_layout,
};

use crate::{
    Login, options,
    scripted::{Reply, Server},
    sink_to, small_image, trusting,
};

/// Keeps what it was told, without the counting.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Events for Told {
    fn emit(&self, event: Event<'_>) {
        let text = match event {
            Event::Restarted { why, .. } => format!("restarted: {why}"),
            Event::Finished { outcome, .. } => format!("{outcome:?}"),
            _ => return,
        };
        self.0.lock().unwrap().push(text);
    }
}

fn told() -> (Arc<Told>, Progress) {
    let told = Arc::new(Told::default());
    (Arc::clone(&told), Progress::new(told, TaskId(0)))
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_of_sinks() {
    let registry = Registry::start(RegistryOptions::default());
    let registries = Registries::new(options());
    let repositories = AtomicUsize::new(0);
    sink_suite(|| {
        let name = format!("suite/{}", repositories.fetch_add(1, Ordering::SeqCst));
        let sink = sink_to(registries.clone(), &format!("{}/{name}", registry.host()), &["one", "two"]);
        let root = registry.storage().join("docker/registry/v2");
        let repository = root.join("repositories").join(&name);
        let tags = repository.join("_manifests/tags");
        SinkCase {
            sink: Box::new(sink),
            takes_indexes: true,
            probe: Box::new(move || {
                let [one, two] = ["one", "two"].map(|tag| link(&tags.join(tag).join("current/link")));
                assert_eq!(one, two);
                one
            }),
            blobs: Box::new(move || stored(&root, &repository)),
        }
    })
    .await;
}

fn link(path: &Path) -> Option<Digest> {
    Some(fs::read_to_string(path).ok()?.parse().unwrap())
}

/// The blobs that a repository of distribution's storage links to.
fn stored(root: &Path, repository: &Path) -> Vec<(Digest, Vec<u8>)> {
    let Ok(layers) = fs::read_dir(repository.join("_layers/sha256")) else { return Vec::new() };
    let digests = layers.filter_map(|layer| link(&layer.unwrap().path().join("link")));
    let data = |digest: &Digest| -> PathBuf {
        root.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex()).join("data")
    };
    digests.map(|digest| (digest, fs::read(data(&digest)).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_image_sends_nothing_and_a_known_one_is_mounted() {
    let registry = Registry::start(RegistryOptions::default());
    let image = small_image(Noise::bytes(1, 100_000));
    let registries = Registries::new(options());
    let name = format!("{}/a/b", registry.host());
    let first = image.put(&sink_to(registries.clone(), &name, &["1", "2"])).await;
    assert_eq!(first, vec![format!("{name}@{}", image.descriptor().digest); 2]);

    let before = registry.requests();
    image.put(&sink_to(registries.clone(), &name, &["1"])).await;
    let since = registry.requests().since(&before);
    let asked: Vec<_> = since.0.iter().map(|request| (&*request.method, &*request.path)).collect();
    let tag = "/v2/a/b/manifests/1";
    assert_eq!(asked, [("GET", tag), ("HEAD", tag)], "the tag's manifest says what is there");

    let source: ImageName = format!("{name}:1").parse().unwrap();
    let pulled = registries.resolve(&source, &Platform::linux_amd64()).await.unwrap();
    let (events, progress) = told();
    let before = registry.requests();
    let other = sink_to(registries, &format!("{}/other", registry.host()), &[]);
    other.put_blob(&pulled.layers[0], &progress).await.unwrap();
    assert_eq!(*events.0.lock().unwrap(), [format!("{:?}", Outcome::Mounted)]);
    let since = registry.requests().since(&before);
    assert_eq!(since.fetched(), Vec::<&str>::new());
    assert_eq!(since.uploads().len(), 0, "{since:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_can_read_what_was_pushed() {
    let registry = Registry::start(RegistryOptions::default());
    let sink = sink_to(Registries::new(options()), &format!("{}/a", registry.host()), &["1"]);
    let image = small_image(Noise::bytes(1, 100_000));
    image.put(&sink).await;
    let copied = tempfile::tempdir().unwrap();
    let (from, to) =
        (format!("docker://{}/a:1", registry.host()), format!("oci:{}:1", copied.path().display()));
    tokio::task::block_in_place(|| {
        skopeo(&["copy", "--preserve-digests", "--src-tls-verify=false", &from, &to]);
        verify_layout(copied.path());
    });
    let manifest = copied.path().join("blobs/sha256").join(image.descriptor().digest.hex());
    assert_eq!(fs::read(manifest).unwrap(), image.raw());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_a_password() {
    let login = Some(("me".to_owned(), "secret".to_owned()));
    let registry = Registry::start(RegistryOptions { tls: true, login, ..RegistryOptions::default() });
    let http = trusting(fs::read(registry.ca_pem()).unwrap());
    let name = format!("{}/a", registry.host());
    let image = small_image(Noise::bytes(1, 1000));

    let known =
        RegistriesOptions { credentials: Login::basic("me", "secret"), http: http.clone(), ..options() };
    image.put(&sink_to(Registries::new(known), &name, &["1"])).await;

    for credentials in [Login::basic("me", "wrong"), Login::basic("you", "secret")] {
        let wrong = Registries::new(RegistriesOptions { credentials, http: http.clone(), ..options() });
        let error = sink_to(wrong, &name, &["1"]).finish(&image.manifest).await.unwrap_err();
        let url = format!("{}/v2/a/manifests/1", registry.url());
        let expected = format!("GET {url} answered 401: UNAUTHORIZED: authentication required");
        assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Denied, expected));
    }

    let error = sink_to(Registries::new(options()), &name, &["1"]).finish(&image.manifest).await.unwrap_err();
    let expected = format!(
        "GET {}/v2/ failed: the server's certificate is not trusted: invalid peer certificate: UnknownIssuer",
        registry.url()
    );
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Unreachable, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_while_a_layer_is_sent() {
    let registry = Registry::start(RegistryOptions::default());
    let proxy = FaultProxy::start(&registry.host());
    let sink = sink_to(Registries::new(options()), &format!("{}/a", proxy.host()), &["1"]);
    for (codec, after_bytes) in [(Codec::Plain, 700_000), (Codec::GZIP, 1), (Codec::ZSTD, 2_000_000)] {
        let happened = proxy.happened();
        proxy.inject(Fault::RequestBody { after_bytes });
        let (events, progress) = told();
        let layer = file_layer("noise", Noise::bytes(after_bytes, 3_000_000), Compression::Fixed(codec));
        let sealed = sink.put_layer(&layer, &progress).await.unwrap().layer;
        assert_eq!(proxy.happened(), happened + 1, "{codec}");
        let events = events.0.lock().unwrap();
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events[0].starts_with("restarted: PATCH http://127.0.0.1:"), "{events:?}");
        assert_eq!(events[1], "Stored");
        let root = registry.storage().join("docker/registry/v2");
        let stored = stored(&root, &root.join("repositories/a"));
        let bytes = &stored.iter().find(|(digest, _)| *digest == sealed.descriptor.digest).unwrap().1;
        assert_eq!(Digest::of(bytes), sealed.descriptor.digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_while_a_blob_is_sent() {
    let registry = Registry::start(RegistryOptions::default());
    let proxy = FaultProxy::start(&registry.host());
    let sink = sink_to(Registries::new(options()), &format!("{}/a", proxy.host()), &["1"]);
    proxy.inject(Fault::RequestBody { after_bytes: 50_000 });
    image_is_there(&sink, &registry).await;
    assert_eq!(proxy.happened(), 1);
}

async fn image_is_there(sink: &ocib_store::RegistrySink, registry: &Registry) {
    let image = small_image(Noise::bytes(3, 500_000));
    image.put(sink).await;
    let name: ImageName = format!("{}/a:1", registry.host()).parse().unwrap();
    let pulled = Registries::new(options()).resolve(&name, &Platform::linux_amd64()).await.unwrap();
    assert_eq!(pulled.manifest.raw(), &image.raw());
}

/// Writes a little and then says that its file changed.
#[derive(Debug)]
struct Changing(AtomicUsize);

impl LayerSource for Changing {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        out.write_all(&[1; 600_000]).map_err(LayerError::Output)?;
        Err(LayerError::Changed { name: "model.bin".into(), what: "it grew".into() })
    }

    fn bytes(&self) -> Option<u64> {
        None
    }

    fn sample(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_ends_its_upload_at_once() {
    let registry = Registry::start(RegistryOptions::default());
    let sink = sink_to(Registries::new(options()), &format!("{}/a", registry.host()), &[]);
    let source = Arc::new(Changing(AtomicUsize::new(0)));
    let layer = Unsealed {
        source: source.clone(),
        compression: Compression::Fixed(Codec::Plain),
        annotations: Annotations::new(),
        foreknown: Foreknown::default(),
    };
    let error = sink.put_layer(&layer, &Progress::unwatched()).await.unwrap_err();
    let expected = (PlaceErrorKind::Input, "model.bin changed while it was read: it grew".to_owned());
    assert_eq!((error.kind, error.to_string()), expected);
    assert_eq!(source.0.load(Ordering::SeqCst), 1, "the layer was made again");
    assert_eq!(registry.requests().with("DELETE", "/v2/a/blobs/uploads/").len(), 1);
    assert_eq!(registry.requests().with("PUT", "/v2/a/").len(), 0);
}

/// ECR answers PATCH with 201, and others give relative Locations with a state that must come back.
#[tokio::test(flavor = "multi_thread")]
async fn statuses_and_locations_as_registries_give_them() {
    for (patched, location) in [(201, "up/2?_state=b%2F"), (202, "/up/2?_state=b%2F"), (204, "")] {
        let server = Server::start(move |request, host| match request.method.as_str() {
            "POST" => Reply::status(202).header("Location", &format!("http://{host}/base/up/1?_state=a")),
            "PATCH" if location.is_empty() => Reply::status(patched),
            "PATCH" => Reply::status(patched).header("Location", location),
            "PUT" => Reply::status(201),
            _ => Reply::status(200),
        });
        let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &[]);
        let layer = file_layer("text", b"text".to_vec(), Compression::Fixed(Codec::Plain));
        let digest = sink.put_layer(&layer, &Progress::unwatched()).await.unwrap().layer.descriptor.digest;
        let digest = digest.to_string().replace(':', "%3A");
        let end = match location {
            "" => format!("PUT /base/up/1?_state=a&digest={digest}"),
            "up/2?_state=b%2F" => format!("PUT /base/up/up/2?_state=b%2F&digest={digest}"),
            _ => format!("PUT /up/2?_state=b%2F&digest={digest}"),
        };
        let expected = ["POST /v2/a/blobs/uploads/", "PATCH /base/up/1?_state=a", &end];
        assert_eq!(server.lines(), expected);
        let received = server.received();
        assert_eq!(Digest::of(&received[1].body).to_string().replace(':', "%3A"), digest);
        assert_eq!(received[1].header("content-range"), None);
        assert_eq!(received[2].header("content-length"), Some("0"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_not_a_second_upload() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/up"),
        "PATCH" => Reply::status(202),
        "PUT" => Reply::status(503),
        _ => Reply::status(200),
    });
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &[]);
    let layer = file_layer("text", b"text".to_vec(), Compression::Fixed(Codec::Plain));
    let digest = sink.put_layer(&layer, &Progress::unwatched()).await.unwrap().layer.descriptor.digest;
    let put = format!("PUT /up?digest={}", digest.to_string().replace(':', "%3A"));
    let head = format!("HEAD /v2/a/blobs/{digest}");
    assert_eq!(server.lines(), ["POST /v2/a/blobs/uploads/", "PATCH /up", &put, &head]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_refuses_is_told_in_its_words() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::status(403).body(r#"{"errors":[{"code":"DENIED","message":"not\u001b you"}]}"#),
        _ => Reply::status(404),
    });
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &[]);
    let layer = file_layer("text", b"text".to_vec(), Compression::Auto);
    let error = sink.put_layer(&layer, &Progress::unwatched()).await.unwrap_err();
    let url = format!("http://{}/v2/a/blobs/uploads/", server.host());
    let expected = format!("POST {url} answered 403: DENIED: not\\u{{1b}} you");
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Denied, expected));
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_stored_something_else_is_caught() {
    let other = Digest::of(b"other");
    let server = Server::start(move |request, _| match request.method.as_str() {
        "PUT" => Reply::status(201).header("Docker-Content-Digest", &other),
        _ => Reply::status(404),
    });
    let image = small_image(b"x".to_vec());
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &["1"]);
    let error = sink.put_manifest(&image.manifest).await.unwrap_err();
    let digest = image.descriptor().digest;
    let url = format!("http://{}/v2/a/manifests/{digest}", server.host());
    let expected = format!("what {url} stored has digest {other}, expected {digest}");
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Corrupt, expected));
}

/// As nginx does for a body larger than `client_max_body_size`.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_middle_of_a_body_is_heard() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/up"),
        "PATCH" => Reply::status(413).body("too large").early(),
        _ => Reply::status(200),
    });
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &[]);
    let layer = file_layer("noise", Noise::bytes(1, 20_000_000), Compression::Fixed(Codec::Plain));
    let error = sink.put_layer(&layer, &Progress::unwatched()).await.unwrap_err();
    let expected = format!("PATCH http://{}/up answered 413: too large", server.host());
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Refused, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_write_but_not_read_can_push() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/up"),
        "PUT" => Reply::status(201),
        _ => Reply::status(403),
    });
    let image = small_image(b"x".to_vec());
    image.put(&sink_to(Registries::new(options()), &format!("{}/a", server.host()), &["1"])).await;
    let puts = server.lines().iter().filter(|line| line.starts_with("PUT /v2/a/manifests/")).count();
    assert_eq!(puts, 2, "by digest, and by tag");
}

/// Harbor behind some load balancers, and others, send uploads to another of their hosts.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_sent_elsewhere_goes_there_from_its_start() {
    for status in [307, 308] {
        let server = Server::start(move |request, _| match (request.method.as_str(), &*request.target) {
            ("POST", _) => Reply::status(202).header("Location", "/first"),
            ("PATCH", "/first") => Reply::status(status).header("Location", "/second"),
            ("PATCH", _) => Reply::status(202).header("Location", "/end?state=1"),
            ("PUT", _) => Reply::status(201),
            _ => Reply::status(404),
        });
        let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &[]);
        let layer = file_layer("x", Noise::bytes(1, 100_000), Compression::Fixed(Codec::Plain));
        let placed = sink.put_layer(&layer, &Progress::unwatched()).await.unwrap();
        let lines = server.lines();
        let sent: Vec<_> = lines.iter().filter(|line| line.starts_with("P")).collect();
        let end = format!("PUT /end?state=1&digest={}", placed.layer.descriptor.digest).replace(':', "%3A");
        assert_eq!(sent, ["POST /v2/a/blobs/uploads/", "PATCH /first", "PATCH /second", &end], "{status}");
    }
}

/// The answer to the first PUT of a tag gets lost, and the tag is immutable: the second one is refused, though the tag
/// names what it should.
#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_tag_whose_answer_got_lost() {
    let image = small_image(b"x".to_vec());
    let digest = image.descriptor().digest;
    let (puts, is_other) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, other) = (Arc::clone(&puts), Arc::clone(&is_other));
    let server = Server::start(move |request, _| match (request.method.as_str(), request.target.as_str()) {
        ("PUT", "/v2/a/manifests/1") if counted.fetch_add(1, Ordering::SeqCst) == 0 => Reply::lost(),
        ("PUT", "/v2/a/manifests/1") => {
            Reply::status(400).body(r#"{"errors":[{"code":"TAG_INVALID","message":"the tag is immutable"}]}"#)
        }
        ("PUT", _) => Reply::status(201),
        ("HEAD", "/v2/a/manifests/1") if counted.load(Ordering::SeqCst) > 0 => {
            let names = if other.load(Ordering::SeqCst) > 0 { Digest::of(b"other") } else { digest };
            Reply::status(200).header("Docker-Content-Digest", &names)
        }
        _ => Reply::status(404),
    });
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &["1"]);
    sink.finish(&image.manifest).await.unwrap();

    puts.store(0, Ordering::SeqCst);
    is_other.store(1, Ordering::SeqCst);
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &["1"]);
    let error = sink.finish(&image.manifest).await.unwrap_err();
    assert!(error.to_string().contains("the tag is immutable"), "{error}");
}

/// A registry decides how long its documents are: of a tag's index only so much is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_index_is_not_kept() {
    use ocib_image::{Descriptor, Index, MediaType};
    const CHILD: u64 = 1 << 20;
    let child = |at: u8| Descriptor::new(MediaType::Manifest, Digest::of(&[at]), CHILD);
    let index = Index::new((0..20).map(child).collect(), Annotations::new());
    let raw = ocib_image::Document::Index(index).raw().to_vec();
    let server = Server::start(move |request, _| match request.target.contains("/manifests/sha256:") {
        true => Reply::status(200).body(vec![b' '; 2 << 20]),
        false if request.method == "GET" => Reply::status(200)
            .header("Content-Type", "application/vnd.oci.image.index.v1+json")
            .body(raw.clone()),
        false => Reply::status(404),
    });
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &["1"]);
    let known = sink.current().await.unwrap();
    assert_eq!(known.len(), 1, "none of the manifests is what it should be");
    let asked = server.lines().iter().filter(|line| line.starts_with("GET /v2/a/manifests/sha256:")).count();
    assert_eq!(asked, 4, "as many as 4 MiB hold");
}

/// An image of `--cache-from` that nobody may read is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_wants_a_login_is_passed_over() {
    use ocib_store::{HashFirst, PushOptions, RegistrySink};
    let private = Server::start(|_, _| Reply::status(401).header("WWW-Authenticate", "Basic realm=x"));
    let server = Server::start(|request, _| match request.method.as_str() {
        "PUT" => Reply::status(201),
        _ => Reply::status(404),
    });
    let sink = RegistrySink::new(PushOptions {
        registries: Registries::new(options()),
        repository: format!("{}/a", server.host()).parse().unwrap(),
        tags: vec!["1".to_owned()],
        sealer: ocib_testkit::sealer(),
        hash_first: HashFirst::Auto,
        cache_from: vec![format!("{}/cache:1", private.host()).parse().unwrap()],
    });
    sink.put_manifest(&small_image(b"x".to_vec()).manifest).await.unwrap();
}
