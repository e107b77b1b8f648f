//! How pods are made and how long they are waited for.

use std::{collections::BTreeMap, time::Duration};

use ocib_image::{Reference, Secret};
use serde_json::Value;

use crate::context::ContextWay;

/// The maintained fork of Kaniko, whose flags are a superset of those used here.
pub const DEFAULT_IMAGE: &str = "ghcr.io/osscontainertools/kaniko:v1.28.3";

/// How a job is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace; the kubeconfig's or the pod's own if nothing is named.
    pub namespace: Option<String>,
    /// The executor's image, as the nodes pull it.
    pub image: String,
    /// Secrets of the namespace with which the nodes pull it.
    pub pull_secrets: Vec<String>,
    /// How the executor proves who it is to registries.
    pub registry: RegistryAccess,
    /// The service account of the pod. Its token is only mounted if one is named.
    pub service_account: Option<String>,
    /// How the files that a job copies get there.
    pub context: ContextWay,
    /// What the container asks for besides what is computed, such as `cpu` → `2`.
    pub requests: BTreeMap<String, String>,
    /// What the container may use at most.
    pub limits: BTreeMap<String, String>,
    /// Labels that nodes must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pod does not mind.
    pub tolerations: Vec<Toleration>,
    /// Labels of the pod besides ocib's own.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod besides ocib's own.
    pub annotations: BTreeMap<String, String>,
    /// A strategic merge patch of the pod.
    pub patch: Option<Value>,
    /// A repository for Kaniko's own cache of layers, if it shall be used.
    pub cache: Option<Reference>,
    /// More arguments for the executor.
    pub arguments: Vec<String>,
    /// Certificates, as PEM, that the executor shall trust besides its own.
    pub ca_bundle: Option<String>,
    /// Hosts of registries that are spoken to over plain HTTP or with a certificate that is not verified.
    pub insecure_hosts: Vec<String>,
    /// Whether pods stay when they have ended, for whoever looks into them.
    pub keep: bool,
    /// How long everything may take.
    pub patience: Patience,
}

/// How the executor proves who it is to registries. Whatever it holds, a RUN can read.
#[derive(Clone, Default, Debug)]
pub enum RegistryAccess {
    /// By nothing, by its service account, or by what the node has.
    #[default]
    Ambient,
    /// By a secret of the namespace of the type `kubernetes.io/dockerconfigjson`.
    Named(String),
    /// By this `config.json`, put into a secret that the pod owns and that goes with it.
    Shared {
        /// The file's content.
        config_json: Secret,
        /// What must not show up in any output: the passwords and tokens within.
        secrets: Vec<Secret>,
    },
}

/// A taint that the pod does not mind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toleration {
    /// Its key.
    pub key: String,
    /// Its value; any if there is none.
    pub value: Option<String>,
    /// Its effect, such as `NoSchedule`; any if there is none.
    pub effect: Option<String>,
}

impl std::str::FromStr for Toleration {
    type Err = String;

    /// Reads `KEY[=VALUE][:EFFECT]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, effect) = match text.rsplit_once(':') {
            Some((rest, effect)) => (rest, Some(effect.to_owned())),
            None => (text, None),
        };
        const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if effect.as_ref().is_some_and(|effect| !EFFECTS.contains(&effect.as_str())) {
            return Err(format!("{text:?}: expected an effect of {}", EFFECTS.join(", ")));
        }
        let (key, value) = match rest.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (rest, None),
        };
        match key.is_empty() {
            true => Err(format!("{text:?}: expected KEY[=VALUE][:EFFECT]")),
            false => Ok(Self { key: key.to_owned(), value, effect }),
        }
    }
}

/// How long is waited for what. None of it is how long a build may take but [`Patience::deadline`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// The pod's own deadline, which the cluster keeps also when nobody watches any more.
    pub deadline: Duration,
    /// Until a node takes the pod.
    pub schedule: Duration,
    /// From there until the container runs, while its image is pulled and volumes are mounted.
    pub start: Duration,
    /// For errors that pass by themselves as often as not: an image that cannot be pulled, a secret that
    /// is not there yet.
    pub retry: Duration,
    /// For an API server that does not answer.
    pub api: Duration,
    /// For an executor that does not take the context.
    pub stall: Duration,
    /// For what is known to come within moments: the reason of an end, the last lines, a pod's removal.
    pub settle: Duration,
    /// How long a watch may be silent before the pod is asked for.
    pub relist: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(3600),
            schedule: Duration::from_secs(300),
            start: Duration::from_secs(600),
            retry: Duration::from_secs(60),
            api: Duration::from_secs(60),
            stall: Duration::from_secs(120),
            settle: Duration::from_secs(15),
            relist: Duration::from_secs(30),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: None,
            image: DEFAULT_IMAGE.to_owned(),
            pull_secrets: Vec::new(),
            registry: RegistryAccess::default(),
            service_account: None,
            context: ContextWay::default(),
            requests: BTreeMap::new(),
            limits: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            patch: None,
            cache: None,
            arguments: Vec::new(),
            ca_bundle: None,
            insecure_hosts: Vec::new(),
            keep: false,
            patience: Patience::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations() {
        let toleration = |key: &str, value: Option<&str>, effect: Option<&str>| Toleration {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            effect: effect.map(str::to_owned),
        };
        for (text, expected) in [
            ("spot", Ok(toleration("spot", None, None))),
            ("spot=true", Ok(toleration("spot", Some("true"), None))),
            ("a/b=c:NoSchedule", Ok(toleration("a/b", Some("c"), Some("NoSchedule")))),
            ("a:NoExecute", Ok(toleration("a", None, Some("NoExecute")))),
            ("=x", Err(r#""=x": expected KEY[=VALUE][:EFFECT]"#.to_owned())),
            (
                "a:Never",
                Err(r#""a:Never": expected an effect of NoSchedule, PreferNoSchedule, NoExecute"#.to_owned()),
            ),
        ] {
            assert_eq!(text.parse::<Toleration>(), expected, "{text}");
        }
    }
}
