//! Windows that are open when their step goes: they get no row, and somebody has to say so.

use std::{collections::BTreeSet, path::Path};

use rusqlite::Connection;
use streamward_core::{
    definition::{Going, Remembered},
    output::StateChunk,
    steps::window::{unwritten_windows, window_chunk},
};

use super::{Layout, open};

/// Says of each window step that the layout takes out or defines anew which of its windows have records that are in no
/// row: as of the last checkpoint, with a way to keep them. Reads the database at `path` only if there is such a step.
///
/// # Errors
/// If the file cannot be read.
pub fn dropped_windows(remembered: &Remembered, path: &Path, layout: &Layout) -> Result<Vec<String>, String> {
    let going = remembered.going(layout);
    if going.is_empty() {
        return Ok(Vec::new());
    }
    let read = || -> Result<Vec<String>, rusqlite::Error> {
        let connection = open(path)?;
        let said = going.iter().map(|step| Ok(step.said(&unwritten(&connection, step)?)));
        said.filter_map(Result::transpose).collect()
    };
    read().map_err(|error| format!("read which windows are open in {}: {error}", path.display()))
}

/// Starts of the step's windows with records that are in no row, of all partitions. A damaged chunk has none.
fn unwritten(connection: &Connection, step: &Going) -> Result<BTreeSet<i64>, rusqlite::Error> {
    let name = window_chunk(&step.window);
    let mut select = connection.prepare("SELECT bytes FROM sw_checkpoints WHERE sink = ? AND chunk = ?")?;
    let chunks = select.query_map([&*step.sink, &*name], |row| row.get::<_, Vec<u8>>(0))?;
    let mut starts = BTreeSet::new();
    for bytes in chunks {
        starts.extend(unwritten_windows(&StateChunk { name: name.clone(), bytes: bytes? }).unwrap_or_default());
    }
    Ok(starts)
}
