use std::collections::BTreeSet;

use super::*;

#[test]
fn ids_are_unique_and_signs_are_lower_case() {
    let ids: BTreeSet<&str> = Cause::all().map(|cause| cause.id).collect();
    assert_eq!(ids.len(), Cause::all().count());
    assert!(ids.len() >= 40, "{}", ids.len());
    for cause in Cause::all() {
        assert!(!cause.signs.is_empty() && !cause.remedy.is_empty(), "{}", cause.id);
        for sign in cause.signs.iter().copied().flatten() {
            assert_eq!(*sign, sign.to_lowercase(), "{}", cause.id);
        }
        let remedy = cause.general_remedy();
        assert!(!remedy.contains(['{', '}']), "{remedy}");
    }
}

#[test]
fn every_cause_can_be_found_by_its_own_signs() {
    for cause in Cause::all() {
        let found = cause.signs.iter().filter_map(|row| Diagnosis::of_text(&row.join(" … ")));
        assert!(found.into_iter().any(|found| found.cause.id == cause.id), "{} is hidden", cause.id);
    }
}

/// What other programs write, and one line of ours now and then.
#[test]
fn messages_of_other_programs() {
    for (text, expected) in [
        (
            "error checking push permissions -- make sure you entered the correct tag name: checking push \
             permission for \"1.dkr.ecr.eu-west-1.amazonaws.com/a:1\": POST https://1.dkr.ecr/v2/a/blobs/uploads/: \
             unexpected status code 401 Unauthorized: Not Authorized",
            "no-credentials",
        ),
        ("denied: Your authorization token has expired. Reauthenticate and try again.", "token-expired"),
        (
            "name unknown: The repository with name 'a/b' does not exist in the registry with id '123456789012'",
            "ecr-repository-missing",
        ),
        (
            "tag invalid: The image tag '1' already exists in the 'a' repository and cannot be overwritten because \
          the tag is immutable.",
            "tag-immutable",
        ),
        (
            "Unable to locate credentials. You can configure credentials by running \"aws configure\".",
            "aws-no-identity",
        ),
        (
            "An error occurred (ExpiredTokenException) when calling the GetAuthorizationToken operation: The security \
             token included in the request is expired",
            "aws-session-expired",
        ),
        (
            "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating",
            "hub-rate-limit",
        ),
        ("toomanyrequests: Rate exceeded", "rate-limited"),
        ("denied: requested access to the resource is denied", "scope-downgraded"),
        ("unauthorized: authentication required", "push-denied-anonymous"),
        (
            "Error response from daemon: Get \"https://r/v2/\": x509: certificate signed by unknown authority",
            "certificate-unknown",
        ),
        ("x509: certificate has expired or is not yet valid: current time is after", "certificate-expired"),
        ("http: server gave HTTP response to HTTPS client", "https-on-http"),
        ("dial tcp: lookup r.example on 10.0.0.10:53: no such host", "dns"),
        ("dial tcp 10.1.2.3:443: i/o timeout", "connection-timeout"),
        ("no basic auth credentials", "push-denied-anonymous"),
        ("denied: permission_denied: write_package", "github-packages-denied"),
        (
            "denied: Permission \"artifactregistry.repositories.uploadArtifacts\" denied on resource \"projects/p\"",
            "google-denied",
        ),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "platform-missing"),
        (
            "error parsing HTTP 413 response body: invalid character '<' looking for beginning of value: \
          \"<html>\\r\\n<head><title>413 Request Entity Too Large</title>\"",
            "html-instead-of-json",
        ),
        ("exec /bin/sh: exec format error", "exec-format"),
        ("error copying image: manifest blob unknown: blob unknown to registry", "manifest-blob-unknown"),
    ] {
        assert_eq!(Diagnosis::of_text(text).map(|found| found.cause.id), Some(expected), "{text}");
    }
    assert!(Diagnosis::of_text("everything is fine").is_none());
}

#[test]
fn remedies_name_what_the_failure_names() {
    let denied = "DENIED: User: arn:aws:sts::1:assumed-role/b/pod is not authorized to perform: ecr:PutImage on resource: \
                  arn:aws:ecr:eu-west-1:1:repository/a because no identity-based policy allows the ecr:PutImage action";
    let found = Diagnosis::of_text(denied).unwrap();
    assert_eq!(
        found.remedy(),
        "give arn:aws:sts::1:assumed-role/b/pod the permission ecr:PutImage on arn:aws:ecr:eu-west-1:1:repository/a; \
         `ocib build --print-iam-policy` prints all that the build needs"
    );
    let missing = "The repository with name 'team/app' does not exist in the registry with id '123456789012'";
    let remedy = Diagnosis::of_text(missing).unwrap().remedy();
    assert!(
        remedy.starts_with("create it with `aws ecr create-repository --repository-name team/app`"),
        "{remedy}"
    );
}

#[test]
fn a_log_speaks_of_several_causes() {
    let log = "step 1\nlookup r: no such host\nretry\nlookup r: no such host\nunauthorized: authentication required\n";
    let ids: Vec<&str> = Diagnosis::all_of_log(log).iter().map(|found| found.cause.id).collect();
    assert_eq!(ids, ["dns", "push-denied-anonymous"]);
    let wrapped = "User: arn:x is not authorized\n to perform: ecr:PutImage on resource: *";
    assert_eq!(Diagnosis::all_of_log(wrapped)[0].cause.id, "iam-denied");
    assert!(Diagnosis::all_of_log("").is_empty());
}

#[test]
fn names_of_ours_are_no_signs() {
    let url = "https://r.example/v2/connection-refused/rate-exceeded/manifests/1".parse().unwrap();
    let error = Error::Registry {
        method: ocib_net::Method::GET,
        url: ocib_net::Redacted::of(&url),
        status: ocib_net::StatusCode::NOT_FOUND,
        codes: vec![crate::RegistryCode { code: "MANIFEST_UNKNOWN".into(), message: String::new() }],
        retry_after: None,
    };
    assert_eq!(Diagnosis::of(&error).map(|found| found.cause.id), Some("tag-missing"));
}
