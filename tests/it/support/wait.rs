//! Waiting for states.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

/// How long a test waits for a state before it fails; generous, since other builds may share the machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Looks until the state is there; `check` answers what it saw instead while it is not.
///
/// # Panics
/// After [`PATIENCE`], with what was seen last.
pub async fn until<T>(state: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + PATIENCE;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        match check().await {
            Ok(value) => return value,
            Err(seen) => assert!(Instant::now() < until, "waited {PATIENCE:?} until {state}; last seen: {seen}"),
        }
    }
}

/// For [`until`]: the value, if it is the wanted one.
pub fn is<T: PartialEq + Debug>(seen: T, wanted: &T) -> Result<T, String> {
    if seen == *wanted { Ok(seen) } else { Err(format!("{seen:?}, not {wanted:?}")) }
}

/// For [`until`]: the value, if it is at least `wanted`.
pub fn at_least<T: PartialOrd + Debug>(seen: T, wanted: &T) -> Result<T, String> {
    if seen >= *wanted { Ok(seen) } else { Err(format!("{seen:?}, less than {wanted:?}")) }
}
