//! Why a request is refused, in the words of both planes.
//!
//! Texts without a source are marked `(U)`: ECR says something else or nothing. Clients must not rely
//! on more than status and code there.

use std::fmt::Display;

use ocib_image::Digest;
use serde_json::{Value, json};

use crate::http::Reply;

/// The media type of AWS JSON 1.1, which ECR's API speaks.
pub(super) const AWS_JSON: &str = "application/x-amz-json-1.1";

/// One refusal.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Refusal {
    /// Status and code on the data plane (distribution-spec, "Error Codes").
    data: (u16, &'static str),
    /// The API's exception. Its status is 400 but for failures of the service.
    exception: &'static str,
    message: String,
    /// What an exception says besides its message.
    fields: Vec<(&'static str, Value)>,
    /// Says nothing and closes the connection.
    hangs_up: bool,
}

impl Refusal {
    fn new(data: (u16, &'static str), exception: &'static str, message: impl Into<String>) -> Self {
        Self { data, exception, message: message.into(), fields: Vec::new(), hangs_up: false }
    }

    /// The answer of the data plane; nothing means that the connection is closed.
    pub(super) fn data_plane(&self) -> Option<Reply> {
        let (status, code) = self.data;
        let body = json!({"errors": [{"code": code, "message": self.message}]});
        (!self.hangs_up).then(|| Reply::json(status, "application/json; charset=utf-8", &body))
    }

    /// The answer of ECR's API.
    pub(super) fn control_plane(&self) -> Option<Reply> {
        let mut body = json!({"__type": self.exception, "message": self.message});
        for (name, value) in &self.fields {
            body[*name] = value.clone();
        }
        let status = if self.exception == "ServerException" { 500 } else { 400 };
        (!self.hangs_up).then(|| Reply::json(status, AWS_JSON, &body))
    }

    /// The answer of STS (STS API Reference, "Common Errors").
    pub(super) fn sts(&self) -> Reply {
        let (status, code) = match self.exception {
            "MissingAuthenticationTokenException" => (403, "MissingAuthenticationToken"),
            "UnrecognizedClientException" => (403, "InvalidClientTokenId"),
            "InvalidSignatureException" => (403, "SignatureDoesNotMatch"),
            "ExpiredTokenException" => (403, "ExpiredToken"),
            "AccessDeniedException" => (403, "AccessDenied"),
            "ThrottlingException" => (400, "Throttling"),
            other => (400, other),
        };
        let body = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{}</Message></Error><RequestId>{REQUEST_ID}</RequestId></ErrorResponse>",
            self.message.replace('&', "&amp;").replace('<', "&lt;")
        );
        Reply::text(status, "text/xml", &body)
    }

    /// Closes the connection instead of an answer.
    pub(super) fn hang_up() -> Self {
        Self { hangs_up: true, ..Self::new((500, ""), "ServerException", "") }
    }

    /// What a fault says.
    pub(super) fn injected(status: u16, code: &'static str, exception: &'static str, message: &str) -> Self {
        Self::new((status, code), exception, message)
    }

    /// containers-roadmap, aws/aws-cli#6580 and many others: the text; status 403 in
    /// pulumi-docker-build#424.
    pub(super) fn token_expired() -> Self {
        let text = "Your authorization token has expired. Reauthenticate and try again.";
        Self::new((403, "DENIED"), "ExpiredTokenException", text)
    }

    /// (U) Status and text.
    pub(super) fn token_invalid() -> Self {
        Self::new((403, "DENIED"), "UnrecognizedClientException", "Your Authorization Token is invalid.")
    }

    pub(super) fn denied(message: String) -> Self {
        Self::new((403, "DENIED"), "AccessDeniedException", message)
    }

    pub(super) fn throttled() -> Self {
        Self::new((429, "TOOMANYREQUESTS"), "ThrottlingException", "Rate exceeded")
    }

    /// Authentication of the API and of STS (AWS General Reference, "Troubleshoot Signature Version 4").
    pub(super) fn signature(exception: &'static str, message: impl Into<String>) -> Self {
        Self::new((403, "DENIED"), exception, message)
    }

    /// plexsystems/sinker#55 and many others: the text with code and status.
    pub(super) fn no_repository(name: &str, account: &str) -> Self {
        let text =
            format!("The repository with name '{name}' does not exist in the registry with id '{account}'");
        Self::new((404, "NAME_UNKNOWN"), "RepositoryNotFoundException", text)
    }

    pub(super) fn repository_exists(name: &str, account: &str) -> Self {
        let text =
            format!("The repository with name '{name}' already exists in the registry with id '{account}'");
        Self::new((400, "NAME_INVALID"), "RepositoryAlreadyExistsException", text)
    }

    /// A manifest or argument that ECR does not take: 405 on the data plane (tart#890, apko#450).
    pub(super) fn parameter(name: &str, constraint: &str) -> Self {
        let text = format!("Invalid parameter at '{name}' failed to satisfy constraint: '{constraint}'");
        Self::new((405, "UNSUPPORTED"), "InvalidParameterException", text)
    }

    /// (U) Status and text.
    pub(super) fn unsupported(what: &str) -> Self {
        let text = format!("The operation is unsupported: {what}");
        Self::new((405, "UNSUPPORTED"), "UnsupportedCommandException", text)
    }

    /// (U) Status and text.
    pub(super) fn bad_digest(text: &str) -> Self {
        let text = format!("'{text}' is not a digest");
        Self::new((400, "DIGEST_INVALID"), "InvalidParameterException", text)
    }

    /// (U) Text.
    pub(super) fn no_blob(digest: Digest, name: &str, account: &str) -> Self {
        let text = format!(
            "The layer with digest '{digest}' does not exist in the repository with name '{name}' in \
             registry with id '{account}'"
        );
        Self::new((404, "BLOB_UNKNOWN"), "LayersNotFoundException", text)
    }

    pub(super) fn no_image() -> Self {
        Self::new((404, "MANIFEST_UNKNOWN"), "ImageNotFoundException", "Requested image not found")
    }

    /// (U) Status on the data plane.
    pub(super) fn no_upload(id: &str, name: &str, account: &str) -> Self {
        let text = format!(
            "The upload with id '{id}' does not exist in the repository with name '{name}' in the registry \
             with id '{account}'"
        );
        Self::new((404, "BLOB_UPLOAD_UNKNOWN"), "UploadNotFoundException", text)
    }

    /// 416, also for a session that is used again after a failure (chalk#682). The API's fields are those of
    /// InvalidLayerPartException in the ECR API Reference; (U) what `lastValidByteReceived` is while
    /// nothing was received: 0 here, the least that its type allows.
    pub(super) fn layer_part(name: &str, account: &str, upload: &str, got: u64, wanted: u64) -> Self {
        let text = format!("First byte of the layer part is {got} instead of {wanted}");
        let mut refusal = Self::new((416, "BLOB_UPLOAD_INVALID"), "InvalidLayerPartException", text);
        refusal.fields = vec![
            ("registryId", account.into()),
            ("repositoryName", name.into()),
            ("uploadId", upload.into()),
            ("lastValidByteReceived", wanted.saturating_sub(1).into()),
        ];
        refusal
    }

    /// A part whose size is not what it says or not allowed (InvalidLayerPartException in the ECR API
    /// Reference: "the layer part size is not valid"). (U) Text.
    pub(super) fn part_size(name: &str, account: &str, upload: &str, last: Option<u64>) -> Self {
        let mut refusal = Self::layer_part(name, account, upload, 0, last.map_or(0, |last| last + 1));
        refusal.message = "The layer part size is not valid".to_owned();
        refusal
    }

    /// An upload whose body broke off. (U) Text.
    pub(super) fn broken_upload(id: &str) -> Self {
        let text = format!("The upload with id '{id}' broke off");
        Self::new((416, "BLOB_UPLOAD_INVALID"), "UploadNotFoundException", text)
    }

    /// (U) Text.
    pub(super) fn digest_mismatch(claimed: Digest, actual: Digest) -> Self {
        let text = format!("The layer's digest is '{actual}' and not '{claimed}'");
        Self::new((400, "DIGEST_INVALID"), "InvalidLayerException", text)
    }

    /// ECR API Reference, CompleteLayerUpload.
    pub(super) fn empty_upload() -> Self {
        let text = "The specified layer upload does not contain any layer parts.";
        Self::new((400, "BLOB_UPLOAD_INVALID"), "EmptyUploadException", text)
    }

    /// ECR API Reference, CompleteLayerUpload: "Layer parts must be at least 5 MiB in size".
    pub(super) fn part_too_small(least: u64) -> Self {
        let text = format!("Layer parts must be at least {least} bytes in size.");
        Self::new((400, "BLOB_UPLOAD_INVALID"), "LayerPartTooSmallException", text)
    }

    /// ECR User Guide, "Service quotas". (U) Status and text.
    pub(super) fn limit(what: impl Display) -> Self {
        Self::new((405, "UNSUPPORTED"), "LimitExceededException", format!("Limit exceeded: {what}"))
    }

    /// (U) Text.
    pub(super) fn layer_exists(digest: Digest, name: &str, account: &str) -> Self {
        let text = format!(
            "Layer with digest '{digest}' already exists in the repository with name '{name}' in the \
             registry with id '{account}'"
        );
        Self::new((400, "BLOB_UPLOAD_INVALID"), "LayerAlreadyExistsException", text)
    }

    /// `Images with digests … required for pushing image into repository … do not exist`, said as
    /// "manifest blob unknown" by docker. (U) Status, and that layers are worded alike.
    pub(super) fn missing_content(what: Missing, digests: &[Digest], name: &str, account: &str) -> Self {
        let list: Vec<String> = digests.iter().map(ToString::to_string).collect();
        let (word, exception) = match what {
            Missing::Layers => ("Layers", "LayersNotFoundException"),
            Missing::Images => ("Images", "ReferencedImagesNotFoundException"),
        };
        let text = format!(
            "{word} with digests '[{}]' required for pushing image into repository with name '{name}' in the \
             registry with id '{account}' do not exist",
            list.join(", ")
        );
        Self::new((404, "MANIFEST_BLOB_UNKNOWN"), exception, text)
    }

    /// kaniko#3481, containers-roadmap#2179: also for the digest that the tag has already.
    pub(super) fn immutable(tag: &str, name: &str) -> Self {
        let text = format!(
            "The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten \
             because the tag is immutable."
        );
        Self::new((400, "TAG_INVALID"), "ImageTagAlreadyExistsException", text)
    }

    /// ECR API Reference, PutImage. (U) Text.
    pub(super) fn image_exists(digest: Digest, tag: &str, name: &str, account: &str) -> Self {
        let text = format!(
            "Image with digest '{digest}' and tag '{tag}' already exists in the repository with name '{name}' \
             in registry with id '{account}'"
        );
        Self::new((400, "MANIFEST_INVALID"), "ImageAlreadyExistsException", text)
    }

    /// ECR API Reference, PutImage. (U) Text.
    pub(super) fn image_digest(claimed: Digest, actual: Digest) -> Self {
        let text = format!("The image's digest is '{actual}' and not '{claimed}'");
        Self::new((400, "DIGEST_INVALID"), "ImageDigestDoesNotMatchException", text)
    }

    /// ECR API Reference, GetLifecyclePolicy. (U) Text.
    pub(super) fn no_lifecycle_policy(name: &str, account: &str) -> Self {
        let text = format!(
            "Lifecycle policy does not exist for the repository with name '{name}' in the registry with id \
             '{account}'"
        );
        Self::new((404, "NAME_UNKNOWN"), "LifecyclePolicyNotFoundException", text)
    }

    /// A blob that was digested and counted only. Not ECR's: a test asks for what it chose not to keep.
    pub(super) fn not_kept(digest: Digest) -> Self {
        let text = format!("the emulator did not keep the bytes of {digest}: see EcrOptions::keep_bytes_max");
        Self::new((500, "UNKNOWN"), "ServerException", text)
    }
}

/// What a manifest refers to and the repository lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    Layers,
    Images,
}

/// The emulator's requests need no telling apart by it.
pub(super) const REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";
