//! Layers through ECR's own upload API: what one process has sent the next one need not send again.
//!
//! Most layers are made from their start whenever an upload goes on, and what ECR has of them is passed over:
//! reading and digesting run at the speed of memory, and the digest that is given at the end is of
//! what was read in this very run. If a file changed in between, ECR has parts of the old layer, says
//! at the end that the digest is wrong, and the upload begins anew.
//!
//! A plain layer of files that servers keep would have to be downloaded for that. Its tar is entered where a
//! [`Checkpoint`] says, if the journal has one of the same content. ECR compares the digest with the bytes that it has, so
//! a checkpoint that is wrong ends there, and the upload begins anew, too.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use ocib_image::{
    ByteStream, Checkpoint, Codec, Compression, Digest, ExpectedLayer, Layer, LayerError, PlaceErrorKind,
    Progress, Resumable, Sealer, Unsealed,
};
use ocib_net::aws::Aws;
use tokio::sync::OnceCell;

use super::{
    EcrHost, EcrRegistry, LayerUpload, Part,
    journal::{self, Entry, Journal},
    refused,
};
use crate::{Error, blocking::blocking, bridge, registry::limited};

/// ECR, "Service quotas": smallest part but the last.
const PART_BYTES_MIN: u64 = 5 << 20;
/// What ECR says of an upload that it no longer has, or whose parts are not what was promised.
const LOST: [&str; 4] =
    ["UploadNotFoundException", "InvalidLayerException", "EmptyUploadException", "InvalidLayerPartException"];

/// How often an upload that ECR has lost begins anew.
const RESTARTS_MAX: u32 = 1;
/// How often ECR may ask for a part that it was sent.
const REWINDS_MAX: u32 = 8;

/// Sends layers part by part.
#[derive(Clone, Debug)]
pub struct LayerApi {
    aws: Aws,
    host: EcrHost,
    journal: Option<PathBuf>,
    registry: Arc<OnceCell<EcrRegistry>>,
}

impl LayerApi {
    /// ECR, "Service quotas": most parts of a layer.
    pub const PARTS_MAX: u64 = 4_200;
    /// ECR, "Service quotas": largest part, in bytes.
    pub const PART_BYTES_MAX: u64 = 10 << 20;
    /// The largest layer that fits into ECR's number of parts, in bytes.
    pub const LAYER_BYTES_MAX: u64 = Self::PARTS_MAX * Self::PART_BYTES_MAX;

    /// What a layer of `bytes` takes in memory while it is sent: a part is there as it is, in base64, in the
    /// request and in what is signed and sent of it. Layers above 20 GiB have larger parts than 5 MiB.
    pub(crate) fn memory_bytes(bytes: u64) -> u64 {
        part_bytes(bytes).min(Self::PART_BYTES_MAX) * 32 / 5
    }

    /// Sends to the registry `host` as whoever `aws` is. `journal` is a directory of this user's where it
    /// is noted how far uploads are, one small file for each; it is made when it is needed. Without it
    /// an upload that was cut off begins anew in the next process.
    pub fn new(aws: Aws, host: EcrHost, journal: Option<PathBuf>) -> Self {
        Self { aws, host, journal, registry: Arc::default() }
    }

    async fn registry(&self) -> &EcrRegistry {
        self.registry.get_or_init(|| EcrRegistry::open(&self.aws, &self.host)).await
    }

    /// Makes `layer` and sends what ECR does not have of it. `None`: it turned out to be larger than ECR's parts hold.
    pub(crate) async fn send(
        &self,
        repository: &str,
        layer: &Unsealed,
        sealer: &Sealer,
        progress: &Progress,
    ) -> Result<Option<Layer>, Error> {
        let registry = self.registry().await;
        let journal = self.journal(repository, layer).await?;
        let journal = journal.as_ref();
        let forget = || journal.map(Journal::forget);
        let noted = journal.and_then(Journal::read);
        let mut left_off = noted.as_ref().and_then(Entry::checkpoint);
        let mut upload = match noted {
            Some(Entry { upload, part_bytes, received, .. }) => {
                registry.resume_upload(repository, &upload, part_bytes, received)
            }
            None => registry.start_upload(repository).await?,
        };
        let (mut restarts, mut rewinds) = (0, 0);
        loop {
            let start = left_off.clone().filter(|checkpoint| checkpoint.bytes() <= upload.received());
            let is_in_middle = start.is_some();
            let notes = Notes(Arc::new(Mutex::new(start.into_iter().collect())));
            let sending = Sending { layer, sealer, progress, journal, notes };
            let error = match sending.all(&mut upload).await {
                Ok(Pass::Made(made)) => {
                    match completed(registry, repository, upload.clone(), made.descriptor.digest).await {
                        Ok(()) => {
                            forget();
                            return Ok(Some(*made));
                        }
                        Err(error) => error,
                    }
                }
                Ok(Pass::TooLarge) => {
                    forget();
                    return Ok(None);
                }
                // What is sent from there on is made again.
                Ok(Pass::Behind) if rewinds < REWINDS_MAX => {
                    rewinds += 1;
                    continue;
                }
                Ok(Pass::Behind) => {
                    let why = "it asks again and again for parts that it was sent";
                    return Err(refused("ecr:UploadLayerPart", "", why));
                }
                Err(error) if is_in_middle && is_lost(&error) => {
                    if let Some(layer) = sending.found(registry, repository).await? {
                        forget();
                        return Ok(Some(layer));
                    }
                    error
                }
                Err(error) => error,
            };
            let is_over = is_lost(&error) || is_in_middle && is_unfit(&error);
            if !is_over || restarts == RESTARTS_MAX {
                return Err(error);
            }
            restarts += 1;
            left_off = None;
            forget();
            progress.restarted(&error.to_string());
            upload = registry.start_upload(repository).await?;
        }
    }

    /// Whether an earlier process has sent the beginning of just this layer, which need not be read again.
    pub(crate) async fn has_begun(&self, repository: &str, layer: &Unsealed) -> Result<bool, Error> {
        let noted = self.journal(repository, layer).await?.as_ref().and_then(Journal::read);
        Ok(noted.is_some_and(|entry| entry.checkpoint().is_some()))
    }

    async fn journal(&self, repository: &str, layer: &Unsealed) -> Result<Option<Journal>, Error> {
        let Some(directory) = &self.journal else { return Ok(None) };
        let asked = layer.clone();
        let identity = blocking(move |_| {
            let identity = asked.resumable().map(Resumable::identity).transpose();
            // What is wrong with a source is said when it is read.
            Ok(identity.ok().flatten())
        });
        let identity = identity.await?;
        let EcrHost { account, region, .. } = &self.host;
        Ok(layer.foreknown.recipe.or(identity).map(|name| {
            let key = Digest::of(format!("{account} {region} {repository} {name}").as_bytes());
            Journal::new(journal::path(directory, key), identity)
        }))
    }
}

/// Ends the upload of the layer `digest`.
async fn completed(
    registry: &EcrRegistry,
    repository: &str,
    upload: LayerUpload,
    digest: Digest,
) -> Result<(), Error> {
    match upload.complete(digest).await {
        // The answer to a completion can get lost, and somebody else may have gone on with the same
        // upload: then it is gone, and the layer is there.
        Err(error) if is_lost(&error) => {
            let missing = registry.missing(repository, &[digest]).await?;
            if missing.is_empty() { Ok(()) } else { Err(error) }
        }
        completed => completed,
    }
}

fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Aws { code, .. } if LOST.contains(&&**code))
}

/// Whether the layer was not made because what was noted of it does not fit, or something in its source is not as it
/// was: then nothing of it is as it should be.
fn is_unfit(error: &Error) -> bool {
    match error {
        Error::Layer(LayerError::Changed { .. }) => true,
        Error::Layer(LayerError::Place(inner)) => {
            matches!(inner.kind, PlaceErrorKind::Corrupt | PlaceErrorKind::Input)
        }
        _ => false,
    }
}

/// How a pass over a layer ended.
enum Pass {
    /// ECR has all of it.
    Made(Box<Layer>),
    /// ECR lacks something that the pass has left behind.
    Behind,
    /// It is larger than ECR's parts hold.
    TooLarge,
}

/// Checkpoints of a layer that is being made. The first one is where it was entered, if not at its start.
#[derive(Clone)]
struct Notes(Arc<Mutex<VecDeque<Checkpoint>>>);

impl Notes {
    fn start(&self) -> Checkpoint {
        self.with(|notes| notes.front().cloned().unwrap_or_default())
    }

    fn add(&self, checkpoint: Checkpoint) {
        self.with(|notes| notes.push_back(checkpoint));
    }

    /// The last one that is not past byte `received`, for whom those before it are not needed any more.
    fn last_until(&self, received: u64) -> Option<Checkpoint> {
        self.with(|notes| {
            while notes.get(1).is_some_and(|next| next.bytes() <= received) {
                notes.pop_front();
            }
            notes.front().filter(|first| first.bytes() <= received).cloned()
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut VecDeque<Checkpoint>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One pass over a layer.
struct Sending<'a> {
    layer: &'a Unsealed,
    sealer: &'a Sealer,
    progress: &'a Progress,
    journal: Option<&'a Journal>,
    notes: Notes,
}

impl Sending<'_> {
    /// Sends all that `upload` lacks.
    async fn all(&self, upload: &mut LayerUpload) -> Result<Pass, Error> {
        let (start, notes) = (self.notes.start(), self.notes.clone());
        let at = start.bytes();
        let note = move |checkpoint| notes.add(checkpoint);
        let (layer, sealer, progress) = (self.layer.clone(), self.sealer.clone(), self.progress.clone());
        let (body, made) = bridge::seal_from(layer, sealer, progress, start, note);
        let (body, is_too_large) = limited(body, LayerApi::LAYER_BYTES_MAX);
        let sent = self.parts(body, at, upload).await;
        let made = made.await;
        if is_too_large.load(Ordering::Relaxed) {
            return Ok(Pass::TooLarge);
        }
        match (made, sent) {
            (_, Ok(false)) => Ok(Pass::Behind),
            (Ok(layer), Ok(true)) => Ok(Pass::Made(Box::new(layer))),
            (Err(LayerError::Output(_)) | Ok(_), Err(error)) => Err(error),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// The layer, if the repository has it though its upload is gone: an earlier process may have been killed when
    /// all was done but to forget it. The rest is read for its digest.
    async fn found(&self, registry: &EcrRegistry, repository: &str) -> Result<Option<Layer>, Error> {
        let (layer, sealer) = (self.layer.clone(), self.sealer.clone());
        let (mut body, made) =
            bridge::seal_from(layer, sealer, Progress::unwatched(), self.notes.start(), drop);
        while let Some(Ok(_)) = body.next().await {}
        drop(body);
        let Ok(layer) = made.await else { return Ok(None) };
        let missing = registry.missing(repository, &[layer.descriptor.digest]).await?;
        Ok(missing.is_empty().then_some(layer))
    }

    /// Sends what `upload` lacks of `body`, which begins at byte `at` of the layer; `part` begins there, too. False if
    /// ECR wants something that was passed.
    async fn parts(
        &self,
        mut body: ByteStream,
        mut at: u64,
        upload: &mut LayerUpload,
    ) -> Result<bool, Error> {
        let part_bytes = self.part_bytes(upload);
        let mut part = BytesMut::new();
        while let Some(piece) = body.next().await {
            let mut piece: Bytes = piece?;
            while !piece.is_empty() {
                let passed = upload.received().saturating_sub(at).min(piece.len() as u64);
                if part.is_empty() && passed > 0 {
                    at += passed;
                    self.notes.last_until(at);
                    drop(piece.split_to(usize::try_from(passed).unwrap_or(usize::MAX)));
                    continue;
                }
                let room = usize::try_from(part_bytes).unwrap_or(usize::MAX) - part.len();
                part.extend_from_slice(&piece.split_to(room.min(piece.len())));
                if part.len() as u64 == part_bytes {
                    let full = part.split().freeze();
                    let end = at + full.len() as u64;
                    if !self.part(full, upload).await? {
                        return Ok(false);
                    }
                    at = end;
                }
            }
        }
        match part.is_empty() {
            true => Ok(true),
            false => self.part(part.freeze(), upload).await,
        }
    }

    /// Sends a part; false if ECR wants one from before it.
    async fn part(&self, part: Bytes, upload: &mut LayerUpload) -> Result<bool, Error> {
        let end = upload.received() + part.len() as u64;
        let is_taken = upload.send(part).await? == Part::Taken || upload.received() >= end;
        let checkpoint = self.notes.last_until(upload.received());
        self.journal.inspect(|journal| journal.write(upload, checkpoint.as_ref()));
        Ok(is_taken)
    }

    /// As small as the number of parts allows: a part is in memory four times while it is sent.
    fn part_bytes(&self, upload: &LayerUpload) -> u64 {
        let most = upload.part_bytes().max(1);
        let bytes = match self.layer.compression {
            Compression::Fixed(Codec::Plain) => self.layer.source.bytes(),
            _ => self.layer.source.bytes().map(ExpectedLayer::compressed_bytes_max),
        };
        bytes.map_or(most, part_bytes).min(most)
    }
}

/// The smallest parts that a layer of `bytes` fits into.
fn part_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(LayerApi::PARTS_MAX).max(PART_BYTES_MIN)
}
