//! Blocking work on a thread of its own that ends when nobody waits for it any more.

use std::{
    panic::resume_unwind,
    sync::{Arc, Weak},
};

use tokio::task::spawn_blocking;

use crate::Error;

/// Whether somebody still waits for blocking work; it has to ask now and then.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Weak<()>);

impl Watch {
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Does `work` where it may block. Once the future is dropped its [`Watch`] is over. `broken_off` is
/// what a runtime that shuts down makes of it, which nobody sees.
pub(crate) async fn watched<T: Send + 'static>(
    work: impl FnOnce(&Watch) -> Result<T, Error> + Send + 'static,
    broken_off: impl FnOnce() -> Error,
) -> Result<T, Error> {
    let wanted = Arc::new(());
    let watch = Watch(Arc::downgrade(&wanted));
    match spawn_blocking(move || work(&watch)).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(broken_off()),
        },
    }
}
