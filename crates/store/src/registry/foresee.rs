//! What a push would do with each layer, found out by reading alone.

use ocib_image::{Blob, Digest, Foreknown, PlaceError, Reference, Sealing};

use super::{PushOptions, RegistrySink, Scopes};
use crate::Error;

/// What a push to a repository would do, as far as it can be known before a layer is made: the same
/// questions that [`RegistrySink`] asks, with leave to read alone, and without the mark that it leaves.
///
/// ```no_run
/// # async fn example(options: ocib_store::PushOptions, blob: ocib_image::Blob) -> Result<(), ocib_image::PlaceError> {
/// use ocib_store::{Fate, Foresight};
/// let foresight = Foresight::new(options).await?;
/// let is_there = foresight.blob(&blob).await? == Fate::Present;
/// # let _ = is_there;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Foresight(RegistrySink);

/// What is to become of a layer that is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreseen {
    /// How its digest would be found.
    pub sealing: Sealing,
    /// What would become of its bytes.
    pub fate: Fate,
}

/// What would become of the bytes of a layer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fate {
    /// They are there.
    Present,
    /// The registry would be asked to take them from this repository of its own; if it does not, they are
    /// sent. Only doing it shows which.
    Mounted(Reference),
    /// They are sent.
    Stored,
    /// They are sent unless the repository has them, which shows when their digest is known.
    StoredIfMissing,
}

impl Foresight {
    /// Looks at what the tags name now, and at what `cache_from` names. An error says why the registry
    /// could not be asked; what needs a login that nobody has is one.
    pub async fn new(options: PushOptions) -> Result<Self, PlaceError> {
        let mut sink = RegistrySink::new(options);
        sink.scopes = Scopes::pull;
        sink.present().await?;
        // No tag may have been asked for, and then nothing was yet.
        sink.open().has_blob(Digest::of(b"ocib plan")).await?;
        Ok(Self(sink))
    }

    /// What would become of a layer of which that much is known; `bytes` are those of its tar.
    pub async fn layer(&self, known: &Foreknown, bytes: Option<u64>) -> Result<Foreseen, PlaceError> {
        let repository = self.0.open();
        if let Some(layer) = &known.layer {
            let fate = self.fate(layer.descriptor.digest, known.repositories.iter()).await?;
            if fate != Fate::Stored {
                return Ok(Foreseen { sealing: Sealing::Foreknown, fate });
            }
        }
        Ok(match self.0.reason_to_hash(&repository, known, bytes).await? {
            None => Foreseen { sealing: Sealing::Streamed, fate: Fate::Stored },
            // A digest that was expected was asked for above.
            Some(reason) => Foreseen {
                sealing: Sealing::HashedFirst(reason),
                fate: if known.layer.is_some() { Fate::Stored } else { Fate::StoredIfMissing },
            },
        })
    }

    /// What would become of content of known digest, such as a layer of a base.
    pub async fn blob(&self, blob: &Blob) -> Result<Fate, PlaceError> {
        Ok(self.fate(blob.descriptor.digest, blob.source.repository().into_iter()).await?)
    }

    async fn fate<'a>(
        &self,
        digest: Digest,
        others: impl Iterator<Item = &'a Reference>,
    ) -> Result<Fate, Error> {
        if self.0.has(&self.0.open(), digest).await? {
            return Ok(Fate::Present);
        }
        let known = self.0.present().await?.elsewhere(digest);
        let mut all = others.cloned().chain(known);
        Ok(all.find(|from| self.0.is_mountable(from)).map_or(Fate::Stored, Fate::Mounted))
    }
}
