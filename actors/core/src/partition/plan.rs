//! A pipeline's steps checked against its stream's schema.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    definition::{PipelineDefinition, words::duration},
    expr::{ExprError, PlanFault},
    record::can_be_key,
    schema::{Kind, StreamSchema},
    stats::StatColumns,
    steps::{
        Scope, Step, StepSpec, Texts,
        rule::RulePlan,
        window::{Limits, WindowPlan, milliseconds},
    },
    watermark::{MAX_AHEAD_MS, WatermarkRules},
};

/// Most steps of a pipeline.
pub const MAX_STEPS: usize = 256;

/// Settings of a pipeline, as far as its partitions' logic needs them.
#[derive(Debug, Clone)]
pub struct PipelineSpec {
    /// Name of its stream: part of what makes an alert unique.
    pub stream: Arc<str>,
    /// Column with the event time.
    pub event_time: String,
    /// Column with the key.
    pub key: String,
    /// How far records may come out of order.
    pub out_of_orderness: Duration,
    /// How far ahead of its log timestamp a record may be and still move the watermark; 10 minutes if not set.
    pub max_ahead: Option<Duration>,
    /// Number that the aggregates per minute sum up.
    pub measure: Option<String>,
    /// Boolean that labels anomalies.
    pub anomaly: Option<String>,
    /// Bounds of each window step's state in one partition.
    pub limits: Limits,
    /// Whether the records that come through all steps are stored.
    pub store: bool,
    pub steps: Vec<StepSpec>,
}

/// A pipeline, ready to run; shared by its partitions.
#[derive(Debug, Clone)]
pub struct PipelinePlan {
    pub(super) stream: Arc<str>,
    pub(super) schema: Arc<StreamSchema>,
    pub(super) columns: StatColumns,
    pub(super) key: usize,
    pub(super) watermark: WatermarkRules,
    pub(super) steps: Vec<Arc<dyn Step>>,
    pub(super) store: bool,
}

/// A fault of a pipeline's settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct PlanError {
    /// The setting within the pipeline, such as `steps.1.window.select.avg_value`.
    pub path: String,
    /// The step it belongs to.
    pub step: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// The place in the setting's text, if it is an expression.
    pub place: Option<ExprError>,
}

impl PipelinePlan {
    /// Checks a pipeline against its stream's schema.
    ///
    /// # Errors
    /// All faults at once.
    pub fn compile(spec: &PipelineSpec, schema: &Arc<StreamSchema>) -> Result<Self, Vec<PlanError>> {
        let mut scope = Scope { columns: schema.clone(), limits: spec.limits };
        let mut of_steps = Vec::new();
        let steps = steps(&spec.steps, &mut scope, &mut of_steps);
        let mut faults = Vec::new();
        let out_of_orderness_ms = milliseconds("out_of_orderness", spec.out_of_orderness, &mut faults);
        let max_ahead_ms = spec.max_ahead.map_or(MAX_AHEAD_MS, |ahead| milliseconds("max_ahead", ahead, &mut faults));
        let columns = columns(spec, (schema, &scope.columns), &mut faults);
        if spec.steps.len() > MAX_STEPS {
            faults.push(PlanFault::new("steps", format!("a pipeline has at most {MAX_STEPS} steps")));
        }
        let of_settings = faults.into_iter().map(|fault| PlanError::of(None, "", fault));
        let errors: Vec<PlanError> = of_settings.chain(of_steps).collect();
        match columns {
            Some((columns, key)) if errors.is_empty() => {
                let watermark = WatermarkRules { out_of_orderness_ms, max_ahead_ms };
                Ok(Self {
                    stream: spec.stream.clone(),
                    schema: scope.columns,
                    columns,
                    key,
                    watermark,
                    steps,
                    store: spec.store,
                })
            }
            Some(_) | None => Err(errors),
        }
    }

    /// The columns of its rows: those of the stream, then those that its steps make.
    #[must_use]
    pub fn schema(&self) -> &Arc<StreamSchema> {
        &self.schema
    }

    /// How its partitions' watermarks move.
    #[must_use]
    pub fn watermark(&self) -> WatermarkRules {
        self.watermark
    }

    /// The window steps in their order: the tables that the pipeline writes beside its stream's.
    pub fn windows(&self) -> impl Iterator<Item = &WindowPlan> {
        self.steps.iter().filter_map(|step| step.window())
    }

    /// The rule steps in their order.
    pub fn rules(&self) -> impl Iterator<Item = &RulePlan> {
        self.steps.iter().filter_map(|step| step.rule())
    }

    /// What its positions, windows and rules mean.
    #[must_use]
    pub fn definition(&self) -> PipelineDefinition {
        let window = |window: &WindowPlan| (window.name().to_string(), window.definition().clone());
        let replay = self.replay();
        let computed = self.steps.iter().flat_map(|step| step.computes());
        let texts = computed.chain(replay.values().cloned()).map(|[planned, written]| (planned, written));
        let written = texts.filter(|(planned, written)| planned != written).collect();
        let replay = replay.into_iter().map(|(setting, [planned, _])| (setting, planned)).collect();
        PipelineDefinition {
            stream: self.stream.to_string(),
            windows: self.windows().map(window).collect(),
            rules: self.rules().map(|rule| rule.name().to_string()).collect(),
            replay,
            written,
        }
    }

    /// What the state of its steps comes from, besides what their rows mean, by setting: as planned and as written. Empty
    /// if there is no state.
    fn replay(&self) -> BTreeMap<String, Texts> {
        let (mut settings, mut behind) = (BTreeMap::new(), Texts::default());
        for step in &self.steps {
            if let Some(removes) = step.removes() {
                behind.iter_mut().zip(removes).for_each(|(behind, text)| *behind += &format!(" behind {text}"));
            }
            settings.extend(
                step.replay()
                    .map(|(setting, [planned, written])| (setting, [planned + &behind[0], written + &behind[1]])),
            );
        }
        if !settings.is_empty() {
            let length = duration(self.watermark.out_of_orderness_ms);
            settings.insert("out_of_orderness".to_owned(), [length.clone(), length]);
        }
        settings
    }
}

impl PlanError {
    fn of(step: Option<usize>, section: &str, fault: PlanFault) -> Self {
        let within = [section, &fault.key].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
        let path = step.map_or_else(|| within.clone(), |step| format!("steps.{step}.{within}"));
        Self { path, step, message: fault.message, place: fault.place }
    }
}

fn steps(specs: &[StepSpec], scope: &mut Scope, errors: &mut Vec<PlanError>) -> Vec<Arc<dyn Step>> {
    let mut steps = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let twice = specs[..index].iter().find_map(|other| same_name(other, spec));
        let mut faults: Vec<PlanFault> = twice.into_iter().collect();
        match spec.settings().compile(scope) {
            Ok(step) => steps.push(step),
            Err(found) => faults.extend(found),
        }
        let is_faulty = !faults.is_empty();
        errors.extend(faults.into_iter().map(|fault| PlanError::of(Some(index), spec.section(), fault)));
        if is_faulty && !spec.makes().is_empty() {
            // Steps behind may use what it was to make: they are checked when its faults are gone.
            break;
        }
    }
    steps
}

/// The fault of a step with the name of another one of its kind.
fn same_name(one: &StepSpec, other: &StepSpec) -> Option<PlanFault> {
    let name = other.settings().name().filter(|_| one.section() == other.section())?;
    let is_same = one.settings().name() == Some(name);
    is_same.then(|| PlanFault::new("name", format!("'{name}' is there twice in this pipeline")))
}

/// The columns that settings name: of each record, or also of what the steps make.
fn columns(
    spec: &PipelineSpec,
    (record, all): (&StreamSchema, &StreamSchema),
    faults: &mut Vec<PlanFault>,
) -> Option<(StatColumns, usize)> {
    let mut find = |(key, columns): (&str, &StreamSchema), name: &str, fits: &dyn Fn(&Kind) -> bool, wanted: &str| {
        let found = columns.field_named(name).map_err(|unknown| faults.push(PlanFault::new(key, unknown)));
        let index = found.ok()?;
        if fits(&columns.fields[index].kind) {
            return Some(index);
        }
        faults.push(PlanFault::new(key, format!("'{name}' must be {wanted}")));
        None
    };
    let is_time = |kind: &Kind| *kind == Kind::Timestamp;
    let event_time = find(("event_time", record), &spec.event_time, &is_time, "a timestamp");
    let key = find(("key", record), &spec.key, &can_be_key, "a text, an integer or a decimal");
    let is_number = |kind: &Kind| matches!(kind, Kind::Int | Kind::Long | Kind::Float | Kind::Double);
    let measure = spec
        .measure
        .as_ref()
        .and_then(|name| find(("measure", all), name, &is_number, "an int, a long, a float or a double"));
    let is_label = |kind: &Kind| *kind == Kind::Boolean;
    let anomaly = spec.anomaly.as_ref().and_then(|name| find(("anomaly", all), name, &is_label, "a boolean"));
    let event_time = event_time?;
    if record.fields[event_time].nullable {
        faults.push(PlanFault::new("event_time", format!("'{}' must not be nullable", spec.event_time)));
    }
    Some((StatColumns { event_time, measure, anomaly }, key?))
}
