//! Images (ECR API Reference).

use ocib_image::Digest;
use serde_json::{Value, json};

use super::Call;
use crate::ecr::{
    image,
    refusal::Refusal,
    repository::{Image, Repository, seconds},
};

impl Call<'_> {
    pub(super) fn images(&self) -> Result<Value, Refusal> {
        let (name, ids) = (self.repository()?, self.image_ids());
        if ids.is_empty() {
            return Err(Refusal::parameter("imageIds", "must not be null"));
        }
        self.world.with_repository(name, |repository| {
            let (mut images, mut failures) = (Vec::new(), Vec::new());
            for id in &ids {
                match find(repository, id) {
                    Some((digest, image)) => images.push(self.image(name, id, digest, image)),
                    None => failures.push(json!({
                        "imageId": id, "failureCode": "ImageNotFound",
                        "failureReason": "Requested image not found",
                    })),
                }
            }
            Ok(json!({"images": images, "failures": failures}))
        })
    }

    pub(super) fn describe_images(&self) -> Result<Value, Refusal> {
        let (name, ids) = (self.repository()?, self.image_ids());
        self.world.with_repository(name, |repository| {
            let found: Vec<(Digest, &Image)> = match ids.is_empty() {
                true => repository.images.iter().map(|(digest, image)| (*digest, image)).collect(),
                false => {
                    let find = |id: &Value| find(repository, id).ok_or_else(|| self.no_image(name, id));
                    ids.iter().map(find).collect::<Result<_, _>>()?
                }
            };
            let detail = |(digest, image): &(Digest, &Image)| {
                json!({
                    "registryId": self.account(), "repositoryName": name, "imageDigest": digest.to_string(),
                    "imageTags": repository.tags_of(*digest), "imageSizeInBytes": image.manifest.len(),
                    "imagePushedAt": seconds(image.pushed), "imageManifestMediaType": image.media_type,
                })
            };
            Ok(json!({"imageDetails": found.iter().map(detail).collect::<Vec<_>>()}))
        })
    }

    pub(super) fn put_image(&self) -> Result<Value, Refusal> {
        let (name, manifest) = (self.repository()?, self.text("imageManifest")?);
        if manifest.len() as u64 > image::MANIFEST_BYTES_MAX {
            return Err(Refusal::parameter(
                "imageManifest",
                "Member must have length less than or equal to 4194304",
            ));
        }
        self.world.enter_repository(name, self.caller)?;
        let digest = match self.arguments["imageDigest"].is_null() {
            true => None,
            false => Some(self.digest("imageDigest")?),
        };
        let incoming = image::Incoming {
            manifest: manifest.as_bytes(),
            media_type: self.arguments["imageManifestMediaType"].as_str(),
            tag: self.arguments["imageTag"].as_str(),
            digest,
        };
        let now = self.world.now();
        self.world.with_repository(name, |repository| {
            let stored = incoming.put(repository, &self.world.options, now)?;
            if stored.was_there {
                let tag = incoming.tag.unwrap_or("null");
                return Err(Refusal::image_exists(stored.digest, tag, name, self.account()));
            }
            let mut id = json!({"imageDigest": stored.digest.to_string()});
            if let Some(tag) = incoming.tag {
                id["imageTag"] = tag.into();
            }
            Ok(json!({"image": self.image(name, &id, stored.digest, &repository.images[&stored.digest])}))
        })
    }

    fn image_ids(&self) -> Vec<Value> {
        self.arguments["imageIds"].as_array().cloned().unwrap_or_default()
    }

    fn image(&self, name: &str, id: &Value, digest: Digest, image: &Image) -> Value {
        let mut id = id.clone();
        id["imageDigest"] = digest.to_string().into();
        json!({
            "registryId": self.account(), "repositoryName": name, "imageId": id,
            "imageManifest": String::from_utf8_lossy(&image.manifest),
            "imageManifestMediaType": image.media_type,
        })
    }

    /// (U) Text.
    fn no_image(&self, name: &str, id: &Value) -> Refusal {
        let text = format!(
            "The image with imageId {id} does not exist within the repository with name '{name}' in the \
             registry with id '{}'",
            self.account()
        );
        Refusal::signature("ImageNotFoundException", text)
    }
}

/// An image by its tag, its digest, or both.
fn find<'a>(repository: &'a Repository, id: &Value) -> Option<(Digest, &'a Image)> {
    let (tag, digest) = (id["imageTag"].as_str(), id["imageDigest"].as_str());
    let found = repository.find(tag.or(digest)?)?;
    (tag.is_none() || digest.is_none_or(|digest| found.0.to_string() == digest)).then_some(found)
}
