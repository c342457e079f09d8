//! Windows that are open when their step goes: they get no row, and somebody has to say so.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use streamward_core::{
    definition::{Going, Remembered},
    output::StateChunk,
    steps::window::{unwritten_windows, window_chunk},
    table::Layout,
};

use super::{PostgresSettings, Unread, look};

/// Says of each window step that the layout takes out or defines anew which of its windows have records that are in no
/// row: as of the last checkpoint, with a way to keep them. Asks the database only if there is such a step.
///
/// # Errors
/// If it does not answer, or refuses.
pub async fn dropped_windows(
    remembered: &Remembered,
    settings: &PostgresSettings,
    layout: &Layout,
) -> Result<Vec<String>, String> {
    let going = remembered.going(layout);
    if going.is_empty() {
        return Ok(Vec::new());
    }
    let said = look(settings, async |connection| {
        let mut said = Vec::new();
        for step in &going {
            said.extend(step.said(&unwritten(connection, step).await?));
        }
        Ok(said)
    });
    said.await.map_err(|error| {
        let why = match error {
            Unread::NoDatabase => "there is no such database".to_owned(),
            Unread::Because(why) => why,
        };
        format!("read which windows are open in {}: {why}", settings.place())
    })
}

/// Starts of the step's windows with records that are in no row, of all partitions. A damaged chunk has none.
async fn unwritten(connection: &mut PgConnection, step: &Going) -> Result<BTreeSet<i64>, sqlx::Error> {
    let name = window_chunk(&step.window);
    let chunks: Vec<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM sw_checkpoints WHERE sink = $1 AND chunk = $2")
        .bind(&*step.sink)
        .bind(&*name)
        .fetch_all(connection)
        .await?;
    let starts = chunks.into_iter().map(|bytes| StateChunk { name: name.clone(), bytes });
    Ok(starts.flat_map(|chunk| unwritten_windows(&chunk).unwrap_or_default()).collect())
}
