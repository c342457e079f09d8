use std::collections::BTreeSet;

use streamward_core::ports::topics::LogBounds;

use streamward_broker::StorageTrouble;

use super::{super::sight::StorageSight, *};
use crate::adapters::kafka::members::STANDS_BY;

const SECOND: Duration = Duration::from_secs(1);

/// A pipeline of one partition whose log ends at 100, with a judge that looks once a second.
struct World {
    judge: Judge,
    start: Instant,
    seconds: u32,
    sight: Sight,
}

impl World {
    fn at_rest() -> Self {
        let seen = PartitionSight { read: 100, fetched: 100, processed: 100, committed: 100 };
        let pipeline = PipelineSight {
            name: "orders".into(),
            topic: "orders-topic".into(),
            logs: Some(logs(&[0])),
            was_assigned: true,
            strangers: None,
            stopped: BTreeMap::new(),
            partitions: BTreeMap::from([(0, seen)]),
            without_room: 7,
        };
        let running = |name: &str| ActorSight {
            path: format!("pipelines/orders/{name}"),
            state: ActorState::Running,
            words: "it runs".to_owned(),
            target_wait: Duration::ZERO,
        };
        let actors = ["source", "lane", "sink"].map(running).into();
        let sight = Sight { pipelines: vec![pipeline], kafka: None, storage: None, broker: None, actors };
        Self { judge: Judge::default(), start: Instant::now(), seconds: 0, sight }
    }

    fn pipeline(&mut self) -> &mut PipelineSight {
        &mut self.sight.pipelines[0]
    }

    fn partition(&mut self) -> &mut PartitionSight {
        self.pipeline().partitions.get_mut(&0).unwrap()
    }

    fn actor(&mut self, name: &str) -> &mut ActorSight {
        let path = format!("pipelines/orders/{name}");
        self.sight.actors.iter_mut().find(|actor| actor.path == path).unwrap()
    }

    /// The findings of the next look.
    fn look(&mut self) -> Vec<Finding> {
        self.seconds += 1;
        self.judge.look(&self.sight, self.start + SECOND * self.seconds, i64::from(self.seconds) * 1000)
    }

    /// Looks until something is found, at most for ten seconds; when, and what.
    fn found(&mut self) -> (u32, Vec<Finding>) {
        (1..=10).find_map(|second| Some((second, self.look())).filter(|(_, found)| !found.is_empty())).unwrap()
    }

    /// Cause, place and reason of the only finding, and that it is gone once `mend` has mended its cause.
    fn names(mut self, within: u32, mend: impl FnOnce(&mut Self)) -> Finding {
        let (second, found) = self.found();
        assert!(second <= within, "after {second} s");
        assert_eq!(found.len(), 1, "{found:#?}");
        let again = self.look();
        assert_eq!(again, found, "it stays the same finding, since the same moment");
        mend(&mut self);
        assert_eq!(self.look(), []);
        found.into_iter().next().unwrap()
    }
}

fn logs(partitions: &[i32]) -> TopicLogs {
    let bounds = |partition: &i32| (*partition, Some(LogBounds { partition: *partition, start: 0, end: 100 }));
    TopicLogs::Partitions(partitions.iter().map(bounds).collect())
}

fn end_at(end: i64) -> TopicLogs {
    TopicLogs::Partitions(BTreeMap::from([(0, Some(LogBounds { partition: 0, start: 0, end }))]))
}

/// Seconds after which something that must last is found.
fn patience() -> u32 {
    u32::try_from(PATIENCE.as_secs()).unwrap() + 1
}

#[test]
fn what_is_read_to_its_end_and_stored_does_not_stand_still() {
    let mut world = World::at_rest();
    assert!((0..60).all(|_| world.look().is_empty()));
}

#[test]
fn a_position_that_moves_does_not_stand_still_however_far_behind_it_is() {
    let mut world = World::at_rest();
    world.pipeline().logs = Some(end_at(1_000_000));
    for second in 0..60 {
        *world.partition() = PartitionSight {
            read: 200 + second,
            fetched: 150 + second,
            processed: 120 + second,
            committed: 100 + second,
        };
        assert_eq!(world.look(), []);
    }
}

#[test]
fn the_first_stage_from_the_end_that_does_not_move_is_named_with_what_its_actor_says() {
    let cases = [
        (Cause::Reading, "source", PartitionSight { read: 40, fetched: 40, processed: 40, committed: 40 }),
        (Cause::Processing, "lane", PartitionSight { read: 100, fetched: 100, processed: 40, committed: 40 }),
        (Cause::Storing, "sink", PartitionSight { read: 100, fetched: 100, processed: 100, committed: 40 }),
        (Cause::Storing, "sink", PartitionSight { read: 80, fetched: 70, processed: 60, committed: 40 }),
    ];
    for (cause, actor, seen) in cases {
        let mut world = World::at_rest();
        *world.partition() = seen;
        world.actor(actor).words = "it waits for the moon".to_owned();
        let mended = World::at_rest().sight.pipelines[0].partitions[&0];
        let finding = world.names(patience(), |world| *world.partition() = mended);
        assert_eq!((finding.place.cause, finding.place.partition), (cause, Some(0)));
        assert!(finding.reason.contains("offset 40") && finding.reason.contains("moon"), "{finding}");
        assert!(finding.reason.contains(&format!("pipelines/orders/{actor}")), "{finding}");
    }
}

#[test]
fn records_that_are_read_again_from_a_checkpoint_are_not_waiting_to_be_stored() {
    let mut world = World::at_rest();
    *world.partition() = PartitionSight { read: 90, fetched: 90, processed: 90, committed: 100 };
    world.pipeline().logs = Some(end_at(90));
    assert!((0..60).all(|_| world.look().is_empty()));
}

#[test]
fn a_partition_that_was_stopped_is_named_at_once_with_the_reason() {
    for (stop, cause) in [(Stop::Gap, Cause::Gap), (Stop::Refused, Cause::Refused)] {
        let mut world = World::at_rest();
        world.pipeline().stopped.insert(0, (stop, "records are gone".to_owned()));
        // What the source says of itself is no second finding.
        (world.actor("source").state, world.actor("source").words) =
            (ActorState::Degraded, "records are gone".to_owned());
        let finding = world.names(1, |world| {
            world.pipeline().stopped.clear();
            world.actor("source").state = ActorState::Running;
        });
        assert_eq!(
            (finding.place.cause, finding.place.partition, &*finding.reason),
            (cause, Some(0), "records are gone")
        );
        assert!(finding.way_out.contains("pipelines/orders/source/restart"), "{finding}");
    }
}

#[test]
fn a_topic_that_is_gone_is_named_at_once() {
    let mut world = World::at_rest();
    world.pipeline().logs = Some(TopicLogs::Missing);
    let finding = world.names(1, |world| world.pipeline().logs = Some(logs(&[0])));
    assert_eq!((finding.place.cause, finding.place.topic.as_deref()), (Cause::TopicGone, Some("orders-topic")));
    assert!(finding.to_string().contains("streamward topics create orders-topic,"), "{finding}");
}

#[test]
fn a_partition_that_no_source_reads_is_named_once_the_group_has_had_time() {
    let mut world = World::at_rest();
    world.pipeline().logs = Some(logs(&[0, 1]));
    let within = u32::try_from(DEAL_WITHIN.as_secs()).unwrap() + 1;
    let finding = world.names(within, |world| world.pipeline().logs = Some(logs(&[0])));
    assert_eq!((finding.place.cause, finding.place.partition), (Cause::Unassigned, Some(1)));
}

#[test]
fn another_member_of_the_group_is_named_at_once_where_it_has_a_partition_and_not_where_this_server_has_all() {
    let mut world = World::at_rest();
    world.pipeline().strangers = Some(("another member is in group g".to_owned(), "stop it".to_owned()));
    assert_eq!(world.look(), []);
    world.pipeline().logs = Some(logs(&[0, 1]));
    let finding = world.names(1, |world| world.pipeline().logs = Some(logs(&[0])));
    let told = (finding.place.cause, finding.place.partition, &*finding.reason, &*finding.way_out);
    assert_eq!(told, (Cause::Unassigned, Some(1), "another member is in group g", "stop it"));
}

#[test]
fn a_cluster_or_a_database_that_does_not_answer_is_named_with_the_reason() {
    let mut world = World::at_rest();
    world.sight.kafka = Some((PATIENCE, "connection refused".to_owned()));
    let finding = world.names(1, |world| world.sight.kafka = None);
    assert_eq!(finding.place.cause, Cause::Kafka);
    assert!(finding.reason.contains("connection refused"), "{finding}");
    for (mended, way_out) in [(Mended::Itself, "by itself"), (Mended::Restart, "restart")] {
        let mut world = World::at_rest();
        world.sight.storage = Some(StorageSight { lasting: PATIENCE, why: "it is locked".to_owned(), mended });
        let finding = world.names(1, |world| world.sight.storage = None);
        assert_eq!(finding.place.cause, Cause::Storage);
        assert!(finding.reason.contains("it is locked") && finding.way_out.contains(way_out), "{finding}");
    }
    let mut world = World::at_rest();
    let damaged = StorageSight {
        lasting: Duration::ZERO,
        why: "malformed".to_owned(),
        mended: Mended::Replacement("put a backup in its place"),
    };
    world.sight.storage = Some(damaged);
    let finding = world.names(1, |world| world.sight.storage = None);
    assert!(finding.place.cause == Cause::Damaged && finding.way_out.contains("backup in its place"), "{finding}");
    for (needs_restart, way_out) in [(false, "make room"), (true, "restart the server")] {
        let mut world = World::at_rest();
        world.sight.broker = Some(StorageTrouble { why: "it is full".to_owned(), needs_restart });
        let finding = world.names(1, |world| world.sight.broker = None);
        assert!(finding.place.cause == Cause::BrokerStorage && finding.way_out.contains(way_out), "{finding}");
    }
    let mut world = World::at_rest();
    world.sight.kafka = Some((SECOND, String::new()));
    world.sight.storage = Some(StorageSight { lasting: SECOND, why: String::new(), mended: Mended::Itself });
    assert_eq!(world.look(), [], "a hiccup is none");
}

#[test]
fn a_database_that_takes_no_writes_is_one_finding_whatever_waits_for_it() {
    let mut world = World::at_rest();
    let why = "data.db was deleted or replaced".to_owned();
    world.sight.storage = Some(StorageSight { lasting: Duration::ZERO, why, mended: Mended::Restart });
    *world.partition() = PartitionSight { read: 100, fetched: 100, processed: 100, committed: 40 };
    let sink = world.actor("sink");
    (sink.state, sink.words) =
        (ActorState::BackingOff, "it is backing off: data.db was deleted or replaced: tried again".to_owned());
    for _ in 0..10 {
        let causes: Vec<_> = world.look().iter().map(|finding| finding.place.cause).collect();
        assert_eq!(causes, [Cause::Storage]);
    }
    world.sight.storage = None;
    assert_eq!(world.look().len(), 2, "what is wrong besides is named again");
}

#[test]
fn a_server_that_stands_by_is_found_by_what_its_source_waits_for() {
    let mut world = World::at_rest();
    world.pipeline().logs = Some(logs(&[0, 1]));
    world.pipeline().partitions.clear();
    world.pipeline().strangers = Some(("another member is in group g".to_owned(), "stop it".to_owned()));
    let source = world.actor("source");
    (source.state, source.words) = (ActorState::Degraded, format!("{STANDS_BY}another member is in group g"));
    for _ in 0..10 {
        let found = world.look();
        assert_eq!(found.iter().map(|finding| finding.place.partition).collect::<Vec<_>>(), [Some(0), Some(1)]);
        assert!(found.iter().all(|finding| world.sight.stands_by(finding)), "{found:?}");
    }
    world.pipeline().strangers = None;
    assert_eq!(world.look(), [], "the group has time to deal the partitions");
}

#[test]
fn actors_that_are_held_or_down_are_named_at_once_and_those_that_may_come_back_after_a_while() {
    let cases = [
        (ActorState::Paused, Cause::Paused, 1),
        (ActorState::Stopped, Cause::Down, 1),
        (ActorState::Failed, Cause::Down, 1),
        (ActorState::BackingOff, Cause::Down, patience()),
        (ActorState::Degraded, Cause::Degraded, patience()),
    ];
    for (state, cause, within) in cases {
        let mut world = World::at_rest();
        (world.actor("lane").state, world.actor("lane").words) = (state, "the registry does not answer".to_owned());
        let finding = world.names(within, |world| world.actor("lane").state = ActorState::Running);
        assert_eq!((finding.place.cause, &*finding.place.actor), (cause, "pipelines/orders/lane"));
        assert_eq!(finding.place.pipeline.as_deref(), Some("orders"));
    }
}

#[test]
fn an_actor_that_waits_for_the_target_of_its_facts_is_named_though_it_runs() {
    let mut world = World::at_rest();
    world.actor("sink").target_wait = PATIENCE;
    let finding = world.names(1, |world| world.actor("sink").target_wait = SECOND);
    assert_eq!(finding.place.cause, Cause::Degraded);
}

#[test]
fn a_condition_that_comes_and_goes_is_no_finding() {
    let mut world = World::at_rest();
    for second in 0..60 {
        let state = if second % 3 == 0 { ActorState::Running } else { ActorState::BackingOff };
        world.actor("source").state = state;
        assert_eq!(world.look(), []);
    }
}

#[test]
fn a_finding_knows_since_when_it_is_one_and_begins_anew_after_it_was_gone() {
    let mut world = World::at_rest();
    world.pipeline().logs = Some(TopicLogs::Missing);
    assert_eq!((world.look()[0].since_ms, world.look()[0].since_ms), (1000, 1000));
    world.pipeline().logs = Some(logs(&[0]));
    assert_eq!(world.look(), []);
    world.pipeline().logs = Some(TopicLogs::Missing);
    assert_eq!(world.look()[0].since_ms, 4000);
}

#[test]
fn windows_without_room_are_named_at_once_and_until_none_was_refused_for_half_a_minute() {
    let mut world = World::at_rest();
    assert_eq!(world.look(), [], "what was refused before the first look is no news");
    world.pipeline().without_room += 1;
    let found = world.look();
    assert_eq!(found.len(), 1, "{found:#?}");
    let Place { cause, actor, partition, .. } = &found[0].place;
    assert_eq!((*cause, &**actor, *partition), (Cause::Full, "pipelines/orders", None));
    assert!(found[0].reason.contains("no room") && found[0].way_out.contains("fewer values"), "{}", found[0]);
    let full_for = u32::try_from(FULL_FOR.as_secs()).unwrap();
    assert!((1..full_for).all(|_| world.look() == found), "it stays the same finding, since the same moment");
    assert_eq!(world.look(), []);
}

#[test]
fn windows_without_room_hold_up_no_partition() {
    let mut world = World::at_rest();
    world.look();
    world.pipeline().without_room += 1;
    let findings = super::super::Findings::default();
    findings.set(world.look(), std::collections::HashMap::new());
    assert_eq!(findings.all().len(), 1);
    assert_eq!(findings.of_partition("orders", "orders-topic", 0), None);
}

#[test]
fn the_page_on_troubleshooting_has_every_cause_and_no_other() {
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    // A word that is no cause is refused with all that are.
    let refused = serde_json::from_str::<Cause>("\"none of them\"").unwrap_err().to_string();
    let (_, causes) = refused.split_once("expected one of ").unwrap();
    let page = include_str!("../../../../docs/troubleshooting.md");
    let (_, section) = page.split_once("## Standing still, by cause").unwrap();
    let rows = section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> = rows.flat_map(|row| quoted(row.split('|').nth(1).unwrap())).collect();
    assert_eq!(documented, quoted(causes));
}
