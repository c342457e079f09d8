//! From rows back to bytes: Avro data, Confluent frames, JSON objects. What `decode` reads back is what was written.
//!
//! All functions append to a buffer of the caller's, to be reused. Rows come as [`Scalar`]s in the order of
//! `StreamSchema::fields` (simulators, replay) or as a row of a record batch with the stream's columns (live feed, REST).

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMillisecondType},
};
use arrow_schema::{DataType, TimeUnit};

use crate::{
    decode::avro::MAGIC,
    schema::{
        Decimal, Kind, Leaf, Node, RecordNode, Scalar, StreamSchema,
        decimal::{self, MAX_TEXT},
        instant,
    },
};

/// Shape of a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonShape {
    /// As the schema nests: `{"metadata":{"battery_level":87}}`.
    Nested,
    /// One key per column: `{"battery_level":87}`.
    Flat,
}

/// Why a row cannot be written by its schema.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    #[error("the row has {found} values, the schema has {expected} fields")]
    Width { found: usize, expected: usize },
    #[error("{path}: the value is not {expected}")]
    Type { path: String, expected: &'static str },
}

/// One value, borrowed from a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScalarRef<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(&'a str),
    Decimal(Decimal),
}

impl<'a> From<&'a Scalar> for ScalarRef<'a> {
    fn from(scalar: &'a Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Boolean(value) => Self::Boolean(*value),
            Scalar::Integer(value) => Self::Integer(*value),
            Scalar::Number(value) => Self::Number(*value),
            Scalar::Text(value) => Self::Text(value),
            Scalar::Decimal(value) => Self::Decimal(*value),
        }
    }
}

impl From<ScalarRef<'_>> for Scalar {
    fn from(scalar: ScalarRef<'_>) -> Self {
        match scalar {
            ScalarRef::Null => Self::Null,
            ScalarRef::Boolean(value) => Self::Boolean(value),
            ScalarRef::Integer(value) => Self::Integer(value),
            ScalarRef::Number(value) => Self::Number(value),
            ScalarRef::Text(value) => Self::Text(value.to_owned()),
            ScalarRef::Decimal(value) => Self::Decimal(value),
        }
    }
}

/// The value of a cell. Types that no stream has are null.
///
/// # Panics
/// If `row >= column.len()`.
#[must_use]
pub fn scalar_at(column: &dyn Array, row: usize) -> ScalarRef<'_> {
    if column.is_null(row) {
        return ScalarRef::Null;
    }
    match column.data_type() {
        DataType::Boolean => ScalarRef::Boolean(column.as_boolean().value(row)),
        DataType::Int32 => ScalarRef::Integer(i64::from(column.as_primitive::<Int32Type>().value(row))),
        DataType::Int64 => ScalarRef::Integer(column.as_primitive::<Int64Type>().value(row)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            ScalarRef::Integer(column.as_primitive::<TimestampMillisecondType>().value(row))
        }
        DataType::Float32 => ScalarRef::Number(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => ScalarRef::Number(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => ScalarRef::Text(column.as_string::<i32>().value(row)),
        DataType::Decimal128(_, scale) => ScalarRef::Decimal(Decimal {
            unscaled: column.as_primitive::<Decimal128Type>().value(row),
            scale: scale.unsigned_abs(),
        }),
        _ => ScalarRef::Null,
    }
}

/// The values of a row of a record batch.
///
/// # Panics
/// If `row >= batch.num_rows()`.
#[must_use]
pub fn scalars_at(batch: &RecordBatch, row: usize) -> Vec<Scalar> {
    batch.columns().iter().map(|column| Scalar::from(scalar_at(column, row))).collect()
}

/// Appends the Confluent frame of a schema id; the datum follows with [`encode_avro`].
pub fn push_frame(schema_id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&schema_id.to_be_bytes());
}

/// Appends the row as an Avro datum of the stream's own schema.
///
/// # Errors
/// [`EncodeError`] names the field whose value does not fit; `out` is then as it was.
pub fn encode_avro(schema: &StreamSchema, row: &[Scalar], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let expected = schema.fields.len();
    if row.len() != expected {
        return Err(EncodeError::Width { found: row.len(), expected });
    }
    let start = out.len();
    let result = avro_record(schema, &schema.root, row, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends a row of a batch of the stream as a JSON object.
///
/// # Panics
/// If `row >= batch.num_rows()` or the batch lacks columns of the stream.
pub fn encode_json(batch: &RecordBatch, row: usize, schema: &StreamSchema, shape: JsonShape, out: &mut Vec<u8>) {
    let value = |field: usize| scalar_at(batch.column(field), row);
    json_object(schema, shape, &value, out);
}

/// Appends a row of scalars as a JSON object. Values that are missing at the row's end are null.
pub fn encode_json_scalars(row: &[Scalar], schema: &StreamSchema, shape: JsonShape, out: &mut Vec<u8>) {
    let value = |field: usize| row.get(field).map_or(ScalarRef::Null, ScalarRef::from);
    json_object(schema, shape, &value, out);
}

fn avro_record(schema: &StreamSchema, node: &RecordNode, row: &[Scalar], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    for field in &node.fields {
        match &field.node {
            Node::Record(inner) => avro_record(schema, inner, row, out)?,
            Node::Leaf(leaf) => {
                let value = &row[leaf.field];
                match (leaf.null_branch, value) {
                    (Some(branch), Scalar::Null) => push_long(i64::from(branch), out),
                    (Some(branch), _) => {
                        push_long(i64::from(1 - branch), out);
                        avro_value(schema, leaf, value, out)?;
                    }
                    (None, _) => avro_value(schema, leaf, value, out)?,
                }
            }
        }
    }
    Ok(())
}

fn avro_value(schema: &StreamSchema, leaf: &Leaf, value: &Scalar, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let field = &schema.fields[leaf.field];
    match (&field.kind, value) {
        (Kind::Boolean, Scalar::Boolean(value)) => out.push(u8::from(*value)),
        (Kind::Int, Scalar::Integer(value)) if i32::try_from(*value).is_ok() => push_long(*value, out),
        (Kind::Long, Scalar::Integer(value)) => push_long(*value, out),
        (Kind::Timestamp, Scalar::Integer(value)) if instant::is_in_range(*value) => push_long(*value, out),
        #[expect(clippy::cast_possible_truncation, reason = "a float field holds the nearest f32")]
        (Kind::Float, Scalar::Number(value)) if (*value as f32).is_finite() => {
            out.extend_from_slice(&(*value as f32).to_le_bytes());
        }
        (Kind::Double, Scalar::Number(value)) if value.is_finite() => out.extend_from_slice(&value.to_le_bytes()),
        (Kind::String, Scalar::Text(value)) => {
            push_length(value.len(), out);
            out.extend_from_slice(value.as_bytes());
        }
        (Kind::Enum(symbols), Scalar::Text(value)) => {
            let position = symbols.iter().position(|symbol| symbol == value);
            let position = position.ok_or_else(|| wrong_type(schema, leaf.field))?;
            push_length(position, out);
        }
        (Kind::Decimal { precision, scale }, Scalar::Decimal(value)) => {
            let value = value.rescaled(*scale).filter(|value| decimal::fits(value.unscaled, *precision));
            let is_written = value.is_some_and(|value| push_decimal(value.unscaled, leaf.fixed_size, out));
            return if is_written { Ok(()) } else { Err(wrong_type(schema, leaf.field)) };
        }
        _ => return Err(wrong_type(schema, leaf.field)),
    }
    Ok(())
}

fn wrong_type(schema: &StreamSchema, leaf: usize) -> EncodeError {
    let field = &schema.fields[leaf];
    EncodeError::Type { path: field.dotted(), expected: field.kind.describe() }
}

/// The digits as bytes with their length, or as a fixed of `size` bytes; false if they do not fit in those.
fn push_decimal(unscaled: i128, size: Option<usize>, out: &mut Vec<u8>) -> bool {
    let (bytes, start) = decimal::be_bytes(unscaled);
    let bytes = &bytes[start..];
    match size {
        None => push_length(bytes.len(), out),
        Some(size) if size < bytes.len() => return false,
        Some(size) => out.extend(std::iter::repeat_n(if unscaled < 0 { 0xFF } else { 0 }, size - bytes.len())),
    }
    out.extend_from_slice(bytes);
    true
}

fn push_length(length: usize, out: &mut Vec<u8>) {
    push_long(i64::try_from(length).expect("a length of bytes in memory fits 63 bits"), out);
}

/// Zigzag varint.
fn push_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    loop {
        let low = u8::try_from(rest & 0x7F).expect("seven bits fit a byte");
        rest >>= 7;
        if rest == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn json_object<'a>(
    schema: &StreamSchema,
    shape: JsonShape,
    value: &impl Fn(usize) -> ScalarRef<'a>,
    out: &mut Vec<u8>,
) {
    match shape {
        JsonShape::Nested => json_record(schema, &schema.root, value, out),
        JsonShape::Flat => {
            out.push(b'{');
            for (index, field) in schema.fields.iter().enumerate() {
                json_key(index, &field.column, out);
                json_value(&field.kind, value(index), out);
            }
            out.push(b'}');
        }
    }
}

fn json_record<'a>(
    schema: &StreamSchema,
    node: &RecordNode,
    value: &impl Fn(usize) -> ScalarRef<'a>,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    for (index, field) in node.fields.iter().enumerate() {
        json_key(index, &field.name, out);
        match &field.node {
            Node::Record(inner) => json_record(schema, inner, value, out),
            Node::Leaf(leaf) => json_value(&schema.fields[leaf.field].kind, value(leaf.field), out),
        }
    }
    out.push(b'}');
}

/// Avro names are letters, digits and `_`: nothing in them needs an escape.
fn json_key(index: usize, name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn json_value(kind: &Kind, value: ScalarRef<'_>, out: &mut Vec<u8>) {
    match (kind, value) {
        (_, ScalarRef::Null) => out.extend_from_slice(b"null"),
        (_, ScalarRef::Boolean(true)) => out.extend_from_slice(b"true"),
        (_, ScalarRef::Boolean(false)) => out.extend_from_slice(b"false"),
        (Kind::Timestamp, ScalarRef::Integer(ms)) => {
            out.push(b'"');
            instant::write(ms, out);
            out.push(b'"');
        }
        (_, ScalarRef::Integer(value)) => json(&value, out),
        #[expect(clippy::cast_possible_truncation, reason = "the value came from an f32 and reads best as one")]
        (Kind::Float, ScalarRef::Number(value)) => json(&(value as f32), out),
        (_, ScalarRef::Number(value)) => json(&value, out),
        (_, ScalarRef::Text(value)) => json(&value, out),
        // As text: a reader that takes numbers for floats, as JavaScript does, would round it.
        (_, ScalarRef::Decimal(value)) => {
            out.push(b'"');
            out.extend_from_slice(value.text(&mut [0; MAX_TEXT]).as_bytes());
            out.push(b'"');
        }
    }
}

fn json(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("scalars and writes to memory cannot fail");
}
