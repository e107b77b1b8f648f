//! Every way in which a delegated part can end badly, with its name and its remedy. One table: messages,
//! docs and tests read it.

use ocib_image::{RunError, RunErrorKind};

macro_rules! ends {
    ($($variant:ident $cause:literal $kind:ident $what:literal $remedy:literal;)*) => {
        /// How a delegated part ended that gave no image.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum End {
            $(#[doc = $what] $variant,)*
        }

        impl End {
            /// Every end, in the order of the docs.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in errors and docs, which never changes.
            pub fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause),* }
            }

            /// What a caller can do differently.
            pub fn kind(self) -> RunErrorKind {
                match self { $(Self::$variant => RunErrorKind::$kind),* }
            }

            /// What it means, a sentence for people.
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what),* }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy),* }
            }
        }
    };
}

ends! {
    // The cluster is not reached, or refuses.
    Kubeconfig "run-kubeconfig" Input
        "there is no usable kubeconfig, and ocib does not run in a pod"
        "set KUBECONFIG, name a context with --kube-context, or run ocib in a pod with a service account";
    Unreachable "run-api-unreachable" Backend
        "the API server does not answer"
        "check the server's address in the kubeconfig, VPN and proxy (`kubectl version` should answer)";
    Unauthenticated "run-unauthenticated" Denied
        "the API server does not know who asks"
        "renew the login of the kubeconfig's user: token, client certificate or exec plugin";
    Forbidden "run-forbidden" Denied
        "a right is missing in the namespace"
        "grant the verb that the message names; docs/run-kubernetes.md has the whole role";
    NamespaceMissing "run-namespace-missing" Input
        "the namespace does not exist"
        "create it, or name another with --run-namespace";
    NamespaceEnding "run-namespace-terminating" Backend
        "the namespace is being deleted"
        "wait until it is gone and create it again, or name another with --run-namespace";
    Quota "run-quota" Backend
        "a quota of the namespace is used up"
        "wait until other pods have ended, ask for less with --run-resource, or have the quota raised";
    LimitRange "run-limit-range" Input
        "a LimitRange of the namespace does not allow the pod's resources"
        "choose --run-resource and --run-limit within the range that the message names";
    PodSecurity "run-pod-security" Denied
        "the namespace's pod security level refuses the pod"
        "the executor is root in its container and needs the level `baseline`: use a namespace with it";
    Admission "run-admission-denied" Denied
        "an admission webhook or policy refuses the pod"
        "give the pod what the policy asks for with --run-pod-patch, or have an exception made";
    ServiceAccountMissing "run-service-account-missing" Input
        "the service account does not exist"
        "create it in the namespace, or name another with --run-service-account";
    PodInvalid "run-pod-invalid" Input
        "the API server takes the pod for wrong"
        "mend the option or --run-pod-patch that the message points at";
    NameTaken "run-name-taken" Backend
        "another build's pod has the name"
        "run the build again: each build has names of its own";
    Patch "run-pod-patch" Input
        "the pod patch cannot be applied"
        "write it as a strategic merge patch of a Pod, in YAML or JSON, without lists where the pod has objects";
    DockerfileTooLarge "run-dockerfile-too-large" Input
        "the delegated Dockerfile is too large for the pod's annotations"
        "move long scripts into files of the context that RUN starts";
    // It does not start.
    Unschedulable "run-unschedulable" Backend
        "no node takes the pod"
        "see the scheduler's words in the message; --run-schedule-timeout waits longer, for nodes to be added";
    NoArchitecture "run-no-node-of-architecture" Backend
        "no node has the platform's architecture"
        "add a node of that architecture, or leave the platform out of --platform";
    NoRoom "run-no-room" Backend
        "no node has the resources that the pod asks for"
        "ask for less with --run-resource, or add a larger node; ephemeral-storage is computed from the plan";
    Tainted "run-tainted" Backend
        "every node that fits has a taint"
        "tolerate it with --run-toleration KEY[=VALUE][:EFFECT]";
    ImagePull "run-image-pull" Backend
        "the executor's image cannot be pulled"
        "check --run-image, mirror it into a registry that the nodes reach, or give --run-pull-secret";
    ImageName "run-image-name" Input
        "the executor's image has an invalid name"
        "give --run-image as REGISTRY/REPOSITORY[:TAG][@DIGEST]";
    ImageAbsent "run-image-absent" Backend
        "the executor's image is not on the node, and its pull policy is Never"
        "load the image onto the nodes, or leave imagePullPolicy out of the pod patch";
    ContainerConfig "run-container-config" Input
        "the container's configuration names something that is not there"
        "create the secret or config map that the message names, or correct the pod patch";
    ContainerCreate "run-container-create" Backend
        "the node's runtime cannot make the container"
        "see the runtime's words in the message; the node's log has more";
    Volume "run-volume" Input
        "a volume of the pod cannot be mounted"
        "create the secret, config map or claim that the message names, in the pod's namespace";
    Sandbox "run-sandbox" Backend
        "the node cannot set up the pod's sandbox or network"
        "look at the node and its network plugin; another node may do";
    StartSlow "run-start-slow" Backend
        "the container did not start in time"
        "raise --run-schedule-timeout if the image is large or nodes are slow";
    StartFailed "run-start-failed" Backend
        "the container's program could not be started"
        "check that --run-image is a Kaniko executor for the node's architecture";
    NotAdmitted "run-not-admitted" Backend
        "the node refused the pod that was scheduled to it"
        "run the build again; if the pod patch sets nodeName or affinity, check it against the node";
    // It is taken away.
    OomKilled "run-oom-killed" Backend
        "the container ran out of memory"
        "raise --run-limit memory=…, or use fewer parallel jobs in the RUN command";
    Evicted "run-evicted" Backend
        "the node evicted the pod"
        "raise --run-resource ephemeral-storage=… so that a node with more disk is chosen";
    DiskFull "run-disk-full" Backend
        "the disk that the build writes to is full"
        "ask for more with --run-resource ephemeral-storage=…, or clean up within the same RUN";
    Deadline "run-deadline" Backend
        "the pod ran longer than its deadline"
        "raise --run-timeout";
    NodeLost "run-node-lost" Backend
        "the node that ran the pod is gone or out of reach"
        "run the build again; on spot nodes choose others with --run-node-selector";
    Preempted "run-preempted" Backend
        "the pod made room for one of a higher priority"
        "run the build again, or give it a priorityClassName with --run-pod-patch";
    PodDeleted "run-pod-deleted" Backend
        "somebody deleted the pod"
        "find out who removes pods in the namespace (autoscaler, cleanup job) and run the build again";
    Replaced "run-pod-replaced" Backend
        "another pod has the name of ours now"
        "find out who re-creates pods in the namespace and run the build again";
    Killed "run-killed" Backend
        "the container was killed from outside"
        "look at the node's log for who ended it, and run the build again";
    // The context does not arrive.
    AttachRefused "run-attach-refused" Backend
        "the API server does not attach to the container"
        "let proxies pass WebSockets, or send files by the registry: --run-context registry";
    ContextCut "run-context-cut" Backend
        "the connection broke while the context was sent"
        "run the build again, or send files by the registry: --run-context registry";
    ContextStalled "run-context-stalled" Backend
        "the executor stopped taking the context"
        "check the node's disk and the API server's load, or use --run-context registry";
    ContextPut "run-context-put" Backend
        "the context cannot be put where the pods shall read it"
        "let ocib write and remove there, or send files by the registry: --run-context registry";
    ContextRead "run-context-read" Input
        "the executor cannot read the context where it was put"
        "let the pods read there (--run-service-account), or send files by the registry: --run-context registry";
    Source "run-context-source" Input
        "the context cannot be read"
        "leave the files alone while the build runs, and make them readable";
    // The build itself.
    Command "run-command" Command
        "a command of the Dockerfile failed"
        "see the last lines of its output";
    CommandKilled "run-command-killed" Command
        "a command of the Dockerfile was ended by a signal or exited with 255"
        "see the last lines of its output; if memory was short raise --run-limit memory=…";
    Architecture "run-exec-format" Backend
        "a program is for another architecture than the node"
        "build each platform on nodes of its own: leave kubernetes.io/arch as ocib sets it";
    Capability "run-capability" Backend
        "a command needs a capability that the container does not have"
        "add it to the container kaniko's securityContext with --run-pod-patch";
    Base "run-base" Registry
        "the executor cannot pull an image that the build starts from"
        "give the pod credentials for it: --run-registry-secret or --run-service-account";
    Push "run-push" Registry
        "the executor cannot push its result"
        "if it was denied, give the pod credentials for --run-repository: --run-registry-secret or --run-service-account; else run the build again";
    Executor "run-executor" Backend
        "the executor failed"
        "see its last lines; if they name a flag, check --run-image's version against docs/run-kubernetes.md";
    NoDigest "run-no-digest" Backend
        "the executor ended well but did not say what it pushed"
        "use an executor that knows --digest-file, such as the default of --run-image";
}

impl End {
    /// An error of this end. `said` is what was seen, in the cluster's own words where it has any.
    pub(crate) fn error(self, said: impl AsRef<str>) -> RunError {
        let said = said.as_ref().trim().trim_end_matches('.');
        let message = match said {
            "" => self.what().to_owned(),
            said => format!("{}: {said}", self.what()),
        };
        RunError::new(self.kind(), self.cause(), message, self.remedy())
    }

    /// The end that has this name.
    pub fn named(cause: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|end| end.cause() == cause)
    }

    /// Every end that a log speaks of, each once, in the order of its lines: by its name, by what ocib says
    /// of it, or in the words of Kubernetes and Kaniko.
    ///
    /// ```
    /// use ocib_kaniko::End;
    /// assert_eq!(End::all_of_log("builds/a  0/1  ImagePullBackOff  0  2m"), [End::ImagePull]);
    /// ```
    pub fn all_of_log(text: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for end in text.lines().filter_map(Self::of_line) {
            if !found.contains(&end) {
                found.push(end);
            }
        }
        found
    }

    fn of_line(line: &str) -> Option<Self> {
        let says = |end: &Self| line.contains(&format!("[{}]", end.cause())) || line.contains(end.what());
        let fits =
            |(signs, end): &(&[&str], Self)| signs.iter().all(|sign| line.contains(sign)).then_some(*end);
        Self::named(line.trim())
            .or_else(|| Self::ALL.iter().copied().find(says))
            .or_else(|| WORDS.iter().find_map(fits))
    }

    /// Whether the same job may be given to another pod at once: it was not the job's fault, and nothing
    /// that counts was done.
    pub(crate) fn is_retried(self) -> bool {
        matches!(self, Self::ContextCut | Self::NodeLost | Self::Preempted | Self::NotAdmitted)
    }
}

/// Words of Kubernetes and of Kaniko that mean one end wherever they stand, the particular before the
/// general.
const WORDS: &[(&[&str], End)] = &[
    (&["violates PodSecurity"], End::PodSecurity),
    (&["exceeded quota:"], End::Quota),
    (&["admission webhook", "denied the request"], End::Admission),
    (&["because it is being terminated"], End::NamespaceEnding),
    (&["is forbidden: User", "cannot"], End::Forbidden),
    (&["nodes are available", "Insufficient"], End::NoRoom),
    (&["nodes are available", "taint"], End::Tainted),
    (&["nodes are available"], End::Unschedulable),
    (&["ErrImageNeverPull"], End::ImageAbsent),
    (&["InvalidImageName"], End::ImageName),
    (&["ErrImagePull"], End::ImagePull),
    (&["ImagePullBackOff"], End::ImagePull),
    (&["CreateContainerConfigError"], End::ContainerConfig),
    (&["CreateContainerError"], End::ContainerCreate),
    (&["RunContainerError"], End::ContainerCreate),
    (&["FailedMount"], End::Volume),
    (&["FailedCreatePodSandBox"], End::Sandbox),
    (&["OOMKilled"], End::OomKilled),
    (&["Evicted"], End::Evicted),
    (&["ephemeral local storage usage exceeds"], End::Evicted),
    (&["Pod was active on the node longer than the specified deadline"], End::Deadline),
    (&["error pushing image"], End::Push),
    (&["error checking push permissions"], End::Push),
    (&["exec format error"], End::Architecture),
    (&["error resolving source context", "unexpected EOF"], End::ContextCut),
    (&["error resolving source context"], End::ContextRead),
    (&["waiting for process to exit: exit status"], End::Command),
    (&["waiting for process to exit: signal"], End::CommandKilled),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_end_has_a_name_of_its_own_and_a_remedy() {
        let causes: BTreeSet<&str> = End::ALL.iter().map(|end| end.cause()).collect();
        assert_eq!(causes.len(), End::ALL.len());
        for &end in End::ALL {
            assert!(end.cause().starts_with("run-"), "{end:?}");
            assert!(!end.what().ends_with('.') && !end.remedy().ends_with('.'), "{end:?}");
            assert_eq!(End::named(end.cause()), Some(end));
        }
    }

    #[test]
    fn each_end_is_found_by_its_name_and_by_its_message() {
        for &end in End::ALL {
            assert_eq!(End::all_of_log(end.cause()), [end]);
            assert_eq!(End::all_of_log(&format!("error[{}]: anything", end.cause())), [end]);
            assert_eq!(End::all_of_log(&format!("error: {}", end.error("seen").message)), [end]);
        }
        for (signs, end) in WORDS {
            assert_eq!(End::all_of_log(&format!("x {}", signs.join(" x "))), [*end], "{signs:?}");
        }
        let log = "0/3 nodes are available: 3 Insufficient cpu.\nwell\n0/3 nodes are available: 3 Insufficient cpu.\n";
        assert_eq!(End::all_of_log(log), [End::NoRoom]);
        assert_eq!(End::all_of_log("everything is fine"), []);
    }

    #[test]
    fn a_message_says_what_it_means_and_what_was_seen() {
        let error = End::Evicted.error("Pod ephemeral local storage usage exceeds 50Mi. ");
        assert_eq!(error.message, "the node evicted the pod: Pod ephemeral local storage usage exceeds 50Mi");
        assert_eq!(End::Deadline.error("").message, "the pod ran longer than its deadline");
    }
}
