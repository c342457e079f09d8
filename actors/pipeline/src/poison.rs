//! Finding the records that end whoever processes them.
//!
//! A batch that has ended an incarnation is tried record by record: one that panics alone has failed twice and is set
//! aside. What is known is kept per pipeline, by offset, so that the next incarnation, or the next assignment, also
//! knows of a record that was tried and never came back. Records that fail only together, in three more attempts, are
//! all set aside: the partition goes on, and their bytes are kept as dead letters.

use std::{
    collections::BTreeMap,
    ops::{AsyncFnMut, Range},
    sync::Arc,
};

use parking_lot::Mutex;
use streamward_core::{decode::MAX_REASON_BYTES, output::DeadLetter};
use streamward_kit::{CaughtPanic, catch};

/// Failed attempts with all that was found set aside, after which the whole batch is.
const ATTEMPTS_TOGETHER: u32 = 3;
/// Records remembered per partition; the oldest are forgotten, and would be found again.
const MAX_FOUND: usize = 16_384;

/// A record that is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    pub offset: i64,
    /// What it did, at most 1 KiB.
    pub reason: Arc<str>,
}

/// The records that are dead letters, of which `aside` have been set aside.
pub fn all_of(dead: &[DeadLetter], aside: Arc<[Poison]>) -> Arc<[Poison]> {
    if dead.len() == aside.len() {
        return aside;
    }
    let reason: Arc<str> = Arc::from("");
    dead.iter().map(|letter| Poison { offset: letter.offset, reason: reason.clone() }).collect()
}

/// What is known of the records of one pipeline, by partition.
#[derive(Debug, Default)]
pub struct Trials(Mutex<BTreeMap<i32, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Number of the log that it is known of.
    log: i64,
    found: BTreeMap<i64, Arc<str>>,
    /// Processed now, or by an incarnation that never came back from it.
    begun: Option<Range<i64>>,
    /// Tried by itself now, or by an incarnation that never came back from it.
    trying: Option<i64>,
    /// A batch of which each record was tried, and how often all together since then.
    searched: Option<(Range<i64>, u32)>,
}

impl Known {
    fn find(&mut self, offset: i64, reason: Arc<str>) {
        self.found.insert(offset, reason);
        if self.found.len() > MAX_FOUND {
            self.found.pop_first();
        }
    }

    fn within(&self, batch: Range<i64>) -> Arc<[Poison]> {
        let found = self.found.range(batch);
        found.map(|(offset, reason)| Poison { offset: *offset, reason: reason.clone() }).collect()
    }
}

impl Trials {
    /// Forgets what is known of another log of the partition: its offsets mean other records.
    pub fn of_log(&self, partition: i32, log: i64) {
        let mut known = self.0.lock();
        let known = known.entry(partition).or_default();
        if known.log != log {
            *known = Known { log, ..Known::default() };
        }
    }

    /// Whether an incarnation never came back from records of this batch.
    pub fn is_suspect(&self, partition: i32, batch: &Range<i64>) -> bool {
        let known = self.0.lock();
        let begun = known.get(&partition).and_then(|known| known.begun.as_ref());
        begun.is_some_and(|begun| begun.start < batch.end && batch.start < begun.end)
    }

    /// The records of a batch that are set aside.
    pub fn found(&self, partition: i32, batch: &Range<i64>) -> Arc<[Poison]> {
        self.0.lock().get(&partition).map_or_else(|| Arc::from([]), |known| known.within(batch.clone()))
    }

    /// Processing of a batch begins.
    pub fn begin(&self, partition: i32, batch: &Range<i64>) {
        self.0.lock().entry(partition).or_default().begun = Some(batch.clone());
    }

    /// It has come to an end.
    pub fn end(&self, partition: i32, batch: &Range<i64>) {
        if let Some(known) = self.0.lock().get_mut(&partition).filter(|known| known.begun.as_ref() == Some(batch)) {
            known.begun = None;
        }
    }
}

/// The search through one batch.
pub struct Hunt<'a, S> {
    pub trials: &'a Trials,
    pub partition: i32,
    pub batch: Range<i64>,
    /// Offsets of its records, ascending.
    pub offsets: Vec<i64>,
    /// State before the batch.
    pub state: &'a S,
}

impl<S: Clone> Hunt<'_, S> {
    /// Tries each record with `step`, which takes its index and changes the state as processing does. `hold` is waited
    /// for before each one, and ends the search where it gives nothing.
    pub async fn run<G>(
        &self,
        mut hold: impl AsyncFnMut(i64) -> Option<G>,
        mut step: impl FnMut(&mut S, usize),
    ) -> Option<Arc<[Poison]>> {
        if self.resume() {
            // A panic may leave a state half changed: the spare one takes only steps that have gone well.
            let (mut state, mut spare) = (self.state.clone(), self.state.clone());
            for (index, offset) in self.offsets.iter().enumerate() {
                if self.known(|known| known.found.contains_key(offset)) {
                    continue;
                }
                let _in_hand = hold(*offset).await?;
                self.known(|known| known.trying = Some(*offset));
                let tried = catch(|| step(&mut state, index));
                self.known(|known| known.trying.take_if(|trying| trying == offset));
                match tried {
                    Ok(()) => step(&mut spare, index),
                    Err(panic) => {
                        let is_first = self.known(|known| known.within(self.batch.clone()).is_empty());
                        let reason = reason(&panic, is_first);
                        self.known(|known| known.find(*offset, reason));
                        state = spare.clone();
                    }
                }
            }
            self.known(|known| known.searched = Some((self.batch.clone(), 0)));
        }
        Some(self.trials.found(self.partition, &self.batch))
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(self.trials.0.lock().entry(self.partition).or_default())
    }

    /// Begins the search of another incarnation; false if there is nothing more to search.
    fn resume(&self) -> bool {
        self.known(|known| {
            if let Some(offset) = known.trying.take() {
                known.find(offset, Arc::from("processing it alone did not end in time"));
            }
            let Some((_, together)) = known.searched.as_mut().filter(|(batch, _)| *batch == self.batch) else {
                return true;
            };
            *together += 1;
            if *together >= ATTEMPTS_TOGETHER {
                let why: Arc<str> =
                    Arc::from("processing ended the actor again and again, though no record of the batch did alone");
                for offset in &self.offsets {
                    known.found.entry(*offset).or_insert_with(|| why.clone());
                }
            }
            false
        })
    }
}

/// What a dead letter says; frames are resolved for one record of a batch, since that takes time.
fn reason(panic: &CaughtPanic, with_frames: bool) -> Arc<str> {
    let mut text = format!("processing panicked twice, the second time with this record alone: {}", panic.message);
    if let Some(location) = &panic.location {
        text.push_str(&format!(", at {location}"));
    }
    if let Some(frames) = panic.backtrace_head().filter(|_| with_frames) {
        text.push('\n');
        text.push_str(&frames);
    }
    text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
    text.into()
}

#[cfg(test)]
mod tests {
    use streamward_kit::{Runtime, SupervisorSpec};

    use super::*;

    /// Runs a hunt over records 100 to 105 whose steps may change the state; it is interrupted before `ends_at`.
    fn hunt(trials: &Trials, ends_at: Option<i64>, step: impl FnMut(&mut u32, usize)) -> Option<Vec<i64>> {
        let (partition, batch, offsets) = (7, 100..106, (100..106).collect());
        let hunt = Hunt { trials, partition, batch, offsets, state: &0_u32 };
        let search = hunt.run(async |offset| (Some(offset) != ends_at).then_some(()), step);
        let found = futures_util::FutureExt::now_or_never(search).expect("nothing to wait for");
        found.map(|found| found.iter().map(|poison| poison.offset).collect())
    }

    /// Lets the place of a panic be known, as it is once anything is supervised.
    fn watch_panics() {
        crate::fakes::on_a_system(async {
            let runtime = Runtime::start(SupervisorSpec::new("root")).unwrap();
            runtime.shutdown(Vec::new()).await;
        });
    }

    #[test]
    fn each_record_that_panics_is_found_with_its_reason() {
        watch_panics();
        let trials = Trials::default();
        let found = hunt(&trials, None, |_, index| assert!(![1, 4].contains(&index), "no {index}"));
        assert_eq!(found, Some(vec![101, 104]));
        let reasons = trials.found(7, &(0..1_000));
        assert!(
            reasons[0].reason.contains("this record alone: no 1, at actors/pipeline/src/poison.rs:"),
            "{reasons:?}"
        );
        assert!(reasons.iter().all(|poison| poison.reason.len() <= MAX_REASON_BYTES));
        assert_eq!(trials.found(7, &(102..104)), Arc::from([]));
        assert_eq!(trials.found(8, &(0..1_000)), Arc::from([]));
    }

    #[test]
    fn a_record_is_tried_after_those_before_it_and_without_those_set_aside() {
        let mut seen = Vec::new();
        let found = hunt(&Trials::default(), None, |state, index| {
            seen.push((index, *state));
            *state += 1;
            assert!(*state != 3, "the third healthy one is poison");
        });
        // Every record from the third on is the third healthy one.
        assert_eq!(found, Some(vec![102, 103, 104, 105]));
        assert!(seen.iter().all(|(index, state)| *state as usize == (*index).min(2)), "{seen:?}");
    }

    #[test]
    fn a_record_that_does_not_come_back_is_known_to_the_next_incarnation() {
        let trials = Trials::default();
        trials.0.lock().entry(7).or_default().trying = Some(102);
        assert_eq!(hunt(&trials, None, |_, index| assert_ne!(index, 2, "not tried again")), Some(vec![102]));
    }

    #[test]
    fn an_interrupted_search_blames_nobody() {
        let trials = Trials::default();
        assert_eq!(hunt(&trials, Some(103), |_, _| ()), None);
        assert_eq!(hunt(&trials, None, |_, _| ()), Some(Vec::new()));
    }

    #[test]
    fn records_that_fail_only_together_are_set_aside_in_the_end() {
        let trials = Trials::default();
        let search = || hunt(&trials, None, |_, index| assert!(index != 0)).unwrap();
        assert_eq!(search(), [100]);
        for _ in 1..ATTEMPTS_TOGETHER {
            assert_eq!(search(), [100], "another attempt");
        }
        assert_eq!(search(), [100, 101, 102, 103, 104, 105]);
    }

    #[test]
    fn a_batch_from_which_nobody_came_back_is_suspect_however_it_is_cut_the_next_time() {
        let trials = Trials::default();
        trials.begin(7, &(100..200));
        assert!(trials.is_suspect(7, &(199..300)) && trials.is_suspect(7, &(0..101)));
        assert!(!trials.is_suspect(7, &(200..300)) && !trials.is_suspect(7, &(0..100)));
        assert!(!trials.is_suspect(8, &(100..200)));
        trials.end(7, &(100..150));
        assert!(trials.is_suspect(7, &(100..200)), "another batch has ended");
        trials.end(7, &(100..200));
        assert!(!trials.is_suspect(7, &(100..200)));
    }

    #[test]
    fn a_batch_is_searched_though_another_one_was_before() {
        let trials = Trials::default();
        trials.0.lock().entry(7).or_default().searched = Some((0..100, 0));
        assert_eq!(hunt(&trials, None, |_, index| assert_ne!(index, 2)), Some(vec![102]));
    }

    #[test]
    fn what_a_panic_says_is_cut_to_the_size_of_a_reason() {
        let trials = Trials::default();
        hunt(&trials, None, |_, index| assert!(index > 1, "{}", "é".repeat(MAX_REASON_BYTES)));
        let lens: Vec<_> = trials.found(7, &(0..1_000)).iter().map(|poison| poison.reason.len()).collect();
        assert!(lens.len() == 2 && lens.iter().all(|len| (MAX_REASON_BYTES - 1..=MAX_REASON_BYTES).contains(len)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        (0..20_000).for_each(|offset| known.find(offset, Arc::from("")));
        assert_eq!((known.found.len(), known.found.keys().next()), (MAX_FOUND, Some(&3_616)));
    }
}
