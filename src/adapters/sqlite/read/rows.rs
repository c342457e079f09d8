//! Rows of stream tables and the totals kept beside them.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use streamward_core::{
    ports::{
        Counting, Page, PageRequest, PositionRow, ReadError, Row, RowQuery, StatsQuery, StreamStats, StreamSummary,
    },
    schema::{Kind, instant},
    table::{Column, StreamTable},
};

use super::{
    SqliteReads,
    cursor::Bind,
    read_error,
    scan::{Condition, Order, Scan, parse, quoted},
};
use crate::clock::rfc3339;

const MINUTE_MS: i64 = 60_000;

impl SqliteReads {
    pub(super) async fn read_latest(&self, query: RowQuery) -> Result<Page<Row>, ReadError> {
        let table = self.stream(&query.stream)?;
        let present = query.now_ms.map(|now| present(table, now));
        let Some(filters) = conditions(table, &query)? else {
            return Ok(empty());
        };
        let unfiltered = filters.is_empty();
        let wanted = query.page.counting;
        let counting = if unfiltered { Counting::Skip } else { wanted };
        let page = PageRequest { counting, ..query.page };
        let mut connection = self.connection().await?;
        let walked = latest_scan(table, filters).from(present).page(&mut connection, &page).await?;
        let mut page = walked.into_page(|row| stream_row(table, row))?;
        if unfiltered && wanted == Counting::Bounded {
            page.total = retained(&mut connection, table).await?;
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
        let present = query.now_ms.map(|now| present(table, now));
        let scan = anomaly_scan(table, label, keep).from(present);
        let mut connection = self.connection().await?;
        let walked = scan.page(&mut connection, &query.page).await?;
        walked.into_page(|row| stream_row(table, row))
    }

    pub(super) async fn read_stats(&self, query: StatsQuery) -> Result<StreamStats, ReadError> {
        let table = self.stream(&query.stream)?;
        let until_ms = latest_ms(table, query.now_ms);
        let back = query.now_ms - i64::from(query.minutes) * MINUTE_MS;
        let from_ms = back - back.rem_euclid(MINUTE_MS);
        let mut connection = self.connection().await?;
        let (records, measured, sum, lost, anomalies): (i64, i64, Option<f64>, i64, i64) = sqlx::query_as(STATS_SQL)
            .bind(&query.stream)
            .bind(from_ms)
            .bind(until_ms)
            .fetch_one(&mut *connection)
            .await
            .map_err(read_error)?;
        let (active_keys,): (i64,) = sqlx::query_as(ACTIVE_KEYS_SQL)
            .bind(&query.stream)
            .bind(from_ms)
            .bind(until_ms)
            .fetch_one(&mut *connection)
            .await
            .map_err(read_error)?;
        let has_mean = measured > 0 && table.measure.is_some();
        let sum = sum.filter(|sum| sum.is_finite() && lost == 0);
        Ok(StreamStats {
            records: unsigned(records),
            anomalies: unsigned(anomalies),
            active_keys: unsigned(active_keys),
            mean: sum.filter(|_| has_mean).map(|sum| sum / measured as f64),
            overflows: has_mean && sum.is_none(),
            from_ms,
        })
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
                .bind(latest_ms(table, now_ms))
                .fetch_one(&mut *connection)
                .await
                .map_err(read_error)?;
            let own: Vec<&PositionRow> = positions.iter().filter(|position| is_of(table, position, &sinks)).collect();
            let sum = |figure: fn(&PositionRow) -> i64| own.iter().map(|position| unsigned(figure(position))).sum();
            let topics: BTreeSet<&str> = own.iter().map(|position| position.topic.as_str()).collect();
            let mut in_gaps = 0;
            for topic in topics {
                let (offsets,): (i64,) =
                    sqlx::query_as(GAPS_SQL).bind(topic).fetch_one(&mut *connection).await.map_err(read_error)?;
                in_gaps += unsigned(offsets);
            }
            streams.push(StreamSummary {
                table: table.clone(),
                windows: self.windows_of(&table.stream),
                stored: sum(|position| position.stored),
                dead: sum(|position| position.dead),
                filtered: sum(|position| position.filtered),
                ahead: sum(|position| position.ahead),
                late: sum(|position| position.late),
                full: sum(|position| position.full),
                in_gaps,
                newest_event_ms,
            });
        }
        Ok(streams)
    }
}

/// The latest event time that is taken for one.
fn latest_ms(table: &StreamTable, now_ms: i64) -> i64 {
    now_ms.saturating_add(table.max_ahead_ms)
}

/// Event times that are not ahead of the present.
pub(super) fn present(table: &StreamTable, now_ms: i64) -> Condition {
    let (column, value) = (table.columns[table.event_time].name.clone(), Bind::Integer(latest_ms(table, now_ms)));
    Condition::Compare { column, operator: " <= ", value }
}

/// The newest event time up to a latest one.
pub(super) fn newest_sql(table: &StreamTable) -> String {
    let event_time = quoted(&table.columns[table.event_time].name);
    format!("SELECT MAX({event_time}) FROM {} WHERE {event_time} <= ?", quoted(&table.table))
}

/// About how many rows a stream's table has: all that were stored, less what retention may have removed.
async fn retained(connection: &mut SqliteConnection, table: &StreamTable) -> Result<u64, ReadError> {
    let positions = positions(connection).await?;
    let sinks = sinks(connection).await?;
    let own = positions.iter().filter(|position| is_of(table, position, &sinks));
    Ok(own.map(|position| unsigned(position.stored.min(position.next_offset - position.retained_from))).sum())
}

async fn positions(connection: &mut SqliteConnection) -> Result<Vec<PositionRow>, ReadError> {
    let rows = sqlx::query(POSITIONS_SQL).fetch_all(connection).await.map_err(read_error)?;
    rows.iter().map(position).collect::<Result<_, _>>().map_err(read_error)
}

/// The pipelines that store a stream, now or before, each with its stream.
async fn sinks(connection: &mut SqliteConnection) -> Result<Vec<(String, String)>, ReadError> {
    sqlx::query_as(SINKS_SQL).fetch_all(connection).await.map_err(read_error)
}

/// Whether a position counts rows of the stream's table: those of its present topic, and of earlier ones of its pipelines.
fn is_of(table: &StreamTable, position: &PositionRow, sinks: &[(String, String)]) -> bool {
    let stores_it = |(sink, stream): &(String, String)| *sink == position.sink && **stream == *table.stream;
    *position.topic == *table.topic || sinks.iter().any(stores_it)
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

/// The walk for `latest`: by the index of one filter column, the others tried row by row.
pub(super) fn latest_scan(table: &StreamTable, mut filters: Vec<Condition>) -> Scan {
    let served = |condition: &Condition| match condition {
        Condition::Compare { column, .. } | Condition::Null(column) => {
            let is = |index: &usize| table.columns[*index].name == *column;
            usize::from(is(&table.key)) * 2 + usize::from(table.indexes.iter().any(is))
        }
        Condition::Flag(_) | Condition::Newest => 0,
    };
    filters.sort_by_key(|condition| std::cmp::Reverse(served(condition)));
    let by_index = usize::from(filters.first().is_some_and(|best| served(best) > 0));
    let keep = filters.split_off(by_index);
    Scan { seek: filters, keep, ..walk(table) }
}

/// The walk for `anomalies`: by the partial index of labelled rows.
pub(super) fn anomaly_scan(table: &StreamTable, label: usize, keep: Vec<Condition>) -> Scan {
    let label = Condition::Flag(table.columns[label].name.clone());
    Scan { seek: vec![label], keep, ..walk(table) }
}

fn walk(table: &StreamTable) -> Scan {
    let mut select = vec![quoted("id"), quoted("stored_at")];
    select.extend(table.columns.iter().map(|column| quoted(&column.name)));
    let order = |column: &str, kind| Order { column: column.to_owned(), kind };
    Scan {
        table: table.table.clone(),
        index: None,
        from: None,
        select: select.join(", "),
        seek: Vec::new(),
        keep: Vec::new(),
        order: vec![order(&table.columns[table.event_time].name, Kind::Timestamp), order("id", Kind::Long)],
    }
}

/// The filters as conditions; `None` where a value cannot occur in its column.
pub(super) fn conditions(table: &StreamTable, query: &RowQuery) -> Result<Option<Vec<Condition>>, ReadError> {
    let key = query.key.iter().map(|text| (table.columns[table.key].name.as_str(), text));
    let named = query.filters.iter().map(|(column, text)| (column.as_str(), text));
    let known = |name: &str| {
        Column::named(&table.columns, name).map_err(|reason| ReadError::BadFilter { field: name.to_owned(), reason })
    };
    let mut conditions = Vec::new();
    for (column, text) in key.chain(named) {
        let found = known(column)?;
        match parse(&found.kind, text) {
            Some(value) => conditions.push(Condition::equals(&found.name, value)),
            None => return Ok(None),
        }
    }
    for column in &query.nulls {
        conditions.push(Condition::Null(known(column)?.name.clone()));
    }
    Ok(Some(conditions))
}

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

/// Milliseconds since 1970 as RFC 3339 text in UTC; the number itself where it is beyond the calendar.
pub(super) fn time(ms: i64) -> Value {
    if instant::is_in_range(ms) { rfc3339(ms).into() } else { ms.into() }
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

pub(super) fn empty<T>() -> Page<T> {
    Page { items: Vec::new(), total: 0, total_is_estimate: false, next: None }
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_of_the_years_1_to_9999_is_text() {
        assert_eq!(time(instant::MIN_MS), "0001-01-01T00:00:00.000Z");
        assert_eq!(time(instant::MAX_MS), "9999-12-31T23:59:59.999Z");
        assert_eq!(time(instant::MAX_MS + 1), instant::MAX_MS + 1);
    }
}
