//! Differences that matter only behind a kill: what records since a checkpoint make of the state.
//!
//! A checkpoint is some seconds older than the position. Records in between had their effects, and are read again to bring
//! the state up to the position. With other settings they would make another state of it: a window would lack what its row
//! has, a rule would hold something for told that nobody was told.

use super::{Change, Concerned, Definitions, PipelineDefinition, Way, words};

impl Definitions {
    /// The pipelines whose state would come out otherwise if records were read again with the settings of `now`.
    pub(super) fn replayed_otherwise(&self, now: &Self) -> Vec<Change> {
        let change = |(before, name): (String, String)| {
            let (old, new) = (&self.pipelines[&before], &now.pipelines[&name]);
            let differences = differences(old, new);
            (!differences.is_empty()).then(|| {
                let effect = "windows that are open get no more rows and the next ones begin anew, alerts that fire are resolved, \
                              and no record is read again";
                Change {
                    path: format!("pipelines.{name}"),
                    subject: format!("pipeline {name}"),
                    concerned: Concerned::Replay(before),
                    difference: differences.join("; "),
                    ways: vec![
                        Way::Write("start once with the settings of before, and stop the server (SIGTERM, Ctrl-C), until check accepts it".to_owned()),
                        Way::Allow { word: format!("replay/{name}"), effect: effect.to_owned() },
                    ],
                }
            })
        };
        self.pipelines_of_before(now).into_iter().filter_map(change).collect()
    }

    /// The rules that these definitions do not have, as (name of the pipeline now, rule).
    #[must_use]
    pub fn new_rules(&self, now: &Self) -> Vec<(String, String)> {
        let new = |(before, name): (String, String)| {
            let known = &self.pipelines[&before].rules;
            let rules = now.pipelines[&name].rules.iter().filter(|rule| !known.contains(rule)).cloned();
            rules.map(move |rule| (name.clone(), rule)).collect::<Vec<_>>()
        };
        self.pipelines_of_before(now).into_iter().flat_map(new).collect()
    }

    /// Pipelines that are in both, as (name before, name now).
    fn pipelines_of_before(&self, now: &Self) -> Vec<(String, String)> {
        let same = self.pipelines.keys().filter(|name| now.pipelines.contains_key(*name));
        same.map(|name| (name.clone(), name.clone())).chain(self.renamed_pipelines(now)).collect()
    }
}

/// What differs, in words. A step that only one of the two has does no harm.
fn differences(old: &PipelineDefinition, new: &PipelineDefinition) -> Vec<String> {
    let both = new.replay.iter().filter_map(|(setting, now)| Some((setting, old.replay.get(setting)?, now)));
    let told = |(setting, before, now): (&String, &String, &String)| {
        let written = (old.as_written(before), new.as_written(now));
        let (before, now) = words::apart(written, || (before.as_str(), now.as_str()));
        format!("{setting} was {before}, and is to be {now}")
    };
    both.filter(|(_, before, now)| before != now).map(told).collect()
}
