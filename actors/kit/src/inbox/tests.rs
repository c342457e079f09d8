//! What an inbox promises, without a supervisor around it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::{
    core::Charge,
    driver::{Sign, new_slot},
    path::ActorPath,
    policy::ChildPolicy,
    slot::Incarnation,
};

pub(super) fn scope(generation: u64) -> Scope {
    let path = ActorPath::parse("lane").unwrap();
    let slot = new_slot(Sign {
        progress: None,
        path,
        kind: Arc::from("lane"),
        policy: ChildPolicy::default(),
        supervision: None,
        inboxes: Vec::new(),
    });
    Scope { slot, incarnation: Arc::new(Incarnation::new(generation)) }
}

fn filled(capacity: usize) -> Inbox<u64> {
    let inbox = Inbox::new("test", capacity);
    for number in 1..=capacity as u64 {
        inbox.outlet().try_send(number).unwrap();
    }
    inbox
}

fn rest(inbox: &Inbox<u64>, scope: &Scope) -> Vec<u64> {
    let deliveries: Vec<_> = std::iter::from_fn(|| inbox.try_recv(scope)).collect();
    deliveries.iter().map(|delivery| **delivery).collect()
}

#[test]
fn a_message_in_hand_still_takes_room_until_it_is_committed() {
    let inbox = filled(2);
    let scope = scope(1);
    let first = inbox.try_recv(&scope).unwrap();
    assert_eq!(inbox.outlet().try_send(3), Err(TrySendError::Full(3)));
    assert!(first.commit());
    assert_eq!(inbox.outlet().try_send(3), Ok(()));
    assert!(!first.commit(), "only once");
}

#[test]
fn dropped_messages_go_back_to_the_front_in_their_order() {
    let inbox = filled(5);
    let scope = scope(1);
    let mut taken: Vec<_> = (0..3).map(|_| inbox.try_recv(&scope).unwrap()).collect();
    taken.swap(0, 2);
    drop(taken);
    assert_eq!(rest(&inbox, &scope), [1, 2, 3, 4, 5]);
}

#[test]
fn a_nack_takes_back_later_unclaimed_messages_but_not_claimed_ones() {
    let inbox = filled(4);
    let scope = scope(1);
    let [one, two, three]: [_; 3] = std::array::from_fn(|_| inbox.try_recv(&scope).unwrap());
    assert!(three.claim());
    drop(one);
    assert!(!two.is_held());
    assert!(!two.commit());
    assert!(three.commit());
    assert_eq!(rest(&inbox, &scope), [1, 2, 4]);
}

#[test]
fn without_order_a_nack_leaves_the_neighbours_alone() {
    let inbox: Inbox<u64> = Inbox::with_order("free", Capacity { items: 3, weight: 9 }, |_| 1, Order::Free);
    (1..=2).for_each(|n| inbox.outlet().try_send(n).unwrap());
    let scope = scope(1);
    let (one, two) = (inbox.try_recv(&scope).unwrap(), inbox.try_recv(&scope).unwrap());
    drop(one);
    assert!(two.commit());
}

/// Bastion#87: the message that killed the actor is known, and no other one pays.
#[test]
fn a_panic_charges_the_message_touched_last_and_no_bystander() {
    let inbox = filled(3);
    let scope = scope(1);
    for (culprit, order) in [(1usize, [0usize, 1, 2]), (2, [2, 1, 0])] {
        let before: Vec<u32> = attempts(&inbox, &scope);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut all: Vec<_> = (0..3).map(|_| inbox.try_recv(&scope)).collect();
            assert!(all[culprit].as_ref().unwrap().claim());
            let _dropped_in_order: Vec<_> = order.iter().map(|at| all[*at].take()).collect();
            panic!("poison");
        }));
        assert!(result.is_err());
        let mut wanted = before;
        wanted[culprit] += 1;
        assert_eq!(attempts(&inbox, &scope), wanted);
    }
}

fn attempts(inbox: &Inbox<u64>, scope: &Scope) -> Vec<u32> {
    let all: Vec<_> = std::iter::from_fn(|| inbox.try_recv(scope)).collect();
    all.iter().map(Delivery::attempt).collect()
}

/// actix#204: a panic passed on from elsewhere comes without the hook; it must not pass for the one before.
#[test]
fn a_panic_passed_on_charges_its_own_message_and_refunds_no_other() {
    let (first, second) = (filled(1), filled(1));
    let scope = scope(1);
    let fails = |inbox: &Inbox<u64>, panic: &dyn Fn()| {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _watched = crate::panics::Watched::new(drop);
            let _held = inbox.try_recv(&scope);
            panic();
        }));
        assert!(result.is_err());
    };
    fails(&first, &|| panic!("its own"));
    fails(&second, &|| std::panic::resume_unwind(Box::new("from elsewhere")));
    assert_eq!((attempts(&first, &scope), attempts(&second, &scope)), (vec![1], vec![1]));
}

#[test]
fn an_injected_panic_charges_nobody() {
    let inbox = filled(1);
    let scope = scope(1);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _held = inbox.try_recv(&scope);
        std::panic::panic_any(crate::panics::InjectedPanic);
    }));
    assert!(result.is_err());
    assert_eq!(attempts(&inbox, &scope), [0]);
}

/// Alpakka Kafka #992: what a revoked holder still has is neither processed nor committed.
#[test]
fn a_fenced_incarnation_loses_what_it_holds_and_gets_nothing_more() {
    let inbox = filled(3);
    let (old, new) = (scope(1), scope(2));
    let (one, two) = (inbox.try_recv(&old).unwrap(), inbox.try_recv(&old).unwrap());
    assert!(one.claim());
    assert_eq!(old.incarnation.fence(Charge::Culprit), 2);
    assert!(inbox.try_recv(&old).is_none());
    assert!(!one.commit() && !two.commit(), "late commits are refused");
    assert_eq!(attempts(&inbox, &new), [1, 0, 0]);
    assert_eq!(rest(&inbox, &new), [1, 2, 3]);
}

#[test]
fn an_adopted_message_goes_back_when_its_new_holder_is_fenced_not_its_old_one() {
    let inbox = filled(2);
    let (lane, sink) = (scope(1), scope(1));
    let one = inbox.try_recv(&lane).unwrap();
    assert!(one.adopt(&sink));
    assert_eq!(lane.incarnation.fence(Charge::Nobody), 0);
    assert!(one.is_held());
    assert_eq!(sink.incarnation.fence(Charge::Nobody), 1);
    assert!(!one.commit());
}

#[test]
fn a_rewind_takes_back_what_is_not_claimed() {
    let inbox = filled(3);
    let scope = scope(1);
    let [one, two, _three]: [_; 3] = std::array::from_fn(|_| inbox.try_recv(&scope).unwrap());
    assert!(one.claim());
    assert_eq!(inbox.rewind(), 2);
    assert!(one.commit());
    assert!(!two.commit());
    assert_eq!(rest(&inbox, &scope), [2, 3]);
}

#[test]
fn weight_bounds_an_inbox_but_one_heavy_message_fits_an_empty_one() {
    let inbox: Inbox<Vec<u8>> = Inbox::weighted("bytes", Capacity { items: 10, weight: 100 }, Vec::len);
    let outlet = inbox.outlet();
    assert!(outlet.try_send(vec![0; 500]).is_ok());
    assert!(matches!(outlet.try_send(vec![0; 1]), Err(TrySendError::Full(_))));
    assert_eq!(inbox.figures().weight, 500);
}

#[test]
fn a_blocked_thread_gets_its_message_back_at_the_limit_or_room_when_there_is_some() {
    let inbox = filled(1);
    let outlet = inbox.outlet();
    assert_eq!(outlet.blocking_send_timeout(9, Duration::from_millis(5)), Err(9));
    assert!(inbox.figures().blocked_ms >= 4);
    std::thread::scope(|threads| {
        let sender = threads.spawn(|| outlet.blocking_send_timeout(9, Duration::from_secs(30)));
        let scope = scope(1);
        assert!(inbox.recv_blocking(&scope, Duration::from_secs(30)).unwrap().commit());
        assert_eq!(sender.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_blocked_sender_goes_on_when_a_quarter_is_free_or_nothing_waits() {
    use futures_util::FutureExt as _;
    let scope = scope(1);
    for (taken, commits) in [(8, 1), (3, 2)] {
        let inbox = filled(8);
        let outlet = inbox.outlet();
        let mut send = Box::pin(outlet.send(9));
        assert!(send.as_mut().now_or_never().is_none());
        let hands: Vec<_> = (0..taken).map(|_| inbox.try_recv(&scope).unwrap()).collect();
        for (count, delivery) in hands.iter().take(commits).enumerate() {
            assert!(send.as_mut().now_or_never().is_none(), "{count} of {commits}");
            assert!(delivery.commit());
        }
        assert!(send.as_mut().now_or_never().is_some(), "{taken} in hand");
    }
}

#[test]
fn a_reader_that_takes_the_last_message_lets_a_sender_into_the_room_there_is() {
    use futures_util::FutureExt as _;
    let (inbox, scope) = (filled(8), scope(1));
    let outlet = inbox.outlet();
    let mut send = Box::pin(outlet.send(9));
    assert!(send.as_mut().now_or_never().is_none());
    let hands: Vec<_> = (0..7).map(|_| inbox.try_recv(&scope).unwrap()).collect();
    assert!(hands[0].commit() && send.as_mut().now_or_never().is_none());
    let _last = inbox.try_recv(&scope).unwrap();
    assert!(send.as_mut().now_or_never().is_some());
}

#[tokio::test]
async fn many_blocked_senders_all_get_through() {
    let inbox = filled(1);
    let scope = scope(1);
    let senders = futures_util::future::join_all((0..20).map(|n| {
        let outlet = inbox.outlet();
        async move { outlet.send(100 + n).await }
    }));
    let reader = async {
        for _ in 0..21 {
            assert!(inbox.recv(&scope).await.unwrap().commit());
        }
    };
    let (sent, ()) = tokio::join!(senders, reader);
    assert!(sent.iter().all(Result::is_ok));
}

#[test]
fn room_is_waited_for_and_passed_on_by_who_does_not_use_it() {
    use futures_util::FutureExt as _;
    let (inbox, scope) = (filled(8), scope(1));
    let outlet = inbox.outlet();
    let (mut undecided, mut send) = (Box::pin(outlet.room_for(&9)), Box::pin(outlet.send(9)));
    assert!(undecided.as_mut().now_or_never().is_none() && send.as_mut().now_or_never().is_none());
    let hands: Vec<_> = (0..3).map(|_| inbox.try_recv(&scope).unwrap()).collect();
    assert!(hands[0].commit() && undecided.as_mut().now_or_never().is_none());
    assert!(hands[1].commit() && undecided.as_mut().now_or_never().is_some());
    assert!(send.as_mut().now_or_never().is_some());
    assert!(outlet.try_send(10).is_ok() && outlet.room_for(&9).now_or_never().is_none());
    inbox.close();
    assert!(outlet.room_for(&9).now_or_never().is_some());
}

#[tokio::test]
async fn a_draining_reader_gets_all_that_waits_and_a_stopping_one_nothing() {
    let inbox = filled(3);
    let draining = scope(1);
    draining.incarnation.stop.raise(DRAIN);
    let one = inbox.recv(&draining).await.unwrap();
    assert!(one.commit());
    let stopping = scope(2);
    stopping.incarnation.stop.raise(STOP);
    assert!(inbox.recv(&stopping).await.is_none());
    assert_eq!(inbox.figures().depth, 2);
}

#[tokio::test]
async fn a_closed_inbox_ends_after_its_last_message() {
    let inbox = filled(1);
    inbox.close();
    let scope = scope(1);
    assert_eq!(inbox.outlet().send(2).await, Err(Closed));
    assert!(inbox.recv(&scope).await.unwrap().commit());
    assert!(inbox.recv(&scope).await.is_none());
}
