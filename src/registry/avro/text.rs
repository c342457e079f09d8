//! Texts of schemas, written from their JSON. What is not valid is copied as it is: the parser complains about it.
//!
//! The order of attributes and the writing of names are those of `org.apache.avro.Schema.toString`; attributes of
//! one's own come in alphabetical order. See the Avro specification, "Names" and "Aliases".

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

/// How a schema is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As Avro's Java library does; types of references by name.
    Canonical,
    /// Canonical, with aliases in order and without empty documentation: `normalize=true` in Confluent's protocol.
    Normalized,
    /// Canonical, with the types of references put in where they are first used.
    Resolved,
}

/// Depth of types in one another to which references are followed; parsers of JSON go no deeper.
const MAX_DEPTH: usize = 128;
const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
/// Attributes with a meaning, of types and of fields; all others are of one's own.
const OF_TYPES: [&str; 10] =
    ["type", "name", "namespace", "doc", "fields", "items", "values", "size", "symbols", "aliases"];
const OF_FIELDS: [&str; 6] = ["name", "type", "doc", "default", "order", "aliases"];

/// Named types that references bring in.
#[derive(Debug, Default)]
pub struct Definitions {
    /// By full name: the type and the namespace around it.
    named: BTreeMap<String, (Value, String)>,
}

impl Definitions {
    /// The named types in these schemas.
    ///
    /// # Errors
    /// If a text is no JSON.
    pub fn of(texts: &[String]) -> Result<Self, String> {
        let mut all = Self::default();
        for text in texts {
            let value = serde_json::from_str(text).map_err(|error| format!("a referenced schema: {error}"))?;
            all.collect(&value, "");
        }
        Ok(all)
    }

    fn collect(&mut self, schema: &Value, around: &str) {
        match schema {
            Value::Array(branches) => branches.iter().for_each(|branch| self.collect(branch, around)),
            Value::Object(object) => {
                let inside = match named_type(object, around) {
                    Some(name) => {
                        self.named.entry(name.full()).or_insert_with(|| (schema.clone(), around.to_owned()));
                        name.namespace
                    }
                    None => around.to_owned(),
                };
                for part in ["type", "items", "values"] {
                    if let Some(part) = object.get(part).filter(|part| !part.is_string()) {
                        self.collect(part, &inside);
                    }
                }
                for field in object.get("fields").and_then(Value::as_array).into_iter().flatten() {
                    self.collect(&field["type"], &inside);
                }
            }
            _ => {}
        }
    }
}

struct Name {
    name: String,
    /// Empty where there is none.
    namespace: String,
}

impl Name {
    /// The name that `text` means inside a namespace.
    fn new(text: &str, namespace: Option<&str>, around: &str) -> Self {
        let (namespace, name) = match text.rsplit_once('.') {
            Some((namespace, name)) => (namespace, name),
            None => (namespace.unwrap_or(around), text),
        };
        Self { name: name.to_owned(), namespace: namespace.to_owned() }
    }

    fn full(&self) -> String {
        if self.namespace.is_empty() { self.name.clone() } else { format!("{}.{}", self.namespace, self.name) }
    }

    /// As short as it can be inside a namespace.
    fn inside(&self, namespace: &str) -> String {
        if self.namespace == namespace { self.name.clone() } else { self.full() }
    }
}

/// The name of a record, enum or fixed.
fn named_type(object: &Map<String, Value>, around: &str) -> Option<Name> {
    let kind = object.get("type")?.as_str()?;
    let name = object.get("name")?.as_str()?;
    let is_named = matches!(kind, "record" | "error" | "enum" | "fixed");
    is_named.then(|| Name::new(name, object.get("namespace").and_then(Value::as_str), around))
}

/// Writes a schema.
pub fn write(schema: &Value, definitions: &Definitions, form: Form) -> String {
    let (namespace, out) = (String::new(), String::new());
    let mut writer = Writer { form, definitions, seen: HashSet::new(), namespace, out, depth: 0 };
    writer.schema(schema, "");
    writer.out
}

struct Writer<'a> {
    form: Form,
    definitions: &'a Definitions,
    /// Full names of the types written so far.
    seen: HashSet<String>,
    /// Namespace at this place of the output.
    namespace: String,
    out: String,
    depth: usize,
}

impl Writer<'_> {
    /// `around` is the namespace in which the names of `schema` are meant.
    fn schema(&mut self, schema: &Value, around: &str) {
        self.depth += 1;
        match schema {
            Value::String(name) if PRIMITIVES.contains(&&**name) => self.text(name),
            Value::String(name) => self.reference(name, around),
            Value::Array(branches) => {
                self.list(branches, |writer, branch| writer.schema(branch, around));
            }
            Value::Object(object) => self.object(schema, object, around),
            other => self.json(other),
        }
        self.depth -= 1;
    }

    fn object(&mut self, schema: &Value, object: &Map<String, Value>, around: &str) {
        if let Some(name) = named_type(object, around) {
            return self.named(object, &name);
        }
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(nested) => return self.schema(nested, around),
            None => return self.json(schema),
        };
        let part = match kind {
            "array" => Some("items"),
            "map" => Some("values"),
            _ => None,
        };
        let has_own = object.keys().any(|key| !OF_TYPES.contains(&&**key));
        if part.is_none() && !(has_own && PRIMITIVES.contains(&kind)) {
            return self.schema(&Value::String(kind.to_owned()), around);
        }
        self.out.push_str("{\"type\":");
        self.text(kind);
        if let Some((key, items)) = part.and_then(|part| object.get_key_value(part)) {
            self.key(key);
            self.schema(items, around);
        }
        self.own(object, &OF_TYPES);
        self.out.push('}');
    }

    fn reference(&mut self, text: &str, around: &str) {
        let mut name = Name::new(text, None, around);
        let is_known = |name: &Name| {
            let full = name.full();
            self.seen.contains(&full) || self.definitions.named.contains_key(&full)
        };
        if !is_known(&name) {
            let bare = Name::new(text, Some(""), "");
            if is_known(&bare) {
                name = bare;
            }
        }
        let definitions = self.definitions;
        match definitions.named.get(&name.full()) {
            Some((schema, around)) if self.is_put_in(&name) => {
                self.schema(schema, around);
            }
            _ => self.text(&name.inside(&self.namespace)),
        }
    }

    /// Whether the type of a reference takes the place of its name. Far down it does not: the parser then misses it.
    fn is_put_in(&self, name: &Name) -> bool {
        self.form == Form::Resolved && self.depth < MAX_DEPTH && !self.seen.contains(&name.full())
    }

    fn named(&mut self, object: &Map<String, Value>, name: &Name) {
        self.seen.insert(name.full());
        self.out.push_str("{\"type\":");
        self.json(&object["type"]);
        self.key("name");
        self.text(&name.name);
        if name.namespace != self.namespace {
            self.key("namespace");
            self.text(&name.namespace);
        }
        let outside = std::mem::replace(&mut self.namespace, name.namespace.clone());
        self.doc(object);
        if let Some(Value::Array(fields)) = object.get("fields") {
            self.key("fields");
            self.list(fields, |writer, field| writer.field(field, &name.namespace));
        }
        let is_enum = object["type"] == "enum";
        for key in ["symbols", "size"].into_iter().chain(is_enum.then_some("default")) {
            if let Some(value) = object.get(key) {
                self.key(key);
                self.json(value);
            }
        }
        let reserved = if is_enum { &[&OF_TYPES[..], &["default"]].concat()[..] } else { &OF_TYPES[..] };
        self.own(object, reserved);
        self.aliases(object, &name.namespace);
        self.out.push('}');
        self.namespace = outside;
    }

    fn field(&mut self, field: &Value, around: &str) {
        let Value::Object(object) = field else { return self.json(field) };
        self.out.push_str("{\"name\":");
        self.json(&field["name"]);
        self.key("type");
        self.schema(&field["type"], around);
        self.doc(object);
        if let Some(default) = object.get("default") {
            self.key("default");
            self.json(default);
        }
        if let Some(order) = object.get("order").filter(|order| *order != "ascending") {
            self.key("order");
            self.json(order);
        }
        self.aliases(object, "");
        self.own(object, &OF_FIELDS);
        self.out.push('}');
    }

    fn doc(&mut self, object: &Map<String, Value>) {
        let is_left_out = |doc: &&Value| doc.is_null() || (self.form == Form::Normalized && **doc == "");
        if let Some(doc) = object.get("doc").filter(|doc| !is_left_out(doc)) {
            self.key("doc");
            self.json(doc);
        }
    }

    fn aliases(&mut self, object: &Map<String, Value>, namespace: &str) {
        let Some(Value::Array(aliases)) = object.get("aliases") else { return };
        let short = |alias: &Value| alias.as_str().map(|alias| Name::new(alias, None, namespace).inside(namespace));
        let mut aliases: Vec<String> = aliases.iter().filter_map(short).collect();
        if self.form == Form::Normalized {
            aliases.sort();
            aliases.dedup();
        }
        if !aliases.is_empty() {
            self.key("aliases");
            self.list(&aliases, |writer, alias| writer.text(alias));
        }
    }

    /// Attributes of one's own: logical types and whatever else.
    fn own(&mut self, object: &Map<String, Value>, reserved: &[&str]) {
        for (key, value) in object.iter().filter(|(key, _)| !reserved.contains(&&***key)) {
            self.key(key);
            self.json(value);
        }
    }

    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            each(self, item);
        }
        self.out.push(']');
    }

    fn key(&mut self, key: &str) {
        self.out.push(',');
        self.text(key);
        self.out.push(':');
    }

    fn text(&mut self, text: &str) {
        self.json(&Value::String(text.to_owned()));
    }

    fn json(&mut self, value: &Value) {
        self.out.push_str(&value.to_string());
    }
}
