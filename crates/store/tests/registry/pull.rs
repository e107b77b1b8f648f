//! Pulling.

use std::{
    io::Read,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::TryStreamExt;
use ocib_image::{
    Annotations, Descriptor, Digest, Document, ImageName, ImageSource, Index, MediaType, PlaceErrorKind,
    Platform, Sink,
};
use ocib_store::{Registries, RegistriesOptions};
use ocib_testkit::{Fault, FaultProxy, Noise, Registry, RegistryOptions};

use crate::{
    Login, options,
    scripted::{Reply, Server},
    sink_to, small_image,
};

fn name(host: &str, rest: &str) -> ImageName {
    format!("{host}/{rest}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_out_of_an_index() {
    let registry = Registry::start(RegistryOptions::default());
    let registries = Registries::new(options());
    let repository = format!("{}/a", registry.host());
    let sink = sink_to(registries.clone(), &repository, &["1"]);
    let images = [small_image(b"amd64".to_vec()), small_image(b"arm64".to_vec())];
    let mut entries = Vec::new();
    for (image, platform) in images.iter().zip(["linux/amd64", "linux/arm64"]) {
        image.put(&sink_to(registries.clone(), &repository, &[])).await;
        entries.push(Descriptor { platform: Some(platform.parse().unwrap()), ..image.descriptor() });
    }
    let index = Document::Index(Index::new(entries, Annotations::new()));
    sink.finish(&index).await.unwrap();

    let arm64 = "linux/arm64".parse().unwrap();
    let pulled = registries.resolve(&name(&registry.host(), "a:1"), &arm64).await.unwrap();
    assert_eq!(pulled.manifest.raw(), &images[1].raw());
    assert_eq!(pulled.pinned, format!("{repository}@{}", index.descriptor().digest));
    let mut layer = Vec::new();
    let mut read = pulled.layers[0].source.read().unwrap();
    tokio::task::block_in_place(|| read.read_to_end(&mut layer)).unwrap();
    assert_eq!(layer, b"arm64");

    let s390x = Platform::new("linux", "s390x");
    let error = registries.resolve(&name(&registry.host(), "a:1"), &s390x).await.unwrap_err();
    let expected = format!("{repository}:1 has no image for linux/s390x, only for linux/amd64, linux/arm64");
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::NotFound, expected));

    let error = registries.resolve(&name(&registry.host(), "a:2"), &arm64).await.unwrap_err();
    let expected =
        format!("GET {}/v2/a/manifests/2 answered 404: MANIFEST_UNKNOWN: manifest unknown", registry.url());
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::NotFound, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_its_connection_broke() {
    let registry = Registry::start(RegistryOptions::default());
    let proxy = FaultProxy::start(&registry.host());
    let content = Noise::bytes(9, 3_000_000);
    let image = small_image(content.clone());
    image.put(&sink_to(Registries::new(options()), &format!("{}/a", registry.host()), &["1"])).await;

    let registries = Registries::new(options());
    let platform = Platform::linux_amd64();
    let pulled = registries.resolve(&name(&proxy.host(), "a:1"), &platform).await.unwrap();
    proxy.inject(Fault::Response { after_bytes: 1_000_000 });
    proxy.inject(Fault::Response { after_bytes: 500_000 });
    let (mut layer, source) = (Vec::new(), pulled.layers[0].source.clone());
    tokio::task::spawn_blocking(move || {
        source.read().unwrap().read_to_end(&mut layer).unwrap();
        assert!(layer == content, "{} bytes", layer.len());
    })
    .await
    .unwrap();
    assert_eq!(proxy.happened(), 2);
    let fetched = registry.requests();
    let partial: Vec<u16> =
        fetched.with("GET", &image.layer.descriptor.digest.hex()).iter().map(|r| r.status).collect();
    assert_eq!(partial[1..], [206, 206], "{partial:?}");

    let tail: Vec<_> = pulled.layers[0].source.stream(2_999_990).await.unwrap().try_collect().await.unwrap();
    assert_eq!(tail.concat(), Noise::bytes(9, 3_000_000)[2_999_990..]);
}

/// Serves an image, and `layer` as its layer.
fn registry_with(image: &crate::SmallImage, layer: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    let (config, digest) = (image.config.descriptor.clone(), image.layer.descriptor.digest);
    let (raw, config_bytes) = (image.raw(), config_bytes(image));
    Server::start(move |request, _| match request.target.as_str() {
        "/v2/" => Reply::status(200),
        "/v2/a/manifests/1" => {
            Reply::status(200).header("Content-Type", &MediaType::Manifest).body(raw.to_vec())
        }
        target if target.ends_with(&config.digest.to_string()) => {
            Reply::status(200).body(config_bytes.clone())
        }
        target if target.ends_with(&digest.to_string()) => layer(),
        _ => Reply::status(404),
    })
}

fn config_bytes(image: &crate::SmallImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.config.source.read().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

async fn read_layer(server: &Server, registries: &Registries) -> Result<Vec<u8>, String> {
    let pulled = registries.resolve(&name(&server.host(), "a:1"), &Platform::linux_amd64()).await.unwrap();
    let source = pulled.layers[0].source.clone();
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        source.read().unwrap().read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.to_string())
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_not_what_they_should_be() {
    let image = || small_image(b"0123456789".to_vec());
    let digest = image().layer.descriptor.digest;
    for (served, expected) in [
        (&b"0123456789"[..], Ok(())),
        (b"012345678X", Err(format!("has digest {}, expected {digest}", Digest::of(b"012345678X")))),
        (b"01234", Err("has 5 bytes, expected 10".to_owned())),
        (b"0123456789+", Err("has 11 bytes, expected 10".to_owned())),
    ] {
        let server = registry_with(&image(), move || Reply::status(200).body(served));
        let read = read_layer(&server, &Registries::new(options())).await;
        let blob = format!("{}/a@{digest}", server.host());
        assert_eq!(read.map(drop), expected.map_err(|text| format!("{blob} {text}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_ignores_ranges_is_read_from_the_start() {
    let server = registry_with(&small_image(b"0123456789".to_vec()), {
        let asked = AtomicUsize::new(0);
        move || {
            let whole = Reply::status(200).body(b"0123456789".to_vec());
            if asked.fetch_add(1, Ordering::SeqCst) == 0 { whole.cut_after(4) } else { whole }
        }
    });
    assert_eq!(read_layer(&server, &Registries::new(options())).await.unwrap(), b"0123456789");
}

/// The bytes of a range, one request for each.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_layer() {
    let content = b"0123456789";
    let image = small_image(content.to_vec());
    let registry = Registry::start(RegistryOptions::default());
    image.put(&sink_to(Registries::new(options()), &format!("{}/a", registry.host()), &["1"])).await;
    // One that ignores ranges gives more, and sometimes breaks off.
    let server = registry_with(&image, {
        let asked = AtomicUsize::new(0);
        move || {
            let whole = Reply::status(200).body(content.to_vec());
            if asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { whole.cut_after(4) } else { whole }
        }
    });
    for host in [registry.host(), server.host()] {
        let registries = Registries::new(options());
        let pulled = registries.resolve(&name(&host, "a:1"), &Platform::linux_amd64()).await.unwrap();
        for range in [0..0, 0..10, 2..5, 5..6, 9..10, 7..99, 10..10] {
            let stream = pulled.layers[0].source.range(range.clone()).await.unwrap();
            let pieces: Vec<_> = stream.try_collect().await.unwrap();
            let end = usize::try_from(range.end).unwrap().min(content.len());
            let start = usize::try_from(range.start).unwrap();
            assert_eq!(pieces.concat(), content[start..end], "{range:?} of {host}");
        }
    }
    let asked = registry.requests();
    let partial = asked.0.iter().filter(|request| request.status == 206);
    assert_eq!(partial.map(|request| request.bytes).collect::<Vec<_>>(), [3, 1, 1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_origin_takes_no_credentials_along() {
    let storage = Server::start(|_, _| Reply::status(200).body(b"0123456789".to_vec()));
    let target = format!("http://{}/signed?sig=1", storage.host());
    let image = small_image(b"0123456789".to_vec());
    let (raw, config, layer) = (image.raw(), config_bytes(&image), image.layer.descriptor.digest.to_string());
    let registry = Server::start(move |request, _| match request.header("authorization") {
        Some("Basic bWU6c2VjcmV0") if request.target.ends_with(&layer) => {
            Reply::status(307).header("Location", &target)
        }
        Some("Basic bWU6c2VjcmV0") if request.target.ends_with("/manifests/1") => {
            Reply::status(200).header("Content-Type", &MediaType::Manifest).body(raw.to_vec())
        }
        Some("Basic bWU6c2VjcmV0") => Reply::status(200).body(config.clone()),
        _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=x"),
    });
    let credentials = Login::basic("me", "secret");
    let registries = Registries::new(RegistriesOptions { credentials, ..options() });
    assert_eq!(read_layer(&registry, &registries).await.unwrap(), b"0123456789");
    let received = storage.received();
    assert_eq!(received.len(), 1);
    assert_eq!(
        (received[0].line().as_str(), received[0].header("authorization")),
        ("GET /signed?sig=1", None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_what_was_asked_for() {
    let image = small_image(b"x".to_vec());
    let (raw, asked) = (image.raw(), Digest::of(b"asked"));
    let server = Server::start(move |_, _| {
        Reply::status(200).header("Content-Type", &MediaType::Manifest).body(raw.to_vec())
    });
    let source = name(&server.host(), &format!("a@{asked}"));
    let error = Registries::new(options()).resolve(&source, &Platform::linux_amd64()).await.unwrap_err();
    let actual = image.descriptor().digest;
    let expected = format!("{}/a@{asked} has digest {actual}, expected {asked}", server.host());
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Corrupt, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_manifest_is_given_up() {
    let server = Server::start(|_, _| Reply::status(200).body(vec![b' '; (4 << 20) + 1]));
    let source = name(&server.host(), "a:1");
    let error = Registries::new(options()).resolve(&source, &Platform::linux_amd64()).await.unwrap_err();
    let expected =
        format!("GET http://{}/v2/a/manifests/1 answered with more than 4194304 bytes", server.host());
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Corrupt, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_registry_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request, _| match request.target.as_str() {
        "/v2/" => Reply::status(200),
        _ if asked.fetch_add(1, Ordering::SeqCst) < 3 => Reply::status(429).header("Retry-After", "0"),
        _ => Reply::status(404),
    });
    let source = name(&server.host(), "a:1");
    let error = Registries::new(options()).resolve(&source, &Platform::linux_amd64()).await.unwrap_err();
    assert_eq!(error.kind, PlaceErrorKind::NotFound);
    assert_eq!(server.received().len(), 4);
}
