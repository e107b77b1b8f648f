//! A job's context on its way to where its pods find it, and away from there again.

use std::sync::Arc;

use ocib_image::{PlaceError, Progress, RunError, RunJob};

use crate::{
    claim::Claim,
    cleanup::Removals,
    context::{ContextAt, ContextError, ContextStore, ContextWay, PackedContext},
};

/// What was, or is being, brought somewhere. Dropped, it has that removed by a task of its own.
#[derive(Debug)]
pub(crate) struct Delivery {
    way: ContextWay,
    /// What the context is called there.
    name: String,
    /// What has to be removed.
    left: Option<Place>,
    removals: Removals,
}

/// A place that keeps contexts.
#[derive(Clone, Debug)]
enum Place {
    Claim(Arc<Claim>),
    Store(Arc<dyn ContextStore>),
}

impl Delivery {
    pub(crate) fn new(way: &ContextWay, name: &str, removals: &Removals) -> Self {
        Self { way: way.clone(), name: name.to_owned(), left: None, removals: removals.clone() }
    }

    /// Brings the context to where the pods shall find it, unless it goes to the pod itself.
    pub(crate) async fn bring(&mut self, job: &RunJob, progress: &Progress) -> Result<ContextAt, RunError> {
        let Some(context) = &job.context else { return Ok(ContextAt::Nowhere) };
        let place = match &self.way {
            ContextWay::Registry | ContextWay::Attach => return Ok(ContextAt::Input),
            ContextWay::Claim(claim) => Place::Claim(Arc::clone(claim)),
            ContextWay::Store(store) => Place::Store(Arc::clone(store)),
        };
        let place = self.left.insert(place);
        let mut packed = PackedContext::new(context, progress);
        let put = match place {
            Place::Claim(claim) => claim.put(&self.name, &mut packed).await,
            Place::Store(store) => store.put(&self.name, &mut packed).await.map(ContextAt::Url),
        };
        let at = put.map_err(ContextError::error)?;
        let bytes = packed.bytes();
        progress.log(&match &at {
            ContextAt::Url(at) => format!("{bytes} bytes of context are at {}", at.url),
            _ => format!("{bytes} bytes of context are in {} on the volume", self.name),
        });
        Ok(at)
    }

    /// Removes what was brought.
    pub(crate) async fn remove(mut self) -> Result<(), PlaceError> {
        let result = match &self.left {
            Some(place) => place.remove(&self.name).await,
            None => Ok(()),
        };
        self.left = None;
        result
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(place) = self.left.take() {
            let name = std::mem::take(&mut self.name);
            self.removals.begin(async move { place.remove(&name).await });
        }
    }
}

impl Place {
    async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        match self {
            Self::Claim(claim) => claim.remove(name).await,
            Self::Store(store) => store.remove(name).await,
        }
    }
}
