//! From a writer schema and the stream's schema to a [`Plan`].
//!
//! A difference that concerns single values (a type that cannot be promoted, a missing field) does not fail the
//! compilation: it becomes a fault of the records, with its field path. Only schemas that no record can be read with
//! are refused: text that is no schema, a top that is no record, or a plan that outgrows its bound.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{DecimalSchema, InnerDecimalSchema, Name, NamesRef, RecordSchema, ResolvedSchema, UuidSchema},
};

use super::{
    plan::{Plan, Read, Step, Width},
    skip::{Skip, SkipId, Skips},
};
use crate::schema::{Kind, Leaf, Node, NodeField, RecordNode, SchemaError, StreamSchema, describe, parse_avro};

/// Most steps and skip programs of a plan.
const MAX_PLAN_STEPS: usize = 1 << 16;

/// Compiles the plan that reads data of the writer schema into the stream's leaves.
///
/// # Errors
/// [`SchemaError`] if the text is no schema of a record, or too large a one.
pub(in crate::decode) fn compile(writer: &str, stream: &StreamSchema) -> Result<Plan, SchemaError> {
    let parsed = parse_avro(writer)?;
    let names = ResolvedSchema::new(&parsed).map_err(|error| SchemaError::Syntax(error.to_string()))?;
    let Schema::Record(record) = &parsed else {
        return Err(SchemaError::NotARecord { found: describe(&parsed) });
    };
    let skips = Skips { programs: vec![Skip::Prefixed] };
    let mut compiler =
        Compiler { names: names.get_names(), stream, skips, skip_by_name: HashMap::new(), steps: 0, path: Vec::new() };
    let steps = compiler.record(record, &stream.root)?;
    Ok(Plan { steps, skips: compiler.skips })
}

struct Compiler<'s> {
    names: &'s NamesRef<'s>,
    stream: &'s StreamSchema,
    skips: Skips,
    skip_by_name: HashMap<&'s Name, SkipId>,
    steps: usize,
    path: Vec<String>,
}

impl<'s> Compiler<'s> {
    fn record(&mut self, writer: &'s RecordSchema, reader: &'s RecordNode) -> Result<Vec<Step>, SchemaError> {
        let mut steps = Vec::with_capacity(writer.fields.len());
        for field in &writer.fields {
            self.path.push(field.name.clone());
            let step = match find(reader, writer, &field.name) {
                Some(target) => self.node(&field.schema, &target.node)?,
                None => Step::Skip { field: self.path.join("."), skip: self.skip(&field.schema)? },
            };
            self.path.pop();
            steps.push(step);
        }
        Ok(steps)
    }

    fn node(&mut self, writer: &'s Schema, reader: &'s Node) -> Result<Step, SchemaError> {
        self.count()?;
        let writer = self.resolve(writer);
        if let Schema::Union(union) = writer {
            let branches: Result<Vec<Step>, SchemaError> =
                union.variants().iter().map(|branch| self.node(branch, reader)).collect();
            return Ok(Step::Union { place: self.path.join("."), branches: branches? });
        }
        match (writer, reader) {
            (Schema::Record(record), Node::Record(node)) => Ok(Step::Record(self.record(record, node)?)),
            (_, Node::Record(_)) => self.mismatch(writer, "a record"),
            (_, Node::Leaf(leaf)) => match self.read(writer, leaf) {
                Some(read) => Ok(Step::Leaf { leaf: leaf.field, read }),
                None => self.mismatch(writer, self.stream.fields[leaf.field].kind.describe()),
            },
        }
    }

    fn mismatch(&mut self, writer: &'s Schema, expected: &str) -> Result<Step, SchemaError> {
        let reason = format!("{}: the writer's {} cannot become {expected}", self.path.join("."), describe(writer));
        Ok(Step::Mismatch { reason, skip: self.skip(writer)? })
    }

    fn read(&self, writer: &Schema, leaf: &Leaf) -> Option<Read> {
        let field = &self.stream.fields[leaf.field];
        if matches!(writer, Schema::Null) {
            return field.nullable.then_some(Read::Null);
        }
        match &field.kind {
            Kind::Boolean => matches!(writer, Schema::Boolean).then_some(Read::Boolean),
            Kind::Int => (width(writer)? == Width::Int).then_some(Read::Int),
            Kind::Long => Some(match width(writer)? {
                Width::Int => Read::Int,
                Width::Long => Read::Long,
            }),
            Kind::Float if matches!(writer, Schema::Float) => Some(Read::Float),
            Kind::Float => width(writer).map(Read::IntegerAsFloat),
            Kind::Double if matches!(writer, Schema::Float) => Some(Read::Float),
            Kind::Double if matches!(writer, Schema::Double) => Some(Read::Double),
            Kind::Double => width(writer).map(Read::IntegerAsDouble),
            Kind::String => is_text(writer).then_some(Read::Text),
            Kind::Timestamp if matches!(writer, Schema::Date) => Some(Read::Day),
            Kind::Timestamp => width(writer).map(|width| Read::Instant { width, units_per_ms: units_per_ms(writer) }),
            Kind::Enum(symbols) => {
                let Schema::Enum(written) = writer else {
                    return None;
                };
                let position = |name: &String| symbols.iter().position(|symbol| symbol == name);
                Some(Read::Enum(written.symbols.iter().map(|name| position(name).or(leaf.enum_default)).collect()))
            }
        }
    }

    /// Recursion is bounded: serde_json lets a schema's text nest 128 levels, and a record is compiled where it is
    /// defined, so that references to it find its number.
    fn skip(&mut self, schema: &'s Schema) -> Result<SkipId, SchemaError> {
        self.count()?;
        let schema = self.resolve(schema);
        let skip = match schema {
            Schema::Record(record) => return self.skip_record(record),
            Schema::Array(array) => Skip::Array(self.skip(&array.items)?),
            Schema::Map(map) => Skip::Map(self.skip(&map.types)?),
            Schema::Union(union) => {
                let branches: Result<Vec<SkipId>, SchemaError> =
                    union.variants().iter().map(|branch| self.skip(branch)).collect();
                Skip::Union(branches?)
            }
            Schema::Null => Skip::Nothing,
            Schema::Boolean => Skip::Fixed(1),
            Schema::Float => Skip::Fixed(4),
            Schema::Double => Skip::Fixed(8),
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed))
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => Skip::Fixed(fixed.size),
            Schema::String
            | Schema::Bytes
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::String | UuidSchema::Bytes)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. }) => Skip::Prefixed,
            Schema::Int
            | Schema::Long
            | Schema::Enum(_)
            | Schema::Date
            | Schema::TimeMillis
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Skip::Varint,
            Schema::Ref { name } => {
                return Err(SchemaError::Syntax(format!("the type {} is not defined", name.name())));
            }
        };
        Ok(self.add(skip))
    }

    /// A record's number is known before its fields are, as they may lead back to it.
    fn skip_record(&mut self, record: &'s RecordSchema) -> Result<SkipId, SchemaError> {
        if let Some(known) = self.skip_by_name.get(&record.name) {
            return Ok(*known);
        }
        let id = self.add(Skip::Nothing);
        self.skip_by_name.insert(&record.name, id);
        let fields: Result<Vec<SkipId>, SchemaError> =
            record.fields.iter().map(|field| self.skip(&field.schema)).collect();
        self.skips.programs[id] = Skip::Record(fields?);
        Ok(id)
    }

    fn add(&mut self, skip: Skip) -> SkipId {
        self.skips.programs.push(skip);
        self.skips.programs.len() - 1
    }

    fn count(&mut self) -> Result<(), SchemaError> {
        self.steps += 1;
        if self.steps <= MAX_PLAN_STEPS {
            return Ok(());
        }
        Err(SchemaError::Syntax(format!("it takes more than {MAX_PLAN_STEPS} steps to read")))
    }

    fn resolve(&self, schema: &'s Schema) -> &'s Schema {
        match schema {
            Schema::Ref { name } => self.names.get(name).copied().unwrap_or(schema),
            plain => plain,
        }
    }
}

/// The stream's field that a writer's field is read into: by name, or by an alias whose field the writer lacks.
fn find<'n>(reader: &'n RecordNode, writer: &RecordSchema, name: &str) -> Option<&'n NodeField> {
    let by_alias = |field: &&NodeField| {
        let wanted = |candidate: &str| writer.fields.iter().any(|written| written.name == candidate);
        !wanted(&field.name) && field.aliases.iter().find(|alias| wanted(alias)).is_some_and(|alias| alias == name)
    };
    reader.fields.iter().find(|field| field.name == name).or_else(|| reader.fields.iter().find(by_alias))
}

/// Range of a type that is an int or a long on the wire, whatever it means.
fn width(writer: &Schema) -> Option<Width> {
    match writer {
        Schema::Int | Schema::Date | Schema::TimeMillis => Some(Width::Int),
        Schema::Long
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => Some(Width::Long),
        _ => None,
    }
}

/// Types that are a string or bytes on the wire, whatever they mean.
fn is_text(writer: &Schema) -> bool {
    matches!(
        writer,
        Schema::String
            | Schema::Bytes
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::String | UuidSchema::Bytes)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. })
    )
}

/// Units of a type of integers that is read as an instant. Avro lets a reader take any of them for its own, as
/// registries do, so that local times count as UTC, times of a day as those of 1970-01-01, and plain numbers as
/// milliseconds.
fn units_per_ms(writer: &Schema) -> i64 {
    match writer {
        Schema::TimeMicros | Schema::TimestampMicros | Schema::LocalTimestampMicros => 1_000,
        Schema::TimestampNanos | Schema::LocalTimestampNanos => 1_000_000,
        _ => 1,
    }
}
