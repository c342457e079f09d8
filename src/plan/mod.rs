//! From configuration to compiled streams and pipelines; every fault at once, at its place in the file.

mod names;
mod places;
mod replay;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::Duration};

use streamward_core::{
    decode::{DecodeLimits, Format},
    definition::{Change, ColumnDefinition, Definitions, StreamDefinition},
    partition::{PipelinePlan, PipelineSpec, PlanError, StepSpec},
    rule::RuleSpec,
    schema::{Field, Kind, SchemaError, StreamSchema},
    table::{Column, StreamTable},
    window::{Limits, WindowColumn, WindowPlan, WindowSpec},
};

use crate::{
    adapters::sql::{Layout, ddl::WindowTable, memory::Remembered, read::WindowReads},
    config::OnGap,
    config::{
        Config, Fault, Faults, Loaded, MAX_FLOWS, PipelineConfig, RecordFormat, Severity, Sources, Step, StreamConfig,
    },
    verify::SinkPlace,
};

/// Column that labels anomalies, where a stream has it.
const ANOMALY: &str = "anomaly";
/// Column that `stats` averages unless the stream names another.
const MEASURE: &str = "value";

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

/// A stream with its parsed schema.
#[derive(Debug, Clone)]
pub struct StreamSetup {
    pub name: Arc<str>,
    pub topic: Arc<str>,
    pub key: String,
    pub event_time: String,
    pub schema: Arc<StreamSchema>,
    pub table: StreamTable,
    pub format: Format,
    pub limits: DecodeLimits,
    pub config: StreamConfig,
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

impl StreamSetup {
    /// What to say where the topic has another number of partitions than the configuration: they are set when it is made.
    ///
    /// It is not grown: its keys would move, away from the state of their windows and rules.
    #[must_use]
    pub fn partitions_differ(&self, found: usize) -> Option<String> {
        let wanted = self.config.partitions as usize;
        let Self { name, topic, .. } = self;
        let way = match found.cmp(&wanted) {
            Ordering::Equal => return None,
            Ordering::Less => format!(
                "or add some with 'streamward topics alter {topic} --partitions {wanted}': keys move to other partitions then, \
                 where windows and rules know nothing of what came before"
            ),
            Ordering::Greater => "or give the stream another topic: partitions are never taken away".to_owned(),
        };
        Some(format!(
            "streams.{name}.partitions: {wanted} by the configuration, and topic {topic} has {found}: a topic keeps those that \
             it was made with; set partitions: {found}, {way}"
        ))
    }
}

impl StreamSetup {
    /// Why JSON values would be dead letters of this stream; none where it takes them.
    #[must_use]
    pub fn takes_no_json(&self) -> Option<String> {
        (self.format == Format::Avro).then(|| {
            format!(
                "stream {name} takes Avro alone, and this would write JSON: set streams.{name}.format: auto, or produce to \
                 its topic with a client that writes Avro",
                name = self.name
            )
        })
    }
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
            let field = |field: &Field| ColumnDefinition {
                column: field.column.clone(),
                field: field.dotted(),
                kind: field.kind.word().to_owned(),
            };
            let definition = StreamDefinition {
                topic: stream.topic.to_string(),
                table: stream.table.table.clone(),
                columns: stream.schema.fields.iter().map(field).collect(),
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

    /// Tables of streams that reads may ask for.
    #[must_use]
    pub fn tables_to_read(&self) -> Vec<StreamTable> {
        self.streams.iter().map(|stream| stream.table.clone()).collect()
    }

    /// Tables of windows that reads may ask for.
    #[must_use]
    pub fn windows_to_read(&self) -> Vec<WindowReads> {
        let reads = |table: WindowTable| WindowReads {
            window: table.window,
            stream: table.stream,
            group: table.group,
            columns: table.values,
        };
        self.layout().windows.into_iter().map(reads).collect()
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
    load_remembering(sources).map(|(loaded, plan, _)| (loaded, plan))
}

/// Likewise, for a start: what the database holds must mean the same now, but for the changes that are `allowed`.
///
/// # Errors
/// As [`load`], and every change that would harm stored rows.
pub fn load_for_start(sources: &Sources, allowed: &[String]) -> Result<(Loaded, Plan), Faults> {
    let (loaded, mut plan, remembered) = load_remembering(sources)?;
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
    let database = loaded.config.storage.sqlite.file(&loaded.config.node.data_dir);
    match remembered.dropped_windows(&database, &plan.layout()) {
        Ok(said) => plan.remarks.extend(said),
        Err(error) => return Err(Faults::from(vec![loaded.fault_at("storage.sqlite.path", error)])),
    }
    plan.as_last_read =
        plan.pipelines.iter().filter_map(|pipeline| as_last_read(&plan, pipeline, &remembered)).collect();
    plan.remarks.extend(loaded.config.kafka.remark());
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

fn load_remembering(sources: &Sources) -> Result<(Loaded, Plan, Remembered), Faults> {
    let loaded = Config::load_sound_parts(sources)?;
    let mut faults = loaded.faults.clone();
    let is_too_much = loaded.config.streams.len().max(loaded.config.pipelines.len()) > MAX_FLOWS;
    if faults.is_full() || is_too_much {
        faults.has_more = true;
        return Err(faults);
    }
    let database = loaded.config.storage.sqlite.file(&loaded.config.node.data_dir);
    let remembered = Remembered::read(&database).unwrap_or_else(|error| {
        faults.add(loaded.fault_at("storage.sqlite.path", error));
        None
    });
    let remembered = remembered.unwrap_or_default();
    match compile(&loaded, &remembered.definitions) {
        Ok(plan) if faults.is_empty() => return Ok((loaded, plan, remembered)),
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
    let mut streams = Vec::new();
    for (name, config) in &loaded.config.streams {
        match stream(loaded, name, config, &remembered.columns_of(name)) {
            Ok(setup) => streams.push(setup),
            Err(found) => faults.extend(found),
        }
    }
    let mut pipelines = Vec::new();
    for (name, config) in &loaded.config.pipelines {
        // A pipeline whose stream has faults is checked when they are gone.
        let Some(stream) = streams.iter().position(|stream| *stream.name == *config.from) else { continue };
        match pipeline(loaded, name, config, &streams[stream]) {
            Ok(plan) => pipelines.push(PipelineSetup {
                name: name.as_str().into(),
                stream,
                plan: Arc::new(plan),
                config: config.clone(),
            }),
            Err(found) => faults.extend(found),
        }
    }
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

fn stream(
    loaded: &Loaded,
    name: &str,
    config: &StreamConfig,
    columns: &BTreeMap<String, String>,
) -> Result<StreamSetup, Vec<Fault>> {
    let place = |key: &str| format!("streams.{name}.{key}");
    let fault = |key: &str, message: String| loaded.fault_at(&place(key), message);
    let text = loaded.schemas().read(config).map_err(|error| vec![fault("schema", error.to_string())])?;
    let of_file = |error: SchemaError| fault("schema", format!("{}: {error}", config.schema.display()));
    let schema = StreamSchema::parse_with(&text, columns)
        .map_err(|error| error.each().into_iter().map(of_file).collect::<Vec<_>>())?;
    let mut faults = Vec::new();
    let mut column = |key: &str, column: &str| {
        schema.field_named(column).unwrap_or_else(|unknown| {
            faults.push(fault(key, unknown));
            0
        })
    };
    let (key, event_time) = (column("key", &config.key), column("event_time", &config.event_time));
    let mut indexes = vec![key];
    for (place, name) in config.indexes.iter().enumerate() {
        let index = column(&format!("indexes.{place}"), name);
        if !indexes.contains(&index) {
            indexes.push(index);
        }
    }
    let measure = match &config.measure {
        Some(measure) => Some(column("measure", measure)),
        None => schema.column_index(MEASURE).filter(|index| is_number(&schema.fields[*index].kind)),
    };
    if faults.is_empty() && !matches!(schema.fields[event_time].kind, Kind::Timestamp) {
        faults.push(fault("event_time", "the event time must be a timestamp-millis field".to_owned()));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let anomaly = schema.column_index(ANOMALY).filter(|index| matches!(schema.fields[*index].kind, Kind::Boolean));
    let stream: Arc<str> = name.into();
    let topic: Arc<str> = config.topic(name).into();
    let table = StreamTable {
        stream: stream.clone(),
        topic: topic.clone(),
        table: config.table.clone().unwrap_or_else(|| table_name(&schema.name)),
        columns: StreamTable::columns_of(&schema),
        key,
        event_time,
        max_ahead_ms: i64::try_from(Duration::from(config.max_ahead).as_millis()).unwrap_or(i64::MAX),
        measure,
        anomaly,
        indexes,
    };
    Ok(StreamSetup {
        name: stream,
        topic,
        key: schema.fields[key].column.clone(),
        event_time: schema.fields[event_time].column.clone(),
        schema: Arc::new(schema),
        table,
        format: match config.format {
            RecordFormat::Auto => Format::Auto,
            RecordFormat::Json => Format::Json,
            RecordFormat::Avro => Format::Avro,
        },
        limits: DecodeLimits { max_record_bytes: config.max_record.as_usize() },
        config: config.clone(),
    })
}

fn is_number(kind: &Kind) -> bool {
    matches!(kind, Kind::Int | Kind::Long | Kind::Float | Kind::Double)
}

/// `com.streaming.sensor.SensorReading` → `sensor_readings`.
fn table_name(schema: &str) -> String {
    let name = schema.rsplit('.').next().unwrap_or(schema);
    let mut table = String::with_capacity(name.len() + 4);
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            table.push('_');
        }
        table.push(letter.to_ascii_lowercase());
    }
    if !table.ends_with('s') {
        table.push('s');
    }
    table
}

fn pipeline(
    loaded: &Loaded,
    name: &str,
    config: &PipelineConfig,
    stream: &StreamSetup,
) -> Result<PipelinePlan, Vec<Fault>> {
    let spec = PipelineSpec {
        stream: stream.name.clone(),
        steps: config.steps.iter().map(step).collect(),
        event_time: stream.event_time.clone(),
        key: stream.key.clone(),
        measure: stream.table.measure.map(|index| stream.table.columns[index].name.clone()),
        anomaly: stream.table.anomaly.map(|index| stream.table.columns[index].name.clone()),
        out_of_orderness: stream.config.out_of_orderness.into(),
        max_ahead: Some(stream.config.max_ahead.into()),
        limits: Limits::default(),
    };
    PipelinePlan::compile(&spec, stream.schema.clone()).map_err(|faults| {
        let place = |fault: &PlanError| places::of_fault((name, &stream.name), fault);
        faults.iter().map(|fault| loaded.fault_at(&place(fault), fault.message.clone())).collect()
    })
}

fn step(step: &Step) -> StepSpec {
    match step {
        Step::Filter(expression) => StepSpec::Filter(expression.clone()),
        Step::Window(window) => StepSpec::Window(WindowSpec {
            name: window.name.clone(),
            size: window.tumbling.into(),
            allowed_lateness: window.allowed_lateness.into(),
            group_by: window.group_by.clone(),
            select: window.select.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect(),
        }),
        Step::Rule(rule) => StepSpec::Rule(RuleSpec {
            name: rule.name.clone(),
            when: rule.when.clone(),
            severity: severity(rule.severity).to_owned(),
            hold_for: rule.hold.into(),
            cooldown: rule.cooldown.into(),
            resolve_after: None,
        }),
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}
