//! Aggregates: one value per group of records.

use sqlparser::ast::{Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned};

use super::{
    ScalarExpr,
    build::Builder,
    error::{ExprError, suggestion},
    plan::{Node, Type},
    syntax,
};
use crate::schema::{Kind, Scalar, StreamSchema, decimal::MAX_PRECISION};

/// What an aggregate computes; nulls do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateFunction {
    /// Records, or values that are not null.
    Count,
    Sum,
    Min,
    Max,
    Avg,
    /// Sample standard deviation; null for fewer than two values.
    StdDev,
    /// Sample variance; null for fewer than two values.
    Variance,
    /// The value with the lowest event time; of equal ones, the first in the log.
    First,
    /// The value with the highest event time; of equal ones, the last in the log.
    Last,
}

/// An aggregate over the records of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    function: AggregateFunction,
    argument: Option<ScalarExpr>,
    kind: Kind,
}

const NAMES: &[(&str, AggregateFunction)] = &[
    ("count", AggregateFunction::Count),
    ("sum", AggregateFunction::Sum),
    ("min", AggregateFunction::Min),
    ("max", AggregateFunction::Max),
    ("avg", AggregateFunction::Avg),
    ("stddev", AggregateFunction::StdDev),
    ("stddev_samp", AggregateFunction::StdDev),
    ("variance", AggregateFunction::Variance),
    ("var_samp", AggregateFunction::Variance),
    ("first", AggregateFunction::First),
    ("last", AggregateFunction::Last),
];

impl AggregateFunction {
    pub(super) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, function)| *function)
    }

    /// Type of the result over arguments of type `argument`, or why it cannot have them.
    fn result(self, argument: Type) -> Result<Kind, &'static str> {
        match self {
            Self::Count => Ok(Kind::Long),
            Self::Sum if matches!(argument, Type::Decimal(_)) => Ok(sum_of_decimals(argument)),
            Self::Sum if argument.is_number() => Ok(argument.kind()),
            Self::Avg | Self::StdDev | Self::Variance if argument.is_number() => Ok(Kind::Double),
            Self::Sum | Self::Avg | Self::StdDev | Self::Variance => Err("a number"),
            Self::Min | Self::Max if argument == Type::Boolean => Err("a number, a text or a timestamp"),
            Self::Min | Self::Max | Self::First | Self::Last => Ok(argument.kind()),
        }
    }
}

impl Aggregate {
    /// Parses and checks an aggregate over the columns of `schema`, such as `avg(value)` or
    /// `count(*) FILTER (WHERE anomaly)`.
    ///
    /// # Errors
    /// If the text is not one call of an aggregate function, or as [`ScalarExpr::parse`].
    pub fn parse(text: &str, schema: &StreamSchema) -> Result<Self, ExprError> {
        let expr = syntax::parse(text)?;
        let fail = |message: String| ExprError::new(text, syntax::bytes_of(text, expr.span()), message);
        let Expr::Function(call) = &expr else {
            return Err(fail("an aggregate such as avg(value) is expected here".to_owned()));
        };
        let name = call.name.to_string();
        let Some(function) = AggregateFunction::named(&name) else {
            let hint = suggestion(&name, NAMES.iter().map(|(name, _)| *name));
            return Err(fail(format!("unknown aggregate '{name}'{hint}")));
        };
        if call.over.is_some() || !call.within_group.is_empty() {
            return Err(fail(format!("'{name}' takes neither OVER nor WITHIN GROUP")));
        }
        let builder = Builder::new(text, schema);
        let (argument, ty) = argument(&builder, &expr, call, function)?;
        let kind = function.result(ty).map_err(|wanted| fail(format!("'{name}' takes {wanted}, not {}", ty.noun())))?;
        let argument = argument.map(|node| ScalarExpr { text: text.into(), node, kind: ty.kind() });
        let floats =
            matches!(function, AggregateFunction::Avg | AggregateFunction::StdDev | AggregateFunction::Variance);
        let argument = if floats { argument.map(ScalarExpr::into_double) } else { argument };
        Ok(Self { function, argument, kind })
    }

    /// What it computes.
    #[must_use]
    pub fn function(&self) -> AggregateFunction {
        self.function
    }

    /// What it computes, as a text that is the same for every way to write it and for every order of columns; the
    /// fields of `schema`, with which it was parsed, go by their paths.
    #[must_use]
    pub fn definition(&self, schema: &StreamSchema) -> String {
        let argument = self.argument.as_ref().map_or_else(|| "*".to_owned(), |argument| argument.definition(schema));
        format!("{}({argument})", format!("{:?}", self.function).to_ascii_lowercase())
    }

    /// What it is computed over; `count(*)` has nothing.
    #[must_use]
    pub fn argument(&self) -> Option<&ScalarExpr> {
        self.argument.as_ref()
    }

    /// Type of the result: `Long`, `Double`, `String`, `Boolean` or `Timestamp`.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Columns beside the result `name` that let rows of one group from several partitions be merged exactly.
    ///
    /// `count`, `sum`, `min` and `max` merge by themselves.
    #[must_use]
    pub fn mergeable(&self, name: &str) -> Vec<(String, Kind)> {
        let column = |suffix: &str, kind: Kind| (format!("{name}_{suffix}"), kind);
        match self.function {
            AggregateFunction::Count | AggregateFunction::Sum | AggregateFunction::Min | AggregateFunction::Max => {
                Vec::new()
            }
            AggregateFunction::Avg => vec![column("sum", Kind::Double), column("count", Kind::Long)],
            AggregateFunction::StdDev | AggregateFunction::Variance => {
                vec![column("count", Kind::Long), column("mean", Kind::Double), column("m2", Kind::Double)]
            }
            AggregateFunction::First | AggregateFunction::Last => vec![column("at", Kind::Timestamp)],
        }
    }
}

/// As wide as a decimal may be.
fn sum_of_decimals(argument: Type) -> Kind {
    match argument.kind() {
        Kind::Decimal { scale, .. } => Kind::Decimal { precision: MAX_PRECISION, scale },
        other => other,
    }
}

/// Plans what the aggregate is computed over, with its filter folded in: a record that it removes gives null.
fn argument(
    builder: &Builder<'_>,
    at: &Expr,
    call: &Call,
    function: AggregateFunction,
) -> Result<(Option<Node>, Type), ExprError> {
    let (node, ty) = if function == AggregateFunction::Count && is_star(call) {
        (None, Type::Integer)
    } else {
        let arguments = builder.arguments(at, call)?;
        let [only] = arguments[..] else {
            return Err(builder.error(at, format!("1 argument expected, {} given", arguments.len())));
        };
        let typed = builder.scalar(only)?;
        if typed.ty == Type::Null {
            return Err(builder.error(only, "a bare NULL has no type"));
        }
        (Some(typed.node), typed.ty)
    };
    let Some(filter) = &call.filter else { return Ok((node, ty)) };
    let value = node.unwrap_or(Node::Constant(Type::Integer, Scalar::Integer(1)));
    let otherwise = Box::new(Node::Constant(ty, Scalar::Null));
    let branches = vec![(builder.boolean(filter)?, value)];
    Ok((Some(Node::Case { operand: None, branches, otherwise }), ty))
}

fn is_star(call: &Call) -> bool {
    match &call.args {
        FunctionArguments::List(list) if list.duplicate_treatment.is_none() => {
            matches!(list.args[..], [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])
        }
        FunctionArguments::List(_) | FunctionArguments::None | FunctionArguments::Subquery(_) => false,
    }
}
