//! Column operations under SQL's rules, on top of Arrow's kernels: what Arrow calls an error is null here.

mod call;
mod compare;
mod decimal;
mod number;

use std::sync::Arc;

use arrow_arith::boolean;
use arrow_array::{Array, ArrayRef, BooleanArray, cast::AsArray};

use super::eval::{TYPED, Value};

pub(super) use call::call;
pub(super) use compare::compare;
pub(super) use decimal::{
    arithmetic as decimal_arithmetic, convert as to_decimal, is_decimal, to_double as decimal_to_double,
};
pub(super) use number::{arithmetic, negate};

/// Three-valued AND.
pub(super) fn and(left: Value, right: Value, len: usize) -> Value {
    logic(left, right, len, boolean::and_kleene)
}

/// Three-valued OR.
pub(super) fn or(left: Value, right: Value, len: usize) -> Value {
    logic(left, right, len, boolean::or_kleene)
}

/// Three-valued NOT.
pub(super) fn not(value: &Value) -> Value {
    value.with(Arc::new(boolean::not(value.array().as_boolean()).expect(TYPED)))
}

/// True where there is no value.
pub(super) fn is_null(value: &Value) -> Value {
    value.with(Arc::new(boolean::is_null(value.array()).expect(TYPED)))
}

/// A boolean array without nulls.
pub(super) fn null_as_false(array: &ArrayRef) -> BooleanArray {
    let array = array.as_boolean();
    match array.nulls() {
        Some(nulls) => BooleanArray::new(array.values() & nulls.inner(), None),
        None => array.clone(),
    }
}

type Kernel = fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, arrow_schema::ArrowError>;

fn logic(left: Value, right: Value, len: usize, kernel: Kernel) -> Value {
    if let (Value::Constant(left), Value::Constant(right)) = (&left, &right) {
        return Value::Constant(Arc::new(kernel(left.as_boolean(), right.as_boolean()).expect(TYPED)));
    }
    let (left, right) = (left.into_array(len), right.into_array(len));
    Value::Array(Arc::new(kernel(left.as_boolean(), right.as_boolean()).expect(TYPED)))
}
