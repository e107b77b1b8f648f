//! Which files are taken: patterns as the Hub's own programs have them.

/// Whether `path` matches `pattern`: `*` is any characters, slashes too, `?` is any one, and a pattern
/// that ends in a slash is all below that directory (Python's `fnmatch`, as in `hf download --include`).
pub(crate) fn matches(pattern: &str, path: &[u8]) -> bool {
    let whole = match pattern.strip_suffix('/') {
        Some(_) => format!("{pattern}*"),
        None => pattern.to_owned(),
    };
    matches_bytes(whole.as_bytes(), path)
}

fn matches_bytes(pattern: &[u8], path: &[u8]) -> bool {
    let (mut at, mut name) = (0, 0);
    // Where to go on if what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while name < path.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, name));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == path[name] => {
                at += 1;
                name += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                (at, name) = (after, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_pass_slashes() {
        for (pattern, path, expected) in [
            ("*.safetensors", "a/b.safetensors", true),
            ("*.safetensors", "b.safetensors.bak", false),
            ("original/", "original/x/y", true),
            ("original/", "originals", false),
            ("model-0000?-of-*", "model-00001-of-00008.safetensors", true),
            ("a*b*c", "a/b/b/c", true),
            ("a*b*c", "acb", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, path.as_bytes()), expected, "{pattern} {path}");
        }
    }
}
