//! Changes of a database that a start accepts.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection};
use streamward_core::definition::{Concerned, Definitions, kept_table};
use streamward_pipeline::store::StoreError;

use super::{is_there, quoted, replay, store_error, taken};
use crate::adapters::postgres::names::fitting;

/// Tables with a column `sink`, in the order in which a commit writes them.
const BY_SINK: [&str; 8] =
    ["sw_positions", "sw_ranges", "sw_decisions", "sw_checkpoints", "sw_late", "alerts", "dead_letters", "sw_outbox"];

/// Drops a table that has no row, so that it is made as the configuration wants it.
///
/// # Errors
/// If rows came since they were counted, or of the database.
pub(super) async fn make_room(connection: &mut PgConnection, table: &str) -> Result<(), StoreError> {
    for name in named(connection, table).await.map_err(store_error)? {
        let name = quoted(&name);
        let lock = format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *connection).await.map_err(store_error)?;
        let any = sqlx::query_scalar(AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM {name})"))).persistent(false);
        if any.fetch_one(&mut *connection).await.map_err(store_error)? {
            return Err(StoreError::Unavailable(format!("another server stores in table {name}, which had no row")));
        }
        let drop = format!("DROP TABLE {name}");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *connection).await.map_err(store_error)?;
    }
    Ok(())
}

/// Tables of a name, in whichever case.
async fn named(connection: &mut PgConnection, table: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND lower(c.relname::text) = lower($1)",
    )
    .bind(table)
    .fetch_all(connection)
    .await
}

/// Carries out a change that somebody allows: `window/NAME`, `measure/STREAM` or `replay/PIPELINE`.
pub(super) async fn allow(
    connection: &mut PgConnection,
    before: &Definitions,
    (concerned, word): (&Concerned, &str),
) -> Result<(), StoreError> {
    match (concerned, word.split_once('/')) {
        (Concerned::Replay(pipeline), _) => replay::begin_anew(connection, before, pipeline).await,
        (_, Some(("window", window))) => set_aside(connection, window).await.map_err(store_error),
        (_, Some(("measure", stream))) => {
            let deleted = sqlx::query("DELETE FROM sw_minutes WHERE stream = $1").bind(stream);
            deleted.execute(connection).await.map(drop).map_err(store_error)
        }
        _ => Err(StoreError::Protocol(format!("nobody knows what --allow {word} means"))),
    }
}

/// Keeps a window's table under another name, and forgets the window's state.
async fn set_aside(connection: &mut PgConnection, window: &str) -> Result<(), sqlx::Error> {
    let mut number = 1;
    for table in named(connection, window).await? {
        taken::drop_indexes_of(connection, &table).await?;
        let mut kept = fitting(&kept_table(window, number));
        while is_there(connection, &kept).await? {
            number += 1;
            kept = fitting(&kept_table(window, number));
        }
        let rename = format!("ALTER TABLE {} RENAME TO {}", quoted(&table), quoted(&kept));
        sqlx::raw_sql(AssertSqlSafe(rename)).execute(&mut *connection).await?;
        tracing::warn!(
            window,
            kept,
            "the window means something else from now on: its rows of before are kept in another table"
        );
    }
    sqlx::query("DELETE FROM sw_checkpoints WHERE chunk = ANY($1)")
        .bind(["window", "begin"].map(|kind| format!("{kind}/{window}")).to_vec())
        .execute(connection)
        .await
        .map(drop)
}

/// A pipeline goes on under another name: everything that is kept by its name moves along.
pub(super) async fn rename_pipeline(connection: &mut PgConnection, old: &str, new: &str) -> Result<(), StoreError> {
    let known = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sw_positions WHERE sink = $1)").bind(new);
    if known.fetch_one(&mut *connection).await.map_err(store_error)? {
        return Err(StoreError::Protocol(format!(
            "pipeline {old} is to be named {new}, and the database has positions of both: give it a third name"
        )));
    }
    for table in BY_SINK {
        let sql = format!("UPDATE {table} SET sink = $1 WHERE sink = $2");
        let moved = sqlx::query(AssertSqlSafe(sql)).bind(new).bind(old);
        moved.execute(&mut *connection).await.map_err(store_error)?;
    }
    tracing::info!(old, new, "the pipeline has another name: it goes on where it was");
    Ok(())
}

/// Forgets the state of steps that their pipeline does not have: one that is put back later is new then, and its state would
/// cover less than it says.
///
/// # Errors
/// Of the database.
pub async fn forget_removed_steps(connection: &mut PgConnection, definitions: &Definitions) -> Result<(), sqlx::Error> {
    let kept: Vec<(String, String)> =
        sqlx::query_as("SELECT DISTINCT sink, chunk FROM sw_checkpoints").fetch_all(&mut *connection).await?;
    let is_removed = |(sink, chunk): &(String, String)| {
        // A pipeline that is not configured now moves no position, and its state stays as old as that.
        let Some(pipeline) = definitions.pipelines.get(sink) else { return false };
        match chunk.split_once('/') {
            Some(("window" | "begin", name)) => !pipeline.windows.contains_key(name),
            Some(("rule", name)) => !pipeline.rules.iter().any(|rule| rule == name),
            _ => false,
        }
    };
    let removed: BTreeSet<(String, String)> = kept.into_iter().filter(is_removed).collect();
    let (sinks, chunks): (Vec<String>, Vec<String>) = removed.into_iter().unzip();
    if sinks.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM sw_checkpoints WHERE (sink, chunk) IN (SELECT * FROM unnest($1::text[], $2::text[]))")
        .bind(sinks)
        .bind(chunks)
        .execute(connection)
        .await
        .map(drop)
}
