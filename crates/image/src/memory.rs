//! Files in which a build remembers what it can do without.
//!
//! They are this user's alone and not trusted further than their checksum: one that is broken, foreign
//! or of another version counts as missing. Without a directory, or if it cannot be written, nothing
//! is remembered.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::Digest;

/// Of more files the older half is forgotten.
const FILES_MAX: usize = 4096;

/// A directory of such files.
///
/// ```
/// use ocib_image::{Digest, Memory};
///
/// let directory = tempfile::tempdir()?;
/// let (memory, key) = (Memory::new(directory.path()), Digest::of(b"a question"));
/// memory.store(key, "answer-1", b"42".to_vec());
/// assert_eq!(memory.load(key, "answer-1").as_deref(), Some(&b"42"[..]));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Memory {
    directory: PathBuf,
    may_write: bool,
}

impl Memory {
    /// The files in `directory`, which is made, for this user alone, when the first one is written.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), may_write: true }
    }

    /// The same for whoever just looks and leaves nothing behind.
    #[must_use]
    pub fn only_reading(self) -> Self {
        Self { may_write: false, ..self }
    }

    fn path(&self, key: Digest, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", key.hex()))
    }

    /// What was remembered of that kind under `key`.
    pub fn load(&self, key: Digest, kind: &str) -> Option<Vec<u8>> {
        let mut file = fs::File::open(self.path(key, kind)).ok()?;
        // What others may have written is not believed.
        let is_own = file.metadata().ok()?.uid() == fs::metadata("/proc/self").ok()?.uid();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let body = checked(&bytes).filter(|_| is_own)?.len();
        bytes.truncate(body);
        Some(bytes)
    }

    /// Remembers `bytes`. Only a convenience: a read-only home is no reason to fail.
    pub fn store(&self, key: Digest, kind: &str, bytes: Vec<u8>) {
        if self.may_write {
            let _ = self.try_store(key, kind, bytes);
        }
    }

    fn try_store(&self, key: Digest, kind: &str, mut bytes: Vec<u8>) -> io::Result<()> {
        bytes.extend_from_slice(Digest::of(&bytes).to_string().as_bytes());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        self.forget_old()?;
        let temporary = self.directory.join(format!(".{}.{kind}.{}", key.hex(), std::process::id()));
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&bytes)?;
            fs::rename(&temporary, self.path(key, kind))
        };
        let result = write();
        if result.is_err() {
            // Another build may have put the same file there; either way nothing is left behind.
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn forget_old(&self) -> io::Result<()> {
        let files: Vec<_> = fs::read_dir(&self.directory)?.collect::<Result<_, _>>()?;
        if files.len() < FILES_MAX {
            return Ok(());
        }
        let age = |file: &fs::DirEntry| file.metadata()?.modified();
        let mut files: Vec<_> =
            files.into_iter().map(|file| (age(&file).unwrap_or(SystemTime::UNIX_EPOCH), file)).collect();
        files.sort_by_key(|(age, _)| *age);
        files.iter().take(FILES_MAX / 2).try_for_each(|(_, file)| fs::remove_file(file.path()))
    }
}

/// What stands before the checksum, if that is right.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let digest_bytes = Digest::of(b"").to_string().len();
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(digest_bytes)?)?;
    (Digest::of(body).to_string().as_bytes() == digest).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_what_is_broken_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new(&directory.path().join("sub/dir"));
        let key = Digest::of(b"x");
        assert_eq!(memory.load(key, "a"), None);
        memory.store(key, "a", b"something".to_vec());
        assert_eq!(memory.load(key, "a").as_deref(), Some(&b"something"[..]));
        assert_eq!(memory.load(key, "b"), None);
        assert_eq!(fs::read_dir(&memory.directory).unwrap().count(), 1);
        let mode = fs::metadata(&memory.directory).unwrap().mode();
        assert_eq!(format!("{:o}", mode & 0o777), "700");
        let path = memory.path(key, "a");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            for bad in [&bad[..], &good[..at]] {
                fs::write(&path, bad).unwrap();
                assert_eq!(memory.load(key, "a"), None, "byte {at}");
            }
        }
    }

    #[test]
    fn who_only_reads_stores_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("sub");
        let (key, memory) = (Digest::of(b"x"), Memory::new(&place));
        let reading = memory.clone().only_reading();
        reading.store(key, "a", b"something".to_vec());
        assert!(!place.exists());
        memory.store(key, "a", b"something".to_vec());
        reading.store(key, "a", b"other".to_vec());
        assert_eq!(reading.load(key, "a").as_deref(), Some(&b"something"[..]));
    }

    #[test]
    fn old_files_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new(directory.path());
        for number in 0..FILES_MAX {
            fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        memory.store(Digest::of(b"x"), "a", Vec::new());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), FILES_MAX / 2 + 1);
        assert!(memory.load(Digest::of(b"x"), "a").is_some());
    }
}
