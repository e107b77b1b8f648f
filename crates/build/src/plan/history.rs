//! History lines as BuildKit writes them, that is, as Go's `fmt` prints its values.

use ocib_image::Healthcheck;

/// A time as config and history hold it.
pub(super) fn rfc3339(epoch: i64) -> String {
    let since = std::time::Duration::from_secs(epoch.unsigned_abs());
    let time = match epoch < 0 {
        true => std::time::UNIX_EPOCH.checked_sub(since),
        false => std::time::UNIX_EPOCH.checked_add(since),
    };
    // Years that RFC 3339 cannot write are refused where the epoch is read.
    humantime::format_rfc3339_seconds(time.unwrap_or(std::time::UNIX_EPOCH)).to_string()
}

/// Go's `%q` of a list of strings.
pub(super) fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

/// Go's `%v` of a list of strings.
pub(super) fn listed(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// Go's `strconv.Quote`.
fn quote(word: &str) -> String {
    let mut out = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

/// A name and value as BuildKit's `KeyValuePair.String` shows it.
pub(super) fn pair(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

/// Go's `%+v` of `HealthcheckConfig`.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        listed(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

/// Go's `time.Duration.String`.
fn duration(nanoseconds: i64) -> String {
    let decimals = |value: i64, unit: i64| {
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        if unit == 1 {
            value.to_string()
        } else {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    };
    let seconds = nanoseconds / 1_000_000_000;
    match nanoseconds {
        0 => "0s".to_owned(),
        ..=999 => format!("{nanoseconds}ns"),
        1_000..=999_999 => format!("{}µs", decimals(nanoseconds, 1_000)),
        1_000_000..=999_999_999 => format!("{}ms", decimals(nanoseconds, 1_000_000)),
        _ => {
            let rest = decimals(nanoseconds % 60_000_000_000, 1_000_000_000);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go_does() {
        assert_eq!(quoted(&["a\"b".into(), "\n\u{1}é".into()]), r#"["a\"b" "\n\x01é"]"#);
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (30_000_000_000, "30s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
