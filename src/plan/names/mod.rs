//! Names that would meet in the database or in an answer: two tables, a field and a column of ours, a stream and a
//! route. SQLite, which has one space of names for tables and indexes, does not tell `ID` from `id`. Topics are compared
//! in `config/validate`.
//!
//! The lists of our own names are kept where the tables are built; a test opens a database for everything accepted here.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use streamward_core::table::{OWN_COLUMNS, OWN_PREFIXES, OWN_TABLES, WINDOW_COLUMNS};

use super::{PipelineSetup, StreamSetup, window_table};
use crate::config::{Fault, Loaded, Step};

/// Streams of these names would share their WebSocket with something else.
const OWN_STREAMS: [&str; 2] = ["alerts", "supervision"];

/// Every name that is taken.
pub(super) fn faults(loaded: &Loaded, streams: &[StreamSetup], pipelines: &[PipelineSetup]) -> Vec<Fault> {
    let mut names = Names { loaded, taken: BTreeMap::new(), faults: Vec::new() };
    for (name, owner) in OWN_TABLES.iter().map(|name| (*name, "the product itself")) {
        names.taken.insert(name.to_owned(), owner.to_owned());
    }
    for stream in streams {
        names.stream(stream);
    }
    for pipeline in pipelines {
        names.windows(pipeline, &streams[pipeline.stream].name);
    }
    names.faults
}

struct Names<'a> {
    loaded: &'a Loaded,
    /// Tables and indexes in lower case, and whose they are.
    taken: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl Names<'_> {
    fn fault(&mut self, path: &str, message: String) {
        self.faults.push(self.loaded.fault_at(path, message));
    }

    fn stream(&mut self, stream: &StreamSetup) {
        let path = format!("streams.{}", stream.name);
        if OWN_STREAMS.contains(&&*stream.name) {
            self.fault(&path, format!("/ws/{} is another socket: give the stream another name", stream.name));
        }
        for field in &stream.schema.fields {
            if OWN_COLUMNS.iter().any(|own| own.eq_ignore_ascii_case(&field.column)) {
                let message = format!(
                    "field '{}' would be a column that every table has itself ({}): rename the field and keep its old \
                     name as an Avro alias, or put it into a nested record",
                    field.dotted(),
                    OWN_COLUMNS.join(", ")
                );
                self.fault(&format!("{path}.schema"), message);
            }
        }
        let own = stream.config.table.is_some();
        let place = format!("{path}.{}", if own { "table" } else { "schema" });
        let hint = if own {
            "choose another name".to_owned()
        } else {
            format!("it is named after the schema's record: set {path}.table")
        };
        self.table(&stream.table.table, (&place, &hint), &format!("stream {}", stream.name));
        for index in stream.table.index_names() {
            self.index(&index, &place, &format!("stream {}", stream.name));
        }
    }

    fn windows(&mut self, pipeline: &PipelineSetup, stream: &Arc<str>) {
        let steps = pipeline.config.steps.iter().enumerate();
        let places = steps.filter(|(_, step)| matches!(step, Step::Window(_))).map(|(index, _)| index);
        for (index, window) in places.zip(pipeline.plan.windows()) {
            let path = format!("pipelines.{}.steps.{index}.window", pipeline.name);
            let table = window_table(window, stream.clone());
            let owner = format!("window {}", table.window);
            self.table(&table.window, (&format!("{path}.name"), "choose another name"), &owner);
            for index in table.index_names() {
                self.index(&index, &format!("{path}.name"), &owner);
            }
            let mut columns: Vec<String> = Vec::new();
            let group = table.group.iter().map(|column| (column, format!("{path}.group_by")));
            let selected = window.selected();
            let values = table.values.iter().enumerate().map(|(place, column)| {
                let by = selected.get(place).map_or(column.name.as_str(), String::as_str);
                (column, format!("{path}.select.{by}"))
            });
            for (column, place) in group.chain(values) {
                let name = column.name.to_ascii_lowercase();
                if WINDOW_COLUMNS.contains(&name.as_str()) {
                    let all = WINDOW_COLUMNS.join(", ");
                    let message = format!("every window has a column '{name}' itself (of {all}): choose another one");
                    self.fault(&place, message);
                } else if columns.contains(&name) {
                    self.fault(&place, format!("the window has a column '{name}' already"));
                }
                columns.push(name);
            }
        }
    }

    fn table(&mut self, table: &str, (path, hint): (&str, &str), owner: &str) {
        let name = table.to_ascii_lowercase();
        if let Some(prefix) = OWN_PREFIXES.iter().find(|prefix| name.starts_with(**prefix)) {
            self.fault(path, format!("tables whose names begin with '{prefix}' are not for records: {hint}"));
        } else if let Some(taken) = self.taken.get(&name) {
            let message = format!("the table '{table}' belongs to {taken}: {hint}");
            self.fault(path, message);
        } else {
            self.taken.insert(name, owner.to_owned());
        }
    }

    fn index(&mut self, index: &str, path: &str, owner: &str) {
        let taken = self.taken.entry(index.to_ascii_lowercase()).or_insert_with(|| owner.to_owned());
        if taken != owner {
            let message =
                format!("the index '{index}' of {owner} has the name of a table or index of {taken}: rename one");
            self.fault(path, message);
        }
    }
}
