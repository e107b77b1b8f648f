//! Copying and verifying what no builder of today writes.

use std::{path::Path, sync::Arc};

use ocib_image::{
    Annotations, Blob, ContainerConfig, Descriptor, DiffId, Digest, Document, Events, Index, Manifest,
    MediaType, Platform, Progress, Sink,
};
use ocib_store::{
    CheckedKind, Documents, Images, LayoutSink, Registries, VerifyOptions, copy_image, verify_image,
};
use ocib_testkit::sealer;

use crate::{
    Warnings, options,
    scripted::{Reply, Server},
    small_image,
};

fn images() -> Images {
    Images { registries: Registries::new(options()) }
}

async fn documents(name: &str, platforms: &[&str]) -> Result<Documents, String> {
    let platforms: Vec<Platform> = platforms.iter().map(|text| text.parse().unwrap()).collect();
    let origin = images().open(&name.parse().unwrap()).await.unwrap();
    Documents::read(origin, &platforms).await.map_err(|error| error.to_string())
}

/// A layout with one layer that is there and one that is at a URL; gives the URL's digest.
async fn windows_like(directory: &Path) -> (Digest, Digest) {
    let sink = LayoutSink::new(directory, &["1".to_owned()], sealer());
    let layer = Blob::in_memory(MediaType::LayerTar, "here".into());
    let mut foreign = Descriptor::of("application/vnd.docker.image.rootfs.foreign.diff.tar".into(), b"there");
    foreign.urls = vec!["https://elsewhere.example/layer".to_owned()];
    let mut config = ContainerConfig::scratch(&Platform::new("windows", "amd64"));
    config.diff_ids = vec![DiffId(foreign.digest), DiffId(layer.descriptor.digest)];
    let config = Blob::in_memory(MediaType::Config, config.to_bytes());
    for blob in [&config, &layer] {
        sink.put_blob(blob, &Progress::unwatched()).await.unwrap();
    }
    let layers = vec![foreign.clone(), layer.descriptor.clone()];
    let manifest = Document::Manifest(Manifest::new(config.descriptor, layers, Annotations::new()));
    sink.finish(&manifest).await.unwrap();
    (foreign.digest, manifest.descriptor().digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_layers_stay_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let (foreign, digest) = windows_like(&from).await;
    let image = documents(&format!("oci-layout://{}", from.display()), &[]).await.unwrap();
    let warnings = Arc::new(Warnings::default());
    let events: Arc<dyn Events> = warnings.clone();
    let copied = copy_image(&image, &LayoutSink::new(&to, &[], sealer()), &events).await.unwrap();
    assert_eq!(copied, [format!("oci-layout://{}@{digest}", to.display())]);
    let expected =
        format!("layer {foreign} is not copied: its owner keeps it at https://elsewhere.example/layer");
    assert_eq!(*warnings.0.lock().unwrap(), [expected]);
    assert!(!to.join("blobs/sha256").join(foreign.hex()).exists());

    let origin = images().open(&copied[0].parse().unwrap()).await.unwrap();
    let checked = verify_image(&origin, &VerifyOptions::default(), &events).await.unwrap();
    let kinds: Vec<_> = checked.iter().map(|checked| (checked.kind, checked.wrong.is_none())).collect();
    let expected = [CheckedKind::Manifest, CheckedKind::Config, CheckedKind::Foreign, CheckedKind::Layer];
    assert_eq!(kinds, expected.map(|kind| (kind, true)));
}

/// An index as BuildKit writes it, with an attestation for each image.
#[tokio::test(flavor = "multi_thread")]
async fn attestations_go_with_their_images() {
    let dir = tempfile::tempdir().unwrap();
    let sink = LayoutSink::new(dir.path(), &[], sealer());
    let mut entries = Vec::new();
    for (content, platform) in
        [("1", "linux/amd64"), ("2", "linux/arm64"), ("3", "windows(10.0.20348.1)/amd64")]
    {
        let image = small_image(content.into());
        let attestation = small_image(format!("about {content}").into());
        for put in [&image, &attestation] {
            sink.put_blob(&put.config, &Progress::unwatched()).await.unwrap();
            sink.put_blob(&put.layer, &Progress::unwatched()).await.unwrap();
            sink.put_manifest(&put.manifest).await.unwrap();
        }
        let about = ("vnd.docker.reference.digest".to_owned(), image.descriptor().digest.to_string());
        let of = |platform: &str, descriptor| Descriptor {
            platform: Some(platform.parse().unwrap()),
            ..descriptor
        };
        entries.push(of(platform, image.descriptor()));
        let attestation = Descriptor { annotations: [about].into(), ..attestation.descriptor() };
        entries.push(of("unknown/unknown", attestation));
    }
    let index = Document::Index(Index::new(entries.clone(), Annotations::new()));
    sink.finish(&index).await.unwrap();
    let name = format!("oci-layout://{}", dir.path().display());
    for (platforms, expected) in [
        (&["linux/arm64", "linux/amd64"][..], vec![0, 1, 2, 3]),
        (&["windows(10.0.20348)/amd64", "linux/amd64"], vec![0, 1, 4, 5]),
        (&[], vec![0, 1, 2, 3, 4, 5]),
    ] {
        let picked = documents(&name, platforms).await.unwrap();
        let Document::Index(picked) = picked.root() else { panic!("several are an index") };
        let expected: Vec<_> = expected.into_iter().map(|at: usize| entries[at].clone()).collect();
        assert_eq!(picked.manifests(), expected, "{platforms:?}");
    }
    let one = documents(&name, &["windows(10.0.20348)/amd64"]).await.unwrap();
    assert_eq!((one.root().descriptor().digest, one.found()), (entries[4].digest, index.descriptor().digest));
    assert_eq!(
        documents(&name, &["windows(10.0.17763)/amd64"]).await.unwrap_err(),
        format!(
            "{name} has no image for windows(10.0.17763)/amd64, only for linux/amd64, linux/arm64, \
             windows(10.0.20348.1)/amd64"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_1_is_explained() {
    let server = Server::start(|request, _| match request.target.as_str() {
        "/v2/" => Reply::status(200),
        _ => Reply::status(200)
            .header("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
            .body(r#"{"schemaVersion":1,"name":"a","tag":"1","fsLayers":[],"history":[]}"#),
    });
    let said = documents(&format!("{}/a:1", server.host()), &[]).await.unwrap_err();
    let expected = format!(
        "{}/a:1: a document of type application/vnd.docker.distribution.manifest.v1+prettyjws cannot be read: it is a \
         manifest of Docker's schema 1, which registries and runtimes have given up: push the image again from Docker \
         1.10 or later",
        server.host()
    );
    assert_eq!(said, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_leads_to_ever_more_is_given_up() {
    let entry = |at: u32| Descriptor::of(MediaType::Index, &at.to_le_bytes());
    let many = Index::new((0..2500).map(entry).collect(), Annotations::new());
    let raw = many.raw().clone();
    let server = Server::start(move |request, _| match request.target.as_str() {
        "/v2/" => Reply::status(200),
        _ => Reply::status(200).header("Content-Type", &MediaType::Index).body(raw.to_vec()),
    });
    let said = documents(&format!("{}/a:1", server.host()), &[]).await.unwrap_err();
    assert!(said.contains(&format!("has digest {}", many.descriptor().digest)), "{said}");
    assert!(server.received().len() < 20, "{} requests", server.received().len());
}
