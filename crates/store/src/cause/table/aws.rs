//! What AWS and ECR say. ECR's registry and its API use the same words with different codes.

use ocib_image::PlaceErrorKind::{Denied, NotFound, Refused};

use super::{Cause, cause};

pub(super) const CAUSES: [Cause; 17] = [
    cause(
        "ecr-public-repository-missing",
        "the repository does not exist in ECR Public",
        "create it with `aws ecr-public create-repository --region us-east-1 --repository-name {repository}`, or let \
         ocib do so with --ecr-create-repository; the alias in the name must be that of your own registry",
        NotFound,
        &[&["the repository with name", "ecr public"], &["the repository with name", "public.ecr.aws"]],
    ),
    cause(
        "ecr-repository-missing",
        "the repository does not exist in this registry of ECR",
        "create it with `aws ecr create-repository --repository-name {repository}`, or let ocib do so with \
         --ecr-create-repository; check account and region in the host's name too",
        NotFound,
        &[&["the repository with name", "does not exist in the registry"], &["repositorynotfoundexception"]],
    ),
    cause(
        "tag-immutable",
        "the tag names another image and cannot be moved",
        "choose a new tag, exclude the tag from the repository's immutability, or delete the old image; the \
         same image under the same tag is no failure",
        Refused,
        &[
            &["tag is immutable"],
            &["imagetagalreadyexistsexception"],
            &["cannot be overwritten", "immutable"],
            &["configured as immutable"],
        ],
    ),
    cause(
        "token-expired",
        "the registry's token is past its end",
        "run the command again: ocib asks for a new token. A password in a Docker config file is 12 hours good \
         for ECR: log in anew, or remove the entry so that ocib takes the identity of AWS itself",
        Denied,
        &[&["authorization token has expired"], &["token has expired", "reauthenticate"]],
    ),
    cause(
        "aws-session-expired",
        "the session of AWS is past its end",
        "renew the session that ocib runs with: `aws sso login` on a laptop, a new job in a pipeline; in a pod it \
         is the service account's, and logging in elsewhere does not help",
        Denied,
        &[
            &["expiredtoken"],
            &["security token", "is expired"],
            &["sso session", "expired"],
            &["sso token", "expired"],
            // IAM Identity Center's portal.
            &["session token not found or invalid"],
            &["refresh failed", "token"],
        ],
    ),
    cause(
        "aws-sso-cache",
        "the login that `aws sso login` leaves cannot be read or renewed",
        "run `aws sso login`. The file of the session in ~/.aws/sso/cache must be there and be readable; where its \
         token is past its end and is renewed, writable too, as the new one is kept there",
        Denied,
        &[&["failed to load the cached sso token"]],
    ),
    cause(
        "wrong-region",
        "the token or key is for another region or partition",
        "make region and account in the registry's host agree with where the identity is; for a host under \
         another name give the right --ecr-host HOST=ACCOUNT/REGION",
        Denied,
        &[
            &["authorization token is invalid"],
            &["credential should be scoped to a valid region"],
            &["no account found with the provided id"],
        ],
    ),
    cause(
        "clock-skew",
        "the clock of this machine is wrong",
        "set the clock (NTP): signatures of AWS may be five minutes off, certificates have a first day",
        Denied,
        &[
            &["signature expired"],
            &["signature not yet current"],
            &["requesttimetooskewed"],
            &["notvalidyet"],
            &["certificate not valid yet"],
            &["certificate is not yet valid"],
            &["token used before issued"],
        ],
    ),
    cause(
        "iam-assume-role",
        "the role does not trust who wants to become it",
        "look at the role's trust policy: provider, audience (sts.amazonaws.com) and subject (service account, \
         repository and branch) must be those of the token; the action is {action}",
        Denied,
        &[&["not authorized to perform", "sts:assumerole"], &["invalididentitytoken"]],
    ),
    cause(
        "iam-explicit-deny",
        "a policy forbids it",
        "a statement with Effect Deny forbids {action} for {identity} on {resource}: look at service control \
         policies, permission boundaries and the repository's policy; allowing it elsewhere does not help",
        Denied,
        &[&["not authorized to perform", "explicit deny"]],
    ),
    cause(
        "iam-denied",
        "a permission is missing",
        "give {identity} the permission {action} on {resource}; `ocib build --print-iam-policy` prints all that \
         the build needs",
        Denied,
        &[&["not authorized to perform"], &["accessdeniedexception"]],
    ),
    cause(
        "aws-no-identity",
        "nobody in AWS was found",
        "mend the last way that the message names, or configure one: a role for the pod (IRSA, Pod Identity), \
         AWS_ROLE_ARN with OIDC in a pipeline, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
        Denied,
        &[
            &["no identity for aws was found"],
            &["unable to locate credentials"],
            &["nocredentialproviders"],
            &["no ec2 imds role found"],
        ],
    ),
    cause(
        "aws-keys-unknown",
        "AWS does not know the access key",
        "check that the key is active and of this partition (China and GovCloud have their own), that its \
         session token is given too, and that the account has enabled the region",
        Denied,
        &[
            &["unrecognizedclientexception"],
            // S3.
            &["invalidaccesskeyid"],
            &["invalidclienttokenid"],
            &["security token included in the request is invalid"],
        ],
    ),
    cause(
        "aws-signature",
        "the secret key does not fit the access key",
        "copy AWS_SECRET_ACCESS_KEY again, without blanks or line ends; a proxy that changes headers does this too",
        Denied,
        &[&["signaturedoesnotmatch"], &["invalidsignatureexception"], &["request signature we calculated"]],
    ),
    cause(
        "ecr-kms",
        "the key that encrypts the repository cannot be used",
        "enable the KMS key, and allow the identity kms:CreateGrant and kms:DescribeKey on it",
        Refused,
        &[&["kmsexception"], &["kms key"]],
    ),
    cause(
        "ecr-lifecycle-policy",
        "the lifecycle policy is refused",
        "check the file of --ecr-lifecycle-policy with `aws ecr start-lifecycle-policy-preview`; the repository \
         was created without it",
        Refused,
        &[&["lifecycle policy validation failure"], &["lifecyclepolicytext"]],
    ),
    cause(
        "too-many-layers",
        "the image has more layers than the registry takes",
        "join COPY instructions, or give the build another base: layers of the base count too",
        Refused,
        &[&["number of layers per image exceeded"], &["max depth exceeded"], &["layers", "takes at most"]],
    ),
];
