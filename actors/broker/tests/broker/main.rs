//! The broker driven by librdkafka over loopback, as any client would.

mod admin;
mod groups;
mod records;
mod recovery;
mod support;
mod transactions;
mod wire;
