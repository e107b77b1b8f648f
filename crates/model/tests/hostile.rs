//! Images that claim more than there can be.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::sync::Arc;

use ocib_image::{Annotations, Blob, Event, Events, Image, Manifest, MediaType, Platform};
use ocib_model::{PullOptions, open_image, pull};

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
