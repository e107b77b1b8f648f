//! Which file lies in which layer. The rules look at names first, so that a file that changes changes its
//! own layer and no other.

use std::collections::BTreeMap;

use crate::{File, FileKind};

/// Files of at least this size have a layer of their own: below it a request costs as much as the bytes.
pub(crate) const OWN_LAYER_BYTES: u64 = 1 << 20;
/// Layers of large files at most. overlayfs stops near 127, and bases have some of their own.
pub(crate) const LAYERS_MAX: usize = 96;
/// What a layer of several files grows up to if nothing else is asked for. Layers of 2 to 8 GB are pulled in
/// parallel and yet few; containerd gives up on a pull of 15 GB that stands still (containerd#12811).
const LAYER_BYTES: u64 = 4_000_000_000;

/// Files that share a layer, by their places in the list, in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bundle {
    pub(crate) kind: FileKind,
    pub(crate) files: Vec<usize>,
}

/// Divides `files`, which are sorted by path:
/// 1. A file of [`OWN_LAYER_BYTES`] or more has a layer of its own. If `layer_bytes` are given, or there would be
///    more layers than [`LAYERS_MAX`], neighbours of a kind share one: as many as would fit into `layer_bytes` if
///    all were as large as the largest, and where that is too few, so many that there are not more layers.
/// 2. The others share a layer for each kind, or as many as keep to `layer_bytes`, and a file's name says
///    which is its own.
///
/// Without `layer_bytes` they are [`LAYER_BYTES`].
pub(crate) fn divide(files: &[File], layer_bytes: Option<u64>) -> Vec<Bundle> {
    let mut large: BTreeMap<FileKind, Vec<usize>> = BTreeMap::new();
    let mut small: BTreeMap<FileKind, Vec<usize>> = BTreeMap::new();
    for (number, file) in files.iter().enumerate() {
        let side = if file.bytes >= OWN_LAYER_BYTES { &mut large } else { &mut small };
        side.entry(file.kind).or_default().push(number);
    }
    let count: usize = large.values().map(Vec::len).sum();
    let at_least = count.div_ceil(LAYERS_MAX).max(1);
    let is_shared = layer_bytes.is_some() || at_least > 1;
    let layer_bytes = layer_bytes.unwrap_or(LAYER_BYTES);
    let mut bundles = Vec::new();
    // What changes most often comes last: runtimes that apply layers one by one start with the weights.
    for (kind, numbers) in large {
        let largest = numbers.iter().map(|number| files[*number].bytes).max().unwrap_or(1);
        let fitting = usize::try_from(layer_bytes / rounded(largest)).unwrap_or(usize::MAX);
        let chunks = numbers.chunks(if is_shared { fitting.max(at_least) } else { 1 });
        bundles.extend(chunks.map(|chunk| Bundle { kind, files: chunk.to_vec() }));
    }
    for (kind, numbers) in small {
        let total = bytes_of(files, &numbers);
        let least = total.div_ceil(layer_bytes.max(OWN_LAYER_BYTES)).max(1);
        // Names do not divide evenly. Where layers would hold two or three files it is better left at that.
        let shares = (0..8).map(|eighth| least + least * eighth / 8);
        let fits = |own: &Vec<usize>| rounded(bytes_of(files, own)) <= layer_bytes.max(OWN_LAYER_BYTES);
        let divided = shares.map(|shares| by_name(files, &numbers, shares)).find(|own| own.iter().all(fits));
        let own = divided.unwrap_or_else(|| by_name(files, &numbers, 2 * least));
        bundles.extend(own.into_iter().map(|files| Bundle { kind, files }));
    }
    bundles
}

/// A few bytes more shall not divide all files anew.
fn rounded(bytes: u64) -> u64 {
    let step = (bytes.checked_ilog2().map_or(1, |log| 1 << log) / 8).max(1);
    bytes.div_ceil(step).saturating_mul(step)
}

/// `numbers` in so many parts, as their names say, without empty ones.
fn by_name(files: &[File], numbers: &[usize], shares: u64) -> Vec<Vec<usize>> {
    let mut parts: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for number in numbers {
        parts.entry(name_hash(&files[*number].path) % shares).or_default().push(*number);
    }
    parts.into_values().collect()
}

fn bytes_of(files: &[File], numbers: &[usize]) -> u64 {
    numbers.iter().fold(0, |all, number| files[*number].bytes.saturating_add(all))
}

/// FNV-1a, which will never change.
fn name_hash(name: &[u8]) -> u64 {
    name.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: &[(&str, u64)]) -> Vec<File> {
        let file = |(path, bytes): &(&str, u64)| File {
            path: path.as_bytes().into(),
            content: path.as_bytes().into(),
            bytes: *bytes,
            kind: FileKind::of(path.as_bytes()),
            digest: None,
            identity: None,
        };
        let mut files: Vec<File> = sizes.iter().map(file).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    fn shown(files: &[File], layer_bytes: Option<u64>) -> Vec<String> {
        let name = |number: &usize| String::from_utf8_lossy(&files[*number].path).into_owned();
        let bundles = divide(files, layer_bytes);
        bundles.iter().map(|bundle| bundle.files.iter().map(name).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn one_shard_a_layer_and_small_files_together() {
        let all = files(&[
            ("config.json", 700),
            ("tokenizer.json", 17 << 20),
            ("merges.txt", 1000),
            ("README.md", 10),
            ("m-1.safetensors", 4 << 30),
            ("m-2.safetensors", 4 << 30),
            ("m-3.safetensors", 1 << 30),
        ]);
        let expected = [
            "m-1.safetensors",
            "m-2.safetensors",
            "m-3.safetensors",
            "tokenizer.json",
            "config.json merges.txt",
            "README.md",
        ];
        assert_eq!(shown(&all, None), expected);
        let by_two = [
            "m-1.safetensors m-2.safetensors",
            "m-3.safetensors",
            "tokenizer.json",
            "config.json merges.txt",
            "README.md",
        ];
        assert_eq!(shown(&all, Some(8 << 30)), by_two);
        // Sizes that differ by a little divide them alike.
        let mut smaller = all;
        smaller.iter_mut().filter(|file| file.bytes == 4 << 30).for_each(|file| file.bytes -= 5000);
        assert_eq!(shown(&smaller, Some(8 << 30)), by_two);
    }

    #[test]
    fn no_layer_of_several_files_is_larger_than_asked() {
        let names: Vec<String> = (0..5000).map(|number| format!("data/{number}.parquet")).collect();
        let sizes: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 1_000_000)).collect();
        let all = files(&sizes);
        for (asked, most, layers) in [
            (None, 4_000_000_000, 2),
            (Some(1_000_000_000), 1_000_000_000, 6),
            (Some(100 << 30), 100 << 30, 1),
        ] {
            let bundles = divide(&all, asked);
            assert!(bundles.iter().all(|bundle| bytes_of(&all, &bundle.files) <= most), "{asked:?}");
            assert_eq!(bundles.len(), layers, "{asked:?}");
        }
    }

    #[test]
    fn very_many_files_of_middle_size_fill_layers() {
        let names: Vec<String> = (0..2000).map(|number| format!("{number:04}.distcp.bin")).collect();
        let sizes: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 90 << 20)).collect();
        let bundles = divide(&files(&sizes), None);
        assert_eq!(bundles.len(), 52);
        assert!(bundles.iter().all(|bundle| bundle.files.len() <= 39));
    }

    #[test]
    fn a_model_of_very_many_shards_stays_below_what_file_systems_stack() {
        let names: Vec<String> = (0..163).map(|number| format!("m-{number:05}-of-163.safetensors")).collect();
        let sizes: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 4 << 30)).collect();
        let bundles = divide(&files(&sizes), None);
        assert_eq!(bundles.len(), 82);
        assert!(bundles.iter().all(|bundle| bundle.files.len() <= 2));
    }

    #[test]
    fn a_file_that_changes_changes_one_layer() {
        let names: Vec<String> = (0..400).map(|number| format!("data/{number}.json")).collect();
        let sizes: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 100_000)).collect();
        let before = shown(&files(&sizes), Some(4 << 20));
        let mut changed = sizes;
        changed[7].1 += 5000;
        assert_eq!(shown(&files(&changed), Some(4 << 20)), before);
        assert_eq!(before.len(), 12);
    }
}
