//! Records of a batch one by one: where a row comes from, its key as text, itself as JSON.
//!
//! What depends on the order of records (windows, rules) walks them; everything else works on whole columns.

use std::{
    borrow::Cow,
    cell::OnceCell,
    hash::{BuildHasher, Hasher},
};

use arrow_array::{
    Array, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use foldhash::fast::FixedState;
use serde_json::{Map, Value};

use crate::schema::{Decimal, Kind, StreamSchema, instant};

/// Stands for a key that is null among the texts of keys; a key that begins with it gets one more in front.
const NULL_KEY: &str = "\0";

/// The key that a text of [`Keys`] stands for; none where it is null.
pub(crate) fn key_of(text: &str) -> Option<&str> {
    match text.strip_prefix(NULL_KEY) {
        None => Some(text),
        Some("") => None,
        Some(escaped) => Some(escaped),
    }
}

fn escaped(key: &str) -> Cow<'_, str> {
    if key.starts_with(NULL_KEY) { Cow::Owned(format!("{NULL_KEY}{key}")) } else { Cow::Borrowed(key) }
}

/// The key of a row as text: what `keys`, alerts and Kafka have of it; none where it is null. An integer and a decimal are their
/// digits.
///
/// # Panics
/// If the column is no text, integer or decimal, or has no such row.
#[must_use]
pub fn key_text(column: &dyn Array, row: usize) -> Option<Cow<'_, str>> {
    if column.is_null(row) {
        return None;
    }
    match KeyColumn::of(column) {
        KeyColumn::Text(texts) => Some(Cow::Borrowed(texts.value(row))),
        KeyColumn::Long(values) => Some(Cow::Owned(values.value(row).to_string())),
        KeyColumn::Int(values) => Some(Cow::Owned(values.value(row).to_string())),
        KeyColumn::Decimal(values) => Some(Cow::Owned(decimal_at(values, row).to_string())),
    }
}

/// The keys of the rows of a batch as texts, each key one of its own: null is another one than the empty text.
pub(crate) struct Keys<'a> {
    column: KeyColumn<'a>,
    hashes: &'a KeyHashes,
}

/// Hashes of the keys of a batch, worked out when the first is asked for.
pub(crate) type KeyHashes = OnceCell<Vec<u64>>;

enum KeyColumn<'a> {
    Text(&'a StringArray),
    Long(&'a Int64Array),
    Int(&'a Int32Array),
    Decimal(&'a Decimal128Array),
}

fn decimal_at(values: &Decimal128Array, row: usize) -> Decimal {
    Decimal { unscaled: values.value(row), scale: values.scale().unsigned_abs() }
}

/// Whether the stream's key may be of this kind.
pub(crate) fn can_be_key(kind: &Kind) -> bool {
    match kind {
        Kind::String | Kind::Enum(_) | Kind::Int | Kind::Long | Kind::Decimal { .. } => true,
        Kind::Boolean | Kind::Float | Kind::Double | Kind::Timestamp => false,
    }
}

impl<'a> KeyColumn<'a> {
    /// # Panics
    /// If the column is none that [`can_be_key`].
    fn of(column: &'a dyn Array) -> Self {
        let any = column.as_any();
        if let Some(texts) = any.downcast_ref() {
            Self::Text(texts)
        } else if let Some(values) = any.downcast_ref() {
            Self::Long(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Int(values)
        } else {
            Self::Decimal(any.downcast_ref().expect("the plan checked the key's kind"))
        }
    }
}

impl<'a> Keys<'a> {
    /// # Panics
    /// If the column is none that [`can_be_key`].
    pub(crate) fn of(column: &'a dyn Array, hashes: &'a KeyHashes) -> Self {
        Self { column: KeyColumn::of(column), hashes }
    }

    pub(crate) fn text(&self, row: usize) -> Cow<'a, str> {
        match self.column {
            KeyColumn::Text(texts) if texts.is_valid(row) => escaped(texts.value(row)),
            KeyColumn::Long(values) if values.is_valid(row) => Cow::Owned(values.value(row).to_string()),
            KeyColumn::Int(values) if values.is_valid(row) => Cow::Owned(values.value(row).to_string()),
            KeyColumn::Decimal(values) if values.is_valid(row) => Cow::Owned(decimal_at(values, row).to_string()),
            KeyColumn::Text(_) | KeyColumn::Long(_) | KeyColumn::Int(_) | KeyColumn::Decimal(_) => {
                Cow::Borrowed(NULL_KEY)
            }
        }
    }

    pub(crate) fn is(&self, row: usize, key: &str) -> bool {
        self.text(row) == key
    }

    /// As [`hash_text`] of the row's key.
    pub(crate) fn hash(&self, row: usize) -> u64 {
        self.hashes.get_or_init(|| (0..self.len()).map(|row| hash_text(&self.text(row))).collect())[row]
    }

    fn len(&self) -> usize {
        match self.column {
            KeyColumn::Text(column) => column.len(),
            KeyColumn::Long(column) => column.len(),
            KeyColumn::Int(column) => column.len(),
            KeyColumn::Decimal(column) => column.len(),
        }
    }
}

/// Hash of a key; the same in every process.
pub(crate) fn hash_text(key: &str) -> u64 {
    let mut hasher = FixedState::with_seed(0x5357_4b45).build_hasher();
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// One record as a JSON object of its columns; timestamps in RFC 3339, decimals as texts of their digits.
#[must_use]
pub fn record_json(schema: &StreamSchema, batch: &RecordBatch, row: usize) -> Value {
    let columns = schema.fields.iter().zip(batch.columns());
    let object = columns.map(|(field, column)| (field.column.clone(), column_json(column.as_ref(), row)));
    Value::Object(object.collect::<Map<_, _>>())
}

fn column_json(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    let any = column.as_any();
    if let Some(values) = any.downcast_ref::<Float64Array>() {
        values.value(row).into()
    } else if let Some(values) = any.downcast_ref::<StringArray>() {
        values.value(row).into()
    } else if let Some(values) = any.downcast_ref::<Int64Array>() {
        values.value(row).into()
    } else if let Some(values) = any.downcast_ref::<TimestampMillisecondArray>() {
        let mut text = Vec::new();
        instant::write(values.value(row), &mut text);
        String::from_utf8_lossy(&text).into()
    } else if let Some(values) = any.downcast_ref::<Int32Array>() {
        values.value(row).into()
    } else if let Some(values) = any.downcast_ref::<BooleanArray>() {
        values.value(row).into()
    } else if let Some(values) = any.downcast_ref::<Float32Array>() {
        values.value(row).into()
    } else if let Some(values) = any.downcast_ref::<Decimal128Array>() {
        decimal_at(values, row).to_string().into()
    } else {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_text_of_its_own_and_comes_back_from_it() {
        let keys = [None, Some(""), Some("a"), Some("\0"), Some("\0\0"), Some("\0a")];
        let (column, hashes) = (StringArray::from(keys.to_vec()), KeyHashes::new());
        let all = Keys::of(&column, &hashes);
        for (row, key) in keys.iter().enumerate() {
            assert_eq!(key_of(&all.text(row)), *key);
            assert_eq!((0..keys.len()).filter(|other| all.is(*other, &all.text(row))).count(), 1, "{key:?}");
        }
        assert_eq!((all.text(1), all.text(2)), (Cow::Borrowed(""), Cow::Borrowed("a")), "ids of alerts rest on them");
    }
}
