//! Rows of stream tables and the totals kept beside them.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};
use streamward_core::{
    ports::{
        Counting, Page, PageRequest, PositionRow, ReadError, Row, RowQuery, StatsQuery, StreamStats, StreamSummary,
    },
    reading::{
        self, empty,
        figures::{self, Range, Totals},
        time, unsigned,
        walk::{self, Condition, conditions, quoted},
    },
    schema::Kind,
    table::StreamTable,
};

use super::{
    super::{moment::Moment, numeric::Numeric},
    PostgresReads, read_error,
    scan::Scan,
};

impl PostgresReads {
    pub(super) async fn ask_latest(&self, query: RowQuery) -> Result<Page<Row>, ReadError> {
        let table = self.stream(&query.stream)?;
        let Some(filters) = possible(conditions(table, &query)?) else {
            return Ok(empty());
        };
        let mut lease = self.lease().await?;
        let answer = self.bounded(latest(lease.connection()?, table, filters, query)).await;
        lease.end(answer)
    }

    pub(super) async fn ask_anomalies(&self, query: RowQuery) -> Result<Page<Row>, ReadError> {
        let table = self.stream(&query.stream)?;
        let Some(label) = table.anomaly else {
            return Ok(empty());
        };
        let Some(keep) = possible(conditions(table, &query)?) else {
            return Ok(empty());
        };
        let present = query.now_ms.map(|now| walk::present(table, now));
        let scan = Scan(walk::anomalies(table, label, keep).from(present));
        let mut lease = self.lease().await?;
        let answer = self.bounded(page(lease.connection()?, table, scan, query.page)).await;
        lease.end(answer)
    }

    pub(super) async fn ask_stats(&self, query: StatsQuery) -> Result<StreamStats, ReadError> {
        let table = self.stream(&query.stream)?;
        let range = figures::range(table, &query);
        let mut lease = self.lease().await?;
        let answer = self.bounded(stats(lease.connection()?, table, range)).await;
        lease.end(answer)
    }

    pub(super) async fn ask_positions(&self) -> Result<Vec<PositionRow>, ReadError> {
        let mut lease = self.lease().await?;
        let answer = self.bounded(positions(lease.connection()?)).await;
        lease.end(answer)
    }

    pub(super) async fn ask_streams(&self, now_ms: i64) -> Result<Vec<StreamSummary>, ReadError> {
        let mut lease = self.lease().await?;
        let answer = self.bounded(self.streams_on(lease.connection()?, now_ms)).await;
        lease.end(answer)
    }

    async fn streams_on(&self, connection: &mut PgConnection, now_ms: i64) -> Result<Vec<StreamSummary>, ReadError> {
        let positions = positions(connection).await?;
        let sinks = sinks(connection).await?;
        let gaps: Vec<(String, i64)> =
            sqlx::query_as(GAPS_SQL).fetch_all(&mut *connection).await.map_err(read_error)?;
        let mut streams = Vec::with_capacity(self.streams.len());
        for table in &self.streams {
            let newest: Option<(Moment,)> = sqlx::query_as(AssertSqlSafe(newest_sql(table)))
                .bind(Moment(figures::latest_ms(table, now_ms)))
                .fetch_optional(&mut *connection)
                .await
                .map_err(read_error)?;
            let own = figures::own(table, &positions, &sinks);
            let topics = figures::topics(&own);
            let own_gaps = gaps.iter().filter(|(topic, _)| topics.contains(topic.as_str()));
            let windows = reading::windows_of(&self.windows, &table.stream);
            streams.push(StreamSummary {
                in_gaps: own_gaps.map(|(_, offsets)| unsigned(*offsets)).sum(),
                newest_event_ms: newest.map(|(moment,)| moment.0),
                ..figures::summary(table, windows, &own)
            });
        }
        Ok(streams)
    }
}

/// Filters that a row of PostgreSQL may pass.
fn possible(filters: Option<Vec<Condition>>) -> Option<Vec<Condition>> {
    filters.filter(|filters| !Scan::asks_the_impossible(filters))
}

async fn latest(
    connection: &mut PgConnection,
    table: &StreamTable,
    filters: Vec<Condition>,
    query: RowQuery,
) -> Result<Page<Row>, ReadError> {
    let present = query.now_ms.map(|now| walk::present(table, now));
    let unfiltered = filters.is_empty();
    let wanted = query.page.counting;
    let counting = if unfiltered { Counting::Skip } else { wanted };
    let scan = Scan(walk::latest(table, filters).from(present));
    let mut page = page(connection, table, scan, PageRequest { counting, ..query.page }).await?;
    if unfiltered && wanted == Counting::Bounded {
        let positions = positions(connection).await?;
        let sinks = sinks(connection).await?;
        page.total = figures::retained(&figures::own(table, &positions, &sinks));
        page.total_is_estimate = true;
    }
    Ok(page)
}

async fn page(
    connection: &mut PgConnection,
    table: &StreamTable,
    scan: Scan,
    page: PageRequest,
) -> Result<Page<Row>, ReadError> {
    let walked = scan.page(connection, &page).await?;
    walked.into_page(|row| stream_row(table, row)).map_err(read_error)
}

async fn stats(connection: &mut PgConnection, table: &StreamTable, range: Range) -> Result<StreamStats, ReadError> {
    let (from, until) = (Moment(range.from_ms), Moment(range.until_ms));
    let (records, measured, sum, large, lost, anomalies): (i64, i64, Option<f64>, Option<f64>, i64, i64) =
        sqlx::query_as(STATS_SQL)
            .bind(&*table.stream)
            .bind(from)
            .bind(until)
            .fetch_one(&mut *connection)
            .await
            .map_err(read_error)?;
    let (active_keys,): (i64,) = sqlx::query_as(ACTIVE_KEYS_SQL)
        .bind(&*table.stream)
        .bind(from)
        .bind(until)
        .fetch_one(connection)
        .await
        .map_err(read_error)?;
    let large = large.map(|large| large * LARGE_UNIT);
    let sum = sum.map_or(large, |sum| Some(sum + large.unwrap_or(0.0)));
    let totals = Totals { records, measured, sum, lost, anomalies };
    Ok(figures::stats(table, range, totals, active_keys))
}

/// The newest event time up to a latest one.
pub(super) fn newest_sql(table: &StreamTable) -> String {
    let (table, event_time) = (quoted(&table.table), quoted(&table.columns[table.event_time].name));
    format!("SELECT {event_time} FROM {table} WHERE {event_time} <= $1 ORDER BY {event_time} DESC LIMIT 1")
}

async fn positions(connection: &mut PgConnection) -> Result<Vec<PositionRow>, ReadError> {
    let rows = sqlx::query(POSITIONS_SQL).fetch_all(connection).await.map_err(read_error)?;
    rows.iter().map(position).collect::<Result<_, _>>().map_err(read_error)
}

/// The pipelines that store a stream, now or before, each with its stream.
async fn sinks(connection: &mut PgConnection) -> Result<Vec<(String, String)>, ReadError> {
    sqlx::query_as(SINKS_SQL).fetch_all(connection).await.map_err(read_error)
}

pub(super) const GAPS_SQL: &str =
    "SELECT topic, sum(next_offset - first_offset)::bigint FROM sw_ranges WHERE kind = 'gap' GROUP BY topic";

/// What large sums are counted in: 2^64.
const LARGE_UNIT: f64 = 18_446_744_073_709_551_616.0;

/// PostgreSQL refuses a sum beyond the range of a float, so large summands are summed up apart, in a unit in which their
/// sum stays in range.
pub(super) const STATS_SQL: &str = "SELECT coalesce(sum(count), 0)::bigint, coalesce(sum(measured), 0)::bigint, \
     sum(sum) FILTER (WHERE abs(sum) < 1e290), sum(sum / 18446744073709551616.0::float8) FILTER (WHERE abs(sum) >= 1e290), \
     count(*) - count(sum), coalesce(sum(anomalies), 0)::bigint \
     FROM sw_minutes WHERE stream = $1 AND minute >= $2 AND minute <= $3";

pub(super) const ACTIVE_KEYS_SQL: &str =
    "SELECT count(*) FROM sw_keys WHERE stream = $1 AND last_seen >= $2 AND last_seen <= $3";

const SINKS_SQL: &str = "SELECT pipeline.key, pipeline.value ->> 'stream' \
     FROM sw_definitions, jsonb_each(definitions -> 'pipelines') AS pipeline";

const POSITIONS_SQL: &str = "SELECT sink, topic, partition, log, epoch, next_offset, first_offset, \
     retained_from, stored, dead, filtered, ahead, late, \"full\", updated_at FROM sw_positions \
     ORDER BY sink COLLATE \"C\", topic COLLATE \"C\", partition, log";

fn stream_row(table: &StreamTable, row: &PgRow) -> Result<Row, sqlx::Error> {
    let mut object = Row::new();
    object.insert("id".to_owned(), row.try_get::<i64, _>("id")?.into());
    for column in &table.columns {
        object.insert(column.name.clone(), value(row, &column.name, &column.kind)?);
    }
    // A record may have a time of its own by this name; no field is called `stored_at`.
    let stored_at = if object.contains_key("created_at") { "stored_at" } else { "created_at" };
    object.insert(stored_at.to_owned(), time(row.try_get::<Moment, _>("stored_at")?.0));
    Ok(object)
}

/// One column's value as JSON.
pub(super) fn value(row: &PgRow, column: &str, kind: &Kind) -> Result<Value, sqlx::Error> {
    Ok(match kind {
        Kind::Boolean => row.try_get::<Option<bool>, _>(column)?.into(),
        Kind::Int => row.try_get::<Option<i32>, _>(column)?.into(),
        Kind::Long => row.try_get::<Option<i64>, _>(column)?.into(),
        Kind::Float => row.try_get::<Option<f32>, _>(column)?.map(f64::from).into(),
        Kind::Double => row.try_get::<Option<f64>, _>(column)?.into(),
        Kind::String | Kind::Enum(_) => row.try_get::<Option<String>, _>(column)?.into(),
        Kind::Timestamp => row.try_get::<Option<Moment>, _>(column)?.map_or(Value::Null, |moment| time(moment.0)),
        Kind::Decimal { .. } => row.try_get::<Option<Numeric>, _>(column)?.map(|decimal| decimal.0.to_string()).into(),
    })
}

fn position(row: &PgRow) -> Result<PositionRow, sqlx::Error> {
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
        updated_at_ms: row.try_get::<Moment, _>("updated_at")?.0,
    })
}
