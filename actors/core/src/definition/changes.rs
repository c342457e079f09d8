//! Which differences between two definitions would harm what is stored.

use super::{ColumnDefinition, Definitions, PipelineDefinition, StreamDefinition, WindowDefinition, words};

/// A difference that is not applied unless somebody says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Place among the definitions, such as `streams.orders.key` or `pipelines.orders.windows.minutes.group`.
    pub path: String,
    /// What it is about, such as `window zone_minutes`.
    pub subject: String,
    pub concerned: Concerned,
    /// What was and what is to be.
    pub difference: String,
    pub ways: Vec<Way>,
}

/// What a difference would do harm to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concerned {
    /// The rows of this table.
    Rows(String),
    /// The state of this pipeline, by its name of before: records since its checkpoints are read again.
    Replay(String),
}

/// What can be done instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Something to write in the configuration.
    Write(String),
    /// `--allow` with this word: what then happens.
    Allow { word: String, effect: String },
}

impl Change {
    /// The word that allows it, if there is one.
    #[must_use]
    pub fn allowed_by(&self) -> Option<&str> {
        self.ways.iter().find_map(|way| match way {
            Way::Allow { word, .. } => Some(word.as_str()),
            Way::Write(_) => None,
        })
    }

    /// The whole message; `count` says how many rows or records are concerned.
    #[must_use]
    pub fn message(&self, count: &str) -> String {
        let ways: Vec<String> = self.ways.iter().map(Way::to_string).collect();
        let Self { subject, difference, .. } = self;
        let concerned = match &self.concerned {
            Concerned::Rows(table) => format!("table {table} has {count} rows of before"),
            Concerned::Replay(_) => format!(
                "{count} records were stored with the settings of before since the last checkpoint, and the new ones would be \
                 applied to them (the server still runs, was killed, or was stopped while it caught up)"
            ),
        };
        format!("{subject}: {difference}; {concerned}: {}", ways.join(", or "))
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Write(text) => formatter.write_str(text),
            Self::Allow { word, effect } => write!(formatter, "start with --allow {word}: {effect}"),
        }
    }
}

/// Name of a table that is kept when its window begins anew: none that a configuration can give.
#[must_use]
pub fn kept_table(window: &str, number: impl std::fmt::Display) -> String {
    format!("sw_kept_{window}_{number}")
}

/// Types whose values a column of another type holds as they are.
const WIDENED: [(&str, &str); 4] = [("int", "long"), ("float", "double"), ("enum", "string"), ("string", "enum")];

/// A window and its pipeline.
type DefinedWindow<'a> = (&'a PipelineDefinition, &'a WindowDefinition);

impl Definitions {
    /// The differences between these definitions, of what is stored, and those of the present configuration that would
    /// make stored rows mean something else, split them over tables, or replace them by poorer ones.
    #[must_use]
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, new) in &now.streams {
            match self.streams.get(name) {
                Some(old) => {
                    let pipelines = (self.pipeline_of(name), now.pipeline_of(name));
                    stream_changes((name, pipelines), old, new, &mut changes);
                    changes.extend(self.taken_topic((name, old), new));
                }
                None => changes.extend(self.taken_table(name, new)),
            }
            changes.extend(self.table_of_window(name, new));
        }
        for (pipeline, new) in &now.pipelines {
            changes.extend(self.other_stream(pipeline, &new.stream));
            for (name, window) in &new.windows {
                match self.window(name) {
                    Some(old) => changes.extend(window_change((pipeline, name), old, (new, window))),
                    None => changes.extend(self.table_of_stream(pipeline, name)),
                }
            }
        }
        changes.extend(self.replayed_otherwise(now));
        changes
    }

    /// The pipeline that stores a stream.
    fn pipeline_of(&self, stream: &str) -> Option<&PipelineDefinition> {
        self.pipelines.values().find(|pipeline| pipeline.stream == stream)
    }

    /// A window of that name, with its pipeline.
    fn window(&self, name: &str) -> Option<DefinedWindow<'_>> {
        self.pipelines.values().find_map(|pipeline| Some((pipeline, pipeline.windows.get(name)?)))
    }

    /// A pipeline of that name that stored another stream: its positions are those of the other one's records.
    fn other_stream(&self, pipeline: &str, stream: &str) -> Option<Change> {
        let before = &self.pipelines.get(pipeline)?.stream;
        let stored = self.streams.get(before).filter(|_| before != stream)?;
        Some(Change {
            path: format!("pipelines.{pipeline}.from"),
            subject: format!("pipeline {pipeline}"),
            concerned: Concerned::Rows(stored.table.clone()),
            difference: format!("it has stored stream {before}, and is to store stream {stream}"),
            ways: vec![Way::Write(format!(
                "give the pipeline of stream {stream} a name that no pipeline had: it reads its topic from the beginning"
            ))],
        })
    }

    /// A stream that is to read the topic of another one: their logs have the same numbers in row ids.
    fn taken_topic(&self, (name, old): (&str, &StreamDefinition), new: &StreamDefinition) -> Option<Change> {
        let has_it = |(other, defined): &(&String, &StreamDefinition)| *other != name && defined.topic == new.topic;
        let (other, _) = self.streams.iter().find(has_it).filter(|_| old.topic != new.topic)?;
        Some(Change {
            path: format!("streams.{name}.topic"),
            subject: format!("stream {name}"),
            concerned: Concerned::Rows(old.table.clone()),
            difference: format!("it is to read topic {}, which stream {other} has read", new.topic),
            ways: vec![
                Way::Write(format!("set streams.{name}.topic: {}", old.topic)),
                Way::Write(format!("read topic {} with a stream, a table and a pipeline of other names", new.topic)),
            ],
        })
    }

    /// A new stream with the table of one that is no longer configured.
    fn taken_table(&self, name: &str, new: &StreamDefinition) -> Option<Change> {
        let same = |old: &StreamDefinition| old.table.eq_ignore_ascii_case(&new.table);
        let (before, _) = self.streams.iter().find(|(_, old)| same(old))?;
        Some(Change {
            path: format!("streams.{name}"),
            subject: format!("stream {name}"),
            concerned: Concerned::Rows(new.table.clone()),
            difference: format!("its table {} holds the rows of stream {before}", new.table),
            ways: vec![
                Way::Write(format!("name the stream {before} as before")),
                Way::Write(format!("set streams.{name}.table to another name")),
            ],
        })
    }

    /// A stream that is to store in the table of a window.
    fn table_of_window(&self, name: &str, new: &StreamDefinition) -> Option<Change> {
        let mut windows = self.pipelines.values().flat_map(|pipeline| pipeline.windows.keys());
        let window = windows.find(|window| window.eq_ignore_ascii_case(&new.table))?;
        Some(Change {
            path: format!("streams.{name}.table"),
            subject: format!("stream {name}"),
            concerned: Concerned::Rows(window.clone()),
            difference: format!("its table {} holds the rows of window {window}", new.table),
            ways: vec![Way::Write(format!("set streams.{name}.table to another name"))],
        })
    }

    /// A new window with the name of a stream's table.
    fn table_of_stream(&self, pipeline: &str, window: &str) -> Option<Change> {
        let (stream, old) = self.streams.iter().find(|(_, old)| old.table.eq_ignore_ascii_case(window))?;
        Some(Change {
            path: format!("pipelines.{pipeline}.windows.{window}"),
            subject: format!("window {window}"),
            concerned: Concerned::Rows(old.table.clone()),
            difference: format!("its table {window} holds the rows of stream {stream}"),
            ways: vec![Way::Write("give the window another name".to_owned())],
        })
    }
}

fn stream_changes(
    (name, pipelines): (&str, (Option<&PipelineDefinition>, Option<&PipelineDefinition>)),
    old: &StreamDefinition,
    new: &StreamDefinition,
    changes: &mut Vec<Change>,
) {
    let change = |key: &str, difference: String, ways: Vec<Way>| Change {
        path: format!("streams.{name}.{key}"),
        subject: format!("stream {name}"),
        concerned: Concerned::Rows(old.table.clone()),
        difference,
        ways,
    };
    let another = || {
        Way::Write(format!(
            "give the stream, its table, its pipeline, its windows and its rules names that none had, with topic: {}, to \
             read its records again",
            old.topic
        ))
    };
    if !old.table.eq_ignore_ascii_case(&new.table) {
        let difference = format!("its rows are in table {}, and it is to store in {}", old.table, new.table);
        let keep = Way::Write(format!("set streams.{name}.table: {}", old.table));
        changes.push(change("table", difference, vec![keep, another()]));
    }
    for column in &new.columns {
        let Some(known) = old.column(&column.column) else { continue };
        let difference = if known.field != column.field {
            let written = (words::source(known, pipelines.0), words::source(column, pipelines.1));
            let (before, after) = words::apart(written, || (words::source(known, None), words::source(column, None)));
            format!("column {} holds {before}, and {after} would be stored in it", known.column)
        } else if !holds(&known.kind, &column.kind) {
            let ColumnDefinition { column: name, kind: to, .. } = column;
            format!("column `{name}` holds values of type {}, and its field is of type {to}", known.kind)
        } else {
            continue;
        };
        if column.is_derived() {
            let rename = Way::Write("give the derived column a name that none had".to_owned());
            changes.push(change(&format!("derive.{}", column.column), difference, vec![rename, another()]));
        } else {
            changes.push(change("schema", difference, vec![another()]));
        }
    }
    let roles =
        [("key", &old.key, &new.key, "its keys"), ("event_time", &old.event_time, &new.event_time, "its times")];
    for (key, before, after, what) in roles {
        if before != after {
            let difference = format!("{what} come from column {before}, and are to come from {after}");
            let keep = Way::Write(format!("set streams.{name}.{key}: {before}"));
            changes.push(change(key, difference, vec![keep, another()]));
        }
    }
    changes.extend(measure_change(old, new).map(|difference| {
        let effect = "the sums per minute of before are forgotten".to_owned();
        let allow = Way::Allow { word: format!("measure/{name}"), effect };
        let kept = old.measure.iter().filter(|before| new.column(before).is_some());
        let keep = kept.map(|before| Way::Write(format!("set streams.{name}.measure: {before}")));
        change("measure", difference, keep.chain([allow]).collect())
    }));
}

/// What to say where the sums per minute are of something else.
fn measure_change(old: &StreamDefinition, new: &StreamDefinition) -> Option<String> {
    if old.measure == new.measure || is_same_source(old, new) {
        return None;
    }
    let column = |measure: &Option<String>| measure.clone().unwrap_or_else(|| "none".to_owned());
    let (before, now) = (column(&old.measure), column(&new.measure));
    Some(format!("its sums per minute are of column {before}, and are to be of {now}"))
}

/// Whether the measures of both are the same under two names.
fn is_same_source(old: &StreamDefinition, new: &StreamDefinition) -> bool {
    let source = |defined: &StreamDefinition| Some(defined.column(defined.measure.as_ref()?)?.field.clone());
    source(old).is_some_and(|before| source(new) == Some(before))
}

fn holds(old: &str, new: &str) -> bool {
    old == new || WIDENED.contains(&(old, new))
}

fn window_change((pipeline, name): (&str, &str), before: DefinedWindow<'_>, now: DefinedWindow<'_>) -> Option<Change> {
    let (old_stream, stream) = (&before.0.stream, &now.0.stream);
    let (old, new) = (before.1, now.1);
    if old_stream == stream && old == new {
        return None;
    }
    let (key, difference) = if old_stream == stream {
        difference(before, now)
    } else {
        ("", format!("it aggregates stream {old_stream}, and is to aggregate {stream}"))
    };
    let effect = format!(
        "table {name} is kept under the name {} with its rows, and the window begins anew with the next one that starts",
        kept_table(name, "…")
    );
    Some(Change {
        path: format!("pipelines.{pipeline}.windows.{name}{key}"),
        subject: format!("window {name}"),
        concerned: Concerned::Rows(name.to_owned()),
        difference,
        ways: vec![
            Way::Write("give the window another name".to_owned()),
            Way::Allow { word: format!("window/{name}"), effect },
        ],
    })
}

/// The first part that differs between two definitions of a window, and all that does in words.
fn difference((before, old): DefinedWindow<'_>, (now, new): DefinedWindow<'_>) -> (&'static str, String) {
    let mut parts = Vec::new();
    if old.size_ms != new.size_ms {
        let (was, is) = (words::duration(old.size_ms), words::duration(new.size_ms));
        parts.push((".size_ms", format!("a window lasts {was}, and is to last {is}")));
    }
    let lists = [(".group", "groups by", &old.group, &new.group), (".select", "selects", &old.select, &new.select)];
    for (key, what, old, new) in lists {
        if old != new {
            let written = (words::columns(old, before), words::columns(new, now));
            let (was, is) = words::apart(written, || (words::planned_columns(old), words::planned_columns(new)));
            parts.push((key, format!("it {what} {was}, and is to take {is}")));
        }
    }
    let key = parts.first().map_or("", |(key, _)| key);
    let texts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    (key, texts.join("; "))
}
