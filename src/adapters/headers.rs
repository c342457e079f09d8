//! Headers of records as a database keeps them: a JSON array of `{name, value}`, names and values in base64 so that no
//! byte is lost.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Names and values; a value may be missing.
pub type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// As they are stored.
#[must_use]
pub fn to_json(headers: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
    let header = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| serde_json::json!({ "name": STANDARD.encode(name), "value": value.as_ref().map(|value| STANDARD.encode(value)) });
    headers.iter().map(header).collect::<serde_json::Value>().to_string().into_bytes()
}

/// As they were in the record.
#[must_use]
pub fn of_json(stored: &[u8]) -> Headers {
    #[derive(serde::Deserialize)]
    struct Header {
        name: String,
        value: Option<String>,
    }
    let headers: Vec<Header> = serde_json::from_slice(stored).unwrap_or_default();
    let bytes = |text: &str| STANDARD.decode(text).unwrap_or_default();
    let header = |header: Header| (bytes(&header.name), header.value.as_deref().map(bytes));
    headers.into_iter().map(header).collect()
}
