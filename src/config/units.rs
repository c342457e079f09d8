//! Values with a unit: durations (`1h30m`), sizes (`64KiB`) and listen addresses.
//!
//! Invariant: `Display` writes what `FromStr` reads, so a printed config can be read again.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// What a text of each type looks like, for messages and the schema.
const DURATION: &str = "a duration such as 100ms, 5s, 1h30m or 7d";
const SIZE: &str = "a size such as 512B, 64KiB, 4MiB or 8GiB";
const ADDRESS: &str = "an address with a port, such as 127.0.0.1:8000, localhost:0 or [::1]:8000";
/// Longest duration that is read: a hundred years.
const MAX_DURATION_MS: u64 = 36_525 * 86_400_000;

/// A length of time of whole milliseconds, at most a hundred years, written as `5s`, `100ms`, `1h30m` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    /// That many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// That many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Whole milliseconds; fits because of the hundred-year limit.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether it is `0s`.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<HumanDuration> for Duration {
    fn from(value: HumanDuration) -> Self {
        value.0
    }
}

impl FromStr for HumanDuration {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut rest = text.trim();
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(Malformed::Form(DURATION));
        }
        while !rest.is_empty() {
            let (number, after) = split_number(rest).ok_or(Malformed::Form(DURATION))?;
            let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, tail) = after.split_at(letters);
            let (_, millis) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or(Malformed::Form(DURATION))?;
            total = total.saturating_add(number.saturating_mul(*millis));
            rest = tail;
        }
        if total > MAX_DURATION_MS {
            return Err(Malformed::beyond(text, &Self::default(), &Self::from_millis(MAX_DURATION_MS)));
        }
        Ok(Self::from_millis(total))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in DURATION_UNITS {
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

/// A number of bytes, written with a binary unit: `512B`, `64KiB`, `8GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// That many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many KiB.
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// That many MiB.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// That many GiB.
    pub const fn gib(gib: u64) -> Self {
        Self(gib << 30)
    }

    /// Bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Bytes as an index type, capped at what the machine can address.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (number, unit) = split_number(text.trim()).ok_or(Malformed::Form(SIZE))?;
        let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or(Malformed::Form(SIZE))?;
        let most = Self(u64::MAX >> 40 << 40);
        let size = number.checked_mul(*bytes).map(Self).filter(|size| *size <= most);
        size.ok_or_else(|| Malformed::beyond(text, &Self::default(), &most))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SIZE_UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match whole {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Where a server listens: `address:port`, with `localhost` for 127.0.0.1 and port 0 for any free port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenAddr(SocketAddr);

impl ListenAddr {
    /// A port on 127.0.0.1.
    pub const fn loopback(port: u16) -> Self {
        Self(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port))
    }

    /// As the standard library's type.
    pub const fn get(self) -> SocketAddr {
        self.0
    }

    /// Whether only this machine can connect.
    pub const fn is_loopback(self) -> bool {
        self.0.ip().is_loopback()
    }
}

impl FromStr for ListenAddr {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let text = text.trim();
        let full = match text.strip_prefix("localhost:") {
            Some(port) => Cow::Owned(format!("127.0.0.1:{port}")),
            None => Cow::Borrowed(text),
        };
        full.parse().map(Self).map_err(|_| Malformed::Form(ADDRESS))
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not a value of the type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It has another form than this one.
    #[error("expected {0}")]
    Form(&'static str),
    /// It says more than a value of the type can be: the message has the text and the range.
    #[error("{0}")]
    Beyond(String),
}

impl Malformed {
    fn beyond(text: &str, least: &impl fmt::Display, greatest: &impl fmt::Display) -> Self {
        Self::Beyond(format!("{} is not between {least} and {greatest}", text.trim()))
    }
}

/// The digits that a text begins with, as a number, and the rest; none if it begins with something else.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    // More digits than a number has are more than anything can be.
    (!digits.is_empty()).then(|| (digits.parse().unwrap_or(u64::MAX), rest))
}

struct Parse<T> {
    expecting: &'static str,
    made: std::marker::PhantomData<T>,
}

impl<T: FromStr<Err = Malformed>> Visitor<'_> for Parse<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|error| match error {
            Malformed::Form(_) => E::invalid_value(Unexpected::Str(text), &self),
            Malformed::Beyond(_) => E::custom(error),
        })
    }
}

macro_rules! as_text {
    ($type:ty, $name:literal, $expecting:expr, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parse {
                    expecting: $expecting,
                    made: std::marker::PhantomData,
                })
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $expecting, "pattern": $pattern })
            }
        }
    };
}

as_text!(HumanDuration, "Duration", DURATION, r"^\s*([0-9]+(ms|s|m|h|d))+\s*$|\$\{");
as_text!(ByteSize, "Size", SIZE, r"^\s*[0-9]+\s*(B|KiB|MiB|GiB|TiB)\s*$|\$\{");
as_text!(ListenAddr, "ListenAddress", ADDRESS, r":[0-9]+\s*$|\$\{");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_in_the_same_form() {
        for (text, millis) in [("0s", 0), ("100ms", 100), ("5s", 5_000), ("1h30m", 5_400_000), ("7d", 604_800_000)] {
            let read: HumanDuration = text.parse().unwrap();
            assert_eq!(read.as_millis(), millis, "{text}");
            assert_eq!(read.to_string(), text);
        }
        assert_eq!(HumanDuration::from_secs(90).to_string(), "1m30s");
    }

    #[test]
    fn malformed_durations_are_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "5sec", "99999999999999999999"] {
            assert_eq!(text.parse::<HumanDuration>(), Err(Malformed::Form(DURATION)), "{text}");
        }
    }

    #[test]
    fn a_duration_or_size_beyond_its_range_is_told_with_the_range_and_the_given_value() {
        for text in ["40000d", " 36525d1ms", "99999999999999999999s", "1d18446744073709551615ms"] {
            let told = text.parse::<HumanDuration>().unwrap_err().to_string();
            assert_eq!(told, format!("{} is not between 0s and 36525d", text.trim()));
        }
        assert_eq!("36525d".parse(), Ok(HumanDuration::from_secs(36_525 * 86_400)));
        for text in ["99999999TiB", "99999999999999999999B"] {
            let told = text.parse::<ByteSize>().unwrap_err().to_string();
            assert_eq!(told, format!("{text} is not between 0B and 16777215TiB"));
        }
    }

    #[test]
    fn sizes_read_and_print_in_the_same_form() {
        for (text, bytes) in [("512B", 512), ("64KiB", 65_536), ("8GiB", 8 << 30), ("0B", 0)] {
            let read: ByteSize = text.parse().unwrap();
            assert_eq!(read.get(), bytes, "{text}");
            assert_eq!(read.to_string(), text);
        }
        assert_eq!(ByteSize::bytes(1500).to_string(), "1500B");
        for text in ["", "8", "8GB", "-1B", "GiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(Malformed::Form(SIZE)), "{text}");
        }
    }

    #[test]
    fn listen_addresses_take_localhost_and_refuse_a_missing_port() {
        assert_eq!("localhost:0".parse(), Ok(ListenAddr::loopback(0)));
        assert!("[::1]:80".parse::<ListenAddr>().unwrap().is_loopback());
        assert!(!"0.0.0.0:80".parse::<ListenAddr>().unwrap().is_loopback());
        assert!("127.0.0.1".parse::<ListenAddr>().is_err());
        assert!("example.org:80".parse::<ListenAddr>().is_err());
    }
}
