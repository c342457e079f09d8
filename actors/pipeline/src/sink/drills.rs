//! A sink that is held, made to fail, watched, and told to end: what storage gets meanwhile, and what people are told.

use parking_lot::Mutex;
use streamward_kit::{ActorPath, Command, Fault, FaultKind, Phase, PhaseAction, Runtime, SupervisorSpec};

use super::{
    tests::{MAX_DELAY, Rig},
    *,
};
use crate::fakes::{Answer, in_virtual_time, logged, on_a_system};

fn path() -> ActorPath {
    ActorPath::parse("sink").unwrap()
}

fn stored() -> Answer {
    Ok(vec![Outcome::Committed])
}

fn busy() -> Answer {
    Err(StoreError::Unavailable("busy".to_owned()))
}

#[test]
fn a_sink_that_is_held_with_outputs_in_hand_commits_nothing_until_it_goes_on() {
    let left = in_virtual_time(async {
        let rig = Rig::new(&[stored]);
        rig.send(&[0]);
        let runtime = Runtime::start(SupervisorSpec::new("root").child(rig.sink(10, 10_000))).unwrap();
        let waits_for = || runtime.snapshot().find("sink").and_then(|sink| sink.waiting_on.clone());
        while waits_for().is_none_or(|waiting| waiting.on != "rows") {
            tokio::task::yield_now().await;
        }
        runtime.command(&path(), Command::Pause).await.unwrap();
        tokio::time::sleep(2 * MAX_DELAY).await;
        assert_eq!(*rig.store.attempts.lock(), [[0; 0]; 0], "it would have waited for rows long enough");
        runtime.command(&path(), Command::Resume).await.unwrap();
        rig.finish(runtime).await
    });
    assert_eq!((left.committed(), left.attempts.len(), left.sink.restarts), (vec![5], 1, 0));
}

#[test]
fn a_sink_that_drains_while_storage_is_unavailable_stores_what_is_queued() {
    let left = in_virtual_time(async {
        let rig = Rig::new(&[busy, busy, busy, stored]);
        rig.send(&[0]);
        let runtime = Runtime::start(SupervisorSpec::new("root").child(rig.sink(1, 10_000))).unwrap();
        runtime.until(|| !rig.store.attempts.lock().is_empty()).await;
        let drain = Phase::new("sinks", &["sink"], PhaseAction::Drain, Duration::from_secs(3_600));
        runtime.shutdown(vec![drain]).await;
        rig.finish(runtime).await
    });
    assert_eq!((left.committed(), left.attempts.len(), left.sink.restarts), (vec![5], 4, 0));
}

#[test]
fn a_fault_on_purpose_ends_a_sink_before_or_after_its_commit() {
    for (point, attempts) in [("before_commit", 1), ("after_commit", 2)] {
        let left = on_a_system(async {
            let rig = Rig::new(&[stored, || Ok(vec![Outcome::AlreadyCommitted])]);
            let runtime = rig.start(1);
            let fault = Fault { kind: FaultKind::Error, times: 1, point: Some(point.to_owned()) };
            runtime.command(&path(), Command::Inject(fault)).await.unwrap();
            rig.send(&[0]);
            rig.finish(runtime).await
        });
        let why = left.sink.last_exit.as_ref().map(|exit| exit.message.clone());
        assert_eq!(why, Some(format!("injected error at {point}")));
        assert_eq!((left.committed(), left.attempts.len(), left.sink.restarts), (vec![5], attempts, 1));
    }
}

/// Notes the partitions of each commit.
#[derive(Default)]
struct Notes(Mutex<Vec<Vec<i32>>>);

impl CommitObserver for Notes {
    fn committed(&self, pending: &[Arc<Pending>]) {
        self.0.lock().push(pending.iter().map(|pending| pending.key.partition).collect());
    }
}

#[test]
fn whoever_measures_a_sink_hears_of_each_commit_and_of_no_attempt_that_failed() {
    let notes = Arc::new(Notes::default());
    on_a_system(async {
        let mut rig = Rig::new(&[busy, || Ok(vec![Outcome::Committed; 2])]);
        rig.observer = Some(notes.clone());
        rig.send(&[0, 1]);
        let runtime = rig.start(1);
        rig.finish(runtime).await
    });
    assert_eq!(*notes.0.lock(), [[0, 1]]);
}

#[test]
fn a_sink_whose_storage_is_unavailable_says_why_and_what_it_waits_for() {
    on_a_system(async {
        let rig = Rig::new(&[busy]);
        let runtime = rig.start(1);
        rig.send(&[0]);
        let look = || runtime.snapshot().find("sink").unwrap().clone();
        while look().note.is_none() || look().waiting_on.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(look().note.as_deref(), Some("storage is unavailable: busy"));
        assert_eq!(look().waiting_on.unwrap().on, "sql");
        runtime.shutdown(Vec::new()).await;
    });
}

#[test]
fn what_stops_a_partition_is_logged_once_however_many_of_its_outputs_are_behind() {
    let told = |answer: fn() -> Answer, partitions: &[i32]| {
        logged(|| {
            in_virtual_time(async {
                let rig = Rig::new(&[answer]);
                rig.send(partitions);
                let runtime = Runtime::start(SupervisorSpec::new("root").child(rig.sink(1, 10_000))).unwrap();
                rig.finish(runtime).await;
            });
        })
    };
    let stale = told(|| Ok(vec![Outcome::Refused("first".into()), Outcome::Stale]), &[1, 1]);
    assert_eq!(stale.iter().filter(|line| line.contains("stands still")).count(), 1, "{stale:?}");
    assert!(!stale.iter().any(|line| line.contains("another owner")), "{stale:?}");
    let again = told(|| Ok(vec![Outcome::Refused("first".into()), Outcome::Refused("second".into())]), &[1, 1]);
    assert_eq!(again.iter().filter(|line| line.contains("stands still")).count(), 1, "{again:?}");
    let other = told(|| Ok(vec![Outcome::Stale]), &[1]);
    assert_eq!(other.iter().filter(|line| line.contains("another owner")).count(), 1, "{other:?}");
}
