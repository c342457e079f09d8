//! The keys of one rule in one partition that are pending, firing or cooling down.

use std::{fmt::Write, sync::Arc};

use hashbrown::{HashTable, hash_table::Entry};
use serde::{Deserialize, Serialize};

use super::{RulePlan, words};
use crate::{
    output::{AlertState, AlertTransition},
    record::{Keys, hash_text, key_of, record_json},
    rows::StepInput,
};

/// Most keys of one rule in one partition that are pending, firing or cooling down.
pub const MAX_KEYS: usize = 100_000;

/// How far behind the watermark a record still says something about the present: an alert of a century ago is none.
pub const MAX_BEHIND_MS: i64 = 24 * 60 * 60 * 1_000;

/// The state of one rule in one partition. Cheap to clone: shared until one of the clones changes it.
#[derive(Debug, Clone, Default)]
pub struct RuleState {
    keys: Arc<HashTable<Tracked>>,
    /// No cooldown that ends a key's state ends before this watermark; unknown after a restart.
    next_expiry: i64,
    changed: bool,
    /// Offset of the first record that it judges: a rule that is new in the middle of a log says nothing of before.
    from: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tracked {
    key: Arc<str>,
    state: KeyState,
}

/// One key of a rule.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct KeyState {
    /// Since when the condition holds, until the alert fires.
    span: Option<Span>,
    firing: Option<Firing>,
    /// No other alert fires before this event time.
    cooling_until_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    since_ms: i64,
    offset: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Firing {
    alert_id: String,
    /// Event time of the newest record for which the condition holds.
    held_ms: i64,
    /// Since when the condition does not hold any more.
    quiet_since_ms: Option<i64>,
}

/// What a checkpoint keeps of a rule: its keys in their order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RuleBody {
    keys: Vec<Tracked>,
}

/// A batch as a rule sees it.
pub(crate) struct RuleInput<'a> {
    /// Keys of the rows.
    pub(crate) keys: &'a Keys<'a>,
    pub(crate) step: StepInput<'a>,
}

/// What rule steps say about a batch.
#[derive(Debug, Default)]
pub(crate) struct Alerts {
    pub(crate) transitions: Vec<AlertTransition>,
    pub(crate) refused: u64,
}

/// One record of a key.
#[derive(Debug, Clone, Copy)]
struct Moment {
    time_ms: i64,
    offset: i64,
    watermark_ms: i64,
    holds: bool,
}

/// What a record does to an alert: its id, the transition's number and the state it enters.
type Change = (String, i64, AlertState);

impl RuleState {
    /// Keys that are pending, firing or cooling down.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Works a batch into the rule.
    pub(crate) fn process(&mut self, plan: &RulePlan, input: &RuleInput<'_>, out: &mut Alerts) {
        let condition = plan.condition.eval_filter(input.step.batch);
        let holds = condition.values();
        let scope = plan.scope.as_ref().map(|scope| scope.eval_filter(input.step.batch));
        let mut next_hit = holds.set_indices();
        let mut row = 0;
        while row < input.step.times.len() {
            if self.keys.is_empty() {
                match next_hit.find(|hit| *hit >= row) {
                    Some(hit) => row = hit,
                    None => return,
                }
            }
            if scope.as_ref().is_none_or(|scope| scope.value(row)) {
                self.record(plan, input, (row, holds.value(row)), out);
            }
            row += 1;
        }
    }

    fn record(&mut self, plan: &RulePlan, input: &RuleInput<'_>, (row, holds): (usize, bool), out: &mut Alerts) {
        let origin = input.step.origin(row);
        let moment = Moment {
            time_ms: input.step.times[row],
            offset: input.step.info.offsets[origin],
            watermark_ms: input.step.info.progress.before(origin),
            holds,
        };
        let is_past = moment.time_ms < moment.watermark_ms.saturating_sub(MAX_BEHIND_MS);
        if is_past || moment.offset < self.from || input.step.info.progress.is_ahead(origin) {
            return;
        }
        let hash = input.keys.hash(row);
        let found = self.keys.find(hash, |tracked| input.keys.is(row, &tracked.key)).is_some();
        let emits = moment.offset >= input.step.info.emit_from;
        if !found && (!holds || !self.make_room(moment.watermark_ms)) {
            out.refused += u64::from(holds && emits);
            return;
        }
        self.changed = true;
        let same = |tracked: &Tracked| input.keys.is(row, &tracked.key);
        let mut entry = match Arc::make_mut(&mut self.keys).entry(hash, same, |tracked| hash_text(&tracked.key)) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(free) => {
                let key = input.keys.text(row).into();
                free.insert(Tracked { key, state: KeyState::default() })
            }
        };
        let Tracked { key, state } = entry.get_mut();
        let change = state.observe(plan, input, key, moment);
        if let Some((alert_id, n, alert_state)) = change
            && emits
        {
            out.transitions.push(transition(plan, input, (row, key), (alert_id, n, alert_state), moment));
        }
        if state.is_at_rest(moment.time_ms.max(moment.watermark_ms)) {
            entry.remove();
        } else if let Some(until) = state.cooling_until_ms {
            self.next_expiry = self.next_expiry.min(until);
        }
    }

    /// Whether one more key fits, after dropping those whose cooldown the watermark has passed.
    fn make_room(&mut self, watermark_ms: i64) -> bool {
        if self.keys.len() >= MAX_KEYS && watermark_ms >= self.next_expiry {
            let table = Arc::make_mut(&mut self.keys);
            table.retain(|tracked| !tracked.state.is_at_rest(watermark_ms));
            let ends = table.iter().filter_map(|tracked| tracked.state.cooling_until_ms);
            self.next_expiry = ends.filter(|end| *end > watermark_ms).min().unwrap_or(i64::MAX);
            self.changed = true;
        }
        self.keys.len() < MAX_KEYS
    }

    /// Whether it changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn body(&self) -> RuleBody {
        let mut keys: Vec<Tracked> = self.keys.iter().cloned().collect();
        keys.sort_by(|one, other| one.key.cmp(&other.key));
        RuleBody { keys }
    }

    /// Takes up a checkpoint; none if it does not hold together.
    pub(crate) fn restore(body: RuleBody) -> Option<Self> {
        if !body.keys.is_sorted_by(|one, next| one.key < next.key) {
            return None;
        }
        let mut keys = HashTable::with_capacity(body.keys.len());
        for tracked in body.keys {
            keys.insert_unique(hash_text(&tracked.key), tracked, |tracked| hash_text(&tracked.key));
        }
        Some(Self { keys: Arc::new(keys), next_expiry: i64::MIN, changed: false, from: 0 })
    }

    /// The same, of a rule that judges no record below `offset`.
    pub(crate) fn judging_from(self, offset: i64) -> Self {
        Self { from: offset, ..self }
    }

    /// Offset up to which the state of a partition that covers its log up to `covered` says all there is to say.
    pub(crate) fn covered(&self, covered: i64) -> i64 {
        covered.max(self.from)
    }
}

impl Moment {
    /// The span that begins with this record. A key at rest keeps no time of its last quiet record, which may be newer than
    /// a late one: what has to hold for a time counts from the watermark at the earliest.
    fn opens(&self, plan: &RulePlan) -> Span {
        let since_ms = if plan.hold_ms == 0 { self.time_ms } else { self.time_ms.max(self.watermark_ms) };
        Span { since_ms, offset: self.offset }
    }
}

impl KeyState {
    fn observe(&mut self, plan: &RulePlan, input: &RuleInput<'_>, key: &str, moment: Moment) -> Option<Change> {
        if moment.time_ms < self.decided_ms() {
            return None;
        }
        if moment.holds { self.hold(plan, input, key, moment) } else { self.fall_quiet(plan, moment) }
    }

    /// Event time of the record that the present state rests on; older records say nothing about it.
    fn decided_ms(&self) -> i64 {
        let fired = self.firing.as_ref().map(|firing| firing.quiet_since_ms.unwrap_or(firing.held_ms));
        fired.or(self.span.map(|span| span.since_ms)).unwrap_or(i64::MIN)
    }

    fn hold(&mut self, plan: &RulePlan, input: &RuleInput<'_>, key: &str, moment: Moment) -> Option<Change> {
        if let Some(firing) = &mut self.firing {
            firing.held_ms = firing.held_ms.max(moment.time_ms);
            firing.quiet_since_ms = None;
            return None;
        }
        let span = *self.span.get_or_insert_with(|| moment.opens(plan));
        let held_ms = moment.time_ms.saturating_sub(span.since_ms);
        if held_ms > plan.hold_ms.saturating_add(MAX_BEHIND_MS) {
            // It would have fired at any record in between, so for a day there was none: nothing says that it held.
            self.span = Some(moment.opens(plan));
            return None;
        }
        let held = held_ms >= plan.hold_ms;
        if !held || self.is_cooling(moment.time_ms.max(moment.watermark_ms)) {
            return None;
        }
        let alert_id = alert_id(plan, input, key, span.offset);
        let held_ms = moment.time_ms;
        self.firing = Some(Firing { alert_id: alert_id.clone(), held_ms, quiet_since_ms: None });
        self.span = None;
        self.cooling_until_ms = (plan.cooldown_ms > 0).then(|| held_ms.saturating_add(plan.cooldown_ms));
        Some((alert_id, 0, AlertState::Firing))
    }

    fn fall_quiet(&mut self, plan: &RulePlan, moment: Moment) -> Option<Change> {
        self.span = None;
        let firing = self.firing.as_mut()?;
        let since = *firing.quiet_since_ms.get_or_insert(moment.time_ms);
        if moment.time_ms.saturating_sub(since) < plan.resolve_after_ms {
            return None;
        }
        self.firing.take().map(|firing| (firing.alert_id, 1, AlertState::Resolved))
    }

    fn is_cooling(&self, now_ms: i64) -> bool {
        self.cooling_until_ms.is_some_and(|until| now_ms < until)
    }

    fn is_at_rest(&self, now_ms: i64) -> bool {
        self.span.is_none() && self.firing.is_none() && !self.is_cooling(now_ms)
    }
}

fn transition(
    plan: &RulePlan,
    input: &RuleInput<'_>,
    (row, key): (usize, &str),
    (alert_id, n, state): Change,
    moment: Moment,
) -> AlertTransition {
    AlertTransition {
        alert_id,
        n,
        rule: plan.name.clone(),
        severity: plan.severity.clone(),
        state,
        key: key_of(key).map(str::to_owned),
        record: record_json(&plan.columns, input.step.batch, row),
        message: words::message(plan.condition.text(), state, key_of(key)),
        event_time_ms: moment.time_ms,
        offset: moment.offset,
    }
}

/// FNV-1a over what makes an alert unique: the same in every process. A pipeline may be renamed while its alerts fire, a
/// stream may not: its name tells alerts apart where a topic is read again by a stream of another name.
fn alert_id(plan: &RulePlan, input: &RuleInput<'_>, key: &str, opened_at: i64) -> String {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let partition = input.step.info.partition.to_le_bytes();
    let opened_at = opened_at.to_le_bytes();
    let log = input.step.info.log.to_le_bytes();
    let (rule, stream, topic) =
        (plan.name.as_bytes(), input.step.info.stream.as_bytes(), input.step.info.topic.as_bytes());
    let parts: [&[u8]; 7] = [rule, stream, topic, &partition, key.as_bytes(), &opened_at, &log];
    let mut hash = OFFSET_BASIS;
    for part in parts {
        let length = (part.len() as u64).to_le_bytes();
        for byte in length.iter().chain(part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
    let mut id = String::with_capacity(16);
    write!(id, "{hash:016x}").expect("a string takes all text");
    id
}
