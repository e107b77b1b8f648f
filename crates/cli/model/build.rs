//! `ocib model build`: a model's files into images.

use std::sync::Arc;

use ocib_image::{Events, Image, ImageSource, Platform, Sink};
use ocib_model::{Model, Options, Published, Selection, publish};
use ocib_net::Backoff;
use ocib_store::Images;

use super::{Build, report, source};
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
    let outputs = Output::all(asked(build))?;
    let prints = !outputs.iter().any(Output::is_stdout);
    let events = progress::watch(build.shared.progress, build.shared.quiet);
    let http = wiring::http(&build.shared)?;
    let clients = Clients::new(&build.shared, &http, Backoff::default(), Arc::clone(&events))?;
    let means = Means::of_model(build, clients.clone(), wiring::sealer(&build.shared, build.compression)?)?;
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    for output in outputs {
        sinks.extend(output.sinks(&build.tags, &means)?.into_iter().map(Arc::from));
    }
    let source = source::open(&build.source)?;
    let mut options = options(build)?;
    (options.source, options.revision) = (source.url, source.revision);
    let base = build.base.as_deref().map(places::name).transpose()?;
    let images = Images { registries: clients.registries.clone() };
    let published = wiring::run(async move {
        if let Some(base) = &base {
            options.bases = bases(&images, base, &options.platforms).await?;
        }
        let model = Model::open(source.tree, options).await;
        let model = model.map_err(|error| Failure::of_model(&error))?;
        publish_all(&model, &sinks, &events).await.map_err(|failure| clients.explained(failure))
    })?;
    if let (Some(path), Some(last)) = (&build.metadata_file, published.last()) {
        report::metadata(path, build, last)?;
    }
    if prints {
        crate::report::distinct(
            published.iter().flat_map(|published| &published.references).map(String::as_str),
        );
    }
    Ok(())
}

async fn publish_all(
    model: &Model,
    sinks: &[Arc<dyn Sink>],
    events: &Arc<dyn Events>,
) -> Result<Vec<Published>, Failure> {
    let mut published = Vec::new();
    for sink in sinks {
        let done = publish(model, &**sink, events).await;
        published.push(done.map_err(|error| Failure::of_model(&error))?);
    }
    Ok(published)
}

/// The base for each platform.
async fn bases(
    images: &Images,
    name: &ocib_image::ImageName,
    platforms: &[Platform],
) -> Result<Vec<Image>, Failure> {
    let mut bases = Vec::new();
    for platform in platforms {
        let base = images.resolve(name, platform).await;
        bases.push(base.map_err(|error| places::unread(name, &error))?);
    }
    Ok(bases)
}

fn asked(build: &Build) -> Asked<'_> {
    let platforms = args::distinct(&build.platforms).len();
    Asked { tags: &build.tags, push: build.push, outputs: &build.outputs, platforms }
}

fn options(build: &Build) -> Result<Options, Failure> {
    let mut options = Options {
        selection: Selection { include: build.include.clone(), exclude: build.exclude.clone() },
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
    if !build.platforms.is_empty() {
        options.platforms = args::distinct(&build.platforms);
    }
    Ok(options)
}
