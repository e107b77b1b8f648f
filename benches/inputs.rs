//! What is pushed: a model, and a tree of many small files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ocib_testkit::{Noise, noise_file, safetensors_file};

use crate::{
    site::Site,
    text::{Text, fraction, next},
};

/// How large the inputs are and how often each is pushed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Runs, of which the median counts.
    pub(crate) runs: usize,
    /// Bytes of each of the model's four shards.
    pub(crate) shard_bytes: u64,
    /// Small files.
    pub(crate) files: usize,
    /// Shards of the model that fills all jobs, and their size.
    pub(crate) small_shards: (usize, u64),
    /// Files of the layers that show what an entry costs.
    pub(crate) entries: [usize; 2],
    /// Files of a context of which next to nothing is copied.
    pub(crate) context_files: usize,
}

impl Scale {
    /// The sizes that `docs/performance.md` speaks of.
    pub(crate) const FULL: Self = Self {
        runs: 3,
        shard_bytes: 512 << 20,
        files: 30_000,
        small_shards: (16, 32 << 20),
        entries: [50_000, 200_000],
        context_files: 200_000,
    };
    /// Sizes that show nothing but that it works.
    pub(crate) const QUICK: Self = Self {
        runs: 1,
        shard_bytes: 8 << 20,
        files: 2_000,
        small_shards: (16, 1 << 20),
        entries: [2_000, 8_000],
        context_files: 2_000,
    };
}

/// A build context that was written.
#[derive(Debug)]
pub(crate) struct Input {
    /// What it is, for a reader.
    pub(crate) title: String,
    /// The build context, with its Dockerfile.
    pub(crate) context: PathBuf,
    /// Regular files that an image of it holds.
    pub(crate) files: usize,
}

impl Drop for Input {
    fn drop(&mut self) {
        // The directory above it is removed at the end in any case; this frees the memory earlier.
        let _ = fs::remove_dir_all(&self.context);
    }
}

const DOCUMENTS: [(&str, u64); 3] =
    [("config.json", 700), ("generation_config.json", 200), ("tokenizer.json", 2 << 20)];

/// Random weights in four files, and JSON: a layer for each shard and one for the rest.
pub(crate) fn model(site: &Site, scale: &Scale) -> Input {
    shards(site, 4, scale.shard_bytes)
}

/// As many shards as there can be layers in flight.
pub(crate) fn small_shards(site: &Site, scale: &Scale) -> Input {
    shards(site, scale.small_shards.0, scale.small_shards.1)
}

fn shards(site: &Site, count: usize, bytes: u64) -> Input {
    let context = site.input(&format!("model-{count}"));
    let mut dockerfile = "FROM scratch\nCOPY model/*.json /models/\n".to_owned();
    for (name, bytes) in DOCUMENTS {
        let path = context.join("model").join(name);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory in /dev/shm");
        fs::write(path, Text::new(bytes).take(bytes as usize)).expect("room in /dev/shm");
    }
    for shard in 1..=count {
        let name = format!("model-{shard:05}-of-{count:05}.safetensors");
        safetensors_file(&context.join("model").join(&name), shard as u64, bytes);
        dockerfile += &format!("COPY model/{name} /models/\n");
    }
    fs::write(context.join("Dockerfile"), dockerfile).expect("room in /dev/shm");
    let title = format!("{:.2} GB of random weights in {count} files", count as f64 * bytes as f64 / 1e9);
    Input { title, context, files: count + DOCUMENTS.len() }
}

/// Files a directory.
const SIBLINGS: usize = 30;
const DOCKERFILE: &str = "FROM scratch\nCOPY tree /tree/\n";

/// Text in small files, three directories deep, in one layer.
pub(crate) fn small_files(site: &Site, scale: &Scale) -> Input {
    let mut text = Text::new(11);
    let mut noise = Noise::new(12, u64::MAX);
    let mut total = 0;
    let mut input = tree(site, scale.files, |path| {
        // Most are short and a few long: 4,366 bytes on average.
        let bytes = 256 + (12_330.0 * fraction(next(&mut noise)).powi(2)) as usize;
        total += bytes;
        fs::write(path, text.take(bytes))
    });
    input.title = format!("{} small files, {:.0} MB of text", scale.files, total as f64 / 1e6);
    input
}

/// So many files of one byte.
pub(crate) fn tiny_files(site: &Site, count: usize) -> Input {
    tree(site, count, |path| fs::write(path, b"x"))
}

/// So many files, of which three are copied: by name, as a directory and by a wildcard. The ignore file
/// has patterns that a builder could not use to leave the tree out.
pub(crate) fn small_copy(site: &Site, scale: &Scale) -> Input {
    let mut input = tiny_files(site, scale.context_files);
    for name in ["one/file", "two/file", "three/file.txt"] {
        let path = input.context.join(name);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory in /dev/shm");
        fs::write(path, name).expect("room in /dev/shm");
    }
    let dockerfile = "FROM scratch\nCOPY one/file /one/file\nCOPY two /two/\nCOPY three/*.txt /three/\n";
    fs::write(input.context.join("Dockerfile"), dockerfile).expect("room in /dev/shm");
    fs::write(input.context.join(".dockerignore"), "**/*.log\n!**/keep.log\n").expect("room in /dev/shm");
    input.title = format!("A small COPY out of {} files", scale.context_files);
    input.files = 3;
    input
}

/// A single file of noise.
pub(crate) fn one_file(site: &Site) -> Input {
    let context = site.input("one");
    noise_file(&context.join("tree/file"), 1, 1 << 20);
    fs::write(context.join("Dockerfile"), DOCKERFILE).expect("room in /dev/shm");
    Input { title: "one file".to_owned(), context, files: 1 }
}

fn tree(site: &Site, count: usize, mut write: impl FnMut(&Path) -> std::io::Result<()>) -> Input {
    let context = site.input(&format!("tree-{count}"));
    for directory in 0..count.div_ceil(SIBLINGS) {
        let path =
            context.join(format!("tree/package-{:03}/module-{directory:05}/src", directory / SIBLINGS));
        fs::create_dir_all(&path).expect("a directory in /dev/shm");
        for file in directory * SIBLINGS..count.min((directory + 1) * SIBLINGS) {
            write(&path.join(format!("source-{file:06}.txt"))).expect("room in /dev/shm");
        }
    }
    fs::write(context.join("Dockerfile"), DOCKERFILE).expect("room in /dev/shm");
    Input { title: format!("{count} files"), context, files: count }
}
