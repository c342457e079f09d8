//! Logging to standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogConfig, LogFormat};

/// Starts logging; `RUST_LOG` overrides the configured level. A second call does nothing.
pub fn init(config: &LogConfig) {
    let level = config.level.as_str();
    let default = format!("{level},sqlx=warn,actix_server=warn,actix_http=warn,mio=warn,librdkafka=off,rdkafka=off");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // A line that cannot be written, on a full disk, is lost: complaining about it would end the thread.
    let builder =
        fmt().log_internal_errors(false).with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal());
    let _already_started = match config.format {
        LogFormat::Text => builder.with_target(false).compact().try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
