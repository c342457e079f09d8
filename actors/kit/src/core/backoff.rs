//! How long a failed child waits.

use std::time::Duration;

use rand::{Rng, RngExt as _};

use crate::policy::Backoff;

/// The delay before the restart after `failures` earlier failures without a healthy run between them.
///
/// 0 gives `first`; then `min × factor^(failures - 1)`, at most `max`, minus a random share of up to `jitter`.
#[must_use]
pub fn delay(backoff: &Backoff, failures: u32, rng: &mut dyn Rng) -> Duration {
    let Some(power) = failures.checked_sub(1) else {
        return backoff.first;
    };
    if backoff.min.is_zero() {
        return Duration::ZERO;
    }
    let power = i32::try_from(power).unwrap_or(i32::MAX);
    let full = (backoff.min.as_secs_f64() * backoff.factor.max(1.0).powi(power)).min(backoff.max.as_secs_f64());
    let random: f64 = rng.random();
    Duration::from_secs_f64(full * (1.0 - backoff.jitter.clamp(0.0, 1.0) * random))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_the_second_waits() {
        let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
        let mut rng = StdRng::seed_from_u64(1);
        let delays: Vec<_> = (0..4).map(|n| delay(&backoff, n, &mut rng).as_millis()).collect();
        assert_eq!(delays, [0, 100, 200, 400]);
    }

    #[test]
    fn no_wait_stays_no_wait_however_often_it_is_multiplied() {
        let backoff = Backoff { min: Duration::ZERO, ..Backoff::default() };
        assert_eq!(delay(&backoff, 5_000, &mut StdRng::seed_from_u64(1)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn a_delay_lies_between_its_jittered_floor_and_the_maximum(failures in 1u32..10_000, seed: u64) {
            let backoff = Backoff::default();
            let mut rng = StdRng::seed_from_u64(seed);
            let got = delay(&backoff, failures, &mut rng);
            prop_assert!(got <= backoff.max);
            prop_assert!(got >= backoff.min.mul_f64(0.5));
        }
    }
}
