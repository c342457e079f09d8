//! Tests of the whole product: each starts the real binary and drives it from outside, as its users do.
//!
//! Suites that need more time or other programs are cargo features (`crash-tests`, `browser-tests`); `.ci/run` turns
//! them on. Start at [`support`].

mod exactness;
mod quickstart;
mod recovery;
mod support;
