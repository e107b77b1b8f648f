use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt;
use ocib_image::{
    Annotations, Blob, Codec, Compression, ContainerConfig, Descriptor, Digest, Document, Index, Manifest,
    MediaType, PlaceErrorKind, Platform, Progress, Sink,
};
use ocib_testkit::{Noise, SinkCase, file_layer, rootfs, sealer, sink_suite, skopeo, umoci, verify_layout};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

fn sink(dir: &Path, names: &[&str]) -> LayoutSink {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    LayoutSink::new(dir, &names, sealer())
}

/// An image of one layer, put into `sink` but for its name.
async fn put_image(sink: &LayoutSink, platform: &str, seed: u64) -> Manifest {
    let progress = Progress::unwatched();
    let layer = file_layer("file", Noise::bytes(seed, 600_000), Compression::Fixed(Codec::GZIP));
    let layer = sink.put_layer(&layer, &progress).await.unwrap().layer;
    let mut config = ContainerConfig::scratch(&platform.parse().unwrap());
    config.diff_ids = vec![layer.diff_id];
    let config = Blob::in_memory(MediaType::Config, config.to_bytes());
    sink.put_blob(&config, &progress).await.unwrap();
    let manifest = Manifest::new(config.descriptor, vec![layer.descriptor], Annotations::new());
    sink.put_manifest(&Document::Manifest(manifest.clone())).await.unwrap();
    manifest
}

async fn build(dir: &Path, names: &[&str], seed: u64) -> Digest {
    let sink = sink(dir, names);
    let manifest = put_image(&sink, "linux/amd64", seed).await;
    sink.finish(&Document::Manifest(manifest.clone())).await.unwrap();
    manifest.descriptor().digest
}

fn amd64() -> Platform {
    Platform::linux_amd64()
}

fn names_in(dir: &Path) -> Vec<(String, Option<String>)> {
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entries = index["manifests"].as_array().unwrap().iter();
    entries
        .map(|entry| (text(&entry["digest"]).unwrap(), text(&entry["annotations"][name::REF_NAME])))
        .collect()
}

fn blobs_in(dir: &Path) -> Vec<(Digest, Vec<u8>)> {
    let files = fs::read_dir(dir.join("blobs/sha256")).into_iter().flatten();
    let named = files.filter_map(|file| {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let digest = (!name.starts_with('.')).then(|| format!("sha256:{name}").parse().unwrap())?;
        Some((digest, fs::read(path).unwrap()))
    });
    named.collect()
}

#[tokio::test]
async fn keeps_the_contract_of_sinks() {
    let dirs = std::sync::Mutex::new(Vec::new());
    sink_suite(|| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("layout");
        dirs.lock().unwrap().push(dir);
        let (probed, listed) = (path.clone(), path.clone());
        SinkCase {
            sink: Box::new(sink(&path, &["v1", "a.b/c:v2"])),
            takes_indexes: true,
            probe: Box::new(move || {
                let names = probed.join("index.json").exists().then(|| names_in(&probed))?;
                assert!(names.len() == 2 && names[0].0 == names[1].0, "{names:?}");
                Some(names[0].0.parse().unwrap())
            }),
            blobs: Box::new(move || blobs_in(&listed)),
        }
    })
    .await;
    for dir in dirs.into_inner().unwrap() {
        verify_layout(&dir.path().join("layout"));
    }
}

#[tokio::test]
async fn others_read_it() {
    let dir = TempDir::new().unwrap();
    let digest = build(dir.path(), &["v1", "registry.example/app:v2"], 1).await;
    let image = |tag: &str| format!("oci:{}:{tag}", dir.path().display());
    for tag in ["v1", "v2"] {
        let format = ["inspect", "--format", "{{.Digest}}", &image(tag)];
        assert_eq!(skopeo(&format).trim(), digest.to_string());
    }
    let listed = umoci(&["ls", "--layout", &dir.path().display().to_string()]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["v1", "v2"]);
    let files = rootfs(dir.path(), "linux/amd64");
    assert_eq!(files.keys().collect::<Vec<_>>(), ["file"]);
    let index: Value = serde_json::from_slice(&fs::read(dir.path().join("index.json")).unwrap()).unwrap();
    let expected = BTreeMap::from([
        ("io.containerd.image.name", "registry.example/app:v2"),
        ("org.opencontainers.image.ref.name", "v2"),
    ]);
    assert_eq!(index["manifests"][1]["annotations"], serde_json::json!(expected));
}

#[tokio::test]
async fn other_images_stay_and_old_names_move() {
    let dir = TempDir::new().unwrap();
    let tagged = build(dir.path(), &["v1"], 1).await;
    let unnamed = build(dir.path(), &[], 2).await;
    let entry = |digest: Digest, name: Option<&str>| (digest.to_string(), name.map(str::to_owned));
    assert_eq!(names_in(dir.path()), [entry(tagged, Some("v1")), entry(unnamed, None)]);
    let unnamed = build(dir.path(), &[], 3).await;
    let moved = build(dir.path(), &["v1"], 4).await;
    assert_eq!(names_in(dir.path()), [entry(unnamed, None), entry(moved, Some("v1"))]);
    verify_layout(dir.path());
}

#[tokio::test]
async fn present_blobs_are_not_written_again_and_cut_ones_are() {
    let dir = TempDir::new().unwrap();
    let digest = build(dir.path(), &["v1"], 1).await;
    let blob = dir.path().join(BLOBS).join(digest.hex());
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&blob);
    build(dir.path(), &["v2"], 1).await;
    assert_eq!(inode(&blob), before);
    fs::write(&blob, b"{").unwrap();
    build(dir.path(), &["v2"], 1).await;
    verify_layout(dir.path());
}

#[tokio::test]
async fn modes_are_those_of_the_umask() {
    let dir = TempDir::new().unwrap();
    build(&dir.path().join("layout"), &["v1"], 1).await;
    fs::write(dir.path().join("file"), b"").unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let (file, folder) = (mode(dir.path().join("file")) & 0o644, mode(dir.path().join("dir")));
    let layout = dir.path().join("layout");
    let mut all = vec![mode(layout.join("index.json")), mode(layout.join("oci-layout"))];
    all.extend(fs::read_dir(layout.join(BLOBS)).unwrap().map(|blob| mode(blob.unwrap().path())));
    assert_eq!(all, vec![file; all.len()]);
    assert_eq!(mode(layout.join(BLOBS)), folder);
}

#[tokio::test]
async fn finds_images_by_every_name() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().display().to_string();
    let digest = build(dir.path(), &["registry.example/app:v2"], 1).await;
    for (selector, pinned) in [
        (LayoutSelector::Only, format!("oci-layout://{path}@{digest}")),
        (LayoutSelector::Digest(digest), format!("oci-layout://{path}@{digest}")),
        (LayoutSelector::Tag("v2".into()), format!("oci-layout://{path}:v2@{digest}")),
        (
            LayoutSelector::Tag("registry.example/app:v2".into()),
            format!("oci-layout://{path}:registry.example/app:v2@{digest}"),
        ),
    ] {
        // An image that is no index is taken for any platform.
        let image = resolve_in_layout(dir.path(), &selector, &"linux/arm64".parse().unwrap()).await.unwrap();
        assert_eq!((image.pinned, image.manifest.descriptor().digest), (pinned, digest));
        let expected = image.manifest.layers();
        assert_eq!(image.layers.iter().map(|blob| &blob.descriptor).collect::<Vec<_>>(), [&expected[0]]);
    }
}

#[tokio::test]
async fn follows_indexes_to_the_platform() {
    let dir = TempDir::new().unwrap();
    let sink = sink(dir.path(), &["v1"]);
    let mut entries = Vec::new();
    for (platform, seed) in [("linux/amd64", 1), ("linux/arm64", 2)] {
        let platform_of = |manifest: Manifest| Descriptor {
            platform: Some(platform.parse().unwrap()),
            ..manifest.descriptor()
        };
        entries.push(platform_of(put_image(&sink, platform, seed).await));
    }
    let inner = Document::Index(Index::new(entries.clone(), Annotations::new()));
    sink.put_manifest(&inner).await.unwrap();
    let outer = Document::Index(Index::new(vec![inner.descriptor()], Annotations::new()));
    sink.put_manifest(&outer).await.unwrap();
    sink.finish(&outer).await.unwrap();
    verify_layout(dir.path());

    let tag = LayoutSelector::Tag("v1".into());
    let image = resolve_in_layout(dir.path(), &tag, &"linux/arm64".parse().unwrap()).await.unwrap();
    let pinned = format!("oci-layout://{}:v1@{}", dir.path().display(), outer.descriptor().digest);
    assert_eq!((image.manifest.descriptor().digest, image.pinned), (entries[1].digest, pinned));
    let by_digest = LayoutSelector::Digest(entries[0].digest);
    let image = resolve_in_layout(dir.path(), &by_digest, &amd64()).await.unwrap();
    assert_eq!(image.manifest.descriptor().digest, entries[0].digest);

    let error = resolve_in_layout(dir.path(), &tag, &"linux/s390x".parse().unwrap()).await.unwrap_err();
    let expected = format!(
        "oci-layout://{}:v1 has no image for linux/s390x, only for linux/amd64, linux/arm64",
        dir.path().display()
    );
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::NotFound, expected));
}

#[tokio::test]
async fn says_what_is_there_instead() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().display();
    let path = dir.path();
    let resolve = async |selector: LayoutSelector| {
        let error = resolve_in_layout(path, &selector, &amd64()).await.unwrap_err();
        (error.kind, error.to_string())
    };
    let bad = format!("{at} is not an OCI layout: it has no oci-layout");
    assert_eq!(resolve(LayoutSelector::Only).await, (PlaceErrorKind::Input, bad));
    fs::write(path.join("oci-layout"), MARKER.1).unwrap();
    fs::write(path.join("index.json"), IndexFile::new().to_bytes()).unwrap();
    let none = format!("{at} has no images, expected exactly one, or the tag of one");
    assert_eq!(resolve(LayoutSelector::Only).await, (PlaceErrorKind::NotFound, none));
    let unnamed = build(path, &[], 2).await;
    build(path, &["v1"], 1).await;
    let there = format!("{at} has the images {unnamed}, v1, expected");
    let digest = Digest::of(b"other");
    for (selector, wanted) in [
        (LayoutSelector::Only, "exactly one, or the tag of one".to_owned()),
        (LayoutSelector::Tag("v2".into()), "\"v2\"".to_owned()),
        (LayoutSelector::Digest(digest), digest.to_string()),
    ] {
        assert_eq!(resolve(selector).await, (PlaceErrorKind::NotFound, format!("{there} {wanted}")));
    }
}

#[tokio::test]
async fn a_changed_document_is_refused() {
    let dir = TempDir::new().unwrap();
    let digest = build(dir.path(), &["v1"], 1).await;
    let path = dir.path().join(BLOBS).join(digest.hex());
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = resolve_in_layout(dir.path(), &LayoutSelector::Only, &amd64()).await.unwrap_err();
    let expected = format!("{} has digest {}, expected {digest}", path.display(), Digest::of(&bytes));
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Corrupt, expected));
}

#[tokio::test]
async fn blobs_stream_from_any_offset_and_are_verified() {
    let dir = TempDir::new().unwrap();
    build(dir.path(), &["v1"], 1).await;
    let image = resolve_in_layout(dir.path(), &LayoutSelector::Only, &amd64()).await.unwrap();
    let layer = &image.layers[0];
    let path = dir.path().join(BLOBS).join(layer.descriptor.digest.hex());
    let content = fs::read(&path).unwrap();
    let stream = async |offset: usize| {
        let stream = layer.source.stream(offset as u64).await?;
        stream.try_fold(Vec::new(), async |all, piece| Ok([all, piece.to_vec()].concat())).await
    };
    for offset in [0, 1, 300_000, content.len()] {
        assert!(stream(offset).await.unwrap() == content[offset..], "{offset}");
    }
    let mut changed = content.clone();
    changed[10] ^= 1;
    fs::write(&path, changed).unwrap();
    for offset in [0, 300_000] {
        assert_eq!(stream(offset).await.unwrap_err().kind, PlaceErrorKind::Corrupt, "{offset}");
    }
    let mut all = Vec::new();
    let error = layer.source.read().unwrap().read_to_end(&mut all).unwrap_err();
    assert_eq!(source_error(error).kind, PlaceErrorKind::Corrupt);
}
