//! Who else is in the consumer groups of the pipelines, on an outside cluster: a supervised thread asks, `standstill` reads
//! its answer. A source looks by itself before it joins; this is about who comes later.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use streamward_kit::{Failure, Scope};

use super::operations::PipelineView;
use crate::adapters::kafka::{
    KafkaSettings,
    members::{Onlooker, Strangers},
};

/// How often the groups are looked at: who is there at two looks is named.
const EVERY: Duration = Duration::from_secs(3);

/// Who else is in the group of each pipeline, as last seen. Clones are the same.
#[derive(Clone, Default)]
pub struct GroupsSeen(Arc<RwLock<HashMap<Arc<str>, Seen>>>);

struct Seen {
    strangers: Strangers,
    /// Whether they were told here: a source that waits for its first partition has told those that it waits for.
    is_told: bool,
}

impl GroupsSeen {
    /// Who else is in the group of a pipeline.
    pub fn strangers(&self, pipeline: &str) -> Option<Strangers> {
        self.0.read().get(pipeline).map(|seen| seen.strangers.clone())
    }

    /// Keeps what is seen of a pipeline's group, and says so where it is new and the source has not said it.
    fn note(&self, view: &PipelineView, strangers: Option<Strangers>) {
        let pipeline = &view.name;
        let mut seen = self.0.write();
        let Some(strangers) = strangers else {
            if seen.remove(pipeline).is_some_and(|seen| seen.is_told) {
                tracing::info!(%pipeline, "nobody else is in the pipeline's group any more");
            }
            return;
        };
        let words = strangers.to_string();
        let is_news = seen.get(pipeline).is_none_or(|before| before.strangers.to_string() != words);
        let is_told = view.slots.was_assigned();
        if is_told && is_news {
            tracing::warn!(%pipeline, "{words}; {}", strangers.way_out());
        }
        seen.insert(pipeline.clone(), Seen { strangers, is_told });
    }
}

/// Looks at the groups of the pipelines until asked to stop.
///
/// # Errors
/// If the client cannot be made.
pub fn run(scope: &Scope, kafka: &KafkaSettings, views: &[PipelineView], seen: &GroupsSeen) -> Result<(), Failure> {
    let onlooker = Onlooker::connect(kafka)?;
    let mut before: HashMap<Arc<str>, Strangers> = HashMap::new();
    while !scope.stopping_within(EVERY) {
        scope.pause_point_blocking();
        scope.fault_point_blocking("look")?;
        for view in views {
            let member = &view.member;
            let waiting = scope.waiting_on("kafka");
            let looked = onlooker.strangers(member);
            drop(waiting);
            // What was seen stays until the cluster says something else: that it is silent is told by `lag`.
            let strangers = match looked {
                Ok(strangers) => strangers,
                Err(error) => {
                    tracing::debug!(%error, group = member.group, "look at the group");
                    continue;
                }
            };
            let earlier = before.remove(&member.pipeline);
            let remaining = strangers.as_ref().filter(|now| earlier.is_some_and(|earlier| now.remain_from(&earlier)));
            seen.note(view, remaining.cloned());
            before.extend(strangers.map(|now| (member.pipeline.clone(), now)));
        }
        scope.progress(1);
    }
    Ok(())
}
