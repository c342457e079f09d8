//! A single-node broker that speaks the Kafka protocol, as a library.
//!
//! It is a default and a test bed: unmodified Kafka clients work against it. It is not a cluster:
//! there is no replication, and nothing here knows what the records mean or who embeds it.
//!
//! Where to start:
//! - [`Broker`] (`broker.rs`): open, serve, close;
//! - `log/`: the records of one partition, durable and recovered;
//! - `topic/`: topics, partitions, settings, readers that wait;
//! - `group/`: consumer groups as a state machine without clock or sockets;
//! - `txn/`: transactions over partitions and committed offsets;
//! - `damage.rs`: what logs lost to damage of their files;
//! - `storage.rs`: whether the disk takes records;
//! - `meta/`: what must survive a restart beside records;
//! - `auth/`, `tls.rs`: who a client is (SASL), and that nobody listens;
//! - `quota/`: byte rates of clients;
//! - `api/`: one function per request of the protocol, and the table of what is supported;
//! - `serve.rs`, `limits.rs`, `connection/`, `wire.rs`: listeners, bounds, frames, decoding.
//!
//! Invariants: an acknowledged record survives the end of the process; an offset is never given
//! twice; what a client sends can end its own connection, nothing else.

mod api;
mod auth;
mod broker;
mod config;
mod connection;
mod damage;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod limits;
mod log;
mod meta;
mod quota;
mod serve;
mod storage;
mod tls;
mod topic;
mod txn;
mod wire;

pub use auth::users::MAX_USERS;
pub use broker::{Broker, BrokerStats};
pub use config::{AuthConfig, BrokerConfig, ClientRates, Fsync, Mechanism, User};
pub use damage::Damage;
pub use error::{OpenError, TopicError};
pub use serve::Internal;
pub use storage::StorageTrouble;
pub use tls::{TlsConfig, Validity};
pub use topic::log_files;

/// Partitions that one topic may have.
pub const MAX_PARTITIONS_PER_TOPIC: i32 = 1_024;
/// Shortest time between two syncs of files.
const SHORTEST_FSYNC_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);
/// How often files are synced that `fsync` leaves alone, retention runs and the metadata shrinks.
const UPKEEP_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// Partitions that one broker may have.
pub const MAX_PARTITIONS: i32 = 8_192;

/// Milliseconds since the epoch by the system's clock.
pub(crate) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
