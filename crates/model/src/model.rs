//! A model, opened: its files, its layers, what is known of them before any is read.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, Once, PoisonError},
};

use ocib_image::{
    Annotations, Codec, Compression, Digest, Digester, Foreknown, Identity, Image, Inputs, InputsDigester,
    Layer, LayerSource, Memory, Placed, Platform, RECIPE_ANNOTATION, Reference, Timestamp, Tree, Unsealed,
};
use ocib_source::HubFiles;

use crate::{
    CONTENT_ANNOTATION, Error, Facts, File, FileKind, LayerInImage, TITLE_ANNOTATION, blocking, files,
    layer::{RawFile, TarFiles, below},
    layout::{self, Bundle},
    pull::{Frame, WHITEOUT},
};

/// How a model is packaged.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which files are taken.
    pub selection: HubFiles,
    /// The directory of the image that they are put in, without slashes around it; KServe wants `models`.
    pub prefix: String,
    /// What the images are for; all of them have the same layers. By default `linux/amd64` and `linux/arm64`:
    /// weights are for every machine, and nodes refuse to mount images of others.
    pub platforms: Vec<Platform>,
    /// The image below each of `platforms`, or none for all.
    pub bases: Vec<Image>,
    /// How layers are stored. `Auto`: weights as they are, other files by gzip.
    pub compression: Compression,
    /// Bytes that layers of several files grow up to; without it 4 GB, and each file of 1 MiB or more has its
    /// own as long as there are no more than 96.
    pub layer_bytes: Option<u64>,
    /// Labels of the images, besides those that the files give, and stronger.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the manifests, likewise.
    pub annotations: Annotations,
    /// Where the model comes from, as a URL.
    pub source: Option<String>,
    /// Which revision of it, such as a commit.
    pub revision: Option<String>,
    /// The time of files, config and history, in seconds since 1970.
    pub epoch: i64,
    /// Where layers of local files are remembered.
    pub cache: Option<PathBuf>,
    /// Make layers although it is known what they are, and say so if that was wrong.
    pub verify_reuse: bool,
    /// Layers that the source has of single files ([`crate::open_image`]): what would be the same is not made.
    pub source_layers: Vec<LayerInImage>,
    /// Make one layer after another: the source is read from front to back.
    pub is_sequential: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            selection: HubFiles::default(),
            prefix: "models".to_owned(),
            platforms: ["linux/amd64", "linux/arm64"].map(|text| text.parse().expect("a platform")).to_vec(),
            bases: Vec::new(),
            compression: Compression::Auto,
            layer_bytes: None,
            labels: BTreeMap::new(),
            annotations: Annotations::new(),
            source: None,
            revision: None,
            epoch: 0,
            cache: None,
            verify_reuse: false,
            source_layers: Vec::new(),
            is_sequential: false,
        }
    }
}

/// A model that is ready to be packaged, as often and into as many places as wanted.
#[derive(Debug)]
pub struct Model {
    pub(crate) tree: Arc<dyn Tree>,
    pub(crate) options: Options,
    pub(crate) files: Vec<File>,
    pub(crate) layers: Vec<ModelLayer>,
    /// What the files of each layer say.
    facts: Mutex<Vec<Option<Facts>>>,
    /// What layers turned out to be in the sinks so far, by their recipes, and the repositories that have them.
    made: Mutex<HashMap<String, (Placed, Vec<Reference>)>>,
    /// Said once, however many sinks there are.
    pub(crate) warned: Once,
}

/// One layer of a model.
#[derive(Debug)]
pub struct ModelLayer {
    /// What it is called in progress and history.
    pub title: String,
    /// What its files are for.
    pub kind: FileKind,
    /// Its files, by their places in [`Model::files`].
    pub files: Vec<usize>,
    /// The same for the same layer of this model, whatever its content.
    pub(crate) key: String,
    pub(crate) unsealed: Unsealed,
    /// What tells its bytes before they are made, where anything does.
    pub(crate) content: Option<Digest>,
    /// What the digest cache knows it by.
    pub(crate) inputs: Option<Inputs>,
}

impl Model {
    /// Lists the files of `tree` and divides them into layers; reads none of them.
    ///
    /// Dropping the future ends it; a listing that is under way ends by itself.
    pub async fn open(tree: Arc<dyn Tree>, options: Options) -> Result<Self, Error> {
        check_prefix(&options.prefix)?;
        blocking(move || Self::list(tree, options)).await
    }

    fn list(tree: Arc<dyn Tree>, options: Options) -> Result<Self, Error> {
        let files = files::list(&*tree, &options.selection)?;
        let bundles = layout::divide(&files, options.layer_bytes);
        let layer = |bundle| ModelLayer::new(&tree, &files, bundle, &options);
        let layers: Vec<ModelLayer> = bundles.into_iter().map(layer).collect::<Result<_, _>>()?;
        let facts = Mutex::new(vec![None; layers.len()]);
        Ok(Self { tree, options, files, layers, facts, made: Mutex::default(), warned: Once::new() })
    }

    /// Its files, sorted by path.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Its layers, in the order of the image.
    pub fn layers(&self) -> &[ModelLayer] {
        &self.layers
    }

    /// [`Facts::format`], which names alone tell.
    pub(crate) fn format(&self) -> Option<String> {
        let of_layer = |layer: &ModelLayer| {
            layer.files.iter().fold(None, |format, number| self.files[*number].format(format))
        };
        self.layers.iter().rev().find_map(of_layer)
    }

    /// What the files say of the model. Their headers are read the first time.
    pub async fn facts(&self) -> Result<Facts, Error> {
        Ok(Facts::of_parts(&self.facts_by_layer().await?))
    }

    /// The same for each layer.
    pub(crate) async fn facts_by_layer(&self) -> Result<Vec<Facts>, Error> {
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (facts, layer) in known.iter_mut().zip(&self.layers) {
            if facts.is_none() {
                let files: Vec<File> = layer.files.iter().map(|number| self.files[*number].clone()).collect();
                let tree = Arc::clone(&self.tree);
                let read = move || Facts::read(&*tree, &files.iter().collect::<Vec<_>>());
                *facts = Some(blocking(read).await?);
            }
        }
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&known);
        Ok(known.into_iter().flatten().collect())
    }

    /// Takes what is known of a layer's files, unless they were read.
    pub(crate) fn learn_facts(&self, layer: usize, facts: Facts) {
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        known[layer].get_or_insert(facts);
    }

    /// What an earlier sink made of the layer of that key.
    pub(crate) fn made(&self, key: &str) -> Option<(Placed, Vec<Reference>)> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keeps what became of a layer, for other sinks.
    pub(crate) fn note(&self, key: &str, placed: &Placed, repository: Option<&Reference>) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, repositories) = made.entry(key.to_owned()).or_insert_with(|| (placed.clone(), Vec::new()));
        repositories.extend(repository.cloned());
    }

    /// The file as a layer of its own, byte for byte.
    pub(crate) fn raw(&self, number: usize) -> ModelLayer {
        let file = &self.files[number];
        let source = RawFile { tree: Arc::clone(&self.tree), path: file.content.clone(), bytes: file.bytes };
        let title = String::from_utf8_lossy(&file.path).into_owned();
        let compression = Compression::Fixed(Codec::Plain);
        let mut inputs = InputsDigester::new(compression);
        inputs.part(b'r', b"raw");
        let is_known = inputs.identity(file.identity.as_ref());
        let is_it = |known: &&LayerInImage| known.path == file.content && *known.frame == Frame::default();
        let blob = self.options.source_layers.iter().find(is_it);
        let foreknown = Foreknown {
            layer: file.digest.map(|digest| plain(digest, file.bytes)),
            repositories: blob.and_then(|blob| blob.repository.clone()).into_iter().collect(),
            ..Foreknown::default()
        };
        ModelLayer {
            key: format!("raw {title}"),
            unsealed: Unsealed {
                source: Arc::new(source),
                compression,
                annotations: Annotations::new(),
                foreknown,
            },
            title,
            kind: file.kind,
            files: vec![number],
            content: None,
            inputs: is_known.then(|| inputs.finish()),
        }
    }

    pub(crate) fn memory(&self) -> Option<Memory> {
        self.options.cache.as_deref().map(Memory::new)
    }
}

/// A plain layer of known digest.
pub(crate) fn plain(digest: Digest, bytes: u64) -> Layer {
    let descriptor = ocib_image::Descriptor::new(Codec::Plain.media_type(), digest, bytes);
    Layer { descriptor, diff_id: ocib_image::DiffId(digest) }
}

impl ModelLayer {
    fn new(tree: &Arc<dyn Tree>, files: &[File], bundle: Bundle, options: &Options) -> Result<Self, Error> {
        let own: Vec<&File> = bundle.files.iter().map(|number| &files[*number]).collect();
        let mtime = Timestamp::from_seconds(options.epoch);
        let source = TarFiles::new(Arc::clone(tree), &own, options.prefix.as_bytes(), mtime)?;
        let compression = match (options.compression, bundle.kind) {
            (Compression::Auto, FileKind::Weight) => Compression::Fixed(Codec::Plain),
            (Compression::Auto, _) => Compression::Fixed(Codec::GZIP),
            (fixed, _) => fixed,
        };
        let recipe = source.recipe(compression)?;
        let (content, inputs) = told_apart(&source, &own, compression)?;
        let mut annotations = Annotations::from([(RECIPE_ANNOTATION.to_owned(), recipe.to_string())]);
        annotations.extend(content.map(|content| (CONTENT_ANNOTATION.to_owned(), content.to_string())));
        let title = match &own[..] {
            [only] => {
                let path = below(options.prefix.as_bytes(), &only.path);
                annotations.insert(TITLE_ANNOTATION.to_owned(), String::from_utf8_lossy(&path).into_owned());
                String::from_utf8_lossy(&only.path).into_owned()
            }
            [first, .., last] => {
                let [first, last] = [first, last].map(|file| String::from_utf8_lossy(&file.path));
                format!("{} {} files, {first} to {last}", own.len(), bundle.kind.as_str())
            }
            [] => String::new(),
        };
        let same = same_in_source(&source, &own, compression, &options.source_layers)?;
        let foreknown = Foreknown {
            recipe: Some(recipe),
            layer: same.map(|same| same.layer.clone()),
            repositories: same.and_then(|same| same.repository.clone()).into_iter().collect(),
        };
        Ok(Self {
            title,
            kind: bundle.kind,
            files: bundle.files,
            key: recipe.to_string(),
            unsealed: Unsealed { source: Arc::new(source), compression, annotations, foreknown },
            content,
            inputs,
        })
    }
}

/// The layer of the source that has the same bytes: it holds the same file, and around it is what would be here.
fn same_in_source<'a>(
    source: &TarFiles,
    files: &[&File],
    compression: Compression,
    known: &'a [LayerInImage],
) -> Result<Option<&'a LayerInImage>, Error> {
    let ([file], Compression::Fixed(Codec::Plain)) = (files, compression) else { return Ok(None) };
    let Some(known) = known.iter().find(|known| known.path == file.content) else { return Ok(None) };
    let mut before = Vec::new();
    source.headers(|header, _| before.extend_from_slice(header))?;
    let Frame { before: theirs, after } = &*known.frame;
    let is_same = before == *theirs
        && after.iter().all(|byte| *byte == 0)
        && source.bytes() == Some(known.layer.descriptor.size);
    Ok(Some(known).filter(|_| is_same))
}

/// What tells a layer's bytes before they are made: everywhere, and to this machine's digest cache.
fn told_apart(
    source: &TarFiles,
    files: &[&File],
    compression: Compression,
) -> Result<(Option<Digest>, Option<Inputs>), Error> {
    let (mut content, mut inputs) = (Digester::new(), InputsDigester::new(compression));
    content.update(compression.to_string().as_bytes());
    let (mut is_everywhere, mut is_here) = (true, true);
    let mut identities = files.iter().map(|file| file.identity.as_ref());
    source.headers(|header, is_file| {
        content.update(header);
        inputs.header(header);
        if !is_file {
            return;
        }
        let identity = identities.next().flatten();
        is_here &= inputs.identity(identity);
        match identity {
            Some(Identity::Content(name)) => {
                content.update(&(name.len() as u64).to_le_bytes());
                content.update(name);
            }
            _ => is_everywhere = false,
        }
    })?;
    Ok((is_everywhere.then(|| content.finish()), is_here.then(|| inputs.finish())))
}

fn check_prefix(prefix: &str) -> Result<(), Error> {
    let bad = |why| Err(Error::BadPrefix { prefix: prefix.to_owned(), why });
    if prefix.is_empty() {
        return Ok(());
    }
    if prefix.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return bad("expected names with one slash between them");
    }
    if prefix.split('/').any(|name| name.starts_with(WHITEOUT)) {
        return bad("names that begin with .wh. mark what is removed");
    }
    match prefix.contains('\0') {
        true => bad("a name cannot hold a zero byte"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn prefixes_that_are_no_directory_are_told_as_that() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        for (prefix, expected) in [
            ("models", None),
            ("a/.wh.p", Some("names that begin with .wh. mark what is removed")),
            ("a//b", Some("expected names with one slash between them")),
            ("a\0", Some("a name cannot hold a zero byte")),
        ] {
            let tree = Arc::new(ocib_source::Directory::open(dir.path()).unwrap());
            let options = Options { prefix: prefix.to_owned(), ..Options::default() };
            let why = match Model::open(tree, options).await {
                Err(Error::BadPrefix { why, .. }) => Some(why),
                Err(error) => panic!("{error}"),
                Ok(_) => None,
            };
            assert_eq!(why, expected, "{prefix}");
        }
    }
}
