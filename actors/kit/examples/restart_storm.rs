//! A reader that keeps panicking: watch it heal, and see that nothing is lost or reordered.
//!
//! ```text
//! cargo run -p streamward-kit --example restart_storm
//! ```

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use streamward_kit::{
    ActorPath, Backoff, ChildPolicy, ChildSpec, Command, Fault, FaultKind, Inbox, Intensity, Phase, PhaseAction,
    Placement, Runtime, SupervisorSpec,
};

const MESSAGES: u64 = 20_000;
const PANICS: u32 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    actix_rt::System::new().block_on(storm())
}

async fn storm() -> Result<(), Box<dyn Error>> {
    let inbox: Inbox<u64> = Inbox::new("numbers", 64);
    let read = Arc::new(Mutex::new(Vec::new()));
    let intensity = Intensity { max_restarts: PANICS, within: Duration::from_secs(60) };
    let lanes = SupervisorSpec::new("lanes").intensity(intensity).child(reader(&inbox, &read));
    let runtime = Runtime::start(SupervisorSpec::new("root").child(ChildSpec::supervisor(lanes)))?;

    let lane = ActorPath::parse("lanes/reader")?;
    let started = Instant::now();
    let outlet = inbox.outlet();
    for number in 0..MESSAGES {
        if number % (MESSAGES / u64::from(PANICS)) == 0 {
            runtime.command(&lane, Command::Inject(Fault::new(FaultKind::Panic, 1))).await?;
        }
        outlet.send(number).await?;
    }
    inbox.drained().await;
    let took = started.elapsed();

    let tree = runtime.snapshot();
    let node = tree.find("lanes/reader").ok_or("the reader is in the tree")?;
    let read = std::mem::take(&mut *read.lock());
    let in_order = read.iter().copied().eq(0..MESSAGES);
    let report =
        runtime.shutdown(vec![Phase::new("lanes", &["lanes"], PhaseAction::Drain, Duration::from_secs(5))]).await;
    #[allow(clippy::print_stdout, reason = "the report is what this example is for")]
    {
        println!("{} messages, {} restarts, {took:.2?}", read.len(), node.restarts);
        println!("every message once and in order: {in_order}");
        println!("shutdown clean: {}", report.is_clean());
    }
    if in_order { Ok(()) } else { Err("messages were lost, repeated or reordered".into()) }
}

fn reader(inbox: &Inbox<u64>, read: &Arc<Mutex<Vec<u64>>>) -> ChildSpec {
    let (source, read) = (inbox.clone(), Arc::clone(read));
    ChildSpec::role("reader", "reader", move |scope| {
        let (inbox, read) = (source.clone(), Arc::clone(&read));
        async move {
            while let Some(number) = inbox.recv(&scope).await {
                let _hand = scope.in_hand("number");
                scope.fault_point("before the effect").await?;
                if number.claim() {
                    read.lock().push(*number);
                    number.commit();
                    scope.progress(1);
                }
            }
            Ok(())
        }
    })
    .inbox(inbox)
    .policy(ChildPolicy::permanent().backoff(Backoff::none()))
    .placement(Placement::pool("lanes"))
}
