//! What the database remembers of the configuration that it was written with, and what a start does about differences.
//!
//! [`read`] looks at a database without changing it, for `check` and for a start that may be refused.
//! [`adopt`] carries out what a start accepts: it runs before the tables of the new configuration are made, and may be
//! repeated. Which differences do harm is decided by [`streamward_core::definition`].

mod carry_out;
mod dropped;
mod replay;
mod taken;
#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod tests;

use std::{collections::BTreeMap, future::Future, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use streamward_core::{
    definition::{Concerned, Definitions, Remembered, said},
    table::Layout,
};
use streamward_pipeline::store::StoreError;

use super::{
    fault::{store_error, words},
    moment::Moment,
    names::quoted,
    settings::PostgresSettings,
};
use crate::clock::now_ms;

pub use self::{carry_out::forget_removed_steps, dropped::dropped_windows, replay::begin_rule};

/// Longest time for a look at what the database remembers: counting may read a million rows of each table.
const LOOK_WITHIN: Duration = Duration::from_secs(60);
/// SQLSTATE: there is no such database.
const NO_DATABASE: &str = "3D000";

/// Reads what the database was written with; none where there is no database, or none that remembers.
///
/// # Errors
/// If it does not answer, or refuses.
pub async fn read(settings: &PostgresSettings) -> Result<Option<Remembered>, String> {
    let what = || format!("read what the database {} was written with", settings.place());
    look(settings, async |connection| remembered(connection).await).await.or_else(|error| match error {
        Unread::NoDatabase => Ok(None),
        Unread::Because(why) => Err(format!("{}: {why}", what())),
    })
}

/// Why a look has not come to an end.
enum Unread {
    NoDatabase,
    Because(String),
}

/// Looks at the database on a connection of its own that writes nothing, within bounds.
async fn look<T>(
    settings: &PostgresSettings,
    job: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, Unread> {
    let options = settings.options("look").options([("default_transaction_read_only", "on")]);
    let late = |what: &str| Unread::Because(format!("{what} takes longer than it should"));
    let connected = within(settings.connect_timeout, PgConnection::connect_with(&options)).await;
    let mut connection = match connected.ok_or_else(|| late("the connection"))? {
        Ok(connection) => connection,
        Err(error) if error.as_database_error().and_then(|error| error.code()).as_deref() == Some(NO_DATABASE) => {
            return Err(Unread::NoDatabase);
        }
        Err(error) => return Err(Unread::Because(words(&error))),
    };
    let done = within(LOOK_WITHIN, job(&mut connection)).await;
    done.ok_or_else(|| late("the look"))?.map_err(|error| Unread::Because(words(&error)))
}

async fn within<T>(time: Duration, job: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, job).await.ok()
}

/// What the database remembers; none where it does not.
pub(super) async fn remembered(connection: &mut PgConnection) -> Result<Option<Remembered>, sqlx::Error> {
    if !is_there(connection, "sw_definitions").await? {
        return Ok(None);
    }
    let text: Option<String> =
        sqlx::query_scalar("SELECT definitions::text FROM sw_definitions").fetch_optional(&mut *connection).await?;
    let Some(text) = text else { return Ok(None) };
    let definitions: Definitions = serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let behind = replay::behind(connection, &definitions).await?;
    let (rows, partitions) = (taken::tables(connection).await?, partitions(connection).await?);
    Ok(Some(Remembered { definitions, rows, behind, partitions }))
}

async fn partitions(connection: &mut PgConnection) -> Result<BTreeMap<(String, String), u32>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT sink, topic, count(*) FROM sw_positions p WHERE log = (SELECT max(log) FROM sw_positions o \
         WHERE o.sink = p.sink AND o.topic = p.topic) GROUP BY sink, topic",
    )
    .fetch_all(connection)
    .await?;
    let counted = rows.iter().map(|row| {
        let count: i64 = row.try_get(2)?;
        Ok(((row.try_get(0)?, row.try_get(1)?), u32::try_from(count).unwrap_or(u32::MAX)))
    });
    counted.collect()
}

/// Rows of a table, at most [`Remembered::MAX_COUNTED`].
async fn count(connection: &mut PgConnection, table: &str) -> Result<u64, sqlx::Error> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {}) r", quoted(table), Remembered::MAX_COUNTED);
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await?;
    Ok(count.unsigned_abs())
}

/// Whether there is a table, view or index of a name, in whichever case.
async fn is_there(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = current_schema() AND lower(c.relname::text) = lower($1))",
    )
    .bind(name)
    .fetch_one(connection)
    .await
}

/// Makes the database fit the layout's definitions, as far as they are accepted. Another server that starts at the same
/// time waits.
///
/// # Errors
/// A change that would do harm and is not allowed: nothing was changed then. Or of the database.
pub async fn adopt(connection: &mut PgConnection, layout: &Layout) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await.map_err(store_error)?;
    take_turns(&mut transaction).await.map_err(store_error)?;
    if let Some(remembered) = remembered(&mut transaction).await.map_err(store_error)? {
        for (change, count) in remembered.changes(layout) {
            match (count, &change.concerned, change.allowed_by()) {
                (0, Concerned::Rows(table), _) => {
                    carry_out::make_room(&mut transaction, table).await?;
                }
                (0, Concerned::Replay(_), _) => {}
                (_, concerned, Some(word)) if layout.allowed.iter().any(|allowed| allowed == word) => {
                    carry_out::allow(&mut transaction, &remembered.definitions, (concerned, word)).await?;
                }
                (count, ..) => return Err(StoreError::Protocol(change.message(&said(count)))),
            }
        }
        for (old, new) in remembered.definitions.renamed_pipelines(&layout.definitions) {
            carry_out::rename_pipeline(&mut transaction, &old, &new).await?;
        }
        let new = replay::begin_new_rules(&mut transaction, &remembered.definitions, &layout.definitions);
        new.await.map_err(store_error)?;
        taken::free_index_names(&mut transaction, &remembered, layout).await.map_err(store_error)?;
    }
    forget_removed_steps(&mut transaction, &layout.definitions).await.map_err(store_error)?;
    transaction.commit().await.map_err(store_error)
}

/// Waits until no other server adopts or remembers definitions, until the transaction ends.
async fn take_turns(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("LOCK TABLE sw_definitions IN SHARE ROW EXCLUSIVE MODE").execute(connection).await.map(drop)
}

/// Writes down what the database is written with from now on, and what it holds of before.
///
/// # Errors
/// Of the database.
pub async fn remember(connection: &mut PgConnection, definitions: &Definitions) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await.map_err(store_error)?;
    take_turns(&mut transaction).await.map_err(store_error)?;
    let before: Option<String> = sqlx::query_scalar("SELECT definitions::text FROM sw_definitions")
        .fetch_optional(&mut *transaction)
        .await
        .map_err(store_error)?;
    let unreadable = |error: serde_json::Error| StoreError::Protocol(error.to_string());
    let before: Definitions =
        before.map(|text| serde_json::from_str(&text)).transpose().map_err(unreadable)?.unwrap_or_default();
    let text = serde_json::to_string(&definitions.and_before(&before)).map_err(unreadable)?;
    sqlx::query(
        "INSERT INTO sw_definitions AS d VALUES (1, $1::text::jsonb, $2) ON CONFLICT (id) DO UPDATE SET \
         definitions = excluded.definitions, updated_at = excluded.updated_at WHERE d.definitions <> excluded.definitions",
    )
    .bind(text)
    .bind(Moment(now_ms()))
    .execute(&mut *transaction)
    .await
    .map_err(store_error)?;
    transaction.commit().await.map_err(store_error)
}
