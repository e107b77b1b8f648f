//! Whether a file of this machine was changed while it was read.

use std::{fs::File, io};

use ocib_image::LayerError;

/// What must not change while a file is read. The time of change (ctime) may: a hard link that
/// is added elsewhere changes it and does no harm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct State {
    size: i64,
    modified: (i64, u64),
}

impl State {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Self { size: stat.st_size, modified: (stat.st_mtime, stat.st_mtime_nsec) })
    }

    /// Fails with [`LayerError::Changed`] if `file` is in another state now.
    pub(crate) fn check(&self, file: &File, name: impl FnOnce() -> String) -> io::Result<()> {
        let now = Self::of(file)?;
        if now == *self {
            return Ok(());
        }
        let what = match now.size == self.size {
            true => "it was written to".to_owned(),
            false => format!("it had {} bytes, now it has {}", self.size, now.size),
        };
        Err(io::Error::other(LayerError::Changed { name: name(), what }))
    }
}
