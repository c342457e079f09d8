//! Points in time as PostgreSQL has them: microseconds since 2000 in eight bytes.
//!
//! PostgreSQL's calendar ends in the years 4713 BC and 294276: what is beyond is put at its end. `-infinity` is the least
//! of all integers, which stands for "before any" here as well.

use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef},
};

/// 2000-01-01 in milliseconds since 1970.
const EPOCH_MS: i64 = 946_684_800_000;
/// The first and the last millisecond of the calendar, since 1970.
pub const MIN_MS: i64 = -210_866_803_200_000;
pub const MAX_MS: i64 = 9_224_318_015_999_999;

/// Milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// As PostgreSQL sends and takes it.
    #[must_use]
    pub fn to_micros(self) -> i64 {
        match self.0 {
            i64::MIN => i64::MIN,
            ms => (ms.clamp(MIN_MS, MAX_MS) - EPOCH_MS) * 1000,
        }
    }

    /// Of what PostgreSQL sends; `infinity` is the largest of all integers.
    #[must_use]
    pub fn of_micros(micros: i64) -> Self {
        match micros {
            i64::MIN | i64::MAX => Self(micros),
            micros => Self(micros.div_euclid(1000) + EPOCH_MS),
        }
    }

    /// Whether PostgreSQL has that moment.
    #[must_use]
    pub fn is_in_range(self) -> bool {
        (MIN_MS..=MAX_MS).contains(&self.0)
    }
}

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl PgHasArrayType for Moment {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("_timestamptz")
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.to_micros().to_be_bytes());
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for Moment {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => Ok(Self::of_micros(i64::from_be_bytes(value.as_bytes()?.try_into()?))),
            PgValueFormat::Text => Err("times are asked for in binary form".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_of_the_calendar_comes_back_and_what_is_beyond_is_at_its_end() {
        for ms in [MIN_MS, MIN_MS + 1, -1, 0, 1, EPOCH_MS, MAX_MS - 1, MAX_MS, i64::MIN] {
            assert_eq!(Moment::of_micros(Moment(ms).to_micros()), Moment(ms));
        }
        assert_eq!(Moment::of_micros(Moment(i64::MAX).to_micros()), Moment(MAX_MS));
        assert_eq!(Moment::of_micros(Moment(MIN_MS - 1).to_micros()), Moment(MIN_MS));
    }
}
