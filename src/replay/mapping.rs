//! From the cells of a record to the fields of the stream.
//!
//! A field takes the first of: its constant, the column mapped to it, the column of its own name, its default. Cells of
//! text are converted by the field's kind; values of JSON and Avro keep their type, but for times.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::ReplayRecord;
use super::error::MappingError;
use super::ignored::Ignored;
use super::options::{FieldKind, ReplayOptions};
use super::time::{parse_time_ms, time_of_json_ms};

/// Up to here each whole number has a value of its own among numbers with a fraction: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What a file holds for a column of one record.
#[derive(Debug)]
pub(super) enum Cell<'a> {
    Text(&'a str),
    Json(&'a Value),
}

#[derive(Debug)]
struct Rule {
    field: String,
    path: Arc<[String]>,
    kind: FieldKind,
    required: bool,
    constant: Option<Value>,
    column: String,
    mapped: bool,
    default: Option<Value>,
}

/// Makes records of cells; see the module page.
#[derive(Debug)]
pub(super) struct Mapper {
    rules: Vec<Rule>,
    time_rule: usize,
}

impl Mapper {
    /// # Errors
    /// The mapping names a field the stream does not have, or a constant its field cannot hold.
    pub(super) fn new(options: &ReplayOptions) -> Result<Self, MappingError> {
        let mapping = &options.mapping;
        let given = mapping.columns.keys().chain(mapping.constants.keys());
        for field in given.chain([&options.time_field]) {
            if !options.fields.iter().any(|known| known.name == *field) {
                let fields = options.fields.iter().map(|known| known.name.clone()).collect();
                return Err(MappingError::UnknownField { field: field.clone(), fields });
            }
        }
        let mut rules = Vec::with_capacity(options.fields.len());
        let mut time_rule = 0;
        for field in &options.fields {
            let is_time = field.name == options.time_field;
            if is_time {
                time_rule = rules.len();
            }
            let kind = if is_time { FieldKind::Time } else { field.kind };
            let convert = |text: &String| {
                from_text(text, kind).map_err(|reason| MappingError::Constant { field: field.name.clone(), reason })
            };
            rules.push(Rule {
                field: field.name.clone(),
                path: field.name.split('.').map(str::to_owned).collect(),
                kind,
                required: is_time || field.required,
                constant: mapping.constants.get(&field.name).map(convert).transpose()?,
                column: mapping.columns.get(&field.name).unwrap_or(&field.name).clone(),
                mapped: mapping.columns.contains_key(&field.name),
                default: options.defaults.get(&field.name).map(convert).transpose()?,
            });
        }
        Ok(Self { rules, time_rule })
    }

    /// # Errors
    /// A mapped column, or the column of a required field, is not among the file's columns.
    pub(super) fn check_columns(&self, path: &Path, columns: &[String]) -> Result<(), MappingError> {
        for rule in &self.rules {
            let needed = rule.mapped || (rule.required && rule.default.is_none());
            let root = rule.column.split('.').next().unwrap_or(&rule.column);
            let present = columns.iter().any(|column| *column == rule.column || column == root);
            if rule.constant.is_none() && needed && !present {
                return Err(MappingError::MissingColumn {
                    path: path.to_owned(),
                    field: rule.field.clone(),
                    column: rule.column.clone(),
                    columns: columns.to_vec(),
                });
            }
        }
        Ok(())
    }

    /// Whether a field takes the column of this whole name.
    pub(super) fn takes(&self, column: &str) -> bool {
        self.rules.iter().any(|rule| rule.column == column)
    }

    /// Notes the fields of an object that no field takes, also inside of objects of which some are taken.
    pub(super) fn note_unused(&self, object: &Map<String, Value>, ignored: &mut Ignored) {
        self.note_within("", object, ignored);
    }

    fn note_within(&self, within: &str, object: &Map<String, Value>, ignored: &mut Ignored) {
        for (name, value) in object {
            let path = format!("{within}{name}");
            let leads_to = |column: &String| column.strip_prefix(&*path).is_some_and(|rest| rest.starts_with('.'));
            if self.takes(&path) {
                continue;
            }
            match value {
                Value::Object(inner) if self.rules.iter().any(|rule| leads_to(&rule.column)) => {
                    self.note_within(&format!("{path}."), inner, ignored);
                }
                _ => ignored.count(&path),
            }
        }
    }

    /// One record of the cells that `cell` finds by column.
    ///
    /// # Errors
    /// Says which column is missing or cannot be converted.
    pub(super) fn record<'a>(
        &self,
        number: u64,
        cell: impl Fn(&str) -> Option<Cell<'a>>,
    ) -> Result<ReplayRecord, String> {
        let mut json = Map::new();
        let mut event_time_ms = None;
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(value) = rule.value(&cell)? else {
                continue;
            };
            if index == self.time_rule {
                event_time_ms = value.as_i64();
            }
            insert_at(&mut json, &rule.path, value);
        }
        let time_path = Arc::clone(&self.rules[self.time_rule].path);
        let event_time_ms = event_time_ms.ok_or_else(|| "has no time".to_owned())?;
        Ok(ReplayRecord { event_time_ms, json, number, time_path })
    }
}

impl Rule {
    fn value<'a>(&self, cell: &impl Fn(&str) -> Option<Cell<'a>>) -> Result<Option<Value>, String> {
        if let Some(constant) = &self.constant {
            return Ok(Some(constant.clone()));
        }
        let found = match cell(&self.column) {
            Some(Cell::Text("")) if self.kind == FieldKind::Text && self.required => Some(Value::from("")),
            None | Some(Cell::Text("") | Cell::Json(Value::Null)) => None,
            Some(Cell::Text(text)) => Some(from_text(text, self.kind).map_err(|reason| self.blame(&reason))?),
            Some(Cell::Json(value)) if self.kind == FieldKind::Time => {
                let time_ms = time_of_json_ms(value).map_err(|error| self.blame(&error.to_string()))?;
                Some(Value::from(time_ms))
            }
            Some(Cell::Json(value)) => Some(value.clone()),
        };
        match found.or_else(|| self.default.clone()) {
            None if self.required => Err(self.blame("is missing or empty")),
            value => Ok(value),
        }
    }

    fn blame(&self, reason: &str) -> String {
        match self.mapped {
            true => format!("column `{}` (field `{}`): {reason}", self.column, self.field),
            false => format!("column `{}`: {reason}", self.column),
        }
    }
}

/// Puts a value at a path, making the objects on the way.
pub(super) fn insert_at(json: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            json.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let nested = json.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(nested) = nested {
                insert_at(nested, rest, value);
            }
        }
    }
}

/// Finds a column in an object: by its whole name, else by its path of names with dots.
pub(super) fn find<'a>(json: &'a Map<String, Value>, column: &str) -> Option<&'a Value> {
    if let Some(value) = json.get(column) {
        return Some(value);
    }
    let (first, rest) = column.split_once('.')?;
    find(json.get(first)?.as_object()?, rest)
}

fn from_text(text: &str, kind: FieldKind) -> Result<Value, String> {
    match kind {
        FieldKind::Text => Ok(Value::from(text)),
        FieldKind::Number => number(text.trim()).ok_or_else(|| format!("`{text}` is not a finite number")),
        FieldKind::Whole => whole(text.trim()).ok_or_else(|| format!("`{text}` is not a whole number")),
        FieldKind::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        FieldKind::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        FieldKind::Boolean => Err(format!("`{text}` is neither true nor false")),
        FieldKind::Time => parse_time_ms(text).map(Value::from).map_err(|error| error.to_string()),
    }
}

/// A whole number that 64 bits hold exactly, also as `5.0` or `5e3`.
fn whole(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Value::from(whole));
    }
    let number: f64 = text.parse().ok()?;
    let is_exact = number.fract() == 0.0 && number.abs() <= EXACT;
    // In this range every whole number is one of the type.
    is_exact.then(|| Value::from(number as i64))
}

fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Value::from(whole));
    }
    Number::from_f64(text.parse().ok()?).map(Value::Number)
}
