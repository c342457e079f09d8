//! What the user says about a file: format, delimiter, and which column feeds which field.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use streamward_core::schema::{Kind, StreamSchema};

use super::error::MappingError;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Separated cells with a header line.
    Csv,
    /// One JSON object a line; a bad line does not spoil the next.
    JsonLines,
    /// A JSON list of objects, objects one after the other, or one object a line.
    Json,
    /// An Avro object container file.
    Avro,
}

impl Format {
    /// The format that the name's ending tells: csv, tsv, txt; jsonl, ndjson; json; avro.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        path.extension()?.to_str()?.parse().ok()
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "csv" | "tsv" | "txt" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "json" => Ok(Self::Json),
            "avro" => Ok(Self::Avro),
            _ => Err(format!("`{text}` is not a format; known are csv, jsonl, json, avro")),
        }
    }
}

/// How a text cell becomes a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Kept as it is.
    Text,
    /// A finite number.
    Number,
    /// A whole number, which may be written with a fraction of zeros.
    Whole,
    /// `true` or `false`.
    Boolean,
    /// Any notation of [`super::parse_time_ms`]; becomes epoch milliseconds.
    Time,
}

impl From<&Kind> for FieldKind {
    fn from(kind: &Kind) -> Self {
        match kind {
            // The stream reads a decimal from its text.
            Kind::String | Kind::Enum(_) | Kind::Decimal { .. } => Self::Text,
            Kind::Int | Kind::Long => Self::Whole,
            Kind::Float | Kind::Double => Self::Number,
            Kind::Boolean => Self::Boolean,
            Kind::Timestamp => Self::Time,
        }
    }
}

/// One field of the target stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetField {
    /// Its name; a nested one has dots, `metadata.battery_level`.
    pub name: String,
    /// What it holds.
    pub kind: FieldKind,
    /// Whether a record without it is bad.
    pub required: bool,
}

impl TargetField {
    /// A field without which a record is bad.
    #[must_use]
    pub fn required(name: &str, kind: FieldKind) -> Self {
        Self { name: name.to_owned(), kind, required: true }
    }

    /// A field that may be left out.
    #[must_use]
    pub fn optional(name: &str, kind: FieldKind) -> Self {
        Self { name: name.to_owned(), kind, required: false }
    }

    /// The fields of a stream; those within records have names with dots.
    #[must_use]
    pub fn of_stream(schema: &StreamSchema) -> Vec<Self> {
        let fields = schema.fields.iter().map(|field| Self {
            name: field.dotted(),
            kind: FieldKind::from(&field.kind),
            required: field.default.is_none() && !field.nullable,
        });
        fields.collect()
    }
}

/// Which column feeds which field; a field that is not named is fed by the column of its own name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnMapping {
    /// Field → column.
    pub columns: BTreeMap<String, String>,
    /// Field → the same text for every record.
    pub constants: BTreeMap<String, String>,
}

impl ColumnMapping {
    /// Reads the values of `--map field=column` and `--const field=value`.
    ///
    /// # Errors
    /// A value without `=`, or a field that is given twice.
    pub fn parse<S: AsRef<str>>(maps: &[S], constants: &[S]) -> Result<Self, MappingError> {
        let mut mapping = Self::default();
        let mut seen = BTreeSet::new();
        for (texts, target) in [(maps, &mut mapping.columns), (constants, &mut mapping.constants)] {
            for text in texts.iter().map(AsRef::as_ref) {
                let (field, value) = text
                    .split_once('=')
                    .filter(|(field, _)| !field.trim().is_empty())
                    .ok_or_else(|| MappingError::Syntax(text.to_owned()))?;
                let field = field.trim().to_owned();
                if !seen.insert(field.clone()) {
                    return Err(MappingError::Twice(field));
                }
                target.insert(field, value.to_owned());
            }
        }
        Ok(mapping)
    }
}

/// How to read a file into a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayOptions {
    /// `None`: by the name's ending.
    pub format: Option<Format>,
    /// Separator of CSV cells; `None`: guessed among `,` `;` tab and `|`.
    pub delimiter: Option<u8>,
    /// What the user says about columns.
    pub mapping: ColumnMapping,
    /// The fields of the stream; what else a file holds is left out.
    pub fields: Vec<TargetField>,
    /// The field that carries the event time; it is always required and read as a time.
    pub time_field: String,
    /// Values for fields that the file does not have and the mapping does not give.
    pub defaults: BTreeMap<String, String>,
}

impl ReplayOptions {
    /// For a stream with these fields.
    #[must_use]
    pub fn new(fields: Vec<TargetField>, time_field: &str) -> Self {
        Self {
            format: None,
            delimiter: None,
            mapping: ColumnMapping::default(),
            fields,
            time_field: time_field.to_owned(),
            defaults: BTreeMap::new(),
        }
    }

    /// For the stream `series`; a file without a `series` column is one series, named as the file without its ending.
    #[must_use]
    pub fn series(path: &Path) -> Self {
        let fields = vec![
            TargetField::required("series", FieldKind::Text),
            TargetField::required("timestamp", FieldKind::Time),
            TargetField::required("value", FieldKind::Number),
        ];
        Self::new(fields, "timestamp").with_series_named_after(path)
    }

    /// Lets a missing `series` be the file's name without its ending.
    #[must_use]
    pub fn with_series_named_after(mut self, path: &Path) -> Self {
        if let Some(stem) = path.file_stem() {
            self.defaults.insert("series".to_owned(), stem.to_string_lossy().into_owned());
        }
        self
    }
}
