//! The broker driven by librdkafka over loopback, as any client would.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod admin;
mod compaction;
mod groups;
mod hostile;
mod inspect;
mod quotas;
mod raw;
mod records;
mod recovery;
mod scram_admin;
mod security;
mod support;
mod tls;
mod transactions;
mod wire;
