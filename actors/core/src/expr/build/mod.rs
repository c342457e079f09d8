//! Syntax to plan: names become columns, every operation gets its types, and what does not fit is an error with a place.

mod calls;
mod decimals;
mod literals;
mod nulls;
mod operators;

use sqlparser::ast::{Expr, Ident, Spanned};

use super::{
    error::{ExprError, suggestion},
    plan::{Node, Type, to_double},
    syntax::{PARSER_LEVELS, bytes_of, too_deep},
};
use crate::schema::{Decimal, Field, Kind, Scalar, StreamSchema};

/// Builds the plan of one text.
pub(super) struct Builder<'a> {
    text: &'a str,
    schema: &'a StreamSchema,
    depth: std::cell::Cell<usize>,
}

/// A node with its type and what is known of its values.
#[derive(Debug)]
pub(super) struct Typed<'a> {
    pub(super) node: Node,
    pub(super) ty: Type,
    /// Symbols of an enum column.
    symbols: Option<&'a Field>,
    /// A number as it is written in the expression.
    exact: Option<Decimal>,
}

/// What becomes of operands that are brought to one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joining {
    Compare,
    Combine,
    Compute,
}

impl Joining {
    fn verb(self) -> &'static str {
        match self {
            Self::Compare => "compare",
            Self::Combine => "combine",
            Self::Compute => "compute with",
        }
    }
}

impl<'a> Builder<'a> {
    pub(super) fn new(text: &'a str, schema: &'a StreamSchema) -> Self {
        Self { text, schema, depth: std::cell::Cell::new(0) }
    }

    /// Plans an expression with one value per record.
    pub(super) fn scalar(&self, expr: &Expr) -> Result<Typed<'a>, ExprError> {
        self.depth.set(self.depth.get() + 1);
        if self.depth.get() > PARSER_LEVELS {
            return Err(ExprError::new(self.text, 0..0, too_deep()));
        }
        let typed = self.any(expr);
        self.depth.set(self.depth.get() - 1);
        typed
    }

    fn any(&self, expr: &Expr) -> Result<Typed<'a>, ExprError> {
        match expr {
            Expr::Nested(inner) => self.scalar(inner),
            Expr::Identifier(name) => self.column(expr, std::slice::from_ref(name)),
            Expr::CompoundIdentifier(names) => self.column(expr, names),
            Expr::Value(value) => self.literal(expr, &value.value),
            Expr::TypedString(literal) => self.typed_literal(expr, literal),
            Expr::UnaryOp { op, expr: operand } => self.unary(expr, *op, operand),
            Expr::BinaryOp { left, op, right } => self.binary(expr, left, op, right),
            Expr::IsNull(operand) | Expr::IsUnknown(operand) => self.is_null(operand),
            Expr::IsNotNull(operand) | Expr::IsNotUnknown(operand) => Ok(not(self.is_null(operand)?)),
            Expr::IsTrue(operand) => self.is_true(operand),
            Expr::IsNotTrue(operand) => Ok(not(self.is_true(operand)?)),
            Expr::IsFalse(operand) => self.is_false(operand),
            Expr::IsNotFalse(operand) => Ok(not(self.is_false(operand)?)),
            Expr::InList { expr: value, list, negated } => Ok(negate_if(*negated, self.in_list(value, list)?)),
            Expr::Between { expr: value, negated, low, high } => {
                Ok(negate_if(*negated, self.between(value, low, high)?))
            }
            Expr::Like { .. } | Expr::ILike { .. } => self.like(expr),
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Function(call) => self.call(expr, call),
            Expr::Ceil { .. } | Expr::Floor { .. } | Expr::Extract { .. } => self.special_call(expr),
            _ => Err(self.error(expr, format!("'{}' is not supported in expressions", shortened(expr)))),
        }
    }

    /// Plans an operand that must be boolean.
    pub(super) fn boolean(&self, expr: &Expr) -> Result<Node, ExprError> {
        let typed = self.scalar(expr)?;
        match typed.ty {
            Type::Boolean => Ok(typed.node),
            Type::Null => Ok(null(Type::Boolean)),
            Type::Integer | Type::Double | Type::Text | Type::Timestamp | Type::Decimal(_) => {
                Err(self.error(expr, format!("a condition is true or false, but this is {}", typed.ty.noun())))
            }
        }
    }

    fn column(&self, expr: &Expr, names: &[Ident]) -> Result<Typed<'a>, ExprError> {
        let index = self.find(names).map_err(|unknown| self.error(expr, unknown))?;
        let field = &self.schema.fields[index];
        let symbols = matches!(field.kind, Kind::Enum(_)).then_some(field);
        Ok(Typed { node: Node::Column(index), ty: Type::of(&field.kind), symbols, exact: None })
    }

    /// A quoted name means the field of exactly that name.
    fn find(&self, names: &[Ident]) -> Result<usize, String> {
        let name = joined(names);
        let found = self.schema.field_named(&name)?;
        let is_quoted = names.iter().any(|name| name.quote_style.is_some());
        if is_quoted && self.schema.column_index(&name).is_none() {
            return Err(format!("unknown field '{name}', did you mean '{}'?", self.schema.fields[found].column));
        }
        Ok(found)
    }

    /// Plans several expressions, each once.
    fn each<'e>(&self, exprs: impl IntoIterator<Item = &'e Expr>) -> Result<Vec<(&'e Expr, Typed<'a>)>, ExprError> {
        exprs.into_iter().map(|expr| Ok((expr, self.scalar(expr)?))).collect()
    }

    /// Brings operands to one type, or says why they cannot be joined.
    fn unify(&self, joining: Joining, operands: Vec<(&Expr, Typed<'a>)>) -> Result<(Vec<Node>, Type), ExprError> {
        if decimals::are_decimals(&operands.iter().map(|(_, typed)| typed).collect::<Vec<_>>()) {
            return self.unify_decimals(joining, operands);
        }
        let operation = joining.verb();
        let mut common = Type::Null;
        for (expr, typed) in &operands {
            common = match (common, typed.ty) {
                (a, b) if a == b || b == Type::Null => a,
                (Type::Null, ty) => ty,
                (a, b) if a.is_number() && b.is_number() => Type::Double,
                (Type::Text, Type::Timestamp) | (Type::Timestamp, Type::Text) => Type::Timestamp,
                (a, b) => return Err(self.error(expr, format!("cannot {operation} {} and {}", a.noun(), b.noun()))),
            };
        }
        if common == Type::Null {
            common = Type::Boolean;
        }
        let nodes = operands.into_iter().map(|(expr, typed)| self.coerce(expr, typed, common));
        Ok((nodes.collect::<Result<_, _>>()?, common))
    }

    fn coerce(&self, at: &Expr, typed: Typed<'a>, to: Type) -> Result<Node, ExprError> {
        match (typed.ty, to) {
            (Type::Null, ty) => Ok(null(ty)),
            (Type::Integer | Type::Decimal(_), Type::Double) => Ok(double(typed).node),
            (Type::Text, Type::Timestamp) if is_constant(&typed) => Ok(self.as_timestamp(at, typed)?.node),
            (Type::Text, Type::Timestamp) => Err(self.error(at, "a timestamp is expected here, but this is a text")),
            (_, _) => Ok(typed.node),
        }
    }

    /// Refuses constants that an enum beside them does not have.
    fn check_symbols(&self, operands: &[(&Expr, Typed<'a>)]) -> Result<(), ExprError> {
        let Some(field) = operands.iter().find_map(|(_, typed)| typed.symbols) else { return Ok(()) };
        let Kind::Enum(symbols) = &field.kind else { return Ok(()) };
        for (expr, typed) in operands {
            if let Node::Constant(_, Scalar::Text(text)) = &typed.node
                && !symbols.contains(text)
            {
                let hint = suggestion(text, symbols.iter().map(String::as_str));
                return Err(self.error(expr, format!("'{text}' is no symbol of '{}'{hint}", field.column)));
            }
        }
        Ok(())
    }

    pub(super) fn error(&self, at: &Expr, message: impl Into<String>) -> ExprError {
        ExprError::new(self.text, bytes_of(self.text, at.span()), message)
    }
}

impl Typed<'_> {
    fn new(node: Node, ty: Type) -> Self {
        Self { node, ty, symbols: None, exact: None }
    }
}

fn joined(names: &[Ident]) -> String {
    names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(".")
}

fn is_constant(typed: &Typed<'_>) -> bool {
    matches!(typed.node, Node::Constant(..))
}

/// A bare null with the type that its surroundings ask for.
fn null(ty: Type) -> Node {
    Node::Constant(ty, Scalar::Null)
}

fn double(typed: Typed<'_>) -> Typed<'_> {
    Typed::new(to_double(typed.node, typed.ty), Type::Double)
}

fn not(typed: Typed<'_>) -> Typed<'_> {
    Typed::new(Node::Not(Box::new(typed.node)), Type::Boolean)
}

fn negate_if(negated: bool, typed: Typed<'_>) -> Typed<'_> {
    if negated { not(typed) } else { typed }
}

fn shortened(expr: &Expr) -> String {
    let text = expr.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(59).chain(['…']).collect() }
}
