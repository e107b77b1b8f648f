//! Images that claim more than there can be.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::{future::ready, sync::Arc};

use futures_util::future::BoxFuture;
use ocib_image::{
    Annotations, Blob, Descriptor, Digest, Document, Entry, EntryKind, Event, Events, Image, Manifest,
    MediaType, Origin, PlaceError, Platform, TarWriter, Timestamp,
};
use ocib_model::{PullOptions, Way, check, open_image, pull, pull_index};

struct Quiet;

impl Events for Quiet {
    fn emit(&self, _: Event<'_>) {}
}

/// What a pull of `image`, and a look into it, end with.
async fn refused(image: &Image) -> [String; 2] {
    let (directory, events): (_, Arc<dyn Events>) = (tempfile::tempdir().unwrap(), Arc::new(Quiet));
    let pulled = pull(image, directory.path(), &PullOptions::default(), &events).await;
    let opened = open_image(image, "/models", &events).await;
    [pulled.unwrap_err().to_string(), opened.map(drop).unwrap_err().to_string()]
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_more_bytes_than_there_are() {
    let mut layer =
        Blob::in_memory(MediaType::from("application/vnd.cncf.model.weight.v1.raw"), b"x"[..].into());
    layer.descriptor.size = 1 << 62;
    layer.descriptor.annotations =
        Annotations::from([("org.cncf.model.filepath".to_owned(), "model.gguf".to_owned())]);
    let config = MediaType::from("application/vnd.cncf.model.config.v1+json");
    let config = Blob::in_memory(config, b"{}"[..].into()).descriptor;
    let manifest = Manifest::artifact(None, config, vec![layer.descriptor.clone()], Annotations::new());
    let image = Image { manifest, layers: vec![layer], ..Image::empty(&Platform::linux_amd64()) };
    for said in refused(&image).await {
        assert!(
            said.ends_with("it claims 4611686018427387904 bytes, more than any registry keeps"),
            "{said}"
        );
    }
}

/// What asks for the layers of an image.
#[derive(Debug)]
struct Layers(Image);

impl Origin for Layers {
    fn name(&self) -> String {
        self.0.pinned.clone()
    }

    fn pinned(&self, _: Digest) -> String {
        self.name()
    }

    fn root(&self) -> BoxFuture<'_, Result<Document, PlaceError>> {
        Box::pin(ready(Ok(Document::Manifest(self.0.manifest.clone()))))
    }

    fn document<'a>(&'a self, _: &'a Descriptor) -> BoxFuture<'a, Result<Document, PlaceError>> {
        self.root()
    }

    fn blob(&self, descriptor: &Descriptor) -> Blob {
        let is_it = |layer: &&Blob| layer.descriptor.digest == descriptor.digest;
        self.0.layers.iter().find(is_it).unwrap().clone()
    }
}

/// Compressed, such layers have next to no bytes. Neither of the two is too much by itself.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_take_all_memory() {
    let layer = |first: u32| {
        let mut tar = TarWriter::new(Vec::new());
        for number in first..first + 600 {
            let name = format!("models/{number:060000}").into_bytes().into();
            let (kind, mtime) = (EntryKind::File { size: 0 }, Timestamp::default());
            let entry = Entry { name, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: None };
            tar.file(&entry, &mut &b""[..], &String::new).unwrap();
        }
        Blob::in_memory(MediaType::LayerTar, tar.finish().unwrap().into())
    };
    let image = |layers: &[Blob]| {
        let empty = Image::empty(&Platform::linux_amd64());
        let descriptors = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let manifest = Manifest::new(empty.manifest.config().clone(), descriptors, Annotations::new());
        Image { manifest, layers: layers.to_vec(), ..empty }
    };
    let (one, both) = (layer(0), layer(600));
    let files = image(std::slice::from_ref(&one));
    let files = pull_index(&Layers(files.clone()), &files.manifest, "models").await.unwrap();
    assert_eq!(files.len(), 600);
    let both = image(&[one, both]);
    let indexed = pull_index(&Layers(both.clone()), &both.manifest, "models").await;
    let checked = check(&both, None, &Way::ALL).await;
    let [pulled, opened] = refused(&both).await;
    for said in [pulled, opened, indexed.unwrap_err().to_string(), checked.unwrap_err().to_string()] {
        assert!(said.ends_with("with it the names of files take more than 67108864 bytes"), "{said}");
    }
}

/// GNU's old sparse files: a header that says how large the file is, and no content.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_all_holes() {
    let sparse = |name: &str, gib: u64| {
        let mut block = vec![0; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00        S");
        put(257, b"ustar  \0");
        put(483, &[&[0x80, 0, 0, 0][..], &(gib << 30).to_be_bytes()].concat());
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    };
    let tar = [sparse("models/one", 1 << 20), vec![0; 1024]].concat();
    let layer = Blob::in_memory(MediaType::LayerTar, tar.into());
    let empty = Image::empty(&Platform::linux_amd64());
    let config = empty.manifest.config().clone();
    let manifest = Manifest::new(config, vec![layer.descriptor.clone()], Annotations::new());
    let image = Image { manifest, layers: vec![layer], ..empty };
    for said in refused(&image).await {
        assert!(said.ends_with("its sparse files are larger than 68719476736 bytes"), "{said}");
    }
}
