//! Stage by stage as far as it goes: a stage stops at a delegated part whose result is not known yet, and at
//! a step that takes files from a stage that has stopped. What was done is kept, and goes on from there.

use std::{collections::BTreeMap, sync::Arc};

use ocib_dockerfile::Span;
use ocib_image::{Config, Image};

use super::{Lowering, Part, Target, Unlowered};
use crate::{
    Error,
    delegate::{LayersOf, Results, Wanted, correct_history, layers_of, titles},
    files::{Base, Rootfs},
    plan::{Action, CopyPlan, Delegated, Doubts, Plan, StagePart, StagePlan, Step},
    stages::Origin,
};

/// The stages of one platform while they are lowered.
#[derive(Debug)]
pub(crate) struct Stages {
    plan: Plan,
    /// What the plan is not to take for simple.
    doubts: Doubts,
    begun: BTreeMap<usize, Stage>,
    /// The files of those that are complete.
    files: BTreeMap<usize, Rootfs>,
}

/// A stage so far.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) files: Rootfs,
    pub(super) parts: Vec<Part>,
    pub(super) layers_of: LayersOf,
    /// The number of the part of the plan that is next.
    next: usize,
    /// What that part asks for.
    wanted: Option<Arc<Wanted>>,
}

impl Stages {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, doubts: Doubts::new(), begun: BTreeMap::new(), files: BTreeMap::new() }
    }

    /// Lowers what can be lowered now; gives the delegated parts whose results are wanted for more. Where a
    /// RUN turns out not to be simple, all begins anew with a plan that knows it; results are found again by
    /// their keys.
    pub(crate) fn advance(
        &mut self,
        lowering: &mut Lowering,
        results: &Results,
    ) -> Result<Vec<Arc<Wanted>>, Error> {
        loop {
            match self.try_advance(lowering, results) {
                Ok(wanted) => return Ok(wanted),
                Err(Unlowered::Error(error)) => return Err(error),
                Err(Unlowered::Doubt(span, why)) => self.begin_anew(lowering, span, why)?,
            }
        }
    }

    /// Begins with a plan that does not take the RUN at `span` for simple.
    pub(super) fn begin_anew(&mut self, lowering: &Lowering, span: Span, why: String) -> Result<(), Error> {
        self.doubts.insert(span, why);
        self.plan = lowering.planned(&self.plan.platform, &self.doubts)?;
        self.begun.clear();
        self.files.clear();
        Ok(())
    }

    fn try_advance(
        &mut self,
        lowering: &mut Lowering,
        results: &Results,
    ) -> Result<Vec<Arc<Wanted>>, Unlowered> {
        let mut wanted = Vec::new();
        for part in self.plan.stages.iter().flat_map(|plan| &plan.parts) {
            if let StagePart::Delegated(part) = part {
                lowering.require_features(part)?;
            }
        }
        for plan in &self.plan.stages {
            if self.files.contains_key(&plan.index) {
                continue;
            }
            let stage = match self.begun.remove(&plan.index) {
                Some(stage) => Some(stage),
                None => self.begin(lowering, plan)?,
            };
            let Some(mut stage) = stage else { continue };
            let is_complete = self.go_on(lowering, plan, &mut stage, results)?;
            wanted.extend(stage.wanted.clone());
            if is_complete {
                self.files.insert(plan.index, stage.files.clone());
            }
            self.begun.insert(plan.index, stage);
        }
        Ok(wanted)
    }

    /// The image, once nothing is wanted any more.
    pub(crate) fn target(mut self) -> Target {
        let last = self.plan.stages.pop().expect("a plan has at least the target's stage");
        let stage = self.begun.remove(&last.index).expect("the target's stage is complete");
        let mut config = last.config;
        correct_history(&mut config, &stage.layers_of);
        Target { platform: self.plan.platform, parts: stage.parts, config }
    }

    /// What is planned.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The stage before its first part; `None` if what it begins with is not complete.
    fn begin(&self, lowering: &mut Lowering, plan: &StagePlan) -> Result<Option<Stage>, Error> {
        if let Origin::Stage(earlier) = &plan.base {
            let complete = self.complete(*earlier);
            return Ok(complete.map(|stage| Stage { next: 0, wanted: None, ..stage.clone() }));
        }
        let parts = lowering.base_parts(&plan.base)?;
        let files = lowering.base_files(&plan.base, &self.files);
        Ok(Some(Stage { files, parts, layers_of: LayersOf::new(), next: 0, wanted: None }))
    }

    pub(super) fn complete(&self, index: usize) -> Option<&Stage> {
        self.files.get(&index).and_then(|_| self.begun.get(&index))
    }

    pub(super) fn files(&self) -> &BTreeMap<usize, Rootfs> {
        &self.files
    }

    /// Whether the stage is complete now.
    fn go_on(
        &self,
        lowering: &mut Lowering,
        plan: &StagePlan,
        stage: &mut Stage,
        results: &Results,
    ) -> Result<bool, Unlowered> {
        while let Some(part) = plan.parts.get(stage.next) {
            let is_done = match part {
                StagePart::Native(steps) => self.native(lowering, steps, stage)?,
                StagePart::Delegated(part) => self.delegated(lowering, plan, part, stage, results)?,
            };
            if !is_done {
                return Ok(false);
            }
            stage.next += 1;
        }
        Ok(true)
    }

    fn native(&self, lowering: &mut Lowering, steps: &[Step], stage: &mut Stage) -> Result<bool, Unlowered> {
        let is_waiting = |step: &Step| match &step.action {
            Action::Copy(CopyPlan { from: Some(Origin::Stage(from)), .. }) => !self.files.contains_key(from),
            _ => false,
        };
        if steps.iter().any(is_waiting) {
            return Ok(false);
        }
        for step in steps {
            let layer = Arc::new(lowering.step(step, &stage.files, &self.files)?);
            stage.files.push(Arc::clone(&layer));
            stage.parts.push(lowering.part(step, layer)?);
        }
        Ok(true)
    }

    fn delegated(
        &self,
        lowering: &mut Lowering,
        plan: &StagePlan,
        part: &Delegated,
        stage: &mut Stage,
        results: &Results,
    ) -> Result<bool, Error> {
        if stage.wanted.is_none() {
            stage.wanted = lowering.wanted(plan, part, stage, self)?.map(Arc::new);
        }
        let Some(wanted) = &stage.wanted else { return Ok(false) };
        let Some(image) = results.get(&wanted.key) else { return Ok(false) };
        stage.layers_of.extend(layers_of(part, wanted, image));
        let before = wanted.before.len();
        let titles = titles(part, wanted, image);
        stage.take(lowering, image, before, titles);
        stage.wanted = None;
        Ok(true)
    }
}

impl Stage {
    /// Goes on from `image`, which has this many layers of ours below those that are new. `titles` are the
    /// instructions that made those.
    fn take(
        &mut self,
        lowering: &Lowering,
        image: &Image,
        before: usize,
        titles: impl Iterator<Item = Arc<str>>,
    ) {
        let Config::Container(config) = &image.config else { return };
        let new = image.layers.iter().zip(&config.diff_ids).skip(before).zip(titles);
        self.parts
            .extend(new.map(|((blob, diff_id), title)| Part::Ran(Box::new(blob.clone()), *diff_id, title)));
        let base = Base::new(image, &config.diff_ids, &image.pinned, lowering.memory.clone());
        self.files = Rootfs::of(Arc::new(base));
    }
}
