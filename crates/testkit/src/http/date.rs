//! Times as AWS and HTTP write them, in UTC, to the second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

struct Civil {
    year: u64,
    /// From 1.
    month: u64,
    /// From 1.
    day: u64,
    /// 0 is Thursday, as 1970-01-01 was.
    weekday: u64,
    second: u64,
}

/// `2026-11-24T18:46:00Z`
pub(crate) fn iso(time: SystemTime) -> String {
    let Civil { year, month, day, second, .. } = civil(time);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `20261124T184600Z`
pub(crate) fn compact(time: SystemTime) -> String {
    iso(time).replace(['-', ':'], "")
}

/// `Tue, 24 Nov 2026 18:46:00 GMT`
pub(crate) fn http_date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Civil { year, month, day, weekday, second } = civil(time);
    let (name, month) = (DAYS[weekday as usize], MONTHS[month as usize - 1]);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// The time that [`compact`] writes so.
pub(crate) fn parse_compact(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let is_shaped = text.len() == 16 && text.get(8..9) == Some("T") && text.ends_with('Z');
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let is_date = is_shaped && year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
    let seconds = is_date.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is a year's last.
fn civil(time: SystemTime) -> Civil {
    let seconds = time.duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs();
    let days = seconds / 86_400;
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    Civil {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month,
        day: of_year - (153 * from_march + 2) / 5 + 1,
        weekday: days % 7,
        second: seconds % 86_400,
    }
}

/// Days since 1970-01-01 (`days_from_civil` of the same author).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected, http) in [
            (0, "1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "2000-02-29T00:00:00Z", "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_795_545_960, "2026-11-24T18:46:00Z", "Tue, 24 Nov 2026 18:46:00 GMT"),
            (1_798_761_599, "2026-12-31T23:59:59Z", "Thu, 31 Dec 2026 23:59:59 GMT"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!((iso(time).as_str(), http_date(time).as_str()), (expected, http));
            assert_eq!(parse_compact(&compact(time)), Some(time), "{expected}");
        }
        assert_eq!(parse_compact("20261324T184600Z"), None);
        assert_eq!(parse_compact("2026-11-24T18:46Z"), None);
    }
}
