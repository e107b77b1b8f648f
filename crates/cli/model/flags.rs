//! The flags of `ocib model`.

use clap::{Args, Subcommand, ValueEnum};
use ocib_image::{Compression, Platform};
use ocib_source::HubFiles;

use crate::args::{ImageFlags, Shared};

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

/// Which files of a source are the model.
#[derive(Args, Clone, Debug)]
pub(crate) struct Selection {
    /// The revision of a hub's model, in place of what its name says; of other sources, what to call it.
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,

    /// Take only files whose paths within the source match; * is any characters, slashes too. May be given
    /// several times.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,

    /// Leave out files that match. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    /// The part of an ordinary image that is the model; artifacts are taken whole.
    #[arg(long, value_name = "PATH", default_value = "/models")]
    pub(crate) path: String,
}

impl Selection {
    pub(crate) fn files(&self) -> HubFiles {
        HubFiles { include: self.include.clone(), exclude: self.exclude.clone() }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
MODEL is what `ocib model build` takes, or an image as for `ocib copy`. Of an image that ocib made, the
manifest alone is read; of others, the headers of plain layers, and compressed ones from front to back.

Exit codes: 0 done, 2 usage, 3 a model that cannot be read, 4 authentication or permission,
5 registry, hub or network, 130 interrupted.")]
pub(crate) struct Inspect {
    /// A directory, hf://ORG/NAME[@REVISION][/PATH], s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, the URL of a
    /// file, or an image.
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,

    /// Write a JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    /// The platform to pick out of an index.
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,

    #[command(flatten)]
    pub(crate) selection: Selection,

    #[command(flatten)]
    pub(crate) shared: Shared,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Files whose names begin with a dot are left out. Without --push and --output the image is an OCI layout
in ./ocib-out. The digest-pinned references go to stdout, all else to stderr.

Without --platform the image is for linux/amd64 and linux/arm64, as far as the base is; a docker archive is for
linux/amd64.

Exit codes: 0 done, 1 a file could not be written, 2 usage, 3 a model that cannot be packaged,
4 authentication or permission, 5 registry, hub or network, 130 interrupted.")]
pub(crate) struct Build {
    /// Where the model is: a directory, hf://ORG/NAME[@REVISION][/PATH], s3://BUCKET/PREFIX,
    /// gs://BUCKET/PREFIX, https://HOST/FILE[#sha256=DIGEST] (of which there may be several), or an image or
    /// artifact as oci://REGISTRY/REPOSITORY[:TAG], oci-layout://DIR, oci-archive://FILE or
    /// docker-archive://FILE.
    #[arg(value_name = "SOURCE", required = true)]
    pub(crate) sources: Vec<String>,

    #[command(flatten)]
    pub(crate) image: ImageFlags,

    /// An image to put the model on, such as one with sh, ln, ls and sleep for KServe's sidecar [default:
    /// scratch, which is none].
    #[arg(long, value_name = "IMAGE")]
    pub(crate) base: Option<String>,

    /// What layers of several files grow up to; no file is divided. If it is given, weights share layers, too
    /// [default: 4GB, and each file of 1 MiB or more has a layer of its own, as long as there are no more than 96].
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

    #[command(flatten)]
    pub(crate) selection: Selection,

    /// The directory of the image that the files are put in.
    #[arg(long, value_name = "DIR", default_value = "/models")]
    pub(crate) prefix: String,

    /// Remember nothing of local files, and do not use what is remembered.
    #[arg(long)]
    pub(crate) no_cache: bool,

    #[command(flatten)]
    pub(crate) shared: Shared,
}
