//! A cluster that exists, a registry that it reaches, and how pods get along there.

use std::{env, fs, time::Duration};

use ocib_image::{Digest, Platform, RunJob};
use ocib_kaniko::{
    Access, Cluster, Kaniko, Options, Patience, pod_patch,
    run_pods::{self, RunPod},
};
use ocib_testkit::{rootfs, skopeo, umoci};
use serde_json::Value;

use crate::jobs::{self, Heard};

/// What `tests/cluster.sh` says of a cluster.
pub(crate) struct Real {
    pub(crate) cluster: Cluster,
    registry: String,
    patch: Option<Value>,
    /// Keeps names apart from those of earlier runs.
    run: String,
}

impl Real {
    pub(crate) async fn from_environment() -> Self {
        let named =
            |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run tests/cluster.sh"));
        let access = Access { kubeconfig: Some(named("OCIB_TEST_KUBECONFIG").into()), context: None };
        let patch = env::var("OCIB_TEST_KUBE_PATCH").ok();
        Self {
            cluster: Cluster::connect(&access).await.unwrap(),
            registry: named("OCIB_TEST_KUBE_REGISTRY"),
            patch: patch.map(|file| pod_patch(&fs::read(file).unwrap()).unwrap()),
            run: named("OCIB_TEST_KUBE_RUN"),
        }
    }

    /// Options that suit the cluster.
    pub(crate) fn options(&self) -> Options {
        let limits = [("memory".to_owned(), "512Mi".to_owned())];
        let requests = [("ephemeral-storage".to_owned(), "64Mi".to_owned())];
        Options {
            image: format!("{}/ocib-executor:{}", self.registry, self.run),
            limits: limits.into(),
            requests: requests.into(),
            patch: self.patch.clone(),
            insecure_hosts: vec![self.registry.clone()],
            patience: Patience {
                deadline: Duration::from_secs(600),
                schedule: Duration::from_secs(10),
                retry: Duration::from_secs(20),
                ..Patience::default()
            },
            ..Options::default()
        }
    }

    pub(crate) fn backend(&self, options: Options) -> Kaniko {
        Kaniko::new(self.cluster.clone(), options)
    }

    /// A job of a name, which is pushed to a repository of that name. `BASE` is an image with a shell.
    pub(crate) fn job(&self, name: &str, dockerfile: &str) -> RunJob {
        let dockerfile = dockerfile.replace("BASE", &format!("{}/ocib-base:{}", self.registry, self.run));
        let job = jobs::job(&dockerfile, &format!("{}/ocib-{name}:{}", self.registry, self.run));
        let title = format!("{name} of {}", self.run);
        RunJob { key: Digest::of(title.as_bytes()), title, platform: Platform::linux_amd64(), ..job }
    }

    /// What the job's destination names.
    pub(crate) fn pushed(&self, job: &RunJob) -> Digest {
        let name = format!("docker://{}", job.destination);
        Digest::of(skopeo(&["inspect", "--raw", "--tls-verify=false", &name]).as_bytes())
    }

    /// The content of a file of the image that was pushed.
    pub(crate) fn file(&self, job: &RunJob, path: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (layout, bundle) = (dir.path().join("layout"), dir.path().join("bundle"));
        let image = format!("{}:x", layout.display());
        let from = format!("docker://{}", job.destination);
        skopeo(&["copy", "--src-tls-verify=false", &from, &format!("oci:{image}")]);
        assert!(rootfs(&layout, "linux/amd64").contains_key(path), "{path} is not there");
        umoci(&["unpack", "--image", &image, &bundle.display().to_string()]);
        fs::read_to_string(bundle.join("rootfs").join(path)).unwrap()
    }

    /// The job's pods.
    pub(crate) async fn pods(&self, job: &RunJob) -> Vec<RunPod> {
        let mut pods = run_pods::list(&self.cluster, None).await.unwrap();
        pods.retain(|pod| pod.title == job.title);
        pods
    }

    /// Names of the job's pods.
    pub(crate) async fn left(&self, job: &RunJob) -> Vec<String> {
        self.pods(job).await.into_iter().map(|pod| pod.name).collect()
    }
}

impl Heard {
    /// Waits until something was said.
    pub(crate) async fn until(&self, part: &str) {
        for _ in 0..6000 {
            if self.has(part) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{part:?} is never said: {:#?}", self.lines());
    }
}
