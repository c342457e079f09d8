//! What the tests share.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use streamward_kit::{
    ActorPath, Backoff, ChildPolicy, ChildSpec, Delivery, Inbox, Placement, RoleResult, Runtime, Scope, SupervisorSpec,
    TreeNode,
};

/// Longest wait for any state; only a broken test reaches it.
pub const LIMIT: Duration = Duration::from_secs(20);

pub fn path(text: &str) -> ActorPath {
    ActorPath::parse(text).expect("a valid path")
}

/// Waits until `wanted` holds for the tree.
pub async fn wait(runtime: &Runtime, what: &str, wanted: impl Fn(&TreeNode) -> bool) -> TreeNode {
    let poll = async {
        loop {
            let tree = runtime.snapshot();
            if wanted(&tree) {
                return tree;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    match tokio::time::timeout(LIMIT, poll).await {
        Ok(tree) => tree,
        Err(_) => panic!("never: {what}\n{}", serde_json::to_string_pretty(&runtime.snapshot()).expect("JSON")),
    }
}

pub async fn wait_node(runtime: &Runtime, path: &str, what: &str, wanted: impl Fn(&TreeNode) -> bool) -> TreeNode {
    let tree = wait(runtime, what, |tree| tree.find(path).is_some_and(&wanted)).await;
    tree.find(path).expect("it was just there").clone()
}

/// Permanent, without any delay between restarts.
pub fn eager() -> ChildPolicy {
    ChildPolicy::permanent().backoff(Backoff::none())
}

/// What readers have committed, in order.
pub type Log = Arc<Mutex<Vec<u64>>>;

/// A role that commits what it reads into `log`, after asking `step`.
pub fn reader(
    inbox: &Inbox<u64>,
    log: &Log,
    step: impl Fn(&Scope, &Delivery<u64>) -> RoleResult + Clone + Send + Sync + 'static,
) -> ChildSpec {
    let (source, log) = (inbox.clone(), Arc::clone(log));
    ChildSpec::role("reader", "reader", move |scope| {
        let (inbox, log, step) = (source.clone(), Arc::clone(&log), step.clone());
        async move {
            while let Some(number) = inbox.recv(&scope).await {
                let _hand = scope.in_hand("number");
                scope.fault_point("step").await?;
                step(&scope, &number)?;
                if number.commit() {
                    log.lock().push(*number);
                    scope.progress(1);
                }
            }
            Ok(())
        }
    })
    .inbox(inbox)
    .policy(eager())
    .placement(Placement::pool("data"))
}

pub fn numbers(count: u64) -> Inbox<u64> {
    let inbox = Inbox::new("numbers", 1_000);
    (1..=count).for_each(|number| inbox.outlet().try_send(number).expect("there is room"));
    inbox
}

/// A role that waits for its end.
pub fn idle(id: &str) -> ChildSpec {
    ChildSpec::role(id, "idle", |scope: Scope| async move {
        scope.stopping().await;
        Ok(())
    })
}

pub fn start(spec: SupervisorSpec) -> Runtime {
    Runtime::start(spec).expect("ids are valid")
}

pub fn root() -> SupervisorSpec {
    SupervisorSpec::new("root")
}
