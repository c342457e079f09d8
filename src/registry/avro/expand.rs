//! Named types put in wherever they are used.
//!
//! apache-avro's check compares two uses of a named type by name alone, and takes a use and a definition for different
//! types; a field that moved in front of another then looks like a changed type. With the definition at each place
//! (but not inside itself) the check sees what it compares.

use apache_avro::{
    Schema,
    schema::{ArraySchema, MapSchema, Name, RecordField, RecordSchema, ResolvedSchema, UnionSchema},
};

/// Most types in an expanded schema; beyond that, uses stay names.
const MAX_TYPES: usize = 20_000;
/// Depth below which uses stay names, as a schema may refer far.
const MAX_DEPTH: usize = 128;

/// The schema with named types in place of their uses.
pub fn whole(schema: &Schema) -> Schema {
    let Ok(resolved) = ResolvedSchema::new(schema) else { return schema.clone() };
    let mut expansion = Expansion { resolved: &resolved, inside: Vec::new(), types: 0, depth: 0 };
    expansion.schema(schema)
}

struct Expansion<'a> {
    resolved: &'a ResolvedSchema<'a>,
    /// Named types around this place.
    inside: Vec<Name>,
    types: usize,
    depth: usize,
}

impl Expansion<'_> {
    fn schema(&mut self, schema: &Schema) -> Schema {
        self.types += 1;
        self.depth += 1;
        let expanded = self.expanded(schema);
        self.depth -= 1;
        expanded
    }

    fn expanded(&mut self, schema: &Schema) -> Schema {
        let has_room = self.types < MAX_TYPES && self.depth < MAX_DEPTH;
        match schema {
            Schema::Ref { name } if has_room && !self.inside.contains(name) => {
                match self.resolved.get_names().get(name) {
                    Some(definition) => self.schema(definition),
                    None => schema.clone(),
                }
            }
            Schema::Array(array) => {
                Schema::Array(ArraySchema { items: Box::new(self.schema(&array.items)), ..array.clone() })
            }
            Schema::Map(map) => Schema::Map(MapSchema { types: Box::new(self.schema(&map.types)), ..map.clone() }),
            Schema::Union(union) => {
                let branches = union.variants().iter().map(|branch| self.schema(branch)).collect();
                UnionSchema::new(branches).map_or_else(|_| schema.clone(), Schema::Union)
            }
            Schema::Record(record) => {
                self.inside.push(record.name.clone());
                let field = |field: &RecordField| RecordField { schema: self.schema(&field.schema), ..field.clone() };
                let fields = record.fields.iter().map(field).collect();
                self.inside.pop();
                Schema::Record(RecordSchema { fields, ..record.clone() })
            }
            other => other.clone(),
        }
    }
}
