//! The machine against lists of events: examples first, then random ones against invariants.

use std::collections::BTreeMap;

use proptest::{prelude::*, strategy::Strategy as _};
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::policy::{Backoff, Intensity, Restart, Strategy};

/// A fake world around one machine: it keeps the live incarnations and the timers, and checks every effect.
pub(super) struct World {
    pub(super) core: SupervisorCore,
    pub(super) now: Instant,
    rng: StdRng,
    /// Live incarnations by (child, generation); true if fenced.
    live: BTreeMap<(ChildKey, u64), bool>,
    newest: BTreeMap<ChildKey, u64>,
    pub(super) timers: Vec<(Instant, TimerId)>,
    starts: Vec<(ChildKey, Instant)>,
    pub(super) finished: Vec<Ending>,
    asked: Vec<(ChildKey, u64)>,
    up: bool,
    next_key: u32,
}

const CHILDREN: u32 = 4;

impl World {
    fn new(policy: SupervisorPolicy, child: ChildPolicy) -> Self {
        let def = |key| ChildDef { key: ChildKey(key), kind: ChildKind::Leaf, origin: Origin::Static, policy: child };
        Self {
            core: SupervisorCore::new(policy, (1..=CHILDREN).map(def).collect()),
            now: Instant::now(),
            rng: StdRng::seed_from_u64(7),
            live: BTreeMap::new(),
            newest: BTreeMap::new(),
            timers: Vec::new(),
            starts: Vec::new(),
            finished: Vec::new(),
            asked: Vec::new(),
            up: false,
            next_key: CHILDREN,
        }
    }

    pub(super) fn booted(policy: SupervisorPolicy, child: ChildPolicy) -> Self {
        let mut world = Self::new(policy, child);
        world.feed(Event::Boot);
        world
    }

    pub(super) fn feed(&mut self, event: Event) -> Vec<Effect> {
        self.up |= matches!(event, Event::Boot);
        let effects = self.core.handle(self.now, event, &mut self.rng);
        for effect in &effects {
            self.check(effect);
        }
        effects
    }

    fn check(&mut self, effect: &Effect) {
        match *effect {
            Effect::Start { child, generation, .. } => {
                assert!(self.up, "a start while the supervisor is down");
                let two_live = self.live.iter().any(|((other, _), fenced)| *other == child && !fenced);
                assert!(!two_live, "{child:?} would have two live generations");
                let newest = self.newest.insert(child, generation).unwrap_or(0);
                assert!(generation > newest, "generations grow");
                self.live.insert((child, generation), false);
                self.starts.push((child, self.now));
            }
            Effect::Fence { child, generation, .. } => {
                if let Some(fenced) = self.live.get_mut(&(child, generation)) {
                    *fenced = true;
                }
            }
            Effect::Abort { child, generation } => {
                assert_ne!(self.live.get(&(child, generation)), Some(&false), "aborted without a fence");
            }
            Effect::Stop { child, generation } | Effect::Drain { child, generation } => {
                self.asked.push((child, generation))
            }
            Effect::SetTimer { timer, at } => self.timers.push((at, timer)),
            Effect::Finished(ending) => {
                assert!(self.up, "finished twice");
                assert!(self.live.values().all(|fenced| *fenced), "finished with a live child");
                self.up = false;
                self.finished.push(ending);
            }
            Effect::Abandoned { .. } | Effect::Show { .. } | Effect::MissedStop { .. } | Effect::Removed { .. } => {}
        }
    }

    pub(super) fn exit(&mut self, who: (ChildKey, u64), reason: ExitReason) -> Vec<Effect> {
        self.live.remove(&who);
        self.feed(Event::Exited { child: who.0, generation: who.1, reason })
    }

    /// The unfenced incarnation of a child.
    pub(super) fn current(&self, child: u32) -> Option<(ChildKey, u64)> {
        let fresh = |((key, _), fenced): &(&(ChildKey, u64), &bool)| *key == ChildKey(child) && !**fenced;
        self.live.iter().find(fresh).map(|(who, _)| *who)
    }

    pub(super) fn fail(&mut self, child: u32) -> Vec<Effect> {
        let who = self.current(child).expect("the child lives");
        self.exit(who, ExitReason::Panic)
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        while let Some(at) = self.timers.iter().position(|(at, _)| *at <= self.now) {
            let (_, timer) = self.timers.remove(at);
            self.feed(Event::TimerDue(timer));
        }
    }

    fn any_live(&self, pick: u8) -> Option<(ChildKey, u64)> {
        let count = self.live.len();
        (count > 0).then(|| self.live.keys().nth(usize::from(pick) % count).copied()).flatten()
    }

    fn any_child(&self, pick: u8) -> ChildKey {
        ChildKey(1 + u32::from(pick) % self.next_key)
    }
}

pub(super) fn starts(effects: &[Effect]) -> Vec<u32> {
    effects.iter().filter_map(|e| if let Effect::Start { child, .. } = e { Some(child.0) } else { None }).collect()
}

pub(super) fn stops(effects: &[Effect]) -> Vec<u32> {
    effects.iter().filter_map(|e| if let Effect::Stop { child, .. } = e { Some(child.0) } else { None }).collect()
}

pub(super) fn with(strategy: Strategy) -> SupervisorPolicy {
    SupervisorPolicy { strategy, ..SupervisorPolicy::default() }
}

#[test]
fn one_for_one_restarts_the_failed_child_alone_and_at_once() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    assert_eq!(starts(&world.fail(2)), [2]);
}

#[test]
fn a_second_failure_waits_for_its_back_off() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    world.fail(2);
    assert!(starts(&world.fail(2)).is_empty());
    world.advance(Duration::from_millis(100));
    assert!(world.current(2).is_some());
}

/// elfo: the first failure after a healthy time restarts without delay.
#[test]
fn a_healthy_run_makes_the_next_failure_a_first_one() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    world.fail(2);
    world.advance(Duration::from_secs(61));
    assert_eq!(starts(&world.fail(2)), [2]);
}

/// OTP: stop in reverse, start in order.
#[test]
fn rest_for_one_stops_later_siblings_and_starts_them_in_order() {
    let mut world = World::booted(with(Strategy::RestForOne), ChildPolicy::permanent());
    let effects = world.fail(2);
    assert_eq!(stops(&effects), [4, 3]);
    assert!(starts(&effects).is_empty(), "the failed one waits for its siblings");
    let (three, four) = (world.current(3).unwrap(), world.current(4).unwrap());
    assert!(starts(&world.exit(four, ExitReason::Shutdown)).is_empty());
    assert_eq!(starts(&world.exit(three, ExitReason::Shutdown)), [2, 3, 4]);
}

#[test]
fn one_for_all_restarts_everyone_and_charges_one_restart() {
    let mut world = World::booted(with(Strategy::OneForAll), ChildPolicy::permanent());
    assert_eq!(stops(&world.fail(2)), [4, 3, 1]);
    let mut last = Vec::new();
    for child in [4, 3, 1] {
        let who = world.current(child).unwrap();
        last = starts(&world.exit(who, ExitReason::Shutdown));
    }
    assert_eq!(last, [1, 2, 3, 4]);
    assert_eq!(world.core.restarts_in_window(world.now), 1);
}

#[test]
fn a_sibling_that_fails_does_not_cut_a_longer_back_off_short() {
    let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
    let mut world = World::booted(with(Strategy::RestForOne), ChildPolicy::permanent().backoff(backoff));
    let fail_the_third = |world: &mut World| {
        world.fail(3);
        let sibling = world.current(4).unwrap();
        world.exit(sibling, ExitReason::Shutdown);
    };
    fail_the_third(&mut world);
    assert!(world.current(3).is_some(), "the first time without a delay");
    fail_the_third(&mut world);
    world.advance(Duration::from_millis(10));
    assert!(starts(&world.fail(2)).is_empty(), "the first failure of the second, tied to those behind it");
    world.advance(Duration::from_millis(89));
    assert_eq!((world.current(2), world.current(3), world.current(4)), (None, None, None));
    world.advance(Duration::from_millis(1));
    assert!((1..=4).all(|child| world.current(child).is_some()));
}

#[test]
fn a_transient_child_rests_after_a_normal_end_and_a_temporary_one_always() {
    for (restart, reason, back) in [
        (Restart::Transient, ExitReason::Normal, false),
        (Restart::Transient, ExitReason::Error, true),
        (Restart::Temporary, ExitReason::Panic, false),
        (Restart::Permanent, ExitReason::Normal, true),
    ] {
        let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy { restart, ..ChildPolicy::default() });
        let who = world.current(1).unwrap();
        assert_eq!(!starts(&world.exit(who, reason)).is_empty(), back, "{restart:?} {reason:?}");
    }
}

/// OTP: beyond the intensity all children are ended, then the supervisor.
#[test]
fn too_many_restarts_stop_the_others_in_reverse_and_escalate() {
    let intensity = Intensity { max_restarts: 2, within: Duration::from_secs(10) };
    let policy = ChildPolicy::permanent().backoff(Backoff::none());
    let mut world = World::booted(SupervisorPolicy { intensity, ..with(Strategy::OneForOne) }, policy);
    world.fail(2);
    world.fail(2);
    let mut order = stops(&world.fail(2));
    for child in [4, 3, 1] {
        assert!(world.finished.is_empty());
        let who = world.current(child).unwrap();
        order.extend(stops(&world.exit(who, ExitReason::Shutdown)));
    }
    assert_eq!(order, [4, 3, 1]);
    assert_eq!(world.finished, [Ending::Escalated { child: ChildKey(2), reason: ExitReason::Panic }]);
}

#[test]
fn a_stuck_child_is_fenced_first_and_replaced_elsewhere_if_it_will_not_go() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    let (child, generation) = world.current(1).unwrap();
    let effects = world.feed(Event::Stuck { child, generation });
    assert!(effects.contains(&Effect::Fence { child, generation, charge: Charge::Culprit }));
    assert!(starts(&effects).is_empty());
    world.now += STUCK_GRACE;
    let (_, timer) = world.timers.pop().unwrap();
    let effects = world.feed(Event::TimerDue(timer));
    assert!(effects.contains(&Effect::Start { child, generation: generation + 1, place: Place::Fresh }));
    assert_eq!(world.core.zombies(child), 1);
    world.exit((child, generation), ExitReason::Normal);
    assert_eq!(world.core.zombies(child), 0);
}

#[test]
fn a_stall_that_is_told_late_says_nothing_about_the_next_incarnation() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    let (child, generation) = world.current(1).unwrap();
    world.fail(1);
    let next = (child, generation + 1);
    assert_eq!((world.feed(Event::Stuck { child, generation }), world.current(1)), (vec![], Some(next)));
    world.feed(Event::Quiesce { child, how: Quiesce::Drain });
    assert_eq!((world.feed(Event::Stuck { child, generation }), world.current(1)), (vec![], Some(next)));
    world.exit(next, ExitReason::Shutdown);
    assert_eq!(world.current(1), None, "drained, it stays down");
}

#[test]
fn one_zombie_too_many_escalates() {
    let policy = ChildPolicy { max_zombies: 1, ..ChildPolicy::permanent().backoff(Backoff::none()) };
    let mut world = World::booted(with(Strategy::OneForOne), policy);
    for _ in 0..2 {
        let (child, generation) = world.current(1).unwrap();
        world.feed(Event::Stuck { child, generation });
        world.advance(STUCK_GRACE);
    }
    assert!(world.current(1).is_none());
    assert!(world.live.iter().filter(|((child, _), _)| *child == ChildKey(1)).all(|(_, fenced)| *fenced));
}

#[test]
fn those_stranded_by_a_neighbour_do_not_count_as_their_own_zombies() {
    let policy = ChildPolicy { max_zombies: 0, ..ChildPolicy::permanent().backoff(Backoff::none()) };
    let mut world = World::booted(with(Strategy::OneForOne), policy);
    for _ in 0..5 {
        let (child, generation) = world.current(1).unwrap();
        world.feed(Event::Stranded { child, generation });
    }
    assert_eq!(world.core.zombies(ChildKey(1)), 5, "they are told, nevertheless");
    world.fail(1);
    assert!(world.core.is_running() && world.current(1).is_some());
}

#[test]
fn a_child_told_to_stay_down_does_not_come_back_with_its_supervisor() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    let (child, how) = (ChildKey(2), Quiesce::Stop);
    world.feed(Event::Quiesce { child, how });
    let who = world.current(2).unwrap();
    world.exit(who, ExitReason::Shutdown);
    let mut down = stops(&world.feed(Event::Shutdown));
    while let Some(child) = down.pop() {
        let who = world.current(child).unwrap();
        down.extend(stops(&world.exit(who, ExitReason::Shutdown)));
    }
    // Also one that is told while its supervisor is down.
    world.feed(Event::Quiesce { child: ChildKey(3), how });
    assert_eq!(starts(&world.feed(Event::Boot)), [1, 4]);
    assert_eq!(starts(&world.feed(Event::Restart(child))), [2], "until it is restarted by itself");
    world.feed(Event::Release(ChildKey(3)));
    assert_eq!(world.current(3), None, "or with the supervisor, the next time");
}

#[test]
fn a_temporary_child_added_at_run_time_leaves_when_it_is_drained() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    let (key, policy) = (ChildKey(9), ChildPolicy::temporary());
    world.feed(Event::Add(ChildDef { key, kind: ChildKind::Leaf, origin: Origin::Dynamic, policy }));
    world.feed(Event::Quiesce { child: key, how: Quiesce::Drain });
    let who = world.current(9).unwrap();
    assert!(world.exit(who, ExitReason::Shutdown).contains(&Effect::Removed { child: key }));
    assert_eq!(world.core.child_count(), 4);
}

#[test]
fn a_timer_of_a_back_off_says_nothing_about_a_later_stop() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    world.fail(4);
    world.fail(4);
    let (_, backing_off) = *world.timers.last().unwrap();
    world.feed(Event::Restart(ChildKey(4)));
    world.feed(Event::Shutdown);
    assert_eq!(world.feed(Event::TimerDue(backing_off)), []);
}

#[test]
fn a_child_that_ignores_its_stop_is_aborted_at_its_limit() {
    let mut world =
        World::booted(with(Strategy::OneForOne), ChildPolicy::permanent().stop_within(Duration::from_secs(1)));
    let (child, generation) = world.current(4).unwrap();
    world.feed(Event::Shutdown);
    world.now += Duration::from_secs(1);
    let (_, timer) = world.timers.pop().unwrap();
    let effects = world.feed(Event::TimerDue(timer));
    assert!(effects.contains(&Effect::MissedStop { child }));
    assert!(effects.contains(&Effect::Abort { child, generation }));
}

#[test]
fn a_child_that_fails_while_draining_comes_back_draining() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    world.feed(Event::Quiesce { child: ChildKey(1), how: Quiesce::Drain });
    let effects = world.fail(1);
    assert_eq!(starts(&effects), [1]);
    assert!(effects.contains(&Effect::Drain { child: ChildKey(1), generation: 2 }));
    let who = world.current(1).unwrap();
    let effects = world.exit(who, ExitReason::Shutdown);
    assert!(effects.contains(&Effect::Show { child: ChildKey(1), state: Shown::Stopped }));
}

#[test]
fn a_stranded_child_moves_without_a_charge() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    let (child, generation) = world.current(3).unwrap();
    assert_eq!(starts(&world.feed(Event::Stranded { child, generation })), [3]);
    assert_eq!(world.core.restarts_in_window(world.now), 0);
}

fn any_policy() -> impl proptest::strategy::Strategy<Value = (SupervisorPolicy, ChildPolicy)> {
    let strategies = prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)];
    let restarts =
        prop_oneof![3 => Just(Restart::Permanent), 1 => Just(Restart::Transient), 1 => Just(Restart::Temporary)];
    (strategies, restarts, 0u32..8, 0u64..3, 0u32..3).prop_map(
        |(strategy, restart, max_restarts, stop_s, max_zombies)| {
            let intensity = Intensity { max_restarts, within: Duration::from_secs(5) };
            let stop_within = Duration::from_secs(stop_s);
            let child = ChildPolicy { restart, stop_within, max_zombies, ..ChildPolicy::default() };
            (SupervisorPolicy { strategy, intensity, max_children: 6 }, child)
        },
    )
}

fn step(world: &mut World, child_policy: ChildPolicy, action: u8, pick: u8) {
    let reasons = [ExitReason::Normal, ExitReason::Panic, ExitReason::Error, ExitReason::Killed];
    match action % 14 {
        0..=3 => {
            if let Some(who) = world.any_live(pick) {
                world.exit(who, reasons[usize::from(pick) % reasons.len()]);
            }
        }
        4 | 5 => {
            if let Some(who) = world.asked.pop()
                && world.live.contains_key(&who)
            {
                world.exit(who, ExitReason::Shutdown);
            }
        }
        6 | 7 => world.advance(Duration::from_millis(u64::from(pick) * 20)),
        8 => {
            if let Some((child, generation)) = world.any_live(pick) {
                world.feed(Event::Stuck { child, generation });
            }
        }
        9 => {
            if let Some((child, generation)) = world.any_live(pick) {
                world.feed(Event::Stranded { child, generation });
            }
        }
        10 => {
            world.feed(Event::Restart(world.any_child(pick)));
        }
        11 => {
            let how = [Quiesce::Drain, Quiesce::Stop, Quiesce::Kill][usize::from(pick) % 3];
            world.feed(Event::Quiesce { child: world.any_child(pick), how });
        }
        12 => {
            world.next_key += 1;
            let key = ChildKey(world.next_key);
            world.feed(Event::Add(ChildDef {
                key,
                kind: ChildKind::Leaf,
                origin: Origin::Dynamic,
                policy: child_policy,
            }));
        }
        _ if pick < 20 => {
            world.feed(Event::Shutdown);
        }
        _ if pick < 128 && !world.up => {
            world.feed(Event::Boot);
        }
        _ => {
            world.feed(Event::Remove(world.any_child(pick)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_event_sequence_breaks_an_invariant(
        (policy, child) in any_policy(),
        steps in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..80),
    ) {
        let mut world = World::booted(policy, child);
        for (action, pick) in steps {
            step(&mut world, child, action, pick);
            prop_assert!(world.core.restarts_in_window(world.now) <= policy.intensity.max_restarts as usize);
        }
        // Whatever happened, a shutdown comes to an end by timers alone, with nobody cooperating.
        world.feed(Event::Shutdown);
        for _ in 0..40 {
            world.advance(Duration::from_secs(5));
        }
        prop_assert!(!world.up, "still up: {:?}", world.core);
    }

    #[test]
    fn restarts_never_exceed_the_maximum_in_any_window(
        max_restarts in 0u32..6,
        gaps in proptest::collection::vec((0u64..3_000, 1u32..=CHILDREN), 1..60),
    ) {
        let within = Duration::from_secs(5);
        let policy = SupervisorPolicy { intensity: Intensity { max_restarts, within }, ..with(Strategy::OneForOne) };
        let mut world = World::booted(policy, ChildPolicy::permanent().backoff(Backoff::none()));
        let mut restarts: Vec<Instant> = Vec::new();
        for (gap_ms, child) in gaps {
            world.advance(Duration::from_millis(gap_ms));
            if world.current(child).is_none() || !world.core.is_running() {
                break;
            }
            let restarted = !starts(&world.fail(child)).is_empty();
            let recent = restarts.iter().filter(|at| world.now.duration_since(**at) <= within).count();
            prop_assert_eq!(restarted, recent < max_restarts as usize);
            if restarted {
                restarts.push(world.now);
            }
        }
    }
}
