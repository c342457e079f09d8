//! Group keys as bytes: the values of the grouping columns, in a form that equal groups share and no others.

use std::hash::{BuildHasher, Hasher};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Int32Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use foldhash::fast::FixedState;

use crate::schema::{Decimal, Kind, Scalar};

/// The keys of the rows of one batch.
#[derive(Debug, Default)]
pub(super) struct RowKeys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    hashes: Vec<u64>,
}

const NULL: u8 = 0;
const VALUE: u8 = 1;

enum Column<'a> {
    Boolean(&'a BooleanArray),
    Int(&'a Int32Array),
    Long(&'a Int64Array),
    Timestamp(&'a TimestampMillisecondArray),
    Text(&'a StringArray),
    Decimal(&'a Decimal128Array),
}

impl RowKeys {
    /// Writes the keys of `rows` rows.
    ///
    /// # Panics
    /// If a column has a type that nothing can be grouped by.
    pub(super) fn of(columns: &[ArrayRef], rows: usize) -> Self {
        let columns: Vec<Column<'_>> = columns.iter().map(|column| Column::of(column.as_ref())).collect();
        let mut keys = Self::default();
        keys.ends.reserve(rows);
        keys.hashes.reserve(rows);
        for row in 0..rows {
            let start = keys.bytes.len();
            for column in &columns {
                column.write(row, &mut keys.bytes);
            }
            keys.hashes.push(hash(&keys.bytes[start..]));
            keys.ends.push(keys.bytes.len());
        }
        keys
    }

    pub(super) fn get(&self, row: usize) -> (u64, &[u8]) {
        let start = row.checked_sub(1).map_or(0, |previous| self.ends[previous]);
        (self.hashes[row], &self.bytes[start..self.ends[row]])
    }
}

/// Hash of a key; the same in every process.
pub(super) fn hash(key: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(0x5357_4752).build_hasher();
    hasher.write(key);
    hasher.finish()
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> Self {
        let any = array.as_any();
        if let Some(texts) = any.downcast_ref() {
            Self::Text(texts)
        } else if let Some(values) = any.downcast_ref() {
            Self::Long(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Int(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Boolean(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Decimal(values)
        } else {
            Self::Timestamp(any.downcast_ref().expect("a plan groups by columns of these types only"))
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(values) => write_value(*values, row, out, |out| out.push(u8::from(values.value(row)))),
            Self::Int(values) => write_integer(*values, row, out, || i64::from(values.value(row))),
            Self::Long(values) => write_integer(*values, row, out, || values.value(row)),
            Self::Timestamp(values) => write_integer(*values, row, out, || values.value(row)),
            Self::Decimal(values) => write_value(*values, row, out, |out| {
                out.extend_from_slice(&values.value(row).to_le_bytes());
            }),
            Self::Text(values) => write_value(*values, row, out, |out| {
                let text = values.value(row).as_bytes();
                let length = u32::try_from(text.len()).expect("an Arrow text is below 2 GiB");
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(text);
            }),
        }
    }
}

fn write_integer(array: &dyn Array, row: usize, out: &mut Vec<u8>, value: impl Fn() -> i64) {
    write_value(array, row, out, |out| out.extend_from_slice(&value().to_le_bytes()));
}

fn write_value(array: &dyn Array, row: usize, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if array.is_null(row) {
        out.push(NULL);
    } else {
        out.push(VALUE);
        write(out);
    }
}

/// The values of a key; none if the bytes are no key of these kinds.
pub(super) fn decode(mut key: &[u8], kinds: impl Iterator<Item = Kind>) -> Option<Vec<Scalar>> {
    let mut values = Vec::new();
    for kind in kinds {
        if take(&mut key, 1)? == [NULL] {
            values.push(Scalar::Null);
            continue;
        }
        values.push(match kind {
            Kind::Boolean => Scalar::Boolean(take(&mut key, 1)? == [1]),
            Kind::Int | Kind::Long | Kind::Timestamp => {
                Scalar::Integer(i64::from_le_bytes(take(&mut key, 8)?.try_into().ok()?))
            }
            Kind::String | Kind::Enum(_) => {
                let length = u32::from_le_bytes(take(&mut key, 4)?.try_into().ok()?);
                let text = take(&mut key, usize::try_from(length).ok()?)?;
                Scalar::Text(String::from_utf8(text.to_vec()).ok()?)
            }
            Kind::Decimal { scale, .. } => {
                let unscaled = i128::from_le_bytes(take(&mut key, 16)?.try_into().ok()?);
                Scalar::Decimal(Decimal { unscaled, scale })
            }
            Kind::Float | Kind::Double => return None,
        });
    }
    key.is_empty().then_some(values)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(count)?;
    *bytes = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_gives_back_its_values_and_equal_groups_share_it(
            rows in prop::collection::vec((prop::option::of("[a-c]{0,3}"), prop::option::of("[a-c]{0,3}"), prop::option::of(-2_i64..2)), 1..40),
        ) {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(rows.iter().map(|row| row.0.clone()).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| row.1.clone()).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
            ];
            let keys = RowKeys::of(&columns, rows.len());
            let text = |value: &Option<String>| value.clone().map_or(Scalar::Null, Scalar::Text);
            for (index, row) in rows.iter().enumerate() {
                let kinds = [Kind::String, Kind::String, Kind::Long];
                let values = decode(keys.get(index).1, kinds.into_iter());
                prop_assert_eq!(values, Some(vec![text(&row.0), text(&row.1), row.2.map_or(Scalar::Null, Scalar::Integer)]));
                prop_assert_eq!(row == &rows[0], keys.get(index) == keys.get(0));
            }
        }
    }
}
