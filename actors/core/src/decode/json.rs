//! One JSON object to one [`Row`], driven by the schema's tree of records.
//!
//! Strict: a number in quotes is a string, `1.0` is no int, a key twice is a fault, nothing may follow the object.
//! Unknown fields are skipped and counted. A fault against the schema's rules is reported as such only if the text is
//! JSON at all; otherwise the text is what is wrong. serde_json does the parsing; the visitors never allocate for a
//! good record, but for texts with escapes.

use std::{borrow::Cow, fmt};

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    exact::{self, ExactFault},
    fault::{Fault, text},
    row::{Cell, Row},
};
use crate::{
    output::ErrorClass,
    schema::{Kind, Node, RecordNode, StreamSchema, instant},
};

/// State that is kept from record to record.
#[derive(Debug)]
pub(super) struct JsonReader {
    /// For each record of the schema: the field met last time at each position. Producers rarely change the order.
    order: Vec<Vec<usize>>,
    /// For each record of the schema: the number of the value that it was met in.
    met_in: Vec<u64>,
    value_number: u64,
}

impl JsonReader {
    pub fn new(schema: &StreamSchema) -> Self {
        let mut order = vec![Vec::new(); schema.record_count];
        note_order(&schema.root, &mut order);
        Self { order, met_in: vec![0; schema.record_count], value_number: 0 }
    }

    /// Fills `row` (cleared by the caller) and returns the number of unknown fields.
    pub fn read<'de>(
        &mut self,
        schema: &StreamSchema,
        bytes: &'de [u8],
        row: &mut Row<'de>,
    ) -> Result<u64, Box<Fault>> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Fault::decode(format!("not UTF-8 from byte {} on", error.valid_up_to())))?;
        self.value_number += 1;
        let mut context = Context { schema, reader: self, row, leaf: None, fault: None, unknown: 0 };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let seed = RecordSeed { node: &schema.root, context: &mut context };
        match seed.deserialize(&mut deserializer).and_then(|()| deserializer.end()) {
            Ok(()) => Ok(context.unknown),
            Err(error) => Err(fault_of(context, &error, text)),
        }
    }
}

fn note_order(node: &RecordNode, order: &mut [Vec<usize>]) {
    order[node.id] = (0..node.fields.len()).collect();
    for field in &node.fields {
        if let Node::Record(inner) = &field.node {
            note_order(inner, order);
        }
    }
}

#[cold]
fn fault_of(context: Context<'_, '_, '_>, error: &serde_json::Error, text: &str) -> Box<Fault> {
    let fault = match context.fault {
        Some(fault) => fault,
        None => fault_of_syntax(context.schema, context.leaf, error),
    };
    if fault.class == ErrorClass::Decode {
        return fault;
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => fault,
        Err(syntax) => Fault::decode(format!("not JSON: {syntax}")),
    }
}

fn fault_of_syntax(schema: &StreamSchema, leaf: Option<usize>, error: &serde_json::Error) -> Box<Fault> {
    // serde_json tells a number beyond f64 from other syntax errors by its text alone.
    let is_range = error.to_string().starts_with("number out of range");
    match leaf {
        Some(leaf) if is_range => Fault::of_leaf(schema, leaf, text::OUT_OF_RANGE),
        None if is_range => Fault::contract(text::OUT_OF_RANGE),
        _ => Fault::decode(format!("not JSON: {error}")),
    }
}

struct Context<'c, 's, 'de> {
    schema: &'s StreamSchema,
    reader: &'c mut JsonReader,
    row: &'c mut Row<'de>,
    /// The leaf whose value is being read.
    leaf: Option<usize>,
    fault: Option<Box<Fault>>,
    unknown: u64,
}

impl Context<'_, '_, '_> {
    #[cold]
    fn refuse<E: de::Error>(&mut self, fault: Box<Fault>) -> E {
        self.fault = Some(fault);
        E::custom("refused")
    }

    #[cold]
    fn refuse_twice<E: de::Error>(&mut self, name: &str) -> E {
        self.refuse(Fault::decode(format!("{name}: twice in the same object")))
    }
}

struct RecordSeed<'c, 'n, 'x, 's, 'de> {
    node: &'n RecordNode,
    context: &'c mut Context<'x, 's, 'de>,
}

impl<'de> DeserializeSeed<'de> for RecordSeed<'_, '_, '_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_, '_, '_, '_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { node, context } = self;
        context.reader.met_in[node.id] = context.reader.value_number;
        let mut position = 0;
        loop {
            context.leaf = None;
            let guess = context.reader.order[node.id].get(position).copied().unwrap_or(0);
            let Some(key) = map.next_key_seed(KeySeed { node, guess })? else {
                return Ok(());
            };
            let Some(index) = key else {
                map.next_value::<IgnoredAny>()?;
                context.unknown += 1;
                continue;
            };
            if index != guess
                && let Some(hint) = context.reader.order[node.id].get_mut(position)
            {
                *hint = index;
            }
            position += 1;
            let field = &node.fields[index];
            match &field.node {
                Node::Leaf(leaf) if matches!(context.row.cells[leaf.field], Cell::Missing) => {
                    context.leaf = Some(leaf.field);
                    map.next_value_seed(LeafSeed { leaf: leaf.field, context })?;
                }
                Node::Record(inner) if context.reader.met_in[inner.id] != context.reader.value_number => {
                    map.next_value_seed(RecordSeed { node: inner, context })?;
                }
                Node::Leaf(_) | Node::Record(_) => return Err(context.refuse_twice(&field.name)),
            }
        }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.refuse("a boolean")
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.refuse("a number")
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.refuse("a number")
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.refuse("a number")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.refuse("a string")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.refuse("null")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.refuse("an array")
    }
}

impl RecordSeed<'_, '_, '_, '_, '_> {
    #[cold]
    fn refuse<E: de::Error>(self, found: &str) -> Result<(), E> {
        let path = record_path(self.context.schema, self.node);
        Err(self.context.refuse(Fault::contract(format!("{path}: found {found}, expected an object"))))
    }
}

/// The dotted path of a record, as its leaves tell it.
fn record_path<'s>(schema: &'s StreamSchema, node: &RecordNode) -> Cow<'s, str> {
    fn find(current: &RecordNode, id: usize, path: &mut Vec<String>) -> bool {
        if current.id == id {
            return true;
        }
        for field in &current.fields {
            if let Node::Record(inner) = &field.node {
                path.push(field.name.clone());
                if find(inner, id, path) {
                    return true;
                }
                path.pop();
            }
        }
        false
    }
    let mut path = Vec::new();
    find(&schema.root, node.id, &mut path);
    if path.is_empty() { Cow::Borrowed("the value") } else { Cow::Owned(path.join(".")) }
}

/// Index of the field that a key names, if the record has it.
struct KeySeed<'n> {
    node: &'n RecordNode,
    guess: usize,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        let fields = &self.node.fields;
        if fields.get(self.guess).is_some_and(|field| field.name == key) {
            return Ok(Some(self.guess));
        }
        Ok(fields.iter().position(|field| field.name == key))
    }
}

struct LeafSeed<'c, 'x, 's, 'de> {
    leaf: usize,
    context: &'c mut Context<'x, 's, 'de>,
}

impl<'s, 'de> LeafSeed<'_, '_, 's, 'de> {
    fn kind(&self) -> &'s Kind {
        &self.context.schema.fields[self.leaf].kind
    }

    fn set<E: de::Error>(self, cell: Cell<'de>) -> Result<(), E> {
        self.context.row.cells[self.leaf] = cell;
        Ok(())
    }

    #[cold]
    fn mismatch<E: de::Error>(self, found: &str) -> Result<(), E> {
        let fault = Fault::mismatch(self.context.schema, self.leaf, found);
        Err(self.context.refuse(fault))
    }

    #[cold]
    fn fault<E: de::Error>(self, text: &str) -> Result<(), E> {
        let fault = Fault::of_leaf(self.context.schema, self.leaf, text);
        Err(self.context.refuse(fault))
    }

    /// Sets text other than a time or symbol through `store`.
    fn text<E: de::Error>(self, value: &str, store: impl FnOnce(Self)) -> Result<(), E> {
        match self.kind() {
            Kind::String => {
                store(self);
                Ok(())
            }
            Kind::Enum(symbols) if symbols.iter().any(|symbol| symbol == value) => {
                store(self);
                Ok(())
            }
            Kind::Enum(_) => self.fault(text::UNKNOWN_SYMBOL),
            Kind::Timestamp => match instant::parse(value) {
                Some(ms) => self.set(Cell::Integer(ms)),
                None => self.fault(text::NO_TIME),
            },
            Kind::Boolean | Kind::Int | Kind::Long | Kind::Float | Kind::Double | Kind::Decimal { .. } => {
                self.mismatch("a string")
            }
        }
    }

    /// Reads a value from its source text.
    #[inline(never)]
    fn exact<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        if json == "null" {
            return self.visit_unit();
        }
        match exact::cell(json, self.kind()) {
            Ok(cell) => self.set(cell),
            Err(ExactFault::Found(found)) => self.mismatch(found),
            Err(ExactFault::Text(text)) => self.fault(text),
        }
    }

    fn float<E: de::Error>(self, value: f64) -> Result<(), E> {
        #[expect(clippy::cast_possible_truncation, reason = "the nearest f32 is what a float column holds")]
        let fits = (value as f32).is_finite();
        if fits { self.set(Cell::Number(value)) } else { self.fault(text::OUT_OF_RANGE) }
    }
}

impl<'de> DeserializeSeed<'de> for LeafSeed<'_, '_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if exact::is_exact(self.kind()) {
            return self.exact(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LeafSeed<'_, '_, '_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a scalar")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        match self.kind() {
            Kind::Boolean => self.set(Cell::Boolean(value)),
            _ => self.mismatch("a boolean"),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        match self.kind() {
            Kind::Int if i32::try_from(value).is_err() => self.fault(text::OUT_OF_RANGE),
            Kind::Timestamp if !instant::is_in_range(value) => self.fault(text::TIME_OUT_OF_RANGE),
            Kind::Int | Kind::Long | Kind::Timestamp => self.set(Cell::Integer(value)),
            #[expect(clippy::cast_precision_loss, reason = "JSON does not tell integers from floats")]
            Kind::Float | Kind::Double => self.set(Cell::Number(value as f64)),
            Kind::Boolean | Kind::String | Kind::Enum(_) | Kind::Decimal { .. } => self.mismatch("a number"),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match (i64::try_from(value), self.kind()) {
            (Ok(value), _) => self.visit_i64(value),
            #[expect(clippy::cast_precision_loss, reason = "JSON does not tell integers from floats")]
            (Err(_), Kind::Float | Kind::Double) => self.set(Cell::Number(value as f64)),
            (Err(_), Kind::Int | Kind::Long | Kind::Timestamp) => self.fault(text::OUT_OF_RANGE),
            (Err(_), Kind::Boolean | Kind::String | Kind::Enum(_) | Kind::Decimal { .. }) => self.mismatch("a number"),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        const BEYOND_64_BITS: f64 = 9_223_372_036_854_775_808.0;
        match self.kind() {
            Kind::Float => self.float(value),
            Kind::Double if value.is_finite() => self.set(Cell::Number(value)),
            Kind::Double => self.fault(text::OUT_OF_RANGE),
            Kind::Int | Kind::Long | Kind::Timestamp if value.abs() >= BEYOND_64_BITS => self.fault(text::OUT_OF_RANGE),
            Kind::Int | Kind::Long | Kind::Timestamp => self.mismatch("a number that is not written as an integer"),
            Kind::Boolean | Kind::String | Kind::Enum(_) | Kind::Decimal { .. } => self.mismatch("a number"),
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.text(value, |seed| seed.context.row.set_copied(seed.leaf, value))
    }

    fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<(), E> {
        self.text(value, |seed| seed.context.row.cells[seed.leaf] = Cell::Text(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        if self.context.schema.fields[self.leaf].nullable {
            return self.set(Cell::Null);
        }
        self.mismatch("null")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.mismatch("an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.mismatch("an object")
    }
}
