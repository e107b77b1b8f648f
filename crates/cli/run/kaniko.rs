//! `--run kaniko`: pods of a Kubernetes cluster.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use futures_core::future::BoxFuture;
use ocib_image::{
    Credentials, Descriptor, Progress, Reference, RunBackend, RunError, RunErrorKind, RunFiles, RunJob,
};
use ocib_kaniko::{Access, Cluster, Kaniko, Options, Patience, RegistryAccess, Toleration};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::context::RunContext;
use crate::{args, diagnostic::Failure, dockerfile, environment, registries::Clients};

/// Which cluster and which namespace: what every command that looks at pods takes.
#[derive(Args, Debug)]
pub(crate) struct ClusterFlags {
    /// The context of the kubeconfig [default: its current one, or the pod that ocib runs in].
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    kube_context: Option<String>,

    /// The namespace of the pods [default: that of the context, or of the pod that ocib runs in].
    #[arg(long, value_name = "NAMESPACE", help_heading = HEADING)]
    run_namespace: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct KanikoFlags {
    #[command(flatten)]
    cluster: ClusterFlags,

    /// The image of Kaniko's executor, as the nodes pull it.
    #[arg(long, value_name = "IMAGE", default_value = ocib_kaniko::DEFAULT_IMAGE, help_heading = HEADING)]
    run_image: String,

    /// A secret of the namespace with which the nodes pull the executor's image; may be given several times.
    #[arg(long = "run-pull-secret", value_name = "SECRET", help_heading = HEADING)]
    run_pull_secrets: Vec<String>,

    /// A secret of the namespace, of type kubernetes.io/dockerconfigjson, with which the executor pulls and
    /// pushes. RUN can read it.
    #[arg(long, value_name = "SECRET", conflicts_with = "run_share_credentials", help_heading = HEADING)]
    run_registry_secret: Option<String>,

    /// The service account of the pods, for registries that know it (IRSA, workload identity). RUN can use it.
    #[arg(long, value_name = "ACCOUNT", help_heading = HEADING)]
    run_service_account: Option<String>,

    /// Give the executor ocib's own credentials of the registries that a job needs, in a secret that goes
    /// with the pod. RUN can read them.
    #[arg(long, help_heading = HEADING)]
    run_share_credentials: bool,

    /// How files that RUN needs reach the pod: by the registry; over the API server (attach); on a volume that
    /// ocib sees, too (pvc:CLAIM[/PATH]:DIRECTORY); or by a bucket (s3://BUCKET[/PREFIX], gs://…).
    #[arg(long, value_name = "WAY", default_value = "registry", help_heading = HEADING)]
    pub(super) run_context: RunContext,

    /// What the container asks for, such as cpu=2; ephemeral-storage is computed from the plan.
    #[arg(long = "run-resource", value_name = "NAME=QUANTITY", value_parser = pair, help_heading = HEADING)]
    run_resources: Vec<(String, String)>,

    /// What the container may use at most, such as memory=8Gi.
    #[arg(long = "run-limit", value_name = "NAME=QUANTITY", value_parser = pair, help_heading = HEADING)]
    run_limits: Vec<(String, String)>,

    /// A label that nodes must have, besides the platform's architecture.
    #[arg(long = "run-node-selector", value_name = "NAME=VALUE", value_parser = pair, help_heading = HEADING)]
    run_node_selectors: Vec<(String, String)>,

    /// A taint of nodes that the pods do not mind.
    #[arg(long = "run-toleration", value_name = "KEY[=VALUE][:EFFECT]", help_heading = HEADING)]
    run_tolerations: Vec<Toleration>,

    /// A label of the pods.
    #[arg(long = "run-label", value_name = "NAME=VALUE", value_parser = pair, help_heading = HEADING)]
    run_labels: Vec<(String, String)>,

    /// A strategic merge patch of the pods, in YAML or JSON. Their one container is called kaniko.
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    run_pod_patch: Option<PathBuf>,

    /// A repository for Kaniko's own cache of layers; without it Kaniko caches nothing.
    #[arg(long, value_name = "REPOSITORY", help_heading = HEADING)]
    run_cache: Option<Reference>,

    /// One more argument for the executor; may be given several times.
    #[arg(long = "run-executor-arg", value_name = "ARGUMENT", allow_hyphen_values = true, help_heading = HEADING)]
    run_executor_args: Vec<String>,

    /// How long a pod may run; the cluster ends it then, whether ocib is there or not.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration, help_heading = HEADING)]
    run_timeout: Duration,

    /// How long a pod may wait for a node, and as long again for its image.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration, help_heading = HEADING)]
    run_schedule_timeout: Duration,

    /// Leave the pods there when they have ended, for a look into them; `ocib run-pods clean` removes them.
    #[arg(long, help_heading = HEADING)]
    run_keep: bool,
}

const HEADING: &str = "RUN in pods (--run kaniko)";

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl ClusterFlags {
    /// The cluster; nobody is asked yet but an exec plugin.
    pub(crate) async fn connect(&self) -> Result<Cluster, RunError> {
        Cluster::connect(&Access { kubeconfig: None, context: self.kube_context.clone() }).await
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.run_namespace.as_deref()
    }
}

impl KanikoFlags {
    pub(crate) fn cluster(&self) -> &ClusterFlags {
        &self.cluster
    }

    /// What the flags say of pods.
    pub(crate) fn options(&self, build: &args::Build) -> Result<Options, Failure> {
        let map = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        Ok(Options {
            namespace: self.cluster.run_namespace.clone(),
            image: self.run_image.clone(),
            pull_secrets: self.run_pull_secrets.clone(),
            registry: match &self.run_registry_secret {
                Some(name) => RegistryAccess::Named(name.clone()),
                None => RegistryAccess::Ambient,
            },
            service_account: self.run_service_account.clone(),
            context: self.run_context.way(&build.shared)?,
            requests: map(&self.run_resources),
            limits: map(&self.run_limits),
            node_selector: map(&self.run_node_selectors),
            tolerations: self.run_tolerations.clone(),
            labels: map(&self.run_labels),
            annotations: BTreeMap::new(),
            patch: self.run_pod_patch.as_ref().map(patch).transpose()?,
            cache: self.run_cache.clone(),
            arguments: self.run_executor_args.clone(),
            ca_bundle: ca_bundle(&build.shared.ca_files)?,
            insecure_hosts: build.shared.insecure_registries.clone(),
            keep: self.run_keep,
            patience: Patience {
                deadline: self.run_timeout,
                schedule: self.run_schedule_timeout,
                start: self.run_schedule_timeout,
                ..Patience::default()
            },
        })
    }

    /// The backend; the cluster is looked for when the first job comes.
    pub(crate) fn backend(
        &self,
        build: &args::Build,
        clients: &Clients,
    ) -> Result<Arc<dyn RunBackend>, Failure> {
        let credentials = self.run_share_credentials.then(|| Arc::clone(&clients.credentials));
        let access = Access { kubeconfig: None, context: self.cluster.kube_context.clone() };
        Ok(Arc::new(Pods { access, options: self.options(build)?, credentials, kaniko: OnceCell::new() }))
    }
}

fn patch(path: &PathBuf) -> Result<Value, Failure> {
    let read =
        fs::read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    ocib_kaniko::pod_patch(&read).map_err(|error| {
        Failure::usage(format!("--run-pod-patch {}: {error}", path.display()))
            .help("a strategic merge patch of a Pod, in YAML or JSON: docs/run-kubernetes.md has examples")
    })
}

fn ca_bundle(paths: &[PathBuf]) -> Result<Option<String>, Failure> {
    let mut bundle = String::new();
    for path in paths {
        bundle.push_str(&String::from_utf8_lossy(&dockerfile::read(path, "certificates")?));
        bundle.push('\n');
    }
    Ok((!bundle.is_empty()).then_some(bundle))
}

/// Pods, once somebody needs one.
struct Pods {
    access: Access,
    options: Options,
    /// Who ocib is, if that is shared with the pods.
    credentials: Option<Arc<dyn Credentials>>,
    kaniko: OnceCell<Kaniko>,
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pods").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Pods {
    async fn kaniko(&self) -> Result<&Kaniko, RunError> {
        let connect = || async {
            let cluster = Cluster::connect(&self.access).await?;
            let is_inside = cluster.is_inside();
            let kaniko = Kaniko::new(cluster, self.options.clone());
            // A pod's host name is its own name.
            Ok(match environment::variable("HOSTNAME").filter(|_| is_inside) {
                Some(name) => kaniko.owned_by(&name).await,
                None => kaniko,
            })
        };
        self.kaniko.get_or_try_init(connect).await
    }
}

/// ocib's own credentials for the registries that `job` names, and for no other.
async fn shared(credentials: &dyn Credentials, job: &RunJob) -> Result<RegistryAccess, RunError> {
    let mut found = BTreeMap::new();
    for reference in references(job) {
        if found.contains_key(reference.registry()) {
            continue;
        }
        let credential = credentials.find(&reference).await.map_err(|error| {
            RunError::new(
                RunErrorKind::Registry,
                "run-credentials",
                format!("the credentials of {} to be shared cannot be had: {error}", reference.registry()),
                "log in again, or name a secret with --run-registry-secret",
            )
            .because(error)
        })?;
        if let Some(credential) = credential {
            found.insert(reference.registry().to_owned(), credential);
        }
    }
    Ok(RegistryAccess::shared(found.iter().map(|(host, credential)| (host.as_str(), credential))))
}

/// Where a job pushes to, then what it is built from: never what a command speaks of, which may be anything.
fn references(job: &RunJob) -> impl Iterator<Item = Reference> {
    let images = job.dockerfile.lines().filter_map(|line| {
        let image = line.strip_prefix("FROM ").or_else(|| line.strip_prefix("COPY --from="))?;
        image.split(' ').next().filter(|image| image.contains('@'))
    });
    let found = images.filter_map(|image| image.parse::<Reference>().ok());
    std::iter::once(job.destination.clone()).chain(found)
}

impl RunBackend for Pods {
    fn name(&self) -> &'static str {
        "kaniko"
    }

    fn files(&self) -> RunFiles {
        self.options.context.files()
    }

    fn run<'a>(
        &'a self,
        job: &'a RunJob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Descriptor, RunError>> {
        Box::pin(async move {
            let kaniko = self.kaniko().await?;
            match &self.credentials {
                Some(credentials) => {
                    kaniko.with_registry(shared(&**credentials, job).await?).run(job, progress).await
                }
                None => kaniko.run(job, progress).await,
            }
        })
    }

    fn tidied(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(kaniko) = self.kaniko.get() {
                kaniko.tidied().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use ocib_image::{Digest, Platform};

    use super::*;

    #[test]
    fn credentials_are_for_what_a_job_is_built_from_and_not_for_what_its_commands_say() {
        let pinned = |name: &str| format!("{name}@sha256:{}", "a".repeat(64));
        let [base, files, said] = ["base.example/a", "files.example/b", "said.example/c"].map(pinned);
        let dockerfile = format!(
            "FROM {base}\nENV A=\"--from={said} b\"\nRUN [\"/bin/sh\",\"-c\",\"x --from={said} y\"]\n\
             COPY --from={files} --chown=1:1 [\"/0/x/\",\"/ --from={said} \"]\n"
        );
        let job = RunJob {
            key: Digest::of(b""),
            title: String::new(),
            dockerfile,
            lines: Vec::new(),
            platform: Platform::linux_amd64(),
            destination: "run.example/d:run-1".parse().unwrap(),
            context: None,
            proxies: BTreeMap::new(),
            is_fresh: false,
            secrets: Vec::new(),
            disk_bytes: 0,
        };
        let found: Vec<_> = references(&job).map(|reference| reference.registry().to_owned()).collect();
        assert_eq!(found, ["run.example", "base.example", "files.example"]);
    }
}
