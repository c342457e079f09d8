//! What a lane does with a batch that it must not process, or cannot yet.

use std::sync::atomic::{AtomicUsize, Ordering};

use streamward_kit::{ChildPolicy, ChildSpec, Runtime, SupervisorSpec, TreeNode};

use super::{
    tests::{shared, six_orders, stage},
    *,
};
use crate::{
    fakes::on_a_system,
    live::SubscriptionLimits,
    logs::{Told, tests::OneTopic},
    slot,
    store::BoxFuture,
};

/// A lane with a slot for partition 0, and its sink.
fn parts(stage: impl FnOnce(&Arc<PartitionSlot>) -> Stage) -> (LaneShared, Arc<PartitionSlot>, Inbox<Arc<Store>>) {
    let slots = Arc::new(Slots::default());
    let slot = slots.assign(slots.begin_reading(), slot::tests::start(0)).unwrap();
    let sink: Inbox<Arc<Store>> = Inbox::new("outputs", 4);
    (shared(stage(&slot), slots, Arc::new(OneTopic::named("first")), &sink), slot, sink)
}

/// Lets a lane have six orders until its inbox is empty or `is_enough` of it; the lane then.
fn given(parts: LaneShared, slot: Arc<PartitionSlot>, is_enough: impl Fn(&TreeNode) -> bool) -> TreeNode {
    let (inbox, parts) = (parts.inbox.clone(), Arc::new(parts));
    on_a_system(async {
        let lane = ChildSpec::role("lane", "lane", move |scope| run(scope, parts.clone())).inbox(&inbox);
        let lane = lane.policy(ChildPolicy::permanent());
        let runtime = Runtime::start(SupervisorSpec::new("root").child(lane)).unwrap();
        let work = Work { slot, batch: six_orders(), start: 0, end: 6, read_by: Instant::now() };
        inbox.outlet().send(work).await.unwrap_or_else(|_| panic!("closed"));
        let look = || runtime.snapshot().find("lane").unwrap().clone();
        tokio::select! {
            () = inbox.drained() => {}
            () = runtime.until(|| is_enough(&look())) => {}
        }
        let lane = look();
        runtime.shutdown(Vec::new()).await;
        lane
    })
}

#[test]
fn nobody_sees_records_of_a_partition_that_was_revoked_before_they_were_processed() {
    let (parts, slot, sink) = parts(|_| stage(|_| {}));
    let mut watches = parts.live.subscribe(SubscriptionLimits::default());
    slot.revoke();
    given(parts, slot, |_| false);
    assert_eq!((watches.try_recv(), sink.figures().depth), (None, 0));
}

#[test]
fn a_partition_that_is_revoked_while_a_batch_is_processed_ends_no_lane() {
    let (parts, slot, sink) = parts(|slot| {
        let slot = slot.clone();
        stage(move |_| slot.revoke())
    });
    let lane = given(parts, slot, |lane| lane.last_exit.is_some());
    assert_eq!((lane.last_exit.map(|exit| exit.message), sink.figures().depth), (None, 0));
    assert_eq!(lane.processed, 0, "its next owner processes them");
}

/// A cluster that answers questions about topics from some question on.
struct Answers {
    from: usize,
    asked: AtomicUsize,
}

impl Answers {
    fn from(from: usize) -> Arc<Self> {
        Arc::new(Self { from, asked: AtomicUsize::new(0) })
    }
}

impl Logs for Answers {
    fn ask<'a>(&'a self, _: &'a Arc<str>) -> BoxFuture<'a, Result<Told, String>> {
        let answers = self.asked.fetch_add(1, Ordering::SeqCst) >= self.from;
        let told = Told { log: Some(slot::tests::start(0).identity), asked_at: Instant::now() };
        Box::pin(async move { if answers { Ok(told) } else { Err("no broker".to_owned()) } })
    }

    fn last_told(&self, _: &Arc<str>) -> Option<LogIdentity> {
        None
    }
}

#[test]
fn records_whose_topic_nobody_tells_wait_and_are_left_when_the_lane_ends() {
    let (mut parts, slot, sink) = parts(|_| stage(|_| {}));
    parts.logs = Answers::from(usize::MAX);
    let inbox = parts.inbox.clone();
    let lane = given(parts, slot.clone(), |lane| lane.note.is_some());
    assert!(lane.note.unwrap().contains("no broker: the partition waits"));
    assert_eq!((slot.processed(), sink.figures().depth), (0, 0));
    assert_eq!((inbox.figures().committed, inbox.figures().depth + inbox.figures().in_hand), (0, 1));
}

#[test]
fn a_lane_whose_cluster_answers_again_does_not_say_any_more_that_it_waits() {
    let (mut parts, slot, _sink) = parts(|_| stage(|_| {}));
    parts.logs = Answers::from(1);
    let lane = given(parts, slot.clone(), |_| false);
    assert_eq!((lane.note, slot.processed()), (None, 6));
}
