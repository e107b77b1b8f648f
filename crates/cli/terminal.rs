//! Text on its way to a person. Names out of archives, registries and Dockerfiles are hostile where
//! they are shown: an escape sequence could hide or fake lines.

/// `text` with control characters made visible; line feeds stay.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            '\t' => out.push(' '),
            c if c.is_control() || is_bidi_control(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// One line of at most `width` characters.
pub(crate) fn line(text: &str, width: usize) -> String {
    let text = printable(text).replace('\n', " ");
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text,
    }
}

/// Characters that change the order in which others are shown (CVE-2021-42574).
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\rc\u{202e}d\ne"), "a\\u{1b}[2Jb\\u{d}c\\u{202e}d\ne");
        assert_eq!(line("a\nbcdef", 5), "a bc…");
    }
}
