//! Function calls of an expression.

use sqlparser::ast::{
    CeilFloorKind, DateTimeField, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments,
};

use super::{Builder, Joining, Typed, double, null};
use crate::{
    expr::{
        aggregate::AggregateFunction,
        error::{ExprError, suggestion},
        functions::{Function, Shape},
        plan::{Node, Type},
    },
    schema::Scalar,
};

/// Most decimals that `round` takes.
const MAX_DECIMALS: i64 = 15;

impl<'a> Builder<'a> {
    pub(super) fn call(&self, at: &Expr, call: &Call) -> Result<Typed<'a>, ExprError> {
        let name = call.name.to_string();
        let Some(function) = Function::named(&name) else {
            if AggregateFunction::named(&name).is_some() {
                return Err(self.error(at, format!("'{name}' is an aggregate: only a window's select may use it")));
            }
            return Err(self.error(at, format!("unknown function '{name}'{}", suggestion(&name, Function::names()))));
        };
        if call.filter.is_some() || call.over.is_some() {
            return Err(self.error(at, format!("'{name}' takes neither FILTER nor OVER")));
        }
        let arguments = self.arguments(at, call)?;
        self.apply(at, function, &arguments)
    }

    /// The plain arguments of a call; `*` and named ones are refused.
    pub(in crate::expr) fn arguments<'e>(&self, at: &Expr, call: &'e Call) -> Result<Vec<&'e Expr>, ExprError> {
        let refused = || self.error(at, format!("'{}' takes plain expressions as arguments", call.name));
        match &call.args {
            FunctionArguments::List(list) if list.duplicate_treatment.is_none() && list.clauses.is_empty() => {
                let plain = list.args.iter().map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
                    _ => Err(refused()),
                });
                plain.collect()
            }
            _ => Err(refused()),
        }
    }

    /// Calls that SQL gives a syntax of their own: `CEIL(x)`, `FLOOR(x)`, `EXTRACT(HOUR FROM t)`.
    pub(super) fn special_call(&self, at: &Expr) -> Result<Typed<'a>, ExprError> {
        match at {
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                self.apply(at, Function::Ceil, &[expr])
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                self.apply(at, Function::Floor, &[expr])
            }
            Expr::Extract { field, expr, .. } => {
                let function = match field {
                    DateTimeField::Hour | DateTimeField::Hours => Function::Hour,
                    DateTimeField::Minute | DateTimeField::Minutes => Function::Minute,
                    DateTimeField::Second | DateTimeField::Seconds => Function::Second,
                    DateTimeField::Dow | DateTimeField::DayOfWeek => Function::DayOfWeek,
                    _ => return Err(self.error(at, format!("EXTRACT({field} FROM …) is not supported"))),
                };
                self.apply(at, function, &[expr])
            }
            _ => Err(self.error(at, "ceil and floor take one number")),
        }
    }

    fn apply(&self, at: &Expr, function: Function, arguments: &[&Expr]) -> Result<Typed<'a>, ExprError> {
        match function.shape() {
            Shape::Number => {
                let [argument] = self.exactly(at, arguments)?;
                let typed = self.number_operand(argument)?;
                Ok(Typed::new(Node::Call(function, vec![typed.node]), typed.ty))
            }
            Shape::Whole => self.whole(at, function, arguments),
            Shape::Doubles(count) => {
                if arguments.len() != count {
                    return Err(self.wrong_count(at, &count.to_string(), arguments.len()));
                }
                let nodes = arguments.iter().map(|argument| Ok(double(self.number_operand(argument)?).node));
                Ok(Typed::new(Node::Call(function, nodes.collect::<Result<_, _>>()?), Type::Double))
            }
            Shape::Alike { least, most } => {
                if !(least..=most).contains(&arguments.len()) {
                    return Err(self.wrong_count(at, &format!("at least {least}"), arguments.len()));
                }
                let (nodes, ty) = self.unify(Joining::Combine, self.each(arguments.iter().copied())?)?;
                Ok(Typed::new(Node::Call(function, nodes), ty))
            }
            Shape::Text(result) => {
                let [argument] = self.exactly(at, arguments)?;
                Ok(Typed::new(Node::Call(function, vec![self.text(argument)?]), result))
            }
            Shape::Timestamp => {
                let [argument] = self.exactly(at, arguments)?;
                Ok(Typed::new(Node::Call(function, vec![self.timestamp(argument)?]), Type::Integer))
            }
        }
    }

    fn timestamp(&self, argument: &Expr) -> Result<Node, ExprError> {
        let typed = self.scalar(argument)?;
        match typed.ty {
            Type::Timestamp => Ok(typed.node),
            Type::Null => Ok(null(Type::Timestamp)),
            Type::Boolean | Type::Integer | Type::Double | Type::Text | Type::Decimal(_) => {
                Err(self.error(argument, format!("a timestamp is expected here, but this is {}", typed.ty.noun())))
            }
        }
    }

    /// `floor`, `ceil` and `round`, the last with a number of decimals as it likes.
    fn whole(&self, at: &Expr, function: Function, arguments: &[&Expr]) -> Result<Typed<'a>, ExprError> {
        if function == Function::Round && arguments.len() == 2 {
            let value = self.number_operand(arguments[0])?;
            let decimals = self.scalar(arguments[1])?;
            return match decimals.node {
                Node::Constant(_, Scalar::Integer(count))
                    if (0..=MAX_DECIMALS).contains(&count) && matches!(value.ty, Type::Decimal(_)) =>
                {
                    let ty = rounded(value.ty, u8::try_from(count).unwrap_or(0));
                    Ok(Typed::new(Node::Call(function, vec![value.node, decimals.node]), ty))
                }
                Node::Constant(_, Scalar::Integer(count)) if (0..=MAX_DECIMALS).contains(&count) => {
                    Ok(Typed::new(Node::Call(function, vec![double(value).node, decimals.node]), Type::Double))
                }
                _ => {
                    Err(self.error(arguments[1], format!("the number of decimals is a constant, 0 to {MAX_DECIMALS}")))
                }
            };
        }
        let [argument] = self.exactly(at, arguments)?;
        let typed = self.number_operand(argument)?;
        if typed.ty == Type::Integer {
            return Ok(typed);
        }
        let ty = rounded(typed.ty, 0);
        Ok(Typed::new(Node::Call(function, vec![typed.node]), ty))
    }

    fn exactly<'e>(&self, at: &Expr, arguments: &[&'e Expr]) -> Result<[&'e Expr; 1], ExprError> {
        match arguments {
            [only] => Ok([only]),
            _ => Err(self.wrong_count(at, "1", arguments.len())),
        }
    }

    fn wrong_count(&self, at: &Expr, wanted: &str, found: usize) -> ExprError {
        self.error(at, format!("{wanted} argument(s) expected, {found} given"))
    }
}

/// Type of a number that is rounded to some decimals: a decimal with more of them stays as it is.
fn rounded(of: Type, decimals: u8) -> Type {
    match of {
        Type::Decimal(of) if of.scale > decimals => Type::Decimal(of.rounded(decimals)),
        Type::Decimal(of) => Type::Decimal(of),
        _ => Type::Double,
    }
}
