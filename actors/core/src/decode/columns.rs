//! Arrow builders of one batch; fed with whole rows alone.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        BooleanBuilder, Decimal128Builder, Float32Builder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
        TimestampMillisecondBuilder,
    },
};

use super::{
    fault::Fault,
    row::{Cell, Row},
};
use crate::schema::{Field, Kind, Scalar, StreamSchema};

/// Most bytes of values and defaults in one batch: half of what the 32-bit offsets of a text column reach.
pub const MAX_BATCH_TEXT_BYTES: usize = 1 << 30;

const TEXT_BYTES_HINT: usize = 16;

enum Column {
    Boolean(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Text(StringBuilder),
    Timestamp(TimestampMillisecondBuilder),
    Decimal(Decimal128Builder),
}

/// The columns of a stream under construction.
pub(super) struct Columns {
    columns: Vec<Column>,
    rows: usize,
    /// Upper bound of the text held.
    text_bytes: usize,
    /// Text of a row that need not be in its value: defaults and symbols.
    own_text_bytes: usize,
}

impl Columns {
    pub fn new(schema: &StreamSchema, capacity: usize) -> Self {
        let columns = schema.fields.iter().map(|field| Column::new(&field.kind, capacity)).collect();
        let own_text_bytes = schema.fields.iter().map(own_text_bytes).sum();
        Self { columns, rows: 0, text_bytes: 0, own_text_bytes }
    }

    /// Appends a complete row that was read from `value_bytes` bytes. On an error nothing was appended.
    pub fn append(&mut self, row: &Row<'_>, value_bytes: usize) -> Result<(), Box<Fault>> {
        let text_bytes = self.text_bytes.saturating_add(value_bytes).saturating_add(self.own_text_bytes);
        if text_bytes > MAX_BATCH_TEXT_BYTES {
            return Err(Fault::contract(format!("the batch holds more than {MAX_BATCH_TEXT_BYTES} bytes of text")));
        }
        self.text_bytes = text_bytes;
        for (column, cell) in self.columns.iter_mut().zip(&row.cells) {
            column.append(row, *cell);
        }
        self.rows += 1;
        Ok(())
    }

    pub fn finish(mut self, schema: &StreamSchema) -> RecordBatch {
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect();
        debug_assert!(arrays.iter().all(|array| array.len() == self.rows), "columns are as long as the batch");
        RecordBatch::try_new(Arc::clone(&schema.arrow), arrays)
            .expect("columns have the types of the schema they were made from, and nulls only where it allows them")
    }
}

impl Column {
    fn new(kind: &Kind, rows: usize) -> Self {
        match kind {
            Kind::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            Kind::Int => Self::Int(Int32Builder::with_capacity(rows)),
            Kind::Long => Self::Long(Int64Builder::with_capacity(rows)),
            Kind::Float => Self::Float(Float32Builder::with_capacity(rows)),
            Kind::Double => Self::Double(Float64Builder::with_capacity(rows)),
            Kind::String | Kind::Enum(_) => {
                Self::Text(StringBuilder::with_capacity(rows, rows.saturating_mul(TEXT_BYTES_HINT)))
            }
            Kind::Timestamp => Self::Timestamp(TimestampMillisecondBuilder::with_capacity(rows).with_timezone("UTC")),
            Kind::Decimal { precision, scale } => {
                let builder = Decimal128Builder::with_capacity(rows)
                    .with_precision_and_scale(*precision, scale.cast_signed())
                    .expect("a schema has at most 38 digits, and no more decimals than digits");
                Self::Decimal(builder)
            }
        }
    }

    /// A cell that is not of the column's type becomes null; readers only make cells of the leaf's type.
    #[expect(clippy::cast_possible_truncation, reason = "readers checked the range of int and float cells")]
    fn append(&mut self, row: &Row<'_>, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Boolean(builder), Cell::Boolean(value)) => builder.append_value(value),
            (Self::Int(builder), Cell::Integer(value)) => builder.append_value(value as i32),
            (Self::Long(builder), Cell::Integer(value)) => builder.append_value(value),
            (Self::Timestamp(builder), Cell::Integer(value)) => builder.append_value(value),
            (Self::Float(builder), Cell::Number(value)) => builder.append_value(value as f32),
            (Self::Double(builder), Cell::Number(value)) => builder.append_value(value),
            (Self::Text(builder), Cell::Text(text)) => builder.append_value(text),
            (Self::Text(builder), Cell::Copied { .. }) => builder.append_option(row.text(cell)),
            (Self::Decimal(builder), Cell::Decimal(value)) => builder.append_value(i128::from_ne_bytes(value)),
            (Self::Boolean(builder), _) => builder.append_null(),
            (Self::Int(builder), _) => builder.append_null(),
            (Self::Long(builder), _) => builder.append_null(),
            (Self::Timestamp(builder), _) => builder.append_null(),
            (Self::Float(builder), _) => builder.append_null(),
            (Self::Double(builder), _) => builder.append_null(),
            (Self::Text(builder), _) => builder.append_null(),
            (Self::Decimal(builder), _) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::Long(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
        }
    }
}

/// Most text that a field adds beyond what its value spells out.
fn own_text_bytes(field: &Field) -> usize {
    let default = match &field.default {
        Some(Scalar::Text(text)) => text.len(),
        _ => 0,
    };
    match &field.kind {
        Kind::Enum(symbols) => symbols.iter().map(String::len).max().unwrap_or(0),
        _ => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_before_its_offsets_overflow() {
        let text = r#"{"type":"record","name":"R","fields":[{"name":"f","type":"string","default":"1234567"}]}"#;
        let schema = StreamSchema::parse(text).unwrap();
        let mut columns = Columns::new(&schema, 1);
        let mut row = Row::new(1);
        row.complete(&schema).unwrap();
        assert!(columns.append(&row, MAX_BATCH_TEXT_BYTES - 6).is_err());
        assert!(columns.append(&row, MAX_BATCH_TEXT_BYTES - 7).is_ok());
        assert!(columns.append(&row, 0).is_err());
        assert_eq!(columns.finish(&schema).num_rows(), 1);
    }
}
