//! Operands that are brought to decimals: where one is a decimal, whole numbers and written numbers beside it are, too.

use sqlparser::ast::Expr;

use super::{Builder, Joining, Typed};
use crate::{
    expr::{
        error::ExprError,
        plan::{Arithmetic, DecimalType, Node, Type},
    },
    schema::{Scalar, decimal::MAX_PRECISION},
};

impl Typed<'_> {
    /// The decimal type that holds its values exactly; none for floats, and for what is no number.
    pub(super) fn decimal(&self) -> Option<DecimalType> {
        match (self.ty, self.exact) {
            (Type::Decimal(of), _) => Some(of),
            (_, Some(written)) => Some(DecimalType { precision: written.precision(), scale: written.scale }),
            (Type::Null, None) => Some(DecimalType { precision: 1, scale: 0 }),
            (Type::Integer, None) => Some(DecimalType::OF_INTEGERS),
            (Type::Double | Type::Boolean | Type::Text | Type::Timestamp, None) => None,
        }
    }

    /// Its values as decimals of a type that [`Typed::decimal`] fits into.
    fn into_decimal(self, to: DecimalType) -> Node {
        let ty = Type::Decimal(to);
        match (self.node, self.exact) {
            (Node::Constant(_, Scalar::Null), _) => Node::Constant(ty, Scalar::Null),
            (_, Some(written)) => Node::Constant(ty, written.rescaled(to.scale).map_or(Scalar::Null, Scalar::Decimal)),
            (node, None) if self.ty == ty => node,
            (node, None) => Node::ToDecimal(Box::new(node), to),
        }
    }
}

/// Whether operands are computed with, or compared, as decimals.
pub(super) fn are_decimals(operands: &[&Typed<'_>]) -> bool {
    operands.iter().any(|typed| matches!(typed.ty, Type::Decimal(_)))
        && operands.iter().all(|typed| typed.decimal().is_some())
}

impl<'a> Builder<'a> {
    /// Brings operands to decimals: of one type where they are combined, each of its own where they are compared.
    pub(super) fn unify_decimals(
        &self,
        joining: Joining,
        operands: Vec<(&Expr, Typed<'a>)>,
    ) -> Result<(Vec<Node>, Type), ExprError> {
        let types = || operands.iter().filter_map(|(_, typed)| typed.decimal());
        let scale = types().map(|of| of.scale).max().unwrap_or(0);
        let precision = types().map(DecimalType::whole_digits).max().unwrap_or(0) + scale;
        if precision > MAX_PRECISION && joining != Joining::Compare {
            let (at, _) = &operands[0];
            let why = format!("together these need {precision} digits, and a decimal has at most {MAX_PRECISION}");
            return Err(self.error(at, why));
        }
        let common = DecimalType { precision: precision.clamp(1, MAX_PRECISION), scale };
        let nodes = operands.into_iter().map(|(_, typed)| {
            let of = if joining == Joining::Compare { typed.decimal().unwrap_or(common) } else { common };
            typed.into_decimal(of)
        });
        Ok((nodes.collect(), Type::Decimal(common)))
    }

    /// Arithmetic of decimals, exact but for quotients.
    pub(super) fn decimal_arithmetic(
        &self,
        at: &Expr,
        op: Arithmetic,
        [left, right]: [Typed<'a>; 2],
    ) -> Result<Typed<'a>, ExprError> {
        let (a, b) =
            (left.decimal().unwrap_or(DecimalType::OF_INTEGERS), right.decimal().unwrap_or(DecimalType::OF_INTEGERS));
        let to = DecimalType::of_result(op, a, b);
        let to = to.ok_or_else(|| {
            let decimals = u32::from(a.scale) + u32::from(b.scale);
            self.error(
                at,
                format!("the result has {decimals} decimals, at most {MAX_PRECISION} can be kept: round() a factor"),
            )
        })?;
        let (left, right) = (Box::new(left.into_decimal(a)), Box::new(right.into_decimal(b)));
        Ok(Typed::new(Node::Exact(op, left, right, to), Type::Decimal(to)))
    }
}
