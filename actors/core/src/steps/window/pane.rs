//! One window of one partition: its groups and their running aggregates.

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::{
    accumulate::{Accumulators, Emission, Input, Placed},
    keys::{decode, hash},
    plan::WindowPlan,
};
use crate::{output::WindowRow, schema::Scalar};

/// The groups of one window, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(super) struct Pane {
    body: PaneBody,
    hashes: Vec<u64>,
    table: HashTable<u32>,
}

/// What a checkpoint keeps of a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PaneBody {
    /// Keys of all groups, one behind the other.
    keys: Vec<u8>,
    /// Where each group's key ends.
    ends: Vec<u64>,
    /// Revision that each group's next row gets.
    revisions: Vec<i64>,
    /// Whether the group changed since its last row.
    changed: Vec<bool>,
    accumulators: Vec<Accumulators>,
}

impl PaneBody {
    /// Whether a group has records that are in no row yet.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.contains(&true)
    }
}

impl Pane {
    pub(super) fn new(plan: &WindowPlan) -> Self {
        let accumulators = plan.outputs.iter().map(Accumulators::new).collect();
        Self { body: PaneBody { accumulators, ..PaneBody::default() }, ..Self::default() }
    }

    /// Takes up a checkpoint; none if it does not hold together or belongs to another plan.
    pub(super) fn restore(plan: &WindowPlan, body: PaneBody) -> Option<Self> {
        let groups = body.ends.len();
        let ascending = body.ends.is_sorted() && body.ends.last().copied().unwrap_or(0) == body.keys.len() as u64;
        let complete = body.revisions.len() == groups
            && body.changed.len() == groups
            && body.accumulators.len() == plan.outputs.len()
            && body.accumulators.iter().zip(&plan.outputs).all(|(state, output)| state.fits(output))
            && body.accumulators.iter().all(|state| state.len() == groups);
        if !ascending || !complete {
            return None;
        }
        let mut pane = Self { body, hashes: Vec::with_capacity(groups), table: HashTable::with_capacity(groups) };
        for group in 0..groups {
            let key = pane.key(group);
            decode(key, plan.group.iter().map(|(_, kind)| kind.clone()))?;
            let hash = hash(key);
            if pane.find(hash, key).is_some() {
                return None;
            }
            pane.remember(hash, u32::try_from(group).ok()?);
        }
        Some(pane)
    }

    pub(super) fn body(&self) -> &PaneBody {
        &self.body
    }

    pub(super) fn groups(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn key_bytes(&self) -> usize {
        self.body.keys.len()
    }

    /// The group with this key.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.table.find(hash, |&group| self.key(group as usize) == key).copied()
    }

    /// Adds a group that is not there yet.
    pub(super) fn insert(&mut self, hash: u64, key: &[u8]) -> u32 {
        let group = u32::try_from(self.groups()).expect("the number of open groups is limited");
        self.body.keys.extend_from_slice(key);
        self.body.ends.push(self.body.keys.len() as u64);
        self.body.revisions.push(0);
        self.body.changed.push(false);
        let groups = self.body.ends.len();
        self.body.accumulators.iter_mut().for_each(|states| states.grow(groups));
        self.remember(hash, group);
        group
    }

    fn remember(&mut self, hash: u64, group: u32) {
        self.hashes.push(hash);
        let hashes = &self.hashes;
        self.table.insert_unique(hash, group, |&group| hashes[group as usize]);
    }

    fn key(&self, group: usize) -> &[u8] {
        let at = |end: u64| usize::try_from(end).expect("keys are in memory");
        let start = group.checked_sub(1).map_or(0, |previous| at(self.body.ends[previous]));
        &self.body.keys[start..at(self.body.ends[group])]
    }

    /// Adds a run of records; `inputs` are the arguments of the plan for the batch.
    pub(super) fn add(&mut self, plan: &WindowPlan, inputs: &[Input<'_>], run: &[Placed], times: &[i64]) {
        for &(_, group) in run {
            self.body.changed[group as usize] = true;
        }
        for (states, output) in self.body.accumulators.iter_mut().zip(&plan.outputs) {
            let input = output.argument.map_or(Input::Records, |index| inputs[index]);
            states.add(&input, run, times);
        }
    }

    /// Whether a group changed since its last row.
    pub(super) fn has_changed(&self) -> bool {
        self.body.has_changed()
    }

    /// Numbers the rows of all groups that changed since their last row, in the order of the groups.
    pub(super) fn changed(&self) -> Vec<u32> {
        let changed = self.body.changed.iter().enumerate().filter(|(_, changed)| **changed);
        changed.map(|(group, _)| u32::try_from(group).expect("the number of open groups is limited")).collect()
    }

    /// The row of a group as it is now. Counts as emitted from then on.
    pub(super) fn emit(&mut self, plan: &WindowPlan, start_ms: i64, group: u32) -> WindowRow {
        let revision = self.skip(group);
        let group = group as usize;
        let mut emission = Emission::default();
        for (states, output) in self.body.accumulators.iter().zip(&plan.outputs) {
            states.emit(output.function, group, &mut emission);
        }
        let overflow = emission.overflow().map(|place| plan.columns()[place].name.clone()).collect();
        WindowRow {
            window: plan.name.clone(),
            overflow,
            start_ms,
            end_ms: plan.end_of(start_ms),
            group: self.group_values(plan, group),
            values: emission.values(),
            revision,
        }
    }

    /// As [`Pane::emit`] for a row that has been emitted already: only the revision goes on.
    pub(super) fn skip(&mut self, group: u32) -> i64 {
        let group = group as usize;
        let revision = self.body.revisions[group];
        self.body.revisions[group] += 1;
        self.body.changed[group] = false;
        revision
    }

    fn group_values(&self, plan: &WindowPlan, group: usize) -> Vec<Scalar> {
        let kinds = plan.group.iter().map(|(_, kind)| kind.clone());
        decode(self.key(group), kinds).expect("keys are written from columns of these kinds")
    }
}
