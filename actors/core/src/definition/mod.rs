//! What stored rows, windows, rules and positions mean, as a database remembers it.
//!
//! A configuration can change between two starts; what is stored cannot. [`Definitions`] is what a plan makes of a
//! configuration, in words that stay the same for the same meaning: fields by their paths, expressions as they are
//! planned. [`Definitions::changes`] says which differences would harm what is stored, and what to do instead.
//!
//! Not here: reading and writing them (storage does), and carrying changes out.

mod changes;
mod remembered;
mod replay;
mod taken;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::schema::Field;

pub use self::{
    changes::{Change, Concerned, Way, kept_table},
    remembered::{Going, Remembered, said},
};

/// Everything that a configuration defines, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definitions {
    pub streams: BTreeMap<String, StreamDefinition>,
    pub pipelines: BTreeMap<String, PipelineDefinition>,
}

/// What the rows of a stream's table mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDefinition {
    pub topic: String,
    pub table: String,
    pub columns: Vec<ColumnDefinition>,
    /// Column of the key.
    pub key: String,
    /// Column of the event time.
    pub event_time: String,
    /// Column that is summed up per minute.
    pub measure: Option<String>,
}

/// One column: where its values come from, and their type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDefinition {
    pub column: String,
    /// Path of the field, or what is computed; of a stream's own column that a step derives, behind `= `, so that it is
    /// no field's path.
    pub field: String,
    /// Word of the type: see [`crate::schema::Kind::word`].
    pub kind: String,
}

/// What a pipeline's positions, windows and rules mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineDefinition {
    pub stream: String,
    pub windows: BTreeMap<String, WindowDefinition>,
    /// Names of the rules.
    pub rules: Vec<String>,
    /// What the state of windows and rules comes from, by setting (`filter` and the like). Records since a checkpoint are
    /// read again after a kill, and must make the same state of it. Empty if there is no state, or nobody wrote it down.
    #[serde(default)]
    pub replay: BTreeMap<String, String>,
    /// What people wrote, by what was planned of it: for messages alone. The same plan can be written in many ways.
    #[serde(default)]
    pub written: BTreeMap<String, String>,
}

impl PipelineDefinition {
    /// What a person wrote for a planned text; as planned where nobody wrote that down.
    fn as_written<'a>(&'a self, planned: &'a str) -> &'a str {
        self.written.get(planned).map_or(planned, String::as_str)
    }

    /// What people wrote for the columns of a window.
    fn written_of<'a>(&'a self, window: &'a WindowDefinition) -> impl Iterator<Item = (String, String)> + 'a {
        let planned = window.select.iter().map(|column| &column.field);
        planned.filter_map(|planned| Some((planned.clone(), self.written.get(planned)?.clone())))
    }
}

/// What the rows of a window's table mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowDefinition {
    pub size_ms: i64,
    pub group: Vec<ColumnDefinition>,
    pub select: Vec<ColumnDefinition>,
}

impl StreamDefinition {
    /// The column of that name.
    fn column(&self, name: &str) -> Option<&ColumnDefinition> {
        self.columns.iter().find(|column| column.column.eq_ignore_ascii_case(name))
    }
}

/// How the source of a stream's derived column begins.
const DERIVED: &str = "= ";

impl ColumnDefinition {
    /// The column of a field, or of what a step derives, in a stream's table.
    #[must_use]
    pub fn of(field: &Field) -> Self {
        let source = match &field.computed {
            Some(computed) => format!("{DERIVED}{computed}"),
            None => field.dotted(),
        };
        Self { column: field.column.clone(), field: source, kind: field.kind.word().into_owned() }
    }

    /// What a step derives it from; none for a field.
    pub(crate) fn derived_from(&self) -> Option<&str> {
        self.field.strip_prefix(DERIVED)
    }

    fn is_derived(&self) -> bool {
        self.derived_from().is_some()
    }
}

impl fmt::Display for WindowDefinition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "size {} ms, group by", self.size_ms)?;
        self.group.iter().try_for_each(|column| write!(formatter, " {column}"))?;
        formatter.write_str(", select")?;
        self.select.iter().try_for_each(|column| write!(formatter, " {column}"))
    }
}

impl fmt::Display for ColumnDefinition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} = {} {}", self.column, self.field, self.kind)
    }
}

impl Definitions {
    /// The columns that a stream's fields have, by path of the field: names are decided once.
    #[must_use]
    pub fn columns_of(&self, stream: &str) -> BTreeMap<String, String> {
        let columns = self.streams.get(stream).into_iter().flat_map(|stream| &stream.columns);
        columns.map(|column| (column.field.clone(), column.column.clone())).collect()
    }

    /// These definitions, with what others say of things that these do not have: rows of them may still be there.
    #[must_use]
    pub fn and_before(&self, before: &Self) -> Self {
        let mut all = self.clone();
        for (name, old) in &before.streams {
            let stream = all.streams.entry(name.clone()).or_insert_with(|| old.clone());
            for column in &old.columns {
                if stream.column(&column.column).is_none() {
                    stream.columns.push(column.clone());
                }
            }
        }
        let renamed = before.renamed_pipelines(self);
        let is_defined =
            |window: &String| self.pipelines.values().any(|pipeline| pipeline.windows.contains_key(window));
        for (name, old) in &before.pipelines {
            let now = renamed.iter().find(|(was, _)| was == name).map_or(name, |(_, now)| now);
            let none = PipelineDefinition { windows: BTreeMap::new(), ..old.clone() };
            let pipeline = all.pipelines.entry(now.clone()).or_insert(none);
            for (window, defined) in old.windows.iter().filter(|(window, _)| !is_defined(window)) {
                pipeline.windows.insert(window.clone(), defined.clone());
                pipeline.written.extend(old.written_of(defined));
            }
        }
        all
    }

    /// The pipelines of these definitions that are another one's under a new name, as (old, new): each the only one of
    /// its stream before and now.
    #[must_use]
    pub fn renamed_pipelines(&self, now: &Self) -> Vec<(String, String)> {
        let gone = self.pipelines.iter().filter(|(name, _)| !now.pipelines.contains_key(*name));
        let successor = |(name, old): (&String, &PipelineDefinition)| {
            let is_new = |name: &str| !self.pipelines.contains_key(name);
            let mut of_stream = now.pipelines.iter().filter(|(_, new)| new.stream == old.stream);
            let (successor, _) = of_stream.next().filter(|(name, _)| is_new(name))?;
            of_stream.next().is_none().then(|| (name.clone(), successor.clone()))
        };
        gone.filter_map(successor).collect()
    }
}
