//! What is wrong with one record: its class and a reason that names the field, never the payload.

use crate::{output::ErrorClass, schema::StreamSchema};

/// Longest reason, in bytes.
pub const MAX_REASON_BYTES: usize = 1024;

/// Why one record is refused. Made on the cold path alone, so that it may allocate.
#[derive(Debug)]
pub(super) struct Fault {
    pub class: ErrorClass,
    pub reason: String,
}

impl Fault {
    /// Bytes that the schema cannot read.
    pub fn decode(reason: impl Into<String>) -> Box<Self> {
        Self::new(ErrorClass::Decode, reason.into())
    }

    /// Readable, but against the schema's rules.
    pub fn contract(reason: impl Into<String>) -> Box<Self> {
        Self::new(ErrorClass::Contract, reason.into())
    }

    /// `found` where the leaf wants something else.
    pub fn mismatch(schema: &StreamSchema, leaf: usize, found: &str) -> Box<Self> {
        let field = &schema.fields[leaf];
        Self::contract(format!("{}: found {found}, expected {}", field.dotted(), field.kind.describe()))
    }

    /// A fault of one leaf.
    pub fn of_leaf(schema: &StreamSchema, leaf: usize, fault: &str) -> Box<Self> {
        Self::contract(format!("{}: {fault}", schema.fields[leaf].dotted()))
    }

    fn new(class: ErrorClass, mut reason: String) -> Box<Self> {
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        Box::new(Self { class, reason })
    }
}

/// Texts of leaf faults that both formats share.
pub(super) mod text {
    pub const OUT_OF_RANGE: &str = "a number that its type cannot hold";
    pub const NOT_FINITE: &str = "NaN or infinity";
    pub const UNKNOWN_SYMBOL: &str = "a symbol that the enum does not have";
    pub const NO_DECIMAL: &str = "a text that is no number";
    pub const TOO_MANY_DECIMALS: &str = "more decimals than its type has, and nothing is rounded";
    pub const NO_TIME: &str = "a text that is no RFC 3339 time";
    pub const TIME_OUT_OF_RANGE: &str = "a time outside the years 1 to 9999";
}
