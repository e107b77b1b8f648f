//! The layer API, the only way at ECR to go on with an upload in another process (ECR API Reference).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::Call;
use crate::{ecr::refusal::Refusal, http::locked};

/// What a layer is said to be; ECR learns more from the manifest.
const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

impl Call<'_> {
    pub(super) fn check_layers(&self) -> Result<Value, Refusal> {
        let name = self.repository()?;
        let digests = self.texts("layerDigests");
        if digests.is_empty() || digests.len() > 100 {
            return Err(Refusal::parameter("layerDigests", "must have 1 to 100 members"));
        }
        self.world.with_repository(name, |repository| {
            let (mut layers, mut failures) = (Vec::new(), Vec::new());
            for text in &digests {
                let Ok(digest) = text.parse() else {
                    let reason = "Invalid layer digest";
                    failures.push(failure(text, "InvalidLayerDigest", reason));
                    continue;
                };
                // A layer that is not there is unavailable and no failure. (U)
                layers.push(match repository.blobs.get(&digest) {
                    Some(blob) => json!({
                        "layerDigest": text, "layerAvailability": "AVAILABLE",
                        "layerSize": blob.bytes, "mediaType": LAYER_TYPE,
                    }),
                    None => json!({"layerDigest": text, "layerAvailability": "UNAVAILABLE"}),
                });
            }
            Ok(json!({"layers": layers, "failures": failures}))
        })
    }

    pub(super) fn download_url(&self) -> Result<Value, Refusal> {
        let (name, digest) = (self.repository()?, self.digest("layerDigest")?);
        let missing = || Refusal::no_blob(digest, name, self.account());
        self.world.with_repository(name, |repository| {
            repository.blobs.contains_key(&digest).then_some(()).ok_or_else(missing)
        })?;
        let url = self.world.presign(self.layers, name, digest);
        Ok(json!({"downloadUrl": url, "layerDigest": digest.to_string()}))
    }

    pub(super) fn initiate_upload(&self) -> Result<Value, Refusal> {
        let name = self.repository()?;
        self.world.enter_repository(name, self.caller)?;
        let id = self.world.start_upload(name);
        Ok(json!({"uploadId": id, "partSize": self.world.options.part_bytes.end()}))
    }

    pub(super) fn upload_part(&self) -> Result<Value, Refusal> {
        let (name, id) = (self.repository()?, self.text("uploadId")?);
        let (first, last) = (self.number("partFirstByte")?, self.number("partLastByte")?);
        let blob = self.text("layerPartBlob")?;
        let bytes =
            STANDARD.decode(blob).map_err(|_| Refusal::parameter("layerPartBlob", "must be base64"))?;
        self.world.with_repository(name, |_| Ok(()))?;
        let upload = self.world.upload(id, name)?;
        let mut upload = locked(&upload);
        let is_whole = last.checked_sub(first).map(|more| more + 1) == Some(bytes.len() as u64);
        if !is_whole || bytes.len() as u64 > *self.world.options.part_bytes.end() {
            return Err(Refusal::part_size(name, self.account(), id, upload.last_byte()));
        }
        upload.part(first, &bytes, &self.world.options)?;
        Ok(json!({
            "registryId": self.account(), "repositoryName": name, "uploadId": id,
            "lastByteReceived": upload.last_byte(),
        }))
    }

    pub(super) fn complete_upload(&self) -> Result<Value, Refusal> {
        let (name, id) = (self.repository()?, self.text("uploadId")?);
        let digests = self.texts("layerDigests");
        let &[text] = digests.as_slice() else {
            // CompleteLayerUpload takes up to 100 digests of one layer, one for each algorithm; ECR
            // knows one algorithm. (U)
            return Err(Refusal::parameter("layerDigests", "must have one member"));
        };
        let digest = text.parse().map_err(|_| Refusal::bad_digest(text))?;
        self.world.with_repository(name, |_| Ok(()))?;
        let upload = self.world.upload(id, name)?;
        let blob = locked(&upload).complete(digest, &self.world.options)?;
        self.world.with_repository(name, |repository| {
            if repository.blobs.contains_key(&digest) {
                return Err(Refusal::layer_exists(digest, name, self.account()));
            }
            repository.blobs.insert(digest, blob);
            Ok(())
        })?;
        Ok(json!({
            "registryId": self.account(), "repositoryName": name, "uploadId": id, "layerDigest": text,
        }))
    }
}

fn failure(digest: &str, code: &str, reason: &str) -> Value {
    json!({"layerDigest": digest, "failureCode": code, "failureReason": reason})
}
