//! Durations as people write them: `500ms`, `5s`, `2m`, `1h`, `1m30s`, `1.5s`.
//!
//! Use it on a field with `#[serde(with = "human")]`, or [`option`] for an `Option<Duration>`.

use std::{fmt::Write as _, time::Duration};

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
use thiserror::Error;

/// Why a text is not a duration.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{text}` is not a duration; write for example 500ms, 5s, 2m, 1h or 1m30s")]
pub struct DurationError {
    text: String,
}

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration; the resolution is one millisecond, `0` needs no unit.
///
/// # Errors
/// The text is not a list of numbers with units.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let fail = || DurationError { text: text.to_owned() };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(fail());
    }
    let mut total_ms = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let number: f64 = rest[..digits].parse().map_err(|_| fail())?;
        let unit_len = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let unit = rest[digits..digits + unit_len].trim();
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(fail)?;
        total_ms += number * *factor as f64;
        rest = &rest[digits + unit_len..];
    }
    let whole = total_ms.round();
    // Above this, not every millisecond has a number of its own; it is 285 thousand years.
    if whole > 2f64.powi(53) {
        return Err(fail());
    }
    Ok(Duration::from_millis(whole as u64))
}

/// Writes a duration with the largest exact units, cut to milliseconds.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, factor) in UNITS {
        let count = left / factor;
        if count > 0 {
            let _ = write!(text, "{count}{name}");
            left %= factor;
        }
    }
    text
}

/// Serialises a duration as text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Reads a duration from text.
///
/// # Errors
/// The text is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(D::Error::custom)
}

/// The same for an optional duration; absent and null are `None`.
pub mod option {
    use super::*;

    /// Serialises an optional duration.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&format(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads an optional duration.
    ///
    /// # Errors
    /// The text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_forms_are_read() {
        assert_eq!(parse("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "5", "s", "5 parsecs", "-1s", "1..2s", "5s!"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
