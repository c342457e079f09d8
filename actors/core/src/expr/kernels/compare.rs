//! Comparisons. Floats are compared as numbers (zero equals negative zero), which Arrow's total order does not do.

use std::sync::Arc;

use arrow_array::{Array, BooleanArray, cast::AsArray, types::Float64Type};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_ord::cmp;
use arrow_schema::DataType;

use crate::expr::{
    eval::{TYPED, Value, like_operands},
    plan::Comparison,
};

/// Compares two values of one type; null if either is.
pub(in crate::expr) fn compare(op: Comparison, left: &Value, right: &Value) -> Value {
    if left.array().data_type() == &DataType::Float64 {
        return match op {
            Comparison::Equal => doubles(left, right, |a, b| a == b),
            Comparison::NotEqual => doubles(left, right, |a, b| a != b),
            Comparison::Less => doubles(left, right, |a, b| a < b),
            Comparison::LessOrEqual => doubles(left, right, |a, b| a <= b),
            Comparison::Greater => doubles(left, right, |a, b| a > b),
            Comparison::GreaterOrEqual => doubles(left, right, |a, b| a >= b),
        };
    }
    if super::is_decimal(left.array()) {
        return super::decimal::compare(op, left, right);
    }
    let compared = match op {
        Comparison::Equal => cmp::eq(left, right),
        Comparison::NotEqual => cmp::neq(left, right),
        Comparison::Less => cmp::lt(left, right),
        Comparison::LessOrEqual => cmp::lt_eq(left, right),
        Comparison::Greater => cmp::gt(left, right),
        Comparison::GreaterOrEqual => cmp::gt_eq(left, right),
    };
    like_operands(&[left, right], Arc::new(compared.expect(TYPED)))
}

fn doubles(left: &Value, right: &Value, holds: impl Fn(f64, f64) -> bool) -> Value {
    let (a, b) = (left.array().as_primitive::<Float64Type>(), right.array().as_primitive::<Float64Type>());
    let (x, y) = (a.values(), b.values());
    let (bits, nulls) = match (left, right) {
        (Value::Array(_), Value::Constant(_)) => {
            let y = y[0];
            let bits = BooleanBuffer::collect_bool(x.len(), |row| holds(x[row], y));
            (bits, nulls_beside(a, b))
        }
        (Value::Constant(_), Value::Array(_)) => {
            let x = x[0];
            let bits = BooleanBuffer::collect_bool(y.len(), |row| holds(x, y[row]));
            (bits, nulls_beside(b, a))
        }
        (Value::Array(_), Value::Array(_)) | (Value::Constant(_), Value::Constant(_)) => {
            let bits = BooleanBuffer::collect_bool(x.len(), |row| holds(x[row], y[row]));
            (bits, NullBuffer::union(a.nulls(), b.nulls()))
        }
    };
    like_operands(&[left, right], Arc::new(BooleanArray::new(bits, nulls)))
}

fn nulls_beside(array: &dyn Array, constant: &dyn Array) -> Option<NullBuffer> {
    if constant.is_null(0) { Some(NullBuffer::new_null(array.len())) } else { array.nulls().cloned() }
}
