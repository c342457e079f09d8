//! What an expression becomes: a tree of typed nodes. Types are settled when it is built; evaluation only follows it.

use crate::schema::{Kind, Scalar};

use super::functions::Function;

/// Types that expressions compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// A bare `NULL` whose type its surroundings decide; only constants have it.
    Null,
    Boolean,
    Integer,
    Double,
    Text,
    Timestamp,
}

/// One operation of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// A column by its index; narrow numbers are widened.
    Column(usize),
    Constant(Type, Scalar),
    ToDouble(Box<Node>),
    Negate(Box<Node>),
    /// Both sides are of one numeric type.
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    /// Both sides are of one type.
    Compare(Comparison, Box<Node>, Box<Node>),
    /// True if all are.
    All(Vec<Node>),
    /// True if any is.
    Any(Vec<Node>),
    Not(Box<Node>),
    IsNull(Box<Node>),
    Between {
        value: Box<Node>,
        low: Box<Node>,
        high: Box<Node>,
    },
    In(Box<Node>, Vec<Node>),
    Like {
        text: Box<Node>,
        pattern: Box<Node>,
        case: Case,
    },
    /// With an operand, a branch is taken if the operand equals its first node; else if that node is true.
    Case {
        operand: Option<Box<Node>>,
        branches: Vec<(Node, Node)>,
        otherwise: Box<Node>,
    },
    Call(Function, Vec<Node>),
}

/// Operations on two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Comparisons of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Whether upper and lower case differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Sensitive,
    Insensitive,
}

impl Type {
    /// The type that a column of `kind` is computed with.
    pub(super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Boolean => Self::Boolean,
            Kind::Int | Kind::Long => Self::Integer,
            Kind::Float | Kind::Double => Self::Double,
            Kind::String | Kind::Enum(_) => Self::Text,
            Kind::Timestamp => Self::Timestamp,
        }
    }

    /// The kind of a column that holds results of this type.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Null | Self::Boolean => Kind::Boolean,
            Self::Integer => Kind::Long,
            Self::Double => Kind::Double,
            Self::Text => Kind::String,
            Self::Timestamp => Kind::Timestamp,
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Double)
    }

    /// The type with its article, for messages.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::Double => "a number",
            Self::Text => "a text",
            Self::Timestamp => "a timestamp",
        }
    }
}

/// `node` as a float; `from` is its type, a number.
pub(super) fn to_double(node: Node, from: Type) -> Node {
    match (node, from) {
        (Node::Constant(_, Scalar::Integer(value)), _) => Node::Constant(Type::Double, Scalar::Number(value as f64)),
        (Node::Constant(_, Scalar::Null), _) => Node::Constant(Type::Double, Scalar::Null),
        (node, Type::Double) => node,
        (node, _) => Node::ToDouble(Box::new(node)),
    }
}
