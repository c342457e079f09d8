//! JSON as people read it in a terminal: plain values and columns.

use serde_json::Value;

/// A text without quotes, a dash for nothing, other values as JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `1 record`, `3 records`: a number with what it counts, named in the singular.
pub fn counted(count: impl Into<i128>, noun: &str) -> String {
    let count = count.into();
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Rows with columns of one width.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let head: Vec<String> = heads.iter().map(|head| head.to_uppercase()).collect();
    line(&head) + &rows.iter().map(|row| line(row)).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_counted_in_the_singular() {
        let records = [0, 1, 2].map(|count| counted(count, "record"));
        assert_eq!(records, ["0 records", "1 record", "2 records"]);
    }
}
