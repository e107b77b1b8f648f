//! Durations as Go writes them: `1h15m30.5s`.

use std::time::Duration;

/// What Go's `time.ParseDuration` makes of `text`, in nanoseconds.
///
/// # Errors
/// Go's message.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, magnitude) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if magnitude == "0" {
        return Ok(0);
    }
    if magnitude.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    let mut rest = magnitude;
    while !rest.is_empty() {
        let (whole, fraction, after) = number(rest).ok_or_else(invalid)?;
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let nanoseconds = unit_nanoseconds(unit)
            .ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        total = add(total, whole, fraction, nanoseconds).ok_or_else(invalid)?;
        rest = after;
    }
    let total = i128::from(total);
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// The duration of a flag; `None` for zero, which BuildKit takes as not given.
pub(crate) fn non_zero(nanoseconds: i64) -> Option<Duration> {
    u64::try_from(nanoseconds).ok().filter(|&nanoseconds| nanoseconds > 0).map(Duration::from_nanos)
}

/// Digits, a fraction's digits, and what follows; at least one digit in all.
fn number(text: &str) -> Option<(u64, &str, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    Some((whole, fraction, rest))
}

fn unit_nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn add(total: u64, whole: u64, fraction: &str, unit: u64) -> Option<u64> {
    // An hour has thirteen digits of nanoseconds: what stands behind the fifteenth cannot be seen.
    let digits = &fraction[..fraction.len().min(15)];
    let (numerator, denominator) =
        digits.bytes().fold((0, 1), |(n, d), digit| (n * 10 + u128::from(digit - b'0'), d * 10));
    let unit = u128::from(unit);
    let sum = u128::from(total) + u128::from(whole) * unit + numerator * unit / denominator;
    u64::try_from(sum).ok().filter(|&sum| sum <= 1 << 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("5s", Ok(5_000_000_000)),
            ("1m30s", Ok(90_000_000_000)),
            ("500ms", Ok(500_000_000)),
            ("2h", Ok(7_200_000_000_000)),
            ("1.5s", Ok(1_500_000_000)),
            (".5s", Ok(500_000_000)),
            ("1.s", Ok(1_000_000_000)),
            ("1.25h", Ok(4_500_000_000_000)),
            ("-1.5µs", Ok(-1500)),
            ("+7ns", Ok(7)),
            ("0.1234567890123456789s", Ok(123_456_789)),
            ("", Err("time: invalid duration \"\"")),
            ("-", Err("time: invalid duration \"-\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("s", Err("time: invalid duration \"s\"")),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("5x", Err("time: unknown unit \"x\" in duration \"5x\"")),
            ("5s 3m", Err("time: unknown unit \"s \" in duration \"5s 3m\"")),
            ("9999999h", Err("time: invalid duration \"9999999h\"")),
            ("99999999999999999999s", Err("time: invalid duration \"99999999999999999999s\"")),
        ] {
            assert_eq!(parse(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}
