//! Inserts, straight from Arrow columns to bound values.
//!
//! One row a statement: SQLite keeps a prepared statement's memory from one row to the next, so that a row costs no
//! allocation.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    Array, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, cast::AsArray,
};
use arrow_schema::DataType;
use rusqlite::{CachedStatement, Connection, types::Null};
use streamward_core::{
    output::WindowRow,
    schema::{Decimal, Scalar, decimal::MAX_TEXT},
    table::{WindowTable, row_id},
};

use super::{
    Layout, SqlStore, WriteError, begin,
    ddl::quoted,
    window_tables::{OVERFLOW, key},
};
use crate::clock::now_ms;

/// Texts of the inserts into every table.
#[derive(Debug)]
pub(super) struct Inserts {
    streams: HashMap<Arc<str>, String>,
    windows: HashMap<Arc<str>, String>,
}

/// Where rows come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub log: i64,
    pub partition: i32,
    pub stored_at_ms: i64,
}

impl Inserts {
    /// Texts for the tables of `layout`.
    pub fn new(layout: &Layout) -> Self {
        let list = |names: &mut dyn Iterator<Item = &String>| names.map(|name| quoted(name) + ", ").collect::<String>();
        let values = |width: usize| vec!["?"; width].join(", ");
        let stream = |table: &streamward_core::table::StreamTable| {
            let columns = list(&mut table.columns.iter().map(|column| &column.name));
            let (table_name, values) = (quoted(&table.table), values(table.columns.len() + 2));
            (table.stream.clone(), format!("INSERT INTO {table_name} (id, {columns}stored_at) VALUES ({values})"))
        };
        let window = |table: &WindowTable| {
            let columns = list(&mut table.group.iter().chain(&table.values).map(|column| &column.name));
            let (table_name, values) = (quoted(&table.window), values(table.group.len() + table.values.len() + 7));
            let own = ["window_end", "revision", "created_at", OVERFLOW].map(str::to_owned);
            let changed = table.values.iter().map(|column| quoted(&column.name)).chain(own);
            let changed = changed.map(|column| format!("{column} = excluded.{column}")).collect::<Vec<_>>().join(", ");
            let text = format!(
                "INSERT INTO {table_name} (window_start, window_end, {columns}revision, log, \"partition\", \
                 created_at, {OVERFLOW}) VALUES ({values}) ON CONFLICT ({}) DO UPDATE SET {changed}",
                key(table)
            );
            (table.window.clone(), text)
        };
        Self {
            streams: layout.streams.iter().map(stream).collect(),
            windows: layout.windows.iter().map(window).collect(),
        }
    }

    /// Inserts the rows of one batch, one offset each, into the table of `stream`.
    pub fn rows(
        &self,
        connection: &Connection,
        stream: &str,
        (batch, offsets): (&RecordBatch, &[i64]),
        origin: Origin,
    ) -> Result<(), WriteError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mut insert = self.row_insert(connection, stream, (batch, origin))?;
        offsets.iter().enumerate().try_for_each(|(row, offset)| insert.row(row, *offset))
    }

    /// The insert of single rows of a batch.
    pub fn row_insert<'a>(
        &self,
        connection: &'a Connection,
        stream: &str,
        (batch, origin): (&'a RecordBatch, Origin),
    ) -> Result<RowInsert<'a>, WriteError> {
        let columns = batch.columns().iter().map(|column| Binder::new(column.as_ref())).collect::<Result<_, _>>()?;
        Ok(RowInsert { statement: connection.prepare_cached(self.row_text(stream)?)?, columns, origin })
    }

    /// Text of the insert of a row.
    pub fn row_text(&self, stream: &str) -> Result<&str, WriteError> {
        let text = self.streams.get(stream);
        text.map(String::as_str).ok_or_else(|| WriteError::Protocol(format!("no table for stream {stream}")))
    }

    /// Inserts window rows, or replaces their earlier revisions.
    pub fn windows(&self, connection: &Connection, rows: &[WindowRow], origin: Origin) -> Result<(), WriteError> {
        for rows in rows.chunk_by(|left, right| left.window == right.window) {
            let window = &rows[0].window;
            let text = self.windows.get(window);
            let text = text.ok_or_else(|| WriteError::Protocol(format!("no table for window {window}")))?;
            let mut statement = connection.prepare_cached(text)?;
            for row in rows {
                window_row(&mut statement, row, origin)?;
            }
        }
        Ok(())
    }
}

/// Inserts rows of one batch.
pub(super) struct RowInsert<'a> {
    statement: CachedStatement<'a>,
    columns: Vec<Binder<'a>>,
    origin: Origin,
}

impl RowInsert<'_> {
    /// Inserts the row at `row` (an index) of the record at `offset`.
    pub fn row(&mut self, row: usize, offset: i64) -> Result<(), WriteError> {
        let Self { statement, columns, origin } = self;
        statement.raw_bind_parameter(1, row_id(origin.log, origin.partition, offset))?;
        for (place, column) in (2..).zip(&*columns) {
            column.bind(statement, place, row)?;
        }
        statement.raw_bind_parameter(columns.len() + 2, origin.stored_at_ms)?;
        // A trigger may make the insert do nothing, without an error (RAISE(IGNORE)).
        if statement.raw_execute()? == 0 { Err(WriteError::LeftOut) } else { Ok(()) }
    }
}

fn window_row(statement: &mut CachedStatement<'_>, row: &WindowRow, origin: Origin) -> Result<(), rusqlite::Error> {
    statement.raw_bind_parameter(1, row.start_ms)?;
    statement.raw_bind_parameter(2, row.end_ms)?;
    let mut place = 3;
    for value in row.group.iter().chain(&row.values) {
        match value {
            Scalar::Null => statement.raw_bind_parameter(place, Null)?,
            Scalar::Boolean(value) => statement.raw_bind_parameter(place, value)?,
            Scalar::Integer(value) => statement.raw_bind_parameter(place, value)?,
            Scalar::Number(value) => statement.raw_bind_parameter(place, value)?,
            Scalar::Text(value) => statement.raw_bind_parameter(place, value.as_str())?,
            Scalar::Decimal(value) => statement.raw_bind_parameter(place, value.text(&mut [0; MAX_TEXT]))?,
        }
        place += 1;
    }
    statement.raw_bind_parameter(place, row.revision)?;
    statement.raw_bind_parameter(place + 1, origin.log)?;
    statement.raw_bind_parameter(place + 2, origin.partition)?;
    statement.raw_bind_parameter(place + 3, origin.stored_at_ms)?;
    let overflow = (!row.overflow.is_empty()).then(|| serde_json::json!(row.overflow).to_string());
    statement.raw_bind_parameter(place + 4, overflow)?;
    statement.raw_execute().map(|_| ())
}

/// One Arrow column, downcast once.
enum Binder<'a> {
    Boolean(&'a BooleanArray),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Text(&'a StringArray),
    Timestamp(&'a TimestampMillisecondArray),
    /// With its scale.
    Decimal(&'a Decimal128Array, u8),
}

impl<'a> Binder<'a> {
    fn new(array: &'a dyn Array) -> Result<Self, WriteError> {
        use arrow_array::types::{
            Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMillisecondType as Millis,
        };
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>()),
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>()),
            DataType::Float32 => Self::Float32(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Self::Float64(array.as_primitive::<Float64Type>()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>()),
            DataType::Timestamp(_, _) => Self::Timestamp(array.as_primitive::<Millis>()),
            DataType::Decimal128(_, scale) => {
                Self::Decimal(array.as_primitive::<Decimal128Type>(), scale.unsigned_abs())
            }
            other => return Err(WriteError::Protocol(format!("no SQL type for a column of {other}"))),
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Boolean(array) => *array,
            Self::Int32(array) => *array,
            Self::Int64(array) => *array,
            Self::Float32(array) => *array,
            Self::Float64(array) => *array,
            Self::Text(array) => *array,
            Self::Timestamp(array) => *array,
            Self::Decimal(array, _) => *array,
        }
    }

    fn bind(&self, statement: &mut CachedStatement<'_>, place: usize, row: usize) -> Result<(), rusqlite::Error> {
        if self.array().is_null(row) {
            return statement.raw_bind_parameter(place, Null);
        }
        match self {
            Self::Boolean(array) => statement.raw_bind_parameter(place, array.value(row)),
            Self::Int32(array) => statement.raw_bind_parameter(place, array.value(row)),
            Self::Int64(array) => statement.raw_bind_parameter(place, array.value(row)),
            Self::Float32(array) => statement.raw_bind_parameter(place, array.value(row)),
            Self::Float64(array) => statement.raw_bind_parameter(place, array.value(row)),
            Self::Text(array) => statement.raw_bind_parameter(place, array.value(row)),
            Self::Timestamp(array) => statement.raw_bind_parameter(place, array.value(row)),
            Self::Decimal(array, scale) => {
                let value = Decimal { unscaled: array.value(row), scale: *scale };
                statement.raw_bind_parameter(place, value.text(&mut [0; MAX_TEXT]))
            }
        }
    }
}

impl SqlStore {
    /// Inserts rows of partition 0 in a transaction of their own and nothing else: the floor of measurements.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn insert_bare(
        &self,
        stream: Arc<str>,
        batch: RecordBatch,
        offsets: Vec<i64>,
    ) -> Result<(), streamward_pipeline::store::StoreError> {
        self.write(move |shared, writer| {
            let transaction = begin(&mut writer.connection)?;
            let origin = Origin { log: 0, partition: 0, stored_at_ms: now_ms() };
            shared.inserts.rows(&transaction, &stream, (&batch, &offsets), origin)?;
            Ok(transaction.commit()?)
        })
        .await
    }
}
