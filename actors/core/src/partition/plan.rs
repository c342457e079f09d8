//! A pipeline's steps checked against its stream's schema.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    definition::{PipelineDefinition, words::duration},
    expr::{ExprError, PlanFault, ScalarExpr},
    record::can_be_key,
    rule::{RulePlan, RuleSpec},
    schema::{Kind, StreamSchema},
    stats::StatColumns,
    watermark::{MAX_AHEAD_MS, WatermarkRules},
    window::{Limits, WindowPlan, WindowSpec, milliseconds},
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
    pub steps: Vec<StepSpec>,
}

/// Settings of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepSpec {
    /// Keeps the records for which the condition is true.
    Filter(String),
    Window(WindowSpec),
    Rule(RuleSpec),
}

/// A pipeline, ready to run; shared by its partitions.
#[derive(Debug, Clone)]
pub struct PipelinePlan {
    pub(super) stream: Arc<str>,
    pub(super) schema: Arc<StreamSchema>,
    pub(super) columns: StatColumns,
    pub(super) key: usize,
    pub(super) watermark: WatermarkRules,
    pub(super) limits: Limits,
    pub(super) steps: Vec<Step>,
}

/// One step; windows and rules know their place among their kind in the state.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Filter(ScalarExpr),
    Window(usize, WindowPlan),
    Rule(usize, RulePlan),
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
    pub fn compile(spec: &PipelineSpec, schema: Arc<StreamSchema>) -> Result<Self, Vec<PlanError>> {
        let mut faults = Vec::new();
        let out_of_orderness_ms = milliseconds("out_of_orderness", spec.out_of_orderness, &mut faults);
        let max_ahead_ms = spec.max_ahead.map_or(MAX_AHEAD_MS, |ahead| milliseconds("max_ahead", ahead, &mut faults));
        let columns = columns(spec, &schema, &mut faults);
        if spec.steps.len() > MAX_STEPS {
            faults.push(PlanFault::new("steps", format!("a pipeline has at most {MAX_STEPS} steps")));
        }
        let mut errors: Vec<PlanError> = faults.into_iter().map(|fault| PlanError::of(None, "", fault)).collect();
        let steps = steps(&spec.steps, &schema, &mut errors);
        match columns {
            Some((columns, key)) if errors.is_empty() => {
                let watermark = WatermarkRules { out_of_orderness_ms, max_ahead_ms };
                Ok(Self { stream: spec.stream.clone(), schema, columns, key, watermark, limits: spec.limits, steps })
            }
            Some(_) | None => Err(errors),
        }
    }

    /// The stream's schema.
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
        self.steps.iter().filter_map(|step| match step {
            Step::Window(_, plan) => Some(plan),
            Step::Filter(_) | Step::Rule(..) => None,
        })
    }

    /// What its positions, windows and rules mean.
    #[must_use]
    pub fn definition(&self) -> PipelineDefinition {
        let window = |window: &WindowPlan| (window.name().to_string(), window.definition().clone());
        let mut written: BTreeMap<String, String> = self.windows().flat_map(WindowPlan::written).collect();
        let mut replay = BTreeMap::new();
        for (setting, [planned, as_written]) in self.replay() {
            if as_written != planned {
                written.insert(planned.clone(), as_written);
            }
            replay.insert(setting, planned);
        }
        PipelineDefinition {
            stream: self.stream.to_string(),
            windows: self.windows().map(window).collect(),
            rules: self.rules().map(|rule| rule.name().to_string()).collect(),
            replay,
            written,
        }
    }

    /// What the state of its windows and rules comes from, besides what its windows' rows mean, by setting: as planned
    /// and as written. Empty if it has no such state.
    fn replay(&self) -> BTreeMap<String, [String; 2]> {
        let (mut settings, mut filters) = (BTreeMap::new(), [String::new(), String::new()]);
        for step in &self.steps {
            let (name, text) = match step {
                Step::Filter(condition) => {
                    let texts = [condition.definition(&self.schema), condition.in_a_line()];
                    filters
                        .iter_mut()
                        .zip(texts)
                        .for_each(|(filters, text)| *filters += &format!(" behind filter {text}"));
                    continue;
                }
                Step::Window(_, window) => (format!("window {}", window.name()), [window.replay(), window.replay()]),
                Step::Rule(_, rule) => (format!("rule {}", rule.name()), rule.definition(&self.schema)),
            };
            let [planned, written] = text;
            settings.insert(name, [planned + &filters[0], written + &filters[1]]);
        }
        if !settings.is_empty() {
            let length = duration(self.watermark.out_of_orderness_ms);
            settings.insert("out_of_orderness".to_owned(), [length.clone(), length]);
        }
        settings
    }

    /// The rule steps in their order.
    pub fn rules(&self) -> impl Iterator<Item = &RulePlan> {
        self.steps.iter().filter_map(|step| match step {
            Step::Rule(_, plan) => Some(plan),
            Step::Filter(_) | Step::Window(..) => None,
        })
    }
}

impl PlanError {
    fn of(step: Option<usize>, section: &str, fault: PlanFault) -> Self {
        let within = [section, &fault.key].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
        let path = step.map_or_else(|| within.clone(), |step| format!("steps.{step}.{within}"));
        Self { path, step, message: fault.message, place: fault.place }
    }
}

fn steps(specs: &[StepSpec], schema: &StreamSchema, errors: &mut Vec<PlanError>) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut windows, mut rules) = (Vec::new(), Vec::new());
    for (index, spec) in specs.iter().enumerate() {
        let (section, compiled) = match spec {
            StepSpec::Filter(text) => {
                let filter = ScalarExpr::parse_condition(text, schema).map(Step::Filter);
                ("filter", filter.map_err(|error| vec![PlanFault::in_expression("", error)]))
            }
            StepSpec::Window(spec) => {
                let place = unique(&mut windows, &spec.name);
                let plan = WindowPlan::compile(spec, schema);
                ("window", both(place, plan).map(|(place, plan)| Step::Window(place, plan)))
            }
            StepSpec::Rule(spec) => {
                let place = unique(&mut rules, &spec.name);
                ("rule", both(place, RulePlan::compile(spec, schema)).map(|(place, plan)| Step::Rule(place, plan)))
            }
        };
        match compiled {
            Ok(step) => steps.push(step),
            Err(faults) => {
                errors.extend(faults.into_iter().map(|fault| PlanError::of(Some(index), section, fault)));
            }
        }
    }
    steps
}

/// The place of a new name, or a fault if it is taken.
fn unique<'a>(names: &mut Vec<&'a str>, name: &'a str) -> Result<usize, PlanFault> {
    if names.contains(&name) {
        return Err(PlanFault::new("name", format!("'{name}' is there twice in this pipeline")));
    }
    names.push(name);
    Ok(names.len() - 1)
}

fn both<P>(place: Result<usize, PlanFault>, plan: Result<P, Vec<PlanFault>>) -> Result<(usize, P), Vec<PlanFault>> {
    match (place, plan) {
        (Ok(place), Ok(plan)) => Ok((place, plan)),
        (Ok(_), Err(faults)) => Err(faults),
        (Err(fault), plan) => Err(std::iter::once(fault).chain(plan.err().into_iter().flatten()).collect()),
    }
}

fn columns(spec: &PipelineSpec, schema: &StreamSchema, faults: &mut Vec<PlanFault>) -> Option<(StatColumns, usize)> {
    let mut find = |key: &str, name: &str, fits: &dyn Fn(&Kind) -> bool, wanted: &str| {
        let found = schema.field_named(name).map_err(|unknown| faults.push(PlanFault::new(key, unknown)));
        let index = found.ok()?;
        if fits(&schema.fields[index].kind) {
            return Some(index);
        }
        faults.push(PlanFault::new(key, format!("'{name}' must be {wanted}")));
        None
    };
    let event_time = find("event_time", &spec.event_time, &|kind| *kind == Kind::Timestamp, "a timestamp");
    let key = find("key", &spec.key, &can_be_key, "a text or an integer");
    let is_number = |kind: &Kind| matches!(kind, Kind::Int | Kind::Long | Kind::Float | Kind::Double);
    let measure = spec.measure.as_ref().and_then(|name| find("measure", name, &is_number, "a number"));
    let is_label = |kind: &Kind| *kind == Kind::Boolean;
    let anomaly = spec.anomaly.as_ref().and_then(|name| find("anomaly", name, &is_label, "a boolean"));
    let event_time = event_time?;
    if schema.fields[event_time].nullable {
        faults.push(PlanFault::new("event_time", format!("'{}' must not be nullable", spec.event_time)));
    }
    Some((StatColumns { event_time, measure, anomaly }, key?))
}
