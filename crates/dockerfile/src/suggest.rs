//! "Did you mean …?": the nearest known name, by edit distance.

/// Names further away than this many edits are not offered (BuildKit's limit, `util/suggest`).
const FARTHEST: usize = 2;

/// The one of `known` that takes the fewest edits to get from `found`, letter case ignored; the
/// first of equals. `None` if none is near, or if `found` would be replaced altogether.
pub(crate) fn nearest<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    let found = found.to_lowercase();
    let limit = FARTHEST.min(found.chars().count().saturating_sub(1));
    known
        .iter()
        .map(|&name| (edit_distance(&found, &name.to_lowercase()), name))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// The Levenshtein distance: how many characters have to be inserted, removed or replaced to make
/// `b` of `a`. For suggestions of names that only the caller knows, such as those of stages.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        let known = ["FROM", "COPY", "CMD", "RUN", "ENTRYPOINT"];
        for (found, expected) in [
            ("COPPY", Some("COPY")),
            ("form", Some("FROM")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("EXPOSURE", None),
            ("R", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, &known), expected, "{found}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("é", "e", 1), ("ab", "ba", 2)]
        {
            assert_eq!(edit_distance(a, b), expected, "{a} {b}");
        }
    }
}
