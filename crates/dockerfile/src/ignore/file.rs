//! The lines of an ignore file (moby/patternmatcher, `ignorefile.ReadAll`).

use crate::Error;

/// `bufio.MaxScanTokenSize - 1`
const LONGEST_LINE_BYTES: usize = 65_535;

/// The patterns with their line numbers, from 1.
pub(super) fn lines(text: &[u8]) -> Result<Vec<(usize, String)>, Error> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut patterns = Vec::new();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        if line.len() > LONGEST_LINE_BYTES {
            return Err(Error::IgnoreLineTooLong { line: number });
        }
        // A comment is one only if nothing stands before its #.
        if line.starts_with(b"#") {
            continue;
        }
        let line = String::from_utf8_lossy(line);
        if !line.trim().is_empty() {
            patterns.push((number, normalized(line.trim())));
        }
    }
    Ok(patterns)
}

/// Cleaned, without a leading slash, the exclamation mark kept in front.
fn normalized(line: &str) -> String {
    let (mark, path) = line.strip_prefix('!').map_or(("", line), |path| ("!", path.trim()));
    if path.is_empty() {
        return mark.to_owned();
    }
    let path = clean(path);
    let relative = path.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&path);
    format!("{mark}{relative}")
}

/// Go's `filepath.Clean` on Unix: no empty and `.` elements, `..` resolved as far as can be, `.`
/// for nothing.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut elements: Vec<&str> = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." if elements.last().is_some_and(|&last| last != "..") => drop(elements.pop()),
            ".." if rooted => {}
            _ => elements.push(element),
        }
    }
    let cleaned = elements.join("/");
    match (rooted, cleaned.is_empty()) {
        (true, _) => format!("/{cleaned}"),
        (false, true) => ".".to_owned(),
        (false, false) => cleaned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_a_file() {
        let text = "\u{feff}*.md\r\n# no\n\n  top.txt  \n\td\t\n #name\n!  k.log\n/abs\n!/abs/x/\nlogs/../k\n./a//b/.\n/\n!\n! /in/x";
        let expected = [
            (1, "*.md"),
            (4, "top.txt"),
            (5, "d"),
            (6, "#name"),
            (7, "!k.log"),
            (8, "abs"),
            (9, "!abs/x"),
            (10, "k"),
            (11, "a/b"),
            (12, "/"),
            (13, "!"),
            (14, "!in/x"),
        ];
        assert_eq!(lines(text.as_bytes()), Ok(expected.map(|(line, text)| (line, text.to_owned())).to_vec()));
    }

    #[test]
    fn long_lines() {
        let fits = "x".repeat(LONGEST_LINE_BYTES);
        assert_eq!(lines(format!("a\n{fits}").as_bytes()).map(|lines| lines.len()), Ok(2));
        assert_eq!(lines(format!("a\n{fits}x").as_bytes()), Err(Error::IgnoreLineTooLong { line: 2 }));
    }

    #[test]
    fn go_clean() {
        for (path, expected) in [
            ("", "."),
            ("abc", "abc"),
            ("..", ".."),
            ("../../abc", "../../abc"),
            ("/", "/"),
            ("/../a", "/a"),
            ("a/../..", ".."),
            ("abc//def/", "abc/def"),
            ("abc/./../def", "def"),
            ("//a", "/a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
