//! Values of a JSON object that are read from their source text, because serde_json would make a float of them.

use std::borrow::Cow;

use super::{fault::text, row::Cell};
use crate::schema::{
    Kind,
    decimal::{Decimal, DecimalFault},
};

/// Why a text is no value of a leaf.
pub(super) enum ExactFault {
    /// Another type of JSON.
    Found(&'static str),
    /// A value that the leaf's type does not have.
    Text(&'static str),
}

/// Whether values of this kind are read from their source text.
pub(super) fn is_exact(kind: &Kind) -> bool {
    matches!(kind, Kind::Decimal { .. })
}

/// The cell of a leaf of `kind`, for which [`is_exact`] holds, from one JSON value: a number, or a number in a string.
pub(super) fn cell<'a>(json: &str, kind: &Kind) -> Result<Cell<'a>, ExactFault> {
    let Kind::Decimal { precision, scale } = kind else { return Err(ExactFault::Found("a value")) };
    let digits = match json.as_bytes().first() {
        Some(b'"') => unquoted(json),
        Some(b'n') => return Err(ExactFault::Found("null")),
        Some(b't' | b'f') => return Err(ExactFault::Found("a boolean")),
        Some(b'[') => return Err(ExactFault::Found("an array")),
        Some(b'{') => return Err(ExactFault::Found("an object")),
        Some(_) | None => Cow::Borrowed(json),
    };
    match Decimal::parse_as(&digits, *precision, *scale) {
        Ok(unscaled) => Ok(Cell::Decimal(unscaled.to_ne_bytes())),
        Err(DecimalFault::NoNumber) => Err(ExactFault::Text(text::NO_DECIMAL)),
        Err(DecimalFault::TooManyDecimals) => Err(ExactFault::Text(text::TOO_MANY_DECIMALS)),
        Err(DecimalFault::OutOfRange) => Err(ExactFault::Text(text::OUT_OF_RANGE)),
    }
}

/// What a JSON string says.
fn unquoted(json: &str) -> Cow<'_, str> {
    let inner = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str::<String>(json).map_or(Cow::Borrowed(inner), Cow::Owned)
}
