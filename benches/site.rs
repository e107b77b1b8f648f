//! Where the benchmarks work: memory for what must not be slow, a disk for what is counted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ocib_testkit::{Registry, RegistryOptions};
use tempfile::TempDir;

const MEMORY: &str = "/dev/shm";

/// The places of one program run, removed when dropped.
#[derive(Debug)]
pub(crate) struct Site {
    inputs: TempDir,
}

impl Site {
    /// Also makes every later temporary directory lie in memory: those of registries do.
    pub(crate) fn new() -> Self {
        tempfile::env::override_temp_dir(Path::new(MEMORY)).expect("no temporary directory was made before");
        Self { inputs: TempDir::with_prefix("ocib-bench-").expect("a directory in /dev/shm") }
    }

    /// A directory for an input, in memory.
    pub(crate) fn input(&self, name: &str) -> PathBuf {
        self.inputs.path().join(name)
    }

    /// A registry that nobody has pushed to, with its storage in memory. Not distribution's
    /// `inmemory` driver: that one copies a whole upload for every piece that it gets.
    pub(crate) fn registry(&self) -> Registry {
        Registry::start(RegistryOptions::default())
    }

    /// A fresh directory on the disk that the build directory is on, and one in memory.
    pub(crate) fn work(&self) -> Work {
        let disk = TempDir::with_prefix_in("ocib-bench-", env!("CARGO_TARGET_TMPDIR"));
        let memory = TempDir::with_prefix("ocib-bench-").expect("a directory in /dev/shm");
        Work { disk: disk.expect("a directory below the build directory"), memory }
    }
}

/// The places of one measured run.
#[derive(Debug)]
pub(crate) struct Work {
    disk: TempDir,
    memory: TempDir,
}

impl Work {
    /// What is written here counts as written to disk.
    pub(crate) fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// What is written here does not.
    pub(crate) fn memory(&self) -> &Path {
        self.memory.path()
    }
}

/// Bytes of all files in and below a directory.
pub(crate) fn bytes_below(directory: &Path) -> u64 {
    // A registry that nobody pushed to has made no storage yet.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        metadata => metadata.map_or(0, |metadata| metadata.len()),
    });
    bytes.sum()
}
