//! Signatures of requests that the SDK does not make (AWS, "Signature Version 4").

use std::time::SystemTime;

use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};

use super::Session;
use crate::{
    Attempt, Error, Method, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

/// What a signature of S3 is for.
#[derive(Clone, Copy, Debug)]
pub struct S3Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// Where it goes, as it is sent.
    pub url: &'a Url,
    /// Headers that are signed too.
    pub headers: &'a HeaderMap,
    /// The bucket's region.
    pub region: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// Headers by which S3 knows that `session` sends `request` at `time`.
///
/// # Errors
///
/// [`Error::Unidentified`] for keys, a token or a region that no header can hold: a file with a line end is easily
/// put into a variable.
pub fn sign_s3(request: S3Request<'_>, session: &Session, time: SystemTime) -> Result<HeaderMap, Error> {
    signed(request, session, time).ok_or_else(|| {
        let why = "the access key, the session token or the region has a line end or another character that no \
                   header can hold";
        let tried = vec![Attempt { provider: session.provider.to_owned(), why: why.to_owned() }];
        Error::Unidentified { cloud: "AWS", tried, is_absence: false }
    })
}

fn signed(request: S3Request<'_>, session: &Session, time: SystemTime) -> Option<HeaderMap> {
    let mut settings = SigningSettings::default();
    // S3 takes paths as they are sent, where other services encode and tidy them again.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = session.credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(request.region)
        .name("s3")
        .time(time)
        .settings(settings)
        .build()
        .expect("all parts of a signature are given")
        .into();
    let headers =
        request.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(
        request.method.as_str(),
        request.url.as_str(),
        headers,
        SignableBody::Bytes(request.body),
    );
    let (instructions, _) = signable.and_then(|signable| sign(signable, &params)).ok()?.into_parts();
    let mut headers = HeaderMap::new();
    for (name, value) in instructions.headers() {
        let name: HeaderName = name.parse().expect("signatures are in known headers");
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_credential_types::Credentials;

    use super::*;

    /// Examples of "Authenticating Requests: Using the Authorization Header" (Amazon S3 API): without a body,
    /// and with one.
    #[test]
    fn signatures_are_those_of_amazons_examples() {
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
            None,
            "example",
        );
        let session = Session { credentials, provider: "example" };
        let mut headers = HeaderMap::new();
        headers.insert("range", HeaderValue::from_static("bytes=0-9"));
        let url = "https://examplebucket.s3.amazonaws.com/test.txt".parse().unwrap();
        let request =
            S3Request { method: &Method::GET, url: &url, headers: &headers, region: "us-east-1", body: &[] };
        // 2013-05-24T00:00:00Z.
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let signed = sign_s3(request, &session, time).unwrap();
        assert_eq!(
            signed["authorization"],
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("Fri, 24 May 2013 00:00:00 GMT"));
        headers.insert("x-amz-storage-class", HeaderValue::from_static("REDUCED_REDUNDANCY"));
        let url = "https://examplebucket.s3.amazonaws.com/test%24file.text".parse().unwrap();
        let body = b"Welcome to Amazon S3.";
        let request =
            S3Request { method: &Method::PUT, url: &url, headers: &headers, region: "us-east-1", body };
        let signed = sign_s3(request, &session, time).unwrap();
        assert_eq!(
            signed["authorization"],
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, \
             Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }
    #[test]
    fn what_no_header_can_hold_is_an_error() {
        let url = "https://examplebucket.s3.amazonaws.com/f".parse().unwrap();
        for (key, token, region) in [
            ("AKIA\n", None, "us-east-1"),
            ("AKIA", Some("token\n"), "us-east-1"),
            ("AKIA", None, "us-east-1\n"),
        ] {
            let credentials = Credentials::new(key, "planted", token.map(str::to_owned), None, "example");
            let session = Session { credentials, provider: "environment" };
            let headers = HeaderMap::new();
            let request = S3Request { method: &Method::GET, url: &url, headers: &headers, region, body: &[] };
            let error = sign_s3(request, &session, SystemTime::UNIX_EPOCH).unwrap_err().to_string();
            let expected = "no identity for AWS was found: environment: the access key, the session token or";
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
