//! How far an upload is, for the next process: a small file for each, of this user alone, without tokens, and of content
//! with no more than the last block of a digest.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ocib_image::{Checkpoint, Digest};
use serde::{Deserialize, Serialize};

use super::LayerUpload;

/// The journal of one upload.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// The identity of the layer's source, if its tar can be entered.
    identity: Option<Digest>,
}

/// What it says.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct Entry {
    pub(super) upload: String,
    pub(super) part_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<Made>,
    pub(super) received: u64,
}

impl Entry {
    /// Where the layer's tar can be entered.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        Checkpoint::parse(&self.made.as_ref()?.checkpoint)
    }
}

/// A place of the layer's tar that is not past what ECR has.
#[derive(Serialize, Deserialize, Debug)]
struct Made {
    identity: Digest,
    checkpoint: String,
}

impl Journal {
    pub(super) fn new(path: PathBuf, identity: Option<Digest>) -> Self {
        Self { path, identity }
    }

    /// What an earlier process noted. What others may have written is not believed, and an upload that is known to be
    /// of other content is none to go on with.
    pub(super) fn read(&self) -> Option<Entry> {
        let file = fs::File::open(&self.path).ok()?;
        let is_own = file.metadata().ok()?.uid() == fs::metadata("/proc/self").ok()?.uid();
        let entry: Entry = serde_json::from_reader(file).ok().filter(|_| is_own)?;
        let is_other = entry.made.as_ref().is_some_and(|made| Some(made.identity) != self.identity);
        (entry.part_bytes > 0 && !is_other).then_some(entry)
    }

    /// Only a convenience: where nothing can be written, the next process begins anew.
    pub(super) fn write(&self, upload: &LayerUpload, checkpoint: Option<&Checkpoint>) {
        let made = |checkpoint: &Checkpoint| {
            self.identity.map(|identity| Made { identity, checkpoint: checkpoint.to_text() })
        };
        let entry = Entry {
            upload: upload.id().to_owned(),
            part_bytes: upload.part_bytes(),
            made: checkpoint.and_then(made),
            received: upload.received(),
        };
        let write = || {
            let directory = |path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            self.path.parent().map_or(Ok(()), directory)?;
            let new = self.path.with_extension("upload-new");
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(&entry)?)?;
            fs::rename(&new, &self.path)
        };
        let _: std::io::Result<()> = write();
    }

    pub(super) fn forget(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Where the journal of the upload `key` is in `directory`.
pub(super) fn path(directory: &Path, key: Digest) -> PathBuf {
    directory.join(format!("{}.upload", key.hex()))
}
