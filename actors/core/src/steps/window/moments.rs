//! Count, mean and sum of squared deviations, updated one value at a time.
//!
//! Welford's update (Knuth, The Art of Computer Programming 2, 4.2.2) and the merge of Chan, Golub and LeVeque (1979):
//! both stay accurate where the sum of squares cancels.

use serde::{Deserialize, Serialize};

/// What variance and standard deviation are made of.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Moments {
    pub count: i64,
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub m2: f64,
}

impl Moments {
    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        let delta = value - self.mean;
        self.mean += delta / self.count as f64;
        self.m2 += delta * (value - self.mean);
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        let share = other.count as f64 / count as f64;
        self.mean += delta * share;
        self.m2 += other.m2 + delta * delta * self.count as f64 * share;
        self.count = count;
    }

    /// Sample variance; none for fewer than two values.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        (self.count >= 2).then(|| self.m2 / (self.count - 1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|value| moments.add(*value));
        moments
    }

    #[test]
    fn one_value_has_no_variance() {
        assert_eq!(of(&[3.0]).variance(), None);
    }

    #[test]
    fn large_values_with_a_small_spread_keep_their_variance() {
        let variance = of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]).variance().expect("four values");
        assert!((variance - 30.0).abs() < 1e-6, "{variance}");
    }

    proptest! {
        #[test]
        fn merged_parts_equal_the_whole(values in prop::collection::vec(-1e6_f64..1e6, 2..50), cut in 0_usize..50) {
            let cut = cut.min(values.len());
            let mut merged = of(&values[..cut]);
            merged.merge(of(&values[cut..]));
            let (merged, whole) = (merged.variance().expect("two or more"), of(&values).variance().expect("two or more"));
            prop_assert!((merged - whole).abs() <= 1e-9 * whole.max(1.0), "{merged} {whole}");
        }
    }
}
