//! Rows in PostgreSQL's binary formats, straight from Arrow columns: for COPY row by row, and as an array of each column.
//!
//! One buffer holds the rows of one table and transaction; a value is written once, and no row costs an allocation.
//! Format: <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4>.

use std::ops::Range;

use arrow_array::{
    Array, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, cast::AsArray,
};
use arrow_schema::DataType;
use sqlx::{
    Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, types::Oid},
};
use streamward_core::{schema::Decimal, table::row_id};

use super::{connection::WriteError, moment::Moment, numeric::Numeric};

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Length of a null.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Where rows come from, and when they are stored.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub log: i64,
    pub partition: i32,
    pub stored_at_ms: i64,
}

/// Rows on their way.
#[derive(Debug)]
pub struct RowBuffer {
    bytes: Vec<u8>,
}

impl RowBuffer {
    /// An empty one.
    pub fn new() -> Self {
        Self { bytes: HEADER.to_vec() }
    }

    /// Appends rows of a batch, one offset each.
    ///
    /// # Errors
    /// If a column has a type that no table has.
    pub fn push(
        &mut self,
        (batch, offsets): (&RecordBatch, &[i64]),
        rows: Range<usize>,
        origin: Origin,
    ) -> Result<(), WriteError> {
        let columns: Vec<Column<'_>> =
            batch.columns().iter().map(|column| Column::new(column.as_ref())).collect::<Result<_, _>>()?;
        let fields = i16::try_from(columns.len() + 2)
            .map_err(|_| WriteError::Protocol("a table has at most 1,600 columns".to_owned()))?;
        let stored_at = Moment(origin.stored_at_ms).to_micros();
        for row in rows {
            self.bytes.extend_from_slice(&fields.to_be_bytes());
            fixed(&mut self.bytes, row_id(origin.log, origin.partition, offsets[row]).to_be_bytes());
            for column in &columns {
                column.write(row, &mut self.bytes);
            }
            fixed(&mut self.bytes, stored_at.to_be_bytes());
        }
        Ok(())
    }

    /// Everything, for COPY.
    pub fn finish(&mut self) -> &[u8] {
        self.bytes.extend_from_slice(&TRAILER);
        &self.bytes
    }
}

/// The values of one column, as an array that a statement takes.
pub struct ValueArray {
    /// Object ids of the array's type and of its elements'.
    oids: [u32; 2],
    count: i32,
    elements: Vec<u8>,
}

/// Rows of one output: which of its rows, and where they come from.
pub type Part<'a> = (&'a RecordBatch, &'a [i64], Range<usize>, Origin);

/// The rows' ids, then their columns in the order of the schema.
///
/// # Errors
/// If a column has a type that no table has.
pub fn arrays(parts: &[Part<'_>]) -> Result<Vec<ValueArray>, WriteError> {
    let width = parts.first().map_or(0, |(batch, ..)| batch.num_columns());
    let mut ids = ValueArray { oids: INT8, count: 0, elements: Vec::new() };
    for (_, offsets, rows, origin) in parts {
        for offset in &offsets[rows.clone()] {
            fixed(&mut ids.elements, row_id(origin.log, origin.partition, *offset).to_be_bytes());
            ids.count += 1;
        }
    }
    let mut arrays = vec![ids];
    for place in 0..width {
        let mut array = ValueArray { oids: INT8, count: arrays[0].count, elements: Vec::new() };
        for (batch, _, rows, _) in parts {
            let column = Column::new(batch.column(place).as_ref())?;
            array.oids = column.oids();
            rows.clone().for_each(|row| column.write(row, &mut array.elements));
        }
        arrays.push(array);
    }
    Ok(arrays)
}

const INT8: [u32; 2] = [1016, 20];

impl Type<Postgres> for ValueArray {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(INT8[0]))
    }
}

impl Encode<'_, Postgres> for ValueArray {
    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.oids[0])))
    }

    /// One dimension from 1 on, with nulls (`array_recv` in PostgreSQL's `arrayfuncs.c`).
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        for field in [1, 1] {
            buffer.extend_from_slice(&i32::to_be_bytes(field));
        }
        buffer.extend_from_slice(&self.oids[1].to_be_bytes());
        for field in [self.count, 1] {
            buffer.extend_from_slice(&field.to_be_bytes());
        }
        buffer.extend_from_slice(&self.elements);
        Ok(IsNull::No)
    }
}

fn fixed<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    let length = i32::try_from(N).unwrap_or(i32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&value);
}

/// The first row of a range whose values PostgreSQL has no place for, and why; found without asking it.
///
/// # Errors
/// If a column has a type that no table has.
pub fn unfit(batch: &RecordBatch, rows: Range<usize>) -> Result<Option<(usize, String)>, WriteError> {
    let schema = batch.schema();
    let mut first: Option<(usize, String)> = None;
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        let end = first.as_ref().map_or(rows.end, |(row, _)| *row);
        if let Some((row, why)) = Column::new(column.as_ref())?.unfit(rows.start..end) {
            first = Some((row, format!("{}: {why}", field.name())));
        }
    }
    Ok(first)
}

/// One Arrow column, downcast once.
enum Column<'a> {
    Boolean(&'a BooleanArray),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Text(&'a StringArray),
    Timestamp(&'a TimestampMillisecondArray),
    /// With its scale.
    Decimal(&'a Decimal128Array, u8),
}

impl<'a> Column<'a> {
    fn new(array: &'a dyn Array) -> Result<Self, WriteError> {
        use arrow_array::types::{
            Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMillisecondType as Millis,
        };
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>()),
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>()),
            DataType::Float32 => Self::Float32(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Self::Float64(array.as_primitive::<Float64Type>()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>()),
            DataType::Timestamp(_, _) => Self::Timestamp(array.as_primitive::<Millis>()),
            DataType::Decimal128(_, scale) => {
                Self::Decimal(array.as_primitive::<Decimal128Type>(), scale.unsigned_abs())
            }
            other => return Err(WriteError::Protocol(format!("no SQL type for a column of {other}"))),
        })
    }

    /// Object ids of the type of arrays of it and of its own (`pg_type.dat`).
    fn oids(&self) -> [u32; 2] {
        match self {
            Self::Boolean(_) => [1000, 16],
            Self::Int32(_) => [1007, 23],
            Self::Int64(_) => INT8,
            Self::Float32(_) => [1021, 700],
            Self::Float64(_) => [1022, 701],
            Self::Text(_) => [1009, 25],
            Self::Timestamp(_) => [1185, 1184],
            Self::Decimal(..) => [1231, 1700],
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Boolean(array) => array.is_null(row),
            Self::Int32(array) => array.is_null(row),
            Self::Int64(array) => array.is_null(row),
            Self::Float32(array) => array.is_null(row),
            Self::Float64(array) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Timestamp(array) => array.is_null(row),
            Self::Decimal(array, _) => array.is_null(row),
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(&NULL);
            return;
        }
        match self {
            Self::Boolean(array) => fixed(out, [u8::from(array.value(row))]),
            Self::Int32(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Int64(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Float32(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Float64(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Text(array) => {
                let text = array.value(row);
                // A record is far shorter than 2 GiB.
                out.extend_from_slice(&i32::try_from(text.len()).unwrap_or(i32::MAX).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Self::Timestamp(array) => fixed(out, Moment(array.value(row)).to_micros().to_be_bytes()),
            Self::Decimal(array, scale) => {
                let begin = out.len() + 4;
                out.extend_from_slice(&[0; 4]);
                Numeric(Decimal { unscaled: array.value(row), scale: *scale }).write(out);
                let length = i32::try_from(out.len() - begin).unwrap_or(i32::MAX);
                out[begin - 4..begin].copy_from_slice(&length.to_be_bytes());
            }
        }
    }

    fn unfit(&self, mut rows: Range<usize>) -> Option<(usize, &'static str)> {
        match self {
            Self::Text(array) if array.value_data().contains(&0) => {
                let has_nul = |row: &usize| array.is_valid(*row) && array.value(*row).as_bytes().contains(&0);
                rows.find(has_nul).map(|row| (row, "PostgreSQL takes no text with the character U+0000"))
            }
            Self::Timestamp(array) => {
                let is_beyond = |row: &usize| array.is_valid(*row) && !Moment(array.value(*row)).is_in_range();
                rows.find(is_beyond).map(|row| (row, "PostgreSQL's calendar ends in the years 4713 BC and 294276"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::ArrayRef;

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    #[test]
    fn a_row_is_its_number_of_fields_and_each_value_behind_its_length() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("t", Arc::new(StringArray::from(vec![Some("é"), None]))),
            ("n", Arc::new(Int32Array::from(vec![Some(-2), Some(7)]))),
        ];
        let mut buffer = RowBuffer::new();
        let origin = Origin { log: 0, partition: 0, stored_at_ms: 946_684_800_001 };
        buffer.push((&batch(columns), &[5, 6]), 1..2, origin).unwrap();
        let row = [
            &[0, 4][..],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 6],
            &[255, 255, 255, 255],
            &[0, 0, 0, 4, 0, 0, 0, 7],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 3, 232],
            &[255, 255],
        ];
        assert_eq!(buffer.finish(), [HEADER, &row.concat()].concat());
    }

    #[test]
    fn the_first_row_without_a_place_is_found_whichever_column_it_is_of() {
        let times = vec![Some(0), None, Some(0), Some(i64::MAX)];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("at", Arc::new(TimestampMillisecondArray::from(times))),
            ("t", Arc::new(StringArray::from(vec![None, Some("a"), Some("a\0"), Some("b")]))),
        ];
        let batch = batch(columns);
        let found = |rows| unfit(&batch, rows).unwrap();
        let (row, why) = found(0..4).unwrap();
        assert!(row == 2 && why.starts_with("t: "), "{why}");
        let (row, why) = found(3..4).unwrap();
        assert!(row == 3 && why.starts_with("at: "), "{why}");
        assert_eq!(found(0..2), None);
    }
}
