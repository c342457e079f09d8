//! A window step checked against the stream's schema.

use std::{sync::Arc, time::Duration};

use super::{Limits, WindowSpec};
use crate::{
    definition::{ColumnDefinition, WindowDefinition, words::duration},
    expr::{Aggregate, AggregateFunction, PlanFault, ScalarExpr, in_a_line},
    schema::{Kind, StreamSchema},
    steps::{Texts, check_name},
};

/// Most columns that a window groups by.
pub const MAX_GROUP_BY: usize = 8;
/// Most aggregates of a window.
pub const MAX_SELECT: usize = 64;
/// Longest duration of a window, a rule or a watermark.
pub const LONGEST: Duration = Duration::from_hours(366 * 24);
/// Names that a window's table has for itself.
const RESERVED: &[&str] = &["log", "partition", "revision", "stored_at", "topic", "window_end", "window_start"];

/// A window step, ready to run.
#[derive(Debug, Clone)]
pub struct WindowPlan {
    pub(super) name: Arc<str>,
    pub(super) size_ms: i64,
    pub(super) lateness_ms: i64,
    pub(super) group: Vec<(usize, Kind)>,
    pub(super) outputs: Vec<WindowOutput>,
    /// What the aggregates are computed over, each once.
    pub(super) arguments: Vec<ScalarExpr>,
    group_columns: Vec<WindowColumn>,
    columns: Vec<WindowColumn>,
    selected: Vec<String>,
    /// What people wrote for the columns of `WindowDefinition::select`.
    select: Vec<String>,
    shape: Arc<str>,
    definition: WindowDefinition,
    pub(super) limits: Limits,
}

/// One output column of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowColumn {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) struct WindowOutput {
    pub(super) function: AggregateFunction,
    /// Index in `WindowPlan::arguments`; `count(*)` has none.
    pub(super) argument: Option<usize>,
    pub(super) argument_kind: Kind,
}

impl WindowPlan {
    /// Checks a window against the stream's schema.
    ///
    /// # Errors
    /// All faults at once, each with its setting (`group_by`, `select.avg_value`, …).
    pub fn compile(spec: &WindowSpec, schema: &StreamSchema) -> Result<Self, Vec<PlanFault>> {
        let mut faults = Vec::new();
        check_name("name", &spec.name, &mut faults);
        let size_ms = milliseconds("size", spec.size, &mut faults);
        let lateness_ms = milliseconds("allowed_lateness", spec.allowed_lateness, &mut faults);
        if size_ms == 0 && faults.iter().all(|fault| fault.key != "size") {
            faults.push(PlanFault::new("size", "a window lasts at least one millisecond"));
        }
        let group = groups(spec, schema, &mut faults);
        let aggregates = aggregates(spec, schema, &mut faults);
        let group_columns: Vec<_> = group
            .iter()
            .map(|(index, kind)| WindowColumn { name: schema.fields[*index].column.clone(), kind: kind.clone() })
            .collect();
        let columns = output_columns(&aggregates);
        check_names(&group_columns, &columns, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let definition = definition(size_ms, (&group, &group_columns), &aggregates, schema);
        let shape = definition.to_string().into();
        let mergeable =
            aggregates.iter().flat_map(|(name, aggregate)| aggregate.mergeable(name).into_iter().map(move |_| name));
        let selected = aggregates.iter().map(|(name, _)| name).chain(mergeable).cloned().collect();
        let (outputs, arguments) = outputs(aggregates);
        let name = spec.name.as_str().into();
        Ok(Self {
            name,
            size_ms,
            lateness_ms,
            group,
            outputs,
            arguments,
            group_columns,
            columns,
            selected,
            select: spec.select.iter().map(|(_, text)| in_a_line(text)).collect(),
            shape,
            definition,
            limits: Limits::default(),
        })
    }

    /// The same with other bounds of its state in one partition.
    pub(crate) fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The window's name: its table.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The columns of `WindowRow::group`.
    #[must_use]
    pub fn group_columns(&self) -> &[WindowColumn] {
        &self.group_columns
    }

    /// The columns of `WindowRow::values`: the selected ones, then those that make them mergeable.
    #[must_use]
    pub fn columns(&self) -> &[WindowColumn] {
        &self.columns
    }

    /// For each of [`Self::columns`] the name of the selected column that it belongs to.
    #[must_use]
    pub fn selected(&self) -> &[String] {
        &self.selected
    }

    /// What a checkpoint of this window must agree with to be of use.
    #[must_use]
    pub fn shape(&self) -> &Arc<str> {
        &self.shape
    }

    /// What its rows mean.
    #[must_use]
    pub fn definition(&self) -> &WindowDefinition {
        &self.definition
    }

    /// What the selected columns are computed from.
    pub(crate) fn selects(&self) -> Vec<Texts> {
        let selected = self.definition.select.iter().zip(&self.select);
        selected.map(|(column, written)| [column.field.clone(), written.clone()]).collect()
    }

    /// What its state comes from besides what its rows mean.
    pub(crate) fn with_lateness(&self) -> String {
        format!("with allowed_lateness {}", duration(self.lateness_ms))
    }

    /// Start of the window that an event time falls into.
    #[must_use]
    pub fn start_of(&self, event_time_ms: i64) -> i64 {
        event_time_ms.div_euclid(self.size_ms).saturating_mul(self.size_ms)
    }

    /// End of the window that starts at `start_ms` (exclusive).
    #[must_use]
    pub fn end_of(&self, start_ms: i64) -> i64 {
        start_ms.saturating_add(self.size_ms)
    }

    /// The watermark at which the window that starts at `start_ms` takes no more records.
    #[must_use]
    pub fn gone_at(&self, start_ms: i64) -> i64 {
        self.end_of(start_ms).saturating_add(self.lateness_ms)
    }
}

fn groups(spec: &WindowSpec, schema: &StreamSchema, faults: &mut Vec<PlanFault>) -> Vec<(usize, Kind)> {
    if spec.group_by.len() > MAX_GROUP_BY {
        faults.push(PlanFault::new("group_by", format!("a window groups by at most {MAX_GROUP_BY} columns")));
    }
    let mut groups: Vec<(usize, Kind)> = Vec::new();
    for (place, name) in spec.group_by.iter().enumerate() {
        let key = format!("group_by.{place}");
        let index = match schema.field_named(name) {
            Ok(index) => index,
            Err(unknown) => {
                faults.push(PlanFault::new(key, unknown));
                continue;
            }
        };
        let kind = &schema.fields[index].kind;
        if matches!(kind, Kind::Float | Kind::Double) {
            faults.push(PlanFault::new(key, format!("'{name}' is a float: groups need exact values")));
        } else if groups.iter().any(|(known, _)| *known == index) {
            faults.push(PlanFault::new(key, format!("'{name}' is there twice")));
        } else {
            groups.push((index, kind.clone()));
        }
    }
    groups
}

fn aggregates(spec: &WindowSpec, schema: &StreamSchema, faults: &mut Vec<PlanFault>) -> Vec<(String, Aggregate)> {
    if spec.select.is_empty() {
        faults.push(PlanFault::new("select", "a window selects at least one aggregate"));
    }
    if spec.select.len() > MAX_SELECT {
        faults.push(PlanFault::new("select", format!("a window selects at most {MAX_SELECT} aggregates")));
    }
    let mut aggregates = Vec::new();
    for (name, text) in &spec.select {
        let key = format!("select.{name}");
        check_name(&key, name, faults);
        match Aggregate::parse(text, schema) {
            Ok(aggregate) => aggregates.push((name.clone(), aggregate)),
            Err(error) => faults.push(PlanFault::in_expression(key, error)),
        }
    }
    aggregates
}

fn output_columns(aggregates: &[(String, Aggregate)]) -> Vec<WindowColumn> {
    let selected = aggregates.iter().map(|(name, aggregate)| (name.clone(), aggregate.kind().clone()));
    let mergeable = aggregates.iter().flat_map(|(name, aggregate)| aggregate.mergeable(name));
    selected.chain(mergeable).map(|(name, kind)| WindowColumn { name, kind }).collect()
}

fn outputs(aggregates: Vec<(String, Aggregate)>) -> (Vec<WindowOutput>, Vec<ScalarExpr>) {
    let mut arguments: Vec<ScalarExpr> = Vec::new();
    let outputs = aggregates.into_iter().map(|(_, aggregate)| {
        let argument = aggregate.argument().map(|wanted| {
            arguments.iter().position(|known| known == wanted).unwrap_or_else(|| {
                arguments.push(wanted.clone());
                arguments.len() - 1
            })
        });
        let argument_kind = aggregate.argument().map_or(Kind::Long, |argument| argument.kind().clone());
        WindowOutput { function: aggregate.function(), argument, argument_kind }
    });
    (outputs.collect(), arguments)
}

fn check_names(groups: &[WindowColumn], columns: &[WindowColumn], faults: &mut Vec<PlanFault>) {
    for (index, column) in columns.iter().enumerate() {
        let twice = columns[..index].iter().chain(groups).any(|other| other.name == column.name);
        if twice {
            faults.push(PlanFault::new(format!("select.{}", column.name), "the window has this column already"));
        } else if RESERVED.contains(&column.name.as_str()) {
            faults.push(PlanFault::new(format!("select.{}", column.name), "this name is reserved in window tables"));
        }
    }
}

pub(crate) fn milliseconds(key: &str, duration: Duration, faults: &mut Vec<PlanFault>) -> i64 {
    match i64::try_from(duration.as_millis()) {
        Ok(ms) if duration <= LONGEST && duration.subsec_nanos().is_multiple_of(1_000_000) => ms,
        Ok(_) | Err(_) => {
            faults.push(PlanFault::new(key, "a duration is a whole number of milliseconds, at most 366 days"));
            0
        }
    }
}

fn definition(
    size_ms: i64,
    (group, columns): (&[(usize, Kind)], &[WindowColumn]),
    aggregates: &[(String, Aggregate)],
    schema: &StreamSchema,
) -> WindowDefinition {
    let grouped = group.iter().zip(columns).map(|((index, kind), column)| ColumnDefinition {
        column: column.name.clone(),
        field: schema.fields[*index].source().into_owned(),
        kind: kind.word().into_owned(),
    });
    let selected = aggregates.iter().map(|(name, aggregate)| ColumnDefinition {
        column: name.clone(),
        field: aggregate.definition(schema),
        kind: aggregate.kind().word().into_owned(),
    });
    WindowDefinition { size_ms, group: grouped.collect(), select: selected.collect() }
}
