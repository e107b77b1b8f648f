//! What earlier pulls left in a directory, and pulls of something else into it.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::{
    fs,
    io::Read,
    ops::Range,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use ocib_image::{
    Annotations, Blob, BlobSource, ByteStream, Entry, EntryKind, Event, Events, Image, Manifest, MediaType,
    PlaceError, PlaceErrorKind, Platform, Reference, TarWriter, Timestamp,
};
use ocib_model::{PullError, PullOptions, Pulled, pull};
use ocib_testkit::Noise;
use serde_json::{Value, json};
use tokio::sync::Notify;

struct Quiet;

impl Events for Quiet {
    fn emit(&self, _: Event<'_>) {}
}

/// A blob in memory that breaks after so many requests: a pull that goes round in circles ends.
#[derive(Debug)]
struct Few {
    blob: Blob,
    left: AtomicU64,
}

impl Few {
    fn take(&self) -> Result<(), PlaceError> {
        let less = |left: u64| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(PlaceError::new(PlaceErrorKind::Unreachable, std::io::Error::other("asked too often")))
            }
        }
    }
}

impl BlobSource for Few {
    fn stream(&self, offset: u64) -> BoxFuture<'_, Result<ByteStream, PlaceError>> {
        match self.take() {
            Ok(()) => self.blob.source.stream(offset),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn range(&self, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, PlaceError>> {
        self.stream(range.start)
    }

    fn read(&self) -> Result<Box<dyn Read + Send>, PlaceError> {
        self.blob.source.read()
    }

    fn repository(&self) -> Option<&Reference> {
        None
    }
}

/// A blob of which nothing comes any more after so many requests.
#[derive(Debug)]
struct Stalls {
    few: Few,
    asked: Arc<Notify>,
}

impl BlobSource for Stalls {
    fn stream(&self, offset: u64) -> BoxFuture<'_, Result<ByteStream, PlaceError>> {
        match self.few.take() {
            Ok(()) => self.few.blob.source.stream(offset),
            Err(_) => {
                self.asked.notify_one();
                Box::pin(std::future::pending())
            }
        }
    }

    fn read(&self) -> Result<Box<dyn Read + Send>, PlaceError> {
        self.few.blob.source.read()
    }

    fn repository(&self) -> Option<&Reference> {
        None
    }
}

/// A plain layer of these files, which may be asked for so many times.
fn layer(files: &[(&str, &[u8])], requests: u64) -> Blob {
    let file = |(name, content): &(&str, &[u8])| entry(name, EntryKind::File { size: content.len() as u64 });
    few(&files.iter().map(|named| (file(named), named.1)).collect::<Vec<_>>(), requests)
}

/// The same of entries of any kind.
fn few(entries: &[(Entry, &[u8])], requests: u64) -> Blob {
    let mut tar = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        match entry.kind {
            EntryKind::File { .. } => tar.file(entry, &mut &content[..], &String::new).unwrap(),
            _ => tar.entry(entry).unwrap(),
        }
    }
    let blob = Blob::in_memory(MediaType::LayerTar, tar.finish().unwrap().into());
    Blob {
        descriptor: blob.descriptor.clone(),
        source: Arc::new(Few { blob, left: AtomicU64::new(requests) }),
    }
}

fn entry(name: &str, kind: EntryKind) -> Entry {
    let (name, mtime) = (name.as_bytes().into(), Timestamp::default());
    Entry { name, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: None }
}

fn image(layers: &[Blob]) -> Image {
    let empty = Image::empty(&Platform::linux_amd64());
    let descriptors = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    let manifest = Manifest::new(empty.manifest.config().clone(), descriptors, Annotations::new());
    Image { manifest, layers: layers.to_vec(), ..empty }
}

async fn pulled(image: &Image, directory: &Path, options: PullOptions) -> Result<Pulled, PullError> {
    let events: Arc<dyn Events> = Arc::new(Quiet);
    pull(image, directory, &options, &events).await
}

fn of(path: &str) -> PullOptions {
    PullOptions { path: path.to_owned(), ..PullOptions::default() }
}

/// Large enough to be fetched in parts.
const LARGE_BYTES: usize = 34 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_file_of_another_pull_is_no_beginning_of_this_one() {
    let directory = tempfile::tempdir().unwrap();
    let (large, longer) = (Noise::bytes(1, LARGE_BYTES), Noise::bytes(2, 1 << 20));
    let layer = layer(&[("models/a", &longer), ("models/b/c", b"short"), ("models/b/d", &large)], 100);
    let left = directory.path().join(".ocib-pull").join(format!("{}.0", layer.descriptor.digest.hex()));
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    // As a pull of /models leaves it that ends early: all of its room is reserved at once.
    fs::write(&left, &longer).unwrap();
    pulled(&image(&[layer]), directory.path(), of("/models/b")).await.unwrap();
    assert_eq!(fs::read(directory.path().join("c")).unwrap(), b"short");
    assert!(fs::read(directory.path().join("d")).unwrap() == large);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_file_that_an_upper_layer_hides_is_missed_by_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (large, other) = (Noise::bytes(1, LARGE_BYTES), Noise::bytes(2, LARGE_BYTES));
    let lower = layer(&[("models/a", &large), ("models/b", b"lower")], 100);
    let upper = layer(&[("models/b", &other)], 100);
    let image = image(&[lower, upper]);
    // What is in the way ends the pull when all layers are here.
    fs::create_dir_all(directory.path().join("a/full")).unwrap();
    let error = pulled(&image, directory.path(), of("/models")).await.unwrap_err();
    assert!(matches!(error, PullError::InTheWay { .. }), "{error}");
    fs::remove_dir_all(directory.path().join("a")).unwrap();
    fs::write(directory.path().join(".ocib-pull/boot"), "\"another\"").unwrap();

    pulled(&image, directory.path(), of("/models")).await.unwrap();
    assert!(fs::read(directory.path().join("a")).unwrap() == large);
    assert!(fs::read(directory.path().join("b")).unwrap() == other);
}

/// A crash of the machine may keep what was written of a file, and lose what was written into it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_lost_is_believed_by_no_later_pull() {
    let content = Noise::bytes(1, 5000);
    let whole = layer(&[("models/a", &content)], 100);
    let incomplete = image(&[whole.clone(), layer(&[("models/b", b"b")], 0)]);
    // One layer after another: the first is here when the second one fails.
    let options = PullOptions { connections: 1, ..of("/models") };
    for boot in [Some("\"another\""), Some(""), None] {
        let directory = tempfile::tempdir().unwrap();
        pulled(&incomplete, directory.path(), options.clone()).await.unwrap_err();
        lose_content(directory.path(), &whole);
        let written = directory.path().join(".ocib-pull/boot");
        match boot {
            Some(text) => fs::write(written, text).unwrap(),
            None => fs::remove_file(written).unwrap(),
        }
        // It ends before it looks at anything.
        pulled(&incomplete, directory.path(), options.clone()).await.unwrap_err();
        let complete = image(&[whole.clone(), layer(&[("models/b", b"b")], 9)]);
        pulled(&complete, directory.path(), options.clone()).await.unwrap();
        assert!(fs::read(directory.path().join("a")).unwrap() == content, "{boot:?}");
    }
}

/// Makes zeros of what was kept of the only file of `layer`, with the journal none the wiser.
fn lose_content(directory: &Path, layer: &Blob) {
    let kept = |ending: &str| {
        directory.join(".ocib-pull").join(format!("{}.{ending}", layer.descriptor.digest.hex()))
    };
    let bytes = fs::metadata(kept("0")).unwrap().len();
    fs::write(kept("0"), vec![0; usize::try_from(bytes).unwrap()]).unwrap();
    let now = fs::metadata(kept("0")).unwrap();
    let mut known: Value = serde_json::from_slice(&fs::read(kept("json")).unwrap()).unwrap();
    known["staged"]["0"] = json!({
        "inode": now.ino(),
        "bytes": bytes,
        "mtime": [now.mtime(), now.mtime_nsec()],
        "ctime": [now.ctime(), now.ctime_nsec()],
    });
    fs::write(kept("json"), known.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_an_upper_layer_hides_keeps_no_other_from_being_verified() {
    let (directory, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let large = Noise::bytes(1, LARGE_BYTES);
    let layers = |requests| {
        image(&[
            layer(&[("models/a", &large), ("models/b", b"lower")], requests),
            layer(&[("models/b", b"upper")], requests),
        ])
    };
    pulled(&layers(100), directory.path(), of("/models")).await.unwrap();
    for name in [".ocib-pull.json", "a", "b"] {
        fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    let verify = || PullOptions { verify: true, ..of("/models") };
    for (directory, options) in
        [(&directory, of("/models")), (&directory, verify()), (&copy, of("/models")), (&copy, verify())]
    {
        let done = pulled(&layers(0), directory.path(), options).await.unwrap();
        assert_eq!((done.placed, done.kept), (0, 2));
    }
    let mut damaged = large.clone();
    damaged[12345] ^= 1;
    fs::write(copy.path().join("a"), damaged).unwrap();
    pulled(&layers(0), copy.path(), of("/models")).await.unwrap_err();
    pulled(&layers(100), copy.path(), of("/models")).await.unwrap();
    assert!(fs::read(copy.path().join("a")).unwrap() == large);
}

/// An image and an artifact may share a layer, of which they want different parts.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_pull_of_an_artifact_left_is_no_beginning_of_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let large = Noise::bytes(1, LARGE_BYTES);
    let files = [("models/a", &large[..]), ("other/x", &large[..1 << 20])];
    let broken = layer(&files, 3);
    let config = Blob::in_memory(MediaType::from("application/x"), b"{}".as_slice().into()).descriptor;
    let manifest = Manifest::artifact(None, config, vec![broken.descriptor.clone()], Annotations::new());
    let artifact = Image { manifest, ..image(&[broken]) };
    let error = pulled(&artifact, directory.path(), of("/models")).await.unwrap_err();
    assert!(error.to_string().contains("asked too often"), "{error}");
    assert!(
        fs::read_dir(directory.path().join(".ocib-pull")).unwrap().any(|entry| {
            entry.unwrap().path().extension().is_some_and(|extension| extension == "partial")
        })
    );

    pulled(&image(&[layer(&files, 100)]), directory.path(), of("/models")).await.unwrap();
    assert!(fs::read(directory.path().join("a")).unwrap() == large);
    assert!(!directory.path().join("other").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_put_in_the_place_of_a_stale_file_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let before =
        [("models/a", &b"a"[..]), ("models/edited", b"1"), ("models/replaced", b"2"), ("models/stale", b"3")];
    pulled(&image(&[layer(&before, 9)]), directory.path(), of("/models")).await.unwrap();
    fs::write(path("edited"), "mine").unwrap();
    fs::write(path("new"), "also mine").unwrap();
    fs::rename(path("new"), path("replaced")).unwrap();

    let options = PullOptions { delete: true, ..of("/models") };
    let done = pulled(&image(&[layer(&before[..1], 9)]), directory.path(), options).await.unwrap();
    assert_eq!(done.removed, 1);
    assert!(!path("stale").exists());
    assert_eq!(fs::read_to_string(path("edited")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(path("replaced")).unwrap(), "also mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_somebody_in_the_place_of_a_stale_path_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let link = |name: &str| (entry(name, EntryKind::Symlink(b"a"[..].into())), &b""[..]);
    let a = (entry("models/a", EntryKind::File { size: 1 }), &b"a"[..]);
    let before = [
        a.clone(),
        (entry("models/directory", EntryKind::Directory), b""),
        link("models/directory/x"),
        link("models/link"),
        link("models/room"),
        link("models/stale"),
    ];
    pulled(&image(&[few(&before, 9)]), directory.path(), of("/models")).await.unwrap();
    fs::remove_dir_all(path("directory")).unwrap();
    fs::remove_file(path("link")).unwrap();
    fs::remove_file(path("room")).unwrap();
    symlink("../mine", path("directory")).unwrap();
    symlink("../mine", path("link")).unwrap();
    fs::create_dir(path("room")).unwrap();

    let after = image(&[few(&[a], 9)]);
    // What is stale stays so until somebody wants it removed.
    assert_eq!(pulled(&after, directory.path(), of("/models")).await.unwrap().removed, 0);
    let options = PullOptions { delete: true, ..of("/models") };
    assert_eq!(pulled(&after, directory.path(), options).await.unwrap().removed, 1);
    assert!(path("stale").symlink_metadata().is_err());
    for name in ["directory", "link"] {
        assert_eq!(fs::read_link(path(name)).unwrap(), Path::new("../mine"));
    }
    assert!(path("room").is_dir());
}

/// Looks at whether a pull has ended, with 10 ms between them. Generous: a busy machine must not fail a test.
const POLLS: usize = 6000;

/// A pull that nobody waits for any more leaves its directory to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_dropped_ends() {
    let directory = tempfile::tempdir().unwrap();
    // One that is read from front to back, and one in parts, for which its headers were asked for.
    for (bytes, requests) in [(9, 0), (LARGE_BYTES, 2)] {
        let whole = layer(&[("models/a", &Noise::bytes(1, bytes))], 100);
        let asked = Arc::new(Notify::new());
        let few = Few { blob: whole.clone(), left: AtomicU64::new(requests) };
        let source = Arc::new(Stalls { few, asked: Arc::clone(&asked) });
        let stalled = image(&[Blob { source, ..whole.clone() }]);
        tokio::select! {
            _ = pulled(&stalled, directory.path(), of("/models")) => panic!("it cannot end"),
            () = asked.notified() => {}
        }
        let whole = image(&[whole]);
        let mut done = pulled(&whole, directory.path(), of("/models")).await;
        for _ in 0..POLLS {
            if !matches!(done, Err(PullError::Busy { .. })) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            done = pulled(&whole, directory.path(), of("/models")).await;
        }
        assert_eq!(done.unwrap().placed, 1);
    }
}
