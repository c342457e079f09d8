//! From configuration to compiled streams and pipelines; every fault at once, at its place in the file.

mod names;
mod places;
mod replay;
mod streams;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use streamward_core::{
    definition::{Change, ColumnDefinition, Definitions, Remembered, StreamDefinition},
    partition::{PipelinePlan, PipelineSpec, PlanError},
    steps::window::{Limits, WindowColumn, WindowPlan},
    table::{Column, Layout, WindowTable},
};

pub use self::streams::StreamSetup;

use self::streams::Declared;
use crate::{
    adapters::database::UnknownContent,
    config::OnGap,
    config::{Config, Fault, Faults, Loaded, MAX_FLOWS, PipelineConfig, Sources, Step},
    verify::SinkPlace,
};

/// Everything that the configuration asks to run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub streams: Vec<StreamSetup>,
    pub pipelines: Vec<PipelineSetup>,
    /// Changes of meaning that are to be carried out.
    pub allowed: Vec<String>,
    /// What works and is hardly meant, besides what follows from the configuration.
    pub remarks: Vec<String>,
    /// Topics that had other partitions than configured when they were last read; a start looks at the topics themselves.
    pub as_last_read: Vec<String>,
    /// Streams that the database has held with the same fields: their schemas are known here, whatever a registry says.
    pub held_before: Vec<Arc<str>>,
}

/// A pipeline with its compiled steps.
#[derive(Debug, Clone)]
pub struct PipelineSetup {
    pub name: Arc<str>,
    /// Place of its stream in [`Plan::streams`].
    pub stream: usize,
    pub plan: Arc<PipelinePlan>,
    pub config: PipelineConfig,
}

impl Plan {
    /// The stream of that name.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&StreamSetup> {
        self.streams.iter().find(|stream| &*stream.name == name)
    }

    /// What rows, windows, rules and positions mean.
    #[must_use]
    pub fn definitions(&self) -> Definitions {
        let stream = |stream: &StreamSetup| {
            let definition = StreamDefinition {
                topic: stream.topic.to_string(),
                table: stream.table.table.clone(),
                columns: stream.columns.fields.iter().map(ColumnDefinition::of).collect(),
                key: stream.key.clone(),
                event_time: stream.event_time.clone(),
                measure: stream.table.measure.map(|index| stream.table.columns[index].name.clone()),
            };
            (stream.name.to_string(), definition)
        };
        let pipeline = |pipeline: &PipelineSetup| {
            let stream = &self.streams[pipeline.stream];
            let mut definition = pipeline.plan.definition();
            if !definition.replay.is_empty() {
                definition.replay.extend(stream.replay());
            }
            (pipeline.name.to_string(), definition)
        };
        Definitions {
            streams: self.streams.iter().map(stream).collect(),
            pipelines: self.pipelines.iter().map(pipeline).collect(),
        }
    }

    /// What works and is hardly meant, for people.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let unread = self.streams.iter().filter_map(|stream| self.warning(&stream.name));
        unread.chain(self.remarks.iter().cloned()).collect()
    }

    /// Likewise, of one stream.
    #[must_use]
    pub fn warning(&self, stream: &str) -> Option<String> {
        let is_read = self.pipelines.iter().any(|pipeline| *self.streams[pipeline.stream].name == *stream);
        (!is_read).then(|| {
            format!(
                "streams.{stream}: no pipeline reads it: its records stay in the topic and none is stored; add \
                 'pipelines: {{ {stream}: {{ from: {stream} }} }}'"
            )
        })
    }

    /// Topic and table of each pipeline's stream, by the pipeline's name.
    #[must_use]
    pub fn sink_places(&self) -> BTreeMap<String, SinkPlace> {
        let place = |pipeline: &PipelineSetup| {
            let stream = &self.streams[pipeline.stream];
            let place = SinkPlace {
                topic: stream.topic.to_string(),
                table: stream.table.table.clone(),
                skips_gaps: stream.config.on_gap == OnGap::Earliest,
            };
            (pipeline.name.to_string(), place)
        };
        self.pipelines.iter().map(place).collect()
    }

    /// The tables that storage must have.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let windows = self.pipelines.iter().flat_map(|pipeline| {
            let stream = self.streams[pipeline.stream].name.clone();
            pipeline.plan.windows().map(move |window| window_table(window, stream.clone()))
        });
        let sinks =
            self.pipelines.iter().map(|pipeline| (pipeline.name.clone(), self.streams[pipeline.stream].name.clone()));
        let rules = self
            .pipelines
            .iter()
            .flat_map(|pipeline| pipeline.plan.rules().map(|rule| (pipeline.name.clone(), rule.name().clone())));
        Layout {
            streams: self.streams.iter().map(|stream| stream.table.clone()).collect(),
            windows: windows.collect(),
            sinks: sinks.collect(),
            definitions: self.definitions(),
            allowed: self.allowed.clone(),
            rules: rules.collect(),
        }
    }
}

fn window_table(window: &WindowPlan, stream: Arc<str>) -> WindowTable {
    let column = |column: &WindowColumn, path: &str| Column {
        name: column.name.clone(),
        path: path.to_owned(),
        kind: column.kind.clone(),
        nullable: false,
    };
    let group = window.group_columns().iter().zip(&window.definition().group);
    WindowTable {
        window: window.name().clone(),
        stream,
        group: group.map(|(grouped, defined)| column(grouped, &defined.field)).collect(),
        values: window.columns().iter().map(|value| column(value, &value.name)).collect(),
    }
}

/// Reads a configuration and compiles its streams and pipelines. Fields have the columns that they have in the database
/// of the data folder, if there is one.
///
/// # Errors
/// Every fault of keys, values, schemas and expressions that does not follow from another one.
pub fn load(sources: &Sources) -> Result<(Loaded, Plan), Faults> {
    load_remembering(sources, false).map(|(loaded, plan, _)| (loaded, plan))
}

/// Likewise, for a start: what the database holds must mean the same now, but for the changes that are `allowed`.
/// Where the database does not answer, it is waited for where `waits`, and is a remark otherwise.
///
/// # Errors
/// As [`load`], and every change that would harm stored rows.
pub fn load_for_start(sources: &Sources, allowed: &[String], waits: bool) -> Result<(Loaded, Plan), Faults> {
    let (loaded, mut plan, remembered) = load_remembering(sources, waits)?;
    let changes = remembered.harmful_changes(&plan.layout());
    let words: Vec<&str> = changes.iter().filter_map(|(change, _)| change.allowed_by()).collect();
    for word in allowed.iter().filter(|word| !words.contains(&word.as_str())) {
        let known =
            if words.is_empty() { "nothing needs it".to_owned() } else { format!("there is {}", words.join(", ")) };
        plan.remarks.push(format!("--allow {word}: there is no such change: {known}"));
    }
    let is_allowed = |change: &Change| change.allowed_by().is_some_and(|word| allowed.iter().any(|one| one == word));
    let harmful = changes.iter().filter(|(change, _)| !is_allowed(change));
    let place = |change: &Change| places::of_definition(&plan.pipelines, &change.path);
    let faults: Vec<Fault> =
        harmful.map(|(change, rows)| loaded.fault_at(&place(change), change.message(rows))).collect();
    if !faults.is_empty() {
        return Err(Faults::from(faults));
    }
    let database = loaded.config.database();
    match database.dropped_windows(&remembered, &plan.layout()) {
        Ok(said) => plan.remarks.extend(said),
        Err(error) => return Err(Faults::from(vec![loaded.fault_at(database.key(), error)])),
    }
    plan.as_last_read =
        plan.pipelines.iter().filter_map(|pipeline| as_last_read(&plan, pipeline, &remembered)).collect();
    plan.remarks.extend(loaded.config.kafka.remark());
    plan.remarks.extend(database.remark());
    let now = plan.definitions();
    let is_held = |name: &str| remembered.definitions.streams.get(name) == now.streams.get(name);
    plan.held_before = plan.streams.iter().map(|stream| stream.name.clone()).filter(|name| is_held(name)).collect();
    plan.allowed = allowed.to_vec();
    Ok((loaded, plan))
}

fn as_last_read(plan: &Plan, pipeline: &PipelineSetup, remembered: &Remembered) -> Option<String> {
    let stream = &plan.streams[pipeline.stream];
    let difference = stream.partitions_differ(remembered.partitions(&pipeline.name, &stream.topic)?)?;
    Some(format!("{difference} (as the topic was when it was last read)"))
}

fn load_remembering(sources: &Sources, waits: bool) -> Result<(Loaded, Plan, Remembered), Faults> {
    let loaded = Config::load_sound_parts(sources)?;
    let mut faults = loaded.faults.clone();
    let is_too_much = loaded.config.streams.len().max(loaded.config.pipelines.len()) > MAX_FLOWS;
    if faults.is_full() || is_too_much {
        faults.has_more = true;
        return Err(faults);
    }
    let database = loaded.config.database();
    let mut unknown = None;
    let remembered = database.remembered(waits).unwrap_or_else(|error| {
        match error {
            UnknownContent::Away(why) if !waits => unknown = Some(why),
            UnknownContent::Away(why) | UnknownContent::Unreadable(why) => {
                faults.add(loaded.fault_at(database.key(), why));
            }
        }
        None
    });
    let remembered = remembered.unwrap_or_default();
    match compile(&loaded, &remembered.definitions) {
        Ok(mut plan) if faults.is_empty() => {
            let remark = |why| format!("{why}: whether what it holds means the same is not known");
            plan.remarks.extend(unknown.map(remark));
            return Ok((loaded, plan, remembered));
        }
        Ok(_) => {}
        Err(more) => faults.extend(more.into_iter().filter(|fault| !loaded.follows_from_known(fault))),
    }
    Err(faults)
}

/// Compiles every stream and pipeline.
///
/// # Errors
/// Every fault of every schema and expression.
fn compile(loaded: &Loaded, remembered: &Definitions) -> Result<Plan, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut declared = Vec::new();
    for (name, config) in &loaded.config.streams {
        let pipelines = loaded.config.pipelines.values().filter(|pipeline| pipeline.from == *name);
        let made: Vec<String> = pipelines.flat_map(|pipeline| pipeline.steps.iter().flat_map(Step::makes)).collect();
        match Declared::read(loaded, (name, config), &remembered.columns_of(name), &made) {
            Ok(stream) => declared.push(stream),
            Err(found) => faults.extend(found),
        }
    }
    let mut pipelines = Vec::new();
    for (name, config) in &loaded.config.pipelines {
        // A pipeline whose stream has faults is checked when they are gone.
        let Some(place) = declared.iter().position(|stream| stream.name == config.from) else { continue };
        let stream = &mut declared[place];
        match pipeline(loaded, name, config, stream) {
            Ok(plan) => {
                stream.columns = plan.schema().clone();
                let (name, plan) = (name.as_str().into(), Arc::new(plan));
                pipelines.push(PipelineSetup { name, stream: place, plan, config: config.clone() });
            }
            Err(found) => faults.extend(found),
        }
    }
    let streams: Vec<StreamSetup> = declared.into_iter().map(Declared::setup).collect();
    faults.extend(names::faults(loaded, &streams, &pipelines));
    if faults.is_empty() {
        Ok(Plan {
            streams,
            pipelines,
            allowed: Vec::new(),
            remarks: Vec::new(),
            as_last_read: Vec::new(),
            held_before: Vec::new(),
        })
    } else {
        Err(faults)
    }
}

fn pipeline(
    loaded: &Loaded,
    name: &str,
    config: &PipelineConfig,
    stream: &Declared<'_>,
) -> Result<PipelinePlan, Vec<Fault>> {
    let spec = PipelineSpec {
        stream: stream.name.into(),
        steps: config.steps.iter().map(Step::spec).collect(),
        event_time: stream.event_time().to_owned(),
        key: stream.key().to_owned(),
        measure: stream.measure(),
        anomaly: stream.anomaly(),
        out_of_orderness: stream.config().out_of_orderness.into(),
        max_ahead: Some(stream.config().max_ahead.into()),
        limits: Limits::default(),
        store: config.store,
    };
    PipelinePlan::compile(&spec, stream.schema()).map_err(|faults| {
        let place = |fault: &PlanError| places::of_fault((name, stream.name), fault);
        faults.iter().map(|fault| loaded.fault_at(&place(fault), fault.message.clone())).collect()
    })
}
