//! The actor roles of a pipeline as thin shells around `streamward-core`, supervised by `streamward-kit`.
//!
//! ```text
//! source (thread) ─ Work ─► lane ─ Store ─► sink ─► SQL ─ outbox ─► relays
//!                            └─ frames ─► live hub ─► WebSocket sessions
//! ```
//!
//! A shell takes a message, calls the core, performs the effects. What must survive an actor lives in its slot
//! ([`slot`]) or in storage ([`store`]); [`messages`] has the whole protocol on one page. Not here: client libraries
//! (adapters implement the ports [`source::LogClient`], [`store::SinkStore`], [`relay::Target`]) and business
//! decisions (`streamward-core`).

pub mod assignment;
mod chains;
pub mod end_of_log;
#[cfg(test)]
mod fakes;
pub mod lane;
pub mod live;
pub mod logs;
pub mod messages;
mod pace;
pub mod poison;
pub mod ports;
pub mod relay;
pub mod sink;
pub mod slot;
pub mod source;
pub mod steps;
pub mod store;
