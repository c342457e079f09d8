//! The functions that expressions may call.

use super::plan::Type;

/// Functions by name, with what they do; the reference page lists these.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("abs(x)", "magnitude of a number"),
    ("ceil(x)", "smallest whole number not below x; also ceiling"),
    ("coalesce(x, …)", "the first argument that is not null"),
    ("dow(t)", "day of the week (UTC), Sunday is 0"),
    ("epoch_ms(t)", "milliseconds since 1970 (UTC)"),
    ("exp(x)", "e to the power of x"),
    ("floor(x)", "largest whole number not above x"),
    ("greatest(x, …)", "the largest argument; nulls are skipped"),
    ("hour(t)", "hour of the day (UTC), 0 to 23; also EXTRACT(HOUR FROM t)"),
    ("least(x, …)", "the smallest argument; nulls are skipped"),
    ("length(s)", "number of characters"),
    ("ln(x)", "natural logarithm; null unless x > 0"),
    ("lower(s)", "text in lower case"),
    ("minute(t)", "minute of the hour (UTC), 0 to 59"),
    ("nullif(x, y)", "null if x = y, else x"),
    ("power(x, y)", "x to the power of y; also pow"),
    ("round(x, n)", "x rounded to n decimals, halves away from zero; without n to a whole number"),
    ("second(t)", "second of the minute, 0 to 59"),
    ("sqrt(x)", "square root; null unless x >= 0"),
    ("upper(s)", "text in upper case"),
];

/// A function of a plan; its arguments have the types that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    Ceil,
    Coalesce,
    DayOfWeek,
    EpochMs,
    Exp,
    Floor,
    Greatest,
    Hour,
    Least,
    Length,
    Ln,
    Lower,
    Minute,
    NullIf,
    Power,
    Round,
    Second,
    Sqrt,
    Upper,
}

/// What a function takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One number, kept in its type.
    Number,
    /// Whole numbers stay; a float becomes a whole float.
    Whole,
    /// One float, or several, to a float.
    Doubles(usize),
    /// One or more values of one type, to that type.
    Alike {
        least: usize,
        most: usize,
    },
    Text(Type),
    Timestamp,
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "abs" => Self::Abs,
            "ceil" | "ceiling" => Self::Ceil,
            "coalesce" => Self::Coalesce,
            "dow" => Self::DayOfWeek,
            "epoch_ms" => Self::EpochMs,
            "exp" => Self::Exp,
            "floor" => Self::Floor,
            "greatest" => Self::Greatest,
            "hour" => Self::Hour,
            "least" => Self::Least,
            "length" => Self::Length,
            "ln" => Self::Ln,
            "lower" => Self::Lower,
            "minute" => Self::Minute,
            "nullif" => Self::NullIf,
            "pow" | "power" => Self::Power,
            "round" => Self::Round,
            "second" => Self::Second,
            "sqrt" => Self::Sqrt,
            "upper" => Self::Upper,
            _ => return None,
        })
    }

    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Abs => Shape::Number,
            Self::Ceil | Self::Floor | Self::Round => Shape::Whole,
            Self::Exp | Self::Ln | Self::Sqrt => Shape::Doubles(1),
            Self::Power => Shape::Doubles(2),
            Self::NullIf => Shape::Alike { least: 2, most: 2 },
            Self::Coalesce | Self::Greatest | Self::Least => Shape::Alike { least: 1, most: usize::MAX },
            Self::Length => Shape::Text(Type::Integer),
            Self::Lower | Self::Upper => Shape::Text(Type::Text),
            Self::DayOfWeek | Self::EpochMs | Self::Hour | Self::Minute | Self::Second => Shape::Timestamp,
        }
    }

    /// Names for suggestions.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().filter_map(|(usage, _)| usage.split('(').next())
    }
}
