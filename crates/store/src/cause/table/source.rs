//! What model hubs, buckets and servers of files say, and what was found wrong with files that came from there.

use ocib_image::PlaceErrorKind::{Corrupt, Denied, Input, NotFound, Refused, Unreachable};

use super::{Cause, cause};

pub(super) const CAUSES: [Cause; 16] = [
    cause(
        "hf-gated",
        "the Hub gives access to this model one by one",
        "accept the conditions on the model's page, wait until access is given, and set HF_TOKEN to a token of that \
         account; a fine-grained one needs the right to read gated repositories",
        Denied,
        &[
            &["gated repo"],
            &["gatedrepo"],
            &["access is restricted"],
            &["access to this model is restricted"],
            &["access to model", "is restricted"],
        ],
    ),
    cause(
        "hf-token-invalid",
        "the Hub does not take the token",
        "make a new token in the account's settings on the Hub and set HF_TOKEN; the old one ended or was revoked",
        Denied,
        &[
            &["the hub does not take the token"],
            &["invalid credentials in authorization header"],
            &["invalid user token"],
        ],
    ),
    cause(
        "hf-repository-missing",
        "the Hub has no such repository, or does not show it",
        "check the name, ORG/NAME; a private repository needs HF_TOKEN of an account that may read it, and a mirror is \
         named by HF_ENDPOINT",
        NotFound,
        &[&["there is no such repository, or it is private"], &["repository not found for url"]],
    ),
    cause(
        "hf-revision-missing",
        "the repository has no such revision",
        "name a branch, a tag or a commit that the repository's page on the Hub lists; without one it is main",
        NotFound,
        &[&["the repository has no revision"], &["revision not found for url"], &["invalid rev id"]],
    ),
    cause(
        "hf-path-missing",
        "the repository has no such file or directory",
        "look at the files on the repository's page on the Hub at that revision; names are case-sensitive",
        NotFound,
        &[&["the repository has nothing at"], &["entry not found for url"]],
    ),
    cause(
        "hf-throttled",
        "the Hub limits how often it is asked",
        "wait some minutes and run the command again; with HF_TOKEN the limit is higher, and HF_ENDPOINT can name a \
         mirror",
        Unreachable,
        &[&["the hub limits how often"], &["we had to rate limit you"]],
    ),
    cause(
        "hf-not-hub",
        "what answers does not speak the Hub's API",
        "check HF_ENDPOINT, and whether a proxy or a login page answers in the Hub's place",
        Refused,
        &[&["does not answer as the hub does"]],
    ),
    cause(
        "no-files-left",
        "the patterns leave no file",
        "look at --include and --exclude: `*` is any characters, slashes too, and a pattern sees the whole path",
        Input,
        &[&["is left by the patterns that include and exclude"]],
    ),
    cause(
        "bucket-missing",
        "there is no such bucket",
        "check the bucket's name, and the endpoint that AWS_ENDPOINT_URL_S3 or STORAGE_EMULATOR_HOST names",
        NotFound,
        &[&["there is no such bucket"], &["nosuchbucket"], &["the specified bucket does not exist"]],
    ),
    cause(
        "bucket-key-missing",
        "the bucket has no such object, and none below it",
        "list the bucket, as with `aws s3 ls s3://BUCKET/PREFIX/`: keys are case-sensitive, and have no slash at their \
         beginning",
        NotFound,
        &[
            &["there is no such object, and none below it"],
            &["nosuchkey"],
            &["the specified key does not exist"],
            &["no such object:"],
            &["(404) when calling the headobject"],
        ],
    ),
    cause(
        "bucket-region",
        "the bucket is in another region",
        "set AWS_REGION to the bucket's region; `aws s3api get-bucket-location --bucket BUCKET` says which it is",
        Refused,
        &[
            &["authorizationheadermalformed"],
            &["permanentredirect"],
            &["must be addressed using the specified endpoint"],
            &["illegallocationconstraint"],
        ],
    ),
    cause(
        "bucket-object-archived",
        "the object is in an archive and cannot be read at once",
        "restore it first, as with `aws s3api restore-object`, or copy it to another storage class",
        Refused,
        &[&["invalidobjectstate"], &["not valid for the object's storage class"]],
    ),
    cause(
        "bucket-throttled",
        "the bucket limits how often it is asked",
        "run the command again later, or with fewer --jobs; what has arrived is not sent again",
        Unreachable,
        &[&["slowdown"], &["reduce your request rate"]],
    ),
    cause(
        "bucket-not-s3",
        "what answers does not speak S3's API",
        "check AWS_ENDPOINT_URL_S3, and whether a proxy or a login page answers in the bucket's place",
        Refused,
        &[&["does not answer as s3 does"]],
    ),
    cause(
        "bucket-requester-pays",
        "whoever reads the bucket pays for it, and nobody was named who may be charged",
        "name who pays: at Google a project in GS_USER_PROJECT, in which who asks has serviceusage.services.use; at Amazon \
         AWS_REQUEST_PAYER=requester, with credentials of an account",
        Denied,
        &[
            &["userprojectmissing"],
            &["userprojectaccessdenied"],
            &["requester pays bucket"],
            &["requester-pays bucket"],
        ],
    ),
    cause(
        "bucket-denied",
        "the bucket may not be read",
        "give who asks s3:ListBucket on the bucket and s3:GetObject on its objects (and kms:Decrypt where a key encrypts \
         them), at Google roles/storage.objectViewer; a bucket of another account must allow it in its own policy, \
         too, and where whoever reads it pays for it, which S3 does not say, AWS_REQUEST_PAYER=requester must be set",
        Denied,
        &[
            &["may not read it: accessdenied"],
            &["may not read it: answered 403"],
            &["may not read it"],
            &["(accessdenied) when calling the listobjects"],
            &["(accessdenied) when calling the getobject"],
            &["(403) when calling the headobject"],
            &["does not have storage.objects."],
        ],
    ),
];

/// What is left when nobody said more.
pub(super) const FILES: [Cause; 7] = [
    cause(
        "source-corrupt",
        "a file is not what its hub or bucket says of it",
        "run the command again; if it stays, a mirror or a proxy between here and there alters content, or the file was \
         damaged where it is kept",
        Corrupt,
        &[&["is not what it was said to be"], &["consistency check failed"]],
    ),
    cause(
        "checksum-mismatch",
        "a file is not the one whose checksum was given",
        "compare the checksum with what the file's publisher says now; do not take over the one that the message names \
         unless that says so",
        Corrupt,
        &[&["digest mismatch sha256:"], &["checksum mismatch"]],
    ),
    cause(
        "url-page",
        "the URL is of a web page, not of a file",
        "take the URL that the page's download button has; of the Hub's models write hf://ORG/NAME",
        Input,
        &[&["answers with a page for browsers"]],
    ),
    cause(
        "url-link-local",
        "the URL leads to an address that only machines of clouds use",
        "such addresses give away the machine's credentials, so they are not read: name the server that has the file",
        Refused,
        &[&["its host is the link-local address"]],
    ),
    cause(
        "url-plain-password",
        "the URL has a password and no encryption",
        "write https:// in place of http://",
        Refused,
        &[&["whose password is not sent over plain http"]],
    ),
    cause(
        "url-missing",
        "the server has no file at this URL",
        "check the URL, as with `curl -I URL`",
        NotFound,
        // curl and wget.
        &[
            &["requested url returned error: 404"],
            &["requested url returned error: 410"],
            &["error 404: not found"],
        ],
    ),
    cause(
        "url-denied",
        "the server does not give the file to who asks",
        "sign the URL anew if it was signed, or give user and password in it, https://USER:TOKEN@HOST/…; they go to that \
         host alone",
        Denied,
        &[
            &["requested url returned error: 401"],
            &["requested url returned error: 403"],
            &["error 403: forbidden"],
            &["username/password authentication failed"],
        ],
    ),
];
