//! Plan to arrays: every node is worked out for a whole batch at once.
//!
//! A part without columns stays one value ([`Value::Constant`]) for as long as possible, so that the kernels can take
//! their faster path for a comparison with a constant.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Datum, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt32Array,
    cast::AsArray,
    types::{Float32Type, Float64Type, Int32Type, Int64Type},
};
use arrow_schema::DataType;
use arrow_select::{take::take, zip::zip};

use super::{
    kernels,
    plan::{Case, Comparison, Node, Type},
};
use crate::schema::Scalar;

/// Why a kernel cannot fail here.
pub(super) const TYPED: &str = "types were checked when the expression was planned";

/// The values of a node for a batch.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// One value per record.
    Array(ArrayRef),
    /// One value for all records, as an array of length 1.
    Constant(ArrayRef),
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        match self {
            Self::Array(array) => (array.as_ref(), false),
            Self::Constant(array) => (array.as_ref(), true),
        }
    }
}

impl Value {
    pub(super) fn array(&self) -> &ArrayRef {
        match self {
            Self::Array(array) | Self::Constant(array) => array,
        }
    }

    /// An array with a value for each of `len` records.
    pub(super) fn into_array(self, len: usize) -> ArrayRef {
        match self {
            Self::Array(array) => array,
            Self::Constant(array) => take(&array, &UInt32Array::from(vec![0; len]), None).expect(TYPED),
        }
    }

    /// The same kind of value from another array.
    pub(super) fn with(&self, array: ArrayRef) -> Self {
        match self {
            Self::Array(_) => Self::Array(array),
            Self::Constant(_) => Self::Constant(array),
        }
    }

    fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }
}

/// A value per record, or one for all if no operand differs from record to record.
pub(super) fn like_operands(operands: &[&Value], array: ArrayRef) -> Value {
    if operands.iter().all(|operand| operand.is_constant()) { Value::Constant(array) } else { Value::Array(array) }
}

/// Works out `node` for the records of `batch`.
pub(super) fn evaluate(node: &Node, batch: &RecordBatch) -> Value {
    match node {
        Node::Column(index) => Value::Array(widened(batch.column(*index))),
        Node::Constant(ty, value) => Value::Constant(constant(*ty, value)),
        Node::ToDouble(operand) => {
            let value = evaluate(operand, batch);
            let doubles: Float64Array = if kernels::is_decimal(value.array()) {
                kernels::decimal_to_double(value.array())
            } else {
                value.array().as_primitive::<Int64Type>().unary(|integer| integer as f64)
            };
            value.with(Arc::new(doubles))
        }
        Node::ToDecimal(operand, to) => kernels::to_decimal(&evaluate(operand, batch), *to),
        Node::Exact(op, left, right, to) => {
            kernels::decimal_arithmetic(*op, &evaluate(left, batch), &evaluate(right, batch), *to)
        }
        Node::Negate(operand) => {
            let value = evaluate(operand, batch);
            value.with(kernels::negate(value.array()))
        }
        Node::Arithmetic(op, left, right) => kernels::arithmetic(*op, &evaluate(left, batch), &evaluate(right, batch)),
        Node::Compare(op, left, right) => kernels::compare(*op, &evaluate(left, batch), &evaluate(right, batch)),
        Node::All(terms) => fold(terms, batch, kernels::and),
        Node::Any(terms) => fold(terms, batch, kernels::or),
        Node::Not(operand) => kernels::not(&evaluate(operand, batch)),
        Node::IsNull(operand) => kernels::is_null(&evaluate(operand, batch)),
        Node::Between { value, low, high } => {
            let value = evaluate(value, batch);
            let above = kernels::compare(Comparison::GreaterOrEqual, &value, &evaluate(low, batch));
            let below = kernels::compare(Comparison::LessOrEqual, &value, &evaluate(high, batch));
            kernels::and(above, below, batch.num_rows())
        }
        Node::In(value, items) => {
            let value = evaluate(value, batch);
            let equal = items.iter().map(|item| kernels::compare(Comparison::Equal, &value, &evaluate(item, batch)));
            equal
                .reduce(|found, next| kernels::or(found, next, batch.num_rows()))
                .unwrap_or_else(|| Value::Constant(Arc::new(BooleanArray::from(vec![false]))))
        }
        Node::Like { text, pattern, case } => {
            let (text, pattern) = (evaluate(text, batch), evaluate(pattern, batch));
            let matched = match case {
                Case::Sensitive => arrow_string::like::like(&text, &pattern),
                Case::Insensitive => arrow_string::like::ilike(&text, &pattern),
            };
            like_operands(&[&text, &pattern], Arc::new(matched.expect(TYPED)))
        }
        Node::Case { operand, branches, otherwise } => {
            let operand = operand.as_ref().map(|operand| evaluate(operand, batch));
            let mut result = evaluate(otherwise, batch);
            for (condition, value) in branches.iter().rev() {
                let condition = evaluate(condition, batch);
                let taken = match &operand {
                    Some(operand) => kernels::compare(Comparison::Equal, operand, &condition),
                    None => condition,
                };
                result = choose(&taken, evaluate(value, batch), result, batch.num_rows());
            }
            result
        }
        Node::Call(function, arguments) => {
            let arguments = arguments.iter().map(|argument| evaluate(argument, batch)).collect();
            kernels::call(*function, arguments, batch.num_rows())
        }
    }
}

/// `value` where `taken` is true, else `otherwise`.
pub(super) fn choose(taken: &Value, value: Value, otherwise: Value, len: usize) -> Value {
    if let Value::Constant(taken) = taken {
        let taken = taken.as_boolean();
        return if taken.is_valid(0) && taken.value(0) { value } else { otherwise };
    }
    let taken = taken.clone().into_array(len);
    let (value, otherwise) = (value.into_array(len), otherwise.into_array(len));
    Value::Array(zip(taken.as_boolean(), &value, &otherwise).expect(TYPED))
}

fn fold(terms: &[Node], batch: &RecordBatch, combine: fn(Value, Value, usize) -> Value) -> Value {
    let values = terms.iter().map(|term| evaluate(term, batch));
    values.reduce(|left, right| combine(left, right, batch.num_rows())).expect("a chain has terms")
}

fn widened(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Int32 => Arc::new(column.as_primitive::<Int32Type>().unary::<_, Int64Type>(i64::from)),
        DataType::Float32 => Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float64Type>(f64::from)),
        _ => Arc::clone(column),
    }
}

fn constant(ty: Type, value: &Scalar) -> ArrayRef {
    match (ty, value) {
        (Type::Boolean | Type::Null, Scalar::Boolean(value)) => Arc::new(BooleanArray::from(vec![*value])),
        (Type::Boolean | Type::Null, _) => Arc::new(BooleanArray::from(vec![None])),
        (Type::Integer, Scalar::Integer(value)) => Arc::new(Int64Array::from(vec![*value])),
        (Type::Integer, _) => Arc::new(Int64Array::from(vec![None])),
        (Type::Double, Scalar::Number(value)) => Arc::new(Float64Array::from(vec![*value])),
        (Type::Double, _) => Arc::new(Float64Array::from(vec![None])),
        (Type::Text, Scalar::Text(value)) => Arc::new(StringArray::from(vec![value.as_str()])),
        (Type::Text, _) => Arc::new(StringArray::from(vec![None::<&str>])),
        (Type::Timestamp, Scalar::Integer(ms)) => {
            Arc::new(TimestampMillisecondArray::from(vec![*ms]).with_timezone("UTC"))
        }
        (Type::Decimal(of), value) => {
            let digits = if let Scalar::Decimal(value) = value { Some(value.unscaled) } else { None };
            let array = Decimal128Array::from(vec![digits]);
            Arc::new(array.with_precision_and_scale(of.precision, of.scale.cast_signed()).expect(TYPED))
        }
        (Type::Timestamp, _) => Arc::new(TimestampMillisecondArray::from(vec![None]).with_timezone("UTC")),
    }
}
