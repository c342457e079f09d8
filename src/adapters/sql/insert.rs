//! Multi-row inserts, straight from Arrow columns to bound values.
//!
//! A statement's text depends only on the table and the number of rows, so SQLite prepares each once: rows go in chunks
//! of the sizes in [`CHUNKS`].

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arrow_array::{
    Array, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, cast::AsArray,
};
use arrow_schema::DataType;
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection, sqlite::SqliteArguments};
use streamward_core::{schema::Scalar, table::row_id};
use streamward_pipeline::store::StoreError;

use super::{Layout, ddl::quoted, store_error};

/// Rows per statement, largest first. 256 rows of 100 columns stay below SQLite's 32,766 bound values.
const CHUNKS: [usize; 4] = [256, 32, 4, 1];
/// Bound values per statement that SQLite accepts.
const MAX_BOUND: usize = 32_766;

/// Prepared texts of every table.
#[derive(Debug)]
pub struct Inserts {
    streams: HashMap<Arc<str>, Statement>,
    windows: HashMap<Arc<str>, Statement>,
    /// Adds to the minute aggregates.
    pub minutes: Statement,
    /// Moves keys' newest minutes.
    pub keys: Statement,
}

/// The texts of one table, one per chunk size.
#[derive(Debug, Clone)]
pub struct Statement {
    width: usize,
    texts: Vec<(usize, Arc<str>)>,
}

/// Rows of one batch and where they come from.
pub struct Rows<'a> {
    pub batch: &'a RecordBatch,
    pub offsets: &'a [i64],
    pub log: i64,
    pub partition: i32,
    pub stored_at_ms: i64,
}

impl Statement {
    /// `head` is the text up to `VALUES`, `tail` what follows the rows.
    pub fn new(head: &str, width: usize, tail: &str) -> Self {
        let row = format!("({})", vec!["?"; width].join(","));
        let text = |rows: usize| format!("{head} VALUES {}{tail}", vec![row.as_str(); rows].join(",")).into();
        let fits = CHUNKS.iter().filter(|rows| *rows * width <= MAX_BOUND);
        Self { width, texts: fits.map(|rows| (*rows, text(*rows))).collect() }
    }

    /// Runs the statement over `rows` rows; `bind` adds one row's values.
    pub async fn run(
        &self,
        connection: &mut SqliteConnection,
        rows: usize,
        mut bind: impl FnMut(usize, &mut Bound),
    ) -> Result<(), StoreError> {
        let mut next = 0;
        while next < rows {
            let fitting = self.texts.iter().find(|(chunk, _)| *chunk <= rows - next);
            let (chunk, text) = fitting.expect("the smallest chunk is one row");
            let mut bound = Bound::with_capacity(chunk * self.width);
            for row in next..next + chunk {
                bind(row, &mut bound);
            }
            debug_assert_eq!(bound.0.len(), chunk * self.width, "{text}");
            sqlx::query_with(AssertSqlSafe(text.clone()), bound.0)
                .execute(&mut *connection)
                .await
                .map_err(store_error)?;
            next += chunk;
        }
        Ok(())
    }
}

/// Values bound to one statement.
pub struct Bound(SqliteArguments);

impl Bound {
    fn with_capacity(values: usize) -> Self {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(values, 0);
        Self(arguments)
    }

    /// Binds one value.
    pub fn add<'t, T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(&mut self, value: T) {
        self.0.add(value).expect("encoding a plain value for SQLite cannot fail");
    }

    /// Binds NULL.
    pub fn null(&mut self) {
        self.add(Option::<i64>::None);
    }

    /// Binds a scalar.
    pub fn scalar(&mut self, value: &Scalar) {
        match value {
            Scalar::Null => self.null(),
            Scalar::Boolean(value) => self.add(i64::from(*value)),
            Scalar::Integer(value) => self.add(*value),
            Scalar::Number(value) => self.add(*value),
            Scalar::Text(value) => self.add(Arc::<str>::from(value.as_str())),
        }
    }
}

impl Inserts {
    /// Statements for the tables of `layout`.
    pub fn new(layout: &Layout) -> Self {
        let mut inserts = Self {
            streams: HashMap::new(),
            windows: HashMap::new(),
            minutes: Statement::new(
                "INSERT INTO sw_minutes",
                6,
                " ON CONFLICT DO UPDATE SET count = count + excluded.count, sum = sum + excluded.sum, \
                 anomalies = anomalies + excluded.anomalies",
            ),
            keys: Statement::new(
                "INSERT INTO sw_keys",
                3,
                " ON CONFLICT DO UPDATE SET last_seen = max(last_seen, excluded.last_seen)",
            ),
        };
        for table in &layout.streams {
            let columns: String = table.columns.iter().map(|column| format!("{}, ", quoted(&column.name))).collect();
            let head = format!("INSERT INTO {} (id, {columns}stored_at)", quoted(&table.table));
            inserts.streams.insert(table.stream.clone(), Statement::new(&head, table.columns.len() + 2, ""));
        }
        for table in &layout.windows {
            let columns: String =
                table.group.iter().chain(&table.values).map(|column| format!("{}, ", quoted(&column.name))).collect();
            let head = format!(
                "INSERT OR REPLACE INTO {} (window_start, window_end, {columns}revision, log, \"partition\", created_at)",
                quoted(&table.window)
            );
            let width = table.group.len() + table.values.len() + 6;
            inserts.windows.insert(table.window.clone(), Statement::new(&head, width, ""));
        }
        inserts
    }

    /// The statement of a window's table.
    pub fn window(&self, window: &str) -> Result<&Statement, StoreError> {
        self.windows.get(window).ok_or_else(|| StoreError::Protocol(format!("no table for window {window}")))
    }

    /// Inserts the rows of one batch into the table of `stream`.
    pub async fn rows(
        &self,
        connection: &mut SqliteConnection,
        stream: &str,
        rows: Rows<'_>,
    ) -> Result<(), StoreError> {
        let statement =
            self.streams.get(stream).ok_or_else(|| StoreError::Protocol(format!("no table for stream {stream}")))?;
        let mut columns: Vec<Binder<'_>> =
            rows.batch.columns().iter().map(|column| Binder::new(column.as_ref())).collect::<Result<_, _>>()?;
        statement
            .run(connection, rows.batch.num_rows(), |row, bound| {
                bound.add(row_id(rows.log, rows.partition, rows.offsets[row]));
                for column in &mut columns {
                    column.bind(row, bound);
                }
                bound.add(rows.stored_at_ms);
            })
            .await
    }
}

/// One Arrow column, downcast once.
enum Binder<'a> {
    Boolean(&'a BooleanArray),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Text(&'a StringArray, Recent<'a>),
    Timestamp(&'a TimestampMillisecondArray),
}

/// Texts of a column bound lately: keys and enum symbols come again, and a shared one costs no allocation.
struct Recent<'a> {
    slots: Vec<Option<(&'a str, Arc<str>)>>,
    hasher: RandomState,
}

/// Texts remembered per column; a power of two.
const RECENT: usize = 256;

impl Default for Recent<'_> {
    fn default() -> Self {
        Self { slots: vec![None; RECENT], hasher: RandomState::new() }
    }
}

impl<'a> Recent<'a> {
    fn shared(&mut self, text: &'a str) -> Arc<str> {
        let place = usize::try_from(self.hasher.hash_one(text) & (RECENT as u64 - 1)).unwrap_or(0);
        match &mut self.slots[place] {
            Some((known, shared)) if *known == text => shared.clone(),
            slot => slot.insert((text, Arc::from(text))).1.clone(),
        }
    }
}

impl<'a> Binder<'a> {
    fn new(array: &'a dyn Array) -> Result<Self, StoreError> {
        use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampMillisecondType as Millis};
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>()),
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>()),
            DataType::Float32 => Self::Float32(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Self::Float64(array.as_primitive::<Float64Type>()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>(), Recent::default()),
            DataType::Timestamp(_, _) => Self::Timestamp(array.as_primitive::<Millis>()),
            other => return Err(StoreError::Protocol(format!("no SQL type for a column of {other}"))),
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Boolean(array) => *array,
            Self::Int32(array) => *array,
            Self::Int64(array) => *array,
            Self::Float32(array) => *array,
            Self::Float64(array) => *array,
            Self::Text(array, _) => *array,
            Self::Timestamp(array) => *array,
        }
    }

    fn bind(&mut self, row: usize, bound: &mut Bound) {
        if self.array().is_null(row) {
            return bound.null();
        }
        match self {
            Self::Boolean(array) => bound.add(i64::from(array.value(row))),
            Self::Int32(array) => bound.add(array.value(row)),
            Self::Int64(array) => bound.add(array.value(row)),
            Self::Float32(array) => bound.add(f64::from(array.value(row))),
            Self::Float64(array) => bound.add(array.value(row)),
            Self::Text(array, recent) => bound.add(recent.shared(array.value(row))),
            Self::Timestamp(array) => bound.add(array.value(row)),
        }
    }
}

impl super::SqlStore {
    /// Inserts rows of partition 0 in a transaction of their own and nothing else: the floor of measurements.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn insert_bare(&self, stream: &str, batch: &RecordBatch, offsets: &[i64]) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        writer.begin().await?;
        let rows = Rows { batch, offsets, log: 0, partition: 0, stored_at_ms: super::commit::now_ms() };
        self.inserts.rows(&mut writer.connection, stream, rows).await?;
        writer.end().await
    }
}
