//! `ocib model build`: a model's files into images.

use std::{collections::BTreeSet, sync::Arc};

use ocib_image::{
    ArchiveFormat, Config, Event, Events, Image, ImageName, ImageSource, PlaceErrorKind, Platform, Reference,
    Sink,
};
use ocib_model::{Artifact, Model, Options, Published, publish, publish_artifact};
use ocib_net::Backoff;
use ocib_store::Images;

use super::{
    Build,
    flags::ModelPack,
    report,
    source::{self, Sources},
};
use crate::{
    build::pairs,
    diagnostic::Failure,
    environment,
    output::{Means, Output},
    places, progress,
    registries::Clients,
    wiring,
};

/// Runs the command.
pub(super) fn run(build: &Build) -> Result<(), Failure> {
    let outputs = Output::all(&build.image)?;
    let prints = !outputs.iter().any(Output::is_stdout);
    let mut options = options(build, &outputs)?;
    let events = progress::watch(build.shared.progress, build.shared.quiet);
    let http = wiring::http(&build.shared)?;
    let clients = Clients::new(&build.shared, &http, Backoff::default(), Arc::clone(&events))?;
    let base = build.base.as_deref().map(places::name).transpose()?;
    #[cfg(feature = "ecr")]
    if build.image.ecr.print_iam_policy {
        let images = images_read(build, base)?;
        return build.image.ecr.print_policy(&build.image.tags, images, &clients.ecr);
    }
    let sealer = match build.sources.iter().any(|text| source::is_distant(text)) {
        true => wiring::distant_sealer(&build.shared, build.compression),
        false => wiring::sealer(&build.shared, build.compression),
    }?;
    let means = Means::of(&build.image, clients.clone(), sealer)?;
    options.layer_bytes = layer_bytes(build, &outputs, &means, &*events);
    let mut jobs = vec![Job { artifact: None, sinks: sinks(outputs, &build.image.tags, &means)? }];
    for (artifact, tags) in artifacts(build)? {
        let outputs = Output::of_tags(&build.image, &tags)?;
        jobs.push(Job { artifact: Some(artifact), sinks: sinks(outputs, &tags, &means)? });
    }
    let images = Images { registries: clients.registries.clone() };
    let sources = Sources {
        http,
        ahead: wiring::read_ahead(&build.shared),
        images: images.clone(),
        events: Arc::clone(&events),
        platform: options.platforms.first().cloned().unwrap_or_else(Platform::linux_amd64),
        selection: build.selection.clone(),
    };
    let are_asked = !build.image.platforms.is_empty();
    let texts = build.sources.clone();
    let published = wiring::run(async move {
        let source = sources.open(&texts).await.map_err(|failure| clients.explained(failure))?;
        (options.source, options.revision) = (source.url, source.revision);
        (options.source_layers, options.is_sequential) = (source.layers, source.is_sequential);
        if let Some(base) = &base {
            (options.platforms, options.bases) = bases(&images, base, options.platforms, are_asked).await?;
        }
        let model = Model::open(source.tree, options).await;
        let model = model.map_err(|error| Failure::of_model(&error))?;
        publish_all(&model, &jobs, &events).await.map_err(|failure| clients.explained(failure))
    })?;
    if let Some(path) = &build.image.metadata_file {
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
        let tags = build.image.tags.iter().map(|reference| {
            let tag = tag
                .map_or_else(|| format!("{}-{ending}", reference.tag().unwrap_or("latest")), str::to_owned);
            let renamed = format!("{}:{tag}", reference.name()).parse();
            renamed.map_err(|error: ocib_image::Error| Failure::usage(error.to_string()))
        });
        // Several tags in one repository may give it one name.
        let tags: Vec<Reference> = tags.collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        artifacts.push((artifact, tags.into_iter().filter(|tag| seen.insert(tag.to_string())).collect()));
    }
    check_tags(build, &artifacts)?;
    Ok(artifacts)
}

/// Of two that have the same name one would be left.
fn check_tags(build: &Build, artifacts: &[(Artifact, Vec<Reference>)]) -> Result<(), Failure> {
    let named = |reference: &Reference| reference.clone().or_latest().to_string();
    let mut names: BTreeSet<String> = build.image.tags.iter().map(named).collect();
    for name in artifacts.iter().flat_map(|(_, tags)| tags).map(named) {
        if names.contains(&name) {
            let message = format!("{name} would be the name of two different things");
            return Err(Failure::usage(message).help("give each manifest a tag of its own"));
        }
        names.insert(name);
    }
    Ok(())
}

/// Artifacts stand beside the image under tags of their own: not every output can have that.
fn check_outputs(build: &Build) -> Result<(), Failure> {
    if build.image.tags.is_empty() {
        return Err(
            Failure::usage("a manifest beside the image needs a name of its own").help("give one with --tag")
        );
    }
    let is_archive = |output: &Output| matches!(output, Output::Archive(..));
    match Output::all(&build.image)?.iter().any(is_archive) {
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

/// The images that are read: what the model is put upon, and what it comes from.
#[cfg(feature = "ecr")]
fn images_read(build: &Build, base: Option<ImageName>) -> Result<Vec<ImageName>, Failure> {
    let mut images: Vec<ImageName> = base.into_iter().collect();
    for text in &build.sources {
        images.extend(source::image(text)?);
    }
    Ok(images)
}

/// `--layer-size`, but no more than each registry that the image goes to takes.
fn layer_bytes(build: &Build, outputs: &[Output], means: &Means, events: &dyn Events) -> Option<u64> {
    let asked = build.layer_size?.as_u64();
    // The limit is for tars, whose headers are less than this share.
    let limit = means.layer_bytes_max(outputs).map(|(registry, most)| (registry, most - most / 256));
    match limit {
        Some((registry, most)) if most < asked => {
            let text =
                format!("--layer-size: layers grow up to {most} bytes, as {registry} takes no larger ones");
            events.emit(Event::Note(&text));
            Some(most)
        }
        _ => Some(asked),
    }
}

fn options(build: &Build, outputs: &[Output]) -> Result<Options, Failure> {
    let image = &build.image;
    let mut options = Options {
        selection: build.selection.files(),
        prefix: build.prefix.trim_matches('/').to_owned(),
        compression: build.compression,
        labels: pairs("--label", &image.labels)?,
        annotations: pairs("--annotation", &image.annotations)?,
        epoch: image.source_date_epoch.0.unwrap_or_default(),
        cache: environment::cache_directory().filter(|_| !build.no_cache),
        verify_reuse: image.verify_reuse,
        ..Options::default()
    };
    let is_single = |output: &Output| matches!(output, Output::Archive(ArchiveFormat::Docker, _));
    if !image.platforms.is_empty() {
        options.platforms = image.distinct_platforms();
    } else if outputs.iter().any(is_single) {
        options.platforms.truncate(1);
    }
    Ok(options)
}
