//! From a writer schema and the stream's schema to a [`Plan`].
//!
//! A difference that concerns single values (a type that cannot be promoted, a missing field) does not fail the
//! compilation: it becomes a fault of the records, with its field path. Only schemas that no record can be read with
//! are refused: text that is no schema, a top that is neither a record nor a union with one, or a plan that outgrows its
//! bound.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{
        DecimalSchema, InnerDecimalSchema, Name, NamesRef, RecordSchema, ResolvedSchema, UnionSchema, UuidSchema,
    },
};

use super::{
    plan::{Plan, Read, Step, Width},
    skip::{Skip, SkipId, Skips},
};
use crate::schema::{
    Kind, Leaf, Node, NodeField, RecordNode, SchemaError, StreamSchema, TypeName, describe, parse_avro,
};

/// Most steps of a plan: a type of the writer is compiled for each place of the stream that it may come to. What is
/// skipped counts nothing, as each type is compiled once for that.
const MAX_PLAN_STEPS: usize = 1 << 16;
/// The value as a whole, where a fault has no field.
const VALUE: &str = "the value";

/// Compiles the plan that reads data of the writer schema into the stream's leaves.
///
/// # Errors
/// [`SchemaError`] if the text is no schema of a record, or too large a one.
pub(in crate::decode) fn compile(writer: &str, stream: &StreamSchema) -> Result<Plan, SchemaError> {
    let parsed = parse_avro(writer)?;
    let names = ResolvedSchema::new(&parsed).map_err(|error| SchemaError::Syntax(error.to_string()))?;
    let is_record = |schema: &Schema| match schema {
        Schema::Union(union) => union.variants().iter().any(|branch| matches!(branch, Schema::Record(_))),
        other => matches!(other, Schema::Record(_)),
    };
    if !is_record(&parsed) {
        return Err(SchemaError::NotARecord { found: describe(&parsed) });
    }
    let mut compiler = Compiler {
        names: names.get_names(),
        stream,
        skips: Skips::default(),
        skip_by_name: HashMap::new(),
        skip_by_place: HashMap::new(),
        steps: 0,
        path: Vec::new(),
    };
    let top = compiler.of_record(&parsed, &stream.root)?;
    Ok(Plan { top, skips: compiler.skips })
}

struct Compiler<'s> {
    names: &'s NamesRef<'s>,
    stream: &'s StreamSchema,
    skips: Skips,
    /// Of records, which may contain themselves.
    skip_by_name: HashMap<&'s Name, SkipId>,
    /// By where a type is in the parsed schema.
    skip_by_place: HashMap<*const Schema, SkipId>,
    steps: usize,
    path: Vec<String>,
}

impl<'s> Compiler<'s> {
    fn record(&mut self, writer: &'s RecordSchema, reader: &'s RecordNode) -> Result<Vec<Step>, SchemaError> {
        let mut steps = Vec::with_capacity(writer.fields.len());
        for field in &writer.fields {
            self.path.push(field.name.clone());
            let mut targets = reader.fields.iter().filter(|target| is_read_from(target, writer, &field.name));
            let step = match (targets.next(), targets.next()) {
                (Some(target), None) => self.node(&field.schema, &target.node)?,
                (None, _) => Step::Skip { field: self.place(), skip: self.skip(&field.schema)? },
                (Some(one), Some(other)) => {
                    let (one, other) = (&one.name, &other.name);
                    let why = format!("it would be read into both {one} and {other}: an alias is one too many");
                    self.mismatch(&field.schema, &why)?
                }
            };
            self.path.pop();
            steps.push(step);
        }
        Ok(steps)
    }

    fn node(&mut self, writer: &'s Schema, reader: &'s Node) -> Result<Step, SchemaError> {
        match reader {
            Node::Record(node) => self.of_record(writer, node),
            Node::Leaf(leaf) => self.of_leaf(writer, leaf),
        }
    }

    fn of_record(&mut self, writer: &'s Schema, reader: &'s RecordNode) -> Result<Step, SchemaError> {
        self.count()?;
        match self.resolve(writer) {
            Schema::Union(union) => self.union(union, |compiler, branch| compiler.of_record(branch, reader)),
            Schema::Record(record) if reader.name.is(&record.name) => Ok(Step::Record(self.record(record, reader)?)),
            other @ Schema::Record(record) => self.mismatch(other, &named("record", &record.name, &reader.name)),
            other => self.mismatch(other, &cannot_become(other, "a record")),
        }
    }

    fn of_leaf(&mut self, writer: &'s Schema, leaf: &'s Leaf) -> Result<Step, SchemaError> {
        self.count()?;
        let writer = self.resolve(writer);
        match (writer, &leaf.type_name) {
            (Schema::Union(union), _) => self.union(union, |compiler, branch| compiler.of_leaf(branch, leaf)),
            (Schema::Enum(symbols), Some(name)) if !name.is(&symbols.name) => {
                self.mismatch(writer, &named("enum", &symbols.name, name))
            }
            (
                Schema::Fixed(fixed) | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }),
                Some(name),
            ) if leaf.fixed_size.is_some() && !name.is(&fixed.name) => {
                self.mismatch(writer, &named("fixed", &fixed.name, name))
            }
            _ => match self.read(writer, leaf) {
                Some(read) => Ok(Step::Leaf { leaf: leaf.field, read }),
                None => self.mismatch(writer, &cannot_become(writer, self.stream.fields[leaf.field].kind.describe())),
            },
        }
    }

    fn union(
        &mut self,
        union: &'s UnionSchema,
        mut branch: impl FnMut(&mut Self, &'s Schema) -> Result<Step, SchemaError>,
    ) -> Result<Step, SchemaError> {
        let branches: Result<Vec<Step>, SchemaError> =
            union.variants().iter().map(|variant| branch(self, variant)).collect();
        Ok(Step::Union { place: self.place(), branches: branches? })
    }

    fn mismatch(&mut self, writer: &'s Schema, why: &str) -> Result<Step, SchemaError> {
        let reason = format!("{}: {why}", self.place());
        Ok(Step::Mismatch { reason, skip: self.skip(writer)? })
    }

    /// Path of the field at hand.
    fn place(&self) -> String {
        if self.path.is_empty() { VALUE.to_owned() } else { self.path.join(".") }
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
            Kind::Decimal { precision, scale } => {
                let size = decimal_size(writer, (*precision, *scale))?;
                (size == leaf.fixed_size).then_some(Read::Decimal { size })
            }
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
        let schema = self.resolve(schema);
        let place = std::ptr::from_ref(schema);
        if let Some(known) = self.skip_by_place.get(&place) {
            return Ok(*known);
        }
        let id = self.skip_anew(schema)?;
        self.skip_by_place.insert(place, id);
        Ok(id)
    }

    fn skip_anew(&mut self, schema: &'s Schema) -> Result<SkipId, SchemaError> {
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

/// Whether a field of the stream is read from a writer's field: by its name, or by an alias where the writer lacks that.
fn is_read_from(target: &NodeField, writer: &RecordSchema, name: &str) -> bool {
    if target.name == name || target.aliases.is_empty() {
        return target.name == name;
    }
    let is_written = |candidate: &str| writer.fields.iter().any(|written| written.name == candidate);
    !is_written(&target.name)
        && target.aliases.iter().find(|alias| is_written(alias)).is_some_and(|alias| alias == name)
}

fn cannot_become(writer: &Schema, expected: &str) -> String {
    format!("the writer's {} cannot become {expected}", describe(writer))
}

/// Why a named type is not the stream's, in the words of the registry.
fn named(kind: &str, writer: &Name, reader: &TypeName) -> String {
    let (writer, reader) = (writer.fullname(None), reader.full());
    format!("the writer's {kind} {writer} is not the {kind} {reader}, which has no alias \"{writer}\"")
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

/// Bytes of a writer's type that is a decimal of this precision and scale, or bytes that say nothing of themselves; the
/// inner none means that their number is in front of them.
fn decimal_size(writer: &Schema, (precision, scale): (u8, u8)) -> Option<Option<usize>> {
    match writer {
        Schema::Bytes => Some(None),
        Schema::Fixed(fixed) => Some(Some(fixed.size)),
        Schema::Decimal(of) if (of.precision, of.scale) == (usize::from(precision), usize::from(scale)) => {
            match &of.inner {
                InnerDecimalSchema::Bytes => Some(None),
                InnerDecimalSchema::Fixed(fixed) => Some(Some(fixed.size)),
            }
        }
        _ => None,
    }
}

/// Types that are a string or bytes on the wire, whatever they mean; but no numbers, which are no text.
fn is_text(writer: &Schema) -> bool {
    matches!(writer, Schema::String | Schema::Bytes | Schema::Uuid(UuidSchema::String | UuidSchema::Bytes))
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
