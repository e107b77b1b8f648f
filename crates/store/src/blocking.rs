//! File work on threads that may block, ended soon after its future is dropped.

use std::{
    io,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ocib_image::{PlaceError, PlaceErrorKind};

/// Tells blocking work whether anybody still waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    /// Fails if the work's future was dropped.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Ok(()),
            // Not `ErrorKind::Interrupted`, upon which `write_all` tries again for ever.
            false => Err(io::Error::other("nobody waits for it any more")),
        }
    }
}

/// Runs `work` on a thread that may block. When the future is dropped the work goes on until it
/// asks [`Wanted::check`], which it does between two pieces: what it does not finish it removes.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&Wanted) -> Result<T, PlaceError> + Send + 'static,
) -> Result<T, PlaceError> {
    struct Unwanted(Wanted);
    impl Drop for Unwanted {
        fn drop(&mut self) {
            self.0.0.store(false, Ordering::Relaxed);
        }
    }
    let wanted = Wanted(Arc::new(AtomicBool::new(true)));
    let _guard = Unwanted(wanted.clone());
    match tokio::task::spawn_blocking(move || work(&wanted)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Only a runtime that is shutting down cancels blocking work.
            Err(error) => Err(PlaceError::new(PlaceErrorKind::Local, error)),
        },
    }
}
