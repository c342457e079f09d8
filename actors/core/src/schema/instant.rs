//! Instants as text: RFC 3339 to milliseconds since 1970 (UTC) and back, for the years 1 to 9999.
//!
//! Not a calendar library: no zones but fixed offsets, no leap seconds (`:60` is refused), no other layouts. Own code
//! because it runs once per record, on borrowed bytes and without allocating.

/// 0001-01-01T00:00:00.000Z.
pub const MIN_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z.
pub const MAX_MS: i64 = 253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;

/// Whether the instant lies in the years 1 to 9999, which every target can store.
#[must_use]
pub fn is_in_range(ms: i64) -> bool {
    (MIN_MS..=MAX_MS).contains(&ms)
}

/// Reads `YYYY-MM-DDThh:mm:ss[.fraction][Z|±hh:mm]` (RFC 3339; a space may stand for the `T`, no offset means UTC).
/// Digits beyond milliseconds are cut off. `None` if the text is anything else or not an instant in range.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 19 || bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    if !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (number(&bytes[0..4])?, number(&bytes[5..7])?, number(&bytes[8..10])?);
    let (hour, minute, second) = (number(&bytes[11..13])?, number(&bytes[14..16])?, number(&bytes[17..19])?);
    if year < 1 || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_ms, rest) = fraction(&bytes[19..])?;
    let offset_minutes = offset(rest)?;
    let minutes = days_from_civil(year, month, day) * 1440 + hour * 60 + minute - offset_minutes;
    let ms = (minutes * 60 + second) * 1000 + fraction_ms;
    is_in_range(ms).then_some(ms)
}

/// Appends the instant as `2026-01-02T03:04:05.678Z`. An instant out of range is brought to the nearest end.
pub fn write(ms: i64, out: &mut Vec<u8>) {
    let ms = ms.clamp(MIN_MS, MAX_MS);
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], of_day / 3_600_000);
    digits(&mut text[14..16], of_day / 60_000 % 60);
    digits(&mut text[17..19], of_day / 1000 % 60);
    digits(&mut text[20..23], of_day % 1000);
    out.extend_from_slice(&text);
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn digits(place: &mut [u8], mut value: i64) {
    for byte in place.iter_mut().rev() {
        *byte = b'0' + u8::try_from(value % 10).expect("a digit of a value that is not negative");
        value /= 10;
    }
}

/// Milliseconds of an optional `.fraction`, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = rest.split_at(length);
    let ms = match fraction {
        [] => return None,
        [a] => number(&[*a])? * 100,
        [a, b] => number(&[*a, *b])? * 10,
        [a, b, c, ..] => number(&[*a, *b, *c])?,
    };
    Some((ms, rest))
}

/// Minutes east of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let [h1, h2, b':', m1, m2] = rest else {
        return None;
    };
    let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day (Hinnant, `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(ms: i64) -> String {
        let mut out = Vec::new();
        write(ms, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_usual_layouts_are_read() {
        let noon = 1_767_355_445_678;
        for text in [
            "2026-01-02T12:04:05.678Z",
            "2026-01-02T12:04:05.678",
            "2026-01-02 12:04:05.678",
            "2026-01-02t12:04:05.678z",
            "2026-01-02T12:04:05.678999+00:00",
            "2026-01-02T14:04:05.678+02:00",
            "2026-01-02T06:34:05.678-05:30",
        ] {
            assert_eq!(parse(text), Some(noon), "{text}");
        }
        assert_eq!(parse("2026-01-02T12:04:05"), Some(noon - 678));
        assert_eq!(parse("2026-01-02T12:04:05.6Z"), Some(noon - 78));
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in [
            "",
            "now",
            "2026-01-02",
            "2026-13-02T12:04:05Z",
            "2026-02-29T12:04:05Z",
            "1900-02-29T12:04:05Z",
            "2026-00-02T12:04:05Z",
            "2026-01-00T12:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T12:60:05Z",
            "2026-01-02T12:04:60Z",
            "2026-01-02T12:04:05.Z",
            "2026-01-02T12:04:05+24:00",
            "2026-01-02T12:04:05+0200",
            "2026-01-02T12:04:05+02:0",
            "2026-01-02T12:04:05 Z",
            "2026-01-02T12:04:05Zx",
            "2026-01-02T12:04:05[Europe/Berlin]",
            "2026-01-02T12:04:05Z[Europe/Berlin]",
            "2026-01-02T12:04:05+01:00[Europe/Berlin]",
            "2026-1-2T12:04:05Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "+026-01-02T12:04:05Z",
            "२०२६-01-02T12:04:05Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("2024-02-29T00:00:00Z"), Some(1_709_164_800_000));
        assert_eq!(parse("2000-02-29T00:00:00Z"), Some(951_782_400_000));
    }

    #[test]
    fn the_ends_of_the_range_are_written_and_read() {
        assert_eq!(written(MIN_MS), "0001-01-01T00:00:00.000Z");
        assert_eq!(written(MAX_MS), "9999-12-31T23:59:59.999Z");
        assert_eq!(parse(&written(MIN_MS)), Some(MIN_MS));
        assert_eq!(parse(&written(MAX_MS)), Some(MAX_MS));
        assert_eq!(written(i64::MAX), written(MAX_MS));
    }

    proptest! {
        #[test]
        fn a_written_instant_reads_back(ms in MIN_MS..=MAX_MS) {
            prop_assert_eq!(parse(&written(ms)), Some(ms));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn each_day_follows_the_day_before(day in -719_162i64..2_932_896) {
            let (y1, m1, d1) = civil_from_days(day);
            let (y2, m2, d2) = civil_from_days(day + 1);
            let expected = if d1 < days_in_month(y1, m1) { (y1, m1, d1 + 1) }
                else if m1 < 12 { (y1, m1 + 1, 1) } else { (y1 + 1, 1, 1) };
            prop_assert_eq!((y2, m2, d2), expected);
        }
    }
}
