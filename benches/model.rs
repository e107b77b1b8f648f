//! What packaging and fetching a large model costs, beside what other tools need for the same.
//!
//! `cargo bench --bench model` prints the tables about models of `docs/performance.md`. It needs Debian's
//! docker-registry, skopeo, umoci, curl and time, 18 GB in `/dev/shm`, 3 GB of disk below the build directory and
//! some twenty minutes. Sections can be named (`-- layouts`, `codecs`, `hub`), and `--quick` only shows that all of it
//! works. `hf` (PyPI's huggingface_hub, which `tests/run.sh` installs), `containerd` with `ctr`, `podman`, `crane` and
//! `oras` take part if they are there, those that mount layers only where that is allowed.
//!
//! Models and the registry's storage lie in memory, so that no disk is measured; what a tool writes besides goes
//! to a disk and is counted.
#![allow(clippy::print_stdout, reason = "the tables are the result")]

mod codecs;
mod hub;
mod layouts;
#[allow(dead_code, reason = "nobody asks here what was sent")]
mod link;
#[allow(dead_code, reason = "the others also count system calls")]
mod measure;
mod pullers;
mod report;
mod site;
#[allow(dead_code, reason = "weights need its numbers, not its words")]
mod text;
mod weights;

use std::{fs, path::PathBuf};

use report::Options;
use site::Site;

/// How large the models are and how often each is moved.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Bytes of the model whose layouts are compared.
    layouts_bytes: u64,
    /// Bytes of the model whose codecs are compared.
    codecs_bytes: u64,
    /// Bytes of the model on the Hub.
    hub_bytes: u64,
    /// Runs of the shorter ones, of which the median counts.
    runs: usize,
}

impl Scale {
    /// The sizes that `docs/performance.md` speaks of.
    const FULL: Self =
        Self { layouts_bytes: 4 << 30, codecs_bytes: 512 << 20, hub_bytes: 512 << 20, runs: 3 };
    /// Sizes that show nothing but that it works.
    const QUICK: Self =
        Self { layouts_bytes: 64 << 20, codecs_bytes: 16 << 20, hub_bytes: 32 << 20, runs: 1 };
}

fn main() {
    let Some(options) = Options::from_arguments() else { return };
    let scale = if options.quick { Scale::QUICK } else { Scale::FULL };
    let site = Site::new();
    println!("{}\n", report::machine());
    if options.wants("layouts") {
        println!("## One layer, or one for each shard\n\n{}", layouts::run(&site, &scale));
    }
    if options.wants("codecs") {
        println!("## Compressed weights\n\n{}", codecs::run(&site, &scale));
    }
    if options.wants("hub") {
        println!("## From the Hub\n\n{}", hub::run(&site, &scale));
    }
}

/// A model that was written, removed when dropped.
struct Model {
    directory: PathBuf,
    bytes: u64,
}

impl Model {
    /// BF16 weights in so many shards, and a config.
    fn new(site: &Site, shards: u64, bytes: u64) -> Self {
        let directory = site.input("model");
        fs::create_dir_all(&directory).expect("a directory in /dev/shm");
        let mut block = weights::weights(1, weights::BLOCK_BYTES);
        for number in 1..=shards {
            // Other bytes for each shard.
            block.rotate_left(4096);
            let name = format!("model-{number:05}-of-{shards:05}.safetensors");
            weights::safetensors(&directory.join(name), &block, bytes / shards).expect("room in /dev/shm");
        }
        fs::write(directory.join("config.json"), "{}\n").expect("room in /dev/shm");
        Self { directory, bytes }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // The directory above it is removed at the end in any case; this frees the memory earlier.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
