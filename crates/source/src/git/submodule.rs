//! Where submodules are: `.gitmodules`, and URLs relative to the repository's own.

use std::collections::BTreeMap;

/// What `.gitmodules` says of one submodule.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Submodule {
    pub(super) path: Vec<u8>,
    pub(super) url: String,
    /// `update = none`: git leaves its directory empty.
    pub(super) is_left_out: bool,
}

/// Reads `.gitmodules`, whose form is that of git's configuration. What is not understood is passed
/// over: a submodule without a path or a URL is missed when it is needed.
pub(super) fn parse(text: &[u8]) -> Vec<Submodule> {
    let text = String::from_utf8_lossy(text);
    let mut modules: BTreeMap<String, Submodule> = BTreeMap::new();
    let mut section = None;
    for line in joined_lines(&text) {
        let line = line.trim();
        if let Some(head) = line.strip_prefix('[') {
            section = head.split_once(']').and_then(|(head, _)| section_name(head));
            continue;
        }
        let Some(section) = &section else { continue };
        let (key, value) = line.split_once('=').unwrap_or((line, "true"));
        let module = modules.entry(String::clone(section)).or_default();
        match &*key.trim().to_ascii_lowercase() {
            "path" => module.path = value_of(value).trim_end_matches('/').as_bytes().to_vec(),
            "url" => module.url = value_of(value),
            "update" => module.is_left_out = value_of(value) == "none",
            _ => {}
        }
    }
    modules.into_values().collect()
}

/// Lines, with those that end in a backslash joined to the next.
fn joined_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        let (line, more) = match line.strip_suffix('\\') {
            // Two backslashes are one that is meant.
            Some(before) if !before.ends_with('\\') => (before, true),
            _ => (line, false),
        };
        match lines.last_mut().filter(|_| goes_on) {
            Some(last) => last.push_str(line),
            None => lines.push(line.to_owned()),
        }
        goes_on = more;
    }
    lines
}

/// `submodule "NAME"`.
fn section_name(head: &str) -> Option<String> {
    let (section, name) = head.trim().split_once(|c: char| c.is_whitespace())?;
    let name = name.trim().strip_prefix('"')?.strip_suffix('"')?;
    section.eq_ignore_ascii_case("submodule").then(|| name.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// A value without its quotes, escapes and comment.
fn value_of(text: &str) -> String {
    let (mut value, mut is_quoted) = (String::new(), false);
    let mut chars = text.trim().chars();
    // Spaces at the end count only in quotes.
    let mut kept = 0;
    while let Some(c) = chars.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '#' | ';' if !is_quoted => break,
            '\\' => value.extend(chars.next().map(|c| match c {
                'n' => '\n',
                't' => '\t',
                c => c,
            })),
            c => value.push(c),
        }
        if is_quoted || !c.is_whitespace() {
            kept = value.len();
        }
    }
    value.truncate(kept);
    value
}

/// The URL of a submodule in a repository at `remote`; `None` if it leads above the host. What begins
/// with `./` or `../` is relative (git, `relative_url`).
pub(super) fn resolve(remote: &str, url: &str) -> Option<String> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return Some(url.to_owned());
    }
    let (scheme, rest) = remote.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let mut parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let mut url = url;
    loop {
        if let Some(rest) = url.strip_prefix("../") {
            parts.pop()?;
            url = rest;
        } else if let Some(rest) = url.strip_prefix("./") {
            url = rest;
        } else {
            break;
        }
    }
    parts.push(url.trim_end_matches('/'));
    Some(format!("{scheme}://{host}/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gitmodules_says() {
        let module = |path: &str, url: &str, is_left_out| Submodule {
            path: path.into(),
            url: url.to_owned(),
            is_left_out,
        };
        for (text, expected) in [
            ("", vec![]),
            (
                "[submodule \"a\"]\n\tpath = lib/a\n\turl = ../a.git\n",
                vec![module("lib/a", "../a.git", false)],
            ),
            (
                "[submodule \"b\"]\r\n\tURL=\"https://h/b#c.git\" ; x\r\n\tPath = b/ # y\r\n\tupdate = none\r\n",
                vec![module("b", "https://h/b#c.git", true)],
            ),
            (
                "[submodule \"a\"]\npath = \"a \\\"b\\\\\"\nurl = x\\\ny\n",
                vec![module("a \"b\\", "xy", false)],
            ),
            ("# c\n[core]\npath = a\n[submodule a]\nurl = b\n", vec![]),
            ("[submodule \"a\"\npath\n", vec![]),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn relative_urls() {
        for (remote, url, expected) in [
            ("https://h/org/a.git", "../b.git", Some("https://h/org/b.git")),
            ("https://h/org/a.git/", "../../x/b.git", Some("https://h/x/b.git")),
            ("https://me:pw@h:1/a.git", "./b/", Some("https://me:pw@h:1/a.git/b")),
            ("https://h/a.git", "../b.git", Some("https://h/b.git")),
            ("https://h/a.git", "../../b.git", None),
            ("https://h/a.git", "https://g/b.git", Some("https://g/b.git")),
            ("https://h/a.git", "git@g:b.git", Some("git@g:b.git")),
        ] {
            assert_eq!(resolve(remote, url).as_deref(), expected, "{remote} {url}");
        }
    }
}
