//! The world as healthy sensors see it, and what a fault does to a value.
//!
//! Temperature: a daily season with its peak at 15:00 UTC, an offset per device and first-order autoregressive noise.
//! Humidity: the warmer the drier, with noise of its own. Pressure: a slow mean-reverting random walk. The noise is an
//! Ornstein-Uhlenbeck process sampled exactly, so its look does not depend on the interval
//! (Gillespie 1996, doi:10.1103/PhysRevE.54.2084).

use std::f64::consts::TAU;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::faults::{DriftShape, SpikeShape};
use super::reading::{Metadata, SensorType};

const DAY_MS: i64 = 86_400_000;
const MEAN_TEMPERATURE: f64 = 20.0;
const SEASON_AMPLITUDE: f64 = 6.0;
const PEAK_HOUR: f64 = 15.0;
const MEAN_HUMIDITY: f64 = 55.0;
/// Percentage points of humidity lost per degree.
const DRYING: f64 = 2.0;
const MEAN_PRESSURE: f64 = 1013.25;
const DISCHARGE_PER_S: f64 = 100.0 / (48.0 * 3600.0);
const CHARGE_PER_S: f64 = 100.0 / (2.0 * 3600.0);
const RECHARGE_BELOW: f64 = 20.0;

impl SensorType {
    /// The lowest and the highest value a sensor of this type can report, faulty or not.
    #[must_use]
    pub fn bounds(self) -> (f64, f64) {
        match self {
            Self::Temperature => (-40.0, 85.0),
            Self::Humidity => (0.0, 100.0),
            Self::Pressure => (950.0, 1060.0),
        }
    }

    /// A spike: an extreme one lies beyond the usual alarm limits (80 °C, -20 °C, 95 %), a moderate one stands out only
    /// against its neighbours.
    pub(super) fn spiked(self, healthy: f64, shape: SpikeShape) -> f64 {
        let SpikeShape { extreme, sign, size } = shape;
        let high = sign > 0.0;
        let value = match (self, extreme) {
            (Self::Temperature, true) if high => 80.5 + 4.0 * size,
            (Self::Temperature, true) => -20.5 - 19.0 * size,
            (Self::Humidity, true) if high => 95.5 + 4.5 * size,
            (Self::Humidity, true) => 5.0 * size,
            (Self::Pressure, true) if high => 1050.0 + 10.0 * size,
            (Self::Pressure, true) => 950.0 + 10.0 * size,
            (Self::Temperature, false) => healthy + sign * (12.0 + 13.0 * size),
            (Self::Humidity, false) => healthy + sign * (20.0 + 15.0 * size),
            (Self::Pressure, false) => healthy + sign * (18.0 + 15.0 * size),
        };
        self.reported(value)
    }

    /// A drift: off by a part of its final error that grows from 0 to 1 over the fault.
    pub(super) fn drifted(self, healthy: f64, shape: DriftShape) -> f64 {
        let error = match self {
            Self::Temperature => 8.0 + 12.0 * shape.size,
            Self::Humidity => 12.0 + 18.0 * shape.size,
            Self::Pressure => 12.0 + 18.0 * shape.size,
        };
        self.reported(healthy + shape.sign * error * shape.progress)
    }

    /// What the sensor reports for a true value: kept in bounds, two decimals.
    fn reported(self, value: f64) -> f64 {
        let (low, high) = self.bounds();
        (value.clamp(low, high) * 100.0).round() / 100.0
    }
}

/// Noise with a memory: mean 0, standard deviation `sigma`, correlation falling by 1/e each `tau_s` seconds.
#[derive(Debug)]
struct Noise {
    sigma: f64,
    tau_s: f64,
    now: f64,
}

impl Noise {
    fn new(sigma: f64, tau_s: f64, rng: &mut ChaCha8Rng) -> Self {
        Self { sigma, tau_s, now: sigma * normal(rng) }
    }

    fn advance(&mut self, seconds: f64, rng: &mut ChaCha8Rng) {
        let kept = (-seconds / self.tau_s).exp();
        self.now = self.now * kept + self.sigma * (1.0 - kept * kept).sqrt() * normal(rng);
    }
}

/// One device and the air around it.
#[derive(Debug)]
pub(super) struct Device {
    rng: ChaCha8Rng,
    now_ms: Option<i64>,
    temperature_offset: f64,
    temperature: Noise,
    humidity: Noise,
    pressure_offset: f64,
    pressure: Noise,
    signal_mean: f64,
    signal: Noise,
    battery: f64,
    charging: bool,
}

impl Device {
    pub(super) fn new(mut rng: ChaCha8Rng) -> Self {
        Self {
            now_ms: None,
            temperature_offset: rng.random_range(-3.0..3.0),
            temperature: Noise::new(0.8, 600.0, &mut rng),
            humidity: Noise::new(2.5, 600.0, &mut rng),
            pressure_offset: rng.random_range(-4.0..4.0),
            pressure: Noise::new(8.0, 48.0 * 3600.0, &mut rng),
            signal_mean: rng.random_range(-75.0..-45.0),
            signal: Noise::new(6.0, 120.0, &mut rng),
            battery: rng.random_range(40.0..100.0),
            charging: false,
            rng,
        }
    }

    /// Lets the time pass.
    pub(super) fn advance_to(&mut self, now_ms: i64) {
        let passed_ms = self.now_ms.map_or(0, |before| now_ms - before);
        let seconds = passed_ms as f64 / 1000.0;
        self.now_ms = Some(now_ms);
        for noise in [&mut self.temperature, &mut self.humidity, &mut self.pressure, &mut self.signal] {
            noise.advance(seconds, &mut self.rng);
        }
        if self.charging {
            self.battery = (self.battery + CHARGE_PER_S * seconds).min(100.0);
            self.charging = self.battery < 100.0;
        } else {
            self.battery = (self.battery - DISCHARGE_PER_S * seconds).max(RECHARGE_BELOW);
            self.charging = self.battery <= RECHARGE_BELOW;
        }
    }

    /// What a healthy sensor reports now.
    pub(super) fn measure(&mut self, kind: SensorType) -> f64 {
        let jitter = normal(&mut self.rng);
        let value = match kind {
            SensorType::Temperature => self.air_temperature() + 0.05 * jitter,
            SensorType::Humidity => {
                let warmer = self.air_temperature() - MEAN_TEMPERATURE;
                MEAN_HUMIDITY - DRYING * warmer + self.humidity.now + 0.2 * jitter
            }
            SensorType::Pressure => MEAN_PRESSURE + self.pressure_offset + self.pressure.now + 0.1 * jitter,
        };
        kind.reported(value)
    }

    pub(super) fn metadata(&self) -> Metadata {
        Metadata {
            battery_level: self.battery.round() as i32,
            signal_strength: (self.signal_mean + self.signal.now).clamp(-90.0, -30.0).round() as i32,
        }
    }

    fn air_temperature(&self) -> f64 {
        let of_day_ms = self.now_ms.unwrap_or(0).rem_euclid(DAY_MS);
        let hour = of_day_ms as f64 / 3_600_000.0;
        let season = SEASON_AMPLITUDE * (TAU * (hour - PEAK_HOUR) / 24.0).cos();
        MEAN_TEMPERATURE + self.temperature_offset + season + self.temperature.now
    }
}

/// A standard normal number (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
}
