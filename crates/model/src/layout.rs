//! Which file lies in which layer. The rules look at names first, so that a file that changes changes its
//! own layer and no other.

use std::collections::BTreeMap;

use crate::{File, FileKind};

/// Files of at least this size have a layer of their own: below it a request costs as much as the bytes.
pub(crate) const OWN_LAYER_BYTES: u64 = 1 << 20;
/// Layers of large files at most. overlayfs stops near 127, and bases have some of their own.
pub(crate) const LAYERS_MAX: usize = 96;

/// Files that share a layer, by their places in the list, in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bundle {
    pub(crate) kind: FileKind,
    pub(crate) files: Vec<usize>,
}

/// Divides `files`, which are sorted by path:
/// 1. A file of [`OWN_LAYER_BYTES`] or more has a layer of its own. With `layer_bytes`, as many
///    neighbours of a kind share one as would fit if all were as large as the largest; and where there
///    would be more layers than [`LAYERS_MAX`], so many that there are not.
/// 2. The others share one layer for each kind; with `layer_bytes` as many as are needed, and a file's name
///    says which is its own.
pub(crate) fn divide(files: &[File], layer_bytes: Option<u64>) -> Vec<Bundle> {
    let mut large: BTreeMap<FileKind, Vec<usize>> = BTreeMap::new();
    let mut small: BTreeMap<FileKind, Vec<usize>> = BTreeMap::new();
    for (number, file) in files.iter().enumerate() {
        let side = if file.bytes >= OWN_LAYER_BYTES { &mut large } else { &mut small };
        side.entry(file.kind).or_default().push(number);
    }
    let count: usize = large.values().map(Vec::len).sum();
    let at_least = count.div_ceil(LAYERS_MAX).max(1);
    let mut bundles = Vec::new();
    // What changes most often comes last: runtimes that apply layers one by one start with the weights.
    for (kind, numbers) in large {
        let largest = numbers.iter().map(|number| files[*number].bytes).max().unwrap_or(1);
        let fitting = layer_bytes.map_or(1, |bytes| usize::try_from(bytes / largest).unwrap_or(1));
        let chunks = numbers.chunks(fitting.max(at_least));
        bundles.extend(chunks.map(|chunk| Bundle { kind, files: chunk.to_vec() }));
    }
    for (kind, numbers) in small {
        let total: u64 = numbers.iter().map(|number| files[*number].bytes).sum();
        let shares = layer_bytes.map_or(1, |bytes| total.div_ceil(bytes.max(OWN_LAYER_BYTES)).max(1));
        for share in 0..shares {
            let is_own = |number: &&usize| name_hash(&files[**number].path) % shares == share;
            let own: Vec<usize> = numbers.iter().filter(is_own).copied().collect();
            if !own.is_empty() {
                bundles.push(Bundle { kind, files: own });
            }
        }
    }
    bundles
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
        assert_eq!(before.len(), 10);
    }
}
