//! Which files of a repository are wanted: the patterns of the Hub's client.

/// Which files are wanted: those that any of `include` matches, all where there is none, but not those
/// that any of `exclude` does. Patterns are Python's `fnmatch`, as in the Hub's own client
/// (`filter_repo_objects`): `*` also crosses `/`, `?` is one character, `[a-z]` and `[!a-z]` one of some;
/// a pattern that ends with `/` means all below. They see the whole path within the repository.
///
/// ```
/// use ocib_source::HubFiles;
/// let files = HubFiles { include: vec!["*.safetensors".into()], exclude: vec!["old/".into()] };
/// assert!(files.has("sub/model.safetensors") && !files.has("old/model.safetensors"));
/// ```
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HubFiles {
    /// What is wanted.
    pub include: Vec<String>,
    /// What is not.
    pub exclude: Vec<String>,
}

impl HubFiles {
    /// Whether the file at `path` is wanted.
    pub fn has(&self, path: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, path));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }

    /// Whether no file below the directory at `path` is wanted, whatever it is called: a pattern that ends with a star
    /// and matches the beginning of all their paths excludes them.
    pub fn leaves_out_all_below(&self, path: &str) -> bool {
        let beginning = format!("{path}/");
        let ends_open = |pattern: &&String| pattern.ends_with(['*', '/']);
        self.exclude.iter().filter(ends_open).any(|pattern| matches(pattern, &beginning))
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut pattern: Vec<char> = pattern.chars().collect();
    if pattern.last() == Some(&'/') {
        pattern.push('*');
    }
    let path: Vec<char> = path.chars().collect();
    let (mut at, mut here) = (0, 0);
    // Where to go on if what follows the last star does not match: the star may stand for one more.
    let mut star = None;
    while here < path.len() {
        match step(&pattern[at..], path[here]) {
            Step::Star => {
                star = Some((at + 1, here));
                at += 1;
            }
            Step::One(length) => {
                at += length;
                here += 1;
            }
            Step::No => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (at, here) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&c| c == '*')
}

enum Step {
    Star,
    /// So many characters of the pattern match one of the path.
    One(usize),
    No,
}

fn step(pattern: &[char], c: char) -> Step {
    match pattern.first() {
        None => Step::No,
        Some('*') => Step::Star,
        Some('?') => Step::One(1),
        Some('[') => match set(pattern) {
            Some((length, inner)) => {
                if is_in(inner, c) {
                    Step::One(length)
                } else {
                    Step::No
                }
            }
            // Without an end it stands for itself.
            None => {
                if c == '[' {
                    Step::One(1)
                } else {
                    Step::No
                }
            }
        },
        Some(&own) => {
            if own == c {
                Step::One(1)
            } else {
                Step::No
            }
        }
    }
}

/// The length of the set that `pattern` begins with, and what is between its brackets.
fn set(pattern: &[char]) -> Option<(usize, &[char])> {
    let mut start = 1;
    // A bracket that comes first is a member.
    for first in ['!', ']'] {
        start += usize::from(pattern.get(start) == Some(&first));
    }
    let close = start + pattern.get(start..)?.iter().position(|&c| c == ']')?;
    Some((close + 1, &pattern[1..close]))
}

fn is_in(inner: &[char], c: char) -> bool {
    let (is_inverted, mut members) = match inner.split_first() {
        Some(('!', rest)) => (true, rest),
        _ => (false, inner),
    };
    let mut found = false;
    while let Some((&first, rest)) = members.split_first() {
        match rest {
            ['-', last, rest @ ..] => {
                found |= (first..=*last).contains(&c);
                members = rest;
            }
            _ => {
                found |= first == c;
                members = rest;
            }
        }
    }
    found != is_inverted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each result is of Python's `fnmatch.fnmatchcase`, but for patterns that end with a slash.
    #[test]
    fn patterns_are_pythons() {
        for (pattern, path, expected) in [
            ("*.json", "config.json", true),
            ("*.json", "a/b/config.json", true),
            ("*.json", "config.jsonl", false),
            ("a/*", "a/b/c", true),
            ("a/", "a/b/c", true),
            ("a/", "b/a/c", false),
            ("a", "a/b", false),
            ("?.txt", "a.txt", true),
            ("?.txt", "ab.txt", false),
            ("a?b", "a/b", true),
            ("m-[0-9].bin", "m-7.bin", true),
            ("m-[!0-9].bin", "m-7.bin", false),
            ("m-[!0-9].bin", "m-x.bin", true),
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[!]]", "x", true),
            ("[", "[", true),
            ("[a", "[a", true),
            ("[]", "[]", true),
            ("[a-]", "-", true),
            ("[z-a]", "m", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("**", "a/b", true),
            ("", "", true),
            ("", "a", false),
            ("\u{e9}?", "\u{e9}\u{e8}", true),
            ("A", "a", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn directories_that_are_left_out_as_a_whole() {
        for (pattern, expected) in [
            ("d/", true),
            ("d/*", true),
            ("*", true),
            ("d*", true),
            ("d", false),
            ("d/?", false),
            ("*.bin", false),
            ("e/", false),
        ] {
            let files = HubFiles { exclude: vec![pattern.to_owned()], ..HubFiles::default() };
            assert_eq!(files.leaves_out_all_below("d"), expected, "{pattern}");
        }
    }

    #[test]
    fn what_is_excluded_is_not_included() {
        let list = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        for (include, exclude, path, expected) in [
            (&[][..], &[][..], "a", true),
            (&["*.bin"], &[], "a.txt", false),
            (&["*.bin", "*.txt"], &[], "a.txt", true),
            (&[], &["*.bin"], "a.bin", false),
            (&["*"], &["a*"], "a", false),
        ] {
            let files = HubFiles { include: list(include), exclude: list(exclude) };
            assert_eq!(files.has(path), expected, "{files:?} {path}");
        }
    }
}
