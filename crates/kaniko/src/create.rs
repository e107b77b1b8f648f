//! Making a pod, and knowing whether it was made.

use std::time::{Duration, Instant};

use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    api::{ObjectMeta, PostParams},
    core::Request,
};
use ocib_image::RunError;
use serde_json::Value;

use crate::{
    cluster::{Cluster, REQUEST, Refused, timed},
    ends::End,
    options::Patience,
    pod::{BUILD_LABEL, MANAGED_BY, Names},
};

const PAUSE: Duration = Duration::from_millis(500);

/// A pod that is to be made.
pub(crate) struct Creation<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) names: &'a Names,
    pub(crate) pod: &'a Value,
    pub(crate) patience: &'a Patience,
    /// Whether such a pod could be made before: a server that forbids it now may just have been started anew.
    pub(crate) is_again: bool,
}

/// Why there is no pod, or none that is known of.
pub(crate) struct NotCreated {
    pub(crate) error: RunError,
    pub(crate) may_be_there: bool,
}

impl Creation<'_> {
    /// Creates the pod, and returns its uid. An answer that is lost, or an "already exists" after one, is no
    /// reason to make another: names are ours alone, so the label of this run tells whether the pod that is
    /// there is ours. An error says whether the pod may have been made all the same.
    pub(crate) async fn create(&self) -> Result<String, NotCreated> {
        let Self { cluster, names, .. } = self;
        let may_pass = |refused: &Refused| refused.is_passing() || self.is_again && refused.is_denial();
        let begun = Instant::now();
        let mut may_be_there = false;
        let not_created = |error, may_be_there| NotCreated { error, may_be_there };
        loop {
            let refused = match timed(REQUEST, post(cluster, names, self.pod)).await {
                Ok(pod) => return Ok(pod.metadata.uid.unwrap_or_default()),
                Err(refused) if may_pass(&refused) || refused.is_conflict() => refused,
                Err(refused) => return Err(not_created(refused.error(), may_be_there)),
            };
            // One that was refused was not made.
            may_be_there |= refused.is_passing();
            match timed(REQUEST, cluster.pods(&names.namespace).get_opt(&names.name)).await {
                Ok(Some(pod)) if is_ours(&pod, names) => return Ok(pod.metadata.uid.unwrap_or_default()),
                Ok(Some(_)) => return Err(not_created(End::NameTaken.error(&names.name), may_be_there)),
                // A conflict that is not about the name: of a quota, for one.
                Ok(None) => {}
                Err(refused) if may_pass(&refused) => {}
                Err(refused) => return Err(not_created(refused.error(), may_be_there)),
            }
            if begun.elapsed() > self.patience.api {
                return Err(not_created(refused.error(), may_be_there));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The pod is sent as it is: fields of a patch that this program does not know reach the server, which
/// refuses those that it does not know either (from 1.25 on).
async fn post(cluster: &Cluster, names: &Names, pod: &Value) -> Result<Pod, kube::Error> {
    let request = Request::new(format!("/api/v1/namespaces/{}/pods", names.namespace));
    let request = request.create(&PostParams::default(), pod.to_string().into_bytes());
    let mut request = request.map_err(kube::Error::BuildRequest)?;
    let strict = format!("{}?fieldValidation=Strict", request.uri().path());
    *request.uri_mut() = strict.parse().expect("a path with a query");
    cluster.client.request(request).await
}

pub(crate) fn is_ours(pod: &Pod, names: &Names) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(BUILD_LABEL)).is_some_and(|build| *build == names.build)
}

/// Creates the secret that the pod waits for. The pod owns it from its first moment on, so it never
/// outlives the pod, whatever becomes of this program.
pub(crate) async fn create_secret(
    cluster: &Cluster,
    names: &Names,
    uid: &str,
    config_json: &str,
) -> Result<(), RunError> {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(names.name.clone()),
            namespace: Some(names.namespace.clone()),
            labels: Some(
                [
                    (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned()),
                    (BUILD_LABEL.to_owned(), names.build.clone()),
                ]
                .into(),
            ),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: names.name.clone(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        data: Some([(".dockerconfigjson".to_owned(), ByteString(config_json.as_bytes().to_vec()))].into()),
        ..Secret::default()
    };
    let secrets = cluster.secrets(&names.namespace);
    let mut refused = Refused::Passing(String::new());
    for _ in 0..3 {
        match timed(REQUEST, secrets.create(&PostParams::default(), &secret)).await {
            Ok(_) => return Ok(()),
            // Ours, by an answer that was lost: the name is the pod's, which is ours.
            Err(refused) if refused.is_conflict() => return Ok(()),
            Err(passing @ Refused::Passing(_)) => refused = passing,
            Err(refused) => return Err(refused.error()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(refused.error())
}
