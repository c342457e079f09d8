//! From where on the rows of a log are complete, and the ranges that filters passed over below.

use std::{collections::BTreeMap, ops::Range};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use streamward_core::table::{Layout, row_id};

use super::CHUNK_RANGES;
use crate::adapters::postgres::{moment::Moment, names::quoted};

/// The rows of a log of a partition below an offset leave.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    pub log: i64,
    pub partition: i32,
    pub offset: i64,
}

/// The place of a log in the positions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shelf {
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    pub log: i64,
}

/// All positions of a stream, in the order in which commits lock them. A pipeline that is no longer configured has left its
/// rows to the stream of its topic.
pub async fn shelves(
    connection: &mut PgConnection,
    (layout, stream): (&Layout, usize),
) -> Result<Vec<(Shelf, i64)>, sqlx::Error> {
    let rows: Vec<(String, String, i32, i64, i64)> = sqlx::query_as(
        "SELECT sink, topic, partition, log, retained_from FROM sw_positions ORDER BY sink, topic, partition, log",
    )
    .fetch_all(connection)
    .await?;
    let of_stream = rows.into_iter().filter(|(sink, topic, ..)| stream_of(layout, sink, topic) == Some(stream));
    Ok(of_stream.map(|(sink, topic, partition, log, floor)| (Shelf { sink, topic, partition, log }, floor)).collect())
}

fn stream_of(layout: &Layout, sink: &str, topic: &str) -> Option<usize> {
    match layout.sinks.iter().find(|(name, _)| **name == *sink) {
        Some((_, stream)) => layout.streams.iter().position(|table| table.stream == *stream),
        None => layout.streams.iter().position(|table| *table.topic == *topic),
    }
}

/// Raises the floors of a stream's logs, and removes the ranges below; returns how many. A gap stays: it is reported.
pub async fn raise(
    connection: &mut PgConnection,
    (layout, stream): (&Layout, usize),
    floors: &[Floor],
) -> Result<u64, sqlx::Error> {
    if floors.is_empty() {
        return Ok(0);
    }
    let floor_of: BTreeMap<(i64, i32), i64> =
        floors.iter().map(|floor| ((floor.log, floor.partition), floor.offset)).collect();
    let shelves = shelves(connection, (layout, stream)).await?;
    let raised = shelves.into_iter().filter_map(|(shelf, from)| {
        let floor = *floor_of.get(&(shelf.log, shelf.partition))?;
        (floor > from).then_some((shelf, floor))
    });
    raise_shelves(connection, &raised.collect::<Vec<_>>()).await
}

/// Likewise, of single logs in the order of their places.
pub async fn raise_shelves(connection: &mut PgConnection, raised: &[(Shelf, i64)]) -> Result<u64, sqlx::Error> {
    let sinks: Vec<&str> = raised.iter().map(|(shelf, _)| shelf.sink.as_str()).collect();
    let topics: Vec<&str> = raised.iter().map(|(shelf, _)| shelf.topic.as_str()).collect();
    let partitions: Vec<i32> = raised.iter().map(|(shelf, _)| shelf.partition).collect();
    let logs: Vec<i64> = raised.iter().map(|(shelf, _)| shelf.log).collect();
    let floors: Vec<i64> = raised.iter().map(|(_, floor)| *floor).collect();
    let places = "unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[]) \
                  AS f(sink, topic, partition, log, floor)";
    let of = |table: &str| {
        format!(
            "{table}.sink = f.sink AND {table}.topic = f.topic AND {table}.partition = f.partition AND {table}.log = f.log"
        )
    };
    let lock = format!(
        "SELECT p.log FROM sw_positions p JOIN {places} ON {} ORDER BY p.sink, p.topic, p.partition, p.log FOR UPDATE OF p",
        of("p")
    );
    let raise = format!(
        "UPDATE sw_positions p SET retained_from = greatest(p.retained_from, f.floor) FROM {places} WHERE {}",
        of("p")
    );
    let forget = format!(
        "DELETE FROM sw_ranges r USING {places} WHERE {} AND r.kind IN ('filtered', 'removed') \
         AND r.first_offset < f.floor AND r.next_offset <= f.floor",
        of("r")
    );
    let mut removed = 0;
    for sql in [lock, raise, forget] {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(&sinks).bind(&topics).bind(&partitions).bind(&logs);
        removed = query.bind(&floors).execute(&mut *connection).await?.rows_affected();
    }
    Ok(removed)
}

/// Raises the floors of a stream's logs over ranges that were passed over before a time and that no row lies in front of;
/// returns how many ranges went.
pub async fn pass_over(
    connection: &mut PgConnection,
    (layout, stream): (&Layout, usize),
    before_ms: i64,
) -> Result<u64, sqlx::Error> {
    let mut raised = Vec::new();
    for (shelf, from) in shelves(connection, (layout, stream)).await? {
        let end = passed_over(connection, &layout.streams[stream].table, (&shelf, from), before_ms).await?;
        if end > from {
            raised.push((shelf, end));
        }
    }
    if raised.is_empty() {
        return Ok(0);
    }
    let mut transaction = connection.begin().await?;
    let removed = raise_shelves(&mut transaction, &raised).await?;
    transaction.commit().await?;
    Ok(removed)
}

/// End of the ranges from a floor on that were passed over before a time, with no row before them. Dead letters may be.
async fn passed_over(
    connection: &mut PgConnection,
    table: &str,
    (shelf, floor): (&Shelf, i64),
    before_ms: i64,
) -> Result<i64, sqlx::Error> {
    let ranges: Vec<(i64, i64, Moment)> = sqlx::query_as(
        "SELECT first_offset, next_offset, stored_at FROM sw_ranges WHERE sink = $1 AND topic = $2 AND partition = $3 \
         AND log = $4 AND kind = 'filtered' ORDER BY first_offset LIMIT $5",
    )
    .bind(&shelf.sink)
    .bind(&shelf.topic)
    .bind(shelf.partition)
    .bind(shelf.log)
    .bind(CHUNK_RANGES)
    .fetch_all(&mut *connection)
    .await?;
    let mut end = floor;
    for (first, next, stored_at) in ranges {
        if stored_at.0 >= before_ms || has_row(connection, table, (shelf, end..first)).await? {
            break;
        }
        end = end.max(next);
    }
    Ok(end)
}

async fn has_row(
    connection: &mut PgConnection,
    table: &str,
    (shelf, offsets): (&Shelf, Range<i64>),
) -> Result<bool, sqlx::Error> {
    if offsets.is_empty() {
        return Ok(false);
    }
    let id = |offset| row_id(shelf.log, shelf.partition, offset);
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE id >= $1 AND id < $2)", quoted(table));
    let has = sqlx::query_scalar(AssertSqlSafe(sql)).bind(id(offsets.start)).bind(id(offsets.end));
    has.fetch_one(connection).await
}
