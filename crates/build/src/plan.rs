//! The plan: what each stage does, with every word expanded and every base pinned.
//!
//! Planning is pure. It reads the syntax, the request and the images' configs, and gives plain data
//! that can be printed and compared. What depends on files (which ones a wildcard matches, what is
//! at a destination) is not in it: that is found out when the plan is carried out, from headers.
//!
//! A stage is cut at its first and its last RUN that needs a container. What lies between becomes one
//! [`Delegated`] part; what comes before and after is native. A native part cannot hold a RUN, but the
//! few commands of a [simple](SimpleRun) one: those are taken to be carried out here until a file
//! speaks against it, and then the plan is made again without that.

mod delegated;
mod expose;
mod history;
mod metadata;
mod mount;
mod print;
mod simple;
mod transfer;

use std::{collections::BTreeMap, mem};

use ocib_dockerfile::{Command, Expander, Instruction, Span, Spanned, redacted_instruction};
use ocib_image::{Config, ContainerConfig, History, Platform, Remote};

pub(crate) use delegated::{Act, Around, Delegated, RunPlan, Script, Start, Within};
pub(crate) use mount::{MountKind, MountPlan, MountSource, Owner};
pub(crate) use simple::{SUPERUSER, SimpleRun, mode_after};

use crate::{
    Error, Problem,
    files::Mode,
    stages::{Images, Origin, Stages},
};

/// What is to be done for one platform.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) platform: Platform,
    /// The stages that are needed, in order; the last one is the image.
    pub(crate) stages: Vec<StagePlan>,
    /// What the user should look at.
    pub(crate) warnings: Vec<Warning>,
}

/// Something that is allowed and seldom meant, under BuildKit's name for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// The rule, such as `InvalidBaseImagePlatform`.
    pub rule: &'static str,
    /// What was found.
    pub message: String,
    /// Where in the Dockerfile.
    pub span: Span,
}

/// What one stage does.
#[derive(Debug)]
pub(crate) struct StagePlan {
    pub(crate) index: usize,
    /// In lower case.
    pub(crate) name: Option<String>,
    pub(crate) base: Origin,
    /// What makes layers, in order: native, delegated and native again, each only if there is any.
    pub(crate) parts: Vec<StagePart>,
    /// The config of what the stage makes, complete but for its diff IDs.
    pub(crate) config: ContainerConfig,
}

/// A stretch of a stage, by who carries it out.
#[derive(Debug)]
pub(crate) enum StagePart {
    /// ocib itself: each step makes a layer.
    Native(Vec<Step>),
    /// A backend that has containers.
    Delegated(Box<Delegated>),
}

/// Something that makes a layer.
#[derive(Debug)]
pub(crate) struct Step {
    /// As history and progress show it.
    pub(crate) created_by: String,
    pub(crate) span: Span,
    pub(crate) action: Action,
}

impl Step {
    /// As progress shows it.
    pub(crate) fn title(&self) -> &str {
        match &self.action {
            // History has all ARGs before the command.
            Action::Run(simple) => &simple.title,
            _ => self.created_by.trim_end_matches(" # buildkit"),
        }
    }

    /// Where it copies from, if that is not the context or the network.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        match &self.action {
            Action::Copy(copy) => copy.from.as_ref(),
            Action::Directory { .. } | Action::Run(_) => None,
        }
    }
}

/// How a layer is made, natively. A RUN is no such action and cannot be written here, unless all its
/// commands are known.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// WORKDIR: a directory and its parents.
    Directory {
        /// Absolute.
        path: String,
        /// USER as it was then, or empty.
        user: String,
    },
    /// COPY and ADD.
    Copy(CopyPlan),
    /// A RUN of simple commands.
    Run(Box<SimpleRun>),
}

/// A heredoc of COPY or ADD.
#[derive(Clone, Debug)]
pub(crate) struct Inline {
    /// As it was written.
    pub(crate) name: String,
    /// The file's name.
    pub(crate) file: String,
    pub(crate) content: String,
}

/// A COPY or ADD with all its words expanded.
#[derive(Clone, Debug)]
pub(crate) struct CopyPlan {
    /// Where the sources are; `None` for the main context.
    pub(crate) from: Option<Origin>,
    /// Whether archives are unpacked.
    pub(crate) unpack: bool,
    /// Whether fetched ones are too.
    pub(crate) unpack_remote: bool,
    pub(crate) sources: Vec<Source>,
    /// Files that stand in the Dockerfile.
    pub(crate) inline: Vec<Inline>,
    /// Absolute, ending in a slash if it must be a directory.
    pub(crate) destination: String,
    pub(crate) chown: Option<Spanned<String>>,
    pub(crate) chmod: Mode,
    pub(crate) link: bool,
    pub(crate) parents: bool,
    pub(crate) exclude: Vec<Spanned<String>>,
}

/// One source of a COPY or ADD.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A path, perhaps with wildcards.
    Path(Spanned<String>),
    /// What ADD fetches.
    Remote(Spanned<Remote>),
}

impl Plan {
    /// Fails at the first RUN, if there is one.
    pub(crate) fn require_native(&self) -> Result<(), Error> {
        let mut parts = self.stages.iter().flat_map(|stage| &stage.parts);
        parts.try_for_each(|part| match part {
            StagePart::Native(_) => Ok(()),
            StagePart::Delegated(delegated) => {
                let why = delegated.doubt().map(str::to_owned);
                Err(Problem::Run { why }.at(delegated.first_span()))
            }
        })
    }

    /// All that is fetched, also between RUNs.
    pub(crate) fn remotes(&self) -> impl Iterator<Item = &Spanned<Remote>> {
        let parts = self.stages.iter().flat_map(|stage| &stage.parts);
        let steps = parts.flat_map(|part| match part {
            StagePart::Native(steps) => steps.iter().collect::<Vec<_>>(),
            StagePart::Delegated(delegated) => delegated.steps().collect(),
        });
        let sources = steps.into_iter().flat_map(|step| match &step.action {
            Action::Copy(copy) => &copy.sources[..],
            Action::Directory { .. } | Action::Run(_) => &[],
        });
        sources.filter_map(|source| match source {
            Source::Remote(remote) => Some(remote),
            Source::Path(_) => None,
        })
    }
}

/// RUNs that look simple, but that files were found to speak against, by their places: why.
pub(crate) type Doubts = BTreeMap<Span, String>;

/// Plans the build for one platform. All images that [`Stages::missing`] names are there. What is in
/// `doubts` is not taken to be simple.
pub(crate) fn plan(stages: &Stages<'_>, images: &Images, doubts: &Doubts) -> Result<Plan, Error> {
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    let mut plans = Vec::new();
    for index in stages.needed(images)? {
        let mut dispatcher = Dispatcher::new(stages, images, doubts, index, &states)?;
        let triggers = stages.triggers(index, images)?;
        let stage = &stages.dockerfile().stages[index];
        let parts = dispatcher.parts(triggers.iter().chain(&stage.instructions))?;
        let state = dispatcher.state;
        let base = stages.bases[index].0.clone();
        let name = stage.name.as_ref().map(|name| name.value.clone());
        plans.push(StagePlan { index, name, base, parts, config: state.config.clone() });
        states.insert(index, state);
    }
    // Nothing that the target needs comes after it, so the target is the last one.
    let warnings = platform_warnings(stages, images)?;
    let mut plan = Plan { platform: stages.platform.clone(), stages: plans, warnings };
    if let Some(last) = plan.stages.last_mut() {
        let labels = stages.request.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
        last.config.runtime.labels.extend(labels);
        // Whatever platform FROM asked for, the image is said to be for the target's.
        last.config.set_platform(&stages.platform);
    }
    Ok(plan)
}

/// A base that is no index is taken for any platform, as BuildKit does, but not in silence, unless the
/// Dockerfile wants it so.
fn platform_warnings(stages: &Stages<'_>, images: &Images) -> Result<Vec<Warning>, Error> {
    const RULE: &str = "InvalidBaseImagePlatform";
    let mut warnings = Vec::new();
    if !ocib_dockerfile::warns_of(stages.dockerfile(), RULE) {
        return Ok(warnings);
    }
    for index in stages.needed(images)? {
        let (origin, wanted) = &stages.bases[index];
        let Origin::Image(key) = origin else { continue };
        let image = &images[&**key];
        let Config::Container(config) = &image.config else { continue };
        if let Some(have) = config.platform().filter(|have| have.serves(wanted).is_none()) {
            let name = &key.0;
            let message = format!(
                "Base image {name} was pulled with platform \"{have}\", expected \"{wanted}\" for current build"
            );
            let span = stages.dockerfile().stages[index].from.image.span;
            warnings.push(Warning { rule: RULE, message, span });
        }
    }
    Ok(warnings)
}

/// What a stage hands on to those that begin with it.
#[derive(Clone, Debug)]
struct State {
    config: ContainerConfig,
    /// What words expand to: the image's environment and the ARGs so far.
    variables: BTreeMap<String, String>,
    /// Names that ARG declared, each once, in order: RUN's history shows them.
    args: Vec<String>,
}

/// Goes through the instructions of one stage.
struct Dispatcher<'a> {
    stages: &'a Stages<'a>,
    doubts: &'a Doubts,
    index: usize,
    expander: Expander,
    state: State,
    /// Whether CMD was set in this very stage: only then ENTRYPOINT leaves it alone.
    has_cmd: bool,
    created: String,
}

/// `system.DefaultPathEnvUnix` of BuildKit.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl<'a> Dispatcher<'a> {
    fn new(
        stages: &'a Stages<'a>,
        images: &Images,
        doubts: &'a Doubts,
        index: usize,
        states: &BTreeMap<usize, State>,
    ) -> Result<Self, Error> {
        let (origin, platform) = &stages.bases[index];
        let created = history::rfc3339(stages.request.epoch);
        let mut state = match origin {
            Origin::Stage(earlier) => states[earlier].clone(),
            _ => {
                let config = base_config(stages, images, index)?;
                State { config, variables: BTreeMap::new(), args: Vec::new() }
            }
        };
        let config = &mut state.config;
        config.runtime.on_build.clear();
        config.set_created(&created);
        if !matches!(origin, Origin::Stage(_)) {
            config.set_platform(platform);
        }
        let runtime = &mut config.runtime;
        if platform.os != "windows" && !runtime.env.iter().any(|pair| pair.starts_with("PATH=")) {
            runtime.env.push(DEFAULT_PATH.to_owned());
        }
        if !runtime.working_dir.is_empty() {
            runtime.working_dir = metadata::working_dir("", &runtime.working_dir);
        }
        for pair in &runtime.env {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            state.variables.insert(key.to_owned(), value.to_owned());
        }
        let expander = Expander::new(stages.dockerfile().escape);
        Ok(Self { stages, doubts, index, expander, state, has_cmd: false, created })
    }

    /// Carries out the instructions on the state, and cuts what they make at the first and the last
    /// RUN.
    fn parts<'i>(
        &mut self,
        instructions: impl Iterator<Item = &'i Instruction>,
    ) -> Result<Vec<StagePart>, Error> {
        let mut all = Vec::new();
        let mut start = None;
        for instruction in instructions {
            let known = self.state.config.history.len();
            let act = self.instruction(instruction)?;
            // It changed no more than the history.
            if start.is_none() && act.needs_container() {
                start = Some(self.start());
            }
            let history = (self.state.config.history.len() > known).then_some(known);
            let text = redacted_instruction(instruction);
            all.push(Within { span: instruction.span, text, act, history });
        }
        Ok(cut(all, start))
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<Act, Error> {
        let span = instruction.span;
        let known = self.state.config.history.len();
        match &instruction.command {
            Command::Run(run) => return self.run(run, instruction),
            Command::Add(transfer) => return self.transfer("ADD", transfer, span).map(Act::Layer),
            Command::Copy(transfer) => return self.transfer("COPY", transfer, span).map(Act::Layer),
            Command::Workdir(path) => {
                if let Some(step) = self.workdir(path, span)? {
                    return Ok(Act::Layer(step));
                }
            }
            Command::Arg(args) => self.arg(args)?,
            Command::Env(pairs) => self.env(pairs)?,
            Command::Label(pairs) => self.label(pairs)?,
            Command::Cmd(command) => self.cmd(command)?,
            Command::Entrypoint(command) => self.entrypoint(command)?,
            Command::Expose(ports) => self.expose(ports)?,
            Command::Healthcheck(check) => self.healthcheck(check)?,
            Command::Maintainer(author) => self.maintainer(author)?,
            Command::OnBuild(trigger) => self.on_build(trigger)?,
            Command::Shell(words) => self.shell(words)?,
            Command::StopSignal(signal) => self.stop_signal(signal)?,
            Command::User(user) => self.user(user)?,
            Command::Volume(volumes) => self.volume(volumes)?,
        }
        // Triggers are for later: ONBUILD leaves no history.
        let added = self.state.config.history.get(known);
        Ok(Act::Config(added.map(|line| line.created_by.clone())))
    }

    fn expand(&self, word: &Spanned<String>) -> Result<String, Error> {
        let expanded = self.expander.word(&word.value, &self.state.variables);
        expanded.map_err(|error| Problem::Expand(error).at(word.span))
    }

    /// Adds a line of history; `makes_layer` as BuildKit's exporter counts layers.
    fn commit(&mut self, created_by: String, makes_layer: bool) {
        let mut line = History::default();
        line.created = Some(self.created.clone());
        line.created_by = created_by;
        "buildkit.dockerfile.v0".clone_into(&mut line.comment);
        line.empty_layer = !makes_layer;
        self.state.config.history.push(line);
    }
}

fn base_config(stages: &Stages<'_>, images: &Images, index: usize) -> Result<ContainerConfig, Error> {
    let (origin, platform) = &stages.bases[index];
    let Origin::Image(key) = origin else {
        let mut config = ContainerConfig::scratch(platform);
        config.runtime.working_dir = "/".to_owned();
        return Ok(config);
    };
    let image = &images[&**key];
    match &image.config {
        Config::Container(config) => Ok((**config).clone()),
        Config::Artifact(media_type, _) => {
            let name = image.pinned.clone();
            let span = stages.dockerfile().stages[index].from.image.span;
            Err(Problem::NotAnImage { name, media_type: media_type.to_string() }.at(span))
        }
    }
}

/// Native, delegated and native parts; `start` is the state before the first RUN that needs a container.
fn cut(mut all: Vec<Within>, start: Option<Start>) -> Vec<StagePart> {
    let is_run = |within: &Within| within.act.needs_container();
    let mut parts = Vec::new();
    if let (Some(start), Some(first)) = (start, all.iter().position(is_run)) {
        let last = all.iter().rposition(is_run).unwrap_or(first);
        let after = all.split_off(last + 1);
        let instructions = all.split_off(first);
        parts.extend(native(mem::replace(&mut all, after)));
        parts.push(StagePart::Delegated(Box::new(Delegated { start, instructions })));
    }
    parts.extend(native(all));
    parts
}

/// What makes layers of instructions among which is no RUN that needs a container.
fn native(all: Vec<Within>) -> Option<StagePart> {
    let step = |within: Within| match within.act {
        Act::Layer(step) => Some(step),
        Act::Run(RunPlan { created_by, simple: Some(simple), .. }) => {
            Some(Step { created_by, span: within.span, action: Action::Run(simple) })
        }
        Act::Config(_) | Act::Run(_) => None,
    };
    let steps: Vec<Step> = all.into_iter().filter_map(step).collect();
    (!steps.is_empty()).then_some(StagePart::Native(steps))
}

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
pub(crate) mod tests;
