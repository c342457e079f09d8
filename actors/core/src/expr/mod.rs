//! SQL expressions over the columns of a stream: text → typed plan → Arrow arrays.
//!
//! [`ScalarExpr`] yields one value per record, [`Aggregate`] one value per group of records. Both are checked against
//! the stream's schema when they are parsed; evaluation cannot fail.
//!
//! Rules that hold everywhere:
//! - `Int` and `Long` are computed as 64-bit integers, `Float` and `Double` as 64-bit floats; mixed, as floats.
//! - A result that has no value is null, never an error: division by zero, integer overflow, a float that would be
//!   infinite or not a number. Integer division truncates.
//! - Comparisons with null are null; `AND`, `OR` and `NOT` follow three-valued logic; a filter takes null as false.
//! - Zero equals negative zero.
//! - A name means a column, or the path of a leaf (`metadata.battery_level`); case matters only in double quotes.
//!
//! It is not a query language: no subqueries, no joins, no casts, no user functions.
//!
//! Start with `plan.rs` (what an expression becomes), then `build.rs` (syntax to plan) and `eval.rs` (plan to arrays).

mod aggregate;
mod build;
mod definition;
mod error;
mod eval;
mod functions;
mod kernels;
mod plan;
mod scope;
mod syntax;

#[cfg(test)]
mod decimal_tests;
#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};

pub use aggregate::{Aggregate, AggregateFunction};
pub use error::{ExprError, PlanFault};
pub use functions::FUNCTIONS;
pub use scope::scope_of;
pub use syntax::{MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH};

pub(crate) use error::suggestion;

use crate::schema::{Kind, StreamSchema};
use build::Builder;
use plan::{Node, Type};

/// A text that a person wrote in several lines, in one.
pub(crate) fn in_a_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// An expression with one value per record.
#[derive(Debug, Clone)]
pub struct ScalarExpr {
    text: Arc<str>,
    node: Node,
    kind: Kind,
}

/// Two expressions are equal if they compute the same, however they are written.
impl PartialEq for ScalarExpr {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

impl ScalarExpr {
    /// Parses and checks an expression over the columns of `schema`.
    ///
    /// # Errors
    /// If the text is no expression, names an unknown column or function, or its types do not fit.
    pub fn parse(text: &str, schema: &StreamSchema) -> Result<Self, ExprError> {
        let expr = syntax::parse(text)?;
        let typed = Builder::new(text, schema).scalar(&expr)?;
        if typed.ty == Type::Null {
            return Err(ExprError::new(text, 0..text.len(), "a bare NULL has no type"));
        }
        Ok(Self { text: text.into(), kind: typed.ty.kind(), node: typed.node })
    }

    /// Parses and checks an expression that must be true or false.
    ///
    /// # Errors
    /// As [`ScalarExpr::parse`], and if the expression is not boolean.
    pub fn parse_condition(text: &str, schema: &StreamSchema) -> Result<Self, ExprError> {
        let expr = Self::parse(text, schema)?;
        if expr.kind == Kind::Boolean {
            return Ok(expr);
        }
        let found = Type::of(&expr.kind).noun();
        Err(ExprError::new(text, 0..text.len(), format!("a condition is true or false, but this is {found}")))
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The text it was parsed from, in one line.
    pub(crate) fn in_a_line(&self) -> String {
        in_a_line(&self.text)
    }

    /// What it computes, however it is written: see [`Aggregate::definition`].
    #[must_use]
    pub fn definition(&self, schema: &StreamSchema) -> String {
        definition::definition(&self.node, schema)
    }

    /// Type of the values: `Boolean`, `Long`, `Double`, `String` or `Timestamp`.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The values for a batch: an array as long as the batch, of the Arrow type of [`ScalarExpr::kind`].
    ///
    /// # Panics
    /// If the batch does not have the schema that the expression was parsed with.
    #[must_use]
    pub fn eval(&self, batch: &RecordBatch) -> ArrayRef {
        eval::evaluate(&self.node, batch).into_array(batch.num_rows())
    }

    /// The values of a condition, null taken as false: an array as long as the batch, without nulls.
    ///
    /// # Panics
    /// If the expression is not boolean, or the batch does not have the schema that it was parsed with.
    #[must_use]
    pub fn eval_filter(&self, batch: &RecordBatch) -> BooleanArray {
        assert_eq!(self.kind, Kind::Boolean, "conditions are parsed by parse_condition");
        kernels::null_as_false(&self.eval(batch))
    }

    /// The same values as floats; a number only.
    fn into_double(self) -> Self {
        let node = plan::to_double(self.node, Type::of(&self.kind));
        Self { node, kind: Kind::Double, ..self }
    }
}
