//! Whether a reader's schema takes everything that a writer's schema writes.
//!
//! The rules are those of the Avro specification ("Schema Resolution", "Aliases", "Logical Types") as
//! `SchemaCompatibility` of Avro's Java library carries them out, which Confluent's registry asks (`AvroSchema`,
//! `isBackwardCompatible`):
//! - Named types match by their names without namespaces, or by an alias of the reader's that is the writer's full name.
//! - A field is found by its name or an alias of the reader's; two that are found are as wrong as none without a default.
//!   So is one that two fields of the reader would be read from: the Java library takes that, and reads into one of them.
//! - A logical type counts as the type below it, so that bytes are never fixed, and a uuid in a string is no uuid in a
//!   fixed. Two decimals must also agree in precision and scale: the specification says so, the Java library does not
//!   look, and a reader would take 12.34 for 1.234. A decimal is no text either: its bytes are those of a number.
//!
//! Types may contain themselves. So each pair of records that meet is compared by itself and taken to fit until it is
//! found not to, and those that rest on it are then compared again (`Comparison::settle`).

mod shape;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{Alias, EnumSchema, FixedSchema, Name, NamesRef, RecordField, RecordSchema, ResolvedSchema, UnionSchema},
};

use self::shape::{Shape, numbers_differ};
use super::shortened;

/// Most work of one comparison: some tenths of a second.
const MAX_WORK: usize = 20_000_000;
/// Work of comparing two types; that of comparing two names is 1.
const WORK_OF_TYPES: usize = 20;
/// Most pairs of records that one comparison keeps.
const MAX_PAIRS: usize = 50_000;
/// Most symbols of an enum that a reason names.
const MAX_SYMBOLS: usize = 5;

/// Whether everything that `writer` writes can be read by `reader`; what fails for some values counts as failing.
///
/// # Errors
/// What cannot be read, with the field's path.
pub fn reads(reader: &Schema, writer: &Schema) -> Result<(), String> {
    let names = |schema| ResolvedSchema::new(schema).map_err(|error| error.to_string());
    let (readers, writers) = (names(reader)?, names(writer)?);
    let mut comparison = Comparison {
        readers: readers.get_names(),
        writers: writers.get_names(),
        by_name: HashMap::new(),
        pairs: Vec::new(),
        work: 0,
    };
    loop {
        let known = comparison.pairs.len();
        comparison.fits(reader, writer, None)?;
        if comparison.pairs.len() == known {
            return Ok(());
        }
        comparison.settle(known)?;
    }
}

/// Two records that meet.
struct Pair<'a> {
    reader: &'a RecordSchema,
    writer: &'a RecordSchema,
    /// Why they do not fit; none as long as they are taken to.
    fault: Option<String>,
    /// Pairs that were compared in the belief that this one fits.
    believers: Vec<usize>,
}

struct Comparison<'a> {
    readers: &'a NamesRef<'a>,
    writers: &'a NamesRef<'a>,
    by_name: HashMap<(&'a Name, &'a Name), usize>,
    pairs: Vec<Pair<'a>>,
    work: usize,
}

impl<'a> Comparison<'a> {
    /// Compares each pair from number `met` on, and those that believed in one that does not fit again, until nothing
    /// changes.
    fn settle(&mut self, mut met: usize) -> Result<(), String> {
        let mut again = Vec::new();
        loop {
            let at = match again.pop() {
                Some(at) => at,
                None if met < self.pairs.len() => {
                    met += 1;
                    met - 1
                }
                None => return Ok(()),
            };
            if self.pairs[at].fault.is_some() {
                continue;
            }
            let fits = self.fields(at);
            if self.is_too_large() {
                return Err(too_many());
            }
            if let Err(why) = fits {
                self.pairs[at].fault = Some(shortened(&why));
                again.append(&mut self.pairs[at].believers);
            }
        }
    }

    /// Whether the fields of two records fit.
    fn fields(&mut self, at: usize) -> Result<(), String> {
        let Pair { reader, writer, .. } = self.pairs[at];
        let written: HashMap<&str, &RecordField> =
            writer.fields.iter().map(|field| (field.name.as_str(), field)).collect();
        let mut taken: HashMap<&str, &str> = HashMap::new();
        for field in &reader.fields {
            let names = std::iter::once(&field.name).chain(&field.aliases);
            let mut found = names.filter_map(|name| written.get(name.as_str()));
            let found = (found.next(), found.next());
            let fits = match found {
                (Some(one), _) if taken.contains_key(one.name.as_str()) => Err(format!(
                    "the writer's '{}' is read into '{}' as well: an alias is one too many",
                    one.name,
                    taken[one.name.as_str()]
                )),
                (None, _) if field.default.is_some() => Ok(()),
                (None, _) => Err("it is not written and has no default".to_owned()),
                (Some(one), None) => self.fits(&field.schema, &one.schema, Some(at)),
                (Some(one), Some(other)) if one.name == other.name => self.fits(&field.schema, &one.schema, Some(at)),
                (Some(one), Some(other)) => {
                    Err(format!("the writer has both '{}' and '{}': an alias is one too many", one.name, other.name))
                }
            };
            fits.map_err(|why| format!("field '{}': {why}", field.name))?;
            taken.extend(found.0.map(|one| (one.name.as_str(), field.name.as_str())));
        }
        Ok(())
    }

    /// Whether two types fit, as far as is known. `at` is the pair that asks.
    fn fits(&mut self, reader: &'a Schema, writer: &'a Schema, at: Option<usize>) -> Result<(), String> {
        self.work += WORK_OF_TYPES;
        if self.is_too_large() {
            return Err(too_many());
        }
        let (reader, writer) = (resolved(self.readers, reader), resolved(self.writers, writer));
        if let Some(why) = numbers_differ(reader, writer) {
            return Err(why);
        }
        match (Shape::of(reader), Shape::of(writer)) {
            (_, Shape::Union(branches)) => branches
                .variants()
                .iter()
                .try_for_each(|branch| self.fits(reader, branch, at))
                .map_err(|why| format!("a branch of the writer's union: {why}")),
            (Shape::Union(branches), _) => self.any_fits(branches, writer, at),
            (Shape::Array(reader), Shape::Array(writer)) => {
                self.fits(reader, writer, at).map_err(|why| format!("items: {why}"))
            }
            (Shape::Map(reader), Shape::Map(writer)) => {
                self.fits(reader, writer, at).map_err(|why| format!("values: {why}"))
            }
            (Shape::Record(reader), Shape::Record(writer)) => {
                named("record", (&reader.name, reader.aliases.as_deref()), &writer.name)?;
                self.pair(reader, writer, at)
            }
            (Shape::Enum(reader), Shape::Enum(writer)) => {
                named("enum", (&reader.name, reader.aliases.as_deref()), &writer.name)?;
                symbols(reader, writer)
            }
            (Shape::Fixed(reader), Shape::Fixed(writer)) => {
                named("fixed", (&reader.name, reader.aliases.as_deref()), &writer.name)?;
                sizes(reader, writer)
            }
            (to, from) if from.is_promoted_to(&to) => Ok(()),
            (to, from) => Err(format!("the writer's {} cannot become {}", from.describe(), to.describe())),
        }
    }

    fn any_fits(&mut self, branches: &'a UnionSchema, writer: &'a Schema, at: Option<usize>) -> Result<(), String> {
        let mut reason = None;
        for branch in branches.variants() {
            self.work += 1;
            if is_other_name(resolved(self.readers, branch), writer) {
                continue;
            }
            match self.fits(branch, writer, at) {
                Ok(()) => return Ok(()),
                // The branch of the writer's own kind says most.
                Err(why) if reason.is_none() || same_kind(resolved(self.readers, branch), writer) => reason = Some(why),
                Err(_) => {}
            }
        }
        let of = Shape::of(writer).describe();
        let reason = reason.map(|why| format!(": {why}")).unwrap_or_default();
        Err(format!("no branch of the union takes the writer's {of}{reason}"))
    }

    fn is_too_large(&self) -> bool {
        self.work > MAX_WORK || self.pairs.len() > MAX_PAIRS
    }

    /// What is known of two records.
    fn pair(&mut self, reader: &'a RecordSchema, writer: &'a RecordSchema, at: Option<usize>) -> Result<(), String> {
        let pairs = &mut self.pairs;
        let number = *self.by_name.entry((&reader.name, &writer.name)).or_insert_with(|| {
            pairs.push(Pair { reader, writer, fault: None, believers: Vec::new() });
            pairs.len() - 1
        });
        match &self.pairs[number].fault {
            Some(why) => Err(why.clone()),
            None => {
                self.pairs[number].believers.extend(at);
                Ok(())
            }
        }
    }
}

fn too_many() -> String {
    format!("the schemas are too large to compare: over {} types or {MAX_PAIRS} records meet", MAX_WORK / WORK_OF_TYPES)
}

fn resolved<'a>(names: &'a NamesRef<'a>, schema: &'a Schema) -> &'a Schema {
    match schema {
        Schema::Ref { name } => names.get(name).copied().unwrap_or(schema),
        plain => plain,
    }
}

fn same_kind(one: &Schema, other: &Schema) -> bool {
    std::mem::discriminant(&Shape::of(one)) == std::mem::discriminant(&Shape::of(other))
}

/// Whether both are named and the reader's is not the writer's.
fn is_other_name(reader: &Schema, writer: &Schema) -> bool {
    let (Some(name), Some(written)) = (reader.name(), writer.name()) else { return false };
    !is_named(name, reader.aliases().map(Vec::as_slice), written)
}

/// Whether a named type of the reader is the writer's: by the name alone, or by an alias that is the full name.
fn is_named(name: &Name, aliases: Option<&[Alias]>, writer: &Name) -> bool {
    let is_writers = |alias: &Alias| (alias.name(), alias.namespace()) == (writer.name(), writer.namespace());
    name.name() == writer.name() || aliases.is_some_and(|aliases| aliases.iter().any(is_writers))
}

fn named(kind: &str, (name, aliases): (&Name, Option<&[Alias]>), writer: &Name) -> Result<(), String> {
    if is_named(name, aliases, writer) {
        return Ok(());
    }
    let (reader, writer) = (name.fullname(None), writer.fullname(None));
    Err(format!("the writer's {kind} {writer} is not the {kind} {reader}, which has no alias \"{writer}\""))
}

fn sizes(reader: &FixedSchema, writer: &FixedSchema) -> Result<(), String> {
    let (read, written) = (reader.size, writer.size);
    let name = writer.name.name();
    if read == written { Ok(()) } else { Err(format!("the writer's fixed {name} has {written} bytes, not {read}")) }
}

fn symbols(reader: &EnumSchema, writer: &EnumSchema) -> Result<(), String> {
    if reader.default.as_ref().is_some_and(|symbol| reader.symbols.contains(symbol)) {
        return Ok(());
    }
    let known: std::collections::HashSet<&str> = reader.symbols.iter().map(String::as_str).collect();
    let unknown = writer.symbols.iter().map(String::as_str).filter(|symbol| !known.contains(symbol));
    let unknown: Vec<&str> = unknown.take(MAX_SYMBOLS).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let name = reader.name.name();
    Err(format!("the enum {name} has no default and lacks symbols of the writer: {}", unknown.join(", ")))
}
