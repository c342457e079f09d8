//! Types without their logical types.

use apache_avro::{
    Schema,
    schema::{DecimalSchema, EnumSchema, FixedSchema, InnerDecimalSchema, Name, RecordSchema, UnionSchema, UuidSchema},
};

/// A type as it is on the wire.
pub enum Shape<'a> {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(&'a FixedSchema),
    Enum(&'a EnumSchema),
    Record(&'a RecordSchema),
    Array(&'a Schema),
    Map(&'a Schema),
    Union(&'a UnionSchema),
    /// A name without a definition.
    Unknown(&'a Name),
}

impl<'a> Shape<'a> {
    pub fn of(schema: &'a Schema) -> Self {
        match schema {
            Schema::Null => Self::Null,
            Schema::Boolean => Self::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Self::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Self::Long,
            Schema::Float => Self::Float,
            Schema::Double => Self::Double,
            Schema::Bytes
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::Bytes)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. }) => Self::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Self::String,
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed))
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => Self::Fixed(fixed),
            Schema::Enum(symbols) => Self::Enum(symbols),
            Schema::Record(record) => Self::Record(record),
            Schema::Array(array) => Self::Array(&array.items),
            Schema::Map(map) => Self::Map(&map.types),
            Schema::Union(union) => Self::Union(union),
            Schema::Ref { name } => Self::Unknown(name),
        }
    }

    /// Whether values of this type can be read as another one without parts or a name; each as itself.
    pub fn is_promoted_to(&self, other: &Self) -> bool {
        match self {
            Self::Null => matches!(other, Self::Null),
            Self::Boolean => matches!(other, Self::Boolean),
            Self::Int => matches!(other, Self::Int | Self::Long | Self::Float | Self::Double),
            Self::Long => matches!(other, Self::Long | Self::Float | Self::Double),
            Self::Float => matches!(other, Self::Float | Self::Double),
            Self::Double => matches!(other, Self::Double),
            Self::Bytes | Self::String => matches!(other, Self::Bytes | Self::String),
            Self::Fixed(_)
            | Self::Enum(_)
            | Self::Record(_)
            | Self::Array(_)
            | Self::Map(_)
            | Self::Union(_)
            | Self::Unknown(_) => false,
        }
    }

    /// What it is called in reasons.
    pub fn describe(&self) -> String {
        let word = match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Fixed(fixed) => return format!("fixed {} of {} bytes", fixed.name.name(), fixed.size),
            Self::Enum(symbols) => return format!("enum {}", symbols.name.name()),
            Self::Record(record) => return format!("record {}", record.name.name()),
            Self::Unknown(name) => return format!("type {}, which is not defined", name.name()),
        };
        word.to_owned()
    }
}

/// Why the bytes of a number do not mean the same to the reader, if one of the two is a decimal.
pub fn numbers_differ(reader: &Schema, writer: &Schema) -> Option<String> {
    match (reader, writer) {
        (Schema::Decimal(read), Schema::Decimal(written)) => {
            let differs = (read.precision, read.scale) != (written.precision, written.scale);
            differs.then(|| format!("the writer's {} is not {}", decimal(written), decimal(read)))
        }
        (Schema::String | Schema::Uuid(UuidSchema::String), Schema::Decimal(written)) => {
            Some(format!("the writer's {} is a number in bytes and cannot become text", decimal(written)))
        }
        (Schema::String | Schema::Uuid(UuidSchema::String), Schema::BigDecimal) => {
            Some("the writer's big-decimal is a number in bytes and cannot become text".to_owned())
        }
        (Schema::Decimal(_) | Schema::BigDecimal, Schema::String | Schema::Uuid(UuidSchema::String)) => {
            Some("the writer's text cannot become a decimal, which is a number in bytes".to_owned())
        }
        _ => None,
    }
}

fn decimal(of: &DecimalSchema) -> String {
    format!("decimal({}, {})", of.precision, of.scale)
}
