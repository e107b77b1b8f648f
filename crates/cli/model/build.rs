//! `ocib model build`: a model's files into images.

use std::sync::Arc;

use ocib_image::{
    ArchiveFormat, Config, Events, Image, ImageName, ImageSource, PlaceErrorKind, Platform, Reference, Sink,
};
use ocib_model::{Artifact, Model, Options, Published, publish, publish_artifact};
use ocib_net::Backoff;
use ocib_source::HubFiles;
use ocib_store::Images;

use super::{Build, flags::ModelPack, report, source::Sources};
use crate::{
    args,
    build::pairs,
    diagnostic::Failure,
    environment,
    output::{Asked, Means, Output},
    places, progress,
    registries::Clients,
    wiring,
};

/// Runs the command.
pub(super) fn run(build: &Build) -> Result<(), Failure> {
    let outputs = Output::all(asked(build, &build.tags))?;
    let prints = !outputs.iter().any(Output::is_stdout);
    let mut options = options(build, &outputs)?;
    let events = progress::watch(build.shared.progress, build.shared.quiet);
    let http = wiring::http(&build.shared)?;
    let clients = Clients::new(&build.shared, &http, Backoff::default(), Arc::clone(&events))?;
    let sealer = match build.source.contains("://") {
        true => wiring::distant_sealer(&build.shared, build.compression),
        false => wiring::sealer(&build.shared, build.compression),
    }?;
    let means = Means::of_model(build, clients.clone(), sealer)?;
    let mut jobs = vec![Job { artifact: None, sinks: sinks(outputs, &build.tags, &means)? }];
    for (artifact, tags) in artifacts(build)? {
        let outputs = Output::all(asked(build, &tags))?;
        jobs.push(Job { artifact: Some(artifact), sinks: sinks(outputs, &tags, &means)? });
    }
    let sources = Sources {
        http,
        ahead: wiring::read_ahead(&build.shared),
        files: options.selection.clone(),
        revision: build.revision.clone(),
    };
    let (text, base) = (build.source.clone(), build.base.as_deref().map(places::name).transpose()?);
    let images = Images { registries: clients.registries.clone() };
    let are_asked = !build.platforms.is_empty();
    let published = wiring::run(async move {
        let source = sources.open(&text).await?;
        (options.source, options.revision) = (source.url, source.revision);
        if let Some(base) = &base {
            (options.platforms, options.bases) = bases(&images, base, options.platforms, are_asked).await?;
        }
        let model = Model::open(source.tree, options).await;
        let model = model.map_err(|error| Failure::of_model(&error))?;
        publish_all(&model, &jobs, &events).await.map_err(|failure| clients.explained(failure))
    })?;
    if let Some(path) = &build.metadata_file {
        report::metadata(path, build, &published)?;
    }
    if prints {
        let references = published.iter().flat_map(|(_, published)| &published.references);
        crate::report::distinct(references.map(String::as_str));
    }
    Ok(())
}

/// What is made of a model, and where it goes.
struct Job {
    /// `None` for the image.
    artifact: Option<Artifact>,
    sinks: Vec<Arc<dyn Sink>>,
}

async fn publish_all(
    model: &Model,
    jobs: &[Job],
    events: &Arc<dyn Events>,
) -> Result<Vec<(Option<Artifact>, Published)>, Failure> {
    let mut published = Vec::new();
    for Job { artifact, sinks } in jobs {
        for sink in sinks {
            let done = match artifact {
                None => publish(model, &**sink, events).await,
                Some(artifact) => publish_artifact(model, *artifact, &**sink, events).await,
            };
            published.push((*artifact, done.map_err(|error| Failure::of_model(&error))?));
        }
    }
    Ok(published)
}

fn sinks(outputs: Vec<Output>, tags: &[Reference], means: &Means) -> Result<Vec<Arc<dyn Sink>>, Failure> {
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    for output in outputs {
        sinks.extend(output.sinks(tags, means)?.into_iter().map(Arc::from));
    }
    Ok(sinks)
}

/// What is asked for besides the image, with the tags that it gets.
fn artifacts(build: &Build) -> Result<Vec<(Artifact, Vec<Reference>)>, Failure> {
    let model_pack = build.modelpack.map(|layers| match layers {
        ModelPack::Tar => Artifact::ModelPackTar,
        ModelPack::Raw => Artifact::ModelPackRaw,
    });
    let docker = build.docker_model.then_some(Artifact::DockerModel);
    let asked = [
        (model_pack, build.modelpack_tag.as_deref(), "modelpack"),
        (docker, build.docker_model_tag.as_deref(), "docker"),
    ];
    let mut artifacts = Vec::new();
    for (artifact, tag, ending) in
        asked.into_iter().filter_map(|(artifact, tag, ending)| Some((artifact?, tag, ending)))
    {
        check_outputs(build)?;
        let tags = build.tags.iter().map(|reference| {
            let tag = tag
                .map_or_else(|| format!("{}-{ending}", reference.tag().unwrap_or("latest")), str::to_owned);
            let renamed = format!("{}:{tag}", reference.name()).parse();
            renamed.map_err(|error: ocib_image::Error| Failure::usage(error.to_string()))
        });
        artifacts.push((artifact, tags.collect::<Result<_, _>>()?));
    }
    Ok(artifacts)
}

/// Artifacts stand beside the image under tags of their own: not every output can have that.
fn check_outputs(build: &Build) -> Result<(), Failure> {
    if build.tags.is_empty() {
        return Err(
            Failure::usage("a manifest beside the image needs a name of its own").help("give one with --tag")
        );
    }
    let is_archive = |output: &Output| matches!(output, Output::Archive(..));
    match Output::all(asked(build, &build.tags))?.iter().any(is_archive) {
        true => {
            Err(Failure::usage("an archive holds the image alone, without --modelpack and --docker-model")
                .help("write a layout, as in --output type=oci,dest=DIR,tar=false"))
        }
        false => Ok(()),
    }
}

/// The base for each platform. Of those that nobody asked for, the ones that it has; if it has none of them,
/// its own.
async fn bases(
    images: &Images,
    name: &ImageName,
    platforms: Vec<Platform>,
    are_asked: bool,
) -> Result<(Vec<Platform>, Vec<Image>), Failure> {
    let (mut found, mut others) = ((Vec::new(), Vec::new()), None);
    for platform in platforms {
        match images.resolve(name, &platform).await {
            Err(error) if are_asked || error.kind != PlaceErrorKind::NotFound => {
                return Err(places::unread(name, &error));
            }
            Ok(base)
                if are_asked || own_platform(&base).is_none_or(|own| own.serves(&platform).is_some()) =>
            {
                found.0.push(platform);
                found.1.push(base);
            }
            other => drop(others.get_or_insert(other)),
        }
    }
    match others {
        Some(base) if found.0.is_empty() => {
            let base = base.map_err(|error| places::unread(name, &error))?;
            Ok((own_platform(&base).into_iter().collect(), vec![base]))
        }
        _ => Ok(found),
    }
}

fn own_platform(base: &Image) -> Option<Platform> {
    match &base.config {
        Config::Container(config) => config.platform(),
        Config::Artifact(..) => None,
    }
}

fn asked<'a>(build: &'a Build, tags: &'a [Reference]) -> Asked<'a> {
    let platforms = args::distinct(&build.platforms).len();
    Asked { tags, push: build.push, outputs: &build.outputs, platforms }
}

fn options(build: &Build, outputs: &[Output]) -> Result<Options, Failure> {
    let mut options = Options {
        selection: HubFiles { include: build.include.clone(), exclude: build.exclude.clone() },
        prefix: build.prefix.trim_matches('/').to_owned(),
        compression: build.compression,
        layer_bytes: build.layer_size.map(|size| size.as_u64()),
        labels: pairs("--label", &build.labels)?,
        annotations: pairs("--annotation", &build.annotations)?,
        epoch: build.source_date_epoch,
        cache: environment::cache_directory().filter(|_| !build.no_cache),
        verify_reuse: build.verify_reuse,
        ..Options::default()
    };
    let is_single = |output: &Output| matches!(output, Output::Archive(ArchiveFormat::Docker, _));
    if !build.platforms.is_empty() {
        options.platforms = args::distinct(&build.platforms);
    } else if outputs.iter().any(is_single) {
        options.platforms.truncate(1);
    }
    Ok(options)
}
