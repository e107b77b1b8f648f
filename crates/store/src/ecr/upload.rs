//! Uploading a layer in parts, by ECR's own API: the one upload whose place survives the process
//! (ECR API reference, `InitiateLayerUpload`, `UploadLayerPart`, `CompleteLayerUpload`).

use aws_sdk_ecr::{operation::upload_layer_part::UploadLayerPartError, primitives::Blob};
use bytes::Bytes;
use ocib_image::Digest;

use super::{EcrRegistry, failure, refused};
use crate::Error;

/// A layer on its way into a repository, part after part.
///
/// [`LayerUpload::id`] and [`LayerUpload::received`] are what another process needs to go on
/// ([`EcrRegistry::resume_upload`]).
#[derive(Clone, Debug)]
pub struct LayerUpload {
    registry: EcrRegistry,
    repository: String,
    id: String,
    part_bytes: u64,
    received: u64,
    parts: u32,
}

/// What became of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// ECR has it.
    Taken,
    /// ECR has the layer up to this offset, and wants the part that begins there.
    ContinueAt(u64),
}

/// ECR, "Service quotas": parts of a layer.
const PARTS_MAX: u32 = 4_200;

impl EcrRegistry {
    /// Begins an upload into `repository`. Needs `ecr:InitiateLayerUpload`.
    pub async fn start_upload(&self, repository: &str) -> Result<LayerUpload, Error> {
        const ACTION: &str = "ecr:InitiateLayerUpload";
        let call = self.client.initiate_layer_upload().registry_id(&self.account).repository_name(repository);
        let begun = call.send().await.map_err(|error| failure(ACTION, error))?;
        let part_bytes =
            begun.part_size().and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        match (begun.upload_id(), part_bytes) {
            (Some(id), Some(part_bytes)) => Ok(self.resume_upload(repository, id, part_bytes, 0)),
            _ => Err(refused(ACTION, "", "its answer has no upload id and part size")),
        }
    }

    /// Goes on with an upload that another process began and that has `received` bytes, as far as
    /// that process knew; the next part finds out what is true.
    pub fn resume_upload(&self, repository: &str, id: &str, part_bytes: u64, received: u64) -> LayerUpload {
        let parts = u32::try_from(received.div_ceil(part_bytes.max(1))).unwrap_or(u32::MAX);
        LayerUpload {
            registry: self.clone(),
            repository: repository.to_owned(),
            id: id.to_owned(),
            part_bytes,
            received,
            parts,
        }
    }
}

impl LayerUpload {
    /// ECR's name for the upload.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many bytes each part but the last should have.
    pub fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// How many bytes of the layer ECR has.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Sends the part that begins at [`LayerUpload::received`]. Needs `ecr:UploadLayerPart`.
    ///
    /// A part whose answer got lost is sent again, and ECR then says that it has it.
    pub async fn send(&mut self, part: Bytes) -> Result<Part, Error> {
        const ACTION: &str = "ecr:UploadLayerPart";
        let bytes = part.len() as u64;
        if bytes == 0 || self.parts >= PARTS_MAX {
            let why = format!("a part of {bytes} bytes is number {} of at most {PARTS_MAX}", self.parts + 1);
            return Err(refused(ACTION, "", &why));
        }
        let end = self.received + bytes;
        let call = self
            .registry
            .client
            .upload_layer_part()
            .registry_id(&self.registry.account)
            .repository_name(&self.repository)
            .upload_id(&self.id)
            .part_first_byte(offset(self.received))
            .part_last_byte(offset(end - 1))
            .layer_part_blob(Blob::new(part));
        let has = match call.send().await {
            Ok(taken) => taken.last_byte_received().map_or(end, after),
            Err(error) => match error.as_service_error() {
                Some(UploadLayerPartError::InvalidLayerPartException(said)) => {
                    match said.last_valid_byte_received() {
                        Some(last) => after(last),
                        None => return Err(failure(ACTION, error)),
                    }
                }
                _ => return Err(failure(ACTION, error)),
            },
        };
        self.received = has;
        self.parts = u32::try_from(has.div_ceil(self.part_bytes)).unwrap_or(u32::MAX);
        Ok(if has == end { Part::Taken } else { Part::ContinueAt(has) })
    }

    /// Ends the upload of the layer `digest`; one that the repository has already is a success.
    /// Needs `ecr:CompleteLayerUpload`.
    pub async fn complete(self, digest: Digest) -> Result<(), Error> {
        let call = self.registry.client.complete_layer_upload().registry_id(&self.registry.account);
        let call =
            call.repository_name(&self.repository).upload_id(&self.id).layer_digests(digest.to_string());
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => match failure("ecr:CompleteLayerUpload", error) {
                Error::Aws { code, .. } if code == "LayerAlreadyExistsException" => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// Offsets of ECR are signed; a layer of 52,000 MiB is far from the end of both.
fn offset(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// How many bytes there are if `last` is the last; ECR says -1 or 0 for none (U).
fn after(last: i64) -> u64 {
    u64::try_from(last).map_or(0, |last| if last == 0 { 0 } else { last + 1 })
}
