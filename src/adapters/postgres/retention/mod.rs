//! Retention: a day of rows leaves as a whole, everything else in small chunks, by age and by the size in use. Between chunks
//! the positions are free for commits.
//!
//! A day leaves by age when its last row is too old, so up to a day later than the age says; ages under two days are kept to
//! the row besides. By age everything leaves but alerts that fire and facts that wait in the outbox. By size the table that
//! holds the most gives its oldest, again and again ([`sizes`]); a table that holds less than its equal share of the limit
//! gives nothing, so that rows do not leave for what others hold. Start at [`retain`].

pub mod days;
pub mod facts;
pub mod floors;
mod removed;
pub mod sizes;
#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod tests;

use std::time::Duration;

use sqlx::PgConnection;
use streamward_core::table::Layout;
use streamward_pipeline::store::{Retained, RetentionPolicy};

use self::sizes::Holder;
use super::ledger::Kind;
use crate::clock::now_ms;

/// Rows of a stream or a window removed per transaction.
const CHUNK_ROWS: i64 = 5_000;
/// Facts removed per transaction: their positions are held meanwhile.
const CHUNK_FACTS: i64 = 250;
/// Bytes of facts after which a transaction ends.
const CHUNK_BYTES: i64 = 1 << 20;
/// Ranges that one call looks at, of a log.
const CHUNK_RANGES: i64 = 250;
/// Chunks that one call removes by size.
const SIZE_CHUNKS: usize = 8;
/// How long a day stays after its end: a commit that began before it, or a server whose clock is behind, still writes into
/// it, and PostgreSQL refuses a row whose day has no partition.
const GRACE_MS: i64 = 10 * 60_000;
/// Ages under it are kept to the row.
const TO_THE_ROW: Duration = Duration::from_hours(48);

/// Removes a few chunks of what the policy no longer keeps. Callers repeat it, with a pause between, until it finds nothing
/// to do. No space goes back to the file system but that of whole days: PostgreSQL uses it for the rows to come.
///
/// # Errors
/// Of the database. What was removed before stays removed.
pub async fn retain(
    connection: &mut PgConnection,
    layout: &Layout,
    policy: &RetentionPolicy,
) -> Result<Retained, sqlx::Error> {
    let mut retained = Retained::default();
    let before_ms = match policy.age {
        Some(age) => now_ms() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX),
        None => i64::MIN,
    };
    if let Some(age) = policy.age {
        retained.rows += retain_age(connection, layout, (age, before_ms)).await?;
    }
    if let Some(limit) = policy.size_bytes {
        let (rows, stuck_bytes) = retain_size(connection, layout, (limit, before_ms)).await?;
        retained.rows += rows;
        retained.stuck_bytes = stuck_bytes;
    }
    Ok(retained)
}

/// Removes a chunk of what is from before a time, of each table.
async fn retain_age(
    connection: &mut PgConnection,
    layout: &Layout,
    (age, before_ms): (Duration, i64),
) -> Result<u64, sqlx::Error> {
    let mut removed = 0;
    for stream in 0..layout.streams.len() {
        let of = (layout, stream);
        for day in days::days_of(connection, &layout.streams[stream].table).await? {
            if day.is_over(before_ms.min(now_ms() - GRACE_MS)) {
                removed += days::drop_day(connection, of, &day).await?.unwrap_or(0);
            } else if age < TO_THE_ROW {
                removed += days::remove_rows(connection, of, (&day, before_ms - 1, CHUNK_ROWS)).await?;
            }
        }
        removed += floors::pass_over(connection, of, before_ms).await?;
        removed += facts::remove_summaries(connection, &layout.streams[stream].stream, before_ms).await?;
    }
    for table in &layout.windows {
        removed += facts::remove_windows(connection, table, before_ms).await?;
    }
    for kind in Kind::ALL {
        removed += facts::remove(connection, kind, before_ms).await?;
    }
    Ok(removed)
}

/// Removes chunks of what is largest while more than the limit is in use; returns how many rows went, and the bytes over the
/// limit if none could.
async fn retain_size(
    connection: &mut PgConnection,
    layout: &Layout,
    (limit, before_ms): (u64, i64),
) -> Result<(u64, u64), sqlx::Error> {
    let mut removed = 0;
    for _ in 0..SIZE_CHUNKS {
        if sizes::file_bytes(connection, layout).await? <= limit {
            break;
        }
        let used = sizes::used(connection, layout).await?;
        let over = used.total.saturating_sub(limit);
        if over == 0 {
            break;
        }
        let mut went = 0;
        for holder in used.above_their_share(limit) {
            went = match holder {
                Holder::Stream(stream) => remove_oldest(connection, (layout, stream), before_ms).await?,
                Holder::Window(window) => facts::remove_windows(connection, &layout.windows[window], i64::MAX).await?,
                Holder::Facts(kind) => facts::remove(connection, kind, i64::MAX).await?,
            };
            if went > 0 {
                break;
            }
        }
        if went == 0 {
            return Ok((removed, if removed == 0 { over } else { 0 }));
        }
        removed += went;
    }
    Ok((removed, 0))
}

/// Removes the oldest day of a stream that is over and has rows, or a chunk of the oldest rows of the day that is not.
async fn remove_oldest(
    connection: &mut PgConnection,
    (layout, stream): (&Layout, usize),
    before_ms: i64,
) -> Result<u64, sqlx::Error> {
    for day in days::days_of(connection, &layout.streams[stream].table).await? {
        let removed = if day.is_over(now_ms() - GRACE_MS) {
            days::drop_day(connection, (layout, stream), &day).await?
        } else if let Some(until_ms) = sizes::oldest_until(connection, &day).await? {
            Some(days::remove_rows(connection, (layout, stream), (&day, until_ms, CHUNK_ROWS)).await?)
        } else {
            Some(0)
        };
        if let Some(rows) = removed.filter(|rows| *rows > 0) {
            return Ok(rows + floors::pass_over(connection, (layout, stream), before_ms).await?);
        }
    }
    Ok(0)
}
