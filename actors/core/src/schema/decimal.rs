//! Decimals: a whole number of up to 38 digits and the place of its point. Never a float, so that nothing is rounded.
//!
//! Not a calculator: [`crate::expr`] computes with them. Own code because it runs once per value, on borrowed bytes and
//! without allocating.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most digits of a decimal.
pub const MAX_PRECISION: u8 = 38;
/// Longest text of a decimal: a sign, 38 digits, a point and a zero in front of it.
pub const MAX_TEXT: usize = 41;

/// A decimal: `unscaled` · 10^-`scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decimal {
    /// Its digits as a whole number.
    pub unscaled: i128,
    /// How many of the digits are behind the point, at most [`MAX_PRECISION`].
    pub scale: u8,
}

/// Why a text is no decimal of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalFault {
    /// It is no number.
    NoNumber,
    /// It has digits behind the last place of the type.
    TooManyDecimals,
    /// It has more digits before the point than the type.
    OutOfRange,
}

impl Decimal {
    /// Reads a number as JSON writes it (`-12.50`, `1e3`) with the fewest decimals that hold it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = Digits::of(text.as_bytes())?;
        let scale = u8::try_from((-digits.exponent).max(0)).ok().filter(|scale| *scale <= MAX_PRECISION)?;
        let unscaled = digits.at(scale, MAX_PRECISION).ok()?;
        Some(Self { unscaled, scale })
    }

    /// The digits of a number with exactly `scale` decimals, at most `precision` digits in all. Nothing is rounded.
    ///
    /// # Errors
    /// [`DecimalFault`] says why the text has no such value.
    pub fn parse_as(text: &str, precision: u8, scale: u8) -> Result<i128, DecimalFault> {
        Digits::of(text.as_bytes()).ok_or(DecimalFault::NoNumber)?.at(scale, precision)
    }

    /// The same value with another number of decimals; none where digits would get lost or 38 digits are too few.
    #[must_use]
    pub fn rescaled(self, scale: u8) -> Option<Self> {
        let unscaled = if scale >= self.scale {
            self.unscaled.checked_mul(power_of_ten(scale - self.scale)?)?
        } else {
            let divisor = power_of_ten(self.scale - scale)?;
            (self.unscaled % divisor == 0).then_some(self.unscaled / divisor)?
        };
        fits(unscaled, MAX_PRECISION).then_some(Self { unscaled, scale })
    }

    /// Digits that it has, without zeros in front, but at least as many as it has decimals.
    #[must_use]
    pub fn precision(self) -> u8 {
        let digits = self.unscaled.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1);
        u8::try_from(digits).unwrap_or(MAX_PRECISION).max(self.scale).max(1)
    }

    /// The decimal as text with all its decimals, such as `-12.50`.
    pub fn text(self, buffer: &mut [u8; MAX_TEXT]) -> &str {
        let mut rest = self.unscaled.unsigned_abs();
        let (mut start, mut written) = (MAX_TEXT, 0);
        let mut push = |byte: u8| {
            start = start.saturating_sub(1);
            buffer[start] = byte;
        };
        while rest > 0 || written <= self.scale {
            if written == self.scale && written > 0 {
                push(b'.');
            }
            push(b'0' + u8::try_from(rest % 10).expect("a digit fits a byte"));
            rest /= 10;
            written += 1;
        }
        if self.unscaled < 0 {
            push(b'-');
        }
        std::str::from_utf8(&buffer[start..]).expect("digits, a point and a sign are ASCII")
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text(&mut [0; MAX_TEXT]))
    }
}

/// Whether a number has at most `precision` digits.
#[must_use]
pub fn fits(unscaled: i128, precision: u8) -> bool {
    power_of_ten(precision).is_none_or(|limit| unscaled.unsigned_abs() < limit.unsigned_abs())
}

/// 10 to the power of `exponent`; none above 38.
#[must_use]
pub fn power_of_ten(exponent: u8) -> Option<i128> {
    10_i128.checked_pow(u32::from(exponent))
}

/// A number from its big-endian two's complement, as Avro writes it; none above 128 bits.
#[must_use]
pub fn from_be_bytes(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xFF } else { 0 };
    let extra = bytes.len().saturating_sub(16);
    let (extra, low) = bytes.split_at(extra);
    let mut all = [sign; 16];
    all[16 - low.len()..].copy_from_slice(low);
    let value = i128::from_be_bytes(all);
    let is_extended = extra.iter().all(|byte| *byte == sign) && (value < 0) == (sign == 0xFF);
    is_extended.then_some(value)
}

/// A number's big-endian two's complement in as few bytes as hold it, as Avro writes it.
#[must_use]
pub fn be_bytes(unscaled: i128) -> ([u8; 16], usize) {
    let unused = if unscaled < 0 { unscaled.leading_ones() } else { unscaled.leading_zeros() };
    let start = usize::try_from(unused.saturating_sub(1) / 8).map_or(0, |start| start.min(15));
    (unscaled.to_be_bytes(), start)
}

/// The digits of a written number without zeros at either end: `digits` · 10^`exponent`.
struct Digits<'a> {
    is_negative: bool,
    /// With a point among them, at most.
    digits: &'a [u8],
    count: usize,
    exponent: i64,
}

impl<'a> Digits<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let end = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
        let (mantissa, power) = text.split_at(end);
        let power = match power {
            [] => 0,
            [_, rest @ ..] => exponent(rest)?,
        };
        let point = mantissa.iter().position(|byte| *byte == b'.');
        let (whole, fraction) = match point {
            Some(point) => (&mantissa[..point], &mantissa[point + 1..]),
            None => (mantissa, &mantissa[mantissa.len()..]),
        };
        let are_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        if whole.is_empty() || (point.is_some() && fraction.is_empty()) || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let first = mantissa.iter().position(|byte| matches!(byte, b'1'..=b'9'));
        let Some(first) = first else { return Some(Self { is_negative, digits: &[], count: 0, exponent: 0 }) };
        let last = mantissa.iter().rposition(|byte| matches!(byte, b'1'..=b'9'))?;
        let has_point = point.is_some_and(|point| (first..last).contains(&point));
        let places = |from: usize, to: usize| i64::try_from(to - from).ok();
        // Of the last digit's place.
        let place = match point {
            Some(point) if last > point => -places(point, last)?,
            Some(point) => places(last, point)? - 1,
            None => places(last, mantissa.len())? - 1,
        };
        Some(Self {
            is_negative,
            digits: &mantissa[first..=last],
            count: last - first + 1 - usize::from(has_point),
            exponent: place.saturating_add(power),
        })
    }

    fn at(&self, scale: u8, precision: u8) -> Result<i128, DecimalFault> {
        if self.count == 0 {
            return Ok(0);
        }
        let shift = self.exponent.saturating_add(i64::from(scale));
        if shift < 0 {
            return Err(DecimalFault::TooManyDecimals);
        }
        let shift = u8::try_from(shift).ok().and_then(power_of_ten).ok_or(DecimalFault::OutOfRange)?;
        if self.count > usize::from(MAX_PRECISION) {
            return Err(DecimalFault::OutOfRange);
        }
        let digits = self.digits.iter().filter(|byte| **byte != b'.');
        let magnitude = digits.fold(0_i128, |sum, byte| sum * 10 + i128::from(byte - b'0'));
        let magnitude = magnitude.checked_mul(shift).filter(|value| fits(*value, precision));
        let magnitude = magnitude.ok_or(DecimalFault::OutOfRange)?;
        Ok(if self.is_negative { -magnitude } else { magnitude })
    }
}

/// The power of ten behind the `e`; far beyond any decimal it is brought to the nearest end.
fn exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] | rest => (1, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let add = |sum: i64, byte: &u8| byte.is_ascii_digit().then(|| (sum * 10 + i64::from(byte - b'0')).min(1 << 40));
    digits.iter().try_fold(0, add).map(|power| sign * power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

    #[test]
    fn a_number_is_read_from_its_digits_alone() {
        for (text, precision, scale, digits) in [
            ("12.5", 10, 2, Ok(1250)),
            ("-12.50", 10, 2, Ok(-1250)),
            ("0.1", 38, 38, Ok(10_i128.pow(37))),
            ("1e3", 10, 2, Ok(100_000)),
            ("1250E-2", 10, 2, Ok(1250)),
            ("0.00", 1, 0, Ok(0)),
            ("-0", 1, 0, Ok(0)),
            ("0e999999999999999999999", 1, 0, Ok(0)),
            ("1.000000000000000000000000000000000000000000000", 1, 0, Ok(1)),
            ("99999999999999999999999999999999999999", 38, 0, Ok(MOST)),
            ("-0.99999999999999999999999999999999999999", 38, 38, Ok(-MOST)),
            ("100", 2, 0, Err(DecimalFault::OutOfRange)),
            ("1e40", 38, 0, Err(DecimalFault::OutOfRange)),
            ("100000000000000000000000000000000000000", 38, 0, Err(DecimalFault::OutOfRange)),
            ("1e-40", 38, 38, Err(DecimalFault::TooManyDecimals)),
            ("12.505", 10, 2, Err(DecimalFault::TooManyDecimals)),
        ] {
            assert_eq!(Decimal::parse_as(text, precision, scale), digits, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", "+1", ".5", "5.", "1e", "1e+", "1.2.3", "0x1", "NaN", "1 ", "१", "1,5", "--1"] {
            assert_eq!(Decimal::parse_as(text, 38, 0), Err(DecimalFault::NoNumber), "{text}");
        }
    }

    #[test]
    fn bytes_beyond_128_bits_are_a_number_only_if_they_repeat_its_sign() {
        assert_eq!(from_be_bytes(&[]), Some(0));
        assert_eq!(from_be_bytes(&[0xFF; 40]), Some(-1));
        assert_eq!(from_be_bytes(&[&[0; 20][..], &[5]].concat()), Some(5));
        assert_eq!(from_be_bytes(&[&[1][..], &[0; 16]].concat()), None);
        assert_eq!(from_be_bytes(&[&[0][..], &[0x80], &[0; 15]].concat()), None);
    }

    proptest! {
        #[test]
        fn a_written_decimal_reads_back(unscaled in -MOST..=MOST, scale in 0_u8..=38) {
            let decimal = Decimal { unscaled, scale };
            prop_assert_eq!(Decimal::parse_as(&decimal.to_string(), 38, scale), Ok(unscaled));
            let shortest = Decimal::parse(&decimal.to_string());
            prop_assert_eq!(shortest.and_then(|shortest| shortest.rescaled(scale)), Some(decimal));
        }

        #[test]
        fn bytes_give_their_number_back_and_none_is_too_many(unscaled in prop_oneof![any::<i128>(), (-70_000_i128..70_000)]) {
            let (bytes, start) = be_bytes(unscaled);
            prop_assert_eq!(from_be_bytes(&bytes[start..]), Some(unscaled));
            prop_assert!(start == 15 || from_be_bytes(&bytes[start + 1..]) != Some(unscaled));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[-+.eE0-9a]{0,60}", scale in 0_u8..=38) {
            let _ = (Decimal::parse(&text), Decimal::parse_as(&text, 38, scale));
        }
    }
}
