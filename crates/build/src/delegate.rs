//! Delegated parts on their way: what a backend is asked for, and what comes back.
//!
//! ```text
//!  Delegated ── lower ──▶ Wanted ── carry out ──▶ Image ──▶ more base layers, a file system to go on with
//!     (plan)             key, inputs,   │ there already, by its key? then that
//!                        template       └ else: inputs into the run repository, RunJob to the backend
//! ```
//!
//! A part begins with an image and gives an image: that one with more layers on it. Whatever else stands in the
//! config of what comes back is not used, as the plan has the config already; only how many layers an
//! instruction made is read out of it.

mod carry_out;
mod context;
mod dockerfile;

use std::{collections::BTreeMap, iter, sync::Arc};

use ocib_dockerfile::Span;
use ocib_image::{Config, ContainerConfig, DiffId, Digest, Image, Platform, Reference, RunSecret};

pub(crate) use carry_out::CarryingOut;
pub use carry_out::Runs;
pub(crate) use context::{JobContext, Member};
pub(crate) use dockerfile::{
    LINE_BYTES_MAX, Line, Piece, Template, destination_path, environment, flag, is_plain, word,
};

use crate::{lower::Target, plan::Delegated};

/// A delegated part with all that is needed to have it carried out.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The number of its stage.
    pub(crate) stage: usize,
    /// Equal for parts that must give the same.
    pub(crate) key: Digest,
    /// The stage and its lines, for people.
    pub(crate) title: String,
    /// From the first RUN to the last.
    pub(crate) span: Span,
    pub(crate) platform: Platform,
    /// What the Dockerfile names by number.
    pub(crate) images: Vec<Input>,
    pub(crate) dockerfile: Template,
    /// The files that the Dockerfile takes from its context.
    pub(crate) context: Vec<Member>,
    /// What its mounts are lent by the user: no part of its key, as their contents are nobody's business.
    pub(crate) secrets: Vec<RunSecret>,
    /// The layers that it begins with.
    pub(crate) before: Vec<DiffId>,
    /// How many lines of history the image has that it begins with.
    pub(crate) lines_before: usize,
    /// About how many bytes it is on a disk before anything runs.
    pub(crate) disk_bytes: u64,
}

/// An image that a part begins with or takes files from.
#[derive(Debug)]
pub(crate) enum Input {
    /// It is in a registry: its pinned reference.
    There(Reference, Digest),
    /// It has to be put into the run repository.
    Made(Box<Target>, Digest),
}

impl Input {
    /// Equal for images that are the same to a part.
    pub(crate) fn identity(&self) -> Digest {
        match self {
            Self::There(_, digest) | Self::Made(_, digest) => *digest,
        }
    }
}

/// What parts gave, by their keys.
pub(crate) type Results = BTreeMap<Digest, Image>;

/// How many layers a line of history stands for, by its number, where that is not what was planned.
pub(crate) type LayersOf = BTreeMap<usize, usize>;

/// Makes the history of `config` tell of as many layers as there are.
pub(crate) fn correct_history(config: &mut ContainerConfig, layers_of: &LayersOf) {
    let planned = std::mem::take(&mut config.history);
    for (number, mut line) in planned.into_iter().enumerate() {
        let layers = layers_of.get(&number).copied();
        line.empty_layer |= layers == Some(0);
        config.history.extend(iter::repeat_n(line, layers.unwrap_or(1).max(1)));
    }
}

/// How many layers each instruction of `part` made, where that is not one for each. `image` is what came back.
pub(crate) fn layers_of(part: &Delegated, wanted: &Wanted, image: &Image) -> LayersOf {
    let line = |number: usize| part.instructions[number].history;
    let counts = counts(part, wanted, image);
    let lines = counts.into_iter().filter_map(|(number, count)| Some((line(number)?, count)));
    lines.filter(|(_, count)| *count != 1).collect()
}

/// The text of the instruction that made each new layer of `image`, which is what came back; without end, the
/// part's title where no instruction is known.
pub(crate) fn titles(
    part: &Delegated,
    wanted: &Wanted,
    image: &Image,
) -> impl Iterator<Item = Arc<str>> + use<> {
    let of = |(number, count): (usize, usize)| {
        iter::repeat_n(Arc::<str>::from(part.instructions[number].text.as_str()), count)
    };
    let known: Vec<_> = counts(part, wanted, image).into_iter().flat_map(of).collect();
    known.into_iter().chain(iter::repeat(Arc::from(wanted.title.as_str())))
}

/// How many layers each instruction of `part` made that should have made one, by its number.
///
/// Backends write a line of history for each instruction of their Dockerfile, so theirs is followed if it has
/// as many lines and layers as it should. If not, layers belong to the last instructions that should have made
/// one; surplus ones to the very last.
fn counts(part: &Delegated, wanted: &Wanted, image: &Image) -> Vec<(usize, usize)> {
    let Config::Container(config) = &image.config else { return Vec::new() };
    let made = config.diff_ids.len() - wanted.before.len();
    let planned: Vec<usize> = part
        .instructions
        .iter()
        .enumerate()
        .filter(|(_, within)| within.makes_layer() && within.history.is_some())
        .map(|(number, _)| number)
        .collect();
    let told = told_by(config, wanted, made);
    let last = planned.len();
    let counts = planned.iter().enumerate().map(|(at, number)| {
        let count = match &told {
            Some(told) => told.get(number).copied().unwrap_or(0),
            None if at + 1 == last => made.saturating_sub(last.saturating_sub(1)).max(usize::from(made > 0)),
            None => usize::from(at + made >= last),
        };
        (*number, count)
    });
    counts.collect()
}

/// How many layers each instruction made, by its number, as the backend's own history has it.
fn told_by(config: &ContainerConfig, wanted: &Wanted, made: usize) -> Option<BTreeMap<usize, usize>> {
    let lines = config.history.get(wanted.lines_before..)?;
    let instructions = wanted.dockerfile.instructions();
    if lines.len() != instructions.len() {
        return None;
    }
    let mut told = BTreeMap::new();
    for (_, of) in lines.iter().zip(instructions).filter(|(line, _)| !line.empty_layer) {
        *told.entry(of?).or_default() += 1;
    }
    (told.values().sum::<usize>() == made).then_some(told)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Request,
        lower::{Lowering, Stages},
        plan::{self, StagePart, tests::image},
        stages,
    };

    /// What the parts of history stand for after RUN, WORKDIR and RUN, if this many layers come back, and this
    /// is their history: whether each line has none.
    fn after(layers: usize, history: &[bool]) -> Vec<(usize, usize)> {
        let dockerfile = b"FROM scratch\nLABEL a=b\nRUN a\nWORKDIR /x\nRUN b\n";
        let request = Arc::new(Request::new(ocib_dockerfile::parse(dockerfile).unwrap()));
        let stages = stages::Stages::new(&request, &Platform::linux_amd64()).unwrap();
        let plan = || plan::plan(&stages, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        let mut lowering = Lowering::new(Arc::clone(&request), BTreeMap::new(), BTreeMap::new());
        let wanted = Stages::new(plan()).advance(&mut lowering, &Results::new()).unwrap();
        let diff_ids = vec![DiffId(Digest::of(b"")); layers];
        let history: Vec<_> = history.iter().map(|empty| serde_json::json!({"empty_layer": empty})).collect();
        let config = serde_json::json!({"rootfs": {"diff_ids": diff_ids}, "history": history});
        let plan = plan();
        let StagePart::Delegated(part) = &plan.stages[0].parts[0] else { panic!("{plan}") };
        let mut config_of_image = plan.stages[0].config.clone();
        let counts = layers_of(part, &wanted[0], &image(&config.to_string()));
        correct_history(&mut config_of_image, &counts);
        let full = config_of_image.history.iter().filter(|line| !line.empty_layer).count();
        assert_eq!(full, layers, "history tells of as many layers as there are");
        counts.into_iter().collect()
    }

    #[test]
    fn history_tells_of_the_layers_that_there_are() {
        // ENV of the part, RUN, WORKDIR, RUN.
        assert_eq!(after(2, &[true, false, true, false]), [(2, 0)]);
        assert_eq!(after(2, &[true, true, false, false]), [(1, 0)]);
        assert_eq!(after(3, &[true, false, false, false]), []);
        // What the backend wrote does not fit.
        assert_eq!(after(2, &[false, false]), [(1, 0)]);
        assert_eq!(after(3, &[]), []);
        assert_eq!(after(0, &[]), [(1, 0), (2, 0), (3, 0)]);
        assert_eq!(after(1, &[false, true, true, true]), [(1, 0), (2, 0)]);
        assert_eq!(after(5, &[]), [(3, 3)]);
    }
}
