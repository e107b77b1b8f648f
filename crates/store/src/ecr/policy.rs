//! The permissions that a push to ECR takes, as a policy of IAM.

use serde_json::{Value, json};

use super::EcrHost;

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

/// The least that `repositories` (registry and name of each) need, as the JSON of a policy for IAM.
/// Repositories of ECR Public are left out: its actions are others.
///
/// ```
/// use ocib_store::{EcrHost, PolicyOptions, iam_policy};
/// let host: EcrHost = "123456789012/eu-west-1".parse()?;
/// let policy = iam_policy(&[(host, "team/app".to_owned())], PolicyOptions::default());
/// assert!(policy.contains("arn:aws:ecr:eu-west-1:123456789012:repository/team/app"));
/// # Ok::<(), &'static str>(())
/// ```
pub fn iam_policy(repositories: &[(EcrHost, String)], options: PolicyOptions) -> String {
    let mut arns: Vec<String> = repositories
        .iter()
        .filter(|(host, _)| !host.is_public())
        .map(|(host, name)| arn(host, name))
        .collect();
    arns.sort();
    arns.dedup();
    let mut actions = PUSH.to_vec();
    actions.extend(options.creates.then_some("ecr:CreateRepository"));
    actions.extend(options.sets_lifecycle.then_some("ecr:PutLifecyclePolicy"));
    actions.extend(options.describes.then_some("ecr:DescribeRepositories"));
    actions.sort_unstable();
    // Neither can be limited to a repository.
    let mut everywhere = vec!["ecr:GetAuthorizationToken"];
    everywhere.extend(options.describes.then_some("ecr:GetAccountSetting"));
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [
            statement("OcibLogin", &everywhere, &["*".to_owned()]),
            statement("OcibPush", &actions, &arns),
        ],
    });
    format!("{policy:#}\n")
}

fn statement(name: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": name, "Effect": "Allow", "Action": actions, "Resource": resources })
}

fn arn(host: &EcrHost, repository: &str) -> String {
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
        let policy: Value = serde_json::from_str(&iam_policy(&repositories, options)).unwrap();
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
