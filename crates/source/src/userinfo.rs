//! Users and passwords of URLs, and what is sent of them.

use base64::{Engine, prelude::BASE64_STANDARD};
use ocib_net::{Redacted, Url, header::HeaderValue};

use crate::{Error, client::is_loopback};

/// What the user and password of `url` become when they are sent, if it has any.
pub(crate) fn basic(url: &Url) -> Result<Option<HeaderValue>, Error> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    if url.scheme() != "https" && !is_loopback(url) {
        return Err(Error::PlainCredentials { url: Redacted::of(url) });
    }
    let user = percent_decoded(url.username());
    Ok(Some(basic_header(&user, &percent_decoded(url.password().unwrap_or_default()))))
}

/// RFC 7617.
pub(crate) fn basic_header(user: &[u8], password: &[u8]) -> HeaderValue {
    let pair = [user, b":", password].concat();
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
        .expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

/// RFC 3986, section 2.1; a percent sign without two hex digits stands for itself (WHATWG URL).
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|&b| char::from(b).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// All but RFC 3986's unreserved characters as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => all.push(char::from(byte)),
            _ => all.push_str(&format!("%{byte:02X}")),
        }
    }
    all
}
