//! From a plan to an outline: how much each step makes, without making it.
//!
//! Where a container has to run first, the files below a step or those it copies are unknown. A copy
//! out of a known place onto an unknown file system still has a known number of files and bytes: only
//! its parents and owners depend on what is below.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ocib_image::{Config, LayerSource as _, Unsealed};

use super::{Lowering, Part, Stages, Target, Unlowered};
use crate::{
    Error, FilesFrom, LayerOutline, PartOutline, StepOutline, StepSize,
    delegate::{Input, JobContext, Results, Wanted},
    files::{FilesLayer, Rootfs},
    outline::{
        BaseOutline, DelegatedOutline, InputOutline, InstructionOutline, JobOutline, StageOutline,
        TargetOutline,
    },
    plan::{Act, Action, CopyPlan, Delegated, MountSource, Plan, Source, StagePart, StagePlan, Step, Within},
    stages::{ImageKey, Origin},
};

/// What is known of the stages so far.
#[derive(Default)]
struct Known {
    files: BTreeMap<usize, Rootfs>,
    /// Stages whose files depend on a delegated part, with the stage of that part.
    after: BTreeMap<usize, usize>,
    layers: BTreeMap<usize, Vec<LayerOutline>>,
    /// What backends would be asked for, by stage.
    jobs: BTreeMap<usize, JobOutline>,
}

impl Lowering {
    /// What carrying out the plan of one platform would make.
    pub(crate) fn survey(&mut self, plan: Plan) -> Result<TargetOutline, Error> {
        let mut lowered = Stages::new(plan);
        loop {
            // Parts that wait for the results of others are not written yet.
            let wanted = lowered.advance(self, &Results::new())?;
            match self.survey_of(lowered.plan(), &wanted) {
                Ok(outline) => return Ok(outline),
                Err(Unlowered::Error(error)) => return Err(error),
                // In a part that waits.
                Err(Unlowered::Doubt(span, why)) => lowered.begin_anew(self, span, why)?,
            }
        }
    }

    fn survey_of(&mut self, plan: &Plan, wanted: &[Arc<Wanted>]) -> Result<TargetOutline, Unlowered> {
        let bases = self.bases_of(plan);
        let jobs = wanted.iter().map(|wanted| (wanted.stage, job_outline(wanted))).collect();
        let mut known = Known { jobs, ..Known::default() };
        let mut stages = Vec::new();
        for stage in &plan.stages {
            stages.push(self.stage_outline(stage, &mut known)?);
        }
        let target = plan.stages.last().expect("a plan has at least the target's stage");
        let layers = known.layers.remove(&target.index).unwrap_or_default();
        let (platform, config) = (plan.platform.clone(), target.config.clone());
        Ok(TargetOutline { platform, bases, stages, layers, config })
    }

    fn stage_outline(&mut self, stage: &StagePlan, known: &mut Known) -> Result<StageOutline, Unlowered> {
        let mut files = self.base_files(&stage.base, &known.files);
        let mut after = match &stage.base {
            Origin::Stage(earlier) => known.after.get(earlier).copied(),
            _ => None,
        };
        let mut layers = self.base_layers(&stage.base, known)?;
        let mut parts = Vec::new();
        for part in &stage.parts {
            parts.push(match part {
                StagePart::Delegated(delegated) => {
                    after = Some(stage.index);
                    layers.push(LayerOutline::Delegated(stage.index));
                    PartOutline::Delegated(Box::new(delegated_outline(
                        delegated,
                        known.jobs.remove(&stage.index),
                    )))
                }
                StagePart::Native(steps) => {
                    let mut outlines = Vec::new();
                    for step in steps {
                        let (size, layer) = self.step_size(step, &files, after, known)?;
                        let recalled = layer.as_ref().map(|layer| self.recall(layer)).transpose()?;
                        match layer.filter(|_| after.is_none()) {
                            Some(layer) => files.push(layer),
                            // What is in this layer is in every later one's way.
                            None => after = after.or(size.after()),
                        }
                        let outline = self.step_outline(step, size, recalled.map(|recalled| recalled.layer));
                        layers.push(LayerOutline::Made(stage.index, outline.clone()));
                        outlines.push(outline);
                    }
                    PartOutline::Native(outlines)
                }
            });
        }
        known.files.insert(stage.index, files);
        known.after.extend(after.map(|after| (stage.index, after)));
        known.layers.insert(stage.index, layers);
        let (name, base) = (stage.name.clone(), files_from(&stage.base));
        Ok(StageOutline { index: stage.index, name, base, parts })
    }

    fn base_layers(&self, base: &Origin, known: &Known) -> Result<Vec<LayerOutline>, Error> {
        if let Origin::Stage(earlier) = base {
            return Ok(known.layers[earlier].clone());
        }
        let layer = |part| match part {
            Part::Base(blob, diff_id) => Some(LayerOutline::Base(blob, diff_id)),
            Part::Ran(..) | Part::Made(_) => None,
        };
        Ok(self.base_parts(base)?.into_iter().filter_map(layer).collect())
    }

    /// How much a step makes; the layer itself if it is known to the last header. `after` is the stage
    /// whose delegated part decides what is in `files`, if one does.
    fn step_size(
        &mut self,
        step: &Step,
        files: &Rootfs,
        after: Option<usize>,
        known: &Known,
    ) -> Result<(StepSize, Option<Arc<FilesLayer>>), Unlowered> {
        if let Action::Copy(CopyPlan { from: Some(Origin::Stage(from)), .. }) = &step.action
            && let Some(&after) = known.after.get(from)
        {
            return Ok((StepSize::Unknown { after }, None));
        }
        let Some(after) = after else {
            let layer = Arc::new(self.step(step, files, &known.files)?);
            return Ok((StepSize::Known(layer.size()), Some(layer)));
        };
        match &step.action {
            Action::Directory { .. } | Action::Run(_) => Ok((StepSize::Unknown { after }, None)),
            Action::Copy(copy) if copy.link => {
                let layer = Arc::new(self.step(step, &Rootfs::default(), &known.files)?);
                Ok((StepSize::Known(layer.size()), Some(layer)))
            }
            Action::Copy(copy) => {
                // Whom the owner's name means is written in files that are not there yet.
                let action = Action::Copy(CopyPlan { chown: None, ..copy.clone() });
                let step = Step { created_by: step.created_by.clone(), span: step.span, action };
                let size = self.step(&step, &Rootfs::default(), &known.files)?.size();
                let (files, content_bytes) = (size.files, size.content_bytes);
                Ok((StepSize::Files { files, content_bytes, after }, None))
            }
        }
    }

    fn step_outline(&self, step: &Step, size: StepSize, layer: Option<Unsealed>) -> StepOutline {
        StepOutline {
            span: step.span,
            text: step.title().to_owned(),
            sources: sources(step),
            size,
            compression: layer.as_ref().map_or(self.request.compression, |layer| layer.compression),
            foreknown: layer.map(|layer| Box::new(layer.foreknown)),
        }
    }

    /// Every image that the plan takes files from, once.
    fn bases_of(&self, plan: &Plan) -> Vec<BaseOutline> {
        let mut seen = BTreeSet::new();
        let origins = plan.stages.iter().flat_map(origins_of);
        let keys = origins.filter_map(|origin| match origin {
            Origin::Image(key) => Some(&**key),
            _ => None,
        });
        keys.filter(|key| seen.insert(*key)).map(|key| self.base_outline(key)).collect()
    }

    fn base_outline(&self, key: &ImageKey) -> BaseOutline {
        let image = &self.images[key];
        // An artifact's blobs are no layers of files.
        let layers = match &image.config {
            Config::Container(_) => image.layers.iter().map(|blob| blob.descriptor.clone()).collect(),
            Config::Artifact(..) => Vec::new(),
        };
        BaseOutline {
            name: key.0.clone(),
            platform: key.1.clone(),
            pinned: image.pinned.clone(),
            manifest: image.manifest.descriptor().digest,
            layers,
        }
    }
}

impl StepSize {
    /// The stage whose delegated part decides, if one does.
    fn after(self) -> Option<usize> {
        match self {
            Self::Known(_) => None,
            Self::Files { after, .. } | Self::Unknown { after } => Some(after),
        }
    }
}

/// Everything that a stage takes files from.
fn origins_of(stage: &StagePlan) -> Vec<&Origin> {
    let mut origins = vec![&stage.base];
    for part in &stage.parts {
        match part {
            StagePart::Native(steps) => origins.extend(steps.iter().filter_map(Step::origin)),
            StagePart::Delegated(delegated) => {
                origins.extend(delegated.instructions.iter().flat_map(Within::origins));
            }
        }
    }
    origins
}

fn delegated_outline(delegated: &Delegated, job: Option<JobOutline>) -> DelegatedOutline {
    let instruction = |within: &Within| InstructionOutline {
        span: within.span,
        text: within.text.clone(),
        sources: match &within.act {
            Act::Layer(step) => sources(step),
            Act::Config(_) => Vec::new(),
            Act::Run(run) => {
                let sources = run.mounts.iter().filter_map(|mount| match &mount.source {
                    MountSource::Nothing => None,
                    MountSource::Context(_) => Some(FilesFrom::Context),
                    MountSource::From(origin, _) => Some(files_from(origin)),
                });
                distinct(sources)
            }
        },
    };
    DelegatedOutline {
        span: delegated.span(),
        platform: delegated.start.platform.clone(),
        user: delegated.start.user.clone(),
        working_dir: delegated.start.working_dir.clone(),
        shell: delegated.start.shell.clone(),
        variables: delegated.start.variables.clone(),
        instructions: delegated.instructions.iter().map(instruction).collect(),
        job,
    }
}

/// What a backend would be asked for. Images that would be made have numbers for names.
fn job_outline(wanted: &Wanted) -> JobOutline {
    let mut inputs = Vec::new();
    let names = wanted.images.iter().map(|image| match image {
        Input::There(pinned, _) => pinned.to_string(),
        Input::Made(target, _) => {
            let name = format!("input-{}", inputs.len() + 1);
            inputs.push(input_outline(name.clone(), target));
            name
        }
    });
    let names: Vec<String> = names.collect();
    let context = (!wanted.context.is_empty()).then(|| JobContext::new(wanted.context.clone()));
    // What has no size cannot be written either, which whoever carries it out says.
    let context_bytes = context.and_then(|context| context.ok()?.bytes());
    JobOutline { dockerfile: wanted.dockerfile.shown(&names), inputs, context_bytes }
}

fn input_outline(name: String, target: &Target) -> InputOutline {
    let mut input = InputOutline { name, made_layers: 0, tar_bytes: 0, base_layers: 0, base_bytes: 0 };
    for part in &target.parts {
        match part {
            Part::Base(blob, _) | Part::Ran(blob, ..) => {
                input.base_layers += 1;
                input.base_bytes += blob.descriptor.size;
            }
            Part::Made(make) => {
                input.made_layers += 1;
                input.tar_bytes += make.files.size().tar_bytes;
            }
        }
    }
    input
}

fn sources(step: &Step) -> Vec<FilesFrom> {
    let Action::Copy(copy) = &step.action else { return Vec::new() };
    let paths = copy.sources.iter().map(|source| match source {
        Source::Path(_) => copy.from.as_ref().map_or(FilesFrom::Context, files_from),
        Source::Remote(_) => FilesFrom::Network,
    });
    distinct(paths.chain(copy.inline.iter().map(|inline| FilesFrom::Heredoc(inline.name.clone()))))
}

fn files_from(origin: &Origin) -> FilesFrom {
    match origin {
        Origin::Scratch => FilesFrom::Nothing,
        Origin::Stage(index) => FilesFrom::Stage(*index),
        Origin::Image(key) => FilesFrom::Image(key.0.clone()),
        Origin::Tree(name) => FilesFrom::NamedContext(name.clone()),
    }
}

/// Each once, in order.
fn distinct(all: impl Iterator<Item = FilesFrom>) -> Vec<FilesFrom> {
    let mut distinct = Vec::new();
    for from in all {
        if !distinct.contains(&from) {
            distinct.push(from);
        }
    }
    distinct
}
