//! What AWS says when a permission is missing.

use ocib_net::printable;

/// A permission that is missing, in AWS's own words (IAM, "Troubleshoot access denied errors").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IamDenial {
    /// The action, such as `ecr:PutImage`.
    pub action: String,
    /// The ARN of whoever lacks it, if AWS names it.
    pub identity: Option<String>,
    /// The ARN of what it would have been done to, if AWS names it.
    pub resource: Option<String>,
}

/// ARNs have at most 2048 characters.
const NAME_CHARS: usize = 2048;

impl IamDenial {
    /// Finds a denial in `text`, which may be any message of AWS.
    ///
    /// ```
    /// use ocib_store::IamDenial;
    /// let text = "User: arn:aws:iam::1:user/u is not authorized to perform: ecr:PutImage on resource: *";
    /// assert_eq!(IamDenial::parse(text).map(|denial| denial.action), Some("ecr:PutImage".to_owned()));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let at = lower.find("not authorized to perform")?;
        let rest = text[at + "not authorized to perform".len()..].trim_start_matches(':');
        let action = word(rest).filter(|action| action.contains(':'))?;
        let identity = lower[..at].rfind("user: ").and_then(|start| word(&text[start + "user: ".len()..at]));
        let resource = lower.find("on resource: ").and_then(|at| word(&text[at + "on resource: ".len()..]));
        Some(Self { action, identity, resource })
    }
}

fn word(text: &str) -> Option<String> {
    let word = text.split_whitespace().next()?.trim_end_matches([',', ';', '.']);
    (!word.is_empty()).then(|| printable(word.as_bytes(), NAME_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_aws() {
        let role = "arn:aws:sts::123456789012:assumed-role/builder/pod";
        let repository = "arn:aws:ecr:eu-west-1:123456789012:repository/team/app";
        let long = format!(
            "User: {role} is not authorized to perform: ecr:InitiateLayerUpload on resource: {repository} because no \
             identity-based policy allows the ecr:InitiateLayerUpload action"
        );
        for (text, expected) in [
            (long.as_str(), Some(("ecr:InitiateLayerUpload", Some(role), Some(repository)))),
            (
                "User: arn:x is not authorized to perform: ecr:GetAuthorizationToken on resource: * with an explicit \
                 deny in a service control policy",
                Some(("ecr:GetAuthorizationToken", Some("arn:x"), Some("*"))),
            ),
            (
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
                Some(("sts:AssumeRoleWithWebIdentity", None, None)),
            ),
            ("User: arn:x is not authorized to perform this", None),
            ("User: arn:x is not authorized to perform:", None),
            ("denied", None),
        ] {
            let actual = IamDenial::parse(text);
            let actual = actual.as_ref().map(|denial| {
                (denial.action.as_str(), denial.identity.as_deref(), denial.resource.as_deref())
            });
            assert_eq!(actual, expected, "{text}");
        }
    }
}
