//! `streamward bench`: measurements.

use std::process::ExitCode;

use clap::Args;

/// Measure.
#[derive(Debug, Args)]
pub struct BenchArgs {}

pub fn bench(_args: &BenchArgs) -> Result<ExitCode, String> {
    Err("later".to_owned())
}
