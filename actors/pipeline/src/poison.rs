//! Finding the records of a batch that end whoever processes them.
//!
//! A batch that has ended an incarnation is tried record by record: one that panics alone has failed twice and is set
//! aside. What is known stays with the batch, so that the next incarnation also knows of a record that was tried and
//! never came back. Records that fail only together, in three more attempts, are all set aside: the partition goes on,
//! and their bytes are kept as dead letters.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use streamward_core::decode::MAX_REASON_BYTES;
use streamward_kit::{CaughtPanic, catch};

/// Failed attempts with all that was found set aside, after which the whole batch is.
const ATTEMPTS_TOGETHER: u32 = 3;

/// A record that is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    pub offset: i64,
    /// What it did, at most 1 KiB.
    pub reason: Arc<str>,
}

/// What is known of the records of one batch; lasts until it is processed.
#[derive(Debug, Default)]
pub struct Trials(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By index in the batch.
    found: BTreeMap<usize, Arc<str>>,
    /// Tried now, or by an incarnation that never came back from it.
    trying: Option<usize>,
    /// All were tried one by one.
    is_complete: bool,
    /// Attempts with all records together since then.
    together: u32,
}

impl Trials {
    /// What is found so far.
    fn found(&self, offset: impl Fn(usize) -> i64) -> Arc<[Poison]> {
        let known = self.0.lock();
        known.found.iter().map(|(index, reason)| Poison { offset: offset(*index), reason: reason.clone() }).collect()
    }

    /// Begins the search of another incarnation; false if there is nothing more to search.
    fn resume(&self, records: usize) -> bool {
        let mut known = self.0.lock();
        if let Some(index) = known.trying.take() {
            known.found.insert(index, Arc::from("processing it alone did not end in time"));
        }
        if !known.is_complete {
            return true;
        }
        known.together += 1;
        if known.together >= ATTEMPTS_TOGETHER {
            let why: Arc<str> =
                Arc::from("processing ended the actor again and again, though no record of the batch did alone");
            for index in 0..records {
                known.found.entry(index).or_insert_with(|| why.clone());
            }
        }
        false
    }
}

/// The search through one batch.
pub struct Hunt<'a, S> {
    pub trials: &'a Trials,
    pub records: usize,
    /// State before the batch.
    pub state: &'a S,
}

impl<S: Clone> Hunt<'_, S> {
    /// Tries each record with `step`, which changes the state as processing does; `pause` is waited for before each one,
    /// and ends the search where it says so.
    pub async fn run<P: AsyncFnMut(usize) -> Option<G>, G>(
        &self,
        offset: impl Fn(usize) -> i64,
        mut pause: P,
        mut step: impl FnMut(&mut S, usize),
    ) -> Option<Arc<[Poison]>> {
        if !self.trials.resume(self.records) {
            return Some(self.trials.found(offset));
        }
        // A panic may leave a state half changed: the spare one takes only steps that have gone well.
        let (mut state, mut spare) = (self.state.clone(), self.state.clone());
        for index in 0..self.records {
            if self.trials.0.lock().found.contains_key(&index) {
                continue;
            }
            let _in_hand = pause(index).await?;
            self.trials.0.lock().trying = Some(index);
            let tried = catch(|| step(&mut state, index));
            let mut known = self.trials.0.lock();
            known.trying = None;
            match tried {
                Ok(()) => {
                    drop(known);
                    step(&mut spare, index);
                }
                Err(panic) => {
                    let reason = reason(&panic, known.found.is_empty());
                    known.found.insert(index, reason);
                    state = spare.clone();
                }
            }
        }
        self.trials.0.lock().is_complete = true;
        Some(self.trials.found(offset))
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
    use super::*;

    /// Runs a hunt over records whose step adds one to the state; `None` as the pause's answer ends it at that record.
    fn hunt(trials: &Trials, ends_at: Option<usize>, step: impl FnMut(&mut u32, usize)) -> Option<Vec<i64>> {
        let hunt = Hunt { trials, records: 6, state: &0_u32 };
        let offset = |index: usize| 100 + i64::try_from(index).unwrap();
        let search = hunt.run(offset, async |index| (Some(index) != ends_at).then_some(()), step);
        let found = futures_util::FutureExt::now_or_never(search).expect("nothing to wait for");
        found.map(|found| found.iter().map(|poison| poison.offset).collect())
    }

    #[test]
    fn each_record_that_panics_is_found_with_its_reason() {
        let trials = Trials::default();
        let found = hunt(&trials, None, |_, index| assert!(![1, 4].contains(&index), "no {index}"));
        assert_eq!(found, Some(vec![101, 104]));
        let reasons = trials.found(|_| 0);
        assert!(
            reasons[0].reason.contains("this record alone: no 1, at actors/pipeline/src/poison.rs:"),
            "{reasons:?}"
        );
        assert!(reasons.iter().all(|poison| poison.reason.len() <= MAX_REASON_BYTES));
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
        trials.0.lock().trying = Some(2);
        assert_eq!(hunt(&trials, None, |_, index| assert_ne!(index, 2, "not tried again")), Some(vec![102]));
    }

    #[test]
    fn an_interrupted_search_blames_nobody() {
        let trials = Trials::default();
        assert_eq!(hunt(&trials, Some(3), |_, _| ()), None);
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
}
