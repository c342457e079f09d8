//! What a database remembers of the configuration that it was written with, and the differences to another one.
//!
//! Storage reads and writes it; which differences do harm is decided here.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Concerned, Definitions, taken};
use crate::{schema::instant, table::Layout};

/// What a database was written with.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    pub definitions: Definitions,
    /// Rows of each table that is there and not the product's own, by its name in lower case; at most
    /// [`Remembered::MAX_COUNTED`].
    pub rows: BTreeMap<String, u64>,
    /// Records that each pipeline has stored since its checkpoints.
    pub behind: BTreeMap<String, u64>,
    /// Partitions that each pipeline has read of each topic, of its newest log.
    pub partitions: BTreeMap<(String, String), u32>,
}

impl Remembered {
    /// Rows are counted up to so many, for messages.
    pub const MAX_COUNTED: u32 = 1_000_000;

    /// Partitions of a topic when a pipeline of that name last read it, as far as this server did.
    #[must_use]
    pub fn partitions(&self, sink: &str, topic: &str) -> Option<usize> {
        self.partitions.get(&(sink.to_owned(), topic.to_owned())).map(|count| *count as usize)
    }

    /// The differences to what the layout means that would do harm, with how many rows or records that concerns.
    #[must_use]
    pub fn harmful_changes(&self, layout: &Layout) -> Vec<(Change, String)> {
        let changes = self.changes(layout).into_iter().filter(|(_, count)| *count > 0);
        changes.map(|(change, count)| (change, said(count))).collect()
    }

    /// Every difference to what the layout means, with how many rows or records it concerns.
    #[must_use]
    pub fn changes(&self, layout: &Layout) -> Vec<(Change, u64)> {
        let changes = self.definitions.changes(&layout.definitions).into_iter();
        let counted = changes.map(|change| {
            let count = self.count_of(&change.concerned);
            (change, count)
        });
        counted.chain(taken::changes(self, layout)).collect()
    }

    /// Tables of the streams and windows that are remembered, in lower case.
    pub(super) fn tables(&self) -> BTreeSet<String> {
        let streams = self.definitions.streams.values().map(|stream| &stream.table);
        let windows = self.definitions.pipelines.values().flat_map(|pipeline| pipeline.windows.keys());
        streams.chain(windows).map(|table| table.to_ascii_lowercase()).collect()
    }

    fn count_of(&self, concerned: &Concerned) -> u64 {
        let count = match concerned {
            Concerned::Rows(table) => self.rows.get(&table.to_ascii_lowercase()),
            Concerned::Replay(pipeline) => self.behind.get(pipeline),
        };
        count.copied().unwrap_or(0)
    }

    /// Indexes of remembered tables that have a name which the layout needs for another table or index: they stayed when a
    /// setting went. Of each index that is there, `there` has its name and that of its table.
    #[must_use]
    pub fn indexes_in_the_way(&self, layout: &Layout, there: Vec<(String, String)>) -> Vec<String> {
        let (wanted, known) = (taken::wanted_names(layout), self.tables());
        let is_in_the_way = |(index, table): &(String, String)| {
            let table = table.to_ascii_lowercase();
            let of = wanted.get(&index.to_ascii_lowercase());
            of.is_some_and(|of| of.as_ref() != Some(&table)) && known.contains(&table)
        };
        there.into_iter().filter(is_in_the_way).map(|(index, _)| index).collect()
    }

    /// The window steps whose state does not go on. That of a pipeline that is taken out as a whole stays as it is.
    #[must_use]
    pub fn going(&self, layout: &Layout) -> Vec<Going> {
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
#[derive(Debug, Clone)]
pub struct Going {
    pub sink: String,
    pub window: String,
    size_ms: i64,
    why: String,
}

impl Going {
    /// What to say of windows that start there; nothing of none.
    #[must_use]
    pub fn said(&self, starts: &BTreeSet<i64>) -> Option<String> {
        let (first, last) = (starts.first()?, starts.last()?);
        let (from, to) = (text(*first), text(last.saturating_add(self.size_ms)));
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

/// Milliseconds since 1970 (UTC) as RFC 3339 text.
fn text(ms: i64) -> String {
    let mut text = Vec::with_capacity(24);
    instant::write(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// A count of rows or records, in words.
#[must_use]
pub fn said(count: u64) -> String {
    if count >= u64::from(Remembered::MAX_COUNTED) {
        format!("{} or more", Remembered::MAX_COUNTED)
    } else {
        count.to_string()
    }
}
