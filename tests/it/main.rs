//! Tests of the whole product: each starts the real binary and drives it from outside, as its users do.
//!
//! Suites that need more time or other programs are cargo features (`crash-tests`, `browser-tests`); `.ci/run` turns
//! them on. Start at [`support`].

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

mod at_rest;
mod bad_records;
mod broker_disk;
#[cfg(feature = "crash-tests")]
mod broker_kills;
#[cfg(feature = "browser-tests")]
mod browser;
mod changed_meaning;
mod command_line;
mod config_walk;
mod damaged;
mod derived;
mod documented;
mod exactness;
mod facts;
mod groups_and_sums;
mod header_names;
mod hostile;
mod http_strangers;
#[cfg(feature = "crash-tests")]
mod kills;
mod kinds;
mod live;
mod lost_schemas;
mod made_anew;
mod memory;
mod openapi;
mod outage;
mod quickstart;
mod recovery;
mod refused_rows;
mod registration;
mod registry;
mod replay;
mod retention;
#[cfg(feature = "tls")]
mod secure_kafka;
mod security;
mod shared_group;
#[cfg(feature = "crash-tests")]
mod soak;
mod standing_still;
mod supervision;
mod support;
mod tidy;
mod time_strangers;
mod topics;
#[cfg(feature = "crash-tests")]
mod transactions;
mod verify;
