//! Packaging: layers into a sink, then configs, manifests, the index, and the names last.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_image::{
    Annotations, Blob, Codec, Compression, Config, ContainerConfig, Descriptor, DiffId, Digest, Document,
    Event, Events, Expected, ExpectedLayer, History, Image, Index, Layer, Manifest, MediaType, Outcome,
    Placed, Platform, Progress, RECIPE_ANNOTATION, Sealing, Sink, TaskId,
};

use crate::{
    CONTENT_ANNOTATION, DIFF_ID_ANNOTATION, Error, FACTS_ANNOTATION, Facts, FileKind, Model, ModelLayer,
    blocking,
};

/// What a sink holds now.
#[derive(Clone, Debug)]
pub struct Published {
    /// The index, or the only manifest.
    pub root: Document,
    /// Manifests, in the order of the platforms; an artifact has one.
    pub manifests: Vec<Descriptor>,
    /// Configs, likewise.
    pub configs: Vec<Descriptor>,
    /// Digest-pinned references, one for each name of the sink.
    pub references: Vec<String>,
    /// The model's layers, without a base's.
    pub layers: Vec<PublishedLayer>,
    /// What the files say of the model.
    pub facts: Facts,
}

/// One layer of a model in a sink.
#[derive(Clone, Debug)]
pub struct PublishedLayer {
    /// As progress shows it.
    pub title: String,
    /// What its files are for.
    pub kind: FileKind,
    /// What it is.
    pub descriptor: Descriptor,
    /// How its digest was found: not at all, if an image that is there says what the layer is.
    pub sealing: Sealing,
    /// What became of its bytes.
    pub outcome: Outcome,
}

/// Packages `model` as a container image in `sink`: an ordinary image whose files are below the prefix, one
/// manifest for each platform, all with the same layers. May be called for one sink after another.
///
/// A layer is not made, and its files are not read, if the image that the sink's names stand for now says
/// in its manifest that it has a layer of the same content: files of a source that gives them strong
/// identities. The same is true of headers. Layers of local files are remembered on this machine.
///
/// Dropping the future ends the transfers; the sink shows no name then.
pub async fn publish(model: &Model, sink: &dyn Sink, events: &Arc<dyn Events>) -> Result<Published, Error> {
    let known = Known::read(model, sink).await?;
    // What does not fit is said before a byte of a file is read.
    sink.check(&expected(model, None)).await?;
    model.warned.call_once(|| warn_of_many_layers(model, events));
    let by_layer = model.facts_by_layer().await?;
    let facts = Facts::of_parts(&by_layer);
    let packaging = Packaging { model, sink, events, known, facts: &facts, by_layer: &by_layer };
    if let Some(root) = packaging.foreseen() {
        sink.check(&expected(model, Some(root))).await?;
    }
    packaging.put_bases().await?;
    let layers: Vec<&ModelLayer> = model.layers.iter().collect();
    let placed = packaging.put_layers(&layers).await?;
    let (mut documents, mut manifests, mut configs) = (Vec::new(), Vec::new(), Vec::new());
    for (number, platform) in model.options.platforms.iter().enumerate() {
        let (config, manifest) = packaging.compose(number, &placed);
        sink.put_blob(&config, &Progress::unwatched()).await?;
        let document = Document::Manifest(manifest);
        sink.put_manifest(&document).await?;
        let descriptor = Descriptor { platform: Some(platform.clone()), ..document.descriptor() };
        manifests.push(descriptor);
        configs.push(config.descriptor);
        documents.push(document);
    }
    let root = packaging.root(&manifests, documents);
    if let Document::Index(_) = root {
        sink.put_manifest(&root).await?;
    }
    let references = sink.finish(&root).await?;
    let layers = published(&layers, &placed);
    Ok(Published { root, manifests, configs, references, layers, facts })
}

/// What Docker's storage stacks (moby, `layer.maxLayerDepth`), and about as many as fit into the options of one mount of
/// overlayfs.
const STACKED_MAX: usize = 125;

fn warn_of_many_layers(model: &Model, events: &Arc<dyn Events>) {
    let below = model.options.bases.iter().map(|base| base.layers.len()).max().unwrap_or(0);
    let layers = below + model.layers.len();
    if layers > STACKED_MAX {
        let advice = match model.options.layer_bytes {
            Some(_) => "a larger --layer-size, or none, gives fewer",
            None => "a --layer-size of several GB gives fewer",
        };
        let text = format!(
            "the image has {layers} layers, of which not every node can mount more than {STACKED_MAX}; {advice}"
        );
        events.emit(Event::Warning(&text));
    }
}

/// What is known of the images before anything is moved; `root` is the digest that the names will stand for.
fn expected(model: &Model, root: Option<Digest>) -> Vec<Expected> {
    let layer = |layer: &ModelLayer| ExpectedLayer {
        what: layer.title.clone(),
        stored_bytes: match layer.unsealed.compression {
            Compression::Fixed(Codec::Plain) => layer.unsealed.source.bytes(),
            _ => None,
        },
        tar_bytes: layer.unsealed.source.bytes(),
    };
    let expected = |(number, platform): (usize, &Platform)| {
        let base = model.options.bases.get(number).map_or(&[][..], |base| &base.layers);
        let base = base.iter().map(|blob| ExpectedLayer {
            what: format!("base layer {}", blob.descriptor.digest),
            stored_bytes: Some(blob.descriptor.size),
            tar_bytes: None,
        });
        let layers = base.chain(model.layers.iter().map(layer)).collect();
        Expected { platform: platform.clone(), layers, root }
    };
    model.options.platforms.iter().enumerate().map(expected).collect()
}

/// How each layer came to be where it is.
pub(crate) fn published(layers: &[&ModelLayer], placed: &[Placed]) -> Vec<PublishedLayer> {
    let layer = |(layer, placed): (&&ModelLayer, &Placed)| PublishedLayer {
        title: layer.title.clone(),
        kind: layer.kind,
        descriptor: described(&placed.layer),
        sealing: placed.sealing,
        outcome: placed.outcome,
    };
    layers.iter().zip(placed).map(layer).collect()
}

/// A layer of known content says what its files say, so that who finds it here need not read them.
fn with_facts(mut descriptor: Descriptor, facts: &Facts) -> Descriptor {
    if descriptor.annotations.contains_key(CONTENT_ANNOTATION) {
        descriptor.annotations.insert(FACTS_ANNOTATION.to_owned(), json(facts));
    }
    descriptor
}

fn json(facts: &Facts) -> String {
    serde_json::to_string(facts).expect("texts and numbers always serialise")
}

/// The descriptor of a layer as manifests have it. Of compressed layers it names the diff ID, too: who finds
/// the layer here the next time needs it, and does not read configs.
pub(crate) fn described(layer: &Layer) -> Descriptor {
    let mut descriptor = layer.descriptor.clone();
    if layer.diff_id.0 != descriptor.digest && descriptor.annotations.contains_key(CONTENT_ANNOTATION) {
        descriptor.annotations.insert(DIFF_ID_ANNOTATION.to_owned(), layer.diff_id.0.to_string());
    }
    descriptor
}

/// What the images that are there say of their layers.
#[derive(Default)]
pub(crate) struct Known {
    layers: BTreeMap<String, Layer>,
    /// Of layers that say nothing of their content.
    recipes: BTreeSet<String>,
}

impl Known {
    /// Looks at what the names of `sink` stand for. What a manifest says of its layers is believed because
    /// whoever may move the name may make it stand for anything.
    pub(crate) async fn read(model: &Model, sink: &dyn Sink) -> Result<Self, Error> {
        let mut known = Self::default();
        if model.layers.iter().all(|layer| layer.content.is_none()) {
            return Ok(known);
        }
        for document in sink.current().await? {
            let Document::Manifest(manifest) = document else { continue };
            manifest.layers().iter().for_each(|layer| known.learn(model, layer));
        }
        Ok(known)
    }

    fn learn(&mut self, model: &Model, layer: &Descriptor) {
        let Some(content) = layer.annotations.get(CONTENT_ANNOTATION) else {
            self.recipes.extend(layer.annotations.get(RECIPE_ANNOTATION).cloned());
            return;
        };
        let diff_id = match layer.annotations.get(DIFF_ID_ANNOTATION).map(|text| text.parse()) {
            None => layer.digest,
            Some(Ok(diff_id)) => diff_id,
            Some(Err(_)) => return,
        };
        let codec_type = layer.media_type.clone();
        if !matches!(codec_type, MediaType::LayerTar | MediaType::LayerGzip | MediaType::LayerZstd) {
            return;
        }
        let descriptor = Descriptor::new(codec_type, layer.digest, layer.size);
        self.layers.insert(content.clone(), Layer { descriptor, diff_id: DiffId(diff_id) });
        let facts = layer.annotations.get(FACTS_ANNOTATION);
        let facts: Option<Facts> =
            facts.and_then(|text| serde_json::from_str(text).ok()).map(Facts::in_short);
        let is_it = |layer: &ModelLayer| layer.content.is_some_and(|known| known.to_string() == *content);
        if let (Some(facts), Some(number), false) =
            (facts, model.layers.iter().position(is_it), model.options.verify_reuse)
        {
            model.learn_facts(number, facts);
        }
    }

    fn layer(&self, content: Option<Digest>) -> Option<&Layer> {
        self.layers.get(&content?.to_string())
    }

    /// What tells the sink whether it may have a layer. Its content says more than its recipe: a layer of the
    /// same recipe that says what its content is, and says another, is not it, and need not be compared.
    fn recipe(&self, layer: &ModelLayer) -> Option<Digest> {
        let recipe = layer.unsealed.foreknown.recipe;
        match (layer.content, recipe) {
            (Some(content), Some(recipe)) if !self.recipes.contains(&recipe.to_string()) => Some(content),
            _ => recipe,
        }
    }
}

/// A model on its way into a sink.
pub(crate) struct Packaging<'a> {
    pub(crate) model: &'a Model,
    pub(crate) sink: &'a dyn Sink,
    pub(crate) events: &'a Arc<dyn Events>,
    pub(crate) known: Known,
    pub(crate) facts: &'a Facts,
    /// The same for each layer of the image.
    pub(crate) by_layer: &'a [Facts],
}

impl Packaging<'_> {
    /// Puts these layers, as many at a time as the sink takes; gives what became of them, in their order.
    pub(crate) async fn put_layers(&self, layers: &[&ModelLayer]) -> Result<Vec<Placed>, Error> {
        let puts = layers.iter().enumerate().map(|(number, layer)| async move {
            let progress = Progress::new(Arc::clone(self.events), TaskId(number));
            Ok::<_, Error>((number, self.put_layer(layer, &progress).await?))
        });
        let at_a_time = if self.model.options.is_sequential { 1 } else { self.sink.concurrency().max(1) };
        let done = stream::iter(puts).buffer_unordered(at_a_time);
        let mut placed: Vec<(usize, Placed)> = done.try_collect().await?;
        placed.sort_by_key(|(number, _)| *number);
        Ok(placed.into_iter().map(|(_, placed)| placed).collect())
    }

    async fn put_layer(&self, layer: &ModelLayer, progress: &Progress) -> Result<Placed, Error> {
        progress.started(&layer.title, layer.unsealed.source.bytes());
        let mut unsealed = layer.unsealed.clone();
        let annotations = unsealed.annotations.clone();
        unsealed.foreknown.recipe = self.known.recipe(layer);
        let expected = self.expected(layer).await;
        if let Some((placed, repositories)) = self.model.made(&layer.key) {
            unsealed.foreknown.layer = Some(placed.layer);
            unsealed.foreknown.repositories = repositories;
        } else if self.model.options.verify_reuse {
            unsealed.foreknown.layer = None;
        } else if let Some(mut expected) = expected.clone() {
            expected.descriptor.annotations = annotations;
            unsealed.foreknown.layer = Some(expected);
        }
        let placed = self.sink.put_layer(&unsealed, progress).await?;
        self.check(layer, expected.as_ref(), &placed)?;
        self.model.note(&layer.key, &placed, self.sink.repository());
        if let (Some(inputs), Some(memory), true) =
            (layer.inputs.clone(), self.model.memory(), placed.sealing != Sealing::Foreknown)
        {
            let sealed = placed.layer.clone();
            blocking(move || {
                inputs.remember(&memory, &sealed);
                Ok(())
            })
            .await?;
        }
        Ok(placed)
    }

    /// What the layer will be: as its source says, as the image that is there says, or as this machine
    /// remembers.
    async fn expected(&self, layer: &ModelLayer) -> Option<Layer> {
        if let Some(promised) = &layer.unsealed.foreknown.layer {
            return Some(promised.clone());
        }
        if let Some(known) = self.known.layer(layer.content) {
            return Some(known.clone());
        }
        let (inputs, memory) = (layer.inputs.clone()?, self.model.memory()?);
        blocking(move || Ok(inputs.recall(&memory))).await.ok().flatten()
    }

    /// Compares what a layer turned out to be with what it was expected to be. What a source promises is an
    /// error if it is not so; what was remembered, a warning.
    fn check(&self, layer: &ModelLayer, expected: Option<&Layer>, placed: &Placed) -> Result<(), Error> {
        let actual = placed.layer.descriptor.digest;
        let Some(expected) = expected.map(|layer| layer.descriptor.digest).filter(|digest| *digest != actual)
        else {
            return Ok(());
        };
        let name = layer.title.clone();
        if layer.unsealed.foreknown.layer.is_some() {
            return Err(Error::BrokenPromise { name, expected, actual });
        }
        let text = format!(
            "{name}: it was known as {expected}, but it is {actual}; please report how this came about"
        );
        self.events.emit(Event::Warning(&text));
        Ok(())
    }

    /// Puts the layers of the bases, each once.
    async fn put_bases(&self) -> Result<(), Error> {
        let mut blobs: Vec<&Blob> = Vec::new();
        for blob in self.model.options.bases.iter().flat_map(|base| &base.layers) {
            if !blobs.iter().any(|known| known.descriptor.digest == blob.descriptor.digest) {
                blobs.push(blob);
            }
        }
        let first = self.model.layers.len();
        let puts = blobs.into_iter().enumerate().map(|(number, blob)| {
            let progress = Progress::new(Arc::clone(self.events), TaskId(first + number));
            async move {
                progress
                    .started(&format!("base layer {}", blob.descriptor.digest), Some(blob.descriptor.size));
                self.sink.put_blob(blob, &progress).await
            }
        });
        let done = stream::iter(puts).buffer_unordered(self.sink.concurrency().max(1));
        Ok(done.try_collect::<()>().await?)
    }

    /// The root's digest, if every layer is known: a registry with immutable tags is asked about it before
    /// anything is sent.
    fn foreseen(&self) -> Option<Digest> {
        let placed = |layer: &ModelLayer| {
            let made = self.model.made(&layer.key).map(|(placed, _)| placed.layer);
            let mut known = made
                .or_else(|| layer.unsealed.foreknown.layer.clone())
                .or_else(|| self.known.layer(layer.content).cloned())?;
            known.descriptor.annotations.clone_from(&layer.unsealed.annotations);
            Some(Placed { layer: known, outcome: Outcome::Present, sealing: Sealing::Foreknown })
        };
        if self.model.options.verify_reuse {
            return None;
        }
        let placed: Vec<Placed> = self.model.layers.iter().map(placed).collect::<Option<_>>()?;
        let composed = self.model.options.platforms.iter().enumerate().map(|(number, platform)| {
            let document = Document::Manifest(self.compose(number, &placed).1);
            (Descriptor { platform: Some(platform.clone()), ..document.descriptor() }, document)
        });
        let (manifests, documents): (Vec<_>, Vec<_>) = composed.unzip();
        Some(self.root(&manifests, documents).descriptor().digest)
    }

    /// The config and manifest for one platform.
    fn compose(&self, number: usize, placed: &[Placed]) -> (Blob, Manifest) {
        let options = &self.model.options;
        let base = options.bases.get(number);
        let mut config = base_config(base, &options.platforms[number]);
        let created = rfc3339(options.epoch);
        config.set_created(&created);
        config.runtime.labels.extend(self.labels());
        let mut layers: Vec<Descriptor> =
            base.map(|base| base.manifest.layers().to_vec()).unwrap_or_default();
        for ((layer, placed), facts) in self.model.layers.iter().zip(placed).zip(self.by_layer) {
            layers.push(with_facts(described(&placed.layer), facts));
            config.diff_ids.push(placed.layer.diff_id);
            let mut history = History::default();
            history.created = Some(created.clone());
            history.created_by = format!("ocib model build: {}", layer.title);
            config.history.push(history);
        }
        let config = Blob::in_memory(MediaType::Config, config.to_bytes());
        let manifest = Manifest::new(config.descriptor.clone(), layers, self.annotations());
        (config, manifest)
    }

    /// What the names stand for: the only manifest, or an index of all.
    fn root(&self, manifests: &[Descriptor], mut documents: Vec<Document>) -> Document {
        match (documents.pop(), documents.is_empty()) {
            (Some(only), true) => only,
            _ => {
                let mut annotations = self.labels();
                annotations.extend(self.model.options.annotations.clone());
                Document::Index(Index::new(manifests.to_vec(), annotations))
            }
        }
    }

    /// What the files say, by the names of image-spec ("Pre-Defined Annotation Keys") where there are any.
    fn labels(&self) -> Annotations {
        let (facts, options) = (self.facts, &self.model.options);
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let said = [
            ("org.opencontainers.image.licenses", facts.license.clone()),
            ("org.opencontainers.image.source", options.source.clone()),
            ("org.opencontainers.image.revision", options.revision.clone()),
            ("io.github.ocib.model.architecture", facts.architecture.clone()),
            ("io.github.ocib.model.base", facts.base_model.clone()),
            ("io.github.ocib.model.context-length", number(facts.context_length)),
            ("io.github.ocib.model.format", facts.format.clone()),
            ("io.github.ocib.model.parameters", number(facts.parameters)),
            ("io.github.ocib.model.precision", facts.precision()),
            ("io.github.ocib.model.quantization", facts.quantization.clone()),
        ];
        let said = said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let mut labels: Annotations = said.collect();
        labels.extend(options.labels.clone());
        labels
    }

    /// The annotations of manifests: labels, and what spares the next run to read the files.
    pub(crate) fn annotations(&self) -> Annotations {
        let mut annotations = self.labels();
        annotations.insert(FACTS_ANNOTATION.to_owned(), json(self.facts));
        annotations.extend(self.model.options.annotations.clone());
        annotations
    }
}

fn base_config(base: Option<&Image>, platform: &Platform) -> ContainerConfig {
    match base.map(|base| &base.config) {
        Some(Config::Container(config)) => {
            let mut config = (**config).clone();
            config.set_platform(platform);
            config
        }
        _ => ContainerConfig::scratch(platform),
    }
}

/// A time as configs have it. Years before 1970 and after 9999 have no such form.
pub(crate) fn rfc3339(epoch: i64) -> String {
    let seconds = u64::try_from(epoch).unwrap_or(0).min(253_402_300_799);
    humantime::format_rfc3339(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).to_string()
}
