//! AWS's Signature Version 4, checked (IAM User Guide, "Create a signed AWS API request").

use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::refusal::Refusal;
use crate::http::{Incoming, compact, encoded, pairs, parse_compact};

/// A signed request, as far as the signature covers it.
#[derive(Clone, Debug)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// Names in lower case.
    pub(super) headers: &'a [(String, String)],
    pub(super) body: &'a [u8],
}

/// What the `Authorization` header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim<'a> {
    pub(super) access_key: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// `YYYYMMDD`
    day: &'a str,
    /// `YYYYMMDDTHHMMSSZ`
    time: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

/// The most by which a request's time and AWS's may differ.
const SKEW_MAX: Duration = Duration::from_secs(300);

impl<'a> Signed<'a> {
    pub(super) fn of(request: &'a Incoming<'_>, body: &'a [u8]) -> Self {
        let Incoming { method, path, query, headers, .. } = request;
        Self { method, path, query, headers, body }
    }

    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What the request claims. Whether that is true only a key's secret can tell.
    pub(super) fn claim(&self) -> Result<Claim<'a>, Refusal> {
        let missing =
            || Refusal::signature("MissingAuthenticationTokenException", "Missing Authentication Token");
        let header = self.header("authorization").ok_or_else(missing)?;
        let incomplete =
            || Refusal::signature("IncompleteSignatureException", format!("Malformed: {header}"));
        let fields = header.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(incomplete)?;
        let field = |name: &str| {
            let mut fields = fields.split(',').filter_map(|field| field.trim().split_once('='));
            fields.find(|(known, _)| *known == name).map(|(_, value)| value).ok_or_else(incomplete)
        };
        let scope: Vec<&str> = field("Credential")?.split('/').collect();
        let &[access_key, day, region, service, "aws4_request"] = scope.as_slice() else {
            return Err(incomplete());
        };
        let time = self.header("x-amz-date").ok_or_else(incomplete)?;
        let (signed_headers, signature) = (field("SignedHeaders")?, field("Signature")?);
        if !signed_headers.split(';').any(|name| name == "host") || !time.starts_with(day) {
            return Err(incomplete());
        }
        Ok(Claim { access_key, region, service, day, time, signed_headers, signature })
    }

    /// The signature that the owner of `secret` makes.
    fn signature(&self, claim: &Claim<'_>, secret: &str) -> String {
        let scope = format!("{}/{}/{}/aws4_request", claim.day, claim.region, claim.service);
        let canonical = self.canonical(claim.signed_headers);
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            claim.time,
            hex(&Sha256::digest(canonical.as_bytes()))
        );
        let parts = [claim.day, claim.region, claim.service, "aws4_request", &text];
        let first = format!("AWS4{secret}").into_bytes();
        hex(&parts.iter().fold(first, |key, part| hmac(&key, part.as_bytes()).to_vec()))
    }

    /// "Create a canonical request".
    fn canonical(&self, signed_headers: &str) -> String {
        let path: Vec<String> = self.path.split('/').map(encoded).collect();
        let mut query: Vec<(String, String)> = pairs(self.query);
        query.iter_mut().for_each(|(name, value)| (*name, *value) = (encoded(name), encoded(value)));
        query.sort();
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let header = |name: &str| {
            let values = self.headers.iter().filter(|(known, _)| known == name);
            let values = values.map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "));
            format!("{name}:{}\n", values.collect::<Vec<_>>().join(","))
        };
        let headers: String = signed_headers.split(';').map(header).collect();
        format!(
            "{}\n{}\n{}\n{headers}\n{signed_headers}\n{}",
            self.method,
            path.join("/"),
            query.join("&"),
            hex(&Sha256::digest(self.body))
        )
    }
}

impl Claim<'_> {
    /// Whether the request was signed with `secret`, for this service and region, about now. In this
    /// order; AWS's own is (U).
    pub(super) fn check(
        &self,
        signed: &Signed<'_>,
        secret: &str,
        service: &str,
        region: &str,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        let wrong = |message: String| Err(Refusal::signature("InvalidSignatureException", message));
        // aws-api#27, spinnaker#6967.
        if self.region != region {
            return wrong(format!("Credential should be scoped to a valid region, not '{}'. ", self.region));
        }
        if self.service != service {
            return wrong(format!("Credential should be scoped to correct service: '{service}'. "));
        }
        let Some(time) = parse_compact(self.time) else { return wrong(format!("Date {}", self.time)) };
        let (earliest, latest) = (now - SKEW_MAX, now + SKEW_MAX);
        let now = compact(now);
        if time < earliest {
            let (time, earliest) = (self.time, compact(earliest));
            return wrong(format!(
                "Signature expired: {time} is now earlier than {earliest} ({now} - 5 min.)"
            ));
        }
        if time > latest {
            let (time, latest) = (self.time, compact(latest));
            return wrong(format!(
                "Signature not yet current: {time} is still later than {latest} ({now} + 5 min.)"
            ));
        }
        if signed.signature(self, secret) != self.signature {
            return wrong(MISMATCH.to_owned());
        }
        Ok(())
    }
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your \
    AWS Secret Access Key and signing method. Consult the service documentation for details.";

/// RFC 2104 over SHA-256.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    const BLOCK_BYTES: usize = 64;
    let mut block = [0; BLOCK_BYTES];
    match key.len() {
        0..=BLOCK_BYTES => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn hmac_of_rfc_4231() {
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    /// `get-vanilla` of AWS's Signature Version 4 test suite.
    #[test]
    fn signature_of_the_test_suite() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = [
            header("host", "example.amazonaws.com"),
            header("x-amz-date", "20150830T123600Z"),
            header(
                "authorization",
                &format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature={signature}"
                ),
            ),
        ];
        let signed = Signed { method: "GET", path: "/", query: "", headers: &headers, body: b"" };
        let claim = signed.claim().unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let check = |secret: &str, region: &str, service: &str, now: SystemTime| {
            claim.check(&signed, secret, service, region, now)
        };
        assert_eq!(check(secret, "us-east-1", "service", now), Ok(()));
        let skewed = |seconds: i64| {
            let by = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { now - by } else { now + by }
        };
        for (secret, region, service, now, message) in [
            ("other", "us-east-1", "service", now, MISMATCH),
            (
                secret,
                "eu-west-1",
                "service",
                now,
                "Credential should be scoped to a valid region, not 'us-east-1'. ",
            ),
            (secret, "us-east-1", "ecr", now, "Credential should be scoped to correct service: 'ecr'. "),
            (
                secret,
                "us-east-1",
                "service",
                skewed(301),
                "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)",
            ),
            (
                secret,
                "us-east-1",
                "service",
                skewed(-301),
                "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z \
                 (20150830T123059Z + 5 min.)",
            ),
        ] {
            let expected = Refusal::signature("InvalidSignatureException", message);
            assert_eq!(check(secret, region, service, now), Err(expected));
        }
    }
}
