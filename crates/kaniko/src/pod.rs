//! The pod of a job: a pure function of the job and the options.

use std::collections::BTreeMap;

use ocib_image::{Platform, RunError, RunJob};
use serde_json::{Map, Value, json};

use crate::{
    claim::ARCHIVE,
    context::{ContextAt, ContextUrl},
    ends::End,
    options::{Options, RegistryAccess, Toleration},
    patch,
};

/// The container that runs the executor. Others, such as a service mesh's, are none of our business.
pub(crate) const CONTAINER: &str = "kaniko";
/// The label that all pods of ocib have, and its value.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "ocib");
/// The label that tells the pods of one run of ocib from all others.
pub(crate) const BUILD_LABEL: &str = "io.github.ocib/build";
/// The annotation that says what the pod builds.
pub(crate) const TITLE: &str = "io.github.ocib/title";
const DOCKERFILE: &str = "io.github.ocib/dockerfile";
const CA_BUNDLE: &str = "io.github.ocib/ca-bundle";

/// All annotations of an object together (apimachinery, `TotalAnnotationSizeLimitB`).
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
/// Where the executor finds what the pod brings. Kaniko leaves mounts out of images, and `/kaniko` anyway.
const JOB_DIRECTORY: &str = "/kaniko/ocib";
/// Where it finds a context that lies on a volume.
const CONTEXT_DIRECTORY: &str = "/kaniko/ocib-context";
/// What `chown`, `chmod`, package managers and unpacking layers with any owner, mode or file capability
/// need. Without the first five Kaniko itself fails; all are of Pod Security's level `baseline`.
const CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETUID",
    "SYS_CHROOT",
];
/// A finished executor needs no time to say goodbye, and one that is deleted has nothing to save.
const GRACE_SECONDS: u64 = 1;
/// What RUNs make, and their layers, come on top of what is known beforehand.
const DISK_HEADROOM_BYTES: u64 = 2 << 30;

/// What the objects of one job are called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    /// The pod's name, and its secret's.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The value of the label that tells this run of ocib from others.
    pub build: String,
    /// The pod that ocib itself runs in, whose end shall end this one.
    pub owner: Option<Owner>,
}

/// A pod that owns others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The pod that builds `job`, whose context is at `context`, as JSON. Fails if the Dockerfile is too large or a
/// patch does not fit.
pub fn pod(job: &RunJob, context: &ContextAt, options: &Options, names: &Names) -> Result<Value, RunError> {
    let annotations = annotations(job, options)?;
    let mut metadata = json!({
        "name": names.name,
        "namespace": names.namespace,
        "labels": labels(job, options, names),
        "annotations": annotations,
    });
    if let Some(owner) = &names.owner {
        metadata["ownerReferences"] =
            json!([{ "apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid }]);
    }
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec(job, context, options, names),
    });
    let pod = match &options.patch {
        Some(patch) => patch::merged(pod, patch).map_err(|why| End::Patch.error(why))?,
        None => pod,
    };
    // A pod without its names could not be found again.
    for (path, wanted) in [
        ("/metadata/name", &names.name),
        ("/metadata/namespace", &names.namespace),
        ("/metadata/labels/io.github.ocib~1build", &names.build),
    ] {
        if pod.pointer(path).and_then(Value::as_str) != Some(wanted) {
            return Err(End::Patch.error(format!("it changes {path}, which ocib needs")));
        }
    }
    Ok(pod)
}

fn labels(job: &RunJob, options: &Options, names: &Names) -> Value {
    let mut labels = Map::new();
    labels.extend(options.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    labels.insert("app.kubernetes.io/name".to_owned(), "ocib-run".into());
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.into());
    labels.insert(BUILD_LABEL.to_owned(), names.build.as_str().into());
    // Values of labels have 63 characters at most.
    labels.insert("io.github.ocib/key".to_owned(), job.key.hex()[..40].into());
    labels.into()
}

fn annotations(job: &RunJob, options: &Options) -> Result<Value, RunError> {
    let mut annotations = Map::new();
    // Where a service mesh or an autoscaler would otherwise keep the pod from ending, or end it.
    for (name, value) in [
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
        ("karpenter.sh/do-not-disrupt", "true"),
        ("linkerd.io/inject", "disabled"),
        ("sidecar.istio.io/inject", "false"),
    ] {
        annotations.insert(name.to_owned(), value.into());
    }
    annotations.extend(options.annotations.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    annotations.insert(TITLE.to_owned(), job.title.as_str().into());
    annotations.insert(DOCKERFILE.to_owned(), job.dockerfile.as_str().into());
    if let Some(bundle) = &options.ca_bundle {
        annotations.insert(CA_BUNDLE.to_owned(), bundle.as_str().into());
    }
    let bytes: usize =
        annotations.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        let said = format!("{bytes} bytes of annotations, expected {ANNOTATIONS_BYTES_MAX} at most");
        return Err(End::DockerfileTooLarge.error(said));
    }
    Ok(annotations.into())
}

fn spec(job: &RunJob, context: &ContextAt, options: &Options, names: &Names) -> Value {
    let (volumes, mounts) = volumes(context, options, names);
    let has_input = *context == ContextAt::Input;
    let mut spec = json!({
        "restartPolicy": "Never",
        "activeDeadlineSeconds": options.patience.deadline.as_secs().max(1),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        // A mounted token would be a place that Kaniko leaves out of the image, and one that RUN can read.
        "automountServiceAccountToken": options.service_account.is_some(),
        "enableServiceLinks": false,
        "nodeSelector": node_selector(&job.platform, options),
        "containers": [{
            "name": CONTAINER,
            "image": options.image,
            "args": arguments(job, context, options),
            "stdin": has_input,
            "stdinOnce": has_input,
            "tty": false,
            "resources": { "requests": requests(job.disk_bytes, options), "limits": options.limits },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"], "add": CAPABILITIES },
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    });
    if let ContextAt::Url(ContextUrl { environment, .. }) = context
        && !environment.is_empty()
    {
        let variable = |(name, value): &(String, String)| json!({ "name": name, "value": value });
        spec["containers"][0]["env"] = environment.iter().map(variable).collect();
    }
    if let Some(account) = &options.service_account {
        spec["serviceAccountName"] = account.as_str().into();
    }
    if !options.pull_secrets.is_empty() {
        spec["imagePullSecrets"] = options.pull_secrets.iter().map(|name| json!({ "name": name })).collect();
    }
    if !options.tolerations.is_empty() {
        spec["tolerations"] = options.tolerations.iter().map(toleration).collect();
    }
    spec
}

fn toleration(toleration: &Toleration) -> Value {
    let Toleration { key, value, effect } = toleration;
    let mut json = match value {
        Some(value) => json!({ "key": key, "operator": "Equal", "value": value }),
        None => json!({ "key": key, "operator": "Exists" }),
    };
    if let Some(effect) = effect {
        json["effect"] = effect.as_str().into();
    }
    json
}

/// What nodes call the architecture of `platform` in `kubernetes.io/arch`.
pub(crate) fn architecture(platform: &Platform) -> String {
    match platform.normalized().architecture.as_str() {
        // There are no 32-bit nodes; the others run such programs.
        "386" => "amd64".to_owned(),
        other => other.to_owned(),
    }
}

fn node_selector(platform: &Platform, options: &Options) -> Value {
    let mut selector = options.node_selector.clone();
    selector.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    selector.insert("kubernetes.io/arch".to_owned(), architecture(platform));
    json!(selector)
}

/// What is asked for: disk for all that is unpacked and, a quarter more, what Kaniko keeps of it.
pub(crate) fn requests(disk_bytes: u64, options: &Options) -> BTreeMap<String, String> {
    let disk_bytes = disk_bytes + disk_bytes / 4 + DISK_HEADROOM_BYTES;
    let mut requests = options.requests.clone();
    requests
        .entry("ephemeral-storage".to_owned())
        .or_insert_with(|| format!("{}Mi", disk_bytes.div_ceil(1 << 20)));
    requests
}

/// What the pod brings. Everything is mounted below `/kaniko`: files that a RUN writes below any other
/// mount would silently be missing in the image.
fn volumes(context: &ContextAt, options: &Options, names: &Names) -> (Vec<Value>, Vec<Value>) {
    let field = |path: &str, annotation: &str| {
        let annotation = format!("metadata.annotations['{annotation}']");
        json!({ "path": path, "fieldRef": { "fieldPath": annotation } })
    };
    let mut items = vec![field("Dockerfile", DOCKERFILE)];
    let mut mounts = vec![json!({ "name": "job", "mountPath": JOB_DIRECTORY, "readOnly": true })];
    if options.ca_bundle.is_some() {
        items.push(field("ca.crt", CA_BUNDLE));
        // The executor's image has SSL_CERT_DIR=/kaniko/ssl/certs, and Go reads every file there.
        mounts.push(json!({
            "name": "job", "mountPath": "/kaniko/ssl/certs/ocib-ca.crt", "subPath": "ca.crt", "readOnly": true,
        }));
    }
    let mut volumes = vec![json!({ "name": "job", "downwardAPI": { "items": items } })];
    if let ContextAt::Volume { claim, directory } = context {
        volumes.push(json!({ "name": "context", "persistentVolumeClaim": { "claimName": claim } }));
        mounts.push(json!({
            "name": "context", "mountPath": CONTEXT_DIRECTORY, "subPath": directory, "readOnly": true,
        }));
    }
    let secret = match &options.registry {
        RegistryAccess::Ambient => None,
        RegistryAccess::Named(name) => Some(name),
        RegistryAccess::Shared { .. } => Some(&names.name),
    };
    if let Some(secret) = secret {
        volumes.push(json!({
            "name": "registry",
            "secret": { "secretName": secret, "items": [{ "key": ".dockerconfigjson", "path": "config.json" }] },
        }));
        mounts.push(json!({ "name": "registry", "mountPath": "/kaniko/.docker", "readOnly": true }));
    }
    (volumes, mounts)
}

fn arguments(job: &RunJob, context: &ContextAt, options: &Options) -> Vec<String> {
    let context = match context {
        ContextAt::Nowhere => format!("dir://{JOB_DIRECTORY}"),
        ContextAt::Input => "tar://stdin".to_owned(),
        ContextAt::Volume { .. } => format!("tar://{CONTEXT_DIRECTORY}/{ARCHIVE}"),
        ContextAt::Url(ContextUrl { url, .. }) => url.clone(),
    };
    let mut arguments = vec![
        format!("--dockerfile={JOB_DIRECTORY}/Dockerfile"),
        format!("--context={context}"),
        format!("--destination={}", job.destination),
        // What is written there becomes the container's termination message.
        "--digest-file=/dev/termination-log".to_owned(),
        format!("--custom-platform={}", job.platform),
        // It is in a container, whatever it thinks of the runtime (gVisor, Kata).
        "--force".to_owned(),
        "--log-format=text".to_owned(),
        // Large layers in memory are what kills Kaniko most often.
        "--compressed-caching=false".to_owned(),
        "--push-retry=3".to_owned(),
        "--image-download-retry=3".to_owned(),
        "--image-fs-extract-retry=3".to_owned(),
    ];
    for (name, value) in &job.proxies {
        // Kubernetes takes `$(…)` for variables, and two dollars for one.
        arguments.push(format!("--build-arg={name}={}", value.reveal().replace('$', "$$")));
    }
    match options.cache.as_ref().filter(|_| !job.is_fresh) {
        Some(cache) => {
            arguments.extend(["--cache=true".to_owned(), format!("--cache-repo={}", cache.name())]);
        }
        None => arguments.push("--cache=false".to_owned()),
    }
    for host in &options.insecure_hosts {
        arguments.push(format!("--insecure-registry={host}"));
        arguments.push(format!("--skip-tls-verify-registry={host}"));
    }
    arguments.extend(options.arguments.iter().cloned());
    arguments
}
