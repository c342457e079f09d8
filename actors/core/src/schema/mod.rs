//! A stream's schema: Avro at the edge, flat Arrow columns inside.
//!
//! Nested records are flattened: `metadata.battery_level` becomes the column `battery_level` (the full path joined by
//! `_` where two leaves share a name). Supported leaf types and their Arrow columns:
//!
//! | Avro | kind | Arrow |
//! |---|---|---|
//! | boolean | `Boolean` | `Boolean` |
//! | int | `Int` | `Int32` |
//! | long | `Long` | `Int64` |
//! | float | `Float` | `Float32` |
//! | double | `Double` | `Float64` |
//! | string | `String` | `Utf8` |
//! | enum | `Enum(symbols)` | `Utf8` |
//! | long, logicalType timestamp-millis | `Timestamp` | `Timestamp(Millisecond, "UTC")` |
//! | bytes or fixed, logicalType decimal | `Decimal` | `Decimal128(precision, scale)` |
//!
//! Each may be nullable (`["null", T]` in either order) and may have a default. Everything else (arrays, maps, other
//! unions, plain bytes and fixed, other logical types) is a [`SchemaError`] that names the field.
//!
//! A schema is only made by [`StreamSchema::parse`], so that its leaves, its columns and its tree of records always
//! agree. [`StreamSchema::with_computed`] gives it columns that are no leaves. [`instant`] is the text form of its times.

pub mod decimal;
pub mod instant;
mod locate;
pub mod names;
mod parse;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

use arrow_schema::{Schema as ArrowSchema, SchemaRef};

pub use decimal::Decimal;
pub(crate) use parse::{Leaf, Node, NodeField, RecordNode, TypeName, describe, parse_avro};
pub use parse::{MAX_DEPTH, MAX_FIELDS, MAX_SCHEMA_BYTES, SchemaError};

/// The shape of a stream's values.
#[derive(Debug, Clone)]
pub struct StreamSchema {
    /// Full Avro name, such as `com.streaming.sensor.SensorReading`.
    pub name: String,
    /// Leaves in schema order, then what is computed: column `i` of every record batch of this stream is `fields[i]`.
    pub fields: Vec<Field>,
    /// The Arrow schema of decoded batches.
    pub arrow: SchemaRef,
    /// The schema's Avro JSON text, as registered.
    pub avro: Arc<str>,
    pub(crate) root: RecordNode,
    pub(crate) record_count: usize,
}

impl StreamSchema {
    /// The same with one more column, which no record has: what `computed` says of all the others.
    ///
    /// Its values may be null. Nothing is written from it but flat JSON: Avro and nested JSON have the record's fields.
    #[must_use]
    pub fn with_computed(&self, column: &str, kind: Kind, computed: &str) -> Self {
        let column = column.to_owned();
        let path = vec![column.clone()];
        let field = Field { path, column, kind, nullable: true, default: None, computed: Some(computed.into()) };
        let arrow = self.arrow.fields.iter().cloned().chain([Arc::new(parse::arrow_field(&field))]);
        let arrow = Arc::new(ArrowSchema::new(arrow.collect::<Vec<_>>()));
        let mut schema = Self { arrow, ..self.clone() };
        schema.fields.push(field);
        schema
    }

    /// Column of a leaf by its exact column name (`battery_level`) or dotted path (`metadata.battery_level`). What people
    /// wrote is looked up with [`StreamSchema::field_named`].
    #[must_use]
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.fields
            .iter()
            .position(|field| field.column == name)
            .or_else(|| self.fields.iter().position(|field| field.is_at(name)))
    }
}

/// One leaf of the schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Path in the value, such as `["metadata", "battery_level"]`.
    pub path: Vec<String>,
    /// Column name, such as `battery_level`.
    pub column: String,
    /// Type of the leaf.
    pub kind: Kind,
    /// Whether the value may be null.
    pub nullable: bool,
    /// Value taken when the field is missing from a JSON value or from the writer's schema.
    pub default: Option<Scalar>,
    /// What it is computed from, as [`crate::expr::ScalarExpr::definition`] says it; none for a field of the record.
    pub computed: Option<Arc<str>>,
}

impl Field {
    /// The path joined by dots, as people and error texts write it.
    #[must_use]
    pub fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// Where its values come from: the path in the record, or what is computed.
    #[must_use]
    pub fn source(&self) -> Cow<'_, str> {
        self.computed.as_deref().map_or_else(|| Cow::Owned(self.dotted()), Cow::Borrowed)
    }

    fn is_at(&self, dotted: &str) -> bool {
        dotted.split('.').eq(self.path.iter().map(String::as_str))
    }
}

impl Kind {
    /// What a value of this kind is called in error texts.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Boolean => "a boolean",
            Self::Int => "an int",
            Self::Long => "a long",
            Self::Float => "a float",
            Self::Double => "a double",
            Self::String => "a string",
            Self::Enum(_) => "an enum symbol",
            Self::Timestamp => "a time",
            Self::Decimal { .. } => "a decimal",
        }
    }
}

/// Leaf types.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    String,
    /// Symbols in schema order.
    Enum(Vec<String>),
    /// Milliseconds since 1970 (UTC).
    Timestamp,
    /// At most `precision` digits (1 to 38), `scale` of them behind the point (at most `precision`).
    Decimal {
        precision: u8,
        scale: u8,
    },
}

impl Kind {
    /// The word for it, as the API shows it; of a decimal with precision and scale.
    #[must_use]
    pub fn word(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Enum(_) => "enum",
            Self::Timestamp => "timestamp",
            Self::Decimal { precision, scale } => return Cow::Owned(format!("decimal({precision},{scale})")),
        })
    }
}

/// One value of one leaf.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Scalar {
    Null,
    Boolean(bool),
    /// `Int`, `Long` and `Timestamp` (milliseconds).
    Integer(i64),
    /// `Float` and `Double`.
    Number(f64),
    /// `String` and `Enum`.
    Text(String),
    /// `Decimal`, with the scale of its kind.
    Decimal(Decimal),
}
