//! Where in the configuration something is that a plan or the definitions have under a name of their own.

use streamward_core::partition::PlanError;

use super::PipelineSetup;
use crate::config::Step;

/// Keys of a window as definitions name them, and as the configuration does.
const WINDOW_KEYS: [(&str, &str); 3] = [("size_ms", "tumbling"), ("group", "group_by"), ("select", "select")];

/// The place of a fault of a pipeline over a stream. What belongs to no step comes from the stream's settings.
pub(super) fn of_fault((pipeline, stream): (&str, &str), fault: &PlanError) -> String {
    let path = &fault.path;
    match fault.step {
        Some(step) if *path == format!("steps.{step}.window.size") => {
            format!("pipelines.{pipeline}.steps.{step}.window.tumbling")
        }
        None if path != "steps" => format!("streams.{stream}.{path}"),
        _ => format!("pipelines.{pipeline}.{path}"),
    }
}

/// `pipelines.orders.windows.minutes.group` → `pipelines.orders.steps.1.window.group_by`; others are the same in both.
pub(super) fn of_definition(pipelines: &[PipelineSetup], path: &str) -> String {
    of_window(pipelines, path).or_else(|| of_derived(pipelines, path)).unwrap_or_else(|| path.to_owned())
}

/// `streams.orders.derive.total` → `pipelines.orders.steps.1.derive.total`.
fn of_derived(pipelines: &[PipelineSetup], path: &str) -> Option<String> {
    let (stream, column) = path.strip_prefix("streams.")?.split_once(".derive.")?;
    let setup = pipelines.iter().find(|setup| setup.config.from == stream)?;
    let step = setup.config.steps.iter().position(|step| step.makes().iter().any(|made| made == column))?;
    Some(format!("pipelines.{}.steps.{step}.derive.{column}", setup.name))
}

fn of_window(pipelines: &[PipelineSetup], path: &str) -> Option<String> {
    let (pipeline, window) = path.strip_prefix("pipelines.")?.split_once(".windows.")?;
    let (window, key) = window.split_once('.').unwrap_or((window, ""));
    let setup = pipelines.iter().find(|setup| &*setup.name == pipeline)?;
    let is_it = |step: &Step| matches!(step, Step::Window(step) if step.name == window);
    let step = setup.config.steps.iter().position(is_it)?;
    let key = WINDOW_KEYS.iter().find(|(known, _)| *known == key).map_or("name", |(_, key)| key);
    Some(format!("pipelines.{pipeline}.steps.{step}.window.{key}"))
}
