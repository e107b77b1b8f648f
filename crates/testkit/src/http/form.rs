//! Percent-encoding: queries and `application/x-www-form-urlencoded` bodies.

/// Names and values of a query or a form, decoded, in their order. A plus is a space.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let split = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
    };
    pairs.map(split).collect()
}

/// The text with its `%XX` replaced. What is no such sequence stays.
pub(crate) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut all, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let pair = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        all.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The text with all but RFC 3986's unreserved characters written as `%XX`, which is how AWS's
/// signatures want it.
pub(crate) fn encoded(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => all.push(byte as char),
            _ => all.push_str(&format!("%{byte:02X}")),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        assert_eq!(encoded("sha256:a/b c~"), "sha256%3Aa%2Fb%20c~");
        for text in ["sha256:a/b c~", "", "100%", "ü"] {
            assert_eq!(decoded(&encoded(text)), text);
        }
        assert_eq!(decoded("100%zz%"), "100%zz%");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs("a=1+2&&b%3D=%2F&c"), [pair("a", "1 2"), pair("b=", "/"), pair("c", "")]);
    }
}
