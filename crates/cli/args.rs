//! The command line. Names follow `docker buildx build`, so that scripts carry over.

mod image;
mod images;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ocib_image::{Compression, Platform};

pub(crate) use image::{Epoch, ImageFlags};
pub(crate) use images::{Copy, Inspect, Tag, Verify};

/// Builds OCI images as a stream: no daemon, no root, no scratch disk.
#[derive(Parser, Debug)]
#[command(name = "ocib", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile, and push it or write it to a file.
    Build(Box<Build>),
    /// Say what a build would do, layer by layer, without doing it.
    Plan(Box<Plan>),
    /// Say what is wrong with a Dockerfile, or could be better, without building it.
    Check(Check),
    /// Copy an image between registries, OCI layouts and archives.
    Copy(Copy),
    /// Give an image in a registry more tags.
    Tag(Tag),
    /// Show what an image is made of.
    Inspect(Inspect),
    /// Compute every digest of an image again.
    Verify(Verify),
    /// Find out beforehand what would keep a build from ending well: nothing is built, no layer is sent.
    Preflight(Box<crate::preflight::Preflight>),
    /// List or remove pods that builds have made.
    #[cfg(feature = "kaniko")]
    RunPods(crate::run_pods::RunPods),
    /// Say what an error message means, of ocib or another program, and what to do.
    Explain(crate::explain::Explain),
    /// Package a large model as an image, look at one, or get its files.
    #[cfg(feature = "model")]
    Model(crate::model::Model),
    /// Say which version this is and what it was built with.
    Version,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Without --push and --output the image is an OCI layout in ./ocib-out.
The digest-pinned references of what was built go to stdout, all else to stderr.

Exit codes: 0 done, 1 the build failed, 2 usage, 3 Dockerfile or context, 4 authentication or
permission, 5 registry or network, 6 what carries out RUN, 130 interrupted.")]
pub(crate) struct Build {
    /// The build context: a directory, a git repository as URL.git[#REF[:DIR]], s3://BUCKET/PREFIX,
    /// gs://BUCKET/PREFIX, hf://ORG/NAME[@REVISION], or - for a tar archive or a Dockerfile on stdin.
    pub(crate) context: String,

    /// The Dockerfile, or - for stdin [default: CONTEXT/Dockerfile].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) image: ImageFlags,

    /// Value of an ARG; without a value it is taken from the environment.
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,

    /// The stage to build [default: the last one].
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// A name for FROM and --from: a directory, a git repository, s3://, gs:// or hf:// as for the context,
    /// docker-image://REF or oci-layout://DIR[:TAG].
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub(crate) build_contexts: Vec<String>,

    /// Write the image's id to this file: the config's digest, or the index's.
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,

    /// How layers are stored: auto, none, gzip[:1-9] or zstd[:1-19].
    #[arg(long, value_name = "CODEC", default_value = "auto")]
    pub(crate) compression: Compression,

    /// Times of files from the context: those of --source-date-epoch, or their own.
    #[arg(long, value_enum, default_value_t = Timestamps::Epoch)]
    pub(crate) timestamps: Timestamps,

    /// Where contexts on stdin and git repositories are written to, as they cannot be read twice; nothing
    /// else ever is [default: the system's directory for temporary files].
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) run: crate::run::RunFlags,

    /// Whether RUNs of nothing but mkdir, chmod, chown, chgrp, ln -s, touch, rm and true are carried out
    /// here, where it is certain what the image's own commands would do.
    #[arg(long, value_enum, default_value_t = NativeRun::Auto)]
    pub(crate) native_run: NativeRun,

    #[command(flatten)]
    pub(crate) shared: Shared,

    #[command(flatten)]
    pub(crate) buildx: crate::buildx::Buildx,
}

/// Flags of every command that moves images: what it may use, how it shows what it does, and which
/// registries it trusts.
#[derive(Args, Debug)]
pub(crate) struct Shared {
    /// Memory that ocib may use [default: 64 MiB, or half of the cgroup's limit if that is less].
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<bytesize::ByteSize>,

    /// Layers in flight at most [default: as many as the memory allows, at least the cores].
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,

    /// How progress is shown on stderr.
    #[arg(long, value_enum, default_value_t = ProgressStyle::Auto, env = "BUILDKIT_PROGRESS")]
    pub(crate) progress: ProgressStyle,

    /// Show no progress; errors and warnings still go to stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// A registry (HOST or HOST:PORT) that may be spoken to over plain HTTP or with a certificate
    /// that is not verified. Loopback addresses need no mention for plain HTTP.
    #[arg(long = "insecure-registry", value_name = "HOST")]
    pub(crate) insecure_registries: Vec<String>,

    /// Certificates (PEM) that are trusted besides the system's.
    #[arg(long = "ca-file", value_name = "FILE")]
    pub(crate) ca_files: Vec<PathBuf>,

    /// A registry of ECR under another name: a private DNS name, a proxy. May be given several times.
    #[cfg(feature = "ecr")]
    #[arg(long = "ecr-host", value_name = "HOST=ACCOUNT/REGION|HOST=public", value_parser = ecr_host)]
    pub(crate) ecr_hosts: Vec<(String, ocib_store::EcrHost)>,

    /// Mirrors, insecure registries and certificates: a registries.conf, or a directory like
    /// /etc/containers [default: $CONTAINERS_REGISTRIES_CONF, or the files of Podman and Skopeo].
    #[arg(long, value_name = "PATH")]
    pub(crate) registry_config: Option<PathBuf>,
}

impl Shared {
    /// These flags, and those of `outer` that are not given here, but for how progress is shown.
    pub(crate) fn within(self, outer: &Self) -> Self {
        let joined = |own: Vec<String>, outer: &[String]| own.into_iter().chain(outer.to_vec()).collect();
        Self {
            memory: self.memory.or(outer.memory),
            jobs: self.jobs.or(outer.jobs),
            insecure_registries: joined(self.insecure_registries, &outer.insecure_registries),
            ca_files: self.ca_files.into_iter().chain(outer.ca_files.iter().cloned()).collect(),
            #[cfg(feature = "ecr")]
            ecr_hosts: self.ecr_hosts.into_iter().chain(outer.ecr_hosts.iter().cloned()).collect(),
            registry_config: self.registry_config.or_else(|| outer.registry_config.clone()),
            ..self
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
The flags are those of `ocib build`, but nothing is made, sent or written.
The plan goes to stdout, notes and warnings to stderr. docs/plan.md describes both forms.

Exit codes: 0 done, 1 the plan failed, 2 usage, 3 Dockerfile or context, 4 authentication or
permission, 5 registry or network, 130 interrupted.")]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) build: Build,

    /// Print the plan as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Findings go to stdout. docs/check.md describes the formats, docs/rules has a page for each rule.

Exit codes: 0 done, also with warnings; 2 usage; 3 a Dockerfile that cannot be understood, or warnings
under --strict or `# check=error=true`; 4 or 5 a git repository that cannot be had.")]
pub(crate) struct Check {
    /// The build context: a directory, a git repository as URL.git[#REF[:DIR]], or s3://, gs:// or hf://.
    #[arg(default_value = ".")]
    pub(crate) context: String,

    /// The Dockerfile, or - for stdin [default: CONTEXT/Dockerfile].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// How findings are shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    /// Value of an ARG; without a value it is taken from the environment.
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,

    /// The stage that would be built: stages that it does not need are left out [default: all].
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// Any finding is an error.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// Excerpts of the Dockerfile, for people.
    Text,
    /// An array of objects.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Workflow commands, for annotations in GitHub Actions.
    Github,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProgressStyle {
    /// Bars on a terminal, lines otherwise.
    Auto,
    /// Bars.
    Tty,
    /// Lines.
    Plain,
    /// A JSON object a line.
    Json,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HashFirst {
    /// Where it is likely to save sending.
    Auto,
    /// Each layer.
    Always,
    /// No layer.
    Never,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timestamps {
    /// All files get the time of --source-date-epoch.
    Epoch,
    /// Files keep their own.
    Keep,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NativeRun {
    /// Where it is certain.
    Auto,
    /// Never: each RUN needs what --run names.
    Off,
}

#[cfg(feature = "ecr")]
fn ecr_host(text: &str) -> Result<(String, ocib_store::EcrHost), &'static str> {
    let (host, registry) = text.split_once('=').unwrap_or_default();
    match host {
        "" => Err("expected HOST=ACCOUNT/REGION, such as images.corp.example=123456789012/eu-west-1"),
        host => Ok((host.to_owned(), registry.parse()?)),
    }
}

/// These platforms without repetitions.
fn distinct(platforms: &[Platform]) -> Vec<Platform> {
    let mut distinct: Vec<Platform> = Vec::new();
    for platform in platforms {
        if !distinct.contains(platform) {
            distinct.push(platform.clone());
        }
    }
    distinct
}
