//! Places of dead letters that retention has removed, for `verify`: their records are accounted for, and no row says so.
//!
//! They are ranges of kind `removed`. Ranges that touch are one, and those below the floor of the rows leave with it: so
//! there are at most as many as rows and filtered ranges between them.

use std::{collections::BTreeMap, ops::Range};

use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::Query};

use super::floors::Shelf;
use crate::{adapters::postgres::moment::Moment, clock::now_ms};

/// Notes ascending offsets, within the transaction that removes their dead letters and holds their positions.
pub async fn note(connection: &mut PgConnection, offsets: &BTreeMap<Shelf, Vec<i64>>) -> Result<(), sqlx::Error> {
    for (shelf, offsets) in offsets {
        let floor =
            "SELECT retained_from FROM sw_positions WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4";
        let floor =
            sqlx::query_scalar(floor).bind(&shelf.sink).bind(&shelf.topic).bind(shelf.partition).bind(shelf.log);
        let Some(floor): Option<i64> = floor.fetch_optional(&mut *connection).await? else { continue };
        let new = ranges(offsets.iter().copied().filter(|offset| *offset >= floor));
        if let (Some(first), Some(last)) = (new.first(), new.last()) {
            let near = near(connection, shelf, first.start..last.end).await?;
            replace(connection, shelf, (&near, joined([&*new, &*near].concat()))).await?;
        }
    }
    Ok(())
}

/// Ranges that are noted already and touch a range.
async fn near(connection: &mut PgConnection, shelf: &Shelf, of: Range<i64>) -> Result<Vec<Range<i64>>, sqlx::Error> {
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT first_offset, next_offset FROM sw_ranges WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4 \
         AND kind = 'removed' AND first_offset <= $5 AND next_offset >= $6",
    )
    .bind(&shelf.sink)
    .bind(&shelf.topic)
    .bind(shelf.partition)
    .bind(shelf.log)
    .bind(of.end)
    .bind(of.start)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(first, next)| first..next).collect())
}

async fn replace(
    connection: &mut PgConnection,
    shelf: &Shelf,
    (before, now): (&[Range<i64>], Vec<Range<i64>>),
) -> Result<(), sqlx::Error> {
    let firsts: Vec<i64> = before.iter().map(|range| range.start).collect();
    let forget = "DELETE FROM sw_ranges WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4 \
                  AND kind = 'removed' AND first_offset = ANY($5)";
    at(forget, shelf).bind(firsts).execute(&mut *connection).await?;
    let (firsts, nexts): (Vec<i64>, Vec<i64>) = now.into_iter().map(|range| (range.start, range.end)).unzip();
    let note = "INSERT INTO sw_ranges (sink, topic, partition, log, kind, first_offset, next_offset, stored_at) \
                SELECT $1, $2, $3, $4, 'removed', r.*, $7 FROM unnest($5::bigint[], $6::bigint[]) AS r";
    at(note, shelf).bind(firsts).bind(nexts).bind(Moment(now_ms())).execute(connection).await.map(drop)
}

fn at<'q>(sql: &'static str, shelf: &'q Shelf) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).bind(&shelf.sink).bind(&shelf.topic).bind(shelf.partition).bind(shelf.log)
}

/// Ascending offsets as ranges.
fn ranges(offsets: impl Iterator<Item = i64>) -> Vec<Range<i64>> {
    joined(offsets.map(|offset| offset..offset + 1).collect())
}

/// Ranges with those that touch as one.
fn joined(mut all: Vec<Range<i64>>) -> Vec<Range<i64>> {
    all.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<i64>> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
