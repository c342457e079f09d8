//! Rules that other runtimes had wrong or leave out, as lists of events. The table of all cases is in the kit's README.

use super::{
    tests::{World, starts, stops, with},
    *,
};
use crate::policy::{Backoff, Intensity, Strategy};

const SECOND: Duration = Duration::from_secs(1);

/// When a child that waits for its restart will be started.
fn due(world: &World) -> Duration {
    let at = world.timers.iter().map(|(at, _)| *at).max().expect("it waits");
    at - world.now
}

fn set(world: &mut World, child: u32, policy: ChildPolicy) {
    world.feed(Event::SetChildPolicy { child: ChildKey(child), policy });
}

/// OTP `supervisor`: children start in the order of their specs and are terminated in the reverse order.
#[test]
fn children_start_in_order_and_stop_in_reverse() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    let mut stopped = stops(&world.feed(Event::Shutdown));
    while let Some(child) = stopped.last().copied().filter(|_| world.finished.is_empty()) {
        let who = world.current(child).unwrap();
        stopped.extend(stops(&world.exit(who, ExitReason::Shutdown)));
    }
    assert_eq!(stopped, [4, 3, 2, 1]);
    assert_eq!(starts(&world.feed(Event::Boot)), [1, 2, 3, 4]);
}

/// OTP `supervisor`: a temporary child is not restarted, even when the strategy of a failed sibling ended it.
#[test]
fn a_temporary_child_ended_for_a_failed_sibling_is_not_started_again() {
    for (strategy, started) in [(Strategy::RestForOne, [2, 3].as_slice()), (Strategy::OneForAll, &[1, 2, 3])] {
        let mut world = World::booted(with(strategy), ChildPolicy::permanent());
        set(&mut world, 4, ChildPolicy::temporary());
        let mut last = world.fail(2);
        for child in stops(&last) {
            let who = world.current(child).unwrap();
            last = world.exit(who, ExitReason::Shutdown);
        }
        assert_eq!(starts(&last), started, "{strategy:?}");
        assert_eq!(world.current(4), None);
        assert_eq!(world.core.child_count(), 4, "a static one stays in the tree, at rest");
    }
}

/// otp#1287: a child that takes long to come back must not use up, or hold up, what its siblings have.
#[test]
fn a_child_that_waits_for_its_restart_costs_its_siblings_nothing() {
    let intensity = Intensity { max_restarts: 4, within: 60 * SECOND };
    let mut world =
        World::booted(SupervisorPolicy { intensity, ..with(Strategy::OneForOne) }, ChildPolicy::permanent());
    world.fail(2);
    world.fail(2);
    assert!(world.current(2).is_none(), "it waits");
    let charged = world.core.restarts_in_window(world.now);
    assert_eq!(starts(&world.fail(3)), [3], "the first failure of another one waits for nobody");
    world.advance(SECOND);
    assert_eq!(world.core.restarts_in_window(world.now), charged + 1, "waiting and coming back are not charged");
}

/// akka#20597: a supervisor with back-off ignored the maximum of restarts and went on for ever.
#[test]
fn a_back_off_does_not_hide_restarts_from_the_limit() {
    let intensity = Intensity { max_restarts: 6, within: 600 * SECOND };
    let mut world =
        World::booted(SupervisorPolicy { intensity, ..with(Strategy::OneForOne) }, ChildPolicy::permanent());
    for restarts in 0..6 {
        assert!(world.finished.is_empty(), "gave up after {restarts}");
        world.fail(1);
        world.advance(30 * SECOND);
    }
    let mut down = stops(&world.fail(1));
    while let Some(child) = down.pop() {
        let who = world.current(child).unwrap();
        down.extend(stops(&world.exit(who, ExitReason::Shutdown)));
    }
    assert_eq!(world.finished, [Ending::Escalated { child: ChildKey(1), reason: ExitReason::Panic }]);
}

/// akka#20597 again: the delays of the default back-off are short enough for the default limit to be reached at all.
#[test]
fn a_child_that_fails_at_once_is_given_up_under_the_default_policies() {
    let slowest = ChildPolicy::permanent().backoff(Backoff { jitter: 0.0, ..Backoff::default() });
    let mut world = World::booted(SupervisorPolicy::default(), slowest);
    let begun = world.now;
    while world.core.is_running() {
        world.fail(1);
        if world.core.is_running() && world.current(1).is_none() {
            world.advance(due(&world));
        }
    }
    assert_eq!(world.current(1), None);
    assert!(world.now - begun <= 60 * SECOND, "{:?}", world.now - begun);
}

/// akka#25435: of two maxima, one of the back-off and one of the supervisor, nobody knew which one counts. There is one.
#[test]
fn one_limit_alone_decides_however_long_the_waits_have_become() {
    let intensity = Intensity { max_restarts: 3, within: 10 * SECOND };
    let mut world =
        World::booted(SupervisorPolicy { intensity, ..with(Strategy::OneForOne) }, ChildPolicy::permanent());
    for _ in 0..100 {
        world.fail(1);
        assert!(world.core.is_running());
        world.advance(30 * SECOND);
        assert!(world.current(1).is_some(), "back after the longest wait");
    }
    for _ in 0..3 {
        world.fail(2);
        world.advance(SECOND);
    }
    assert!(world.core.is_running());
    world.fail(2);
    assert!(!world.core.is_running(), "the fourth within ten seconds");
}

/// akka#19246: with the reset time tied to the shortest delay, a child that fails every few seconds never backs off.
#[test]
fn the_reset_time_is_apart_from_the_shortest_delay() {
    let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
    assert!(backoff.reset_after > 100 * backoff.min);
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent().backoff(backoff));
    let mut delays = Vec::new();
    for _ in 0..5 {
        world.advance(5 * SECOND);
        world.fail(1);
        delays.push(if world.current(1).is_some() { 0 } else { due(&world).as_millis() });
        world.advance(5 * SECOND);
    }
    assert_eq!(delays, [0, 100, 200, 400, 800], "a run far longer than the delay resets nothing");
}

/// elfo: the first failure after a healthy time restarts without delay; later ones wait again.
#[test]
fn a_healthy_time_forgives_all_earlier_failures() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    for _ in 0..5 {
        world.fail(1);
        world.advance(30 * SECOND);
    }
    world.advance(60 * SECOND);
    assert_eq!(starts(&world.fail(1)), [1]);
    assert!(starts(&world.fail(1)).is_empty());
}

/// elfo: a policy changed while everything runs counts, that of the supervisor as well.
#[test]
fn a_limit_changed_at_run_time_counts_at_the_next_failure() {
    let eager = ChildPolicy::permanent().backoff(Backoff::none());
    let limit = |max_restarts| {
        let intensity = Intensity { max_restarts, within: 60 * SECOND };
        SupervisorPolicy { intensity, ..with(Strategy::OneForOne) }
    };
    let mut world = World::booted(limit(3), eager);
    (0..3).for_each(|_| assert_eq!(starts(&world.fail(1)), [1]));
    world.feed(Event::SetPolicy(limit(5)));
    assert_eq!(starts(&world.fail(1)), [1], "the fourth is allowed now");
    world.feed(Event::SetPolicy(limit(2)));
    assert!(starts(&world.fail(1)).is_empty(), "four are too many now");
    assert!(!world.core.is_running());
}

/// heph#630, actix#204: a panic is a failure like an error, and so is every other abnormal end.
#[test]
fn every_kind_of_failure_brings_a_transient_child_back() {
    let kinds = [
        ExitReason::Error,
        ExitReason::Panic,
        ExitReason::StartFailed,
        ExitReason::Killed,
        ExitReason::Escalated,
        ExitReason::Stuck,
        ExitReason::NoProgress,
        ExitReason::Stranded,
    ];
    for reason in kinds {
        let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::transient());
        let who = world.current(1).unwrap();
        assert_eq!(starts(&world.exit(who, reason)), [1], "{reason:?}");
    }
    for reason in [ExitReason::Normal, ExitReason::Shutdown] {
        let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::transient());
        let who = world.current(1).unwrap();
        assert!(starts(&world.exit(who, reason)).is_empty(), "{reason:?}");
    }
}

/// quickwit's pipelines retry without jitter: those that failed together come back together, again and again.
#[test]
fn children_that_fail_together_do_not_come_back_together() {
    let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
    for _ in 0..2 {
        (1..=4).for_each(|child| drop(world.fail(child)));
    }
    let mut times: Vec<Instant> = world.timers.iter().map(|(at, _)| *at).collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 4);
}

/// kameo#377: an explicit stop looked like a normal end, and a permanent child came back from it.
#[test]
fn a_permanent_child_stopped_on_purpose_stays_down() {
    for how in [Quiesce::Drain, Quiesce::Stop, Quiesce::Kill] {
        for reason in [ExitReason::Shutdown, ExitReason::Normal, ExitReason::Killed] {
            if how == Quiesce::Drain && reason.is_abnormal() {
                // Killed before its queue was empty: it comes back to finish the queue.
                continue;
            }
            let mut world = World::booted(with(Strategy::OneForOne), ChildPolicy::permanent());
            let who = world.current(1).unwrap();
            world.feed(Event::Quiesce { child: who.0, how });
            assert!(starts(&world.exit(who, reason)).is_empty(), "{how:?} {reason:?}");
            world.advance(600 * SECOND);
            assert_eq!(world.current(1), None);
        }
    }
}
