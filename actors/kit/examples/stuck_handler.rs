//! A reader that blocks its thread for a minute: it is fenced and replaced long before that.
//!
//! ```text
//! cargo run -p streamward-kit --example stuck_handler
//! ```

use std::{
    error::Error,
    time::{Duration, Instant},
};

use streamward_kit::{
    ActorPath, Backoff, ChildPolicy, ChildSpec, Command, Fault, FaultKind, Inbox, Placement, Runtime, SupervisorSpec,
};

const STUCK_AFTER: Duration = Duration::from_millis(200);

fn main() -> Result<(), Box<dyn Error>> {
    actix_rt::System::new().block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let inbox: Inbox<u64> = Inbox::new("numbers", 64);
    let source = inbox.clone();
    let reader = ChildSpec::role("reader", "reader", move |scope| {
        let inbox = source.clone();
        async move {
            while let Some(number) = inbox.recv(&scope).await {
                scope.fault_point("handle").await?;
                let _hand = scope.in_hand("number");
                number.commit();
            }
            Ok(())
        }
    });
    let policy = ChildPolicy::permanent().backoff(Backoff::none()).stuck_after(STUCK_AFTER);
    let reader = reader.inbox(&inbox).policy(policy).placement(Placement::pool("lanes"));
    let runtime = Runtime::start(SupervisorSpec::new("root").child(reader))?;

    let path = ActorPath::parse("reader")?;
    runtime.command(&path, Command::Inject(Fault::new(FaultKind::Block(60_000), 1))).await?;
    let started = Instant::now();
    inbox.outlet().send(1).await?;
    inbox.drained().await;
    let took = started.elapsed();

    let node = runtime.node(&path).ok_or("the reader is in the tree")?;
    #[allow(clippy::print_stdout, reason = "the report is what this example is for")]
    {
        println!("handled after {took:.0?} by generation {}; limit {STUCK_AFTER:.0?}", node.generation);
        println!(
            "left behind: {} incarnation(s); reason: {}",
            node.zombies,
            node.last_exit.map_or_else(String::new, |exit| exit.message)
        );
    }
    runtime.shutdown(Vec::new()).await;
    Ok(())
}
