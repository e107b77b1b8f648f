//! Files that are one model only together, as their names say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Files that are missing of a set such as `model-00001-of-00003.safetensors`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingShards {
    /// The name of all of them, with a star for the number.
    pub set: String,
    /// How many there should be.
    pub total: u32,
    /// How many are missing.
    pub missing: u32,
    /// The name of the first one.
    pub first: String,
}

impl fmt::Display for MissingShards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, total, missing, first } = self;
        write!(f, "{set}: {missing} of {total} files are missing, first {first}")
    }
}

/// What is missing of the sets that `paths` are of. Names that are no UTF-8 are of none.
///
/// ```
/// let missing = ocib_model::missing_shards([&b"a-00001-of-00002.gguf"[..], b"config.json"].into_iter());
/// assert_eq!(missing[0].to_string(), "a-*-of-00002.gguf: 1 of 2 files are missing, first a-00002-of-00002.gguf");
/// ```
pub fn missing_shards<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Vec<MissingShards> {
    let mut sets: BTreeMap<Set<'a>, BTreeSet<u32>> = BTreeMap::new();
    for (set, number) in paths.filter_map(|path| Set::of(std::str::from_utf8(path).ok()?)) {
        sets.entry(set).or_default().insert(number);
    }
    sets.iter().filter_map(|(set, numbers)| set.missing(numbers)).collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Set<'a> {
    before: &'a str,
    /// Digits of the number.
    width: usize,
    total: &'a str,
    after: &'a str,
}

impl<'a> Set<'a> {
    /// The set that a file is of, and its number there.
    fn of(path: &'a str) -> Option<(Self, u32)> {
        let (left, right) = path.rsplit_once("-of-")?;
        let before = left.trim_end_matches(|c: char| c.is_ascii_digit());
        let after = right.trim_start_matches(|c: char| c.is_ascii_digit());
        let (number, total) = (&left[before.len()..], &right[..right.len() - after.len()]);
        // `llama-gguf-split`, `save_pretrained` and TensorFlow have five digits; some models have more files.
        let is_set = number.len() >= 5 && total.len() >= 5 && before.ends_with('-') && !after.contains('/');
        let number = number.parse().ok().filter(|_| is_set)?;
        Some((Self { before, width: left.len() - before.len(), total, after }, number))
    }

    fn missing(&self, there: &BTreeSet<u32>) -> Option<MissingShards> {
        let total: u32 = self.total.parse().ok()?;
        // TensorFlow counts from zero, others from one.
        let start = u32::from(!there.contains(&0));
        let end = start.checked_add(total)?;
        let missing = total.saturating_sub(u32::try_from(there.range(start..end).count()).ok()?);
        let first = (start..end).find(|number| !there.contains(number))?;
        let Self { before, width, total: text, after } = self;
        Some(MissingShards {
            set: format!("{before}*-of-{text}{after}"),
            total,
            missing,
            first: format!("{before}{first:0width$}-of-{text}{after}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_whole_or_something_is_missing() {
        for (paths, expected) in [
            (&["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "b.gguf"][..], &[][..]),
            (&["variables.data-00000-of-00002", "variables.data-00001-of-00002"], &[]),
            (&["part-1-of-3.txt", "a-00001-of-00002/x", "00001-of-00002.bin", "a-00001-of-00000.bin"], &[]),
            (
                &["m/a-00002-of-00002.gguf", "a-00001-of-00002.gguf"],
                &[
                    "a-*-of-00002.gguf: 1 of 2 files are missing, first a-00002-of-00002.gguf",
                    "m/a-*-of-00002.gguf: 1 of 2 files are missing, first m/a-00001-of-00002.gguf",
                ],
            ),
            (
                &["d-00001-of-000163.bin", "d-00003-of-000163.bin"],
                &["d-*-of-000163.bin: 161 of 163 files are missing, first d-00002-of-000163.bin"],
            ),
            (&["x-00001-of-4294967295.bin"], &[]),
        ] {
            let missing = missing_shards(paths.iter().map(|path| path.as_bytes()));
            assert_eq!(missing.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{paths:?}");
        }
    }
}
