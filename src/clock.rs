//! The wall clock, and its times as text.

use std::time::{SystemTime, UNIX_EPOCH};

use streamward_core::schema::instant;
use streamward_pipeline::ports::Clock;

/// Milliseconds since 1970 by the wall clock.
#[must_use]
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 (UTC) as RFC 3339 text.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    let mut text = Vec::with_capacity(24);
    instant::write(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The wall clock as the actors ask it.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        now_ms()
    }
}
