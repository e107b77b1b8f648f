//! From a delegated part to what a backend is asked for.
//!
//! Files that are copied between RUNs are layers of one small image, each below a directory of its own, and
//! COPY takes them from there: so they are looked up here by the rules that hold everywhere in ocib, and put
//! to their place by the backend, which alone knows what a RUN has left there (a link, a directory).

mod copies;
#[cfg(test)]
mod golden;
mod mounts;
mod script;
mod writer;

use ocib_image::{ContainerConfig, DiffId, Digest, Digester};

use super::{
    Lowering, Part, Target,
    stages::{Stage, Stages},
};
use crate::{
    Error, Problem,
    delegate::{Input, Member, Template, Wanted},
    plan::{Delegated, StagePlan, Within},
    stages::Origin,
};
use writer::{Writer, Written};

/// What a key begins with; changes whenever the same Dockerfile comes to be given to backends otherwise.
const FORMAT: &str = "ocib-run-1";
/// How many times as large as its stored form a base is on a disk, about.
const UNPACKED: u64 = 3;

impl Lowering {
    /// What a backend has to be asked for; `None` if the part takes files from a stage that is not complete.
    pub(super) fn wanted(
        &mut self,
        plan: &StagePlan,
        part: &Delegated,
        stage: &Stage,
        stages: &Stages,
    ) -> Result<Option<Wanted>, Error> {
        let is_waiting =
            |origin: &Origin| matches!(origin, Origin::Stage(from) if stages.complete(*from).is_none());
        if part.instructions.iter().flat_map(Within::origins).any(is_waiting) {
            return Ok(None);
        }
        let before = diff_ids(self, &stage.parts)?;
        let mut writer = Writer::new(self, stages, part);
        let lines_before = writer.from(plan, stage, &before)?;
        for (number, within) in part.instructions.iter().enumerate() {
            writer.instruction(number, within)?;
        }
        let copied_bytes = writer.copied_bytes();
        let Written { images, dockerfile, context, secrets } = writer.finish()?;
        let position = |offset| self.request.dockerfile.position(offset).line;
        let span = part.span();
        let name = plan.name.clone().unwrap_or_else(|| format!("stage {}", plan.index));
        let (first, last) = (position(span.start), position(span.end.saturating_sub(1).max(span.start)));
        let lines = if first == last { format!("line {first}") } else { format!("lines {first} to {last}") };
        Ok(Some(Wanted {
            stage: plan.index,
            key: key(part, &images, &dockerfile, &context),
            title: format!("{name}, {lines}"),
            span,
            platform: part.start.platform.clone(),
            images,
            dockerfile,
            context,
            secrets,
            before,
            lines_before,
            disk_bytes: stage.parts.iter().map(part_bytes).sum::<u64>() + 2 * copied_bytes,
        }))
    }
}

fn key(part: &Delegated, images: &[Input], dockerfile: &Template, context: &[Member]) -> Digest {
    let identities: Vec<String> = images.iter().map(|image| image.identity().to_string()).collect();
    let mut digester = Digester::new();
    for text in [FORMAT, &part.start.platform.to_string(), &dockerfile.text(&identities)] {
        digester.update(text.as_bytes());
        digester.update(b"\n");
    }
    for member in context {
        digester.update(member.identity.to_string().as_bytes());
    }
    digester.finish()
}

/// What layers are. Where nothing is made, what they are made of stands for those that are made.
fn diff_ids(lowering: &Lowering, parts: &[Part]) -> Result<Vec<DiffId>, Error> {
    let diff_id = |part: &Part| match part {
        Part::Base(_, diff_id) | Part::Ran(_, diff_id, _) => Ok(*diff_id),
        Part::Made(make) if lowering.only_looks => Ok(DiffId(make.key)),
        Part::Made(make) => make.diff_id().map_err(|error| Problem::Layer(error).at(make.span)),
    };
    parts.iter().map(diff_id).collect()
}

fn part_bytes(part: &Part) -> u64 {
    match part {
        Part::Base(blob, _) | Part::Ran(blob, ..) => blob.descriptor.size.saturating_mul(UNPACKED),
        Part::Made(make) => make.files.size().tar_bytes,
    }
}

/// An image that has to be put into the run repository.
fn made(part: &Delegated, parts: &[Part], mut config: ContainerConfig, diff_ids: &[DiffId]) -> Input {
    config.diff_ids = diff_ids.to_vec();
    let identity = Digest::of(&config.to_bytes());
    let target = Target { platform: part.start.platform.clone(), parts: parts.to_vec(), config };
    Input::Made(Box::new(target), identity)
}
