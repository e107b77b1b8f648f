//! What would become of each layer in each place that the image goes to.

use std::{path::PathBuf, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_build::{LayerOutline, Outline, StepOutline, StepSize, TargetOutline};
use ocib_image::{
    ArchiveFormat, Codec, Compression, Expected, ExpectedLayer, Foreknown, HashReason, Layer, PlaceError,
    Reference, Sealing, Sink,
};
use ocib_net::Backoff;
use ocib_store::{Fate, Foreseen, Foresight, LayoutSink, PushOptions};

pub(super) use crate::output::Parts;
use crate::{
    diagnostic::{Failure, with_causes},
    output::{Means, Output},
};

/// A plan waits no longer than this for a registry that need not be asked.
const PATIENCE: Duration = Duration::from_secs(10);
const BACKOFF: Backoff =
    Backoff { attempts: 2, first: Duration::from_millis(200), longest: Duration::from_secs(1) };
/// Questions at a time.
const AT_A_TIME: usize = 8;

/// A place that the image goes to.
pub(super) struct Place {
    pub(super) at: At,
    /// Why it could not be asked, if that is so.
    pub(super) unknown: Option<String>,
    /// What becomes of the layers of each image; none if that is unknown.
    pub(super) images: Vec<Vec<LayerFate>>,
}

/// Where that is.
pub(super) enum At {
    Repository { name: String, tags: Vec<String>, parts: Option<Parts> },
    Layout(PathBuf),
    Archive(ArchiveFormat, Option<PathBuf>),
}

/// What becomes of a layer, in the words of `--metadata-file`.
pub(super) struct LayerFate {
    pub(super) made: &'static str,
    pub(super) stored: &'static str,
    pub(super) why: Option<String>,
    /// The repository that it is taken from.
    pub(super) from: Option<String>,
}

/// Looks at all places, in the order in which they would be written to. What a repository does not take is
/// an error, as in a build.
pub(super) async fn places(
    outline: &Outline,
    outputs: &[Output],
    means: &Means,
) -> Result<Vec<Place>, Failure> {
    let mut places = Vec::new();
    let mut earlier: Vec<Reference> = Vec::new();
    for output in outputs {
        match output {
            Output::Registry(references) => {
                for push in means.pushes(references) {
                    check_limits(outline, &push, means).await?;
                    let repository = push.repository.clone();
                    let before = Before { is_nothing: places.is_empty(), repositories: &earlier };
                    places.push(in_repository(outline, push, means.parts(), &before).await);
                    earlier.push(repository);
                }
            }
            Output::Layout(directory) => {
                let sink = LayoutSink::new(directory, &[], means.sealer.clone());
                let is_first = places.is_empty();
                places.push(Place {
                    at: At::Layout(directory.clone()),
                    unknown: None,
                    images: of_all(outline, |layer| in_layout(layer, &sink, is_first)),
                });
            }
            Output::Archive(format, path) => places.push(Place {
                at: At::Archive(*format, path.clone()),
                unknown: None,
                images: of_all(outline, |layer| in_archive(layer, path.is_none())),
            }),
        }
    }
    Ok(places)
}

/// The places that were written to before.
struct Before<'a> {
    is_nothing: bool,
    repositories: &'a [Reference],
}

async fn check_limits(outline: &Outline, push: &PushOptions, means: &Means) -> Result<(), Failure> {
    let expected: Vec<Expected> = outline.targets.iter().map(expected).collect();
    let checked = means.limits(push.clone()).check(&expected).await;
    checked.map_err(|error| Failure::of_place(&error))
}

/// As much as is known of an image.
fn expected(target: &TargetOutline) -> Expected {
    let layers = target.layers.iter().filter_map(|layer| match layer {
        LayerOutline::Base(blob, _) => Some(ExpectedLayer {
            what: format!("base layer {}", blob.descriptor.digest),
            stored_bytes: Some(blob.descriptor.size),
            tar_bytes: None,
        }),
        LayerOutline::Made(_, step) => Some(ExpectedLayer {
            what: step.text.clone(),
            stored_bytes: match (step.compression, step.size) {
                (Compression::Fixed(Codec::Plain), StepSize::Known(size)) => Some(size.tar_bytes),
                _ => remembered(step).map(|layer| layer.descriptor.size),
            },
            tar_bytes: match step.size {
                StepSize::Known(size) => Some(size.tar_bytes),
                _ => None,
            },
        }),
        LayerOutline::Delegated(_) => None,
    });
    Expected { platform: target.platform.clone(), layers: layers.collect(), root: None }
}

fn remembered(step: &StepOutline) -> Option<&Layer> {
    step.foreknown.as_ref()?.layer.as_ref()
}

fn of_all(outline: &Outline, fate: impl Fn(&LayerOutline) -> LayerFate) -> Vec<Vec<LayerFate>> {
    outline.targets.iter().map(|target| target.layers.iter().map(&fate).collect()).collect()
}

async fn in_repository(
    outline: &Outline,
    push: PushOptions,
    parts: Option<Parts>,
    before: &Before<'_>,
) -> Place {
    let at = At::Repository { name: push.repository.name(), tags: push.tags.clone(), parts };
    let asked = tokio::time::timeout(PATIENCE, ask(outline, push, before)).await;
    let (unknown, images) = match asked {
        Ok(Ok(images)) => (None, images),
        Ok(Err(error)) => (Some(with_causes(&error)), Vec::new()),
        Err(_) => (Some(format!("there was no answer within {} seconds", PATIENCE.as_secs())), Vec::new()),
    };
    Place { at, unknown, images }
}

async fn ask(
    outline: &Outline,
    push: PushOptions,
    before: &Before<'_>,
) -> Result<Vec<Vec<LayerFate>>, PlaceError> {
    let registries = push.registries.with_backoff(BACKOFF);
    let foresight = Foresight::new(PushOptions { registries, ..push }).await?;
    let mut images = Vec::new();
    for target in &outline.targets {
        let layers = target.layers.iter().map(|layer| ask_for(layer, &foresight, before));
        images.push(stream::iter(layers).buffered(AT_A_TIME).try_collect().await?);
    }
    Ok(images)
}

async fn ask_for(
    layer: &LayerOutline,
    foresight: &Foresight,
    before: &Before<'_>,
) -> Result<LayerFate, PlaceError> {
    let step = match layer {
        LayerOutline::Base(blob, _) => return Ok(LayerFate::of("base", foresight.blob(blob).await?)),
        LayerOutline::Delegated(stage) => return Ok(LayerFate::depends(*stage)),
        LayerOutline::Made(_, step) => step,
    };
    Ok(match (&step.foreknown, step.size) {
        (_, StepSize::Files { after, .. } | StepSize::Unknown { after }) => LayerFate::depends(after),
        (Some(known), _) if known.layer.is_none() && !before.is_nothing => LayerFate::known_by_then(),
        (known, StepSize::Known(size)) => {
            let known = Foreknown {
                repositories: before.repositories.to_vec(),
                ..known.as_deref().cloned().unwrap_or_default()
            };
            LayerFate::sealed(foresight.layer(&known, Some(size.tar_bytes)).await?)
        }
    })
}

fn in_layout(layer: &LayerOutline, sink: &LayoutSink, is_first: bool) -> LayerFate {
    let fate = |is_there| if is_there { Fate::Present } else { Fate::Stored };
    let step = match layer {
        LayerOutline::Base(blob, _) => return LayerFate::of("base", fate(sink.has(&blob.descriptor))),
        LayerOutline::Delegated(stage) => return LayerFate::depends(*stage),
        LayerOutline::Made(_, step) => step,
    };
    match (step.size, remembered(step)) {
        (StepSize::Files { after, .. } | StepSize::Unknown { after }, _) => LayerFate::depends(after),
        (_, None) if !is_first => LayerFate::known_by_then(),
        (_, Some(layer)) if sink.has(&layer.descriptor) => LayerFate::of("remembered", Fate::Present),
        _ => LayerFate::of("streamed", Fate::Stored),
    }
}

/// An archive holds nothing before it is written.
fn in_archive(layer: &LayerOutline, is_stream: bool) -> LayerFate {
    match layer {
        LayerOutline::Base(..) => LayerFate::of("base", Fate::Stored),
        LayerOutline::Delegated(stage) => LayerFate::depends(*stage),
        LayerOutline::Made(_, StepOutline { size, .. }) => match size {
            StepSize::Files { after, .. } | StepSize::Unknown { after } => LayerFate::depends(*after),
            StepSize::Known(_) if is_stream => LayerFate::sealed(Foreseen {
                sealing: Sealing::HashedFirst(HashReason::Needed),
                fate: Fate::Stored,
            }),
            StepSize::Known(_) => LayerFate::of("streamed", Fate::Stored),
        },
    }
}

impl LayerFate {
    fn of(made: &'static str, fate: Fate) -> Self {
        let (stored, from) = match fate {
            Fate::Present => ("present", None),
            Fate::Mounted(from) => ("mounted", Some(from.name())),
            Fate::Stored => ("stored", None),
            Fate::StoredIfMissing => ("stored-if-missing", None),
            _ => ("unknown", None),
        };
        Self { made, stored, why: None, from }
    }

    fn sealed(Foreseen { sealing, fate }: Foreseen) -> Self {
        match sealing {
            Sealing::Foreknown => Self::of("remembered", fate),
            Sealing::HashedFirst(why) => {
                Self { why: Some(why.to_string()), ..Self::of("hashed-first", fate) }
            }
            _ => Self::of("streamed", fate),
        }
    }

    fn unknown(why: String) -> Self {
        Self { made: "unknown", stored: "unknown", why: Some(why), from: None }
    }

    /// Nobody knows before the part of that stage was carried out.
    fn depends(stage: usize) -> Self {
        Self::unknown(format!("depends on what stage {stage} delegates"))
    }

    /// Places that come later are told what an earlier one found out.
    fn known_by_then() -> Self {
        Self::unknown("its digest is known from the place before by then".to_owned())
    }
}
