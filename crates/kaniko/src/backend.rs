//! The backend: the life of a job from its pod's creation to its removal.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_core::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use ocib_image::{
    Descriptor, Digest, LayerSource, MediaType, Progress, RunBackend, RunError, RunFiles, RunJob, Secret,
};
use tokio::{
    sync::watch::{self, Receiver},
    time::Instant,
};

use crate::{
    attach,
    cleanup::{Guard, Removals},
    cluster::{Cluster, REQUEST, timed},
    context::ContextAt,
    create::{Creation, NotCreated, create_secret},
    delivery::Delivery,
    ends::End,
    logs::{self, Log},
    options::{Options, RegistryAccess},
    pod::{Names, Owner, architecture, pod},
    state::{Observed, State},
    verdict::verdict,
    watch::{Ask, watch},
};

/// How often a job is given to a pod, where the first one came to nothing by no fault of the job.
const ATTEMPTS: usize = 2;
/// The cluster ends a pod at its deadline; this much later it is given up here.
const DEADLINE_MARGIN: Duration = Duration::from_secs(60);

/// Runs each job in a pod of its own.
#[derive(Clone, Debug)]
pub struct Kaniko {
    cluster: Cluster,
    options: Options,
    build: String,
    owner: Option<Owner>,
    removals: Removals,
}

impl Kaniko {
    /// A backend that makes pods in `cluster`.
    pub fn new(cluster: Cluster, options: Options) -> Self {
        // std's hashers are seeded at random, which is all that a name needs.
        let build = format!("{:016x}", RandomState::new().build_hasher().finish());
        Self { cluster, options, build, owner: None, removals: Removals::none() }
    }

    /// The same, with pods that go when the pod `name` goes: the one that this program runs in. Asks the
    /// cluster for it; without an answer nothing changes, as an owner is one more safeguard among several.
    #[must_use]
    pub async fn owned_by(mut self, name: &str) -> Self {
        // Owners are of the same namespace.
        if self.namespace() == self.cluster.namespace() {
            let found = timed(REQUEST, self.cluster.pods(self.namespace()).get_opt(name)).await;
            self.owner = found
                .ok()
                .flatten()
                .and_then(|pod| Some(Owner { name: name.to_owned(), uid: pod.metadata.uid? }));
        }
        self
    }

    /// The namespace of the pods.
    pub fn namespace(&self) -> &str {
        self.options.namespace.as_deref().unwrap_or(self.cluster.namespace())
    }

    /// The same with another way to prove who the executor is, for jobs of other registries.
    #[must_use]
    pub fn with_registry(&self, registry: RegistryAccess) -> Self {
        Self { options: Options { registry, ..self.options.clone() }, ..self.clone() }
    }

    fn names(&self, job: &RunJob, attempt: usize) -> Names {
        let (key, architecture) = (job.key.hex(), architecture(&job.platform));
        Names {
            name: format!("ocib-{}-{architecture}-{}-{attempt}", &key[..12], &self.build[..8]),
            namespace: self.namespace().to_owned(),
            build: self.build.clone(),
            owner: self.owner.clone(),
        }
    }

    fn secrets(&self) -> &[Secret] {
        match &self.options.registry {
            RegistryAccess::Shared { secrets, .. } => secrets,
            _ => &[],
        }
    }

    /// Gives the job to one pod after the other, as long as that may help.
    async fn attempts(
        &self,
        job: &RunJob,
        context: &ContextAt,
        progress: &Progress,
    ) -> Result<Digest, RunError> {
        let mut attempt = 1;
        loop {
            match Box::pin(self.attempt(job, context, progress, attempt)).await {
                Err(error) if attempt < ATTEMPTS && End::named(error.cause).is_some_and(End::is_retried) => {
                    progress.restarted(&error.message);
                    attempt += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn attempt(
        &self,
        job: &RunJob,
        context: &ContextAt,
        progress: &Progress,
        attempt: usize,
    ) -> Result<Digest, RunError> {
        let names = self.names(job, attempt);
        let json = pod(job, context, &self.options, &names)?;
        let mut guard = Guard::new(&self.cluster, &names, self.options.patience, &self.removals);
        let result = async {
            let patience = &self.options.patience;
            let creation = Creation {
                cluster: &self.cluster,
                names: &names,
                pod: &json,
                patience,
                is_again: attempt > 1,
            };
            let uid = match creation.create().await {
                Ok(uid) => uid,
                Err(NotCreated { error, may_be_there }) => {
                    if !may_be_there {
                        guard.nothing_made();
                    }
                    return Err(error);
                }
            };
            let shared = match &self.options.registry {
                RegistryAccess::Shared { config_json, .. } => Some(config_json),
                _ => None,
            };
            guard.made(&uid, shared.is_some());
            progress.log(&format!("pod {}/{} was created", names.namespace, names.name));
            if let Some(config_json) = shared {
                create_secret(&self.cluster, &names, &uid, config_json.reveal()).await?;
            }
            self.live(job, context, progress, &names, &uid).await
        }
        .await;
        if self.options.keep && guard.has_objects() {
            guard.keep();
            progress.log(&format!("pod {}/{} is kept", names.namespace, names.name));
        } else if let Err(left) = guard.remove().await {
            progress.log(&format!("{left}; remove it by `ocib run-pods clean`"));
        }
        result
    }

    /// From creation to the executor's end.
    async fn live(
        &self,
        job: &RunJob,
        context: &ContextAt,
        progress: &Progress,
        names: &Names,
        uid: &str,
    ) -> Result<Digest, RunError> {
        let pods = self.cluster.pods(&names.namespace);
        let patience = &self.options.patience;
        let (sender, observed) = watch::channel(Observed::nothing());
        let log = Log::new(progress, self.secrets());
        let (ask, asked) = Ask::new();
        let life = async {
            self.start(&names.name, observed.clone(), ask, progress).await?;
            let context = job.context.as_ref().filter(|_| *context == ContextAt::Input);
            self.work(context, &pods, &names.name, observed.clone(), &log, progress).await
        };
        let result = tokio::select! {
            result = life => result,
            error = watch(&pods, (&names.name, uid), &sender, asked, patience) => Err(error),
        };
        result.map_err(|error| {
            let mut error = error.with_log(log.tail());
            error.message = log.veiled(&error.message);
            error.line = log.running().and_then(|said| line_of(job, &said));
            error
        })
    }

    /// Waits until the container runs, or has ended before anybody saw it run.
    async fn start(
        &self,
        name: &str,
        mut observed: Receiver<Observed>,
        ask: Ask,
        progress: &Progress,
    ) -> Result<(), RunError> {
        let patience = &self.options.patience;
        let (begun, mut placed, mut failing) = (Instant::now(), None, None::<(Instant, String)>);
        let mut told = String::new();
        loop {
            let state = observed.borrow_and_update().state.clone();
            let deadline = match state {
                State::Running | State::Ended(_) | State::Gone | State::Replaced => return Ok(()),
                State::Unscheduled { said } => {
                    if begun.elapsed() >= patience.schedule {
                        return Err(self.unscheduled(name, said).await);
                    }
                    tell(
                        progress,
                        &mut told,
                        format!("pod {name} waits for a node: {said}"),
                        !said.is_empty(),
                    );
                    begun + patience.schedule
                }
                State::Waiting { reason, message } => {
                    let placed = *placed.get_or_insert_with(Instant::now);
                    tell(progress, &mut told, format!("pod {name} waits: {reason}"), true);
                    match hopes(&reason) {
                        Hopes::None(end) => return Err(end.error(said(&reason, &message))),
                        Hopes::Some(end) => {
                            let (since, first) =
                                failing.get_or_insert_with(|| (Instant::now(), said(&reason, &message)));
                            if since.elapsed() >= patience.retry {
                                return Err(end.error(first));
                            }
                            *since + patience.retry
                        }
                        Hopes::Good if placed.elapsed() >= patience.start => {
                            return Err(self
                                .never_started(name, End::StartSlow)
                                .await
                                .unwrap_or_else(|| End::StartSlow.error(said(&reason, &message))));
                        }
                        // Volumes and networks that fail are tried again for ever, and only events say so.
                        Hopes::Good if placed.elapsed() >= patience.retry => {
                            if let Some(error) = self.never_started(name, End::Volume).await {
                                return Err(error);
                            }
                            (Instant::now() + patience.retry).min(placed + patience.start)
                        }
                        Hopes::Good => (placed + patience.retry).min(placed + patience.start),
                    }
                }
            };
            // Whether something changed or time passed, the state is judged again; after a silence what is there.
            if tokio::time::timeout_at(deadline, observed.changed()).await.is_err() {
                ask.look().await;
            }
        }
    }

    /// Why no node took the pod, in the scheduler's words.
    async fn unscheduled(&self, name: &str, said: String) -> RunError {
        let said = match said.is_empty() {
            true => {
                self.events(name).await.into_iter().rev().find(|(reason, _)| reason == "FailedScheduling")
            }
            false => Some((String::new(), said)),
        };
        let said = said.map(|(_, message)| message).unwrap_or_default();
        let has = |signs: &[&str]| signs.iter().any(|sign| said.contains(sign));
        let end = match () {
            () if has(&["Insufficient"]) => End::NoRoom,
            () if has(&["node affinity", "node selector", "affinity/selector"]) => End::NoArchitecture,
            () if has(&["taint"]) => End::Tainted,
            () => End::Unschedulable,
        };
        end.error(said)
    }

    /// What the events say that keeps the container from starting; if they say nothing, and it is time to
    /// give up, that it took too long.
    async fn never_started(&self, name: &str, end: End) -> Option<RunError> {
        let events = self.events(name).await;
        // The image is the last thing to come: what failed before has passed, and events of it stay.
        let has_passed =
            events.iter().any(|(reason, _)| matches!(&**reason, "Pulling" | "Pulled" | "Created"));
        let last = |reasons: &[&str]| {
            events
                .iter()
                .rev()
                .filter(|_| !has_passed)
                .find(|(reason, _)| reasons.contains(&reason.as_str()))
                .map(|(_, message)| message)
        };
        if let Some(message) = last(&["FailedMount", "FailedAttachVolume"]) {
            return Some(End::Volume.error(message));
        }
        if let Some(message) = last(&["FailedCreatePodSandBox", "FailedCreatePodContainer"]) {
            return Some(End::Sandbox.error(message));
        }
        (end == End::StartSlow)
            .then(|| End::StartSlow.error(events.last().map_or("", |(_, message)| message)))
    }

    /// Reasons and messages of the pod's events, or none without the right to see them.
    async fn events(&self, name: &str) -> Vec<(String, String)> {
        let parameters = ListParams::default().fields(&format!("involvedObject.name={name}"));
        let listed = timed(REQUEST, self.cluster.events(self.namespace()).list(&parameters)).await;
        let events = listed.map(|list| list.items).unwrap_or_default();
        events
            .into_iter()
            .map(|event| (event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
            .collect()
    }

    /// Sends the context, tells the log, and waits for the executor's end.
    async fn work(
        &self,
        context: Option<&Arc<dyn LayerSource>>,
        pods: &Api<Pod>,
        name: &str,
        observed: Receiver<Observed>,
        log: &Log<'_>,
        progress: &Progress,
    ) -> Result<Digest, RunError> {
        let patience = &self.options.patience;
        let mut follower = pin!(logs::follow(pods, name, observed.clone(), log, patience));
        let mut is_told = false;
        let ending = async {
            let _connection = match context {
                Some(context) => {
                    attach::send(pods, name, context, observed.clone(), progress, patience).await?
                }
                None => None,
            };
            self.end(observed.clone()).await
        };
        let mut ending = pin!(ending);
        let ended = loop {
            tokio::select! {
                ended = &mut ending => break ended?,
                () = &mut follower, if !is_told => is_told = true,
            }
        };
        if !is_told {
            // It ends by itself soon after the executor.
            let _ = tokio::time::timeout(patience.settle * 2, follower).await;
        }
        verdict(&ended, &log.tail())
    }

    /// Waits until the executor has ended and the cluster has said why.
    async fn end(&self, mut observed: Receiver<Observed>) -> Result<Observed, RunError> {
        let patience = &self.options.patience;
        let over =
            tokio::time::timeout(patience.deadline + DEADLINE_MARGIN, observed.wait_for(Observed::is_over));
        match over.await {
            Ok(_) => {}
            Err(_) => return Err(End::Deadline.error("and the cluster did not end it")),
        }
        // An eviction or a deadline kills first and explains a moment later.
        let explained = observed.wait_for(|observed| match &observed.state {
            State::Ended(ended) => ended.is_final || !matches!(ended.exit_code, None | Some(137 | 143)),
            _ => true,
        });
        let _ = tokio::time::timeout(patience.settle, explained).await;
        let ended = observed.borrow().clone();
        Ok(ended)
    }
}

fn tell(progress: &Progress, told: &mut String, what: String, is_worth_it: bool) {
    if is_worth_it && *told != what {
        progress.log(&what);
        *told = what;
    }
}

fn said(reason: &str, message: &str) -> String {
    match message.is_empty() {
        true => reason.to_owned(),
        false => format!("{reason}: {message}"),
    }
}

/// What may become of a container that waits.
enum Hopes {
    /// It is being made.
    Good,
    /// It may pass by itself.
    Some(End),
    /// It will not.
    None(End),
}

fn hopes(reason: &str) -> Hopes {
    match reason {
        "InvalidImageName" => Hopes::None(End::ImageName),
        "ErrImageNeverPull" => Hopes::None(End::ImageAbsent),
        "CreateContainerConfigError" => Hopes::None(End::ContainerConfig),
        "CreateContainerError" | "RunContainerError" => Hopes::None(End::ContainerCreate),
        "ErrImagePull" | "ImagePullBackOff" | "ImageInspectError" | "RegistryUnavailable" => {
            Hopes::Some(End::ImagePull)
        }
        _ => Hopes::Good,
    }
}

/// The line of the job's Dockerfile whose RUN the executor named.
fn line_of(job: &RunJob, said: &str) -> Option<usize> {
    let start = |text: &str| text.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>();
    let wanted = start(said);
    let runs =
        (1..).zip(job.dockerfile.lines()).filter_map(|(line, text)| Some((line, text.strip_prefix("RUN ")?)));
    let mut fitting = runs.filter(|(_, text)| *text == said || start(text) == wanted);
    let first = fitting.next()?;
    // Two that begin alike cannot be told apart.
    fitting.next().is_none().then_some(first.0)
}

impl RunBackend for Kaniko {
    fn name(&self) -> &'static str {
        "kaniko"
    }

    fn files(&self) -> RunFiles {
        self.options.context.files()
    }

    fn tidied(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.removals.done())
    }

    fn run<'a>(
        &'a self,
        job: &'a RunJob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Descriptor, RunError>> {
        Box::pin(async move {
            let name = self.names(job, 0).name;
            let mut delivery = Delivery::new(&self.options.context, &name, &self.removals);
            let made = Box::pin(async {
                let context = delivery.bring(job, progress).await?;
                self.attempts(job, &context, progress).await
            });
            let made = made.await;
            if let Err(left) = delivery.remove().await {
                progress.log(&format!("the context {name} is left: {left}"));
            }
            let digest = made?;
            // A pod says its digest and no more; type and size are the registry's to tell.
            Ok(Descriptor::new(MediaType::Manifest, digest, 0))
        })
    }
}

// Arcs of it are shared by the jobs of all platforms.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Arc<Kaniko>>();
};
