//! Having parts carried out: what is there already is taken, all else is pushed, run and read back.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::lock::Mutex as AsyncMutex;
use ocib_image::{
    Config, Digest, Events, Image, ImageName, ImageSource, LayerSource, Outcome, PlaceError, PlaceErrorKind,
    Progress, Reference, RunBackend, RunJob, Sink, TaskId,
};

use super::{Input, JobContext, Wanted};
use crate::{Error, Problem, Request, execute};

/// Who carries out what needs a container, and where its inputs and results are kept.
pub struct Runs {
    /// Who does it.
    pub backend: Arc<dyn RunBackend>,
    /// Writes to the run repository; names are given by the backend alone.
    pub sink: Arc<dyn Sink>,
    /// The run repository. Results have tags there that are made of what was asked for: whoever can
    /// write to it decides what a RUN is taken to have made.
    pub repository: Reference,
    /// Whether results that are there already are taken.
    pub reuses: bool,
    /// Who is told of it.
    pub events: Arc<dyn Events>,
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { backend, repository, reuses, .. } = self;
        f.debug_struct("Runs")
            .field("backend", backend)
            .field("repository", repository)
            .field("reuses", reuses)
            .finish_non_exhaustive()
    }
}

/// Parts being carried out in one build.
pub(crate) struct CarryingOut<'a> {
    pub(crate) runs: &'a Runs,
    pub(crate) request: &'a Request,
    pub(crate) source: &'a dyn ImageSource,
    /// What layers of inputs turned out to be.
    pub(crate) made: &'a Mutex<execute::Made>,
    pub(crate) tasks: AtomicUsize,
    /// Held while an input is put: parts that begin with the same files would send them at the same time.
    pub(crate) putting: AsyncMutex<()>,
}

impl CarryingOut<'_> {
    /// The image that `wanted` gives: from the run repository if it is there, else from the backend.
    pub(crate) async fn image(&self, wanted: &Wanted) -> Result<Image, Error> {
        let progress = Progress::new(Arc::clone(&self.runs.events), self.next_tasks(1));
        let title = format!("RUN of {}", wanted.title);
        progress.started(&title, None);
        let destination = self.destination(wanted.key);
        if self.runs.reuses
            && let Some(image) = self.known(&destination, wanted).await?
        {
            progress.finished(Outcome::Present);
            return Ok(image);
        }
        let image = self.run(wanted, destination, &progress).await?;
        progress.finished(Outcome::Stored);
        Ok(image)
    }

    fn next_tasks(&self, count: usize) -> TaskId {
        TaskId(self.tasks.fetch_add(count, Ordering::Relaxed))
    }

    fn destination(&self, key: Digest) -> Reference {
        let hex = key.to_string();
        let name = format!("{}:run-{}", self.runs.repository.name(), hex.trim_start_matches("sha256:"));
        name.parse().expect("a repository with a tag of hex digits is a reference")
    }

    /// The result of an earlier build. One that does not fit is none: it is made anew.
    async fn known(&self, destination: &Reference, wanted: &Wanted) -> Result<Option<Image>, Error> {
        let name = ImageName::Registry(destination.clone());
        match self.source.resolve(&name, &wanted.platform).await {
            Ok(image) => Ok(problem_of(&image, wanted).is_none().then_some(image)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn run(
        &self,
        wanted: &Wanted,
        destination: Reference,
        progress: &Progress,
    ) -> Result<Image, Error> {
        let job = self.job(wanted, destination).await?;
        let ran = self.runs.backend.run(&job, progress).await;
        let pushed = ran.map_err(|error| {
            let line = error.line.and_then(|line| wanted.dockerfile.spans().nth(line.checked_sub(1)?));
            Problem::Backend(error).at(line.unwrap_or(wanted.span))
        })?;
        let name = ImageName::Registry(self.runs.repository.pinned(pushed.digest));
        let bad = |why| {
            let backend = self.runs.backend.name();
            Problem::BadResult { backend, digest: pushed.digest, why }.at(wanted.span)
        };
        let image = match self.source.resolve(&name, &wanted.platform).await {
            Ok(image) => image,
            Err(error) if error.kind == PlaceErrorKind::NotFound => {
                return Err(bad(format!("{} does not have it", self.runs.repository.name())));
            }
            Err(error) => return Err(error.into()),
        };
        problem_of(&image, wanted).map_or(Ok(image), |why| Err(bad(why)))
    }

    /// Puts what the part begins with and copies from where the backend finds it.
    async fn job(&self, wanted: &Wanted, destination: Reference) -> Result<RunJob, Error> {
        let mut names = Vec::new();
        for input in &wanted.images {
            names.push(match input {
                Input::There(pinned, _) => pinned.to_string(),
                Input::Made(target, _) => {
                    let first = self.next_tasks(target.parts.len());
                    let put = execute::Putting {
                        request: self.request,
                        made: self.made,
                        sink: &*self.runs.sink,
                        events: &self.runs.events,
                        first_task: first.0,
                    };
                    let turn = self.putting.lock().await;
                    let digest = put.image(target).await?;
                    drop(turn);
                    self.runs.repository.pinned(digest).to_string()
                }
            });
        }
        let context = match &wanted.context[..] {
            [] => None,
            members => Some(Arc::new(JobContext::new(members.to_vec())?) as Arc<dyn LayerSource>),
        };
        let line = |span: ocib_dockerfile::Span| self.request.dockerfile.position(span.start).line;
        Ok(RunJob {
            key: wanted.key,
            title: wanted.title.clone(),
            dockerfile: wanted.dockerfile.text(&names),
            lines: wanted.dockerfile.spans().map(line).collect(),
            platform: wanted.platform.clone(),
            destination,
            context,
            proxies: self.request.proxies(),
            is_fresh: !self.runs.reuses,
            secrets: wanted.secrets.clone(),
            disk_bytes: wanted.disk_bytes,
        })
    }
}

/// Some registries do not say whether a repository is missing or forbidden; whoever pushes there learns it.
fn is_absence(error: &PlaceError) -> bool {
    matches!(error.kind, PlaceErrorKind::NotFound | PlaceErrorKind::Denied)
}

/// Why `image` cannot be what `wanted` gives.
fn problem_of(image: &Image, wanted: &Wanted) -> Option<String> {
    let Config::Container(config) = &image.config else { return Some("it is no container image".to_owned()) };
    if let Some(platform) = config.platform().filter(|found| found.serves(&wanted.platform).is_none()) {
        return Some(format!("it is for {platform}, not for {}", wanted.platform));
    }
    if config.diff_ids.len() != image.layers.len() {
        let (layers, diff_ids) = (image.layers.len(), config.diff_ids.len());
        return Some(format!("it has {layers} layers, but its config has {diff_ids} diff IDs"));
    }
    (!config.diff_ids.starts_with(&wanted.before))
        .then(|| "it does not begin with the layers that the part begins with".to_owned())
}
