//! What a layer's inputs were sealed to the last time: the digest cache.

use std::time::SystemTime;

use ocib_image::{
    Compression, Descriptor, DiffId, Digest, Digester, Identity, Layer, LayerError, RECIPE_ANNOTATION,
    Timestamp,
};

use super::{content::Content, memory::Memory, unpack::Archive};

/// What the memory calls it; changes whenever the same inputs come to give other bytes.
const KIND: &str = "layer-1";
/// Clocks of file systems tick at least this often: a file that was changed later than that before
/// its state was read may change again without its state showing it.
const TICK_SECONDS: i64 = 2;

/// All that a layer is made of, each file by what says that it is the same without its being read.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    key: Digest,
    /// Whether no file was changed so lately that its state says nothing.
    is_settled: bool,
}

impl Inputs {
    /// What they were sealed to.
    pub(crate) fn recall(&self, memory: &Memory) -> Option<Layer> {
        let bytes = memory.load(self.key, KIND)?;
        let text = String::from_utf8(bytes).ok()?;
        let mut words = text.split('\n');
        let (media_type, digest) = (words.next()?.into(), words.next()?.parse().ok()?);
        let (size, diff_id) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut descriptor = Descriptor::new(media_type, digest, size);
        if let Some(recipe) = words.next().filter(|recipe| !recipe.is_empty()) {
            descriptor.annotations.insert(RECIPE_ANNOTATION.to_owned(), recipe.to_owned());
        }
        Some(Layer { descriptor, diff_id: DiffId(diff_id) })
    }

    /// Remembers what they were sealed to.
    pub(crate) fn remember(&self, memory: &Memory, layer: &Layer) {
        if !self.is_settled {
            return;
        }
        let Descriptor { media_type, digest, size, annotations, .. } = &layer.descriptor;
        let recipe = annotations.get(RECIPE_ANNOTATION).map_or("", String::as_str);
        let text = format!("{media_type}\n{digest}\n{size}\n{}\n{recipe}", layer.diff_id.0);
        memory.store(self.key, KIND, text.into_bytes());
    }
}

/// The inputs of a layer, told one entry after another in the layer's order.
pub(super) struct Telling<'a> {
    digester: Digester,
    settled_before: i64,
    is_settled: bool,
    /// Whether every file so far has something that says that it is the same.
    is_known: bool,
    /// The archive that was asked about last, and its identity.
    archive: Option<(&'a Archive, Option<Identity>)>,
}

impl<'a> Telling<'a> {
    /// Nothing of a layer that is stored as `compression` says.
    pub(super) fn new(compression: Compression) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut telling = Self {
            digester: Digester::new(),
            settled_before: i64::try_from(now.as_secs()).unwrap_or(i64::MAX) - TICK_SECONDS,
            is_settled: true,
            is_known: true,
            archive: None,
        };
        telling.part(b'v', env!("CARGO_PKG_VERSION").as_bytes());
        telling.part(b'z', compression.to_string().as_bytes());
        telling
    }

    /// Adds the entry `name`, whose encoded header is given.
    pub(super) fn entry(
        &mut self,
        header: &[u8],
        name: &[u8],
        content: &'a Content,
    ) -> Result<(), LayerError> {
        // Once a file is not known the rest makes no difference.
        if self.is_known {
            self.digester.update(header);
            self.is_known = self.content(name, content)?;
        }
        Ok(())
    }

    /// The inputs; `None` if any file has nothing that says that it is the same.
    pub(super) fn finish(self) -> Option<Inputs> {
        let Self { digester, is_settled, is_known, .. } = self;
        is_known.then(|| Inputs { key: digester.finish(), is_settled })
    }

    /// Adds what says which bytes follow the header of `name`; false if nothing does.
    fn content(&mut self, name: &[u8], content: &'a Content) -> Result<bool, LayerError> {
        match content {
            Content::Nothing => {}
            Content::Inline(bytes) => self.part(b'i', Digest::of(bytes).to_string().as_bytes()),
            Content::Packed { layer, offset } => {
                self.part(b'p', format!("{} {offset}", layer.diff_id.0).as_bytes());
            }
            Content::Tree(origin) => {
                let identity = origin.tree.identity(&origin.path(name))?;
                return Ok(self.identity(identity.as_ref()));
            }
            Content::Archived { archive, number } => {
                let identity = match &self.archive {
                    Some((known, identity)) if std::ptr::eq(*known, &**archive) => identity.clone(),
                    _ => archive.identity()?,
                };
                self.part(b'a', number.to_string().as_bytes());
                let is_known = self.identity(identity.as_ref());
                self.archive = Some((archive, identity));
                return Ok(is_known);
            }
        }
        Ok(true)
    }

    fn identity(&mut self, identity: Option<&Identity>) -> bool {
        match identity {
            None => return false,
            Some(Identity::Content(name)) => self.part(b'c', name),
            Some(Identity::State { device, inode, size, modified, changed }) => {
                self.is_settled &= modified.seconds.max(changed.seconds) < self.settled_before;
                let [modified, changed] = [modified, changed]
                    .map(|Timestamp { seconds, nanoseconds }| format!("{seconds}.{nanoseconds}"));
                self.part(b's', format!("{device} {inode} {size} {modified} {changed}").as_bytes());
            }
        }
        true
    }

    /// Parts have a type and a length, so that no two rows of them read the same.
    fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.digester.update(&[kind]);
        self.digester.update(&(bytes.len() as u64).to_le_bytes());
        self.digester.update(bytes);
    }
}
