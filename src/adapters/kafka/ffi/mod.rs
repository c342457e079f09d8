//! What rust-rdkafka has no safe call for: the only module of the workspace with `unsafe` code.
//!
//! Each function takes Rust values, copies what librdkafka returns and frees it before it returns.

#![allow(unsafe_code, reason = "calls of the C library")]

mod texts;
mod topic_ids;

pub use texts::{Group, Member, add_header, for_each_header, groups, member_id};
pub use topic_ids::topic_ids;
