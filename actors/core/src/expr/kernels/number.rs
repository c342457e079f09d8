//! Arithmetic in which a result without a value is null: division by zero, integer overflow, floats beyond their range.

use std::sync::Arc;

use arrow_arith::numeric;
use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use arrow_schema::DataType;

use crate::expr::{
    eval::{TYPED, Value, like_operands},
    plan::Arithmetic,
};

/// Computes with two values of one numeric type.
pub(in crate::expr) fn arithmetic(op: Arithmetic, left: &Value, right: &Value) -> Value {
    let kernel = match op {
        Arithmetic::Add => numeric::add,
        Arithmetic::Subtract => numeric::sub,
        Arithmetic::Multiply => numeric::mul,
        Arithmetic::Divide => numeric::div,
        Arithmetic::Remainder => numeric::rem,
    };
    let result = match kernel(left, right) {
        Ok(array) if array.data_type() == &DataType::Float64 => finite(array.as_primitive::<Float64Type>()),
        Ok(array) => array,
        Err(_) => one_by_one(op, left, right),
    };
    like_operands(&[left, right], result)
}

/// Minus each value.
pub(in crate::expr) fn negate(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => numeric::neg(array).expect(TYPED),
        DataType::Decimal128(..) => super::decimal::negate(array),
        _ => Arc::new(array.as_primitive::<Int64Type>().unary_opt::<_, Int64Type>(i64::checked_neg)),
    }
}

/// The values with null for infinities and what is not a number.
pub(super) fn finite(array: &Float64Array) -> ArrayRef {
    if array.values().iter().all(|value| value.is_finite()) {
        return Arc::new(array.clone());
    }
    Arc::new(array.unary_opt::<_, Float64Type>(|value| value.is_finite().then_some(value)))
}

/// Arrow's checked kernels give up a whole batch for one overflow or zero divisor; this finds the records.
fn one_by_one(op: Arithmetic, left: &Value, right: &Value) -> ArrayRef {
    let checked = match op {
        Arithmetic::Add => i64::checked_add,
        Arithmetic::Subtract => i64::checked_sub,
        Arithmetic::Multiply => i64::checked_mul,
        Arithmetic::Divide => i64::checked_div,
        Arithmetic::Remainder => i64::checked_rem,
    };
    let (a, b) = (left.array().as_primitive::<Int64Type>(), right.array().as_primitive::<Int64Type>());
    let len = match (left, right) {
        (Value::Array(array), _) | (_, Value::Array(array)) => array.len(),
        (Value::Constant(_), Value::Constant(_)) => 1,
    };
    let at = |side: &Value, array: &Int64Array, row: usize| {
        let index = if matches!(side, Value::Constant(_)) { 0 } else { row };
        array.is_valid(index).then(|| array.value(index))
    };
    let results = (0..len).map(|row| checked(at(left, a, row)?, at(right, b, row)?));
    Arc::new(results.collect::<Int64Array>())
}
