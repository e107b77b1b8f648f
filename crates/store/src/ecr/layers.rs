//! Layers through ECR's own upload API: what one process has sent the next one need not send again.
//!
//! A layer is made from its start whenever an upload goes on, and what ECR has of it is passed over:
//! reading and digesting run at the speed of memory, and the digest that is given at the end is of
//! what was read in this very run. If a file changed in between, ECR has parts of the old layer, says
//! at the end that the digest is wrong, and the upload begins anew.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use ocib_image::{
    ByteStream, Codec, Compression, Digest, ExpectedLayer, Layer, LayerError, Progress, Sealer, Unsealed,
};
use ocib_net::aws::Aws;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::{EcrHost, EcrRegistry, LayerUpload, Part, refused};
use crate::{Error, bridge, registry::limited};

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

/// How far an upload is, for the next process. Neither tokens nor content.
#[derive(Serialize, Deserialize, Debug)]
struct Entry {
    upload: String,
    part_bytes: u64,
    received: u64,
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
        let journal = self.journal_file(repository, layer);
        let mut upload = match journal.as_deref().and_then(read) {
            Some(Entry { upload, part_bytes, received }) => {
                registry.resume_upload(repository, &upload, part_bytes, received)
            }
            None => registry.start_upload(repository).await?,
        };
        let (mut restarts, mut rewinds) = (0, 0);
        loop {
            let sending = Sending { layer, sealer, progress, journal: journal.as_deref() };
            let error = match sending.all(&mut upload).await {
                Ok(Pass::Made(made)) => {
                    let digest = made.descriptor.digest;
                    let completed = match upload.clone().complete(digest).await {
                        // The answer to a completion can get lost, and somebody else may have gone on with the same
                        // upload: then it is gone, and the layer is there.
                        Err(error) if is_lost(&error) => {
                            let missing = registry.missing(repository, &[digest]).await?;
                            if missing.is_empty() { Ok(()) } else { Err(error) }
                        }
                        completed => completed,
                    };
                    match completed {
                        Ok(()) => {
                            journal.as_deref().into_iter().for_each(forget);
                            return Ok(Some(*made));
                        }
                        Err(error) => error,
                    }
                }
                Ok(Pass::TooLarge) => {
                    journal.as_deref().into_iter().for_each(forget);
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
                Err(error) => error,
            };
            if !is_lost(&error) || restarts == RESTARTS_MAX {
                return Err(error);
            }
            restarts += 1;
            progress.restarted(&error.to_string());
            upload = registry.start_upload(repository).await?;
        }
    }

    fn journal_file(&self, repository: &str, layer: &Unsealed) -> Option<PathBuf> {
        let recipe = layer.foreknown.recipe?;
        let EcrHost { account, region, .. } = &self.host;
        let key = Digest::of(format!("{account} {region} {repository} {recipe}").as_bytes());
        Some(self.journal.as_ref()?.join(format!("{}.upload", key.hex())))
    }
}

fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Aws { code, .. } if LOST.contains(&&**code))
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

/// One pass over a layer.
struct Sending<'a> {
    layer: &'a Unsealed,
    sealer: &'a Sealer,
    progress: &'a Progress,
    journal: Option<&'a Path>,
}

impl Sending<'_> {
    /// Sends all that `upload` lacks.
    async fn all(&self, upload: &mut LayerUpload) -> Result<Pass, Error> {
        let (body, made) = bridge::seal(self.layer.clone(), self.sealer.clone(), self.progress.clone());
        let (body, is_too_large) = limited(body, LayerApi::LAYER_BYTES_MAX);
        let sent = self.parts(body, upload).await;
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

    /// False if ECR wants something that was passed.
    async fn parts(&self, mut body: ByteStream, upload: &mut LayerUpload) -> Result<bool, Error> {
        let part_bytes = self.part_bytes(upload);
        // Where `part` begins in the layer.
        let (mut at, mut part) = (0, BytesMut::new());
        while let Some(piece) = body.next().await {
            let mut piece: Bytes = piece?;
            while !piece.is_empty() {
                let passed = upload.received().saturating_sub(at).min(piece.len() as u64);
                if part.is_empty() && passed > 0 {
                    at += passed;
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
        self.journal.iter().for_each(|path| write(path, upload));
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

fn read(path: &Path) -> Option<Entry> {
    let entry: Entry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (entry.part_bytes > 0).then_some(entry)
}

/// Only a convenience: where nothing can be written, the next process begins anew.
fn write(path: &Path, upload: &LayerUpload) {
    let entry = Entry {
        upload: upload.id().to_owned(),
        part_bytes: upload.part_bytes(),
        received: upload.received(),
    };
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let new = path.with_extension("upload-new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&entry)?)?;
        fs::rename(&new, path)
    };
    let _: std::io::Result<()> = write();
}

fn forget(path: &Path) {
    let _ = fs::remove_file(path);
}
