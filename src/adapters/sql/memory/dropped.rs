//! Windows that are open when their step goes: they get no row, and somebody has to say so.

use std::{collections::BTreeSet, path::Path};

use rusqlite::Connection;
use streamward_core::{
    output::StateChunk,
    steps::window::{unwritten_windows, window_chunk},
};

use super::{Layout, Remembered, open};
use crate::clock::rfc3339;

impl Remembered {
    /// Says of each window step that the layout takes out or defines anew which of its windows have records that are in no
    /// row: as of the last checkpoint, with a way to keep them. Reads the database at `path` only if there is such a step.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn dropped_windows(&self, path: &Path, layout: &Layout) -> Result<Vec<String>, String> {
        let going = self.going(layout);
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

    /// The window steps whose state does not go on. That of a pipeline that is taken out as a whole stays as it is.
    fn going(&self, layout: &Layout) -> Vec<Going> {
        let now = &layout.definitions;
        let renamed = self.definitions.renamed_pipelines(now);
        let changes = self.definitions.changes(now);
        let changed: BTreeSet<&str> =
            changes.iter().filter_map(|change| change.allowed_by()?.strip_prefix("window/")).collect();
        let mut going = Vec::new();
        for (sink, before) in &self.definitions.pipelines {
            let name = renamed.iter().find(|(was, _)| was == sink).map_or(sink, |(_, is)| is);
            let Some(pipeline) = now.pipelines.get(name) else { continue };
            for (window, defined) in &before.windows {
                let why = match pipeline.windows.contains_key(window) {
                    false => format!("pipeline {name} does not have it any more"),
                    true if changed.contains(window.as_str()) => "it means something else from now on".to_owned(),
                    true => continue,
                };
                going.push(Going { sink: sink.clone(), window: window.clone(), size_ms: defined.size_ms, why });
            }
        }
        going
    }
}

/// A window step whose state does not go on.
struct Going {
    sink: String,
    window: String,
    size_ms: i64,
    why: String,
}

impl Going {
    /// What to say of windows that start there; nothing of none.
    fn said(&self, starts: &BTreeSet<i64>) -> Option<String> {
        let (first, last) = (starts.first()?, starts.last()?);
        let (from, to) = (rfc3339(*first), rfc3339(last.saturating_add(self.size_ms)));
        let windows = match starts.len() {
            1 => "1 open window".to_owned(),
            count => format!("{count} open windows"),
        };
        let Self { window, why, .. } = self;
        Some(format!(
            "window {window}: {windows} from {from} to {to}, as of the last checkpoint, will have no row: {why}; to have the \
             rows, run with the configuration of before until the windows have closed"
        ))
    }
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
