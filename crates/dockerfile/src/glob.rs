//! Go's `filepath.Match` on Unix: the wildcards of COPY and ADD sources.

/// A pattern that is malformed, as far as matching had to look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether `name` as a whole matches `pattern`.
///
/// `*` is any bytes but `/`, `?` one character but `/`, `[a-z]` and `[^a-z]` one of a class (which
/// may hold `/`), a backslash takes the next character's meaning away. `**` is nothing special.
/// Names need not be UTF-8: an invalid byte counts as a character.
///
/// ```
/// use ocib_dockerfile::glob;
///
/// assert_eq!(glob::matches("models/*.bin", "models/a.bin"), Ok(true));
/// assert_eq!(glob::matches("models/*.bin", "models/sub/a.bin"), Ok(false));
/// assert_eq!(glob::matches("[", "a"), Err(glob::BadPattern));
/// ```
///
/// # Errors
/// [`BadPattern`], also if the name cannot match anyway.
pub fn matches(pattern: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<bool, BadPattern> {
    let (mut pattern, mut name) = (pattern.as_ref(), name.as_ref());
    while !pattern.is_empty() {
        let chunk = Chunk::first(pattern);
        pattern = chunk.rest;
        if chunk.star && chunk.literal.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        match chunk.find(name)? {
            Some(rest) => name = rest,
            None => return check_rest(pattern).map(|()| false),
        }
    }
    Ok(name.is_empty())
}

/// Whether a wildcard stands in `pattern` that no backslash takes the meaning from. BuildKit takes
/// a source without one as a path, backslashes and all (fsutil, `containsWildcards`).
pub fn has_wildcard(pattern: impl AsRef<[u8]>) -> bool {
    let mut bytes = pattern.as_ref().iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

fn check_rest(mut pattern: &[u8]) -> Result<(), BadPattern> {
    while !pattern.is_empty() {
        let chunk = Chunk::first(pattern);
        match_here(chunk.literal, b"")?;
        pattern = chunk.rest;
    }
    Ok(())
}

/// A part of a pattern without stars, and whether a star stands before it.
struct Chunk<'p> {
    star: bool,
    literal: &'p [u8],
    rest: &'p [u8],
}

impl<'p> Chunk<'p> {
    fn first(pattern: &'p [u8]) -> Self {
        let stars = pattern.iter().take_while(|&&byte| byte == b'*').count();
        let pattern = &pattern[stars..];
        let (mut at, mut class) = (0, false);
        while at < pattern.len() {
            match pattern[at] {
                b'\\' if at + 1 < pattern.len() => at += 1,
                b'[' => class = true,
                b']' => class = false,
                b'*' if !class => break,
                _ => {}
            }
            at += 1;
        }
        Self { star: stars > 0, literal: &pattern[..at], rest: &pattern[at..] }
    }

    /// What remains of `name` behind the chunk: at the first place that it fits, or at the end for
    /// the last chunk.
    fn find<'n>(&self, name: &'n [u8]) -> Result<Option<&'n [u8]>, BadPattern> {
        let fits = |rest: &[u8]| rest.is_empty() || !self.rest.is_empty();
        let mut skipped = 0;
        loop {
            if let Some(rest) = match_here(self.literal, &name[skipped..])?
                && fits(rest)
            {
                return Ok(Some(rest));
            }
            if !self.star || skipped == name.len() || name[skipped] == b'/' {
                return Ok(None);
            }
            skipped += 1;
        }
    }
}

/// What remains of `name` behind `chunk`. Even if they do not match, the whole chunk is looked at
/// for errors.
fn match_here<'n>(mut chunk: &[u8], name: &'n [u8]) -> Result<Option<&'n [u8]>, BadPattern> {
    let mut name = Some(name);
    while let Some(&first) = chunk.first() {
        name = name.filter(|name| !name.is_empty());
        match first {
            b'[' => {
                let c = name.map(|name| decode(name).0);
                let (matched, rest) = class(&chunk[1..], c.unwrap_or('\0'))?;
                name = name.filter(|_| matched).map(|name| &name[decode(name).1..]);
                chunk = rest;
            }
            b'?' => {
                name = name.filter(|name| name[0] != b'/').map(|name| &name[decode(name).1..]);
                chunk = &chunk[1..];
            }
            _ => {
                let literal = if first == b'\\' { &chunk[1..] } else { chunk };
                let wanted = literal.first().ok_or(BadPattern)?;
                name = name.filter(|name| name[0] == *wanted).map(|name| &name[1..]);
                chunk = &literal[1..];
            }
        }
    }
    Ok(name)
}

/// Whether a class, of which the bracket is gone already, holds `c`; and what follows it.
fn class(mut pattern: &[u8], c: char) -> Result<(bool, &[u8]), BadPattern> {
    let negated = pattern.first() == Some(&b'^');
    if negated {
        pattern = &pattern[1..];
    }
    let (mut found, mut ranges) = (false, 0);
    while ranges == 0 || pattern.first() != Some(&b']') {
        let (low, rest) = class_character(pattern)?;
        let (high, rest) = if rest[0] == b'-' { class_character(&rest[1..])? } else { (low, rest) };
        found |= (low..=high).contains(&c);
        pattern = rest;
        ranges += 1;
    }
    Ok((found != negated, &pattern[1..]))
}

/// A character of a class, perhaps escaped; something has to follow it.
fn class_character(pattern: &[u8]) -> Result<(char, &[u8]), BadPattern> {
    let pattern = match pattern.first() {
        None | Some(b'-' | b']') => return Err(BadPattern),
        Some(b'\\') => &pattern[1..],
        Some(_) => pattern,
    };
    if pattern.is_empty() {
        return Err(BadPattern);
    }
    let (c, length) = decode(pattern);
    let rest = &pattern[length..];
    if rest.is_empty() || (c == char::REPLACEMENT_CHARACTER && length == 1) {
        return Err(BadPattern);
    }
    Ok((c, rest))
}

/// The first character of `bytes` and its length; U+FFFD and 1 for what is no UTF-8. `bytes` must
/// not be empty.
pub(crate) fn decode(bytes: &[u8]) -> (char, usize) {
    for length in 1..=bytes.len().min(4) {
        if let Ok(text) = std::str::from_utf8(&bytes[..length])
            && let Some(c) = text.chars().next()
        {
            return (c, length);
        }
    }
    (char::REPLACEMENT_CHARACTER, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go's own table for `filepath.Match`, and more.
    #[test]
    fn go_matches() {
        for (pattern, name, expected) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a", Ok(true)),
            ("a*", "abc", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*/b", "a/c/b", Ok(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Ok(false)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Ok(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[e-g]", "abc", Ok(false)),
            ("ab[^c]", "abc", Ok(false)),
            ("ab[^e-g]", "abc", Ok(true)),
            ("a\\*b", "a*b", Ok(true)),
            ("a\\*b", "ab", Ok(false)),
            ("a?b", "a☺b", Ok(true)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("a???b", "a☺b", Ok(false)),
            ("a[^a][^a][^a]b", "a☺b", Ok(false)),
            ("[a-ζ]*", "α", Ok(true)),
            ("*[a-ζ]", "A", Ok(false)),
            ("a?b", "a/b", Ok(false)),
            ("a*b", "a/b", Ok(false)),
            ("[\\]a]", "]", Ok(true)),
            ("[\\-]", "-", Ok(true)),
            ("[x\\-]", "x", Ok(true)),
            ("[x\\-]", "z", Ok(false)),
            ("[\\-x]", "a", Ok(false)),
            ("[]a]", "]", Err(BadPattern)),
            ("[-]", "-", Err(BadPattern)),
            ("[x-]", "x", Err(BadPattern)),
            ("[x-]", "z", Err(BadPattern)),
            ("[-x]", "a", Err(BadPattern)),
            ("\\", "a", Err(BadPattern)),
            ("[a-b-c]", "a", Err(BadPattern)),
            ("[", "a", Err(BadPattern)),
            ("[^", "a", Err(BadPattern)),
            ("[^bc", "a", Err(BadPattern)),
            ("a[", "a", Err(BadPattern)),
            ("a[", "ab", Err(BadPattern)),
            ("a[", "x", Err(BadPattern)),
            ("a/b[", "x", Err(BadPattern)),
            ("q[^a-d]", "qb", Ok(false)),
            ("[z\\-]", "-", Ok(true)),
            ("[\\-z]", "-", Ok(true)),
            ("[\\-z]", "z", Ok(true)),
            ("[z-]", "-", Err(BadPattern)),
            ("[-z]", "-", Err(BadPattern)),
            ("[-z]", "z", Err(BadPattern)),
            ("[]", "a", Err(BadPattern)),
            ("../*/f.go", "../d/f.go", Ok(true)),
            ("\\f.go", "f.go", Ok(true)),
            ("*x", "xxx", Ok(true)),
            ("[!a]", "!", Ok(true)),
            ("[!a]", "b", Ok(false)),
            ("a[^x]b", "a/b", Ok(true)),
            ("**", "a/b", Ok(false)),
            ("**/c", "b/c", Ok(true)),
            ("f[[]1]", "f[1]", Ok(true)),
            ("{a,b}", "a", Ok(false)),
            ("", "", Ok(true)),
            ("*", "", Ok(true)),
            ("?", "", Ok(false)),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert_eq!(matches("a?b", b"a\xffb"), Ok(true));
        assert_eq!(matches(b"[\xff]", "a"), Err(BadPattern));
    }

    #[test]
    fn live_wildcards() {
        for (pattern, expected) in [
            ("a", false),
            ("a*", true),
            ("f\\[1\\]", false),
            ("f\\[1]?", true),
            ("f[[]1]", true),
            ("a\\", false),
        ] {
            assert_eq!(has_wildcard(pattern), expected, "{pattern}");
        }
    }
}
