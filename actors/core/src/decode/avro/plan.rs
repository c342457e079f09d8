//! What a writer schema is compiled into.

use super::skip::{SkipId, Skips};

/// How to read the data of one writer schema into the leaves of the stream.
#[derive(Debug)]
pub(in crate::decode) struct Plan {
    /// The record, or a union of records.
    pub(super) top: Step,
    pub(super) skips: Skips,
}

/// What to do with one value of the writer.
#[derive(Debug)]
pub(super) enum Step {
    /// Read it into a leaf.
    Leaf { leaf: usize, read: Read },
    /// A record on both sides.
    Record(Vec<Step>),
    /// The writer's union: the branch decides. `place` is the field's path.
    Union { place: String, branches: Vec<Step> },
    /// The stream does not have this field.
    Skip { field: String, skip: SkipId },
    /// The stream has this field, and what the writer has there cannot become it.
    Mismatch { reason: String, skip: SkipId },
}

/// Writer's type and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Read {
    Null,
    Boolean,
    /// int to `Int` or `Long`.
    Int,
    /// long to `Long`.
    Long,
    /// int or long to `Float`, rounded once.
    IntegerAsFloat(Width),
    /// int or long to `Double`.
    IntegerAsDouble(Width),
    /// float to `Float` or `Double`.
    Float,
    Double,
    /// string or bytes to `String`.
    Text,
    /// int or long of so many units a millisecond to `Timestamp`.
    Instant {
        width: Width,
        units_per_ms: i64,
    },
    /// Days since 1970-01-01 to `Timestamp`: their beginnings in UTC.
    Day,
    /// The digits of a `Decimal` in so many bytes, or in bytes with their number in front.
    Decimal {
        size: Option<usize>,
    },
    /// For each symbol of the writer: the stream's symbol.
    Enum(Vec<Option<usize>>),
}

/// Range of an integer on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Int,
    Long,
}
