//! Every command in every state: it does what it says, or says why not and what to do.

use std::time::Duration;

use streamward_kit::{
    ActorState, Backoff, ChildPolicy, ChildSpec, Command, CommandError, Failure, Fault, FaultKind, Restart, Runtime,
    Scope, SupervisorSpec, TreeNode,
};

use crate::support::{idle, path, root, start, wait_node};

const LONG: Duration = Duration::from_secs(3_600);

const COMMANDS: [&str; 5] = ["pause", "resume", "drain", "restart", "inject"];

const STATES: [ActorState; 7] = [
    ActorState::Running,
    ActorState::Paused,
    ActorState::Degraded,
    ActorState::BackingOff,
    ActorState::Stopping,
    ActorState::Stopped,
    ActorState::Failed,
];

fn command(name: &str) -> Command {
    match name {
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "drain" => Command::Drain,
        "restart" => Command::Restart,
        _ => Command::Inject(Fault::new(FaultKind::Panic, 1)),
    }
}

/// What is right: the states in which a command is refused.
fn is_refused(name: &str, state: ActorState) -> bool {
    match name {
        "restart" => false,
        "drain" => state.is_at_rest(),
        _ => state.is_at_rest() || state == ActorState::Stopping,
    }
}

/// An actor that comes into a state, and stays there.
fn actor(state: ActorState) -> ChildSpec {
    let policy = ChildPolicy { stop_within: Duration::from_secs(60), ..ChildPolicy::default() };
    match state {
        ActorState::BackingOff => failing().policy(ChildPolicy {
            backoff: Backoff { first: LONG, min: LONG, max: LONG, ..Backoff::default() },
            ..ChildPolicy::permanent()
        }),
        ActorState::Failed => failing().policy(ChildPolicy { restart: Restart::Temporary, ..ChildPolicy::default() }),
        ActorState::Stopping => {
            ChildSpec::role("a", "a", |_: Scope| std::future::pending::<Result<(), Failure>>()).policy(policy)
        }
        _ => idle("a"),
    }
}

fn failing() -> ChildSpec {
    ChildSpec::role("a", "a", |_: Scope| async { Err(Failure::new("always")) })
}

async fn in_state(state: ActorState) -> (Runtime, TreeNode) {
    let runtime = start(root().child(actor(state)).child(ChildSpec::supervisor(SupervisorSpec::new("empty"))));
    let first = match state {
        ActorState::BackingOff | ActorState::Failed => state,
        _ => ActorState::Running,
    };
    wait_node(&runtime, "a", "it has begun", |node| node.state == first).await;
    match state {
        ActorState::Paused => runtime.command(&path("a"), Command::Pause).await.expect("it runs"),
        ActorState::Stopping | ActorState::Stopped => {
            runtime.command(&path("a"), Command::Drain).await.expect("it runs")
        }
        ActorState::Degraded => runtime.note(&path("a"), Some("something is wrong")),
        _ => {}
    }
    let node = wait_node(&runtime, "a", "it is in the state", |node| node.state == state).await;
    (runtime, node)
}

/// Waits until the command has done what it says.
async fn is_done(runtime: &Runtime, name: &str, before: &TreeNode) {
    let what = format!("{name} while {}", before.state.as_str());
    wait_node(runtime, "a", &what, |node| match name {
        // Its next life begins held.
        "pause" => node.state == ActorState::Paused || before.state == ActorState::BackingOff,
        "resume" => node.state != ActorState::Paused,
        "drain" => matches!(node.state, ActorState::Stopping | ActorState::Stopped),
        // A stubborn one is on its way down first.
        "restart" => node.generation > before.generation || before.state == ActorState::Stopping,
        _ => node.armed_faults == 1,
    })
    .await;
}

#[actix_rt::test]
async fn every_command_does_what_it_says_or_says_what_to_do() {
    for state in STATES {
        for name in COMMANDS {
            let (runtime, before) = in_state(state).await;
            let answer = runtime.command(&path("a"), command(name)).await;
            if is_refused(name, state) {
                let error = answer.expect_err(&format!("{name} while {}", state.as_str()));
                assert!(matches!(&error, CommandError::NotNow { state: said, .. } if *said == state), "{error:?}");
                let words = error.to_string();
                let way_out = if state.is_at_rest() { "restart it first" } else { "wait until" };
                assert!(words.contains(state.as_str()) && words.contains(way_out), "{words}");
                let after = runtime.node(&path("a")).unwrap();
                assert_eq!((after.state, after.armed_faults), (state, 0), "a refused command changes nothing");
            } else {
                answer.unwrap_or_else(|error| panic!("{name} while {}: {error}", state.as_str()));
                is_done(&runtime, name, &before).await;
            }
        }
    }
}

#[actix_rt::test]
async fn a_command_to_a_supervisor_is_for_the_actors_below_that_can_carry_it_out() {
    let runtime =
        start(root().child(idle("a")).child(idle("b")).child(ChildSpec::supervisor(SupervisorSpec::new("empty"))));
    let root = path("/");
    for actor in ["a", "b"] {
        wait_node(&runtime, actor, "it runs", |node| node.state == ActorState::Running).await;
    }
    runtime.command(&path("a"), Command::Drain).await.unwrap();
    wait_node(&runtime, "a", "it is down", |node| node.state == ActorState::Stopped).await;
    runtime.command(&root, Command::Pause).await.unwrap();
    wait_node(&runtime, "b", "it is held", |node| node.state == ActorState::Paused).await;
    runtime.command(&root, Command::Drain).await.unwrap();
    wait_node(&runtime, "b", "it is down", |node| node.state == ActorState::Stopped).await;
    for name in ["pause", "resume", "drain"] {
        let answer = runtime.command(&root, command(name)).await;
        assert!(
            matches!(&answer, Err(CommandError::NotNow { path, .. }) if path.as_str() == "a"),
            "{name}: {answer:?}"
        );
        let nobody = runtime.command(&path("empty"), command(name)).await;
        assert_eq!(nobody, Err(CommandError::NobodyBelow(path("empty"))));
        let unknown = runtime.command(&path("nobody"), command(name)).await;
        assert_eq!(unknown, Err(CommandError::UnknownPath(path("nobody"))));
    }
}
