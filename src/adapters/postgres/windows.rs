//! Rows of windows, set by set.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use sqlx::{AssertSqlSafe, PgConnection, Postgres, postgres::PgArguments, query::Query};
use streamward_core::{
    output::WindowRow,
    schema::{Kind, Scalar},
    table::{Column, WindowTable},
};
use streamward_pipeline::store::Pending;

use super::{
    connection::WriteError,
    ddl::{OVERFLOW, key, sql_type},
    moment::Moment,
    names::{clean, quoted},
    numeric::Numeric,
};

/// Texts of the statements that store rows of each window.
#[derive(Debug)]
pub struct WindowStatements {
    of: HashMap<String, (WindowTable, String)>,
}

impl WindowStatements {
    /// Of a layout's windows.
    pub fn new(windows: &[WindowTable]) -> Self {
        Self { of: windows.iter().map(|table| (table.window.to_string(), (table.clone(), statement(table)))).collect() }
    }

    /// Inserts window rows of outputs, or replaces their earlier revisions.
    ///
    /// # Errors
    /// If a window has no table.
    pub async fn store(
        &self,
        connection: &mut PgConnection,
        outputs: &[&Pending],
        now_ms: i64,
    ) -> Result<(), WriteError> {
        for (window, rows) in newest_rows(outputs) {
            let found = self.of.get(window);
            let (table, sql) = found.ok_or_else(|| WriteError::Protocol(format!("no table for window {window}")))?;
            let query = sqlx::query(AssertSqlSafe(sql.as_str()));
            bind(query, table, &rows, now_ms).execute(&mut *connection).await?;
        }
        Ok(())
    }
}

/// A row with the log and partition that it is of.
type Placed<'a> = (&'a WindowRow, i64, i32);

/// The last of the rows with the same key, by window; one statement may replace a row once.
fn newest_rows<'a>(outputs: &[&'a Pending]) -> BTreeMap<&'a str, Vec<Placed<'a>>> {
    let mut windows: BTreeMap<&str, (Vec<Placed<'a>>, HashMap<String, usize>)> = BTreeMap::new();
    for pending in outputs {
        for row in &pending.output.windows {
            let (rows, places) = windows.entry(&*row.window).or_default();
            let placed = (row, pending.log, pending.key.partition);
            let key = format!("{} {} {} {:?}", row.start_ms, placed.1, placed.2, row.group);
            match places.get(&key) {
                Some(&place) => rows[place] = placed,
                None => {
                    places.insert(key, rows.len());
                    rows.push(placed);
                }
            }
        }
    }
    windows.into_iter().map(|(window, (rows, _))| (window, rows)).collect()
}

fn statement(table: &WindowTable) -> String {
    let columns: Vec<&Column> = table.group.iter().chain(&table.values).collect();
    let names: String = columns.iter().map(|column| format!("{}, ", quoted(&column.name))).collect();
    let own = ["timestamptz", "timestamptz"].map(Cow::Borrowed).into_iter();
    let types = own
        .chain(columns.iter().map(|column| sql_type(&column.kind)))
        .chain(["bigint", "bigint", "integer", "text"].map(Cow::Borrowed));
    let arrays: Vec<String> = types.zip(1..).map(|(sql_type, place)| format!("${place}::{sql_type}[]")).collect();
    let changed = table.values.iter().map(|column| quoted(&column.name));
    let changed = changed.chain(["window_end", "revision", "created_at", OVERFLOW].map(str::to_owned));
    let changed: Vec<String> = changed.map(|column| format!("{column} = excluded.{column}")).collect();
    format!(
        "INSERT INTO {} (window_start, window_end, {names}revision, log, partition, {OVERFLOW}, created_at) \
         SELECT *, ${}::timestamptz FROM unnest({}) ON CONFLICT ({}) DO UPDATE SET {}",
        quoted(&table.window),
        arrays.len() + 1,
        arrays.join(", "),
        key(table),
        changed.join(", ")
    )
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

fn bind<'q>(query: Statement<'q>, table: &WindowTable, rows: &[Placed<'_>], now_ms: i64) -> Statement<'q> {
    let mut query = query
        .bind(rows.iter().map(|(row, _, _)| Moment(row.start_ms)).collect::<Vec<_>>())
        .bind(rows.iter().map(|(row, _, _)| Moment(row.end_ms)).collect::<Vec<_>>());
    let columns = table.group.iter().chain(&table.values).enumerate();
    for (place, column) in columns {
        query = bind_column(query, &column.kind, |row| row.group.iter().chain(&row.values).nth(place), rows);
    }
    let overflow = |row: &WindowRow| (!row.overflow.is_empty()).then(|| serde_json::json!(row.overflow).to_string());
    query
        .bind(rows.iter().map(|(row, _, _)| row.revision).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, log, _)| *log).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, _, partition)| *partition).collect::<Vec<_>>())
        .bind(rows.iter().map(|(row, _, _)| overflow(row)).collect::<Vec<_>>())
        .bind(Moment(now_ms))
}

/// Binds one column's values as an array of its type.
fn bind_column<'q>(
    query: Statement<'q>,
    kind: &Kind,
    value: impl Fn(&WindowRow) -> Option<&Scalar>,
    rows: &[Placed<'_>],
) -> Statement<'q> {
    let integers = || rows.iter().map(|(row, _, _)| integer(value(row)));
    let numbers = || rows.iter().map(|(row, _, _)| number(value(row)));
    match kind {
        Kind::Boolean => query.bind(integers().map(|value| value.map(|value| value != 0)).collect::<Vec<_>>()),
        Kind::Int => {
            query.bind(integers().map(|value| value.and_then(|value| i32::try_from(value).ok())).collect::<Vec<_>>())
        }
        Kind::Long => query.bind(integers().collect::<Vec<_>>()),
        Kind::Timestamp => query.bind(integers().map(|value| value.map(Moment)).collect::<Vec<_>>()),
        Kind::Float => query.bind(numbers().map(|value| value.map(|value| value as f32)).collect::<Vec<_>>()),
        Kind::Double => query.bind(numbers().collect::<Vec<_>>()),
        Kind::Decimal { .. } => {
            let decimal = |(row, _, _): &Placed<'_>| match value(row) {
                Some(Scalar::Decimal(decimal)) => Some(Numeric(*decimal)),
                _ => None,
            };
            query.bind(rows.iter().map(decimal).collect::<Vec<_>>())
        }
        Kind::String | Kind::Enum(_) => {
            let text = |(row, _, _): &Placed<'_>| match value(row) {
                Some(Scalar::Text(text)) => Some(clean(text)),
                _ => None,
            };
            query.bind(rows.iter().map(text).collect::<Vec<_>>())
        }
    }
}

fn integer(value: Option<&Scalar>) -> Option<i64> {
    match value? {
        Scalar::Boolean(value) => Some(i64::from(*value)),
        Scalar::Integer(value) => Some(*value),
        Scalar::Null | Scalar::Number(_) | Scalar::Text(_) | Scalar::Decimal(_) => None,
    }
}

fn number(value: Option<&Scalar>) -> Option<f64> {
    match value? {
        Scalar::Number(value) => Some(*value),
        Scalar::Integer(value) => Some(*value as f64),
        Scalar::Null | Scalar::Boolean(_) | Scalar::Text(_) | Scalar::Decimal(_) => None,
    }
}
