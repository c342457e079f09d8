//! The notations of times a recorded file may use.
//!
//! RFC 3339 (`2014-07-01T00:00:00Z`, `…+02:00`), the same without offset (UTC; blank or `T` between date and time), a
//! date alone (its midnight, UTC), and numbers since the epoch. A number's unit follows from its magnitude: below 1e11
//! seconds (up to the year 5138), below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. Hence
//! milliseconds before March 1973 and microseconds before March 1973 are not told right as numbers.
//!
//! What follows in brackets (RFC 9557, `…+02:00[Europe/Berlin]`) is passed over where an offset says which moment is meant.
//! A time in a zone without an offset is refused: which moment it is depends on the rules of the zone, which are not known
//! here. So is an annotation that must not be passed over (`[!Europe/Berlin]`).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde_json::Value;
use streamward_core::schema::instant;

/// A text or value that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// None of the notations.
    #[error(
        "`{0}` is not a time; use RFC 3339 (2014-07-01T00:00:00Z), `2014-07-01 00:00:00` (UTC), or a number since the epoch"
    )]
    NoTime(String),
    /// The rules of a zone would have to say which moment is meant.
    #[error(
        "`{0}` is a time in a zone whose rules are not known here; write its offset, as in 2014-07-01T02:00:00+02:00"
    )]
    Zone(String),
}

/// Reads any notation of the module page as milliseconds since the epoch.
///
/// # Errors
/// It is none of them, or lies outside the calendar.
pub fn parse_time_ms(text: &str) -> Result<i64, TimeError> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return whole_number_ms(number).ok_or_else(|| TimeError::NoTime(text.to_owned()));
    }
    if let Ok(number) = text.parse::<f64>() {
        return number_ms(number).ok_or_else(|| TimeError::NoTime(text.to_owned()));
    }
    let annotation = text.find('[').map(|start| &text[start..]);
    if annotation.is_some_and(|annotation| annotation.contains("[!")) {
        return Err(TimeError::Zone(text.to_owned()));
    }
    // It knows the last day of the year 9999, which the other one does not.
    if let Some(ms) = instant::parse(text) {
        return Ok(ms);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    if annotation.is_some() && text.parse::<DateTime>().is_ok() {
        return Err(TimeError::Zone(text.to_owned()));
    }
    let local: DateTime = text.parse().map_err(|_| TimeError::NoTime(text.to_owned()))?;
    let time = Offset::UTC.to_timestamp(local).map_err(|_| TimeError::NoTime(text.to_owned()))?;
    Ok(time.as_millisecond())
}

/// Reads a JSON number or string as milliseconds since the epoch.
///
/// # Errors
/// As [`parse_time_ms`], or it is neither a number nor a string.
pub fn time_of_json_ms(value: &Value) -> Result<i64, TimeError> {
    match value {
        Value::String(text) => parse_time_ms(text),
        Value::Number(number) => {
            let found = match number.as_i64() {
                Some(whole) => whole_number_ms(whole),
                None => number.as_f64().and_then(number_ms),
            };
            found.ok_or_else(|| TimeError::NoTime(number.to_string()))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(TimeError::NoTime(value.to_string())),
    }
}

fn whole_number_ms(number: i64) -> Option<i64> {
    let ms = match number.unsigned_abs() {
        0..100_000_000_000 => number * 1000,
        100_000_000_000..100_000_000_000_000 => number,
        100_000_000_000_000..100_000_000_000_000_000 => number.div_euclid(1000),
        _ => number.div_euclid(1_000_000),
    };
    in_calendar(ms)
}

fn number_ms(number: f64) -> Option<i64> {
    let ms = match number.abs() {
        size if !size.is_finite() => return None,
        size if size < 1e11 => number * 1e3,
        size if size < 1e14 => number,
        size if size < 1e17 => number / 1e3,
        _ => number / 1e6,
    };
    in_calendar(ms.round() as i64)
}

fn in_calendar(ms: i64) -> Option<i64> {
    Timestamp::from_millisecond(ms).ok().map(|_| ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2014-07-01T00:00:00Z.
    const JULY_MS: i64 = 1_404_172_800_000;

    #[test]
    fn every_notation_of_the_same_moment_gives_the_same_time() {
        for text in [
            "2014-07-01T00:00:00Z",
            "2014-07-01T00:00:00.000Z",
            "2014-07-01T02:00:00+02:00",
            "2014-07-01 02:00:00+02:00",
            "2014-06-30T19:00:00-05:00",
            "2014-07-01 00:00:00",
            "2014-07-01T00:00:00",
            "2014-07-01 00:00",
            "2014-07-01",
            " 2014-07-01 00:00:00 ",
            "1404172800",
            "1404172800.0",
            "1404172800000",
            "1404172800000000",
            "1404172800000000000",
            "2014-07-01T02:00:00+02:00[Europe/Berlin]",
            "2014-07-01T00:00:00Z[Europe/Berlin]",
        ] {
            assert_eq!(parse_time_ms(text), Ok(JULY_MS), "{text}");
        }
    }

    #[test]
    fn parts_of_a_second_are_kept_to_the_millisecond() {
        for text in ["2014-07-01 00:00:00.250", "2014-07-01T00:00:00.25Z", "1404172800.25", "1404172800250999"] {
            assert_eq!(parse_time_ms(text), Ok(JULY_MS + 250), "{text}");
        }
        assert_eq!(time_of_json_ms(&serde_json::json!(1_404_172_800.25)), Ok(JULY_MS + 250));
    }

    #[test]
    fn the_last_moment_of_the_calendar_is_read() {
        assert_eq!(parse_time_ms("9999-12-31T23:59:59.999Z"), Ok(253_402_300_799_999));
        assert!(parse_time_ms("10000-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn times_before_the_epoch_are_read() {
        assert_eq!(parse_time_ms("-1"), Ok(-1000));
        assert_eq!(parse_time_ms("1969-12-31T23:59:59.5Z"), Ok(-500));
    }

    #[test]
    fn a_time_in_a_zone_without_an_offset_is_refused_with_a_way_out() {
        for text in [
            "2014-07-01T02:00:00[Europe/Berlin]",
            "2014-07-01 02:00:00[Europe/Berlin]",
            "2014-07-01[Europe/Berlin]",
            "2014-07-01T02:00:00+02:00[!Europe/Berlin]",
        ] {
            let error = parse_time_ms(text).expect_err(text).to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("write its offset"), "{error}");
        }
        assert!(time_of_json_ms(&serde_json::json!("2014-07-01T02:00:00[Europe/Berlin]")).is_err());
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_text_and_a_way_out() {
        for text in [
            "",
            "yesterday",
            "2014-13-01",
            "01/07/2014",
            "NaN",
            "inf",
            "1e300",
            "2014-07-01 25:00:00",
            "soon[Europe/Berlin]",
        ] {
            let error = parse_time_ms(text).expect_err(text).to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("RFC 3339"), "{error}");
        }
        assert!(time_of_json_ms(&serde_json::json!(true)).is_err());
        assert!(time_of_json_ms(&serde_json::json!({"seconds": 1})).is_err());
    }

    proptest! {
        #[test]
        fn any_millisecond_survives_its_rfc_3339_text(ms in -2_000_000_000_000i64..4_000_000_000_000) {
            let text = format!("{:.3}", Timestamp::from_millisecond(ms).unwrap());
            prop_assert_eq!(parse_time_ms(&text), Ok(ms));
        }

        #[test]
        fn seconds_milliseconds_and_microseconds_agree(second in 100_000_000i64..99_999_999_999) {
            let read = |number: i64| parse_time_ms(&number.to_string());
            prop_assert_eq!(read(second), Ok(second * 1000));
            prop_assert_eq!(read(second * 1000), Ok(second * 1000));
            prop_assert_eq!(read(second * 1_000_000), Ok(second * 1000));
        }
    }
}
