//! One busy or broken role must not take the turns of those that share its thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use streamward_kit::{
    ActorState, ChildSpec, Command, Inbox, Intensity, Placement, Runtime, Scope, TrySendError, path::ActorPath,
};

use crate::support::{LIMIT, Log, eager, idle, path, reader, root, start, wait, wait_node};

/// Messages of a flood; at [`STEP`] each, more than any wait of a healthy neighbour.
const FLOOD: u64 = 200_000;
/// What one message costs its reader.
const STEP: Duration = Duration::from_micros(20);
/// Turns that a neighbour wants to have had.
const TURNS: u64 = 20;

/// A thread that keeps an inbox full until it has sent the whole flood.
fn flooder(inbox: &Inbox<u64>) -> ChildSpec {
    let outlet = inbox.outlet();
    ChildSpec::thread("flooder", "flooder", move |scope| {
        let mut number = 0;
        while number < FLOOD && !scope.is_stopping() {
            number += u64::from(outlet.blocking_send_timeout(number, Duration::from_millis(50)).is_ok());
        }
        let _ = scope.stopping_within(LIMIT);
        Ok(())
    })
}

/// A reader on the pool `data` that works without ever waiting.
fn busy_reader(inbox: &Inbox<u64>) -> ChildSpec {
    reader(inbox, &Log::default(), |_, _| {
        let until = Instant::now() + STEP;
        while Instant::now() < until {}
        Ok(())
    })
}

/// A role that counts its turns.
fn neighbour(turns: &Arc<AtomicU64>) -> ChildSpec {
    let turns = Arc::clone(turns);
    ChildSpec::role("neighbour", "neighbour", move |scope: Scope| {
        let turns = Arc::clone(&turns);
        async move {
            while !scope.is_stopping() {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    })
}

/// Waits until the reader is in the midst of the flood.
async fn flooded(runtime: &Runtime, inbox: &Inbox<u64>) -> u64 {
    wait(runtime, "the flood has begun", |_| inbox.figures().committed > 500).await;
    inbox.figures().accepted
}

/// actix: a mailbox is drained without a budget, so a flooded actor starves its neighbours on the arbiter.
#[actix_rt::test]
async fn a_flooded_role_leaves_its_neighbours_their_turns() {
    let (inbox, turns) = (Inbox::new("flood", 1_000), Arc::new(AtomicU64::new(0)));
    let neighbour = neighbour(&turns).placement(Placement::pool("data"));
    let runtime = start(root().child(busy_reader(&inbox)).child(neighbour).child(flooder(&inbox)));
    flooded(&runtime, &inbox).await;
    let before = turns.load(Ordering::Relaxed);
    wait(&runtime, "the neighbour has its turns", |_| turns.load(Ordering::Relaxed) > before + TURNS).await;
    assert!(inbox.figures().accepted < FLOOD, "they came during the flood, not after it");
    runtime.shutdown(Vec::new()).await;
}

/// actix: a control message behind a flood of data waits for all of it.
#[actix_rt::test]
async fn a_control_message_is_answered_in_the_midst_of_a_flood() {
    let inbox = Inbox::new("flood", 1_000);
    let runtime = start(root().child(busy_reader(&inbox)).child(flooder(&inbox)));
    flooded(&runtime, &inbox).await;
    let node = runtime.describe(&path("reader"), LIMIT).await.unwrap();
    assert_eq!(node.generation, 1);
    assert!(inbox.figures().accepted < FLOOD, "the answer came during the flood, not after it");
    runtime.shutdown(Vec::new()).await;
}

/// The same for the supervisors themselves, where a role shares their thread.
#[actix_rt::test]
async fn a_flooded_role_on_the_main_thread_does_not_hold_up_the_supervisors() {
    let inbox = Inbox::new("flood", 1_000);
    let runtime = start(root().child(busy_reader(&inbox).placement(Placement::Main)).child(flooder(&inbox)));
    flooded(&runtime, &inbox).await;
    runtime.command(&path("reader"), Command::Restart).await.unwrap();
    wait_node(&runtime, "reader", "restarted", |node| node.generation == 2 && node.state == ActorState::Running).await;
    assert!(inbox.figures().accepted < FLOOD, "it happened during the flood, not after it");
    runtime.shutdown(Vec::new()).await;
}

/// heph#530: an actor that always fails and is always restarted at once starved the others of its thread.
#[actix_rt::test]
async fn a_crash_loop_without_delay_leaves_its_thread_mates_their_turns() {
    let (crashes, turns) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&crashes);
    let crasher = ChildSpec::role("crasher", "crasher", move |_: Scope| {
        count.fetch_add(1, Ordering::Relaxed);
        async { panic!("always") }
    });
    let intensity = Intensity { max_restarts: 5_000, within: Duration::from_secs(3_600) };
    let runtime = start(root().intensity(intensity).child(crasher.policy(eager())).child(neighbour(&turns)));
    wait(&runtime, "it crashes", |_| crashes.load(Ordering::Relaxed) > 20).await;
    let before = turns.load(Ordering::Relaxed);
    wait(&runtime, "the neighbour has its turns", |_| turns.load(Ordering::Relaxed) > before + TURNS).await;
    let asked = runtime.command(&path("neighbour"), Command::Restart).await;
    assert_eq!(asked, Ok(()), "commands get their turn too");
    assert!(crashes.load(Ordering::Relaxed) < 5_000, "all that during the crash loop");
}

/// actix: a panic takes nothing with it but its own actor; neighbours on the arbiter live on.
#[actix_rt::test]
async fn a_panic_leaves_the_neighbours_on_its_thread_alone() {
    let inbox: Inbox<u64> = Inbox::new("numbers", 10);
    let turns = Arc::new(AtomicU64::new(0));
    let child = reader(&inbox, &Log::default(), |_, number| {
        assert!(number.attempt() > 0, "each number once");
        Ok(())
    });
    let neighbour = neighbour(&turns).placement(Placement::pool("data"));
    let runtime = start(root().child(child).child(neighbour));
    (1..=5).for_each(|number| inbox.outlet().try_send(number).unwrap());
    wait_node(&runtime, "reader", "five panics", |node| node.processed == 5 && node.generation == 6).await;
    let before = turns.load(Ordering::Relaxed);
    let tree = wait(&runtime, "it goes on", |_| turns.load(Ordering::Relaxed) > before).await;
    assert_eq!(tree.find("neighbour").unwrap().generation, 1);
    runtime.shutdown(Vec::new()).await;
}

/// actix: `connected()` may still say true after a panic; here nothing but the tree tells who lives, and it is right.
#[actix_rt::test]
async fn a_dead_reader_is_shown_as_dead_and_its_sender_is_pushed_back() {
    let (inbox, log) = (Inbox::new("numbers", 3), Log::default());
    let mortal = reader(&inbox, &log, |scope, _| {
        assert!(scope.generation() > 1, "the first incarnation");
        Ok(())
    });
    let mortal = mortal.policy(streamward_kit::ChildPolicy::temporary());
    let runtime = start(root().child(mortal).child(idle("other")));
    let outlet = inbox.outlet();
    outlet.try_send(1).unwrap();
    let node = wait_node(&runtime, "reader", "dead", |node| node.state == ActorState::Failed).await;
    assert_eq!(node.last_exit.unwrap().message, "the first incarnation");
    (2..=3).for_each(|number| outlet.try_send(number).unwrap());
    assert_eq!(outlet.try_send(4), Err(TrySendError::Full(4)), "to the bound, and no further");
    let dead = runtime.describe(&ActorPath::parse("reader").unwrap(), LIMIT).await;
    assert!(dead.is_err(), "{dead:?}");
    runtime.command(&path("reader"), Command::Restart).await.unwrap();
    wait(&runtime, "all are read", |_| log.lock().len() == 3).await;
    assert_eq!(*log.lock(), [1, 2, 3]);
}
