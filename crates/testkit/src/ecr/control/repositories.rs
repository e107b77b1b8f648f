//! Repositories and their lifecycle policies (ECR API Reference, the operations' pages).

use serde_json::{Value, json};

use super::Call;
use crate::{
    ecr::{
        EcrRepository,
        refusal::Refusal,
        repository::{Repository, seconds},
    },
    http::locked,
};

/// Length of a lifecycle policy's text (PutLifecyclePolicy).
const POLICY_BYTES: std::ops::RangeInclusive<usize> = 100..=30_720;

impl Call<'_> {
    pub(super) fn describe_repositories(&self) -> Result<Value, Refusal> {
        let names = self.texts("repositoryNames");
        let repositories = locked(&self.world.repositories);
        let describe = |repository: &Repository| repository.describe(&self.world.options, self.host);
        let described: Vec<Value> = match names.is_empty() {
            true => repositories.values().map(describe).collect(),
            false => {
                let find = |name: &&str| {
                    let missing = || Refusal::no_repository(name, self.account());
                    repositories.get(*name).map(describe).ok_or_else(missing)
                };
                names.iter().map(find).collect::<Result<_, _>>()?
            }
        };
        Ok(json!({"repositories": described}))
    }

    pub(super) fn create_repository(&self) -> Result<Value, Refusal> {
        let mut settings = self.settings()?;
        settings.name = self.world.options.path(&settings.name);
        let mut repositories = locked(&self.world.repositories);
        if repositories.contains_key(&settings.name) {
            return Err(Refusal::repository_exists(&settings.name, self.account()));
        }
        let repository = Repository::new(settings, self.world.now());
        let described = repository.describe(&self.world.options, self.host);
        repositories.insert(repository.settings.name.clone(), repository);
        Ok(json!({"repository": described}))
    }

    fn settings(&self) -> Result<EcrRepository, Refusal> {
        let name = self.repository()?;
        if !is_name(name) {
            let pattern = "must satisfy regular expression \
                           '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*'";
            return Err(Refusal::parameter("repositoryName", pattern));
        }
        let filters = self.arguments["imageTagMutabilityExclusionFilters"].as_array();
        let filters = filters.into_iter().flatten().filter_map(|filter| filter["filter"].as_str());
        let mutable_tags: Vec<String> = filters.map(ToOwned::to_owned).collect();
        let immutable = match (self.arguments["imageTagMutability"].as_str(), mutable_tags.is_empty()) {
            (None | Some("MUTABLE"), true) => false,
            (Some("IMMUTABLE"), true) | (Some("IMMUTABLE_WITH_EXCLUSION"), false) => true,
            _ => return Err(Refusal::parameter("imageTagMutability", "must fit the exclusion filters")),
        };
        let encryption = &self.arguments["encryptionConfiguration"];
        let kms_key = match (encryption["encryptionType"].as_str(), encryption["kmsKey"].as_str()) {
            (None | Some("AES256"), None) => None,
            (Some("KMS"), Some(key)) => Some(key.to_owned()),
            // CreateRepository: without a key it is AWS's own.
            (Some("KMS"), None) => {
                let options = &self.world.options;
                let (partition, region) = (options.partition(), &options.region);
                Some(format!("arn:{partition}:kms:{region}:{}:alias/aws/ecr", options.account))
            }
            _ => {
                return Err(Refusal::parameter(
                    "encryptionConfiguration",
                    "must be AES256 or KMS with a key",
                ));
            }
        };
        let scan_on_push = self.arguments["imageScanningConfiguration"]["scanOnPush"] == true;
        Ok(EcrRepository { name: name.to_owned(), immutable, mutable_tags, kms_key, scan_on_push })
    }

    pub(super) fn lifecycle_policy(&self) -> Result<Value, Refusal> {
        let name = self.repository()?;
        let now = seconds(self.world.now());
        self.world.with_repository(name, |repository| {
            let missing = || Refusal::no_lifecycle_policy(name, self.account());
            let text = repository.lifecycle_policy.as_ref().ok_or_else(missing)?;
            let mut answer = self.policy_answer(name, text);
            answer["lastEvaluatedAt"] = now.into();
            Ok(answer)
        })
    }

    pub(super) fn put_lifecycle_policy(&self) -> Result<Value, Refusal> {
        let (name, text) = (self.repository()?, self.text("lifecyclePolicyText")?);
        let is_policy = serde_json::from_str::<Value>(text)
            .is_ok_and(|policy| policy["rules"].as_array().is_some_and(|rules| !rules.is_empty()));
        if !POLICY_BYTES.contains(&text.len()) || !is_policy {
            // (U) Text.
            return Err(Refusal::parameter("LifecyclePolicyText", "Lifecycle policy validation failure"));
        }
        self.world.with_repository(name, |repository| {
            repository.lifecycle_policy = Some(text.to_owned());
            Ok(self.policy_answer(name, text))
        })
    }

    fn policy_answer(&self, name: &str, text: &str) -> Value {
        json!({"registryId": self.account(), "repositoryName": name, "lifecyclePolicyText": text})
    }
}

/// Whether a name fits CreateRepository's pattern and length.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part =
        |part: &str| part.split(['.', '_', '-']).all(|word| !word.is_empty() && word.bytes().all(is_plain));
    (2..=256).contains(&name.len()) && name.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, expected) in [
            ("team/model-1.0_a", true),
            ("a", false),
            ("Team", false),
            ("a//b", false),
            ("a--b", false),
            ("-a", false),
            ("a/", false),
        ] {
            assert_eq!(is_name(name), expected, "{name}");
        }
    }
}
