//! Apart from the other tests, because a panic during the resolution of another one goes without frames.

use std::time::Duration;

use streamward_kit::{ActorPath, ChildSpec, Runtime, Scope, SupervisorSpec};

#[actix_rt::test]
async fn the_report_of_a_panic_gets_its_first_frames() {
    let child = ChildSpec::role("once", "once", |scope: Scope| async move {
        assert!(scope.generation() > 1, "the first time");
        scope.stopping().await;
        Ok(())
    });
    let runtime = Runtime::start(SupervisorSpec::new("root").child(child)).expect("ids are valid");
    let path = ActorPath::parse("once").expect("a valid path");
    let frames = async {
        loop {
            let exit = runtime.node(&path).and_then(|node| node.last_exit);
            if let Some(head) = exit.and_then(|exit| exit.backtrace_head) {
                return head;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let head = tokio::time::timeout(Duration::from_secs(60), frames).await.expect("the frames are resolved");
    assert!(head.contains("the_report_of_a_panic"), "{head}");
}
