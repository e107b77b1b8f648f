//! Flags of commands that make an image: what it is called, where it goes, what may be known of it.

use std::{ops::RangeInclusive, path::PathBuf, str::FromStr};

use clap::Args;
use ocib_image::{Platform, Reference};

use super::{HashFirst, distinct};

/// The time of an image in seconds since 1970, if any is given: nothing is none, as for buildx and BuildKit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Epoch(pub(crate) Option<i64>);

impl FromStr for Epoch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What a date of four digits for the year can say.
        const SECONDS: RangeInclusive<i64> = 0..=253_402_300_799;
        match text.parse() {
            _ if text.is_empty() => Ok(Self(None)),
            Ok(seconds) if SECONDS.contains(&seconds) => Ok(Self(Some(seconds))),
            _ => Err("expected seconds since 1970, of a year up to 9999"),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ImageFlags {
    /// Name of the image, REGISTRY/REPOSITORY[:TAG]; may be given several times.
    #[arg(short, long = "tag", value_name = "REF")]
    pub(crate) tags: Vec<Reference>,

    /// Platforms of the image; several give an index [default: linux/amd64 on every host, for models
    /// linux/arm64 too].
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',', env = "DOCKER_DEFAULT_PLATFORM")]
    pub(crate) platforms: Vec<Platform>,

    /// Label of the image.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,

    /// Annotation of the manifests and of the index.
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub(crate) annotations: Vec<String>,

    /// Push to the registries that the tags name.
    #[arg(long)]
    pub(crate) push: bool,

    /// Where the image goes: type=registry | type=oci,dest=FILE | type=oci,dest=DIR,tar=false |
    /// type=docker,dest=FILE. May be given several times; dest=- is stdout.
    #[arg(short, long = "output", value_name = "TYPE")]
    pub(crate) outputs: Vec<String>,

    /// Write what was built to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// An image, besides those that the tags name now, whose layers the new one may share; as a
    /// reference or as type=registry,ref=REF.
    #[arg(long, value_name = "REF")]
    pub(crate) cache_from: Vec<String>,

    /// Whether a layer's digest is found out before it is sent, so that nothing is sent that is there:
    /// where an image that is there or an earlier push makes that likely, always, or never.
    #[arg(long, value_enum, default_value_t = HashFirst::Auto)]
    pub(crate) hash_first: HashFirst,

    /// Make layers although it is known what they are, and say so if that was wrong.
    #[arg(long)]
    pub(crate) verify_reuse: bool,

    /// The time of config, history and files, in seconds since 1970 [default: 0].
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOURCE_DATE_EPOCH",
        default_value = "",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    pub(crate) source_date_epoch: Epoch,

    /// Send layers to ECR through its own API in parts: slower, but an upload that was cut off goes on in
    /// the next run at its last part. Layers of up to 41 GiB.
    #[cfg(feature = "ecr")]
    #[arg(long)]
    pub(crate) ecr_layer_api: bool,

    #[cfg(feature = "ecr")]
    #[command(flatten)]
    pub(crate) ecr: crate::ecr::Ecr,
}

impl ImageFlags {
    /// The platforms without repetitions, in the order in which they were given.
    pub(crate) fn distinct_platforms(&self) -> Vec<Platform> {
        distinct(&self.platforms)
    }

    /// The tags as they are written down.
    pub(crate) fn names(&self) -> Vec<String> {
        self.tags.iter().map(|tag| tag.clone().or_latest().to_string()).collect()
    }
}
