//! What the database needs beside commits, and whether it takes them.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use streamward_core::table::Layout;
use streamward_pipeline::store::{NextUpkeep, Trouble, Upkeep};
use tokio::time::timeout;

use super::{ddl, fault::words, moment::Moment, names::clean};
use crate::clock::now_ms;

/// Time between two looks at which days have their partitions: a day is made one day ahead.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// Times that a probe's statements may take of what it waits for locks.
const PATIENCE: u32 = 2;

/// Makes the partitions of the present day and of the next, of each stream.
///
/// # Errors
/// Of the database.
pub async fn make_days(connection: &mut PgConnection, layout: &Layout) -> Result<Upkeep, sqlx::Error> {
    let (mut done, today) = (0, ddl::day_of(now_ms()));
    for table in &layout.streams {
        for day in [today, today + 1] {
            done += u64::from(ddl::ensure_day(connection, &table.table, day).await?);
        }
    }
    Ok(Upkeep { done, next: NextUpkeep::In(LOOK_EVERY) })
}

/// Whether the database takes writes, asked without writing: it is no standby and not read-only, reads of the positions
/// have an answer, and the lock that a commit takes is free within a time. A connection that was late must not be used
/// again.
///
/// # Errors
/// [`Trouble::Busy`]
pub async fn probe(connection: &mut PgConnection, within: Duration) -> Result<(), Trouble> {
    match timeout(within * PATIENCE, ask(connection, within)).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(why))) => Err(Trouble::Busy(why.to_owned())),
        Ok(Err(error)) => Err(trouble_of(&error)),
        Err(_) => Err(Trouble::Busy("it has not answered for some seconds".to_owned())),
    }
}

/// Why it takes no writes.
async fn ask(connection: &mut PgConnection, within: Duration) -> Result<Option<&'static str>, sqlx::Error> {
    let state = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
                 EXISTS (SELECT 1 FROM sw_positions)";
    let row = sqlx::query(state).fetch_one(&mut *connection).await?;
    if row.try_get(0)? {
        return Ok(Some(STANDBY));
    }
    if row.try_get(1)? {
        return Ok(Some(READ_ONLY));
    }
    let mut transaction = connection.begin().await?;
    // Zero would be no bound.
    let within_ms = within.as_millis().clamp(1, 60_000);
    let lock = format!("SET LOCAL lock_timeout = {within_ms}; LOCK TABLE sw_positions IN ROW EXCLUSIVE MODE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
    transaction.rollback().await?;
    Ok(None)
}

const STANDBY: &str = "the server is a standby, which takes no writes: give the primary's address, or promote it";
const READ_ONLY: &str = "the server or the database is set to read-only (default_transaction_read_only): set it to off";

/// Why a statement or a connection failed, with what somebody can do about it.
#[must_use]
pub fn trouble_of(error: &sqlx::Error) -> Trouble {
    let what = words(error);
    let advice = error.as_database_error().and_then(|error| advice_on(&error.code()?));
    Trouble::Busy(match advice {
        Some(advice) => format!("{what}: {advice}"),
        None => what,
    })
}

/// What to do about an SQLSTATE.
fn advice_on(code: &str) -> Option<&'static str> {
    Some(match code {
        "25006" => {
            "the server takes no writes: give the primary's address, or set default_transaction_read_only to off"
        }
        "53100" => "free space on the database server's disk, or lower storage.retention",
        "53200" => "the database server has no memory left: give it more, or lower its work_mem",
        "53300" => "raise max_connections, or lower the pool",
        "28000" | "28P01" => "check user and password, and pg_hba.conf of the server",
        "3D000" => "make the database, or check its name",
        "42501" => "grant the role the right, or let it own the schema",
        "55P03" => "another session holds a lock: look for it in pg_locks",
        "57014" => "the server was too slow: look at its load",
        "57P01" | "57P02" | "57P03" => "the server is starting or stopping: it is tried again",
        _ => return None,
    })
}

/// Notes who did what to which actor.
///
/// # Errors
/// Of the database.
pub async fn note_action(
    connection: &mut PgConnection,
    (who, action): (&str, &str),
    (target, detail): (&str, &str),
) -> Result<(), sqlx::Error> {
    let note = sqlx::query("INSERT INTO sw_audit (at, who, action, target, detail) VALUES ($1, $2, $3, $4, $5)");
    let texts = [who, action, target, detail].map(clean);
    let [who, action, target, detail] = texts;
    note.bind(Moment(now_ms())).bind(who).bind(action).bind(target).bind(detail).execute(connection).await.map(drop)
}

/// Partition and next offset of each partition in the log of a topic that a sink read last, ascending.
///
/// # Errors
/// Of the database.
pub async fn newest_positions(
    connection: &mut PgConnection,
    (sink, topic): (&str, &str),
) -> Result<Vec<(i32, i64)>, sqlx::Error> {
    let positions = "SELECT partition, next_offset FROM sw_positions WHERE sink = $1 AND topic = $2 \
                     ORDER BY partition, epoch";
    let rows: Vec<(i32, i64)> = sqlx::query_as(positions).bind(sink).bind(topic).fetch_all(connection).await?;
    // Epochs go on from log to log: the newest comes last, and counts.
    Ok(rows.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
}

#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod tests;
