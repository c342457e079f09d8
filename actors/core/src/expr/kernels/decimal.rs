//! Decimals: compared and computed exactly, whatever their scales, in 256 bits. A result that its type cannot hold is null.

use std::{cmp::Ordering, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array,
    cast::AsArray,
    types::{Decimal128Type, Int64Type},
};
use arrow_buffer::i256;
use arrow_schema::DataType;

use crate::{
    expr::{
        eval::{TYPED, Value, like_operands},
        functions::Function,
        plan::{Arithmetic, Comparison, DecimalType},
    },
    schema::{
        Decimal,
        decimal::{MAX_PRECISION, MAX_TEXT, fits, power_of_ten},
    },
};

/// Compares two decimals; null if either is.
pub(super) fn compare(op: Comparison, left: &Value, right: &Value) -> Value {
    let holds = match op {
        Comparison::Equal => Ordering::is_eq,
        Comparison::NotEqual => Ordering::is_ne,
        Comparison::Less => Ordering::is_lt,
        Comparison::LessOrEqual => Ordering::is_le,
        Comparison::Greater => Ordering::is_gt,
        Comparison::GreaterOrEqual => Ordering::is_ge,
    };
    let (a, b) = (type_of(left.array()).scale, type_of(right.array()).scale);
    let scale = a.max(b);
    let pairs = pairs(left, right);
    let compared: BooleanArray = if a == b {
        pairs.map(|(x, y)| Some(holds(x?.cmp(&y?)))).collect()
    } else {
        pairs.map(|(x, y)| Some(holds(wide(x?, scale - a).cmp(&wide(y?, scale - b))))).collect()
    };
    like_operands(&[left, right], Arc::new(compared))
}

/// Computes with two decimals; the result is of type `to`, which [`DecimalType::of_result`] gives.
pub(in crate::expr) fn arithmetic(op: Arithmetic, left: &Value, right: &Value, to: DecimalType) -> Value {
    let (a, b) = (type_of(left.array()).scale, type_of(right.array()).scale);
    let compute = |x: i128, y: i128| match op {
        Arithmetic::Multiply => i256::from_i128(x).checked_mul(i256::from_i128(y)),
        Arithmetic::Divide => quotient(wide_checked(x, (to.scale + b).checked_sub(a)?)?, i256::from_i128(y)),
        Arithmetic::Add => wide(x, to.scale - a).checked_add(wide(y, to.scale - b)),
        Arithmetic::Subtract => wide(x, to.scale - a).checked_sub(wide(y, to.scale - b)),
        Arithmetic::Remainder => wide(x, to.scale - a).checked_rem(wide(y, to.scale - b)),
    };
    let results = pairs(left, right).map(|(x, y)| narrow(compute(x?, y?)?, to.precision));
    like_operands(&[left, right], array(results, to))
}

/// Whole numbers or decimals as decimals of another type; nothing is rounded.
pub(in crate::expr) fn convert(value: &Value, to: DecimalType) -> Value {
    let scaled =
        |unscaled: i128, scale: u8| narrow(wide_checked(unscaled, to.scale.checked_sub(scale)?)?, to.precision);
    let source = value.array();
    value.with(match source.data_type() {
        DataType::Int64 => {
            array(source.as_primitive::<Int64Type>().iter().map(|whole| scaled(i128::from(whole?), 0)), to)
        }
        _ => {
            let scale = type_of(source).scale;
            array(source.as_primitive::<Decimal128Type>().iter().map(|value| scaled(value?, scale)), to)
        }
    })
}

/// The nearest floats.
pub(in crate::expr) fn to_double(source: &ArrayRef) -> Float64Array {
    let scale = type_of(source).scale;
    let nearest = |unscaled: i128| Decimal { unscaled, scale }.text(&mut [0; MAX_TEXT]).parse::<f64>().ok();
    source.as_primitive::<Decimal128Type>().unary_opt(nearest)
}

/// Minus each value.
pub(super) fn negate(source: &ArrayRef) -> ArrayRef {
    array(source.as_primitive::<Decimal128Type>().iter().map(|value| value?.checked_neg()), type_of(source))
}

/// Functions of one decimal, the last with `decimals` places.
pub(super) fn of_one(function: Function, source: &ArrayRef, decimals: u8) -> ArrayRef {
    let from = type_of(source);
    let values = source.as_primitive::<Decimal128Type>().iter();
    if function == Function::Abs {
        return array(values.map(|value| value?.checked_abs()), from);
    }
    if decimals >= from.scale {
        return Arc::clone(source);
    }
    let to = from.rounded(decimals);
    let step = power_of_ten(from.scale - decimals).expect("a scale is at most 38");
    let rounded = values.map(|value| {
        let value = value?;
        Some(match function {
            Function::Floor => value.div_euclid(step),
            Function::Ceil => -(-value).div_euclid(step),
            _ => {
                let rest = value % step;
                let away = if rest.unsigned_abs() >= step.unsigned_abs().div_ceil(2) { value.signum() } else { 0 };
                value / step + away
            }
        })
    });
    array(rounded, to)
}

/// Whether an array holds decimals.
pub(in crate::expr) fn is_decimal(array: &ArrayRef) -> bool {
    matches!(array.data_type(), DataType::Decimal128(..))
}

fn type_of(array: &ArrayRef) -> DecimalType {
    match array.data_type() {
        DataType::Decimal128(precision, scale) => DecimalType { precision: *precision, scale: scale.unsigned_abs() },
        _ => DecimalType { precision: MAX_PRECISION, scale: 0 },
    }
}

/// The operands of each record, or of all if both are constants.
fn pairs<'a>(left: &'a Value, right: &'a Value) -> impl Iterator<Item = (Option<i128>, Option<i128>)> + 'a {
    let len = match (left, right) {
        (Value::Array(array), _) | (_, Value::Array(array)) => array.len(),
        (Value::Constant(_), Value::Constant(_)) => 1,
    };
    let at = |side: &'a Value| {
        let (values, is_constant) = (side.array().as_primitive::<Decimal128Type>(), matches!(side, Value::Constant(_)));
        move |row: usize| {
            let row = if is_constant { 0 } else { row };
            values.is_valid(row).then(|| values.value(row))
        }
    };
    let (left, right) = (at(left), at(right));
    (0..len).map(move |row| (left(row), right(row)))
}

/// A value of at most 38 digits with up to 38 zeros behind it.
fn wide(unscaled: i128, zeros: u8) -> i256 {
    i256::from_i128(unscaled).wrapping_mul(i256::from_i128(power_of_ten(zeros).unwrap_or(1)))
}

/// Likewise with up to 76 zeros; none where 256 bits are too few.
fn wide_checked(unscaled: i128, zeros: u8) -> Option<i256> {
    let first = zeros.min(MAX_PRECISION);
    let rest = i256::from_i128(power_of_ten(zeros - first)?);
    i256::from_i128(unscaled).checked_mul(i256::from_i128(power_of_ten(first)?))?.checked_mul(rest)
}

/// Rounded, halves away from zero.
fn quotient(dividend: i256, divisor: i256) -> Option<i256> {
    let (whole, rest) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
    let is_half = rest.wrapping_abs().wrapping_add(rest.wrapping_abs()) >= divisor.wrapping_abs();
    let sign = if (dividend < i256::ZERO) == (divisor < i256::ZERO) { i256::ONE } else { i256::MINUS_ONE };
    if is_half { whole.checked_add(sign) } else { Some(whole) }
}

fn narrow(value: i256, precision: u8) -> Option<i128> {
    value.to_i128().filter(|value| fits(*value, precision))
}

fn array(values: impl Iterator<Item = Option<i128>>, of: DecimalType) -> ArrayRef {
    let array = values.collect::<Decimal128Array>();
    Arc::new(array.with_precision_and_scale(of.precision, of.scale.cast_signed()).expect(TYPED))
}
