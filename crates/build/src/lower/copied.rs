//! How much of the contexts COPY and ADD take, found out without asking for an image.

use std::{collections::BTreeMap, sync::Arc};

use ocib_dockerfile::Span;

use super::Lowering;
use crate::{
    files::Rootfs,
    plan::{Action, CopyPlan, Plan, Source, StagePart, Step},
};

impl Lowering {
    /// The bytes that each copy of files takes, by where it stands, where every image is taken for empty. What
    /// cannot be copied then is left out: it may be there in truth, and if it is not, the build tells it better.
    pub(crate) fn copied(&mut self, plan: &Plan) -> BTreeMap<Span, u64> {
        let mut copied = BTreeMap::new();
        let mut stages: BTreeMap<usize, Rootfs> = BTreeMap::new();
        for stage in &plan.stages {
            let mut files = self.base_files(&stage.base, &stages);
            let steps = stage.parts.iter().flat_map(|part| match part {
                StagePart::Native(steps) => steps.iter().collect::<Vec<_>>(),
                StagePart::Delegated(delegated) => delegated.steps().collect(),
            });
            for (step, copy) in steps.filter_map(|step| Some((step, copy_of(step)?))) {
                if let Ok(layer) = self.copy(step.span, &copy, &files, &stages) {
                    copied.insert(step.span, layer.size().content_bytes);
                    files.push(Arc::new(layer));
                }
            }
            stages.insert(stage.index, files);
        }
        copied
    }
}

/// What a step copies out of files that are at hand; whom they belong to makes no difference, and archives are not
/// read for this.
fn copy_of(step: &Step) -> Option<CopyPlan> {
    let Action::Copy(copy) = &step.action else { return None };
    let is_at_hand = |source: &Source| matches!(source, Source::Path(_));
    let sources = copy.sources.iter().filter(|source| is_at_hand(source)).cloned().collect();
    Some(CopyPlan { sources, chown: None, unpack: false, ..copy.clone() })
}
