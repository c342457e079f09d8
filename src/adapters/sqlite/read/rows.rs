//! Rows of stream tables and the totals kept beside them.

use serde_json::Value;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use streamward_core::{
    ports::{
        Counting, Page, PageRequest, PositionRow, ReadError, Row, RowQuery, StatsQuery, StreamStats, StreamSummary,
    },
    reading::{
        self, empty,
        figures::{self, Totals},
        time, unsigned,
        walk::{self, conditions, quoted},
    },
    schema::Kind,
    table::StreamTable,
};

use super::{SqliteReads, read_error, scan::Scan};

impl SqliteReads {
    pub(super) async fn read_latest(&self, query: RowQuery) -> Result<Page<Row>, ReadError> {
        let table = self.stream(&query.stream)?;
        let present = query.now_ms.map(|now| walk::present(table, now));
        let Some(filters) = conditions(table, &query)? else {
            return Ok(empty());
        };
        let unfiltered = filters.is_empty();
        let wanted = query.page.counting;
        let counting = if unfiltered { Counting::Skip } else { wanted };
        let page = PageRequest { counting, ..query.page };
        let mut connection = self.connection().await?;
        let walked = Scan(walk::latest(table, filters).from(present)).page(&mut connection, &page).await?;
        let mut page = walked.into_page(|row| stream_row(table, row)).map_err(read_error)?;
        if unfiltered && wanted == Counting::Bounded {
            let positions = positions(&mut connection).await?;
            let sinks = sinks(&mut connection).await?;
            page.total = figures::retained(&figures::own(table, &positions, &sinks));
            page.total_is_estimate = true;
        }
        Ok(page)
    }

    pub(super) async fn read_anomalies(&self, query: RowQuery) -> Result<Page<Row>, ReadError> {
        let table = self.stream(&query.stream)?;
        let Some(label) = table.anomaly else {
            return Ok(empty());
        };
        let Some(keep) = conditions(table, &query)? else {
            return Ok(empty());
        };
        let present = query.now_ms.map(|now| walk::present(table, now));
        let scan = Scan(walk::anomalies(table, label, keep).from(present));
        let mut connection = self.connection().await?;
        let walked = scan.page(&mut connection, &query.page).await?;
        walked.into_page(|row| stream_row(table, row)).map_err(read_error)
    }

    pub(super) async fn read_stats(&self, query: StatsQuery) -> Result<StreamStats, ReadError> {
        let table = self.stream(&query.stream)?;
        let range = figures::range(table, &query);
        let mut connection = self.connection().await?;
        let (records, measured, sum, lost, anomalies): (i64, i64, Option<f64>, i64, i64) = sqlx::query_as(STATS_SQL)
            .bind(&query.stream)
            .bind(range.from_ms)
            .bind(range.until_ms)
            .fetch_one(&mut *connection)
            .await
            .map_err(read_error)?;
        let (active_keys,): (i64,) = sqlx::query_as(ACTIVE_KEYS_SQL)
            .bind(&query.stream)
            .bind(range.from_ms)
            .bind(range.until_ms)
            .fetch_one(&mut *connection)
            .await
            .map_err(read_error)?;
        let totals = Totals { records, measured, sum, lost, anomalies };
        Ok(figures::stats(table, range, totals, active_keys))
    }

    pub(super) async fn read_positions(&self) -> Result<Vec<PositionRow>, ReadError> {
        positions(&mut *self.connection().await?).await
    }

    pub(super) async fn read_streams(&self, now_ms: i64) -> Result<Vec<StreamSummary>, ReadError> {
        let mut connection = self.connection().await?;
        let positions = positions(&mut connection).await?;
        let sinks = sinks(&mut connection).await?;
        let mut streams = Vec::with_capacity(self.streams.len());
        for table in &self.streams {
            let (newest_event_ms,) = sqlx::query_as(sqlx::AssertSqlSafe(newest_sql(table)))
                .bind(figures::latest_ms(table, now_ms))
                .fetch_one(&mut *connection)
                .await
                .map_err(read_error)?;
            let own = figures::own(table, &positions, &sinks);
            let mut in_gaps = 0;
            for topic in figures::topics(&own) {
                let (offsets,): (i64,) =
                    sqlx::query_as(GAPS_SQL).bind(topic).fetch_one(&mut *connection).await.map_err(read_error)?;
                in_gaps += unsigned(offsets);
            }
            let windows = reading::windows_of(&self.windows, &table.stream);
            streams.push(StreamSummary { in_gaps, newest_event_ms, ..figures::summary(table, windows, &own) });
        }
        Ok(streams)
    }
}

/// The newest event time up to a latest one.
pub(super) fn newest_sql(table: &StreamTable) -> String {
    let event_time = quoted(&table.columns[table.event_time].name);
    format!("SELECT MAX({event_time}) FROM {} WHERE {event_time} <= ?", quoted(&table.table))
}

async fn positions(connection: &mut SqliteConnection) -> Result<Vec<PositionRow>, ReadError> {
    let rows = sqlx::query(POSITIONS_SQL).fetch_all(connection).await.map_err(read_error)?;
    rows.iter().map(position).collect::<Result<_, _>>().map_err(read_error)
}

/// The pipelines that store a stream, now or before, each with its stream.
async fn sinks(connection: &mut SqliteConnection) -> Result<Vec<(String, String)>, ReadError> {
    sqlx::query_as(SINKS_SQL).fetch_all(connection).await.map_err(read_error)
}

pub(super) const GAPS_SQL: &str =
    "SELECT coalesce(sum(next_offset - first_offset), 0) FROM sw_ranges WHERE topic = ? AND kind = 'gap'";

pub(super) const STATS_SQL: &str = "SELECT COALESCE(SUM(count), 0), COALESCE(SUM(measured), 0), SUM(sum), COUNT(*) - COUNT(sum), \
     COALESCE(SUM(anomalies), 0) FROM sw_minutes WHERE stream = ? AND minute >= ? AND minute <= ?";

pub(super) const ACTIVE_KEYS_SQL: &str =
    "SELECT COUNT(*) FROM sw_keys WHERE stream = ? AND last_seen >= ? AND last_seen <= ?";

const SINKS_SQL: &str = "SELECT pipeline.key, pipeline.value ->> 'stream' \
     FROM sw_definitions, json_each(definitions, '$.pipelines') AS pipeline";

const POSITIONS_SQL: &str = "SELECT sink, topic, partition, log, epoch, next_offset, first_offset, \
     retained_from, stored, dead, filtered, ahead, late, \"full\", updated_at FROM sw_positions \
     ORDER BY sink, topic, partition";

fn stream_row(table: &StreamTable, row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let mut object = Row::new();
    object.insert("id".to_owned(), row.try_get::<i64, _>("id")?.into());
    for column in &table.columns {
        object.insert(column.name.clone(), value(row, &column.name, &column.kind)?);
    }
    // A record may have a time of its own by this name; no field is called `stored_at`.
    let stored_at = if object.contains_key("created_at") { "stored_at" } else { "created_at" };
    object.insert(stored_at.to_owned(), time(row.try_get("stored_at")?));
    Ok(object)
}

/// One column's value as JSON.
pub(super) fn value(row: &SqliteRow, column: &str, kind: &Kind) -> Result<Value, sqlx::Error> {
    Ok(match kind {
        Kind::Boolean => row.try_get::<Option<bool>, _>(column)?.into(),
        Kind::Int | Kind::Long => row.try_get::<Option<i64>, _>(column)?.into(),
        Kind::Float | Kind::Double => row.try_get::<Option<f64>, _>(column)?.into(),
        Kind::String | Kind::Enum(_) | Kind::Decimal { .. } => row.try_get::<Option<String>, _>(column)?.into(),
        Kind::Timestamp => row.try_get::<Option<i64>, _>(column)?.map_or(Value::Null, time),
    })
}

fn position(row: &SqliteRow) -> Result<PositionRow, sqlx::Error> {
    Ok(PositionRow {
        sink: row.try_get("sink")?,
        topic: row.try_get("topic")?,
        partition: row.try_get("partition")?,
        log: row.try_get("log")?,
        epoch: row.try_get("epoch")?,
        next_offset: row.try_get("next_offset")?,
        first_offset: row.try_get("first_offset")?,
        retained_from: row.try_get("retained_from")?,
        stored: row.try_get("stored")?,
        dead: row.try_get("dead")?,
        filtered: row.try_get("filtered")?,
        ahead: row.try_get("ahead")?,
        late: row.try_get("late")?,
        full: row.try_get("full")?,
        updated_at_ms: row.try_get("updated_at")?,
    })
}
