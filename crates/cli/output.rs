//! Where an image goes: `--push` and `--output`.

#[cfg(feature = "ecr")]
use std::sync::Arc;
use std::{collections::BTreeMap, path::PathBuf};

use ocib_image::{ArchiveFormat, Reference, Sealer, Sink};
#[cfg(feature = "ecr")]
use ocib_store::EcrHost;
use ocib_store::{
    ArchiveOptions, ArchiveSink, Destination, HashFirst, LayoutSink, PushOptions, RegistrySink,
};

use crate::{
    args::{self, ImageFlags},
    diagnostic::Failure,
    registries::Clients,
};

/// The layout directory that is written if nothing else is asked for.
const DEFAULT_LAYOUT: &str = "ocib-out";

/// What outputs are written with.
#[derive(Debug)]
pub(crate) struct Means {
    clients: Clients,
    #[cfg(feature = "ecr")]
    new_repository: Option<ocib_store::NewRepository>,
    pub(crate) sealer: Sealer,
    pub(crate) hash_first: HashFirst,
    pub(crate) cache_from: Vec<Reference>,
    /// Whether layers go to ECR by its own API.
    #[cfg(feature = "ecr")]
    uses_layer_api: bool,
}

/// How `--ecr-layer-api` cuts layers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    pub(crate) most: u64,
    pub(crate) bytes: u64,
    pub(crate) layer_bytes_max: u64,
}

impl Means {
    /// As the flags say.
    pub(crate) fn of(flags: &ImageFlags, clients: Clients, sealer: Sealer) -> Result<Self, Failure> {
        let cache_from = flags.cache_from.iter().map(|text| cache_from(text)).collect::<Result<_, _>>()?;
        Ok(Self {
            clients,
            #[cfg(feature = "ecr")]
            new_repository: flags.ecr.new_repository()?,
            #[cfg(feature = "ecr")]
            uses_layer_api: flags.ecr_layer_api,
            sealer,
            hash_first: hash_first(flags.hash_first, flags.verify_reuse),
            cache_from,
        })
    }

    /// Whether a missing repository is created.
    pub(crate) fn creates_repositories(&self) -> bool {
        #[cfg(feature = "ecr")]
        return self.new_repository.is_some();
        #[cfg(not(feature = "ecr"))]
        false
    }

    /// The sink of a repository for what has no name there: what is there already is never sent again.
    pub(crate) fn nameless_sink(&self, repository: &Reference) -> Result<Box<dyn Sink>, Failure> {
        self.registry_sink(PushOptions {
            registries: self.clients.registries.clone(),
            repository: repository.clone(),
            tags: Vec::new(),
            sealer: self.sealer.clone(),
            hash_first: HashFirst::Always,
            cache_from: Vec::new(),
        })
    }

    /// The sink of one repository.
    #[cfg_attr(not(feature = "ecr"), expect(clippy::unnecessary_wraps, reason = "ECR's flags can be wrong"))]
    fn registry_sink(&self, options: PushOptions) -> Result<Box<dyn Sink>, Failure> {
        #[cfg(feature = "ecr")]
        if let Some(sink) = self.ecr_sink(&options)? {
            return Ok(sink);
        }
        Ok(Box::new(RegistrySink::new(options)))
    }

    /// The sink of a repository of ECR.
    #[cfg(feature = "ecr")]
    fn ecr_sink(&self, options: &PushOptions) -> Result<Option<Box<dyn Sink>>, Failure> {
        let registry = options.repository.registry();
        let host = self.clients.ecr.host(registry);
        if self.uses_layer_api && host.as_ref().is_none_or(EcrHost::is_public) {
            let why = format!("--ecr-layer-api: {registry} is no private registry of ECR");
            return Err(Failure::usage(why).help(
                "leave the flag out, or say which registry it is with --ecr-host HOST=ACCOUNT/REGION",
            ));
        }
        let Some(host) = host else { return Ok(None) };
        if host.is_public() && self.new_repository.as_ref().is_some_and(|new| !new.is_plain()) {
            let why =
                format!("--ecr-create-repository: {registry} is ECR Public, which has no such settings");
            return Err(
                Failure::usage(why).help("give the flag alone, without settings and lifecycle policy")
            );
        }
        let (auth, new) = (Arc::clone(&self.clients.ecr), self.new_repository.clone());
        let sink = ocib_store::EcrSink::new(options.clone(), auth, new);
        let journal = crate::environment::cache_directory();
        Ok(Some(match self.uses_layer_api {
            true => Box::new(sink.with_layer_api(journal)),
            false => Box::new(sink),
        }))
    }

    /// What compares images with the limits of a repository, without speaking to anybody.
    pub(crate) fn limits(&self, push: PushOptions) -> RegistrySink {
        #[cfg(feature = "ecr")]
        if self.uses_layer_api
            && let Some(api) = self.clients.ecr.layer_api(push.repository.registry(), None)
        {
            return RegistrySink::new(push).with_layer_api(api);
        }
        RegistrySink::new(push)
    }

    /// The size of the largest layer that all registries of `outputs` take, if one has a limit, and whose it is.
    #[cfg(feature = "model")]
    pub(crate) fn layer_bytes_max(&self, outputs: &[Output]) -> Option<(String, u64)> {
        let references = outputs.iter().filter_map(|output| match output {
            Output::Registry(references) => Some(references),
            _ => None,
        });
        let pushes = references.flat_map(|references| self.pushes(references));
        let limits = pushes.filter_map(|push| {
            let registry = push.repository.registry().to_owned();
            Some((registry, self.limits(push).layer_bytes_max()?))
        });
        limits.min_by_key(|(_, most)| *most)
    }

    /// How layers are cut, if they are sent in parts.
    pub(crate) fn parts(&self) -> Option<Parts> {
        #[cfg(feature = "ecr")]
        if self.uses_layer_api {
            use ocib_store::LayerApi;
            let (most, bytes) = (LayerApi::PARTS_MAX, LayerApi::PART_BYTES_MAX);
            return Some(Parts { most, bytes, layer_bytes_max: LayerApi::LAYER_BYTES_MAX });
        }
        None
    }

    /// One push for each repository that `references` name.
    pub(crate) fn pushes(&self, references: &[Reference]) -> Vec<PushOptions> {
        let mut repositories: BTreeMap<String, PushOptions> = BTreeMap::new();
        for reference in references {
            let options = repositories.entry(reference.name()).or_insert_with(|| PushOptions {
                registries: self.clients.registries.clone(),
                repository: reference.clone(),
                tags: Vec::new(),
                sealer: self.sealer.clone(),
                hash_first: self.hash_first,
                cache_from: self.cache_from.clone(),
            });
            options.tags.push(reference.tag().unwrap_or("latest").to_owned());
        }
        repositories.into_values().collect()
    }
}

/// An image that `--cache-from` names, plainly or as buildx does.
fn cache_from(text: &str) -> Result<Reference, Failure> {
    let bad = |why: String| {
        Failure::usage(format!("--cache-from {text:?}: {why}"))
            .help("expected REGISTRY/REPOSITORY:TAG or type=registry,ref=REGISTRY/REPOSITORY:TAG")
    };
    let fields: BTreeMap<&str, &str> = text.split(',').filter_map(|field| field.split_once('=')).collect();
    let name = match (fields.get("type"), fields.get("ref")) {
        (None, None) => text,
        (Some(&"registry") | None, Some(name)) => name,
        (Some(kind), _) => return Err(bad(format!("type={kind} is no image in a registry"))),
    };
    name.parse::<Reference>().map(Reference::or_latest).map_err(|error| bad(error.to_string()))
}

fn hash_first(asked: args::HashFirst, verify_reuse: bool) -> HashFirst {
    match asked {
        // Nothing that is remembered counts then, so each digest is found out anew.
        _ if verify_reuse => HashFirst::Always,
        args::HashFirst::Auto => HashFirst::Auto,
        args::HashFirst::Always => HashFirst::Always,
        args::HashFirst::Never => HashFirst::Never,
    }
}

/// One place that the image goes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// The registries that the tags name.
    Registry(Vec<Reference>),
    /// A directory.
    Layout(PathBuf),
    /// A tar file, or stdout.
    Archive(ArchiveKind, Option<PathBuf>),
}

/// [`ArchiveFormat`], comparable with `derive` for the outputs.
pub(crate) type ArchiveKind = ArchiveFormat;

impl Output {
    /// All outputs that the flags ask for; the default layout if they ask for none.
    pub(crate) fn all(flags: &ImageFlags) -> Result<Vec<Self>, Failure> {
        Self::of_tags(flags, &flags.tags)
    }

    /// The same for something that goes there under other names.
    pub(crate) fn of_tags(flags: &ImageFlags, tags: &[Reference]) -> Result<Vec<Self>, Failure> {
        let mut outputs = Vec::new();
        for text in &flags.outputs {
            outputs.push(Self::parse(text, tags)?);
        }
        if flags.push && !outputs.iter().any(|output| matches!(output, Self::Registry(_))) {
            outputs.push(Self::registry(tags)?);
        }
        if outputs.is_empty() {
            outputs.push(Self::Layout(DEFAULT_LAYOUT.into()));
        }
        let is_single = flags.distinct_platforms().len() <= 1;
        if !is_single
            && outputs.iter().any(|output| matches!(output, Self::Archive(ArchiveFormat::Docker, _)))
        {
            return Err(Failure::usage("a docker archive holds one platform, but several are asked for")
                .help("build one --platform for it, or use type=oci"));
        }
        if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
            return Err(Failure::usage("stdout takes one archive, but several are asked for")
                .help("give the others a file, as in dest=FILE"));
        }
        Ok(outputs)
    }

    fn registry(tags: &[Reference]) -> Result<Self, Failure> {
        match tags.is_empty() {
            true => {
                Err(Failure::usage("there is no name to push to")
                    .help("give one with --tag HOST/REPOSITORY:TAG"))
            }
            false => Ok(Self::Registry(tags.to_vec())),
        }
    }

    fn parse(text: &str, tags: &[Reference]) -> Result<Self, Failure> {
        let expected = "expected type=registry, type=oci,dest=FILE, type=oci,dest=DIR,tar=false or type=docker,dest=FILE";
        let bad = |what: String| Failure::usage(format!("--output {text:?}: {what}")).help(expected);
        let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
        for field in text.split(',') {
            let (key, value) = field.split_once('=').ok_or_else(|| {
                bad(format!("{field:?} is no KEY=VALUE (the file system of an image cannot be exported)"))
            })?;
            if fields.insert(key, value).is_some() {
                return Err(bad(format!("{key} is given twice")));
            }
        }
        let mut take = |key| fields.remove(key);
        let kind = take("type").ok_or_else(|| bad("type is missing".to_owned()))?;
        let destination = take("dest");
        let is_tar = flag(take("tar")).ok_or_else(|| bad("tar is true or false".to_owned()))?.unwrap_or(true);
        let pushes = flag(take("push")).ok_or_else(|| bad("push is true or false".to_owned()))?;
        let names = match take("name") {
            None => tags.to_vec(),
            Some(name) => vec![name.parse().map_err(|error| bad(format!("name: {error}")))?],
        };
        if let Some(key) = fields.keys().next() {
            return Err(bad(format!("{key} is not known")));
        }
        let path = || destination.filter(|path| *path != "-").map(PathBuf::from);
        match (kind, destination) {
            ("registry", None) => Self::registry(&names),
            ("image", None) if pushes == Some(true) => Self::registry(&names),
            ("image", None) => Err(bad("there is no local image store; push=true is needed".to_owned())),
            ("oci", Some(directory)) if !is_tar => Ok(Self::Layout(directory.into())),
            ("oci", Some(_)) => Ok(Self::Archive(ArchiveFormat::Oci, path())),
            ("docker", Some(_)) => Ok(Self::Archive(ArchiveFormat::Docker, path())),
            ("oci" | "docker", None) => Err(bad("dest is missing".to_owned())),
            ("local" | "tar", _) => {
                Err(bad(format!("type={kind} exports a file system, which ocib never unpacks")))
            }
            _ => Err(bad(format!("type={kind} is not known or takes no dest"))),
        }
    }

    /// Whether the image goes to stdout, so that nothing else may.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Archive(_, None))
    }

    /// The sinks of this output: one for each repository, layout or archive.
    pub(crate) fn sinks(self, tags: &[Reference], means: &Means) -> Result<Vec<Box<dyn Sink>>, Failure> {
        let sealer = &means.sealer;
        let names = || tags.iter().map(|tag| tag.clone().or_latest().to_string()).collect::<Vec<_>>();
        Ok(match self {
            Self::Registry(references) => {
                let pushes = means.pushes(&references).into_iter();
                pushes.map(|options| means.registry_sink(options)).collect::<Result<_, _>>()?
            }
            Self::Layout(directory) => vec![Box::new(LayoutSink::new(directory, &names(), sealer.clone()))],
            Self::Archive(format, path) => {
                let destination = match path {
                    Some(path) => Destination::File(path),
                    None => Destination::Stream(Box::new(std::io::stdout())),
                };
                let options = ArchiveOptions { format, destination, names: names(), sealer: sealer.clone() };
                let sink = ArchiveSink::new(options).map_err(|error| Failure::usage(error.to_string()))?;
                vec![Box::new(sink)]
            }
        })
    }
}

/// A boolean as buildx reads it; `None` if it is none.
#[expect(clippy::option_option, reason = "not a boolean and not given are two answers")]
fn flag(text: Option<&str>) -> Option<Option<bool>> {
    match text {
        None => Some(None),
        Some("true" | "1") => Some(Some(true)),
        Some("false" | "0") => Some(Some(false)),
        Some(_) => None,
    }
}
