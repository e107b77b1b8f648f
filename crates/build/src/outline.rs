//! What a build would do, as data for people and programs: a plan together with what the headers of
//! files say, and what nobody can know before a container has run.

use std::collections::BTreeMap;

use ocib_dockerfile::Span;
use ocib_image::{
    Blob, Compression, ContainerConfig, Descriptor, DiffId, Digest, Foreknown, ImageName, Platform,
};

use crate::Warning;

/// What [`publish`](crate::publish) would put into a sink, found out by [`outline`](crate::outline)
/// without making a layer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outline {
    /// One for each platform of the request, in its order.
    pub targets: Vec<TargetOutline>,
    /// How layers that are made would be stored.
    pub compression: Compression,
    /// What the user should look at, each thing once.
    pub warnings: Vec<Warning>,
}

/// The image of one platform.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TargetOutline {
    /// What it is for.
    pub platform: Platform,
    /// The images that files are taken from, in the order in which the Dockerfile needs them.
    pub bases: Vec<BaseOutline>,
    /// The stages that are needed, in order; the last one is the image.
    pub stages: Vec<StageOutline>,
    /// The image's layers, base first.
    pub layers: Vec<LayerOutline>,
    /// The image's config, complete but for its diff IDs.
    pub config: ContainerConfig,
}

/// An image that a stage begins with, or that files are copied from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BaseOutline {
    /// As the Dockerfile or a named context has it, with its tag.
    pub name: ImageName,
    /// What it was asked for.
    pub platform: Platform,
    /// For people: the name with the digest of what it resolved to, which may be an index.
    pub pinned: String,
    /// Its manifest.
    pub manifest: Digest,
    /// Its layers, base first.
    pub layers: Vec<Descriptor>,
}

/// What one stage does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StageOutline {
    /// Its number in the Dockerfile.
    pub index: usize,
    /// In lower case.
    pub name: Option<String>,
    /// What it begins with: nothing, an image, another stage or a named context.
    pub base: FilesFrom,
    /// Native, delegated and native again, each only if there is any.
    pub parts: Vec<PartOutline>,
}

/// A stretch of a stage, by who carries it out.
#[derive(Clone, Debug)]
pub enum PartOutline {
    /// ocib itself; each step makes a layer.
    Native(Vec<StepOutline>),
    /// A backend that has containers.
    Delegated(Box<DelegatedOutline>),
}

/// An instruction that makes a layer natively.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepOutline {
    /// Where it stands; a trigger (ONBUILD) of the base stands where FROM does.
    pub span: Span,
    /// The instruction with its words expanded, as history has it, without secrets of URLs.
    pub text: String,
    /// Where its files come from; nothing for WORKDIR.
    pub sources: Vec<FilesFrom>,
    /// How much it is.
    pub size: StepSize,
    /// How its layer would be stored: as was asked for, or for a layer of more than 8 GiB as its content decides.
    pub compression: Compression,
    /// What is known of the layer before it is made, if its size is.
    pub foreknown: Option<Box<Foreknown>>,
}

/// From the first RUN of a stage to its last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DelegatedOutline {
    /// From the first RUN to the last, without the bodies of that one's heredocs.
    pub span: Span,
    /// What it runs on: the stage's platform, which may be another than the image's.
    pub platform: Platform,
    /// Whom its first RUN runs as; empty for the superuser.
    pub user: String,
    /// Where: absolute, or empty for the root.
    pub working_dir: String,
    /// What shell-form commands are put behind.
    pub shell: Vec<String>,
    /// The variables of ENV and ARG that its first RUN sees. They may hold secrets.
    pub variables: BTreeMap<String, String>,
    /// Its instructions in order; the first and the last are RUNs.
    pub instructions: Vec<InstructionOutline>,
    /// What a backend would be asked for; not known before the results of other parts are, if it takes
    /// files from them.
    pub job: Option<JobOutline>,
}

/// What a backend would be asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobOutline {
    /// The Dockerfile, an instruction a line, with asterisks for variables that seem to be secret. Images that
    /// would be put into the run repository have the names of `inputs`; all others are pinned.
    pub dockerfile: Vec<String>,
    /// What would be put there.
    pub inputs: Vec<InputOutline>,
    /// For backends that are handed files: how many bytes of them as an uncompressed tar.
    pub context_bytes: Option<u64>,
}

/// An image that a delegated part begins with or copies from.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct InputOutline {
    /// What the Dockerfile calls it.
    pub name: String,
    /// Its layers that ocib makes, and their size as tars, uncompressed.
    pub made_layers: u64,
    /// See `made_layers`.
    pub tar_bytes: u64,
    /// Its layers that are in a registry already, and their size as stored: mounted where that is possible.
    pub base_layers: u64,
    /// See `base_layers`.
    pub base_bytes: u64,
}

/// An instruction that is delegated.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstructionOutline {
    /// Where it stands; a trigger (ONBUILD) of the base stands where FROM does.
    pub span: Span,
    /// As it was written, in one line, with asterisks for what seems to be secret.
    pub text: String,
    /// Where its copies and mounts take their files from.
    pub sources: Vec<FilesFrom>,
}

/// Where files come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FilesFrom {
    /// Nowhere: `scratch`.
    Nothing,
    /// The main build context.
    Context,
    /// The stage of that number.
    Stage(usize),
    /// An image; [`TargetOutline::bases`] has what it resolved to.
    Image(ImageName),
    /// A `--build-context` that is a directory, by its name.
    NamedContext(String),
    /// The network.
    Network,
    /// The Dockerfile itself: a heredoc of that name.
    Heredoc(String),
}

/// How much a step makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepSize {
    /// This, whatever happens.
    Known(LayerSize),
    /// At least these files. What else is in the layer (parents, owners) depends on what the delegated
    /// part of a stage makes.
    Files {
        /// Regular files.
        files: u64,
        /// Their content.
        content_bytes: u64,
        /// The number of the stage.
        after: usize,
    },
    /// Not known before the delegated part of a stage was carried out.
    Unknown {
        /// The number of the stage.
        after: usize,
    },
}

/// How much is in a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LayerSize {
    /// Everything that has a header.
    pub entries: u64,
    /// Regular files; further names of one file (hard links) do not count.
    pub files: u64,
    /// What is in them.
    pub content_bytes: u64,
    /// The layer as a tar, uncompressed.
    pub tar_bytes: u64,
}

/// A layer of the image to be.
#[derive(Clone, Debug)]
pub enum LayerOutline {
    /// One of the base's; it is not touched.
    Base(Box<Blob>, DiffId),
    /// One that ocib makes, in the stage of that number.
    Made(usize, StepOutline),
    /// However many the delegated part of the stage of that number makes.
    Delegated(usize),
}
