//! What an expression becomes: a tree of typed nodes. Types are settled when it is built; evaluation only follows it.

use crate::schema::{Kind, Scalar, decimal::MAX_PRECISION};

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
    Decimal(DecimalType),
}

/// Digits of decimals: at most `precision` in all, `scale` of them behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DecimalType {
    pub(super) precision: u8,
    pub(super) scale: u8,
}

/// Fewest decimals of a quotient.
const QUOTIENT_SCALE: u8 = 6;

impl DecimalType {
    /// What holds each 64-bit integer.
    pub(super) const OF_INTEGERS: Self = Self { precision: 19, scale: 0 };

    /// Digits before the point.
    pub(super) fn whole_digits(self) -> u8 {
        self.precision - self.scale
    }

    /// Type of a result: as SQL has it, wide enough for each result, up to 38 digits. A quotient has 38 digits, and as many
    /// decimals as its operands, at least six. None for a product with more decimals than can be kept.
    pub(super) fn of_result(op: Arithmetic, left: Self, right: Self) -> Option<Self> {
        let scale = left.scale.max(right.scale);
        let whole = left.whole_digits().max(right.whole_digits());
        let (precision, scale) = match op {
            Arithmetic::Add | Arithmetic::Subtract => (whole + scale + 1, scale),
            Arithmetic::Remainder => (whole + scale, scale),
            Arithmetic::Multiply => (left.precision + right.precision, left.scale + right.scale),
            Arithmetic::Divide => (MAX_PRECISION, scale.max(QUOTIENT_SCALE)),
        };
        (scale <= MAX_PRECISION).then_some(Self { precision: precision.clamp(1, MAX_PRECISION), scale })
    }

    /// Type of values that are rounded to fewer decimals: it has a digit more for 9.9 that becomes 10.
    pub(super) fn rounded(self, decimals: u8) -> Self {
        let precision = (self.whole_digits() + decimals + 1).min(MAX_PRECISION);
        Self { precision, scale: decimals }
    }
}

/// One operation of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// A column by its index; narrow numbers are widened.
    Column(usize),
    Constant(Type, Scalar),
    ToDouble(Box<Node>),
    /// Of a whole number or a decimal with no more decimals.
    ToDecimal(Box<Node>, DecimalType),
    Negate(Box<Node>),
    /// Both sides are of one numeric type.
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    /// Of two decimals, to a decimal of that type.
    Exact(Arithmetic, Box<Node>, Box<Node>, DecimalType),
    /// Both sides are of one type; decimals may differ in their digits.
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
            Kind::Decimal { precision, scale } => Self::Decimal(DecimalType { precision: *precision, scale: *scale }),
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
            Self::Decimal(DecimalType { precision, scale }) => Kind::Decimal { precision, scale },
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Double | Self::Decimal(_))
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
            Self::Decimal(_) => "a decimal",
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
