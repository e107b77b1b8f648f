//! What a layer's inputs were sealed to the last time: the digest cache.

use std::time::SystemTime;

use crate::{
    Compression, Descriptor, DiffId, Digest, Digester, Identity, Layer, Memory, RECIPE_ANNOTATION, Timestamp,
};

/// What the memory calls it; changes whenever the same inputs come to give other bytes.
const KIND: &str = "layer-1";
/// Clocks of file systems tick at least this often: a file that was changed later than that before
/// its state was read may change again without its state showing it.
const TICK_SECONDS: i64 = 2;

/// All that a layer is made of, each file by what says that it is the same without its being read.
#[derive(Clone, Debug)]
pub struct Inputs {
    key: Digest,
    /// Whether no file was changed so lately that its state says nothing.
    is_settled: bool,
}

impl Inputs {
    /// What they were sealed to. Of its annotations the recipe alone is remembered.
    pub fn recall(&self, memory: &Memory) -> Option<Layer> {
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
    pub fn remember(&self, memory: &Memory, layer: &Layer) {
        if !self.is_settled {
            return;
        }
        let Descriptor { media_type, digest, size, annotations, .. } = &layer.descriptor;
        let recipe = annotations.get(RECIPE_ANNOTATION).map_or("", String::as_str);
        let text = format!("{media_type}\n{digest}\n{size}\n{}\n{recipe}", layer.diff_id.0);
        memory.store(self.key, KIND, text.into_bytes());
    }
}

/// Inputs that are being put together, in the order in which the layer has them.
#[derive(Debug)]
pub struct InputsDigester {
    digester: Digester,
    settled_before: i64,
    is_settled: bool,
}

impl InputsDigester {
    /// For a layer that is stored as `compression` says.
    pub fn new(compression: Compression) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut inputs = Self {
            digester: Digester::new(),
            settled_before: i64::try_from(now.as_secs()).unwrap_or(i64::MAX) - TICK_SECONDS,
            is_settled: true,
        };
        inputs.part(b'v', env!("CARGO_PKG_VERSION").as_bytes());
        inputs.part(b'z', compression.to_string().as_bytes());
        inputs
    }

    /// Adds the header of an entry, as it stands in the tar.
    pub fn header(&mut self, bytes: &[u8]) {
        self.digester.update(bytes);
    }

    /// Adds what tells a file's content; false if nothing does, and then the layer cannot be known.
    pub fn identity(&mut self, identity: Option<&Identity>) -> bool {
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

    /// Adds anything else. Parts have a type and a length, so that no two rows of them read the same.
    pub fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.digester.update(&[kind]);
        self.digester.update(&(bytes.len() as u64).to_le_bytes());
        self.digester.update(bytes);
    }

    /// All of them.
    pub fn finish(self) -> Inputs {
        Inputs { key: self.digester.finish(), is_settled: self.is_settled }
    }
}
