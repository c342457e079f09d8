//! What happens to messages while those who send, hold and read them come and go.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use parking_lot::Mutex;
use streamward_kit::{
    ActorState, Backoff, ChildPolicy, ChildSpec, Command, Delivery, Failure, Inbox, Intensity, Placement, Scope,
    TrySendError,
};

use crate::support::{LIMIT, Log, eager, numbers, path, reader, root, start, wait, wait_node};

/// Akka's `stashCapacity`: what is sent while an actor restarts is bounded; here by its inbox, which pushes back.
#[actix_rt::test]
async fn sends_during_a_restart_are_bounded_and_nothing_is_lost() {
    let (inbox, log) = (Inbox::new("numbers", 4), Log::default());
    let child =
        reader(
            &inbox,
            &log,
            |scope, _| {
                if scope.generation() == 1 { Err(Failure::new("the first incarnation")) } else { Ok(()) }
            },
        );
    let long = Backoff { first: Duration::from_secs(3_600), max: Duration::from_secs(3_600), ..Backoff::default() };
    let runtime = start(root().child(child.policy(ChildPolicy::permanent().backoff(long))));
    let outlet = inbox.outlet();
    outlet.try_send(1).unwrap();
    wait_node(&runtime, "reader", "it waits", |node| node.state == ActorState::BackingOff).await;
    (2..=4).for_each(|number| outlet.try_send(number).unwrap());
    assert_eq!(outlet.try_send(5), Err(TrySendError::Full(5)));
    let mut late = Box::pin(outlet.send(5));
    assert!(late.as_mut().now_or_never().is_none(), "it is pushed back");
    assert_eq!(inbox.figures().depth, 4);
    runtime.command(&path("reader"), Command::Restart).await.unwrap();
    late.await.unwrap();
    wait(&runtime, "all are read", |_| log.lock().len() == 5).await;
    assert_eq!(*log.lock(), [1, 2, 3, 4, 5]);
}

/// Alpakka Kafka #992: messages of a revoked partition are filtered; here those of a holder that was replaced.
#[actix_rt::test]
async fn messages_of_a_revoked_holder_are_neither_processed_nor_committed() {
    let inbox = numbers(5);
    let hands: [Arc<Mutex<Vec<Delivery<u64>>>>; 2] = Default::default();
    let (source, holders) = (inbox.clone(), hands.clone());
    let child = ChildSpec::role("reader", "reader", move |scope: Scope| {
        let (inbox, holders) = (source.clone(), holders.clone());
        async move {
            // What the incarnation of before had received lies in a queue of somebody else.
            inbox.rewind();
            let hands = &holders[usize::from(scope.generation() > 1)];
            while let Some(number) = inbox.recv(&scope).await {
                hands.lock().push(number);
            }
            Ok(())
        }
    });
    let runtime = start(root().child(child.policy(eager())));
    wait(&runtime, "all are in hand", |_| hands[0].lock().len() == 5).await;
    runtime.command(&path("reader"), Command::Restart).await.unwrap();
    wait(&runtime, "all are in hand again", |_| hands[1].lock().len() == 5).await;
    for late in hands[0].lock().drain(..) {
        assert!(!late.is_held() && !late.claim(), "no effect may begin");
        assert!(!late.commit(), "and none counts");
    }
    assert_eq!(inbox.figures().in_hand, 5, "the new holder still has them");
    for number in hands[1].lock().drain(..) {
        assert!(number.claim() && number.commit());
    }
    assert_eq!(inbox.figures().committed, 5);
}

/// Orleans: a deactivation hook may never run; here an incarnation that is swept away without a word loses nothing.
#[actix_rt::test]
async fn an_aborted_incarnation_needs_no_last_word() {
    let (inbox, log) = (numbers(5), Log::default());
    let (source, committed) = (inbox.clone(), Arc::clone(&log));
    let child = ChildSpec::role("reader", "reader", move |scope: Scope| {
        let (inbox, committed) = (source.clone(), Arc::clone(&committed));
        async move {
            let _hand = scope.in_hand("three numbers");
            if scope.generation() == 1 {
                let held: Vec<_> = (0..3).map(|_| inbox.try_recv(&scope)).collect();
                std::future::pending::<()>().await;
                drop(held);
            }
            while let Some(number) = inbox.recv(&scope).await {
                assert_eq!(number.attempt(), 0, "an abort is nobody's fault");
                committed.lock().push(*number);
                number.commit();
            }
            Ok(())
        }
    });
    let abrupt = eager().stop_within(Duration::ZERO);
    let runtime = start(root().child(child.policy(abrupt).placement(Placement::pool("data"))));
    wait(&runtime, "three are in hand", |_| inbox.figures().in_hand == 3).await;
    runtime.command(&path("reader"), Command::Restart).await.unwrap();
    inbox.drained().await;
    assert_eq!(*log.lock(), [1, 2, 3, 4, 5]);
}

/// actix: each clone of an address has a place of its own, so `addr.clone().try_send()` is never refused.
#[actix_rt::test]
async fn a_cloned_outlet_adds_no_room() {
    let inbox: Inbox<u64> = Inbox::new("numbers", 16);
    let outlet = inbox.outlet();
    let accepted = (0..300).filter(|number| outlet.clone().try_send(*number).is_ok()).count();
    assert_eq!(accepted, 16);
    let outlets: Vec<_> = (0..20).map(|_| outlet.clone()).collect();
    let mut senders: Vec<_> = outlets.iter().map(|outlet| Box::pin(outlet.send(300))).collect();
    for sender in &mut senders {
        assert!(sender.as_mut().now_or_never().is_none());
    }
    assert_eq!(inbox.figures().depth, 16);
}

/// actix `do_send`, ractor#84: there is a way into the mailbox that knows no bound. Here no way in passes the bound.
#[actix_rt::test]
async fn no_way_of_sending_passes_the_bound() {
    let (inbox, log, deepest) = (Inbox::new("numbers", 8), Log::default(), Arc::new(Mutex::new(0)));
    let (watched, most) = (inbox.clone(), Arc::clone(&deepest));
    let child = reader(&inbox, &log, move |_, _| {
        let figures = watched.figures();
        let mut most = most.lock();
        *most = (*most).max(figures.depth + figures.in_hand);
        Ok(())
    });
    let outlet = inbox.outlet();
    let blocking = ChildSpec::thread("blocking", "sender", move |_| {
        for number in 0..500 {
            outlet.blocking_send_timeout(number, LIMIT).map_err(|_| Failure::new("no room"))?;
        }
        Ok(())
    });
    let runtime = start(root().child(child).child(blocking.policy(ChildPolicy::transient())));
    let waiting = (0..20).map(|_| async {
        for number in 0..20 {
            inbox.outlet().send(number).await.unwrap();
            while inbox.outlet().try_send(number).is_err() {
                tokio::task::yield_now().await;
            }
        }
    });
    join_all(waiting).await;
    wait(&runtime, "all are read", |_| log.lock().len() == 1_300).await;
    assert!((1..=8).contains(&*deepest.lock()), "{deepest:?}");
}

/// actix: a message whose `send` future is dropped is skipped in silence. Here it is either accepted or was never sent.
#[actix_rt::test]
async fn a_dropped_send_takes_nothing_back_and_holds_nobody_up() {
    let (inbox, log) = (Inbox::new("numbers", 1), Log::default());
    let outlet = inbox.outlet();
    let mut accepted = Box::pin(outlet.send(1));
    assert!(accepted.as_mut().now_or_never().is_some());
    drop(accepted);
    let (mut dropped, mut patient) = (Box::pin(outlet.send(2)), Box::pin(outlet.send(3)));
    assert!(dropped.as_mut().now_or_never().is_none() && patient.as_mut().now_or_never().is_none());
    let runtime = start(root().child(reader(&inbox, &log, |_, _| Ok(()))));
    // The room goes to the one that waited first; it is dropped without having looked.
    wait(&runtime, "the first is read", |_| log.lock().len() == 1).await;
    drop(dropped);
    tokio::time::timeout(LIMIT, patient).await.expect("the room was passed on").unwrap();
    wait(&runtime, "the third is read", |_| log.lock().len() == 2).await;
    assert_eq!(*log.lock(), [1, 3]);
}

/// Bastion#287, coerce#33: a restarted child could not be reached from contexts made before.
#[actix_rt::test]
async fn a_restarted_child_is_reached_from_contexts_made_before() {
    let (inbox, log) = (Inbox::new("numbers", 2), Log::default());
    let child = reader(&inbox, &log, |_, number| {
        assert!(**number % 3 != 0 || number.attempt() > 0, "each third one kills it once");
        Ok(())
    });
    let outlet = inbox.outlet();
    let sender = ChildSpec::role("sender", "sender", move |scope: Scope| {
        let outlet = outlet.clone();
        async move {
            for number in 1..=12 {
                outlet.send(number).await?;
            }
            scope.stopping().await;
            Ok(())
        }
    });
    let runtime = start(root().child(child).child(sender));
    wait(&runtime, "all are read", |_| log.lock().len() == 12).await;
    assert_eq!(*log.lock(), (1..=12).collect::<Vec<_>>());
    let tree = runtime.snapshot();
    assert_eq!((tree.find("reader").unwrap().generation, tree.find("sender").unwrap().generation), (5, 1));
}

/// quickwit: an actor whose mailbox has no senders left ends well, and its supervisor does not bring it back.
#[actix_rt::test]
async fn a_closed_inbox_ends_its_reader_in_peace() {
    let (inbox, log) = (numbers(10), Log::default());
    inbox.close();
    let child = reader(&inbox, &log, |_, number| {
        assert!(**number != 5 || number.attempt() > 0, "a panic in between");
        Ok(())
    });
    let policy = ChildPolicy::transient().backoff(Backoff::none());
    let runtime = start(root().child(child.policy(policy)));
    let node =
        wait_node(&runtime, "reader", "at rest", |node| node.generation == 2 && node.state == ActorState::Stopped)
            .await;
    assert_eq!(node.processed, 10);
    assert_eq!(*log.lock(), (1..=10).collect::<Vec<_>>());
}

/// ractor's key-sticky factories: the order of a key holds, also while its worker dies again and again.
#[actix_rt::test]
async fn the_order_of_each_key_holds_over_many_panics() {
    let inbox: Inbox<(u64, u64)> = Inbox::new("keyed", 2_000);
    (0..2_000).for_each(|number| inbox.outlet().try_send((number % 7, number)).unwrap());
    let log: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let (source, written) = (inbox.clone(), Arc::clone(&log));
    let child = ChildSpec::role("worker", "worker", move |scope: Scope| {
        let (inbox, log) = (source.clone(), Arc::clone(&written));
        async move {
            while let Some(first) = inbox.recv(&scope).await {
                // A group in hand, as a sink has it; now and then it dies in the midst of it.
                let more = (0..7).map_while(|_| inbox.try_recv(&scope));
                let group: Vec<_> = std::iter::once(first).chain(more.collect::<Vec<_>>()).collect();
                for item in group {
                    let (_, number) = *item;
                    assert!(number % 37 != 36 || item.attempt() > 0, "now and then");
                    assert!(item.claim());
                    log.lock().push(*item);
                    item.commit();
                }
            }
            Ok(())
        }
    });
    let intensity = Intensity { max_restarts: 1_000, within: Duration::from_secs(3_600) };
    let runtime = start(root().intensity(intensity).child(child.policy(eager()).placement(Placement::pool("data"))));
    inbox.drained().await;
    let mut last = HashMap::new();
    for (key, number) in log.lock().iter() {
        assert!(last.insert(*key, *number).is_none_or(|before| before < *number), "{key}: {number} came late");
    }
    assert_eq!(log.lock().len(), 2_000);
    assert_eq!(runtime.snapshot().find("worker").unwrap().restarts, 54);
}
