//! Text of strangers, made harmless for terminals and logs.

/// At most `limit` characters of `bytes`: control characters and those that reorder text are
/// escaped, line ends become blanks, whatever is not UTF-8 becomes `U+FFFD`.
pub fn printable(bytes: &[u8], limit: usize) -> String {
    // Four bytes a character at most, so what is cut here could not be shown anyway.
    let bytes = &bytes[..bytes.len().min(limit.saturating_mul(4))];
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == limit {
            shown.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if c.is_control() || reorders(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// Unicode's bidirectional controls (UAX #9): they make a message read differently than it is.
fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            (b" two\r\nlines ", "two  lines"),
            (b"\x1b[31mred", "\\u{1b}[31mred"),
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"0123456789abc", "0123456789…"),
        ] {
            assert_eq!(printable(bytes, 10), expected, "{bytes:?}");
        }
    }
}
