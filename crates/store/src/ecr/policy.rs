//! The permissions that a push to ECR takes, as a policy of IAM.

use serde_json::{Value, json};

use super::{EcrHost, public::public_name};

/// What a policy shall allow besides pushing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PolicyOptions {
    /// To create repositories that are missing.
    pub creates: bool,
    /// To give them a lifecycle policy.
    pub sets_lifecycle: bool,
    /// To look at how repositories and the account are set up, so that a check beforehand can tell.
    pub describes: bool,
}

/// Push and pull of one image in one repository (ECR, "IAM permissions for pushing an image").
const PUSH: [&str; 7] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// Logging in to ECR Public ("Registry authentication"), and pushing there ("IAM permissions for pushing an
/// image"). Everybody may read what is there.
const PUBLIC_LOGIN: [&str; 2] = ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];
const PUBLIC_PUSH: [&str; 5] = [
    "ecr-public:BatchCheckLayerAvailability",
    "ecr-public:CompleteLayerUpload",
    "ecr-public:InitiateLayerUpload",
    "ecr-public:PutImage",
    "ecr-public:UploadLayerPart",
];

/// Reading an image, also to mount its layers (ECR, "IAM permissions for pulling an image").
const PULL: [&str; 3] =
    ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// The least that a push into `pushes` (registry and name of each) needs whose bases are in `pulls`, as
/// the JSON of a policy for IAM. An alias of ECR Public does not say whose account it is, so its repositories are
/// those of that name in any; to read from there nothing is needed.
///
/// ```
/// use ocib_store::{EcrHost, PolicyOptions, iam_policy};
/// let host: EcrHost = "123456789012/eu-west-1".parse()?;
/// let policy = iam_policy(&[(host, "team/app".to_owned())], &[], PolicyOptions::default());
/// assert!(policy.contains("arn:aws:ecr:eu-west-1:123456789012:repository/team/app"));
/// # Ok::<(), &'static str>(())
/// ```
pub fn iam_policy(
    pushes: &[(EcrHost, String)],
    pulls: &[(EcrHost, String)],
    options: PolicyOptions,
) -> String {
    let (public, private): (Vec<_>, Vec<_>) = pushes.iter().cloned().partition(|(host, _)| host.is_public());
    let (public, pushed) = (arns(&public), arns(&private));
    let mut pulled: Vec<_> = pulls.to_vec();
    pulled.retain(|(host, _)| !host.is_public());
    let mut pulled = arns(&pulled);
    pulled.retain(|arn| !pushed.contains(arn));
    let mut actions = PUSH.to_vec();
    actions.extend(options.creates.then_some("ecr:CreateRepository"));
    actions.extend(options.sets_lifecycle.then_some("ecr:PutLifecyclePolicy"));
    actions.extend(options.describes.then_some("ecr:DescribeRepositories"));
    actions.sort_unstable();
    // Neither can be limited to a repository.
    let is_private = !(pushed.is_empty() && pulled.is_empty());
    let mut everywhere: Vec<&str> = is_private.then_some("ecr:GetAuthorizationToken").into_iter().collect();
    everywhere.extend((is_private && options.describes).then_some("ecr:GetAccountSetting"));
    everywhere.extend(PUBLIC_LOGIN.into_iter().filter(|_| !public.is_empty()));
    let mut to_public = PUBLIC_PUSH.to_vec();
    to_public.extend(options.creates.then_some("ecr-public:CreateRepository"));
    to_public.sort_unstable();
    let mut statements = Vec::new();
    statements
        .extend((!everywhere.is_empty()).then(|| statement("OcibLogin", &everywhere, &["*".to_owned()])));
    // IAM refuses a statement without resources.
    statements.extend((!pushed.is_empty()).then(|| statement("OcibPush", &actions, &pushed)));
    statements.extend((!pulled.is_empty()).then(|| statement("OcibPull", &PULL, &pulled)));
    statements.extend((!public.is_empty()).then(|| statement("OcibPushPublic", &to_public, &public)));
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    format!("{policy:#}\n")
}

/// Names of the repositories, each once and in order.
fn arns(repositories: &[(EcrHost, String)]) -> Vec<String> {
    let mut arns: Vec<String> = repositories.iter().map(|(host, name)| arn(host, name)).collect();
    arns.sort();
    arns.dedup();
    arns
}

fn statement(name: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": name, "Effect": "Allow", "Action": actions, "Resource": resources })
}

fn arn(host: &EcrHost, repository: &str) -> String {
    if host.is_public() {
        return format!("arn:aws:ecr-public::*:repository/{}", public_name(repository));
    }
    format!("arn:{}:ecr:{}:{}:repository/{repository}", partition(&host.region), host.region, host.account)
}

/// The partition of a region (AWS, "Amazon Resource Names", and the SDKs' `partitions.json`).
fn partition(region: &str) -> &'static str {
    const STARTS: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-isob-", "aws-iso-b"),
        ("us-isof-", "aws-iso-f"),
        ("us-iso-", "aws-iso"),
        ("eu-isoe-", "aws-iso-e"),
        ("eusc-", "aws-eusc"),
    ];
    STARTS.iter().find(|(start, _)| region.starts_with(start)).map_or("aws", |(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(repositories: &[(&str, &str)], options: PolicyOptions) -> Value {
        let repositories: Vec<(EcrHost, String)> =
            repositories.iter().map(|(host, name)| (host.parse().unwrap(), (*name).to_owned())).collect();
        let policy: Value = serde_json::from_str(&iam_policy(&repositories, &[], options)).unwrap();
        policy["Statement"].clone()
    }

    #[test]
    fn the_least_for_a_push() {
        let actual = statements(&[("123456789012/eu-west-1", "team/app")], PolicyOptions::default());
        let expected = json!([
            {
                "Sid": "OcibLogin", "Effect": "Allow",
                "Action": ["ecr:GetAuthorizationToken"], "Resource": ["*"],
            },
            {
                "Sid": "OcibPush", "Effect": "Allow",
                "Action": [
                    "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload",
                    "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
                ],
                "Resource": ["arn:aws:ecr:eu-west-1:123456789012:repository/team/app"],
            },
        ]);
        assert_eq!(actual, expected);
    }

    #[test]
    fn ecr_public_has_actions_of_its_own() {
        let options = PolicyOptions { creates: true, ..PolicyOptions::default() };
        let expected = json!([
            {
                "Sid": "OcibLogin", "Effect": "Allow",
                "Action": ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"], "Resource": ["*"],
            },
            {
                "Sid": "OcibPushPublic", "Effect": "Allow",
                "Action": [
                    "ecr-public:BatchCheckLayerAvailability", "ecr-public:CompleteLayerUpload",
                    "ecr-public:CreateRepository", "ecr-public:InitiateLayerUpload", "ecr-public:PutImage",
                    "ecr-public:UploadLayerPart",
                ],
                "Resource": ["arn:aws:ecr-public::*:repository/team/app"],
            },
        ]);
        assert_eq!(statements(&[("public", "corp/team/app")], options), expected);
        let both = [("public", "corp/app"), ("123456789012/eu-west-1", "app")];
        let both = statements(&both, PolicyOptions::default());
        let logins =
            ["ecr:GetAuthorizationToken", "ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];
        assert_eq!(both[0]["Action"], json!(logins));
        assert_eq!(both.as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn more_only_when_asked() {
        let options = PolicyOptions { creates: true, sets_lifecycle: true, describes: true };
        let repositories = [
            ("123456789012/cn-north-1", "b"),
            ("123456789012/us-gov-west-1", "a"),
            ("123456789012/cn-north-1", "b"),
        ];
        let actual = statements(&repositories, options);
        assert_eq!(actual[0]["Action"], json!(["ecr:GetAuthorizationToken", "ecr:GetAccountSetting"]));
        let actions = actual[1]["Action"].as_array().unwrap();
        for more in ["ecr:CreateRepository", "ecr:DescribeRepositories", "ecr:PutLifecyclePolicy"] {
            assert!(actions.contains(&json!(more)), "{more}");
        }
        let arns = json!([
            "arn:aws-cn:ecr:cn-north-1:123456789012:repository/b",
            "arn:aws-us-gov:ecr:us-gov-west-1:123456789012:repository/a",
        ]);
        assert_eq!(actual[1]["Resource"], arns);
    }
}
