//! Decides what stands still: a pure function of what is seen now and of what was seen before.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use streamward_kit::ActorState;

use super::{
    Cause, Finding, Place,
    sight::{ActorSight, Mended, PartitionSight, PipelineSight, Sight, Stop},
};
use crate::app::lag::TopicLogs;

/// How long a position, a cluster or a database may stand still before it is a finding.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// How long a group may take to deal a partition to this server: a predecessor's session must end first.
pub const DEAL_WITHIN: Duration = Duration::from_secs(8);
/// How long windows count as full after the last record that found no room: records of full groups come now and then.
pub const FULL_FOR: Duration = Duration::from_secs(30);

/// What was seen before.
#[derive(Default)]
pub struct Judge {
    /// Since when a number has been what it is.
    numbers: BTreeMap<Watched, (i64, Instant)>,
    /// Since when a condition has held.
    conditions: BTreeMap<Place, Instant>,
    /// Records without room by pipeline, and when their number last grew.
    without_room: BTreeMap<Arc<str>, (u64, Option<Instant>)>,
    /// When each finding was first one, in milliseconds since 1970.
    found: BTreeMap<Place, i64>,
}

/// Pipeline, partition, and which of its numbers.
type Watched = (Arc<str>, i32, Cause);

/// One look: what is seen, and when.
struct Look<'a> {
    judge: &'a mut Judge,
    seen: BTreeMap<Watched, (i64, Instant)>,
    held: BTreeMap<Place, Instant>,
    found: Vec<(Place, String, String)>,
    now: Instant,
}

impl Judge {
    /// What stands still, by place.
    pub fn look(&mut self, sight: &Sight, now: Instant, now_ms: i64) -> Vec<Finding> {
        let mut look = Look { judge: self, seen: BTreeMap::new(), held: BTreeMap::new(), found: Vec::new(), now };
        look.outside(sight);
        look.broker(sight);
        for actor in &sight.actors {
            look.actor(actor);
        }
        for pipeline in &sight.pipelines {
            look.pipeline(pipeline, sight);
        }
        let Look { seen, held, mut found, .. } = look;
        (self.numbers, self.conditions) = (seen, held);
        // What an actor says of itself is often what was found already.
        let said: Vec<String> =
            found.iter().filter(|found| found.0.cause != Cause::Degraded).map(|found| found.1.clone()).collect();
        found.retain(|(place, reason, _)| {
            place.cause != Cause::Degraded || !said.iter().any(|said| reason.ends_with(said))
        });
        if let Some(storage) = sight.storage.as_ref().filter(|_| found.iter().any(|(place, ..)| is_storage(place))) {
            // Where nothing can be stored, no sink and no partition moves: that is one finding.
            found.retain(|(place, reason, _)| {
                is_storage(place) || !(place.cause == Cause::Storing || reason.contains(&storage.why))
            });
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found.dedup_by(|a, b| a.0 == b.0);
        let before = std::mem::take(&mut self.found);
        let finding = |(place, reason, way_out): (Place, String, String)| {
            let since_ms = before.get(&place).copied().unwrap_or(now_ms);
            self.found.insert(place.clone(), since_ms);
            Finding { place, since_ms, reason, way_out }
        };
        found.into_iter().map(finding).collect()
    }
}

impl Look<'_> {
    /// The cluster and the database.
    fn outside(&mut self, sight: &Sight) {
        if let Some((_, why)) = sight.kafka.as_ref().filter(|(lasting, _)| *lasting >= PATIENCE) {
            let reason = format!("Kafka does not answer: {why}");
            self.find(server(Cause::Kafka, "ops/lag"), reason, "reading goes on by itself once it does".to_owned());
        }
        if let Some(storage) = &sight.storage {
            let why = &storage.why;
            let (cause, patience, reason, way_out) = match storage.mended {
                Mended::Itself => {
                    let way_out = "storing goes on by itself once it does";
                    (Cause::Storage, PATIENCE, format!("the database does not take writes: {why}"), way_out)
                }
                Mended::Restart => {
                    let way_out = "restart the server: what the log still holds is stored again";
                    (Cause::Storage, Duration::ZERO, format!("the database does not take writes: {why}"), way_out)
                }
                Mended::Replacement(way_out) => {
                    (Cause::Damaged, Duration::ZERO, format!("the database is damaged: {why}"), way_out)
                }
            };
            if storage.lasting >= patience {
                self.find(server(cause, "ops/standstill"), reason, way_out.to_owned());
            }
        }
    }

    fn broker(&mut self, sight: &Sight) {
        let Some(trouble) = &sight.broker else { return };
        let reason = format!("the embedded broker does not keep all that is produced: {}", trouble.why);
        let way_out = match trouble.needs_restart {
            false => "make room, or mend the disk: producers that try again then succeed",
            true => {
                "let the pipelines store what they still can read (GET /api/v1/lag), mend the disk, then restart the server"
            }
        };
        self.find(server(Cause::BrokerStorage, "platform/broker"), reason, way_out.to_owned());
    }

    fn actor(&mut self, actor: &ActorSight) {
        // What these two say is judged with the cluster and the database.
        if actor.state == ActorState::Degraded && matches!(&*actor.path, "ops/lag" | "ops/standstill") {
            return;
        }
        // Its partitions are found, with what it waits for.
        if actor.state == ActorState::Degraded && actor.stands_by().is_some() {
            return;
        }
        let (cause, patience, way_out) = match actor.state {
            ActorState::Paused => (Cause::Paused, Duration::ZERO, "resume it"),
            ActorState::Stopped | ActorState::Failed => (Cause::Down, Duration::ZERO, "restart it"),
            ActorState::BackingOff | ActorState::Stopping | ActorState::Starting => {
                (Cause::Down, PATIENCE, "it is tried again by itself; GET /api/v1/events has the reasons")
            }
            ActorState::Degraded => (Cause::Degraded, PATIENCE, "it goes on by itself once the cause is mended"),
            ActorState::Running if actor.target_wait >= PATIENCE => {
                (Cause::Degraded, Duration::ZERO, "it goes on by itself once its topic takes records")
            }
            ActorState::Running => return,
        };
        let place = Place { pipeline: pipeline_of(&actor.path), ..server(cause, &actor.path) };
        if self.lasts(&place, patience) {
            let way_out = match cause {
                Cause::Paused => format!("{way_out}: POST /api/v1/supervision/{}/resume", actor.path),
                Cause::Down if patience.is_zero() => {
                    format!("{way_out}: POST /api/v1/supervision/{}/restart", actor.path)
                }
                _ => way_out.to_owned(),
            };
            let reason = match cause {
                Cause::Paused => format!("{} was paused by an operator", actor.path),
                _ => format!("{}: {}", actor.path, actor.words),
            };
            self.find(place, reason, way_out);
        }
    }

    fn pipeline(&mut self, pipeline: &PipelineSight, sight: &Sight) {
        self.windows(pipeline);
        let topic = &pipeline.topic;
        for (partition, (stop, why)) in &pipeline.stopped {
            let (cause, way_out) = match stop {
                Stop::Gap => (Cause::Gap, "set on_gap: earliest, or restart the source once the log is whole"),
                Stop::Refused => (Cause::Refused, "mend the cause, then restart the source"),
            };
            let way_out = format!("{way_out}: POST /api/v1/supervision/pipelines/{}/source/restart", pipeline.name);
            self.find(of_partition(cause, pipeline, *partition), why.clone(), way_out);
        }
        match &pipeline.logs {
            None => {}
            Some(TopicLogs::Missing) => {
                let place = Place { topic: Some(topic.clone()), ..of_pipeline(Cause::TopicGone, pipeline) };
                let reason = format!("topic {topic} does not exist: it was deleted, or this user may not see it");
                let way_out = format!(
                    "make it again, as the configuration has it: streamward topics create {topic}, or restart the server"
                );
                self.find(place, reason, way_out);
            }
            Some(TopicLogs::Partitions(partitions)) => {
                for (partition, bounds) in partitions {
                    if pipeline.stopped.contains_key(partition) {
                        continue;
                    }
                    match pipeline.partitions.get(partition) {
                        Some(seen) => self.partition(pipeline, *partition, (seen, bounds.map(|log| log.end)), sight),
                        None if sight.kafka.is_none() => self.unassigned(pipeline, *partition),
                        None => {}
                    }
                }
            }
        }
    }

    /// Whether records have found no room in a window lately. What was counted before the first look is no news.
    fn windows(&mut self, pipeline: &PipelineSight) {
        let count = pipeline.without_room;
        let (before, grew_at) = self.judge.without_room.get(&pipeline.name).copied().unwrap_or((count, None));
        let grew_at = if count > before { Some(self.now) } else { grew_at };
        self.judge.without_room.insert(pipeline.name.clone(), (count, grew_at));
        if grew_at.is_some_and(|at| self.now.saturating_duration_since(at) < FULL_FOR) {
            let reason = "records find no room in the state of a window: they are stored, and their windows miss them";
            let way_out = "sw_late says which; group by a column with fewer values, or make the window shorter";
            self.find(of_pipeline(Cause::Full, pipeline), reason.to_owned(), way_out.to_owned());
        }
    }

    fn unassigned(&mut self, pipeline: &PipelineSight, partition: i32) {
        let place = of_partition(Cause::Unassigned, pipeline, partition);
        if let Some((reason, way_out)) = &pipeline.strangers {
            self.find(place, reason.clone(), way_out.clone());
            return;
        }
        if !self.lasts(&place, DEAL_WITHIN) {
            return;
        }
        let reason = match pipeline.was_assigned {
            true => "another member of the pipeline's group holds it, or the group cannot agree",
            false => "the group has dealt this server no partition yet",
        };
        let way_out = format!(
            "GET /api/v1/topics/{} shows the members of the group; one server per group and node.id is supported",
            pipeline.topic
        );
        self.find(place, reason.to_owned(), way_out);
    }

    /// The first of the three stages that has something to do and does not move.
    fn partition(
        &mut self,
        pipeline: &PipelineSight,
        partition: i32,
        (seen, end): (&PartitionSight, Option<i64>),
        sight: &Sight,
    ) {
        let stages = [
            (Cause::Storing, "sink", seen.committed, seen.processed),
            (Cause::Processing, "lane", seen.processed, seen.fetched),
            (Cause::Reading, "source", seen.read, end.unwrap_or(i64::MIN)),
        ];
        let mut standing = None;
        for (cause, actor, at, to) in stages {
            let lasting = self.unmoved((pipeline.name.clone(), partition, cause), at, at < to);
            if lasting >= PATIENCE {
                standing = standing.or(Some((cause, actor, at, to)));
            }
        }
        let Some((cause, actor, at, to)) = standing else { return };
        let path = format!("pipelines/{}/{actor}", pipeline.name);
        let words =
            sight.actors.iter().find(|actor| actor.path == path).map_or("it is not there", |actor| &actor.words);
        let what = match cause {
            Cause::Storing => "processed and not stored",
            Cause::Processing => "read and not processed",
            _ => "in the log and not read",
        };
        let reason = format!("stands still at offset {at}: {} offsets are {what}; {path}: {words}", to - at);
        let way_out = format!("see {path} in the tree; if nothing else helps, restart it");
        self.find(of_partition(cause, pipeline, partition), reason, way_out);
    }

    /// For how long a number has not moved while it should have.
    fn unmoved(&mut self, watched: Watched, number: i64, should_move: bool) -> Duration {
        if !should_move {
            return Duration::ZERO;
        }
        let before = self.judge.numbers.get(&watched).filter(|(was, _)| *was == number);
        let since = before.map_or(self.now, |(_, since)| *since);
        self.seen.insert(watched, (number, since));
        self.now.saturating_duration_since(since)
    }

    /// Whether a condition that holds now has held for so long.
    fn lasts(&mut self, place: &Place, patience: Duration) -> bool {
        let since = self.judge.conditions.get(place).copied().unwrap_or(self.now);
        self.held.insert(place.clone(), since);
        self.now.saturating_duration_since(since) >= patience
    }

    fn find(&mut self, place: Place, reason: String, way_out: String) {
        self.found.push((place, reason, way_out));
    }
}

fn is_storage(place: &Place) -> bool {
    place.pipeline.is_none() && matches!(place.cause, Cause::Storage | Cause::Damaged)
}

fn server(cause: Cause, actor: &str) -> Place {
    Place { cause, actor: actor.to_owned(), pipeline: None, topic: None, partition: None }
}

fn of_pipeline(cause: Cause, pipeline: &PipelineSight) -> Place {
    Place { pipeline: Some(pipeline.name.clone()), ..server(cause, &format!("pipelines/{}", pipeline.name)) }
}

fn of_partition(cause: Cause, pipeline: &PipelineSight, partition: i32) -> Place {
    Place { topic: Some(pipeline.topic.clone()), partition: Some(partition), ..of_pipeline(cause, pipeline) }
}

/// `pipelines/orders/sink` → `orders`.
fn pipeline_of(path: &str) -> Option<Arc<str>> {
    path.strip_prefix("pipelines/")?.split('/').next().map(Arc::from)
}

#[cfg(test)]
mod tests;
