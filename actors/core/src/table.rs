//! What a database holds, whichever it is: the tables of streams and windows, with names and roles of their columns; the
//! names that are the product's own; and the row id that carries a record's origin.

use std::sync::Arc;

use crate::{
    definition::Definitions,
    schema::{Kind, StreamSchema, names},
};

/// Bits of a row id that hold the offset: 2^42 records per partition, 14 years at 10,000 per second.
pub const OFFSET_BITS: u32 = 42;
/// Bits of a row id that hold the partition.
pub const PARTITION_BITS: u32 = 12;
/// Partitions that a row id can tell apart.
pub const MAX_PARTITIONS: i32 = 1 << PARTITION_BITS;
/// Logs of one topic (a topic created again is another log) that a row id can tell apart.
pub const MAX_LOGS: i64 = 1 << (63 - OFFSET_BITS - PARTITION_BITS);

/// Columns that every stream's table has besides those of its schema.
pub const OWN_COLUMNS: [&str; 5] = ["id", "log", "offset", "partition", "stored_at"];

/// Tables and indexes that every database has, besides those with a prefix of ours.
pub const OWN_TABLES: [&str; 11] = [
    "_sqlx_migrations",
    "alerts",
    "alerts_latest",
    "alerts_resolved",
    "alerts_rule",
    "alerts_severity",
    "alerts_state",
    "dead_letters",
    "dead_letters_class",
    "dead_letters_place",
    "dead_letters_topic",
];

/// Names of other own tables, and of SQLite's, begin so.
pub const OWN_PREFIXES: [&str; 2] = ["sw_", "sqlite_"];

/// Columns that every window has itself, in its table or in answers.
pub const WINDOW_COLUMNS: [&str; 9] =
    ["created_at", "log", "overflow", "partition", "revision", "sw_overflow", "sw_row", "window_end", "window_start"];

/// Everything that a database is to hold by the configuration.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub streams: Vec<StreamTable>,
    pub windows: Vec<WindowTable>,
    /// Stream of each sink (pipeline), by name.
    pub sinks: Vec<(Arc<str>, Arc<str>)>,
    /// What all of it means.
    pub definitions: Definitions,
    /// Changes of meaning that are to be carried out: see [`crate::definition::Way::Allow`].
    pub allowed: Vec<String>,
    /// Pipeline and name of each rule.
    pub rules: Vec<(Arc<str>, Arc<str>)>,
}

/// The table of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamTable {
    /// Stream name, as in the configuration.
    pub stream: Arc<str>,
    /// Topic whose records it holds.
    pub topic: Arc<str>,
    /// Table name.
    pub table: String,
    /// Columns of the stream's schema, in its order.
    pub columns: Vec<Column>,
    /// Index in `columns` of the stream's key.
    pub key: usize,
    /// Index in `columns` of the event time.
    pub event_time: usize,
    /// How far ahead of the present an event time may be and still be taken for a time, in milliseconds.
    pub max_ahead_ms: i64,
    /// Column that `stats` averages.
    pub measure: Option<usize>,
    /// Column that labels anomalies (boolean).
    pub anomaly: Option<usize>,
    /// Columns that have an index together with the event time; the key is always among them.
    pub indexes: Vec<usize>,
}

/// The table of one window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowTable {
    /// Window name, which is the table's name.
    pub window: Arc<str>,
    /// Stream whose records it aggregates.
    pub stream: Arc<str>,
    /// The `group_by` columns in their order.
    pub group: Vec<Column>,
    /// The selected columns, then those that make them mergeable.
    pub values: Vec<Column>,
}

/// One column of a stream's or a window's table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// Path of its field in the record; the name of a column that is computed.
    pub path: String,
    pub kind: Kind,
    pub nullable: bool,
}

impl Column {
    /// The column among `columns` that a request names, as a configuration names fields.
    ///
    /// # Errors
    /// What to say where there is none: the nearest, or which there are.
    pub fn named<'a>(columns: &'a [Self], name: &str) -> Result<&'a Self, String> {
        let names = columns.iter().map(|column| (column.name.as_str(), column.path.as_str()));
        let place = names::place_of(name, names.clone());
        place.map(|place| &columns[place]).ok_or_else(|| names::unknown(name, names))
    }
}

impl StreamTable {
    /// The columns of `schema`.
    #[must_use]
    pub fn columns_of(schema: &StreamSchema) -> Vec<Column> {
        let column = |field: &crate::schema::Field| Column {
            name: field.column.clone(),
            path: field.dotted(),
            kind: field.kind.clone(),
            nullable: field.nullable,
        };
        schema.fields.iter().map(column).collect()
    }

    /// Names of its indexes.
    #[must_use]
    pub fn index_names(&self) -> Vec<String> {
        let columns = [self.event_time].into_iter().chain(self.indexes.iter().copied()).chain(self.anomaly);
        columns.map(|column| index_of(&self.table, &self.columns[column].name)).collect()
    }
}

impl WindowTable {
    /// Names of its indexes that have no prefix of ours.
    #[must_use]
    pub fn index_names(&self) -> Vec<String> {
        vec![index_of(&self.window, "created_at")]
    }
}

/// The index of a table by one of its columns.
#[must_use]
pub fn index_of(table: &str, column: &str) -> String {
    format!("{table}_{column}")
}

/// The row id of a record: `log << 54 | partition << 42 | offset`.
///
/// Ascending within a partition's log, unique per topic, and stable: it is also the `id` of the API.
///
/// # Panics
/// In debug builds, if a part is out of range; sources refuse such topics when they are assigned.
#[must_use]
pub fn row_id(log: i64, partition: i32, offset: i64) -> i64 {
    debug_assert!((0..MAX_LOGS).contains(&log) && (0..MAX_PARTITIONS).contains(&partition));
    debug_assert!((0..1 << OFFSET_BITS).contains(&offset));
    (log << (OFFSET_BITS + PARTITION_BITS)) | (i64::from(partition) << OFFSET_BITS) | offset
}

/// The offset that a row id carries.
#[must_use]
pub fn offset_of(id: i64) -> i64 {
    id & ((1 << OFFSET_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_ids_of_a_partition_ascend_and_do_not_meet_those_of_the_next() {
        assert!(row_id(0, 0, 5) < row_id(0, 0, 6));
        assert!(row_id(0, 0, (1 << OFFSET_BITS) - 1) < row_id(0, 1, 0));
        assert!(row_id(0, MAX_PARTITIONS - 1, (1 << OFFSET_BITS) - 1) < row_id(1, 0, 0));
    }

    #[test]
    fn a_row_id_gives_its_offset_back() {
        assert_eq!(offset_of(row_id(3, 7, 12_345)), 12_345);
    }

    #[test]
    fn the_largest_row_id_is_positive() {
        assert!(row_id(MAX_LOGS - 1, MAX_PARTITIONS - 1, (1 << OFFSET_BITS) - 1) > 0);
    }
}
