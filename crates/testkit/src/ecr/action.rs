//! What can be asked of the emulator, by the names that IAM, quotas and faults use.

use std::fmt;

/// An action of ECR or a service beside it.
///
/// The data plane's requests are these too, as ECR's proxy makes its API's calls of them (ECR API
/// Reference, e.g. PutImage: "used by the Amazon ECR proxy").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "each is called what AWS calls it")]
pub enum AwsAction {
    GetAuthorizationToken,
    DescribeRegistry,
    DescribeRepositories,
    CreateRepository,
    GetAccountSetting,
    GetLifecyclePolicy,
    PutLifecyclePolicy,
    /// Data plane: `HEAD` of a blob.
    BatchCheckLayerAvailability,
    /// Data plane: `GET` of a blob.
    GetDownloadUrlForLayer,
    /// Data plane: `GET` and `HEAD` of a manifest.
    BatchGetImage,
    DescribeImages,
    /// Data plane: `GET` of `tags/list`.
    ListImages,
    /// Data plane: `POST` of an upload.
    InitiateLayerUpload,
    /// Data plane: `PATCH` of an upload, and a `PUT` with a body.
    UploadLayerPart,
    /// Data plane: `PUT` of an upload.
    CompleteLayerUpload,
    /// Data plane: `PUT` of a manifest.
    PutImage,
    /// ECR Public's.
    PublicGetAuthorizationToken,
    /// What ECR Public's token needs besides its own action; never called by itself.
    GetServiceBearerToken,
    GetCallerIdentity,
    AssumeRole,
    AssumeRoleWithWebIdentity,
    /// A layer's bytes from the second origin. The signature in the URL allows it, no policy.
    GetObject,
}

use AwsAction::*;

const NAMES: [(AwsAction, &str); 22] = [
    (GetAuthorizationToken, "ecr:GetAuthorizationToken"),
    (DescribeRegistry, "ecr:DescribeRegistry"),
    (DescribeRepositories, "ecr:DescribeRepositories"),
    (CreateRepository, "ecr:CreateRepository"),
    (GetAccountSetting, "ecr:GetAccountSetting"),
    (GetLifecyclePolicy, "ecr:GetLifecyclePolicy"),
    (PutLifecyclePolicy, "ecr:PutLifecyclePolicy"),
    (BatchCheckLayerAvailability, "ecr:BatchCheckLayerAvailability"),
    (GetDownloadUrlForLayer, "ecr:GetDownloadUrlForLayer"),
    (BatchGetImage, "ecr:BatchGetImage"),
    (DescribeImages, "ecr:DescribeImages"),
    (ListImages, "ecr:ListImages"),
    (InitiateLayerUpload, "ecr:InitiateLayerUpload"),
    (UploadLayerPart, "ecr:UploadLayerPart"),
    (CompleteLayerUpload, "ecr:CompleteLayerUpload"),
    (PutImage, "ecr:PutImage"),
    (PublicGetAuthorizationToken, "ecr-public:GetAuthorizationToken"),
    (GetServiceBearerToken, "sts:GetServiceBearerToken"),
    (GetCallerIdentity, "sts:GetCallerIdentity"),
    (AssumeRole, "sts:AssumeRole"),
    (AssumeRoleWithWebIdentity, "sts:AssumeRoleWithWebIdentity"),
    (GetObject, "s3:GetObject"),
];

impl AwsAction {
    /// The name in policies and messages, such as `ecr:PutImage`.
    pub fn name(self) -> &'static str {
        let row = NAMES.iter().find(|(action, _)| *action == self);
        row.expect("every action has a row").1
    }

    /// Whether it only reads what is in a repository.
    pub(super) fn is_read(self) -> bool {
        matches!(self, BatchGetImage | GetDownloadUrlForLayer | ListImages)
    }

    /// The action with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(action, _)| *action)
    }
}

impl fmt::Display for AwsAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
