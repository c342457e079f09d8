//! From Avro JSON text to a [`StreamSchema`]: leaves, columns and the tree of records around them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use apache_avro::{
    Schema,
    schema::{
        Alias, DecimalSchema, EnumSchema, FixedSchema, InnerDecimalSchema, Name, NamesRef, RecordField, RecordSchema,
        ResolvedSchema, UnionSchema, UuidSchema,
    },
};
use arrow_schema::{DataType, Field as ArrowField, Schema as ArrowSchema, TimeUnit};
use serde_json::Value as Json;

use super::{
    Decimal, Field, Kind, Scalar, StreamSchema,
    decimal::{self, MAX_PRECISION},
    instant, locate,
};
use crate::table::OWN_COLUMNS;

/// Longest schema text that is read, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 1 << 20;
/// Most leaves a stream may have.
pub const MAX_FIELDS: usize = 512;
/// Most faults of fields that are told together.
const MAX_FAULTS: usize = 20;
/// Deepest nesting of records.
pub const MAX_DEPTH: usize = 16;

const SUPPORTED: &str = "supported are boolean, int, long, float, double, string, enum, timestamp-millis, \
                         decimal of up to 38 digits, each also in a union with null, and records of these";

/// Why an Avro schema cannot be a stream's schema.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SchemaError {
    #[error("not an Avro schema: {0}")]
    Syntax(String),
    #[error("the schema text has {bytes} bytes, the limit is {MAX_SCHEMA_BYTES}")]
    TooLong { bytes: usize },
    #[error("a value must be a record, this schema is {found}")]
    NotARecord { found: String },
    #[error("the schema has no field")]
    Empty,
    #[error("field {path}: {found} is not supported; {SUPPORTED}")]
    Unsupported { path: String, found: String },
    /// What the Avro library says of one field.
    #[error("field {path}: {reason}")]
    Field { path: String, reason: String },
    #[error("field {path}: the default {reason}")]
    Default { path: String, reason: String },
    #[error("field {path}: records are nested deeper than {MAX_DEPTH} levels")]
    TooDeep { path: String },
    #[error("the schema has more than {MAX_FIELDS} fields")]
    TooManyFields,
    #[error("the fields {first} and {second} would both be the column {column}")]
    ColumnClash { column: String, first: String, second: String },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<SchemaError>),
}

impl SchemaError {
    /// Each fault alone.
    #[must_use]
    pub fn each(self) -> Vec<Self> {
        match self {
            Self::Several(faults) => faults,
            one => vec![one],
        }
    }

    /// Of faults that were found together.
    fn all(mut faults: Vec<Self>) -> Result<(), Self> {
        match faults.len() {
            0 => Ok(()),
            1 => Err(faults.remove(0)),
            _ => Err(Self::Several(faults)),
        }
    }
}

/// A record of the tree; `id` numbers the records of a schema from 0 on.
#[derive(Debug, Clone)]
pub(crate) struct RecordNode {
    pub id: usize,
    pub name: TypeName,
    pub fields: Vec<NodeField>,
}

/// A named child of a record.
#[derive(Debug, Clone)]
pub(crate) struct NodeField {
    pub name: String,
    pub aliases: Vec<String>,
    pub node: Node,
}

/// A child of a record.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Leaf(Leaf),
    Record(RecordNode),
}

/// Where a leaf is among the fields, and what of its Avro form the fields do not say.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    /// Index in `StreamSchema::fields`.
    pub field: usize,
    /// Branch of null in the union, if there is a union.
    pub null_branch: Option<u8>,
    /// Symbol that stands for the writer's unknown ones (Avro's enum default).
    pub enum_default: Option<usize>,
    /// Of an enum, or of a decimal that is a fixed.
    pub type_name: Option<TypeName>,
    /// Bytes of a decimal that is a fixed.
    pub fixed_size: Option<usize>,
}

/// Name and aliases of a record or an enum.
#[derive(Debug, Clone)]
pub(crate) struct TypeName {
    name: Name,
    aliases: Vec<Alias>,
}

impl TypeName {
    fn new(name: &Name, aliases: Option<&[Alias]>) -> Self {
        Self { name: name.clone(), aliases: aliases.unwrap_or_default().to_vec() }
    }

    /// Whether a type of the writer is this one: by its name without namespace, or by an alias that is its full name
    /// (Avro, "Schema Resolution" and "Aliases").
    pub fn is(&self, writer: &Name) -> bool {
        let is_writers = |alias: &Alias| (alias.name(), alias.namespace()) == (writer.name(), writer.namespace());
        self.name.name() == writer.name() || self.aliases.iter().any(is_writers)
    }

    /// The name with its namespace.
    pub fn full(&self) -> String {
        self.name.fullname(None)
    }
}

impl StreamSchema {
    /// Reads an Avro schema whose top is a record.
    ///
    /// # Errors
    /// [`SchemaError`] names the field that is at fault and what is supported.
    pub fn parse(avro_json: &str) -> Result<Self, SchemaError> {
        Self::parse_with(avro_json, &BTreeMap::new())
    }

    /// Likewise; fields whose paths are in `columns` have that column, as they had when it was first made.
    ///
    /// # Errors
    /// As [`StreamSchema::parse`].
    pub fn parse_with(avro_json: &str, columns: &BTreeMap<String, String>) -> Result<Self, SchemaError> {
        let (parsed, located) = match parse_avro(avro_json) {
            Ok(parsed) => (parsed, Vec::new()),
            // What remains without the fields at fault may have faults of its own.
            Err(SchemaError::Syntax(_)) => locate::faults(avro_json)?,
            Err(other) => return Err(other),
        };
        let names = ResolvedSchema::new(&parsed).map_err(|error| SchemaError::Syntax(error.to_string()))?;
        let Schema::Record(record) = &parsed else {
            return Err(SchemaError::NotARecord { found: describe(&parsed) });
        };
        let mut builder = Builder { names: names.get_names(), fields: Vec::new(), records: 0, faults: located };
        let root = builder.record(record, &[], None)?;
        let Builder { mut fields, records, faults, .. } = builder;
        SchemaError::all(faults)?;
        if fields.is_empty() {
            return Err(SchemaError::Empty);
        }
        SchemaError::all(name_columns(&mut fields, columns))?;
        let columns: Vec<ArrowField> = fields.iter().map(arrow_field).collect();
        Ok(Self {
            name: record.name.fullname(None),
            fields,
            arrow: Arc::new(ArrowSchema::new(columns)),
            avro: Arc::from(avro_json),
            root,
            record_count: records,
        })
    }
}

/// Parses Avro schema text of bounded length.
pub(crate) fn parse_avro(text: &str) -> Result<Schema, SchemaError> {
    if text.len() > MAX_SCHEMA_BYTES {
        return Err(SchemaError::TooLong { bytes: text.len() });
    }
    Schema::parse_str(text).map_err(|error| SchemaError::Syntax(error.to_string()))
}

/// What a schema is called in error texts.
pub(crate) fn describe(schema: &Schema) -> String {
    match schema {
        Schema::Union(union) => {
            let branches: Vec<String> = union.variants().iter().map(describe).collect();
            format!("union of {}", branches.join(", "))
        }
        Schema::Record(record) => format!("record {}", record.name.name()),
        Schema::Enum(symbols) => format!("enum {}", symbols.name.name()),
        Schema::Fixed(fixed) => format!("fixed {}", fixed.name.name()),
        Schema::Decimal(decimal) => format!("decimal({}, {})", decimal.precision, decimal.scale),
        Schema::Ref { name } => name.name().to_owned(),
        plain => word(plain).to_owned(),
    }
}

/// A type or logical type as schemas have it.
fn word(schema: &Schema) -> &'static str {
    match schema {
        Schema::Null => "null",
        Schema::Boolean => "boolean",
        Schema::Int => "int",
        Schema::Long => "long",
        Schema::Float => "float",
        Schema::Double => "double",
        Schema::Bytes => "bytes",
        Schema::String => "string",
        Schema::Array(_) => "array",
        Schema::Map(_) => "map",
        Schema::Union(_) => "union",
        Schema::Record(_) => "record",
        Schema::Enum(_) => "enum",
        Schema::Fixed(_) => "fixed",
        Schema::Decimal(_) => "decimal",
        Schema::BigDecimal => "big-decimal",
        Schema::Uuid(_) => "uuid",
        Schema::Date => "date",
        Schema::TimeMillis => "time-millis",
        Schema::TimeMicros => "time-micros",
        Schema::TimestampMillis => "timestamp-millis",
        Schema::TimestampMicros => "timestamp-micros",
        Schema::TimestampNanos => "timestamp-nanos",
        Schema::LocalTimestampMillis => "local-timestamp-millis",
        Schema::LocalTimestampMicros => "local-timestamp-micros",
        Schema::LocalTimestampNanos => "local-timestamp-nanos",
        Schema::Duration(_) => "duration",
        Schema::Ref { .. } => "type that is not defined",
    }
}

struct Builder<'s> {
    names: &'s NamesRef<'s>,
    fields: Vec<Field>,
    records: usize,
    /// Of single fields.
    faults: Vec<SchemaError>,
}

impl<'s> Builder<'s> {
    fn record(
        &mut self,
        record: &'s RecordSchema,
        path: &[String],
        default: Option<&Json>,
    ) -> Result<RecordNode, SchemaError> {
        if path.len() >= MAX_DEPTH {
            return Err(SchemaError::TooDeep { path: path.join(".") });
        }
        let id = self.records;
        self.records += 1;
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let mut path = path.to_vec();
            path.push(field.name.clone());
            let node =
                agreed_default(field, default, &path).and_then(|default| self.node(&field.schema, path, default));
            match node {
                Ok(node) => fields.push(NodeField { name: field.name.clone(), aliases: field.aliases.clone(), node }),
                Err(whole @ (SchemaError::TooManyFields | SchemaError::Several(_))) => return Err(whole),
                Err(fault) => self.faults.push(fault),
            }
            if self.faults.len() >= MAX_FAULTS {
                return Err(SchemaError::Several(std::mem::take(&mut self.faults)));
            }
        }
        Ok(RecordNode { id, name: TypeName::new(&record.name, record.aliases.as_deref()), fields })
    }

    fn node(&mut self, schema: &'s Schema, path: Vec<String>, default: Option<&Json>) -> Result<Node, SchemaError> {
        let schema = self.resolve(schema);
        if let Schema::Record(record) = schema {
            return Ok(Node::Record(self.record(record, &path, default)?));
        }
        let (schema, null_branch) = match schema {
            Schema::Union(union) => self.nullable(union, &path)?,
            plain => (plain, None),
        };
        let Some((kind, enum_default)) = leaf_kind(schema) else {
            return Err(SchemaError::Unsupported { path: path.join("."), found: describe(schema) });
        };
        if self.fields.len() == MAX_FIELDS {
            return Err(SchemaError::TooManyFields);
        }
        let nullable = null_branch.is_some();
        let default = match default {
            Some(json) => Some(
                scalar_of(json, &kind, nullable)
                    .map_err(|reason| SchemaError::Default { path: path.join("."), reason: reason.to_owned() })?,
            ),
            None => None,
        };
        let type_name = match schema {
            Schema::Enum(of) => Some(TypeName::new(&of.name, of.aliases.as_deref())),
            _ => fixed_of(schema).map(|fixed| TypeName::new(&fixed.name, fixed.aliases.as_deref())),
        };
        let fixed_size = fixed_of(schema).map(|fixed| fixed.size);
        let leaf = Leaf { field: self.fields.len(), null_branch, enum_default, type_name, fixed_size };
        self.fields.push(Field { path, column: String::new(), kind, nullable, default, computed: None });
        Ok(Node::Leaf(leaf))
    }

    fn nullable(&self, union: &'s UnionSchema, path: &[String]) -> Result<(&'s Schema, Option<u8>), SchemaError> {
        match union.variants() {
            [Schema::Null, other] => Ok((self.resolve(other), Some(0))),
            [other, Schema::Null] => Ok((self.resolve(other), Some(1))),
            _ => Err(SchemaError::Unsupported { path: path.join("."), found: describe(&Schema::Union(union.clone())) }),
        }
    }

    fn resolve(&self, schema: &'s Schema) -> &'s Schema {
        match schema {
            Schema::Ref { name } => self.names.get(name).copied().unwrap_or(schema),
            plain => plain,
        }
    }
}

/// The default of a field: its own, or the one that its record's default gives. Where both speak they must agree,
/// because flat leaves hold only one.
fn agreed_default<'j>(
    field: &'j RecordField,
    of_record: Option<&'j Json>,
    path: &[String],
) -> Result<Option<&'j Json>, SchemaError> {
    let given = of_record.and_then(|json| json.get(&field.name));
    match (field.default.as_ref(), given) {
        (Some(own), Some(given)) if own != given => Err(SchemaError::Default {
            path: path.join("."),
            reason: "differs from the one that the default of its record gives".to_owned(),
        }),
        (own, given) => Ok(own.or(given)),
    }
}

fn leaf_kind(schema: &Schema) -> Option<(Kind, Option<usize>)> {
    let kind = match schema {
        Schema::Boolean => Kind::Boolean,
        Schema::Int => Kind::Int,
        Schema::Long => Kind::Long,
        Schema::Float => Kind::Float,
        Schema::Double => Kind::Double,
        Schema::String | Schema::Uuid(UuidSchema::String) => Kind::String,
        Schema::TimestampMillis => Kind::Timestamp,
        Schema::Enum(EnumSchema { symbols, default, .. }) => {
            let default = default.as_ref().and_then(|name| symbols.iter().position(|symbol| symbol == name));
            return Some((Kind::Enum(symbols.clone()), default));
        }
        Schema::Decimal(decimal) => decimal_kind(decimal)?,
        _ => return None,
    };
    Some((kind, None))
}

/// None if it has more digits than are supported.
fn decimal_kind(decimal: &DecimalSchema) -> Option<Kind> {
    let precision = u8::try_from(decimal.precision).ok().filter(|precision| (1..=MAX_PRECISION).contains(precision))?;
    let scale = u8::try_from(decimal.scale).ok().filter(|scale| *scale <= precision)?;
    Some(Kind::Decimal { precision, scale })
}

/// The fixed that a decimal is.
fn fixed_of(schema: &Schema) -> Option<&FixedSchema> {
    match schema {
        Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => Some(fixed),
        _ => None,
    }
}

/// The bytes of a default, which Avro writes as the characters U+0000 to U+00FF.
fn decimal_of(json: &Json, precision: u8, scale: u8) -> Option<Scalar> {
    let bytes: Option<Vec<u8>> = json.as_str()?.chars().map(|letter| u8::try_from(letter).ok()).collect();
    let unscaled = decimal::from_be_bytes(&bytes?).filter(|unscaled| decimal::fits(*unscaled, precision))?;
    Some(Scalar::Decimal(Decimal { unscaled, scale }))
}

fn scalar_of(json: &Json, kind: &Kind, nullable: bool) -> Result<Scalar, &'static str> {
    if json.is_null() {
        return if nullable { Ok(Scalar::Null) } else { Err("is null, but the field is not nullable") };
    }
    let scalar = match kind {
        Kind::Boolean => json.as_bool().map(Scalar::Boolean),
        Kind::Int => json.as_i64().filter(|n| i32::try_from(*n).is_ok()).map(Scalar::Integer),
        Kind::Long => json.as_i64().map(Scalar::Integer),
        Kind::Timestamp => json.as_i64().filter(|ms| instant::is_in_range(*ms)).map(Scalar::Integer),
        #[expect(clippy::cast_possible_truncation, reason = "a float column holds the nearest f32")]
        Kind::Float => json.as_f64().filter(|n| (*n as f32).is_finite()).map(Scalar::Number),
        Kind::Double => json.as_f64().filter(|n| n.is_finite()).map(Scalar::Number),
        Kind::String => json.as_str().map(|text| Scalar::Text(text.to_owned())),
        Kind::Decimal { precision, scale } => decimal_of(json, *precision, *scale),
        Kind::Enum(symbols) => {
            json.as_str().filter(|text| symbols.iter().any(|s| s == text)).map(|text| Scalar::Text(text.to_owned()))
        }
    };
    scalar.ok_or("is not a value of the field's type")
}

/// Names each column by the last part of its path, or by the whole path joined by `_` where leaves share that part,
/// or where every table has a column of that name itself. A field that has a column `known` by its path keeps it, and no
/// other field gets that name.
/// Names are compared without case, as SQL does. Answers those that clash.
fn name_columns(fields: &mut [Field], known: &BTreeMap<String, String>) -> Vec<SchemaError> {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for field in fields.iter() {
        *uses.entry(short_name(field).to_ascii_lowercase()).or_default() += 1;
    }
    for (path, column) in known {
        let is_the_field = |field: &Field| field.dotted() == *path && short_name(field).eq_ignore_ascii_case(column);
        if !fields.iter().any(is_the_field) {
            *uses.entry(column.to_ascii_lowercase()).or_default() += 1;
        }
    }
    for field in fields.iter_mut() {
        if let Some(column) = known.get(&field.dotted()) {
            field.column.clone_from(column);
            continue;
        }
        let short = short_name(field);
        let is_own = field.path.len() > 1 && OWN_COLUMNS.iter().any(|own| own.eq_ignore_ascii_case(short));
        let is_alone = uses[&short.to_ascii_lowercase()] == 1;
        field.column = if is_alone && !is_own { short.to_owned() } else { field.path.join("_") };
    }
    let mut taken: HashMap<String, String> = HashMap::new();
    let clash = |field: &Field| {
        let first = taken.insert(field.column.to_ascii_lowercase(), field.dotted())?;
        Some(SchemaError::ColumnClash { column: field.column.clone(), first, second: field.dotted() })
    };
    fields.iter().filter_map(clash).collect()
}

fn short_name(field: &Field) -> &str {
    field.path.last().expect("a leaf's path has at least its own name")
}

pub(super) fn arrow_field(field: &Field) -> ArrowField {
    let data_type = match field.kind {
        Kind::Boolean => DataType::Boolean,
        Kind::Int => DataType::Int32,
        Kind::Long => DataType::Int64,
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::String | Kind::Enum(_) => DataType::Utf8,
        Kind::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        Kind::Decimal { precision, scale } => DataType::Decimal128(precision, scale.cast_signed()),
    };
    ArrowField::new(&field.column, data_type, field.nullable)
}
