//! Contexts on a volume that this program and the pods mount.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use ocib_image::{PlaceError, PlaceErrorKind};
use tokio::sync::Mutex;

use crate::context::{ContextAt, ContextError, PackedContext};

/// The one file in a context's directory.
pub(crate) const ARCHIVE: &str = "context.tar.gz";

/// A directory on the volume of a claim, as pods and as this program see it.
#[derive(Debug)]
pub struct Claim {
    claim: String,
    path: String,
    directory: PathBuf,
    /// Held by whatever is done to the files, so that nothing is done any more once they are being removed.
    busy: Arc<Mutex<()>>,
}

impl Claim {
    /// The claim's name, a directory on its volume (empty for the volume's own root), and where this program
    /// sees that directory.
    pub fn new(claim: impl Into<String>, path: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        let (claim, path, directory) = (claim.into(), path.into(), directory.into());
        Self { claim, path, directory, busy: Arc::default() }
    }

    /// The claim's name.
    pub fn name(&self) -> &str {
        &self.claim
    }

    /// Where contexts are written to.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes `context` below a directory called `name`.
    pub(crate) async fn put(
        &self,
        name: &str,
        context: &mut PackedContext,
    ) -> Result<ContextAt, ContextError> {
        let directory = self.directory.join(name);
        let path = directory.join(ARCHIVE);
        let made = self.blocking(move || fs::create_dir(&directory).and_then(|()| File::create(path))).await;
        let mut file = made.map_err(|error| self.error(&error))?;
        while let Some(piece) = context.next().await? {
            let written = self.blocking(move || file.write_all(&piece).map(|()| file)).await;
            file = written.map_err(|error| self.error(&error))?;
        }
        let done = self.blocking(move || file.sync_all()).await;
        done.map_err(|error| self.error(&error))?;
        let above = self.path.trim_matches('/');
        let directory = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
        Ok(ContextAt::Volume { claim: self.claim.clone(), directory })
    }

    /// Removes what was written under `name`.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        let directory = self.directory.join(name);
        match self.blocking(move || fs::remove_dir_all(directory)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(&error)),
            _ => Ok(()),
        }
    }

    /// Whether contexts can be written here, found out by a directory that is removed again.
    pub(crate) async fn check(&self) -> Result<(), PlaceError> {
        let directory = self.directory.join(format!("ocib-preflight-{}", std::process::id()));
        let made =
            self.blocking(move || fs::create_dir(&directory).and_then(|()| fs::remove_dir(&directory)));
        made.await.map_err(|error| self.error(&error))
    }

    /// Does what may block; whether or not somebody still waits for it, nothing else is done meanwhile.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let busy = Arc::clone(&self.busy).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _busy = busy;
            work()
        });
        done.await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    fn error(&self, error: &io::Error) -> PlaceError {
        let kind = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => PlaceErrorKind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => PlaceErrorKind::Denied,
            _ => PlaceErrorKind::Local,
        };
        PlaceError::new(
            kind,
            format!("{}, where the claim {} should be: {error}", self.directory.display(), self.claim),
        )
    }
}
