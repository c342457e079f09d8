//! The lane role: decode, run the steps, hand the effects to the sink and the rows to the live hub.
//!
//! Receives [`Work`], sends [`Store`]. Its working state is a copy: a new incarnation rebuilds it from the slots. A batch
//! that ended an incarnation is tried record by record on the second attempt (see [`crate::poison`]); one that fails alone
//! becomes a dead letter of class poison, and the others go on.

#[cfg(test)]
mod duties;
#[cfg(test)]
mod endings;
mod replay;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod unfinished;
mod working;

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use streamward_core::{
    batch::RawBatch, decode::Decoder, output::Output, partition::ProcessError, steps::window::LONGEST,
};
use streamward_kit::{Delivery, Failure, HandGuard, Inbox, Outlet, Scope};

use crate::{
    live::LiveChannel,
    logs::{LogIdentity, Logs},
    messages::{Store, Work},
    poison::{self, Hunt, Poison, Trials},
    ports::{Clock, SchemaSource},
    slot::{Issued, PartitionSlot, Since, Slots},
    steps::{self, Stage},
    store::Pending,
};
use working::Working;

/// How often partitions at rest and due checkpoints are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Wait before a registry or cluster that did not answer is asked again; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Records tried by themselves before other lanes of the thread have their turn.
const YIELD_EVERY: usize = 32;

/// Everything a lane needs; shared by its incarnations.
pub struct LaneShared {
    pub stage: Stage,
    pub slots: Arc<Slots>,
    pub inbox: Inbox<Work>,
    pub sink: Outlet<Arc<Store>>,
    pub live: LiveChannel,
    pub schemas: Arc<dyn SchemaSource>,
    pub logs: Arc<dyn Logs>,
    pub clock: Arc<dyn Clock>,
    pub settings: LaneSettings,
    /// What is known of records that end whoever processes them.
    pub trials: Trials,
    /// Which lane this is, of how many: partitions are dealt by number.
    pub index: (usize, usize),
}

/// Times of a lane.
#[derive(Debug, Clone)]
pub struct LaneSettings {
    pub idle_after: Duration,
    pub checkpoint_every: Duration,
}

impl LaneSettings {
    /// Of [`Self::idle_after`].
    pub const IDLE_AFTER: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;
    /// Of [`Self::checkpoint_every`]: a process that starts again replays what came after.
    pub const CHECKPOINT_EVERY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
}

/// Runs one incarnation of a lane.
///
/// # Errors
/// On an injected error, or when the sink is gone.
pub async fn run(scope: Scope, shared: Arc<LaneShared>) -> Result<(), Failure> {
    let mut lane = Lane { decoder: shared.stage.decoder(), working: HashMap::new(), confirmed: None, scope, shared };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let shared = lane.shared.clone();
    loop {
        tokio::select! {
            delivery = shared.inbox.recv(&lane.scope) => match delivery {
                Some(delivery) => lane.take(delivery).await?,
                None => break,
            },
            _ = tick.tick() => lane.tick(false).await?,
        }
    }
    lane.tick(true).await
}

struct Lane {
    scope: Scope,
    shared: Arc<LaneShared>,
    decoder: Decoder,
    working: HashMap<i32, Working>,
    /// What the topic was at that moment or later: records of that log that were read before are its own.
    confirmed: Option<(LogIdentity, Instant)>,
}

/// The output of a batch, and all its dead letters.
type Processed = (Output, Arc<[Poison]>);

/// Whether the records of a batch are of the log that their slot was assigned for.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Same,
    /// The topic was made anew: whose they are cannot be told.
    Other,
    /// The lane is to stop before the cluster has said it.
    Unknown,
}

impl Lane {
    async fn take(&mut self, delivery: Delivery<Work>) -> Result<(), Failure> {
        let work: &Work = &delivery;
        if work.slot.is_revoked() {
            self.working.remove(&work.slot.key.partition);
            delivery.commit();
            return Ok(());
        }
        if work.slot.processed() >= work.end {
            // The lost incarnation had issued it and ended before it could say so.
            delivery.commit();
            return Ok(());
        }
        let in_hand = self.hold(work);
        self.scope.fault_point("process").await?;
        match self.origin(work).await {
            Origin::Same => {}
            Origin::Other => {
                work.slot.revoke();
                self.working.remove(&work.slot.key.partition);
                delivery.commit();
                return Ok(());
            }
            Origin::Unknown => return Ok(()),
        }
        self.shared.trials.of_log(work.slot.key.partition, work.slot.log);
        if !self.rebuild(&work.slot).await? || !self.learn_schemas(&work.batch).await {
            return Ok(());
        }
        let (trials, partition, batch) = (&self.shared.trials, work.slot.key.partition, work.start..work.end);
        let is_suspect = delivery.attempt() > 0 || trials.is_suspect(partition, &batch);
        let (found, _in_hand) = if is_suspect {
            // Each record is held by itself meanwhile, so that one that stalls is known.
            drop(in_hand);
            let Some(found) = self.search(work).await? else { return Ok(()) };
            (found, self.hold(work))
        } else {
            (trials.found(partition, &batch), in_hand)
        };
        let Some((output, dead)) = self.process(work, found)? else { return Ok(()) };
        if self.issue(work, output, dead).await? {
            self.scope.progress(work.batch.len() as u64);
        }
        delivery.commit();
        Ok(())
    }

    /// Asks the cluster, unless it was asked after the batch was read, and waits while it does not answer.
    async fn origin(&mut self, work: &Work) -> Origin {
        let of = &work.slot.identity;
        let is_known = |(log, at): &(LogIdentity, Instant)| log.is_same(of) && *at >= work.read_by;
        if self.confirmed.as_ref().is_some_and(is_known) {
            return Origin::Same;
        }
        let asked = self.ask(
            "kafka",
            async || self.shared.logs.ask(&work.slot.key.topic).await,
            |reason| {
                let topic = &work.slot.key.topic;
                format!("Kafka does not say whether topic {topic} is still the same: {reason}: the partition waits")
            },
        );
        match asked.await {
            None => Origin::Unknown,
            Some(told) if told.log.as_ref().is_some_and(|log| !log.is_same(of)) => Origin::Other,
            Some(told) => {
                self.confirmed = Some((of.clone(), told.asked_at));
                Origin::Same
            }
        }
    }

    fn hold(&self, work: &Work) -> HandGuard {
        self.scope.in_hand_record(format!("{} records", work.batch.len()), work.culprit(work.start))
    }

    /// Makes the working state of a partition from its slot, unless this incarnation has it. False if the lane is to stop
    /// first.
    async fn rebuild(&mut self, slot: &Arc<PartitionSlot>) -> Result<bool, ProcessError> {
        let partition = slot.key.partition;
        if self.working.get(&partition).is_some_and(|working| Arc::ptr_eq(&working.slot, slot)) {
            return Ok(true);
        }
        let rebuild = slot.take_over(self.scope.generation());
        let mut state = rebuild.snapshot;
        for since in &rebuild.since {
            if !self.learn_schemas(&since.batch).await {
                return Ok(false);
            }
            let (stage, decoder) = (&self.shared.stage, &mut self.decoder);
            let input = stage.decode(decoder, &since.batch, since.start..since.end, &since.dead);
            stage.run(&mut state, &input, i64::MAX)?;
        }
        self.working.insert(partition, Working::new(slot.clone(), state));
        Ok(true)
    }

    /// Finds the records of a batch that end an incarnation; none if the lane is to stop first.
    async fn search(&mut self, work: &Work) -> Result<Option<Arc<[Poison]>>, Failure> {
        let (stage, decoder, scope) = (&self.shared.stage, &mut self.decoder, &self.scope);
        let Some(working) = self.working.get(&work.slot.key.partition) else { return Ok(None) };
        let mut held = 0_usize;
        let hold = async |offset: i64| {
            held += 1;
            if held.is_multiple_of(YIELD_EVERY) {
                tokio::task::yield_now().await;
            }
            let culprit = work.culprit(offset);
            (!scope.must_stop()).then(|| scope.in_hand_record("a record by itself", culprit))
        };
        let hunt = Hunt {
            trials: &self.shared.trials,
            partition: work.slot.key.partition,
            batch: work.start..work.end,
            offsets: work.batch.iter().map(|record| record.offset()).collect(),
            state: &working.state,
        };
        let found = hunt.run(hold, |state, index| {
            let input = stage.decode_range(decoder, &work.batch, index..index + 1);
            // A batch that comes again says nothing about the record.
            let _rewound = stage.run(state, &input, i64::MAX);
        });
        let found = found.await;
        if let Some(first) = found.as_deref().and_then(<[Poison]>::first) {
            scope.blame(work.culprit(first.offset));
        }
        Ok(found)
    }

    /// Fetches the schemas of ids that the decoder has not met, and waits while the registry does not answer: its
    /// silence says nothing about a record. False if the lane is to stop first.
    async fn learn_schemas(&mut self, batch: &RawBatch) -> bool {
        let ids = self.decoder.unresolved_ids(batch);
        if ids.is_empty() {
            return true;
        }
        let found = self.ask(
            "registry",
            async || self.shared.schemas.schemas(&ids).await,
            |reason| format!("the registry does not answer: {reason}: the partition waits"),
        );
        let Some(schemas) = found.await else { return false };
        for (id, schema) in ids.into_iter().zip(schemas) {
            self.shared.stage.learn(&mut self.decoder, id, schema);
        }
        true
    }

    /// Asks until there is an answer, and says meanwhile why the partition waits; none if the lane is to stop first.
    async fn ask<T, E>(
        &self,
        whom: &'static str,
        mut question: impl AsyncFnMut() -> Result<T, E>,
        note: impl Fn(E) -> String,
    ) -> Option<T> {
        let _waiting = self.scope.waiting_on(whom);
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = tokio::select! {
                biased;
                () = self.scope.stopping_now() => return None,
                answer = question() => answer,
            };
            match answer {
                Ok(answer) => {
                    self.scope.clear_state_note();
                    return Some(answer);
                }
                Err(reason) => self.scope.set_state_note(&note(reason)),
            }
            // Also while draining: what is queued is to be finished.
            tokio::select! {
                () = self.scope.stopping_now() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs the steps over the records of a batch that are not set aside.
    fn process(&mut self, work: &Work, found: Arc<[Poison]>) -> Result<Option<Processed>, ProcessError> {
        let (stage, decoder) = (&self.shared.stage, &mut self.decoder);
        let Some(working) = self.working.get_mut(&work.slot.key.partition) else { return Ok(None) };
        let (trials, partition, batch) = (&self.shared.trials, work.slot.key.partition, work.start..work.end);
        trials.begin(partition, &batch);
        let aside = replay::set_aside(&working.state, &work.batch, found);
        let input = stage.decode(decoder, &work.batch, batch.clone(), &aside);
        replay::warn_of_lost(&working.state, &input, &work.slot.key);
        let output = stage.run(&mut working.state, &input, work.slot.emit_from);
        if !self.scope.is_fenced() {
            trials.end(partition, &batch);
        }
        Ok(Some((output?, poison::all_of(&input.dead, aside))))
    }

    /// Gives the output to the sink and moves the slot behind the batch; false where the partition is no longer ours.
    async fn issue(&mut self, work: &Work, mut output: Output, dead: Arc<[Poison]>) -> Result<bool, Failure> {
        let slot = work.slot.clone();
        let Some(working) = self.working.get_mut(&slot.key.partition) else { return Ok(false) };
        let emits = output.end > slot.emit_from;
        working.after_batch(&self.shared.settings, &mut output);
        if self.shared.live.has_subscribers() {
            let now_ms = self.shared.clock.now_ms();
            steps::publish(&self.shared.live, &self.shared.stage, (&output, slot.log), now_ms);
        }
        output.unstored = None;
        let store = self.pending(&slot, output, Some(work.batch.clone()));
        let done = Since { batch: work.batch.clone(), start: work.start, end: work.end, dead };
        let generation = self.scope.generation();
        loop {
            let working = &self.working[&slot.key.partition];
            let issued = slot.issue(generation, done.clone(), &working.state, || {
                !emits || self.shared.sink.try_send(store.clone()).is_ok()
            });
            match issued {
                Issued::Yes => {
                    note_checkpoint(&store);
                    return Ok(true);
                }
                Issued::Fenced => {
                    self.working.remove(&slot.key.partition);
                    if slot.is_revoked() {
                        return Ok(false);
                    }
                    // Dropping it would leave all that follows without a beginning.
                    return Err(Failure::new(format_args!(
                        "records from {} do not follow what was processed",
                        work.start
                    )));
                }
                Issued::Full => self.wait_for_sink(&store).await?,
            }
        }
    }

    /// Emits windows of partitions at rest and due checkpoints, also where this incarnation has seen no record of the
    /// partition; `last` makes a checkpoint of everything.
    async fn tick(&mut self, last: bool) -> Result<(), Failure> {
        let now_ms = self.shared.clock.now_ms();
        self.decoder.forget_missing();
        let (index, lanes) = self.shared.index;
        for slot in self.shared.slots.all() {
            let partition = slot.key.partition;
            // A log that was compacted may hold nothing up to the stored position any more.
            let is_settled = slot.processed() >= slot.emit_from || slot.is_caught_up();
            if usize::try_from(partition).unwrap_or(0) % lanes != index || slot.is_revoked() || !is_settled {
                continue;
            }
            if !self.rebuild(&slot).await? {
                return Ok(());
            }
            let Some(working) = self.working.get_mut(&partition) else { continue };
            let (plan, settings) = (&self.shared.stage.spec.plan, &self.shared.settings);
            let Some(output) = working.due(plan, settings, now_ms, last) else { continue };
            let store = self.pending(&slot, output, None);
            let generation = self.scope.generation();
            loop {
                let state = &self.working[&partition].state;
                let issued = slot.issue_tick(generation, state, || self.shared.sink.try_send(store.clone()).is_ok());
                match issued {
                    Issued::Yes => {
                        note_checkpoint(&store);
                        break;
                    }
                    Issued::Fenced => break,
                    Issued::Full => self.wait_for_sink(&store).await?,
                }
            }
        }
        Ok(())
    }

    fn pending(&self, slot: &Arc<PartitionSlot>, output: Output, raw: Option<Arc<RawBatch>>) -> Arc<Store> {
        let (key, beside) = (slot.key.clone(), Vec::new());
        let pending = Pending { key, epoch: slot.epoch, log: slot.log, output, beside, raw };
        Arc::new(Store { slot: slot.clone(), pending: Arc::new(pending) })
    }

    async fn wait_for_sink(&self, store: &Arc<Store>) -> Result<(), Failure> {
        let _waiting = self.scope.waiting_on_inbox("sink", &self.shared.sink);
        tokio::select! {
            () = self.shared.sink.room_for(store) => Ok(()),
            () = self.scope.stopping_now() => Err(Failure::new("stopped while the sink is full")),
        }
    }
}

fn note_checkpoint(issued: &Store) {
    let output = &issued.pending.output;
    if !output.checkpoint.is_empty() {
        issued.slot.note_checkpoint(output.end);
    }
}
