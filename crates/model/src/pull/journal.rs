//! What is remembered of a pull: while it goes on, so that the next one can, and after it, so that the next
//! one has nothing to do.
//!
//! ```text
//! DIR/.ocib-pull.json       what the last complete pull put here
//! DIR/.ocib-pull/           a pull that is not complete
//!   HEX.NUMBER              content of a file: an entry of the layer of that digest
//!   HEX.partial             what the layer holds, then how far each part of it came, a line each
//!   HEX.json                a layer that was verified, with the states of its files
//!   boot                    since when states can be believed: a crash of the machine may lose content
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{Read, Write},
    sync::{Mutex, PoisonError},
};

use ocib_image::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    PullError, Scope,
    entry::{self, Entry, Kind},
    place::{Place, State},
    stream,
    survey::{Layout, Segment},
    tree::Content,
};

/// The directory of a pull that is not complete.
pub(super) const JOURNAL: &str = ".ocib-pull";
/// Where the last complete pull is written down.
const RECORD: &str = ".ocib-pull.json";
/// What is on its way to its place.
pub(super) const TEMPORARY: &str = ".ocib-pull/temporary";
const BOOT: &str = ".ocib-pull/boot";
/// Larger ones are not read: nobody wrote them but by accident.
const BYTES_MAX: u64 = 256 << 20;

/// A layer that was read to its end and has the digest that it should have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KnownLayer {
    pub(super) layer: Digest,
    /// Of the [`Scope`] that it was read with.
    prefix: String,
    takes_all: bool,
    pub(super) entries: Vec<Entry>,
    pub(super) tops: Vec<String>,
    /// What the digest can be computed from again, with the files. Without it each file has a digest.
    pub(super) segments: Option<Vec<Segment>>,
    /// Contents that wait to be put into place.
    #[serde(default)]
    pub(super) staged: BTreeMap<usize, State>,
}

impl KnownLayer {
    pub(super) fn new(scope: &Scope, layout: Layout, staged: BTreeMap<usize, State>) -> Self {
        let Layout { entries, tops, segments } = layout;
        let Scope { layer, prefix, takes_all } = scope.clone();
        let segments = (!segments.is_empty()).then_some(segments);
        Self { layer, prefix, takes_all, entries, tops, segments, staged }
    }

    /// The same once its files are in their places. If not all of them are anywhere, as an upper layer hides some, the
    /// layer's digest cannot be computed from the others, and they get digests of their own.
    pub(super) fn installed(
        &self,
        place: &Place,
        contents: &BTreeMap<Content, &String>,
    ) -> Result<Self, PullError> {
        let mut installed = Self { staged: BTreeMap::new(), ..self.clone() };
        let path = |entry| contents.get(&Content { layer: self.layer, entry });
        let mut files = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_file());
        if self.segments.is_none() || files.all(|(number, _)| path(number).is_some()) {
            return Ok(installed);
        }
        installed.segments = None;
        for (number, entry) in installed.entries.iter_mut().enumerate() {
            if let (Kind::File { bytes, digest: digest @ None }, Some(path)) = (&mut entry.kind, path(number))
            {
                let read = stream::file_digest(&place.read(path)?, *bytes);
                *digest = Some(read.map_err(|error| place.failed("read", path, error))?);
            }
        }
        Ok(installed)
    }

    /// Whether it was read for the same paths.
    pub(super) fn is_of(&self, scope: &Scope) -> bool {
        (self.layer, &self.prefix, self.takes_all) == (scope.layer, &scope.prefix, scope.takes_all)
    }
}

/// What a complete pull left.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// The pinned name of the image, for people.
    pub(super) image: String,
    pub(super) layers: Vec<KnownLayer>,
    pub(super) files: BTreeMap<String, Placed>,
    /// With their targets.
    pub(super) links: BTreeMap<String, String>,
    pub(super) directories: BTreeSet<String>,
    /// What earlier pulls put here and the image has no more.
    pub(super) stale: Stale,
}

/// Files, links and directories that are not wanted any more, as they were left.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Stale {
    pub(super) files: BTreeMap<String, State>,
    pub(super) links: BTreeMap<String, String>,
    pub(super) directories: BTreeSet<String>,
}

/// A file in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Placed {
    pub(super) layer: Digest,
    pub(super) entry: usize,
    pub(super) state: State,
}

impl Record {
    const VERSION: u32 = 2;

    pub(super) fn new(image: &str) -> Self {
        Self { version: Self::VERSION, image: image.to_owned(), ..Self::default() }
    }

    /// What is written down in `place`. What cannot be understood counts as nothing, as does a path that
    /// no pull would have written.
    pub(super) fn read(place: &Place) -> Option<Self> {
        let record: Self = read(place, RECORD)?;
        let is_sound = record.version == Self::VERSION && record.paths().all(|path| is_clean(path));
        is_sound.then_some(record)
    }

    /// All paths that pulls put here.
    fn paths(&self) -> impl Iterator<Item = &String> {
        let Stale { files, links, directories } = &self.stale;
        let stale = files.keys().chain(links.keys()).chain(directories);
        self.files.keys().chain(self.links.keys()).chain(&self.directories).chain(stale)
    }

    /// A path of each content.
    pub(super) fn contents(&self) -> BTreeMap<Content, &String> {
        let content = |placed: &Placed| Content { layer: placed.layer, entry: placed.entry };
        self.files.iter().map(|(path, placed)| (content(placed), path)).collect()
    }

    /// What all pulls so far put here and `is_stale`.
    pub(super) fn stale(&self, is_stale: impl Fn(&String) -> bool) -> Stale {
        let Stale { mut files, mut links, mut directories } = self.stale.clone();
        files.extend(self.files.iter().map(|(path, placed)| (path.clone(), placed.state)));
        links.extend(self.links.clone());
        directories.extend(self.directories.clone());
        files.retain(|path, _| is_stale(path));
        links.retain(|path, _| is_stale(path));
        directories.retain(&is_stale);
        Stale { files, links, directories }
    }

    /// Writes it down in one step.
    pub(super) fn write(&self, place: &Place) -> Result<(), PullError> {
        write(place, RECORD, self)
    }
}

fn is_clean(path: &str) -> bool {
    entry::clean(path.as_bytes()).is_ok_and(|clean| clean == path) && !path.starts_with(entry::RESERVED)
}

/// Where the content of an entry waits until its layer is verified and all others are.
pub(super) fn staged(layer: Digest, entry: usize) -> String {
    format!("{JOURNAL}/{}.{entry}", layer.hex())
}

/// Opens the journal; layers in it that were verified. Unless it is certain that the machine did not start since, the
/// states of their files are forgotten: a crash may keep what is known of a file, and lose what is in it.
pub(super) fn open(place: &Place) -> Result<HashMap<Digest, KnownLayer>, PullError> {
    place.directory(JOURNAL, Some(0o700))?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let is_same_boot = boot.is_some() && read(place, BOOT) == boot;
    let mut layers = HashMap::new();
    for name in place.names(JOURNAL)?.iter().filter(|name| name.ends_with(".json")) {
        let name = format!("{JOURNAL}/{name}");
        let Some(mut layer) = read::<KnownLayer>(place, &name) else { continue };
        if !is_same_boot {
            layer.staged.clear();
            write(place, &name, &layer)?;
        }
        layers.insert(layer.layer, layer);
    }
    // Last: a pull that ends before must not let the next one believe what is left.
    write(place, BOOT, &boot.unwrap_or_default())?;
    Ok(layers)
}

/// Writes down that a layer was verified.
pub(super) fn keep(place: &Place, layer: &KnownLayer) -> Result<(), PullError> {
    write(place, &format!("{JOURNAL}/{}.json", layer.layer.hex()), layer)?;
    place.remove(&partial_name(layer.layer))
}

/// Forgets all of the journal that is about none of `layers`.
pub(super) fn tidy(place: &Place, layers: &BTreeSet<Digest>) -> Result<(), PullError> {
    for name in place.names(JOURNAL)? {
        let hex = name.split('.').next().unwrap_or_default();
        if name != "boot" && !layers.iter().any(|layer| layer.hex() == hex) {
            place.remove(&format!("{JOURNAL}/{name}"))?;
        }
    }
    Ok(())
}

/// Removes the journal.
pub(super) fn close(place: &Place) -> Result<(), PullError> {
    tidy(place, &BTreeSet::new())?;
    place.remove(BOOT)?;
    place.remove_empty(JOURNAL);
    Ok(())
}

fn partial_name(layer: Digest) -> String {
    format!("{JOURNAL}/{}.partial", layer.hex())
}

/// A layer that arrives in parts.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) layout: Layout,
    pub(super) part_bytes: u64,
    /// How far each part is.
    pub(super) done: Vec<u64>,
    lines: Mutex<File>,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Start {
    layer: Digest,
    prefix: String,
    #[serde(default)]
    takes_all: bool,
    part_bytes: u64,
    layout: Layout,
}

impl Partial {
    /// What an interrupted pull left of the layer.
    pub(super) fn resume(place: &Place, scope: &Scope, bytes: u64) -> Option<Self> {
        let name = partial_name(scope.layer);
        let mut text = String::new();
        place.read(&name).ok()?.take(BYTES_MAX).read_to_string(&mut text).ok()?;
        // A line that was cut short does not count, nor does what comes behind it.
        let mut lines = text.split_inclusive('\n').map_while(|line| line.strip_suffix('\n'));
        let start: Start = serde_json::from_str(lines.next()?).ok()?;
        let is_of =
            (start.layer, &start.prefix, start.takes_all) == (scope.layer, &scope.prefix, scope.takes_all);
        if !is_of || start.part_bytes == 0 {
            return None;
        }
        let parts = usize::try_from(bytes.div_ceil(start.part_bytes)).ok()?;
        let mut done = vec![0; parts];
        for line in lines {
            let (part, bytes) = line.split_once(' ')?;
            let bytes = Some(bytes.parse().ok()?).filter(|bytes| *bytes <= start.part_bytes);
            *done.get_mut(part.parse::<usize>().ok()?)? = bytes?;
        }
        let file = place.write(&name).ok()?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).ok()?;
        let mut file = file;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).ok()?;
        Some(Self { layout: start.layout, part_bytes: start.part_bytes, done, lines: Mutex::new(file), name })
    }

    /// Begins with nothing.
    pub(super) fn begin(
        place: &Place,
        scope: &Scope,
        layout: Layout,
        sizes: (u64, u64),
    ) -> Result<Self, PullError> {
        let (bytes, part_bytes) = sizes;
        let name = partial_name(scope.layer);
        let Scope { layer, prefix, takes_all } = scope.clone();
        let start = Start { layer, prefix, takes_all, part_bytes, layout };
        write(place, &name, &start)?;
        let mut file = place.write(&name)?;
        let end = std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0));
        let ended = end.and_then(|_| file.write_all(b"\n"));
        ended.map_err(|error| place.failed("write", &name, error))?;
        let parts = usize::try_from(bytes.div_ceil(part_bytes)).unwrap_or(usize::MAX);
        Ok(Self { layout: start.layout, part_bytes, done: vec![0; parts], lines: Mutex::new(file), name })
    }

    /// Writes down that a part has come so far. Its bytes are in their file by then.
    pub(super) fn reached(&self, place: &Place, part: usize, bytes: u64) -> Result<(), PullError> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let written = lines.write_all(format!("{part} {bytes}\n").as_bytes());
        written.map_err(|error| place.failed("write", &self.name, error))
    }

    /// Forgets a layer that turned out to be wrong.
    pub(super) fn discard(place: &Place, layer: Digest, entries: usize) -> Result<(), PullError> {
        place.remove(&partial_name(layer))?;
        (0..entries).try_for_each(|entry| place.remove(&staged(layer, entry)))
    }
}

fn read<T: DeserializeOwned>(place: &Place, name: &str) -> Option<T> {
    let file = place.read(name).ok()?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn write<T: Serialize>(place: &Place, name: &str, value: &T) -> Result<(), PullError> {
    let bytes = serde_json::to_vec(value).expect("records have no keys but strings");
    let temporary = format!("{TEMPORARY}-{}", name.replace('/', "-"));
    place.remove(&temporary)?;
    let mut file = place.write(&temporary)?;
    file.write_all(&bytes).map_err(|error| place.failed("write", name, error))?;
    place.rename(&temporary, name)
}
