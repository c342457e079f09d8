//! What can be seen of the running system at one moment.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use streamward_broker::StorageTrouble;
use streamward_kit::{ActorState, Runtime, TreeNode};
use streamward_pipeline::slot::PartitionSlot;

use super::{Cause, Finding};
use crate::{
    adapters::kafka::members::STANDS_BY,
    app::{
        groups::GroupsSeen,
        lag::{LogEnds, TopicLogs},
        operations::PipelineView,
    },
};

/// Everything that is judged.
pub struct Sight {
    pub pipelines: Vec<PipelineSight>,
    /// For how long the cluster has not answered, and why.
    pub kafka: Option<(Duration, String)>,
    pub storage: Option<StorageSight>,
    /// Why the embedded broker does not keep all that clients produce.
    pub broker: Option<StorageTrouble>,
    /// The actors, sessions left out.
    pub actors: Vec<ActorSight>,
}

/// A database that does not do what it is for.
pub struct StorageSight {
    pub lasting: Duration,
    pub why: String,
    pub mended: Mended,
}

/// How a database comes to work again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mended {
    /// By itself, once the cause is over.
    Itself,
    /// By a restart of the server.
    Restart,
    /// By somebody who puts another one in its place, as it says.
    Replacement(&'static str),
}

/// One pipeline.
pub struct PipelineSight {
    pub name: Arc<str>,
    pub topic: Arc<str>,
    /// None before the cluster has told.
    pub logs: Option<TopicLogs>,
    /// Whether the group has dealt its partitions at least once.
    pub was_assigned: bool,
    /// Who else is in the pipeline's group, and what to do about it.
    pub strangers: Option<(String, String)>,
    /// Why partitions are not read or not stored.
    pub stopped: BTreeMap<i32, (Stop, String)>,
    pub partitions: BTreeMap<i32, PartitionSight>,
    /// Records since the start whose group found no room in the state of a window.
    pub without_room: u64,
}

/// Who has stopped a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its log has a gap.
    Gap,
    /// Storage refuses it.
    Refused,
}

/// An assigned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSight {
    /// Everything below was read.
    pub read: i64,
    /// Everything below was given to a lane.
    pub fetched: i64,
    pub processed: i64,
    pub committed: i64,
}

/// One actor.
pub struct ActorSight {
    pub path: String,
    pub state: ActorState,
    /// What it says of itself, what it waits for, or how it ended last.
    pub words: String,
    /// For how long it has waited for whom it announces facts to.
    pub target_wait: Duration,
}

impl Sight {
    /// Looks at everything.
    pub fn of(
        runtime: &Runtime,
        pipelines: &[PipelineView],
        (ends, groups): (&LogEnds, &GroupsSeen),
        (storage, broker): (Option<StorageSight>, Option<StorageTrouble>),
    ) -> Self {
        let actors = runtime.nodes();
        let actors = actors.iter().filter(|node| node.strategy.is_none());
        let actors = actors.filter(|node| !node.path.as_str().starts_with("edge/sessions/"));
        let actors: Vec<_> = actors.map(ActorSight::of).collect();
        let mut pipelines: Vec<_> =
            pipelines.iter().map(|pipeline| PipelineSight::of(pipeline, ends, groups)).collect();
        pipelines.iter_mut().for_each(|pipeline| pipeline.hear(&actors));
        Self { pipelines, kafka: ends.silence(), storage, broker, actors }
    }
}

impl PipelineSight {
    fn of(pipeline: &PipelineView, ends: &LogEnds, groups: &GroupsSeen) -> Self {
        let slots = pipeline.slots.all();
        let refused: Vec<i32> =
            slots.iter().filter(|slot| slot.refusal().is_some()).map(|slot| slot.key.partition).collect();
        let stop = |(partition, why): (i32, String)| {
            let stop = if refused.contains(&partition) { Stop::Refused } else { Stop::Gap };
            (partition, (stop, why))
        };
        Self {
            name: pipeline.name.clone(),
            topic: pipeline.topic.clone(),
            logs: ends.topic(&pipeline.topic),
            was_assigned: pipeline.slots.was_assigned(),
            strangers: groups.strangers(&pipeline.name).map(|others| (others.to_string(), others.way_out())),
            stopped: pipeline.slots.standing_still().into_iter().map(stop).collect(),
            partitions: slots.iter().map(|slot| (slot.key.partition, PartitionSight::of(slot))).collect(),
            without_room: pipeline.slots.totals().without_room.load(Ordering::Relaxed),
        }
    }
}

impl Sight {
    /// Whether a finding says that this server waits until others have left a pipeline's group.
    pub fn stands_by(&self, finding: &Finding) -> bool {
        let place = &finding.place;
        let pipeline = self.pipelines.iter().find(|pipeline| place.pipeline.as_ref() == Some(&pipeline.name));
        let strangers = pipeline.and_then(|pipeline| pipeline.strangers.as_ref());
        place.cause == Cause::Unassigned && strangers.is_some_and(|(words, _)| *words == finding.reason)
    }
}

impl PipelineSight {
    /// What its source says of the others in its group, before they were seen from outside.
    fn hear(&mut self, actors: &[ActorSight]) {
        let path = format!("pipelines/{}/source", self.name);
        let source = actors.iter().find(|actor| actor.path == path);
        if let (None, Some(words)) = (&self.strangers, source.and_then(ActorSight::stands_by)) {
            let way_out = format!("GET /api/v1/topics/{} shows the members of the group: stop them", self.topic);
            self.strangers = Some((words.to_owned(), way_out));
        }
    }
}

impl PartitionSight {
    fn of(slot: &Arc<PartitionSlot>) -> Self {
        // From behind: what is seen later may be further, never nearer.
        let (committed, processed) = (slot.committed(), slot.processed());
        Self { committed, processed, fetched: slot.next_fetch(), read: slot.read_to() }
    }
}

impl ActorSight {
    /// Of a source that waits until others have left its group: who they are.
    pub fn stands_by(&self) -> Option<&str> {
        self.words.strip_prefix(STANDS_BY)
    }

    fn of(node: &TreeNode) -> Self {
        let wait = node.waiting_on.as_ref().filter(|wait| wait.on == "target").map_or(0, |wait| wait.for_ms);
        Self {
            path: node.path.as_str().to_owned(),
            state: node.state,
            words: words(node),
            target_wait: Duration::from_millis(wait),
        }
    }
}

fn words(node: &TreeNode) -> String {
    if let Some(note) = &node.note {
        return note.to_string();
    }
    match node.state {
        ActorState::Running | ActorState::Degraded | ActorState::Starting => {}
        state @ (ActorState::Paused | ActorState::Stopping) => return format!("it is {}", state.as_str()),
        state @ (ActorState::BackingOff | ActorState::Stopped | ActorState::Failed) => {
            let exit = node.last_exit.as_ref().filter(|exit| !exit.message.is_empty());
            let exit = exit.map(|exit| format!(": {}", exit.message)).unwrap_or_default();
            return format!("it is {}{exit}", state.as_str().replace('_', " "));
        }
    }
    // Without times: whoever shows the words would show new ones every second.
    match (&node.in_hand, &node.waiting_on) {
        (_, Some(wait)) => format!("it waits for {}", wait.on),
        (Some(hand), None) => format!("it has {} in hand", hand.label),
        (None, None) => "it runs".to_owned(),
    }
}
