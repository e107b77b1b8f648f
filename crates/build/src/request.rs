//! What the user wants built.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use ocib_dockerfile::{Dockerfile, Patterns};
use ocib_image::{Annotations, Compression, ImageName, Platform, RunSecret, Secret, Tree};

use crate::Timestamps;

/// Everything that decides what is built; the same request gives the same digests.
#[derive(Clone, Debug)]
pub struct Request {
    /// The instructions.
    pub dockerfile: Arc<Dockerfile>,
    /// What COPY and ADD take files from.
    pub context: Option<Arc<dyn Tree>>,
    /// The context's ignore file.
    pub ignored: Patterns,
    /// `--build-context`: names that FROM and `--from` may use.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What to build for, at least one. One gives a manifest, several an index.
    pub platforms: Vec<Platform>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`: the stage that becomes the image, by name or number; the last one if not given.
    pub target: Option<String>,
    /// `--label`: over those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// `--annotation`: of the manifests, and of the index if there is one.
    pub annotations: Annotations,
    /// How layers are stored.
    pub compression: Compression,
    /// `--native-run`: whether simple RUNs are carried out without a container.
    pub native_run: NativeRun,
    /// `--secret` and `--ssh`: what `RUN --mount` may ask for; the last of an id counts.
    pub secrets: Vec<RunSecret>,
    /// SOURCE_DATE_EPOCH: the time in config and history, in seconds since 1970.
    pub epoch: i64,
    /// The times of files out of contexts.
    pub timestamps: Timestamps,
    /// A directory of this user's where it is remembered what the headers of base layers are and what
    /// inputs were sealed to, so that what did not change is not read again. It is made if it is
    /// missing; nothing depends on it.
    pub cache: Option<PathBuf>,
    /// Whether layers are made although it is remembered what they are, and compared with that.
    pub verify_reuse: bool,
}

/// What is done with a RUN of nothing but commands that make, remove and label files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NativeRun {
    /// It needs no container wherever it is certain what the image's own commands would do.
    #[default]
    Auto,
    /// It needs a container as any other.
    Off,
}

/// What a `--build-context` name stands for.
#[derive(Clone, Debug)]
pub enum NamedContext {
    /// An image, in place of the one that the name would mean.
    Image(ImageName),
    /// A tree of files, with its ignore file.
    Tree(Arc<dyn Tree>, Patterns),
}

impl Request {
    /// A request for linux/amd64 with nothing else asked for.
    pub fn new(dockerfile: Dockerfile) -> Self {
        Self {
            dockerfile: Arc::new(dockerfile),
            context: None,
            ignored: Patterns::default(),
            contexts: BTreeMap::new(),
            platforms: vec![Platform::linux_amd64()],
            build_args: BTreeMap::new(),
            target: None,
            labels: BTreeMap::new(),
            annotations: Annotations::new(),
            compression: Compression::Auto,
            native_run: NativeRun::Auto,
            secrets: Vec::new(),
            epoch: 0,
            timestamps: Timestamps::Fixed(ocib_image::Timestamp::from_seconds(0)),
            cache: None,
            verify_reuse: false,
        }
    }

    /// The named context that `name` stands for; a tag `latest` makes no difference.
    pub(crate) fn named_context(&self, name: &str) -> Option<&NamedContext> {
        let bare = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
        self.contexts.iter().find(|(key, _)| bare(key) == bare(name)).map(|(_, context)| context)
    }

    /// What every RUN that needs a container finds of proxies, declared or not, in both spellings of their names
    /// (BuildKit, `proxyEnvFromBuildArgs`).
    pub(crate) fn proxies(&self) -> BTreeMap<String, Secret> {
        let given = self.build_args.iter().filter(|(name, value)| is_proxy(name) && !value.is_empty());
        let both = |name: &str| [name.to_ascii_uppercase(), name.to_ascii_lowercase()];
        given.flat_map(|(name, value)| both(name).map(|name| (name, Secret::new(&**value)))).collect()
    }

    /// Build args that no ARG of the Dockerfile declares.
    pub fn unused_build_args(&self) -> BTreeSet<&str> {
        let stages = self.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let mut declared = BTreeSet::new();
        for instruction in self.dockerfile.global_args.iter().chain(stages) {
            if let ocib_dockerfile::Command::Arg(args) = &instruction.command {
                declared.extend(args.iter().map(|arg| arg.key.value.as_str()));
            }
        }
        let names = self.build_args.keys().map(String::as_str);
        names.filter(|name| !declared.contains(name) && !is_predefined(name)).collect()
    }
}

/// Proxy variables may be given without being declared, and BuildKit's own never are.
fn is_predefined(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    is_proxy(name)
        || upper.starts_with("BUILDKIT_")
        || upper.starts_with("TARGET")
        || upper == "SOURCE_DATE_EPOCH"
}

fn is_proxy(name: &str) -> bool {
    let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
    proxies.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
}
