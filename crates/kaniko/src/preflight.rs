//! What would keep pods from running, found out beforehand and without making anything.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{LimitRange, Namespace, Node, PersistentVolumeClaim, ResourceQuota, Secret, ServiceAccount},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use ocib_image::Platform;

use crate::{
    claim::Claim,
    cluster::{Cluster, REQUEST, Refused, timed},
    context::ContextWay,
    ends::End,
    options::{Options, RegistryAccess},
    pod::architecture,
    quota::{self, Judged},
};

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How it is.
    pub state: Found,
}

/// How something is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// As it should be, and what was seen.
    Good(String),
    /// It will keep pods from running: how that would end, and what was seen.
    Bad(End, String),
    /// It cannot be found out, and why.
    Unknown(String),
}

/// What is done with which resource. With it a role can be written, and is checked.
pub const RIGHTS: [(&str, &str, &str, Need); 11] = [
    ("pods", "", "create", Need::Always),
    ("pods", "", "get", Need::Always),
    ("pods", "", "list", Need::Always),
    ("pods", "", "watch", Need::Always),
    ("pods", "", "delete", Need::Always),
    ("pods", "log", "get", Need::Always),
    ("pods", "attach", "get", Need::Attach),
    // From 1.35 on, also for WebSockets, which are a GET.
    ("pods", "attach", "create", Need::Attach),
    ("secrets", "", "create", Need::Secret),
    ("secrets", "", "delete", Need::Secret),
    ("events", "", "list", Need::Explaining),
];

/// When a right is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// For every job.
    Always,
    /// If contexts are sent to the pod itself.
    Attach,
    /// If ocib's own credentials are shared with the pod.
    Secret,
    /// Only to explain why a pod does not start.
    Explaining,
}

/// Looks at everything that pods for `platforms` need.
pub async fn check(cluster: &Cluster, options: &Options, platforms: &[Platform]) -> Vec<Finding> {
    let namespace = options.namespace.as_deref().unwrap_or(cluster.namespace());
    let mut findings = Vec::new();
    let server = timed(REQUEST, cluster.client.apiserver_version()).await;
    let what = format!("API server {}", cluster.server());
    match server {
        Ok(version) => findings.push(good(what, version.git_version)),
        Err(refused) => {
            findings.push(bad_of(what, &refused));
            return findings;
        }
    }
    findings.extend(rights(cluster, options, namespace).await);
    findings.push(pod_security(cluster, namespace).await);
    findings.extend(nodes(cluster, platforms).await);
    findings.extend(quotas(cluster, options, namespace).await);
    findings.extend(named(cluster, options, namespace).await);
    findings.extend(context(cluster, options, namespace).await);
    findings
}

fn good(what: impl Into<String>, seen: impl Into<String>) -> Finding {
    Finding { what: what.into(), state: Found::Good(seen.into()) }
}

fn bad(what: impl Into<String>, end: End, seen: impl Into<String>) -> Finding {
    Finding { what: what.into(), state: Found::Bad(end, seen.into()) }
}

fn unknown(what: impl Into<String>, why: impl Into<String>) -> Finding {
    Finding { what: what.into(), state: Found::Unknown(why.into()) }
}

fn bad_of(what: String, refused: &Refused) -> Finding {
    let (end, said) = refused.end();
    bad(what, end, said)
}

async fn rights(cluster: &Cluster, options: &Options, namespace: &str) -> Vec<Finding> {
    let (mut allowed, mut findings) = (Vec::new(), Vec::new());
    for (resource, subresource, verb, need) in RIGHTS {
        let is_needed = match need {
            Need::Always | Need::Explaining => true,
            Need::Attach => matches!(options.context, ContextWay::Attach),
            Need::Secret => matches!(options.registry, RegistryAccess::Shared { .. }),
        };
        if !is_needed {
            continue;
        }
        let name = match subresource {
            "" => resource.to_owned(),
            subresource => format!("{resource}/{subresource}"),
        };
        let what = format!("right to {verb} {name} in {namespace}");
        match may(cluster, namespace, resource, subresource, verb).await {
            Ok(true) => allowed.push(format!("{verb} {name}")),
            Ok(false) if need == Need::Explaining => {
                findings.push(unknown(what, "without it pods that do not start are explained less well"));
            }
            Ok(false) => findings.push(bad(what, End::Forbidden, format!("{verb} {name}"))),
            Err(refused) => findings.push(unknown(what, refused.error().message)),
        }
    }
    if !allowed.is_empty() {
        findings.insert(0, good(format!("rights in {namespace}"), allowed.join(", ")));
    }
    findings
}

async fn may(
    cluster: &Cluster,
    namespace: &str,
    resource: &str,
    subresource: &str,
    verb: &str,
) -> Result<bool, Refused> {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: (!subresource.is_empty()).then(|| subresource.to_owned()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let answer = timed(REQUEST, reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// The executor is root in its container, which the level `restricted` refuses.
async fn pod_security(cluster: &Cluster, namespace: &str) -> Finding {
    let what = format!("pod security of {namespace}");
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    match timed(REQUEST, namespaces.get(namespace)).await {
        Ok(found) => {
            let labels = found.metadata.labels.unwrap_or_default();
            match labels.get("pod-security.kubernetes.io/enforce").map(String::as_str) {
                Some("restricted") => bad(what, End::PodSecurity, "it enforces the level restricted"),
                Some(level) => good(what, format!("it enforces the level {level}; baseline is needed")),
                None => good(what, "no level is enforced by labels; baseline is needed"),
            }
        }
        Err(refused) if refused.is_not_found() => bad_of(what, &refused),
        Err(_) => unknown(what, "namespaces cannot be read; baseline is needed"),
    }
}

async fn nodes(cluster: &Cluster, platforms: &[Platform]) -> Vec<Finding> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let wanted: BTreeSet<String> = platforms.iter().map(architecture).collect();
    let what = |architecture: &str| format!("nodes of {architecture}");
    let listed = match timed(REQUEST, nodes.list(&ListParams::default())).await {
        Ok(listed) => listed.items,
        Err(refused) => {
            let why = refused.error().message;
            return wanted.iter().map(|wanted| unknown(what(wanted), why.clone())).collect();
        }
    };
    let count = |wanted: &str| {
        let fits = |node: &&Node| {
            let label = node.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/arch"));
            let is_open = node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true));
            label.is_some_and(|label| label == wanted) && is_open
        };
        listed.iter().filter(fits).count()
    };
    let find = |wanted: &String| match count(wanted) {
        // An autoscaler may add one when a pod asks for it.
        0 => bad(what(wanted), End::NoArchitecture, format!("none of {} nodes", listed.len())),
        count => good(what(wanted), format!("{count} of {}", listed.len())),
    };
    wanted.iter().map(find).collect()
}

async fn quotas(cluster: &Cluster, options: &Options, namespace: &str) -> Vec<Finding> {
    let quotas: Api<ResourceQuota> = Api::namespaced(cluster.client.clone(), namespace);
    let what = format!("quotas of {namespace}");
    let quotas = match timed(REQUEST, quotas.list(&ListParams::default())).await {
        Ok(listed) => listed.items,
        Err(refused) => return vec![unknown(what, refused.error().message)],
    };
    let ranges: Api<LimitRange> = Api::namespaced(cluster.client.clone(), namespace);
    let ranges = timed(REQUEST, ranges.list(&ListParams::default())).await;
    let known = ranges.as_ref().map(|listed| listed.items.as_slice()).unwrap_or_default();
    vec![match quota::judge(options, &quotas, known) {
        Judged::Fits if quotas.is_empty() => good(what, "none"),
        Judged::Fits => good(what, format!("{}, with room for a pod", quotas.len())),
        Judged::Refused(why) if ranges.is_err() && why.iter().all(|why| why.ends_with("must be named")) => {
            unknown(what, format!("{}, unless a LimitRange does, and those cannot be read", why.join(", ")))
        }
        Judged::Refused(why) => bad(what, End::Quota, why.join(", ")),
    }]
}

/// Where contexts are put, if that is neither the registry nor the pod itself.
async fn context(cluster: &Cluster, options: &Options, namespace: &str) -> Vec<Finding> {
    let put = |what: String, checked: Result<String, ocib_image::PlaceError>| match checked {
        Ok(seen) => good(what, seen),
        Err(error) => bad(what, End::ContextPut, error.to_string()),
    };
    match &options.context {
        ContextWay::Registry | ContextWay::Attach => Vec::new(),
        ContextWay::Store(store) => vec![put("place of contexts".to_owned(), store.check().await)],
        ContextWay::Claim(claim) => {
            let seen = format!("{} takes files", claim.directory().display());
            let checked = claim.check().await.map(|()| seen);
            vec![
                volume(cluster, claim, namespace).await,
                put(format!("volume of the claim {} here", claim.name()), checked),
            ]
        }
    }
}

/// Whether pods on any node can mount the claim while this program does.
async fn volume(cluster: &Cluster, claim: &Claim, namespace: &str) -> Finding {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client.clone(), namespace);
    let what = format!("persistent volume claim {namespace}/{}", claim.name());
    let found = match timed(REQUEST, claims.get(claim.name())).await {
        Ok(found) => found,
        Err(refused) if refused.is_not_found() => return bad(what, End::Volume, "it does not exist"),
        Err(refused) => return unknown(what, refused.error().message),
    };
    let modes = found.spec.and_then(|spec| spec.access_modes).unwrap_or_default();
    let has = |mode: &str| modes.iter().any(|known| known == mode);
    match () {
        () if has("ReadWriteMany") => good(what, "ReadWriteMany: pods of every node can mount it"),
        () if has("ReadWriteOnce") => unknown(
            what,
            "ReadWriteOnce: only pods on the node that ocib runs on can mount it; ReadWriteMany is needed for others",
        ),
        () => bad(what, End::Volume, format!("{}, expected ReadWriteMany", modes.join(", "))),
    }
}

/// Objects that the options name.
async fn named(cluster: &Cluster, options: &Options, namespace: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let secrets: Api<Secret> = cluster.secrets(namespace);
    let registry = match &options.registry {
        RegistryAccess::Named(name) => Some(name),
        _ => None,
    };
    for name in registry.into_iter().chain(&options.pull_secrets) {
        let what = format!("secret {namespace}/{name}");
        findings.push(match timed(REQUEST, secrets.get_metadata(name)).await {
            Ok(_) => good(what, "it is there"),
            Err(refused) if refused.is_not_found() => bad(what, End::Volume, "it does not exist"),
            Err(_) => unknown(what, "secrets cannot be read, which is as it should be"),
        });
    }
    if let Some(name) = &options.service_account {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), namespace);
        let what = format!("service account {namespace}/{name}");
        findings.push(match timed(REQUEST, accounts.get_metadata(name)).await {
            Ok(_) => good(what, "it is there"),
            Err(refused) if refused.is_not_found() => {
                bad(what, End::ServiceAccountMissing, "it does not exist")
            }
            Err(refused) => unknown(what, refused.error().message),
        });
    }
    findings
}
