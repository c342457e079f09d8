//! What a stream's part in the state of windows and rules is: settings by which its records are decoded.

use streamward_core::schema::{Field, Kind, Scalar};

use super::StreamSetup;

impl StreamSetup {
    /// What decides which of its records can be decoded, and to what, by setting.
    pub(super) fn replay(&self) -> impl Iterator<Item = (String, String)> {
        let fields = &self.schema.fields;
        let required = fields.iter().filter(|field| !field.nullable && field.default.is_none()).map(Field::dotted);
        let of_record = [
            ("the fields that a record must have", required.collect::<Vec<_>>().join(", ")),
            ("topic", self.topic.to_string()),
            ("format", format!("{:?}", self.format).to_ascii_lowercase()),
            ("max_record", self.config.max_record.to_string()),
        ];
        let of_fields = fields.iter().map(|field| (format!("field {}", field.dotted()), type_of(field)));
        of_record.map(|(setting, text)| (setting.to_owned(), text)).into_iter().chain(of_fields)
    }
}

fn scalar_text(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Null => "null".to_owned(),
        Scalar::Boolean(value) => value.to_string(),
        Scalar::Integer(value) => value.to_string(),
        Scalar::Number(value) => value.to_string(),
        Scalar::Text(text) => format!("{text:?}"),
        Scalar::Decimal(value) => value.to_string(),
    }
}

/// A field's type, symbols and default, in words.
fn type_of(field: &Field) -> String {
    let symbols = match &field.kind {
        Kind::Enum(symbols) => format!(" of {}", symbols.join(", ")),
        _ => String::new(),
    };
    let optional = if field.nullable { " or null" } else { "" };
    let default =
        field.default.as_ref().map_or_else(String::new, |default| format!(" with default {}", scalar_text(default)));
    format!("{}{symbols}{optional}{default}", field.kind.word())
}
