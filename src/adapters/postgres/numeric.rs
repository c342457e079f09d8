//! Decimals as PostgreSQL has them: groups of four decimal digits (`numeric_send` in its `numeric.c`).

use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef},
};
use streamward_core::schema::{Decimal, decimal::MAX_PRECISION};

const DIGITS: usize = MAX_PRECISION as usize;
/// Groups of 38 digits, however the point cuts them.
const GROUPS: usize = 11;
const NEGATIVE: u16 = 0x4000;

/// A decimal on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numeric(pub Decimal);

impl Numeric {
    /// Appends it in binary form.
    pub fn write(self, out: &mut Vec<u8>) {
        let Decimal { unscaled, scale } = self.0;
        let mut digits = [0_u8; DIGITS];
        let mut left = unscaled.unsigned_abs();
        for digit in digits.iter_mut().rev() {
            *digit = (left % 10) as u8;
            left /= 10;
        }
        let (whole, fraction) = digits.split_at(DIGITS - usize::from(scale).min(DIGITS));
        let (mut groups, mut count) = ([0_i16; GROUPS], 0);
        let first = whole.len() % 4;
        let parts = [&whole[..first]].into_iter().chain(whole[first..].chunks(4)).filter(|part| !part.is_empty());
        for part in parts {
            groups[count] = part.iter().fold(0, |group, digit| group * 10 + i16::from(*digit));
            count += 1;
        }
        let point = count;
        for part in fraction.chunks(4) {
            let group = part.iter().fold(0, |group, digit| group * 10 + i16::from(*digit));
            groups[count] = group * 10_i16.pow(4 - part.len() as u32);
            count += 1;
        }
        let start = groups[..count].iter().position(|group| *group != 0).unwrap_or(count);
        let end = groups[..count].iter().rposition(|group| *group != 0).map_or(start, |last| last + 1);
        let weight = if start == end { 0 } else { point as i16 - 1 - start as i16 };
        let sign = if unscaled < 0 { NEGATIVE } else { 0 };
        out.extend_from_slice(&((end - start) as i16).to_be_bytes());
        out.extend_from_slice(&weight.to_be_bytes());
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&u16::from(scale).to_be_bytes());
        groups[start..end].iter().for_each(|group| out.extend_from_slice(&group.to_be_bytes()));
    }

    /// Of its binary form; none if it is no number, or has more than 38 digits.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.chunks_exact(2).map(|field| [field[0], field[1]]);
        let mut next = || fields.next();
        let (count, weight) = (i16::from_be_bytes(next()?), i32::from(i16::from_be_bytes(next()?)));
        let (sign, scale) = (u16::from_be_bytes(next()?), u16::from_be_bytes(next()?));
        let scale = u8::try_from(scale).ok().filter(|scale| *scale <= MAX_PRECISION)?;
        if sign != 0 && sign != NEGATIVE {
            return None;
        }
        let mut unscaled = 0_i128;
        for place in 0..i32::from(count) {
            let group = i128::from(i16::from_be_bytes(next()?));
            let exponent = 4 * (weight - place) + i32::from(scale);
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            unscaled = unscaled.checked_add(if exponent < 0 { group / power } else { group.checked_mul(power)? })?;
        }
        let unscaled = if sign == NEGATIVE { -unscaled } else { unscaled };
        Some(Self(Decimal { unscaled, scale }))
    }
}

impl Type<Postgres> for Numeric {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("numeric")
    }
}

impl PgHasArrayType for Numeric {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("_numeric")
    }
}

impl Encode<'_, Postgres> for Numeric {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let mut bytes = Vec::with_capacity(8 + 2 * GROUPS);
        self.write(&mut bytes);
        buffer.extend_from_slice(&bytes);
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for Numeric {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Self::read(value.as_bytes()?).ok_or_else(|| "no decimal of at most 38 digits".into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(unscaled: i128, scale: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        Numeric(Decimal { unscaled, scale }).write(&mut bytes);
        bytes
    }

    #[test]
    fn a_decimal_has_the_bytes_that_postgresql_sends() {
        // What `select numeric_send('-12345.678'::numeric)` and the like answer.
        assert_eq!(bytes(-12_345_678, 3), [0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1A, 0x7C]);
        assert_eq!(bytes(0, 2), [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(bytes(1, 5), [0, 1, 0xFF, 0xFE, 0, 0, 0, 5, 0x03, 0xE8]);
        assert_eq!(bytes(10_000, 0), [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn every_decimal_comes_back(unscaled in -(10_i128.pow(38) - 1)..10_i128.pow(38), scale in 0..=MAX_PRECISION) {
            let decimal = Numeric(Decimal { unscaled, scale });
            prop_assert_eq!(Numeric::read(&bytes(unscaled, scale)), Some(decimal));
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = Numeric::read(&bytes);
        }
    }
}
