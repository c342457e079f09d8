//! Constants of an expression.

use sqlparser::ast::{DataType, Expr, TypedString, Value};

use super::{Builder, Typed};
use crate::{
    expr::{
        error::ExprError,
        plan::{Node, Type},
    },
    schema::{Decimal, Scalar, instant},
};

impl<'a> Builder<'a> {
    pub(super) fn literal(&self, at: &Expr, value: &Value) -> Result<Typed<'a>, ExprError> {
        match value {
            Value::Number(digits, _) => self.number(at, digits),
            Value::SingleQuotedString(text) => Ok(constant(Type::Text, Scalar::Text(text.clone()))),
            Value::Boolean(value) => Ok(constant(Type::Boolean, Scalar::Boolean(*value))),
            Value::Null => Ok(constant(Type::Null, Scalar::Null)),
            _ => Err(self.error(at, format!("'{value}' is not supported; write a text as 'text'"))),
        }
    }

    pub(super) fn typed_literal(&self, at: &Expr, literal: &TypedString) -> Result<Typed<'a>, ExprError> {
        let text = match (&literal.data_type, &literal.value.value) {
            (DataType::Timestamp(..) | DataType::Datetime(_) | DataType::Date, Value::SingleQuotedString(text)) => text,
            _ => return Err(self.error(at, "only TIMESTAMP '…' and DATE '…' are supported as typed literals")),
        };
        self.as_timestamp(at, constant(Type::Text, Scalar::Text(text.clone())))
    }

    /// A text constant as a timestamp; anything else stays as it is.
    pub(super) fn as_timestamp(&self, at: &Expr, typed: Typed<'a>) -> Result<Typed<'a>, ExprError> {
        let Node::Constant(_, Scalar::Text(text)) = &typed.node else { return Ok(typed) };
        match timestamp_ms(text) {
            Some(ms) => Ok(constant(Type::Timestamp, Scalar::Integer(ms))),
            None => Err(self.error(at, format!("'{text}' is no timestamp such as 2026-01-31T12:00:00Z"))),
        }
    }

    fn number(&self, at: &Expr, digits: &str) -> Result<Typed<'a>, ExprError> {
        // With an exponent it is a float, as in SQL.
        let exact = Decimal::parse(digits).filter(|_| !digits.contains(['e', 'E']));
        if let Ok(value) = digits.parse() {
            return Ok(Typed { exact, ..constant(Type::Integer, Scalar::Integer(value)) });
        }
        match digits.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Typed { exact, ..constant(Type::Double, Scalar::Number(value)) }),
            Ok(_) | Err(_) => Err(self.error(at, format!("'{digits}' is no number that a double can hold"))),
        }
    }
}

fn constant(ty: Type, value: Scalar) -> Typed<'static> {
    Typed::new(Node::Constant(ty, value), ty)
}

/// RFC 3339, or without an offset (then UTC), or a date alone.
fn timestamp_ms(text: &str) -> Option<i64> {
    instant::parse(text).or_else(|| instant::parse(&format!("{text}T00:00:00")))
}
