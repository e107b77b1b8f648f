//! The flags of `ocib model`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ocib_image::{Compression, Platform, Reference};

use crate::args::{HashFirst, Shared};

#[derive(Args, Debug)]
pub(crate) struct Model {
    #[command(subcommand)]
    pub(crate) command: ModelCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ModelCommand {
    /// Package a model's files as an image, one weight file a layer, without a disk in between.
    Build(Box<Build>),
    /// Say what a model is, reading no more than the headers of its files.
    Inspect(Box<Inspect>),
    /// Get the files of a model out of its image or artifact.
    Pull(Box<super::pull::Pull>),
    /// Say whether KServe would find the model in an image, in each of its three ways.
    Check(Box<super::check::Check>),
}

/// What layers of a ModelPack manifest are.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ModelPack {
    /// Those of the image.
    Tar,
    /// The files as they are.
    Raw,
}

/// Whether `text` names files that a model can be made of; else it is an image.
pub(super) fn is_source(text: &str) -> bool {
    let schemes = ["hf://", "s3://", "gs://", "http://", "https://"];
    schemes.iter().any(|scheme| text.starts_with(scheme)) || std::path::Path::new(text).is_dir()
}

#[derive(Args, Debug)]
#[command(after_help = "\
MODEL is what `ocib model build` takes, or an image as for `ocib copy`. Of an image that ocib made, the
manifest alone is read; of others, the headers of plain layers.

Exit codes: 0 done, 2 usage, 3 a model that cannot be read, 4 authentication or permission,
5 registry, hub or network, 130 interrupted.")]
pub(crate) struct Inspect {
    /// A directory, hf://ORG/NAME[@REVISION][/PATH], s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, or an image.
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Write a JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    /// The platform to pick out of an index.
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,

    /// The revision of a hub's model, in place of what MODEL says.
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,

    /// Look only at files that match.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,

    /// Leave out files that match.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    #[command(flatten)]
    pub(crate) shared: Shared,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Files whose names begin with a dot are left out. Without --push and --output the image is an OCI layout
in ./ocib-out. The digest-pinned references go to stdout, all else to stderr.

Exit codes: 0 done, 1 a file could not be written, 2 usage, 3 a model that cannot be packaged,
4 authentication or permission, 5 registry, hub or network, 130 interrupted.")]
pub(crate) struct Build {
    /// Where the model is: a directory, hf://ORG/NAME[@REVISION][/PATH], s3://BUCKET/PREFIX or
    /// gs://BUCKET/PREFIX.
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,

    /// Name of the image, REGISTRY/REPOSITORY[:TAG]; may be given several times.
    #[arg(short, long = "tag", value_name = "REF")]
    pub(crate) tags: Vec<Reference>,

    /// Push to the registries that the tags name.
    #[arg(long)]
    pub(crate) push: bool,

    /// Where the image goes: type=registry | type=oci,dest=FILE | type=oci,dest=DIR,tar=false |
    /// type=docker,dest=FILE. May be given several times; dest=- is stdout.
    #[arg(short, long = "output", value_name = "TYPE")]
    pub(crate) outputs: Vec<String>,

    /// An image to put the model on, such as one with sh, ln and sleep for KServe's sidecar [default: none].
    #[arg(long, value_name = "IMAGE")]
    pub(crate) base: Option<String>,

    /// Platforms of the image; several give an index of images with the same layers [default:
    /// linux/amd64,linux/arm64, as far as the base has them; linux/amd64 for a docker archive].
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',', env = "DOCKER_DEFAULT_PLATFORM")]
    pub(crate) platforms: Vec<Platform>,

    /// Put several weight files into a layer, up to about this size. Files are never divided [default: each
    /// file of 1 MiB or more has a layer of its own, as long as there are no more than 96].
    #[arg(long, value_name = "SIZE")]
    pub(crate) layer_size: Option<bytesize::ByteSize>,

    /// How layers are stored: auto (weights as they are, other files by gzip), none, gzip[:1-9] or
    /// zstd[:1-19].
    #[arg(long, value_name = "CODEC", default_value = "auto")]
    pub(crate) compression: Compression,

    /// Describe the model by a CNCF ModelPack manifest too, with the image's layers or with raw files, under a
    /// tag of its own.
    #[arg(long, value_enum, value_name = "LAYERS", num_args = 0..=1, require_equals = true, default_missing_value = "tar")]
    pub(crate) modelpack: Option<ModelPack>,

    /// The tag of the ModelPack manifest [default: the image's, with -modelpack].
    #[arg(long, value_name = "TAG", requires = "modelpack")]
    pub(crate) modelpack_tag: Option<String>,

    /// Describe the model for Docker Model Runner too, if it is in GGUF, under a tag of its own.
    #[arg(long)]
    pub(crate) docker_model: bool,

    /// The tag for Docker Model Runner [default: the image's, with -docker].
    #[arg(long, value_name = "TAG", requires = "docker_model")]
    pub(crate) docker_model_tag: Option<String>,

    /// The revision of a hub's model, in place of what SOURCE says; of a directory, what to call it.
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,

    /// Take only files that match; * is any characters, slashes too. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,

    /// Leave out files that match. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    /// The directory of the image that the files are put in.
    #[arg(long, value_name = "DIR", default_value = "/models")]
    pub(crate) prefix: String,

    /// Label of the image.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,

    /// Annotation of the manifests.
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub(crate) annotations: Vec<String>,

    /// Write what was built to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// An image, besides those that the tags name now, whose layers the new one may share.
    #[arg(long, value_name = "REF")]
    pub(crate) cache_from: Vec<String>,

    /// Whether a layer's digest is found out before it is sent, so that nothing is sent that is there:
    /// where an image that is there or an earlier push makes that likely, always, or never.
    #[arg(long, value_enum, default_value_t = HashFirst::Auto)]
    pub(crate) hash_first: HashFirst,

    /// Make layers although it is known what they are, and say so if that was wrong.
    #[arg(long)]
    pub(crate) verify_reuse: bool,

    /// Remember nothing of local files, and do not use what is remembered.
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// The time of files, config and history, in seconds since 1970.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOURCE_DATE_EPOCH",
        default_value_t = 0,
        value_parser = clap::value_parser!(i64).range(0..=253_402_300_799)
    )]
    pub(crate) source_date_epoch: i64,

    #[command(flatten)]
    pub(crate) shared: Shared,
}
