//! Stages: what each begins with, which ones the target needs, and which images those need.
//!
//! `FROM`, global `ARG`s, the platform and the names in `--from` alone decide it, so all images can
//! be asked for at once, before anything is planned. Only triggers (ONBUILD) of the images that
//! come back can add more, and then the question is asked again.

use std::collections::{BTreeMap, BTreeSet};

use ocib_dockerfile::{Command, Dockerfile, Expander, Instruction, Mount, Span, Spanned, Stage, Transfer};
use ocib_image::{Config, Image, ImageName, Platform};

use crate::{Error, NamedContext, Problem, Request};

/// An image for a platform: what is resolved and pinned.
pub(crate) type ImageKey = (ImageName, Platform);

/// The images that are known.
pub(crate) type Images = BTreeMap<ImageKey, Image>;

/// The build platform that `$BUILDPLATFORM` names. Nothing is ever run on the machine that ocib runs
/// on, so the machine must not leak into digests: it is always this one.
const BUILD_PLATFORM: (&str, &str) = ("linux", "amd64");

/// Where a stage or a `--from` takes its files from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// Nothing.
    Scratch,
    /// The stage of that number.
    Stage(usize),
    /// An image.
    Image(Box<ImageKey>),
    /// A `--build-context` that is a directory, by its name.
    Tree(String),
}

/// All stages of a Dockerfile for one platform.
#[derive(Debug)]
pub(crate) struct Stages<'a> {
    pub(crate) request: &'a Request,
    pub(crate) platform: Platform,
    pub(crate) globals: BTreeMap<String, String>,
    /// What each stage begins with, and the platform of the image there.
    pub(crate) bases: Vec<(Origin, Platform)>,
    pub(crate) target: usize,
}

impl<'a> Stages<'a> {
    pub(crate) fn new(request: &'a Request, platform: &Platform) -> Result<Self, Error> {
        let dockerfile = &*request.dockerfile;
        let target = find_target(dockerfile, request.target.as_deref())?;
        let name = dockerfile.stages[target].name.as_ref().map_or("default", |name| &name.value);
        let globals = globals(request, platform, name)?;
        let mut stages = Self { request, platform: platform.clone(), globals, bases: Vec::new(), target };
        for stage in &dockerfile.stages {
            let base = stages.base(stage)?;
            stages.bases.push(base);
        }
        stages.check_order()?;
        Ok(stages)
    }

    /// What BuildKit asks of all stages, needed or not (`buildStageDependencyGraph`): that each `--from` names
    /// something, and that no stages wait for each other.
    fn check_order(&self) -> Result<(), Error> {
        let mut waiting = BTreeMap::new();
        let mut waited_for = vec![Vec::new(); self.dockerfile().stages.len()];
        for stage in &self.dockerfile().stages {
            let from = self.copied_stages(stage)?;
            from.iter().for_each(|(other, _)| waited_for[*other].push(stage.index));
            waiting.insert(stage.index, from);
        }
        let mut open: Vec<usize> = waiting.values().map(Vec::len).collect();
        let mut ready: Vec<usize> = (0..open.len()).filter(|index| open[*index] == 0).collect();
        while let Some(index) = ready.pop() {
            waiting.remove(&index);
            for waits in std::mem::take(&mut waited_for[index]) {
                open[waits] -= 1;
                if open[waits] == 0 {
                    ready.push(waits);
                }
            }
        }
        let is_circle = |index: &usize, other: &usize| index <= other && waiting.contains_key(other);
        let mut sources = waiting.iter().flat_map(|(index, from)| from.iter().map(move |from| (index, from)));
        match sources.find(|(index, (other, _))| is_circle(index, other)) {
            Some((_, (_, from))) => Err(Problem::StageNotBefore { name: from.value.clone() }.at(from.span)),
            None => Ok(()),
        }
    }

    /// The stages that a stage copies from or mounts, with what names them.
    fn copied_stages(&self, stage: &Stage) -> Result<Vec<(usize, Spanned<String>)>, Error> {
        let mut sources = Vec::new();
        for instruction in &stage.instructions {
            match &instruction.command {
                Command::Copy(Transfer { from: Some(from), .. }) => {
                    sources.push((self.copied_stage(from)?, from.clone()));
                }
                Command::Run(run) => {
                    let mounted = run.mounts.iter().filter_map(mount_from);
                    sources.extend(mounted.map(|from| (self.mounted_stage(&from), from)));
                }
                _ => {}
            }
        }
        let mut stages = Vec::new();
        for (index, from) in sources {
            match index {
                Some(index) => stages.push((index, from)),
                None => drop(self.origin(stage.index, &from, None)?),
            }
        }
        Ok(stages)
    }

    pub(crate) fn dockerfile(&self) -> &'a Dockerfile {
        &self.request.dockerfile
    }

    fn base(&self, stage: &Stage) -> Result<(Origin, Platform), Error> {
        let expand = |word: &Spanned<String>| {
            let expander = Expander::new(self.dockerfile().escape);
            let expanded = expander.word(&word.value, &self.globals);
            expanded.map_err(|error| Problem::Expand(error).at(word.span))
        };
        let platform = match &stage.from.platform {
            None => self.platform.clone(),
            Some(written) => {
                let text = expand(written)?;
                let bad = |why| Problem::BadPlatform { written: written.value.clone(), why }.at(written.span);
                if text.is_empty() {
                    return Err(bad("it expands to nothing".to_owned()));
                }
                text.parse::<Platform>().map_err(|error| bad(error.to_string()))?
            }
        };
        let image = &stage.from.image;
        let name = expand(image)?;
        if name.is_empty() {
            return Err(Problem::BlankBase { written: image.value.clone() }.at(image.span));
        }
        // A context given under the stage's own name takes the stage's place.
        if let Some(own) = &stage.name
            && let Some(context) = self.request.named_context(&own.value)
        {
            return Ok((named(context, &own.value, &platform), platform));
        }
        let earlier = &self.dockerfile().stages[..stage.index];
        let is_called = |stage: &&Stage| stage.name.as_ref().is_some_and(|own| own.value == name);
        let origin = match earlier.iter().rev().find(is_called) {
            Some(stage) => Origin::Stage(stage.index),
            None if name == "scratch" => Origin::Scratch,
            None => self.image(&name, &platform, image.span)?,
        };
        // A stage that goes on from another has that one's platform.
        let platform = match origin {
            Origin::Stage(earlier) => self.bases[earlier].1.clone(),
            Origin::Scratch => self.platform.clone(),
            _ => platform,
        };
        Ok((origin, platform))
    }

    fn image(&self, name: &str, platform: &Platform, span: Span) -> Result<Origin, Error> {
        match self.request.named_context(name) {
            Some(context) => Ok(named(context, name, platform)),
            None => {
                let reference = name.parse::<ocib_image::Reference>();
                let reference = reference.map_err(|error| Problem::BadReference(error).at(span))?;
                Ok(Origin::Image(Box::new((ImageName::Registry(reference.or_latest()), platform.clone()))))
            }
        }
    }

    /// What `--from` of a COPY in stage `current` names.
    pub(crate) fn copy_origin(&self, current: usize, from: &Spanned<String>) -> Result<Origin, Error> {
        self.origin(current, from, self.copied_stage(from)?)
    }

    /// What `from` of a RUN's `--mount` names: as for COPY, but numbers are no stages (BuildKit,
    /// `detectRunMount`).
    pub(crate) fn mount_origin(&self, current: usize, from: &Spanned<String>) -> Result<Origin, Error> {
        let from = without_variable(from)?;
        self.origin(current, from, self.mounted_stage(from))
    }

    /// The stage of that number or name, which has to come before stage `current`, or something else of that name.
    fn origin(&self, current: usize, from: &Spanned<String>, stage: Option<usize>) -> Result<Origin, Error> {
        match stage {
            Some(index) if index < current => Ok(Origin::Stage(index)),
            Some(_) => Err(Problem::StageNotBefore { name: from.value.clone() }.at(from.span)),
            None if from.value == "scratch" => Ok(Origin::Scratch),
            None => self.image(&from.value, &self.platform, from.span),
        }
    }

    /// The stage that `--from` of a COPY names by its number or its name.
    fn copied_stage(&self, from: &Spanned<String>) -> Result<Option<usize>, Error> {
        let count = self.dockerfile().stages.len();
        match without_variable(from)?.value.parse::<i64>() {
            Err(_) => Ok(self.mounted_stage(from)),
            Ok(index) => match usize::try_from(index) {
                Ok(index) if index < count => Ok(Some(index)),
                _ => Err(Problem::StageIndex { index, count }.at(from.span)),
            },
        }
    }

    /// The last stage of that name: unlike FROM, whose names are those so far, this looks at all.
    fn mounted_stage(&self, from: &Spanned<String>) -> Option<usize> {
        let name = from.value.to_lowercase();
        let is_called = |stage: &&Stage| stage.name.as_ref().is_some_and(|own| own.value == name);
        self.dockerfile().stages.iter().rfind(is_called).map(|stage| stage.index)
    }

    /// The stages that the target needs, in order, as far as `images` tell.
    pub(crate) fn needed(&self, images: &Images) -> Result<BTreeSet<usize>, Error> {
        let mut needed = BTreeSet::new();
        let mut todo = vec![self.target];
        while let Some(index) = todo.pop() {
            if needed.insert(index) {
                let origins = self.origins(index, images)?;
                todo.extend(origins.iter().filter_map(|(origin, _)| match origin {
                    Origin::Stage(stage) => Some(*stage),
                    _ => None,
                }));
            }
        }
        Ok(needed)
    }

    /// The images that the target needs and `images` lack, with the place to blame.
    pub(crate) fn missing(&self, images: &Images) -> Result<Vec<(ImageKey, Span)>, Error> {
        let mut missing = Vec::new();
        for index in self.needed(images)? {
            for (origin, span) in self.origins(index, images)? {
                if let Origin::Image(key) = origin
                    && !images.contains_key(&*key)
                {
                    missing.push((*key, span));
                }
            }
        }
        Ok(missing)
    }

    /// Everything that a stage takes files from.
    fn origins(&self, index: usize, images: &Images) -> Result<Vec<(Origin, Span)>, Error> {
        let stage = &self.dockerfile().stages[index];
        let mut origins = vec![(self.bases[index].0.clone(), stage.from.image.span)];
        let triggers = self.triggers(index, images)?;
        for instruction in triggers.iter().chain(&stage.instructions) {
            match &instruction.command {
                Command::Copy(Transfer { from: Some(from), .. }) => {
                    origins.push((self.copy_origin(index, from)?, from.span));
                }
                Command::Run(run) => {
                    for from in run.mounts.iter().filter_map(mount_from) {
                        origins.push((self.mount_origin(index, &from)?, from.span));
                    }
                }
                _ => {}
            }
        }
        Ok(origins)
    }

    /// The triggers that the base of a stage brings; their spans are that of FROM.
    pub(crate) fn triggers(&self, index: usize, images: &Images) -> Result<Vec<Instruction>, Error> {
        let stage = &self.dockerfile().stages[index];
        let texts: Vec<String> = match &self.bases[index].0 {
            Origin::Image(key) => match images.get(&**key).map(|image| &image.config) {
                Some(Config::Container(config)) => config.runtime.on_build.clone(),
                _ => Vec::new(),
            },
            Origin::Stage(earlier) => {
                let instructions = &self.dockerfile().stages[*earlier].instructions;
                let trigger = |instruction: &Instruction| match &instruction.command {
                    Command::OnBuild(text) => Some(text.clone()),
                    _ => None,
                };
                instructions.iter().filter_map(trigger).collect()
            }
            Origin::Scratch | Origin::Tree(_) => Vec::new(),
        };
        let parse = |text: String| match ocib_dockerfile::parse_trigger(&text) {
            Ok(instruction) => Ok(relocated(instruction, stage.span)),
            Err(source) => Err(Problem::BadTrigger { trigger: text, source }.at(stage.span)),
        };
        texts.into_iter().map(parse).collect()
    }
}

fn without_variable(from: &Spanned<String>) -> Result<&Spanned<String>, Error> {
    if from.value.contains('$') { Err(Problem::VariableInFrom.at(from.span)) } else { Ok(from) }
}

/// What a mount takes files from, if that is not the context.
fn mount_from(mount: &Mount) -> Option<Spanned<String>> {
    let from = mount.option("from").filter(|from| !from.is_empty())?;
    Some(Spanned::new(from.to_owned(), mount.text.span))
}

/// A trigger's own spans count in its text, which no Dockerfile shows.
fn relocated(mut instruction: Instruction, span: Span) -> Instruction {
    instruction.span = span;
    if let Command::Copy(transfer) | Command::Add(transfer) = &mut instruction.command {
        let words = transfer.sources.iter_mut().chain([&mut transfer.destination]);
        let flags = transfer.from.iter_mut().chain(&mut transfer.chown).chain(&mut transfer.chmod);
        words.chain(flags).chain(&mut transfer.exclude).for_each(|word| word.span = span);
    }
    if let Command::Run(run) = &mut instruction.command {
        run.mounts.iter_mut().for_each(|mount| mount.text.span = span);
    }
    instruction
}

fn named(context: &NamedContext, name: &str, platform: &Platform) -> Origin {
    match context {
        NamedContext::Image(image) => Origin::Image(Box::new((image.clone(), platform.clone()))),
        NamedContext::Tree(..) => Origin::Tree(name.to_owned()),
    }
}

fn find_target(dockerfile: &Dockerfile, wanted: Option<&str>) -> Result<usize, Error> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
        return Ok(dockerfile.stages.len().saturating_sub(1));
    };
    dockerfile.stage(wanted).ok_or_else(|| Error::UnknownTarget {
        name: wanted.to_owned(),
        stages: dockerfile.stage_names().map(str::to_owned).collect(),
    })
}

/// The global scope: automatic platform arguments, then the ARGs before the first FROM.
fn globals(request: &Request, platform: &Platform, stage: &str) -> Result<BTreeMap<String, String>, Error> {
    let (os, architecture) = BUILD_PLATFORM;
    let variant = platform.variant.clone().unwrap_or_default();
    let automatic = [
        ("BUILDPLATFORM", format!("{os}/{architecture}")),
        ("BUILDOS", os.to_owned()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", architecture.to_owned()),
        ("BUILDVARIANT", String::new()),
        ("TARGETPLATFORM", platform.to_string()),
        ("TARGETOS", platform.os.clone()),
        ("TARGETOSVERSION", platform.os_version.clone().unwrap_or_default()),
        ("TARGETARCH", platform.architecture.clone()),
        ("TARGETVARIANT", variant),
        ("TARGETSTAGE", stage.to_owned()),
    ];
    let mut globals = BTreeMap::new();
    for (key, value) in automatic {
        globals.insert(key.to_owned(), request.build_args.get(key).cloned().unwrap_or(value));
    }
    let expander = Expander::new(request.dockerfile.escape);
    for instruction in &request.dockerfile.global_args {
        let Command::Arg(args) = &instruction.command else { continue };
        for arg in args {
            let value = match (request.build_args.get(&arg.key.value), &arg.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    let expanded = expander.word(&default.value, &globals);
                    Some(expanded.map_err(|error| Problem::Expand(error).at(default.span))?)
                }
                (None, None) => None,
            };
            if let Some(value) = value {
                globals.insert(arg.key.value.clone(), value);
            }
        }
    }
    Ok(globals)
}
