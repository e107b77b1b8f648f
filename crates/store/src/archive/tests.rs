use std::{
    fs,
    io::{Read, Seek},
    path::Path,
    process::Command,
    sync::Mutex,
};

use ocib_image::{
    Annotations, ArchiveFormat, Codec, Compression, ContainerConfig, Descriptor, Digest, Index, MediaType,
    PlaceErrorKind,
};
use ocib_testkit::{
    Noise, Podman, SinkCase, file_layer, program_layer, require, rootfs, run_command, sealer, sink_suite,
    skopeo, untar, verify_layout,
};
use tempfile::TempDir;

use super::*;

fn sink(format: ArchiveFormat, destination: Destination, names: &[&str]) -> ArchiveSink {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    ArchiveSink::new(ArchiveOptions { format, destination, names, sealer: sealer() }).unwrap()
}

fn file_sink(format: ArchiveFormat, path: &Path, names: &[&str]) -> ArchiveSink {
    sink(format, Destination::File(path.to_owned()), names)
}

/// Puts an image of two layers and finishes it.
async fn build(sink: &ArchiveSink) -> (Document, Vec<String>) {
    let busybox = fs::read(require("busybox", "busybox-static")).unwrap();
    let layers = [
        file_layer("noise", Noise::bytes(1, 900_000), Compression::Fixed(Codec::Plain)),
        program_layer("busybox", busybox, Compression::Fixed(Codec::GZIP)),
    ];
    let mut config = ContainerConfig::scratch(&"linux/amd64".parse().unwrap());
    let mut descriptors = Vec::new();
    for layer in &layers {
        let layer = sink.put_layer(layer, &Progress::unwatched()).await.unwrap().layer;
        config.diff_ids.push(layer.diff_id);
        descriptors.push(layer.descriptor);
    }
    config.runtime.cmd = Some(vec!["/busybox".into(), "echo".into(), "hello".into()]);
    let config = Blob::in_memory(MediaType::Config, config.to_bytes());
    sink.put_blob(&config, &Progress::unwatched()).await.unwrap();
    let manifest = Manifest::new(config.descriptor, descriptors, Annotations::new());
    let root = Document::Manifest(manifest);
    sink.put_manifest(&root).await.unwrap();
    let names = sink.finish(&root).await.unwrap();
    (root, names)
}

async fn suite(format: ArchiveFormat, takes_indexes: bool) {
    let dirs = Mutex::new(Vec::new());
    sink_suite(|| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("image.tar");
        dirs.lock().unwrap().push(dir);
        let (probed, listed) = (path.clone(), path.clone());
        SinkCase {
            sink: Box::new(file_sink(format, &path, &["a.b/c:v1", "a.b/c:v2"])),
            takes_indexes,
            probe: Box::new(move || {
                let index = probed.exists().then(|| entry(&probed, "index.json").unwrap())?;
                let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
                let entries = index["manifests"].as_array().unwrap();
                assert!(entries.len() == 2 && entries[0]["digest"] == entries[1]["digest"], "{index}");
                Some(entries[0]["digest"].as_str().unwrap().parse().unwrap())
            }),
            blobs: Box::new(move || blobs(&listed)),
        }
    })
    .await;
    for dir in dirs.into_inner().unwrap() {
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        // The suite does nothing with a place that takes no indexes where it is about them.
        if files.is_empty() && !takes_indexes {
            continue;
        }
        assert_eq!(files, ["image.tar"]);
        untar(&dir.path().join("image.tar"), &dir.path().join("layout"));
        verify_layout(&dir.path().join("layout"));
    }
}

fn entries(archive: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    });
    read.collect()
}

fn entry(archive: &Path, name: &str) -> Option<Vec<u8>> {
    entries(archive).into_iter().find(|(path, _)| path == name).map(|(_, content)| content)
}

fn blobs(archive: &Path) -> Vec<(Digest, Vec<u8>)> {
    let all = if archive.exists() { entries(archive) } else { Vec::new() };
    let named = all.into_iter().filter_map(|(name, content)| {
        let hex = name.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty())?;
        Some((format!("sha256:{hex}").parse().unwrap(), content))
    });
    named.collect()
}

/// A stream whose bytes can be looked at.
#[derive(Clone, Debug, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn oci_archives_keep_the_contract_of_sinks() {
    suite(ArchiveFormat::Oci, true).await;
}

#[tokio::test]
async fn docker_archives_keep_the_contract_of_sinks() {
    suite(ArchiveFormat::Docker, false).await;
}

#[tokio::test]
async fn the_same_calls_give_the_same_bytes_in_files_and_pipes() {
    let dir = TempDir::new().unwrap();
    for format in [ArchiveFormat::Oci, ArchiveFormat::Docker] {
        let mut all = Vec::new();
        for name in ["1.tar", "2.tar"] {
            let path = dir.path().join(name);
            build(&file_sink(format, &path, &["a.b/c:v1"])).await;
            all.push(fs::read(path).unwrap());
        }
        let pipe = Pipe::default();
        build(&sink(format, Destination::Stream(Box::new(pipe.clone())), &["a.b/c:v1"])).await;
        all.push(pipe.0.lock().unwrap().clone());
        assert!(all[0] == all[1] && all[0] == all[2]);
    }
}

#[tokio::test]
async fn entries_have_no_owner_and_no_time() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image.tar");
    let (root, _) = build(&file_sink(ArchiveFormat::Docker, &path, &[])).await;
    let Document::Manifest(manifest) = &root else { panic!("one image") };
    let digests = manifest.layers().iter().chain([manifest.config()]).map(|d| d.digest);
    let blobs =
        digests.chain([root.descriptor().digest]).map(|digest| format!("blobs/sha256/{}", digest.hex()));
    let mut expected = vec!["oci-layout".to_owned(), "blobs/".into(), "blobs/sha256/".into()];
    expected.extend(blobs.chain(["index.json".to_owned(), "manifest.json".to_owned()]));
    let mut archive = tar::Archive::new(fs::File::open(&path).unwrap());
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let mode = if header.entry_type().is_dir() { 0o755 } else { 0o644 };
        let said =
            (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
        assert_eq!(said, (mode, 0, 0, 0));
        names.push(entry.path().unwrap().display().to_string());
    }
    assert_eq!(names, expected);
    let layers: Vec<_> =
        manifest.layers().iter().map(|l| format!("blobs/sha256/{}", l.digest.hex())).collect();
    let json: serde_json::Value = serde_json::from_slice(&entry(&path, "manifest.json").unwrap()).unwrap();
    let config = format!("blobs/sha256/{}", manifest.config().digest.hex());
    assert_eq!(json, serde_json::json!([{ "Config": config, "RepoTags": null, "Layers": layers }]));
}

#[tokio::test]
async fn skopeo_reads_both_formats() {
    let dir = TempDir::new().unwrap();
    for (format, transport, name, tag) in [
        (ArchiveFormat::Oci, "oci-archive", "a.b/c:v1", "v1"),
        (ArchiveFormat::Docker, "docker-archive", "a.b/c:v1", "a.b/c:v1"),
    ] {
        let path = dir.path().join(transport);
        let (root, names) = build(&file_sink(format, &path, &[name])).await;
        let source = format!("{transport}:{}:{tag}", path.display());
        let own = source.replacen(':', "://", 1);
        assert_eq!(names, [format!("{own}@{}", root.descriptor().digest)]);
        let copy = dir.path().join(format!("{transport}-copy"));
        skopeo(&["copy", &source, &format!("oci:{}:x", copy.display())]);
        verify_layout(&copy);
        let names: Vec<_> = rootfs(&copy, "linux/amd64").into_keys().collect();
        assert_eq!(names, ["busybox", "noise"]);
    }
}

#[tokio::test]
async fn podman_loads_a_docker_archive() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image.tar");
    build(&file_sink(ArchiveFormat::Docker, &path, &["a.b/c:v1", "hello"])).await;
    let podman = Podman::new();
    podman.load(&path);
    let source = format!("docker-archive:{}:docker.io/library/hello:latest", path.display());
    let id = podman.pull(&source);
    assert_eq!(podman.run(&id, &[]), "hello\n");
}

#[tokio::test]
async fn an_index_is_no_docker_archive() {
    let dir = TempDir::new().unwrap();
    let sink = file_sink(ArchiveFormat::Docker, &dir.path().join("image.tar"), &["v1"]);
    let index = Document::Index(Index::new(Vec::new(), Annotations::new()));
    let expected =
        "a docker archive holds one image, not one for each platform: choose one platform, or write type=oci";
    for error in [sink.put_manifest(&index).await.unwrap_err(), sink.finish(&index).await.unwrap_err()] {
        assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Refused, expected.to_owned()));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn names_of_docker_archives_are_references() {
    let new = |name: &str| {
        let options = ArchiveOptions {
            format: ArchiveFormat::Docker,
            destination: Destination::File("x".into()),
            names: vec![name.to_owned()],
            sealer: sealer(),
        };
        ArchiveSink::new(options).map(|sink| sink.repo_tags).map_err(|error| error.to_string())
    };
    let digest = Digest::of(b"");
    for (name, expected) in [
        ("v1", Ok(vec!["docker.io/library/v1:latest".to_owned()])),
        ("a.b/c:1", Ok(vec!["a.b/c:1".to_owned()])),
        (
            "A B",
            Err(r#""A B" cannot name an image in a docker archive, expected REPOSITORY[:TAG]"#.to_owned()),
        ),
        (
            &format!("a@{digest}"),
            Err(format!(
                r#""a@{digest}" cannot name an image in a docker archive, expected REPOSITORY[:TAG]"#
            )),
        ),
    ] {
        assert_eq!(new(name), expected, "{name}");
    }
}

#[tokio::test]
async fn nothing_is_added_after_the_end() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image.tar");
    let sink = file_sink(ArchiveFormat::Oci, &path, &["v1"]);
    build(&sink).await;
    let before = fs::read(&path).unwrap();
    let blob = Blob::in_memory(MediaType::LayerTar, "new".into());
    let error = sink.put_blob(&blob, &Progress::unwatched()).await.unwrap_err();
    let expected = format!("{} is finished, nothing can be added to it", path.display());
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Refused, expected));
    build(&sink).await;
    assert!(fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn a_pipe_is_broken_by_what_it_cannot_take_back() {
    let pipe = Pipe::default();
    let sink = sink(ArchiveFormat::Oci, Destination::Stream(Box::new(pipe)), &["v1"]);
    let right = Blob::in_memory(MediaType::LayerTar, vec![7; 600_000].into());
    let wrong = Descriptor { digest: Digest::of(b"other"), ..right.descriptor.clone() };
    let wrong = Blob { descriptor: wrong, ..right.clone() };
    let error = sink.put_blob(&wrong, &Progress::unwatched()).await.unwrap_err();
    assert_eq!(error.kind, PlaceErrorKind::Corrupt);
    let error = sink.put_blob(&right, &Progress::unwatched()).await.unwrap_err();
    let expected = "- was broken off by an earlier failure".to_owned();
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Local, expected));
}

#[tokio::test]
async fn a_named_pipe_is_written_to_and_an_unfinished_file_removed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("pipe");
    run_command(Command::new("mkfifo").arg(&path));
    let reader = path.clone();
    let reading = std::thread::spawn(move || fs::read(reader).unwrap());
    build(&file_sink(ArchiveFormat::Oci, &path, &["v1"])).await;
    let written = dir.path().join("image.tar");
    fs::write(&written, reading.join().unwrap()).unwrap();
    untar(&written, &dir.path().join("layout"));
    verify_layout(&dir.path().join("layout"));

    fs::remove_dir_all(dir.path().join("layout")).unwrap();
    let blob = Blob::in_memory(MediaType::LayerTar, "new".into());
    let sink = file_sink(ArchiveFormat::Oci, &dir.path().join("other.tar"), &["v1"]);
    sink.put_blob(&blob, &Progress::unwatched()).await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    drop(sink);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// Its header is written before its size is known, so it has room for one block only.
#[tokio::test]
async fn a_layer_above_8_gib_has_one_header_block() {
    let dir = TempDir::new().unwrap();
    let header = writer::header("blobs/sha256/x", ocib_image::EntryKind::File { size: 9 << 30 });
    assert_eq!(header.len(), 512);
    let path = dir.path().join("image.tar");
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&header).unwrap();
    file.seek_relative(9 << 30).unwrap();
    file.write_all(&[0; 1024]).unwrap();
    let listed = run_command(Command::new("tar").arg("-tvf").arg(&path));
    assert_eq!(listed.split_whitespace().nth(2), Some("9663676416"), "{listed}");
}
