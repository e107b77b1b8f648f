//! Hosts of ECR: whose registry it is, and in which region.

use std::{fmt, str::FromStr};

/// A registry of ECR.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EcrHost {
    /// The account that owns it; `public` for ECR Public.
    pub account: String,
    /// Its region.
    pub region: String,
    /// Whether its host is the one with FIPS 140 cryptography.
    pub is_fips: bool,
    /// Whether its host is the one for IPv4 and IPv6.
    pub is_dual_stack: bool,
}

/// ECR Public.
const PUBLIC_HOST: &str = "public.ecr.aws";
/// The one region that mints its tokens and makes its repositories (AWS, "Amazon ECR Public registries").
pub(super) const PUBLIC_REGION: &str = "us-east-1";
pub(super) const PUBLIC_ACCOUNT: &str = "public";
/// Ends of hosts in all partitions (AWS's own credential helper, `api/client.go`): IPv4, then both.
const PLAIN_ENDS: [&str; 8] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
    "amazonaws-eusc.eu",
];
const DUAL_ENDS: [&str; 2] = ["on.aws", "on.amazonwebservices.com.cn"];

impl EcrHost {
    /// The registry that `host` names, in any partition, or `None` if it is not ECR's.
    ///
    /// ```
    /// use ocib_store::EcrHost;
    /// let host = EcrHost::of("123456789012.dkr.ecr.eu-west-1.amazonaws.com").map(|host| host.region);
    /// assert_eq!(host.as_deref(), Some("eu-west-1"));
    /// ```
    pub fn of(host: &str) -> Option<Self> {
        let host = host.strip_suffix(":443").unwrap_or(host);
        if host == PUBLIC_HOST {
            return Some(Self::plain(PUBLIC_ACCOUNT, PUBLIC_REGION));
        }
        let (account, rest) = host.split_once('.')?;
        let (service, rest, ends) = match rest.strip_prefix("dkr.") {
            Some(rest) => (rest.split_once('.')?.0, rest.split_once('.')?.1, &PLAIN_ENDS[..]),
            None => {
                let (service, rest) = rest.split_once('.')?;
                (service.strip_prefix("dkr-")?, rest, &DUAL_ENDS[..])
            }
        };
        let is_fips = match service {
            "ecr" => false,
            "ecr-fips" => true,
            _ => return None,
        };
        let (region, end) = rest.split_once('.')?;
        let is_right = is_account(account) && is_region(region) && ends.contains(&end);
        let is_dual_stack = ends == DUAL_ENDS;
        is_right.then(|| Self { is_fips, is_dual_stack, ..Self::plain(account, region) })
    }

    /// A name of the registry that says what it is, for [`crate::RegistriesOptions::known_as`]. Nobody may
    /// answer there: in which partition the region is does not matter.
    pub fn kind(&self) -> String {
        match self.is_public() {
            true => PUBLIC_HOST.to_owned(),
            false => format!("{}.dkr.ecr.{}.{}", self.account, self.region, PLAIN_ENDS[0]),
        }
    }

    /// Whether it is ECR Public.
    pub fn is_public(&self) -> bool {
        self.account == PUBLIC_ACCOUNT
    }

    fn plain(account: &str, region: &str) -> Self {
        Self { account: account.to_owned(), region: region.to_owned(), is_fips: false, is_dual_stack: false }
    }
}

impl fmt::Display for EcrHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.region)
    }
}

impl FromStr for EcrHost {
    type Err = &'static str;

    /// `ACCOUNT/REGION`, or `public`, for a host that does not say it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == PUBLIC_ACCOUNT {
            return Ok(Self::plain(PUBLIC_ACCOUNT, PUBLIC_REGION));
        }
        let (account, region) = text.split_once('/').unwrap_or_default();
        match is_account(account) && is_region(region) {
            true => Ok(Self::plain(account, region)),
            false => Err("expected ACCOUNT/REGION, such as 123456789012/eu-west-1, or public"),
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_region(text: &str) -> bool {
    text.contains('-') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_all_partitions() {
        let id = "123456789012";
        for (host, expected) in [
            (format!("{id}.dkr.ecr.eu-west-1.amazonaws.com"), Some(("eu-west-1", false, false))),
            (format!("{id}.dkr.ecr.eu-west-1.amazonaws.com:443"), Some(("eu-west-1", false, false))),
            (format!("{id}.dkr.ecr-fips.us-gov-west-1.amazonaws.com"), Some(("us-gov-west-1", true, false))),
            (format!("{id}.dkr.ecr.cn-north-1.amazonaws.com.cn"), Some(("cn-north-1", false, false))),
            (format!("{id}.dkr-ecr.eu-west-1.on.aws"), Some(("eu-west-1", false, true))),
            (format!("{id}.dkr-ecr-fips.us-east-1.on.aws"), Some(("us-east-1", true, true))),
            (
                format!("{id}.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn"),
                Some(("cn-north-1", false, true)),
            ),
            (format!("{id}.dkr.ecr.us-iso-east-1.c2s.ic.gov"), Some(("us-iso-east-1", false, false))),
            (format!("{id}.dkr.ecr.eusc-de-east-1.amazonaws.eu"), Some(("eusc-de-east-1", false, false))),
            (format!("{id}.dkr.ecr.eu-west-1.amazonaws.com.evil.example"), None),
            (format!("{id}.dkr.ecr.eu-west-1.on.aws"), None),
            (format!("{id}.dkr.s3.eu-west-1.amazonaws.com"), None),
            ("evil.dkr.ecr.eu-west-1.amazonaws.com".to_owned(), None),
            (format!("{id}.dkr.ecr.amazonaws.com"), None),
            ("public.ecr.aws".to_owned(), Some(("us-east-1", false, false))),
            ("ghcr.io".to_owned(), None),
            ("127.0.0.1:5000".to_owned(), None),
        ] {
            let actual = EcrHost::of(&host);
            let actual = actual.as_ref().map(|of| (of.region.as_str(), of.is_fips, of.is_dual_stack));
            assert_eq!(actual, expected, "{host}");
        }
    }

    #[test]
    fn hosts_that_are_declared() {
        for (text, expected) in [
            ("123456789012/eu-west-1", Some("123456789012/eu-west-1")),
            ("eu-west-1", None),
            ("1/eu-west-1", None),
            ("123456789012/", None),
            ("public", Some("public/us-east-1")),
        ] {
            let actual = text.parse::<EcrHost>().ok().map(|host| host.to_string());
            assert_eq!(actual.as_deref(), expected, "{text}");
        }
    }
}
