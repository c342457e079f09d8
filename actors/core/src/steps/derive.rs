//! Makes columns: each is an expression over the columns in front of it, also over those that the same step made before.
//!
//! A derived column is one like any other to the steps behind, to the table and to live frames. It may be null, and takes
//! no name of a column that is there.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{Effects, Scope, Settings, Start, Step, StepState, Texts, check_name};
use crate::{
    chunk::StateError,
    expr::{PlanFault, ScalarExpr},
    rows::{BatchInfo, Rows},
    schema::{MAX_FIELDS, StreamSchema},
    table::OWN_COLUMNS,
};

/// Longest text of what a column is computed from, with what the columns in it are computed from: each layer may name
/// the one before many times.
const MAX_DEFINITION_BYTES: usize = 4_096;

/// Settings of a derive step: the columns that it makes and their expressions, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeriveSpec(pub Vec<(String, String)>);

impl Settings for DeriveSpec {
    fn makes(&self) -> Vec<&str> {
        self.0.iter().map(|(column, _)| column.as_str()).collect()
    }

    fn compile(&self, scope: &mut Scope) -> Result<Arc<dyn Step>, Vec<PlanFault>> {
        let (mut columns, mut faults) = (Vec::new(), Vec::new());
        if self.0.is_empty() {
            faults.push(PlanFault::new("", "a derive step makes at least one column"));
        }
        for (name, text) in &self.0 {
            check_name(name, name, &mut faults);
            faults.extend(taken(name, &scope.columns).map(|message| PlanFault::new(name, message)));
            match derived(name, text, &scope.columns) {
                Ok((derived, behind)) => {
                    columns.push(derived);
                    scope.columns = Arc::new(behind);
                }
                Err(fault) => {
                    // Those behind may use it: they are checked when its fault is gone.
                    faults.push(fault);
                    break;
                }
            }
        }
        if faults.is_empty() { Ok(Arc::new(Derive(columns.into()))) } else { Err(faults) }
    }
}

/// What to say where a column cannot have that name.
fn taken(name: &str, columns: &StreamSchema) -> Option<String> {
    let is_it = |known: &str| known.eq_ignore_ascii_case(name);
    if OWN_COLUMNS.iter().any(|own| is_it(own)) {
        return Some(format!(
            "every table has a column '{name}' itself (of {}): choose another name",
            OWN_COLUMNS.join(", ")
        ));
    }
    let same = columns.fields.iter().find(|field| is_it(&field.column) || is_it(&field.dotted()))?;
    let what = if same.computed.is_some() { "an earlier step makes" } else { "the stream has" };
    Some(format!("{what} a column '{name}': choose another name"))
}

/// A column's values, and the columns with it.
fn derived(name: &str, text: &str, columns: &StreamSchema) -> Result<(Derived, StreamSchema), PlanFault> {
    let value = ScalarExpr::parse(text, columns).map_err(|error| PlanFault::in_expression(name, error))?;
    let definition = value.definition(columns);
    if definition.len() > MAX_DEFINITION_BYTES {
        let message = format!("with what its columns are derived from it has more than {MAX_DEFINITION_BYTES} bytes");
        return Err(PlanFault::new(name, message));
    }
    if columns.fields.len() == MAX_FIELDS {
        return Err(PlanFault::new(name, format!("a stream has at most {MAX_FIELDS} columns")));
    }
    let behind = columns.with_computed(name, value.kind().clone(), &definition);
    Ok((Derived { value, definition, arrow: behind.arrow.clone() }, behind))
}

/// A derive step, ready to run. It remembers nothing.
#[derive(Debug)]
struct Derive(Arc<[Derived]>);

/// One column that it makes.
#[derive(Debug)]
struct Derived {
    value: ScalarExpr,
    /// What it computes, however it is written.
    definition: String,
    /// The columns with this one as the last.
    arrow: SchemaRef,
}

impl Step for Derive {
    fn computes(&self) -> Vec<Texts> {
        self.0.iter().map(|derived| [derived.definition.clone(), derived.value.in_a_line()]).collect()
    }

    fn start(self: Arc<Self>, _: &Start<'_>) -> Result<Box<dyn StepState>, StateError> {
        Ok(Box::new(DeriveState(self.0.clone())))
    }
}

#[derive(Debug)]
struct DeriveState(Arc<[Derived]>);

impl StepState for DeriveState {
    fn process(&mut self, rows: &mut Rows, _: &BatchInfo<'_>, _: &mut Effects) {
        for Derived { value, arrow, .. } in self.0.iter() {
            let mut columns = rows.batch.columns().to_vec();
            columns.push(value.eval(&rows.batch));
            rows.batch = RecordBatch::try_new(arrow.clone(), columns).expect("an expression has values of its kind");
        }
    }

    fn boxed(&self) -> Box<dyn StepState> {
        Box::new(Self(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        encode::scalars_at,
        partition::{
            PipelinePlan,
            harness::{at, input, log, plan, rule, run_once, spec, state, window},
        },
        schema::Scalar,
        steps::{StepSpec, filter::FilterSpec},
    };

    fn derive(columns: &[(&str, &str)]) -> StepSpec {
        StepSpec::Derive(DeriveSpec(columns.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect()))
    }

    /// The faults of a pipeline: path and message.
    fn faults(steps: Vec<StepSpec>) -> Vec<(String, String)> {
        let schema = Arc::new(crate::expr::fixtures::schema());
        let errors = PipelinePlan::compile(&spec(steps), &schema).expect_err("faults");
        errors.into_iter().map(|error| (error.path, error.message)).collect()
    }

    #[test]
    fn a_row_has_its_derived_columns_behind_those_of_the_record() {
        let plan = plan(vec![derive(&[
            ("twice", "value * 2"),
            ("more", "twice + level"),
            ("note_size", "length(note)"),
            ("warm", "value > 20"),
            ("at", "timestamp"),
            ("kind", "upper(sensor_type)"),
        ])]);
        let output = state(&plan).process(&plan, &input(&log([at("a", 10, 21.5)]), 0, 1), 0).unwrap();
        let made = &scalars_at(&output.rows, 0)[9..];
        let text = |text: &str| Scalar::Text(text.to_owned());
        let wanted = [
            Scalar::Number(43.0),
            Scalar::Number(50.0),
            Scalar::Integer(7),
            Scalar::Boolean(true),
            Scalar::Integer(10),
            text("TEMPERATURE"),
        ];
        assert_eq!(made, wanted);
        let names: Vec<&str> = plan.schema().fields[9..].iter().map(|field| field.column.as_str()).collect();
        assert_eq!(names, ["twice", "more", "note_size", "warm", "at", "kind"]);
        assert_eq!(output.rows.schema(), plan.schema().arrow);
    }

    #[test]
    fn filters_windows_and_rules_behind_it_use_what_it_makes() {
        let steps = vec![
            derive(&[("twice", "value * 2")]),
            StepSpec::Filter(FilterSpec("twice < 50".to_owned())),
            StepSpec::Window(window(&[("most", "max(twice)")])),
            StepSpec::Rule(rule("twice > 40")),
        ];
        let effects = run_once(&plan(steps), &log([at("a", 10, 30.0), at("a", 20, 21.0), at("a", 200, 1.0)]));
        assert_eq!((effects.filtered, effects.stored), (vec![0], vec![1, 2]));
        assert_eq!(effects.windows[0].values[0], Scalar::Number(42.0));
        assert_eq!(effects.alerts[0].record["twice"], 42.0);
    }

    #[test]
    fn a_name_that_is_taken_or_no_name_is_refused_and_steps_behind_wait() {
        let steps = vec![
            derive(&[
                ("value", "1"),
                ("Level", "1"),
                ("stored_at", "1"),
                ("a b", "1"),
                ("x", "1"),
                ("x", "2"),
                ("y", "valu"),
            ]),
            StepSpec::Filter(FilterSpec("y > 1".to_owned())),
        ];
        let paths: Vec<String> = faults(steps).into_iter().map(|(path, _)| path).collect();
        let wanted = ["value", "Level", "Level", "stored_at", "a b", "x", "y"];
        assert_eq!(paths, wanted.map(|name| format!("steps.0.derive.{name}")));
        assert_eq!(faults(vec![derive(&[])])[0].0, "steps.0.derive");
    }

    #[test]
    fn what_is_derived_from_itself_over_and_over_is_refused_before_it_fills_the_memory() {
        let names: Vec<String> = (0..60).map(|layer| format!("layer_{layer}")).collect();
        let double = |(layer, name): (usize, &String)| {
            let below = if layer == 0 { "value" } else { &names[layer - 1] };
            (name.clone(), format!("{below} + {below}"))
        };
        let layers = names.iter().enumerate().map(double).collect();
        let found = faults(vec![StepSpec::Derive(DeriveSpec(layers))]);
        assert!(found[0].1.contains("more than 4096 bytes"), "{found:?}");
    }

    #[test]
    fn a_definition_says_what_is_computed_and_not_what_it_is_called() {
        let of = |name: &str, text: &str| {
            let renamed = StepSpec::Rule(rule(&format!("{name} > 40")));
            plan(vec![derive(&[(name, text)]), renamed]).definition().replay
        };
        assert_eq!(of("twice", "value * 2"), of("double_value", "VALUE * 2"));
        assert_ne!(of("twice", "value * 2"), of("twice", "value * 3"));
        // A column that is a field under another name is no field.
        assert_ne!(plan(vec![derive(&[("same", "total")])]).schema().fields[9].computed, None);
    }
}
