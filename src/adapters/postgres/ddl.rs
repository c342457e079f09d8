//! Tables generated from schemas and windows.
//!
//! A stream's table is partitioned by the day (UTC) at which rows were stored, so that retention drops days as a whole.
//! It has no primary key: the comparison of positions lets no row be stored twice, and an index for what never happens
//! would cost as much as the row.

use std::borrow::Cow;

use sqlx::{AssertSqlSafe, PgConnection};
use streamward_core::{
    schema::Kind,
    table::{Column, OWN_COLUMNS, StreamTable, WindowTable, index_of},
};

use super::{
    connection::WriteError,
    moment::Moment,
    names::{MAX_BYTES, fitting, quoted},
};

/// A window row's own number.
pub const ROW: &str = "sw_row";
/// Names of a window row's values that are beyond the range of their type, in JSON; null where there are none.
pub const OVERFLOW: &str = "sw_overflow";
/// Columns that PostgreSQL has itself in every table.
const SYSTEM_COLUMNS: [&str; 6] = ["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// The type of a column, as PostgreSQL's `format_type` writes it.
pub fn sql_type(kind: &Kind) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        Kind::Boolean => "boolean",
        Kind::Int => "integer",
        Kind::Long => "bigint",
        Kind::Float => "real",
        Kind::Double => "double precision",
        Kind::String | Kind::Enum(_) => "text",
        Kind::Timestamp => "timestamp with time zone",
        Kind::Decimal { precision, scale } => return Cow::Owned(format!("numeric({precision},{scale})")),
    })
}

fn definition(column: &Column) -> String {
    let null = if column.nullable { "" } else { " NOT NULL" };
    format!("{} {}{null}", quoted(&column.name), sql_type(&column.kind))
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Refuses names that PostgreSQL would cut or has itself.
fn check_names(subject: &str, columns: &[Column]) -> Result<(), WriteError> {
    for column in columns {
        let name = &column.name;
        if SYSTEM_COLUMNS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(WriteError::Protocol(format!(
                "{subject}: field {} would be column {name}, which every table of PostgreSQL has itself: rename the field \
                 and keep its old name as an Avro alias, or put it into a nested record",
                column.path
            )));
        }
        if name.len() > MAX_BYTES {
            return Err(WriteError::Protocol(format!(
                "{subject}: column {name} has more than {MAX_BYTES} bytes, which is the longest name of PostgreSQL"
            )));
        }
    }
    Ok(())
}

/// Creates a stream's table and indexes, or adds the columns that the schema gained.
///
/// # Errors
/// If a column has another type than the schema wants, or a name that PostgreSQL does not take.
pub async fn create_stream_table(connection: &mut PgConnection, table: &StreamTable) -> Result<(), WriteError> {
    check_names(&format!("stream {}", table.stream), &table.columns)?;
    let name = quoted(&table.table);
    let columns: Vec<String> = table.columns.iter().map(definition).collect();
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {name} (id bigint NOT NULL, {}, stored_at timestamptz NOT NULL) \
         PARTITION BY RANGE (stored_at)",
        columns.join(", ")
    );
    run(connection, create).await?;
    add_missing_columns(connection, &table.table, &table.columns).await?;
    relax(connection, table).await?;
    let event_time = quoted(&table.columns[table.event_time].name);
    let index = |suffix: &str, how: &str, filter: &str| {
        let index = quoted(&fitting(&index_of(&table.table, suffix)));
        format!("CREATE INDEX IF NOT EXISTS {index} ON {name} {how}{filter}")
    };
    let by_time = format!("({event_time}, id)");
    let mut indexes = vec![
        index("sw_ids", "USING brin (id int8_minmax_multi_ops, stored_at)", ""),
        index(&table.columns[table.event_time].name, &by_time, ""),
    ];
    for &column in &table.indexes {
        let column = &table.columns[column].name;
        indexes.push(index(column, &format!("({}, {event_time}, id)", quoted(column)), ""));
    }
    if let Some(anomaly) = table.anomaly {
        let anomaly = &table.columns[anomaly].name;
        indexes.push(index(anomaly, &by_time, &format!(" WHERE {}", quoted(anomaly))));
    }
    for sql in indexes {
        run(connection, sql).await?;
    }
    Ok(())
}

/// A column of a table as it is.
pub struct Existing {
    pub name: String,
    pub kind: String,
    /// Whether it takes no NULL.
    pub is_required: bool,
}

/// The columns of a table; none if there is no such table.
///
/// # Errors
/// Of the database.
pub async fn existing_columns(connection: &mut PgConnection, table: &str) -> Result<Vec<Existing>, sqlx::Error> {
    let rows: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute \
         WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )
    .bind(quoted(table))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(name, kind, is_required)| Existing { name, kind, is_required }).collect())
}

/// Adds columns that the table lacks and refuses those whose type changed.
async fn add_missing_columns(connection: &mut PgConnection, table: &str, columns: &[Column]) -> Result<(), WriteError> {
    let existing = existing_columns(connection, table).await?;
    for column in columns {
        match existing.iter().find(|known| known.name.eq_ignore_ascii_case(&column.name)) {
            Some(known) if known.kind == sql_type(&column.kind) && known.name == column.name => {}
            Some(known) if known.kind == sql_type(&column.kind) => {
                let (table, from, to) = (quoted(table), quoted(&known.name), quoted(&column.name));
                run(connection, format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}")).await?;
            }
            Some(known) => {
                return Err(WriteError::Protocol(format!(
                    "table {table} has column {} as {}, the schema wants {}: rename the table or the field",
                    column.name,
                    known.kind,
                    sql_type(&column.kind)
                )));
            }
            None => {
                let added = Column { nullable: true, ..column.clone() };
                run(connection, format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), definition(&added))).await?;
            }
        }
    }
    Ok(())
}

/// Lets columns be null that the schema no longer requires: fields that became optional, or went.
async fn relax(connection: &mut PgConnection, table: &StreamTable) -> Result<(), WriteError> {
    let is_required = |name: &str| table.columns.iter().any(|column| column.name == name && !column.nullable);
    let existing = existing_columns(connection, &table.table).await?;
    let relaxed = existing.iter().filter(|column| column.is_required && !is_required(&column.name));
    let relaxed: Vec<&Existing> = relaxed.filter(|column| !OWN_COLUMNS.contains(&column.name.as_str())).collect();
    for column in &relaxed {
        let (table, column) = (quoted(&table.table), quoted(&column.name));
        run(connection, format!("ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL")).await?;
    }
    if !relaxed.is_empty() {
        let names: Vec<&str> = relaxed.iter().map(|column| column.name.as_str()).collect();
        tracing::info!(
            table = table.table,
            columns = names.join(", "),
            "the schema no longer requires columns: they may be null"
        );
    }
    Ok(())
}

/// Name of the partition of a stream's table for a day, counted from 1970.
#[must_use]
pub fn partition_of(table: &str, day: i64) -> String {
    let date = crate::clock::rfc3339(day.saturating_mul(DAY_MS));
    let date: String = date.chars().take(10).filter(char::is_ascii_digit).collect();
    fitting(&format!("sw_{date}_{table}"))
}

/// The day of a time, counted from 1970.
#[must_use]
pub fn day_of(ms: i64) -> i64 {
    ms.div_euclid(DAY_MS)
}

/// Makes the partition of a stream's table for a day; says whether it was missing.
///
/// # Errors
/// Of the database; that another process made it at the same time is none.
pub async fn ensure_day(connection: &mut PgConnection, table: &str, day: i64) -> Result<bool, sqlx::Error> {
    let name = partition_of(table, day);
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(quoted(&name))
        .fetch_one(&mut *connection)
        .await?;
    if is_there {
        return Ok(false);
    }
    let bounds: (String, String) = sqlx::query_as("SELECT $1::timestamptz::text, $2::timestamptz::text")
        .bind(Moment(day.saturating_mul(DAY_MS)))
        .bind(Moment((day + 1).saturating_mul(DAY_MS)))
        .fetch_one(&mut *connection)
        .await?;
    let (from, to) = bounds;
    run(
        connection,
        format!(
            "CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ('{from}') TO ('{to}')",
            quoted(&name),
            quoted(table)
        ),
    )
    .await?;
    Ok(true)
}

/// What a window's row is found by.
#[must_use]
pub fn key(table: &WindowTable) -> String {
    let group: String = table.group.iter().map(|column| format!("{}, ", quoted(&column.name))).collect();
    format!("window_start, {group}log, partition")
}

/// Creates a window's table, or brings it up to date.
///
/// # Errors
/// If a column has another type than the window wants, or its rows are one group now that were several.
pub async fn create_window_table(connection: &mut PgConnection, table: &WindowTable) -> Result<(), WriteError> {
    let nullable = |column: &Column| Column { nullable: true, ..column.clone() };
    let columns: Vec<Column> = table.group.iter().chain(&table.values).map(nullable).collect();
    check_names(&format!("window {}", table.window), &columns)?;
    let name = quoted(&table.window);
    let definitions: Vec<String> = columns.iter().map(definition).collect();
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {name} ({ROW} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
         window_start timestamptz NOT NULL, window_end timestamptz NOT NULL, {}, revision bigint NOT NULL, \
         log bigint NOT NULL, partition integer NOT NULL, created_at timestamptz NOT NULL, {OVERFLOW} text)",
        definitions.join(", ")
    );
    run(connection, create).await?;
    add_missing_columns(connection, &table.window, &columns).await?;
    create_key(connection, table).await?;
    for (index, column) in
        [(index_of(&table.window, "created_at"), "created_at"), (format!("sw_start_{}", table.window), "window_start")]
    {
        let more = if column == "window_start" { format!(", {ROW}") } else { String::new() };
        let index = quoted(&fitting(&index));
        run(connection, format!("CREATE INDEX IF NOT EXISTS {index} ON {name} ({column}{more})")).await?;
    }
    Ok(())
}

/// Makes the unique index, anew if the window is grouped by other columns than before.
async fn create_key(connection: &mut PgConnection, table: &WindowTable) -> Result<(), WriteError> {
    let index = fitting(&format!("sw_key_{}", table.window));
    let known: Option<String> = sqlx::query_scalar(
        "SELECT string_agg(attname::text, ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = to_regclass($1)",
    )
    .bind(quoted(&index))
    .fetch_one(&mut *connection)
    .await?;
    let plain: Vec<&str> = ["window_start"]
        .into_iter()
        .chain(table.group.iter().map(|column| column.name.as_str()))
        .chain(["log", "partition"])
        .collect();
    if known.is_some_and(|known| known == plain.join(", ")) {
        return Ok(());
    }
    let (index, name) = (quoted(&index), quoted(&table.window));
    run(connection, format!("DROP INDEX IF EXISTS {index}")).await?;
    let create = format!("CREATE UNIQUE INDEX {index} ON {name} ({}) NULLS NOT DISTINCT", key(table));
    run(connection, create).await.map_err(|error| {
        WriteError::Protocol(format!(
            "window {} was grouped by other columns before, and some of its rows are one group now ({}): give the window \
             another name",
            table.window,
            super::fault::words(&error)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_partition_of_its_own_whose_name_is_the_date() {
        assert_eq!(partition_of("orders", day_of(1_796_083_200_000)), "sw_20261201_orders");
        assert_eq!(day_of(-1), -1);
        assert_eq!(partition_of("orders", -1), "sw_19691231_orders");
    }
}
