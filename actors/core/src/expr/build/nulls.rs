//! Comparisons with a bare NULL: SQL takes them, and none is ever true, so somebody meant something else.

use sqlparser::ast::{Expr, Value};

use super::{Builder, shortened};
use crate::expr::{error::ExprError, plan::Comparison};

impl Builder<'_> {
    /// Refuses NULL on a side of a comparison.
    pub(super) fn refuse_null_beside(&self, left: &Expr, op: Comparison, right: &Expr) -> Result<(), ExprError> {
        self.refuse_null([left, right], |place| {
            let other = shortened(if place == 0 { right } else { left });
            match op {
                Comparison::Equal => format!("write {other} IS NULL"),
                Comparison::NotEqual => format!("write {other} IS NOT NULL"),
                Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
                    format!("write {other} IS NULL or {other} IS NOT NULL")
                }
            }
        })
    }

    /// Refuses NULL as the value of a list, or in it.
    pub(super) fn refuse_null_in_list(&self, value: &Expr, list: &[Expr]) -> Result<(), ExprError> {
        self.refuse_null(std::iter::once(value).chain(list), |place| match place {
            0 => "give a field".to_owned(),
            _ => format!("leave it out of the list, and test {} IS NULL beside it", shortened(value)),
        })
    }

    /// Refuses NULL among expressions that are compared; `way_out` says what to write instead of that at a place.
    pub(super) fn refuse_null<'e>(
        &self,
        compared: impl IntoIterator<Item = &'e Expr>,
        way_out: impl Fn(usize) -> String,
    ) -> Result<(), ExprError> {
        match compared.into_iter().enumerate().find(|(_, expr)| is_null(expr)) {
            Some((place, null)) => {
                Err(self.error(null, format!("a comparison with NULL is never true: {}", way_out(place))))
            }
            None => Ok(()),
        }
    }
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_null(inner),
        Expr::Value(value) => value.value == Value::Null,
        _ => false,
    }
}
