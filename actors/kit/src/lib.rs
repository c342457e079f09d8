//! Supervision on actix: actors that panic, fail, stall or end come back, and nothing they were given is lost.
//!
//! A child of the tree is a *factory* and a *policy* ([`ChildSpec`]). The factory makes a fresh role for each
//! incarnation; what must outlive it, above all its [`Inbox`], belongs to the slot. Decisions are made by a pure
//! machine ([`core::SupervisorCore`]) in OTP's vocabulary; a shell performs them. Everything is visible
//! ([`Runtime::snapshot`], [`Runtime::events`], [`Runtime::metrics`]) and can be commanded ([`Runtime::command`]).
//!
//! It is not a message bus and knows nothing of what flows through it. Guarantees, defaults, limits and the bugs of
//! other runtimes that it is tested against are in its `README.md`.
//!
//! ```
//! use streamward_kit::{ChildSpec, Inbox, Outcome, Runtime, SupervisorSpec};
//!
//! let inbox: Inbox<u64> = Inbox::new("numbers", 16);
//! let reader = inbox.clone();
//! let adder = ChildSpec::role("adder", "adder", move |scope| {
//!     let inbox = reader.clone();
//!     async move {
//!         while let Some(number) = inbox.recv(&scope).await {
//!             let _hand = scope.in_hand("number");
//!             scope.progress(*number);
//!             number.commit();
//!         }
//!         Ok(())
//!     }
//! })
//! .inbox(&inbox);
//!
//! let outcome = actix_rt::System::new().block_on(async move {
//!     let runtime = Runtime::start(SupervisorSpec::new("root").child(adder)).expect("ids are valid");
//!     inbox.outlet().send(41).await.expect("open");
//!     inbox.drained().await;
//!     assert_eq!(runtime.snapshot().find("adder").expect("in the tree").processed, 41);
//!     runtime.shutdown(Vec::new()).await;
//!     runtime.run().await
//! });
//! assert_eq!(outcome, Outcome::Stopped);
//! ```
//!
//! Where to start: [`spec`] for building a tree, [`scope`] for writing a role, [`inbox`] for passing data,
//! [`runtime`] for looking and commanding, [`policy`] and [`core`] for the rules, `driver` for how they are carried
//! out.
//!
//! ```text
//!  spec ─► driver (one task: timers, arbiters, watchdog) ◄── commands ── runtime
//!             │ events ▲ ends                                               │ snapshot, events, metrics
//!             ▼        │                                                    ▼
//!           core (pure machine per supervisor)              slot (state, inboxes, faults; outlives incarnations)
//!             │ effects                                                     ▲
//!             └─► worker (an actix context or a thread) ───── scope ────────┘
//! ```

pub mod core;
mod driver;
pub mod events;
pub mod exit;
pub mod fault;
pub mod human;
pub mod inbox;
pub mod meter;
mod panics;
pub mod path;
pub mod policy;
pub mod progress;
pub mod runtime;
pub mod scope;
pub mod shutdown;
mod signal;
mod slot;
pub mod spec;
mod task;
pub mod tree;
mod worker;

pub use crate::{
    events::{EventKind, LifecycleEvent},
    exit::{Culprit, ExitReason, ExitReport, Failure},
    fault::{Fault, FaultKind, StruckFault},
    inbox::{Capacity, Closed, Delivery, Inbox, InboxFigures, Order, Outlet, TrySendError},
    meter::TimeFigures,
    panics::{CaughtPanic, catch},
    path::{ActorPath, PathError, PathPattern},
    policy::{Backoff, ChildPolicy, Intensity, PolicyError, Restart, Strategy, SupervisorPolicy},
    progress::Progress,
    runtime::{ActorFigures, Command, CommandError, Outcome, Runtime, SpecError, SupervisorHandle},
    scope::{HandGuard, Scope, WaitGuard},
    shutdown::{Phase, PhaseAction, PhaseReport, ShutdownReport},
    spec::{ChildSpec, Placement, RoleResult, SupervisorSpec},
    tree::{ActorState, InHand, TreeNode, WaitingOn},
};
