//! The sensor simulator: devices that measure temperature, humidity and pressure, with labelled faults.
//!
//! Time is cut into cycles of one interval; in each cycle every channel (one sensor and one type) has one slot, and the
//! slots are spread evenly over the cycle, so readings never come in bursts. What a slot emits depends on the seed, the
//! start and the slot alone, not on how the calls are cut.
//!
//! [`physics`] is the world as it is, [`faults`] is what is wrong with a channel at a cycle, [`reading`] is the JSON.

mod faults;
mod physics;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

pub use faults::FaultKind;
use faults::{Effect, FaultPlan, FaultSchedule};
use physics::Device;
pub use reading::{Metadata, Reading, SensorType};

/// How many sensors one simulator may have.
pub const SENSORS: RangeInclusive<usize> = 1..=10_000;
/// The shares of labelled readings that can be asked for.
pub const FAULT_RATE: RangeInclusive<f64> = 0.0..=0.5;
/// Times between two readings of one channel.
pub const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// The most faults kept in the ground truth; older ones are forgotten and counted.
pub const MAX_LISTED_FAULTS: usize = 10_000;
/// The number of zones the sensors are spread over.
const ZONES: usize = 5;

/// What to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorSettings {
    /// Same seed and start, same bytes.
    pub seed: u64,
    /// Number of devices, [`SENSORS`].
    pub sensors: usize,
    /// What each device measures: at least one type, none twice.
    pub types: Vec<SensorType>,
    /// Time between two readings of the same sensor and type, [`INTERVAL`].
    pub interval: Duration,
    /// Long-run share of labelled readings, [`FAULT_RATE`].
    pub fault_rate: f64,
    /// Event time of the first reading, milliseconds since the epoch.
    pub start_ms: i64,
}

impl Default for SensorSettings {
    fn default() -> Self {
        Self {
            seed: 42,
            sensors: 10,
            types: SensorType::ALL.to_vec(),
            interval: Duration::from_secs(1),
            fault_rate: 0.02,
            start_ms: 0,
        }
    }
}

/// Why settings cannot be simulated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// No sensor, or too many.
    #[error("sensors must be in {SENSORS:?}, not {0}")]
    Sensors(usize),
    /// No type at all.
    #[error("types must name at least one of temperature, humidity, pressure")]
    NoTypes,
    /// A type is named twice.
    #[error("types names {0} twice")]
    TypeTwice(SensorType),
    /// The interval is out of its range.
    #[error("interval must be in {INTERVAL:?}, not {0:?}")]
    Interval(Duration),
    /// The fault rate is out of its range.
    #[error("fault_rate must be in {FAULT_RATE:?}, not {0}")]
    FaultRate(f64),
    /// The start is not a time of the calendar.
    #[error("start_ms {0} is outside the years -9999 to 9999")]
    Start(i64),
}

impl SensorSettings {
    fn check(&self) -> Result<(), SettingsError> {
        if !SENSORS.contains(&self.sensors) {
            return Err(SettingsError::Sensors(self.sensors));
        }
        if self.types.is_empty() {
            return Err(SettingsError::NoTypes);
        }
        for (index, kind) in self.types.iter().enumerate() {
            if self.types[..index].contains(kind) {
                return Err(SettingsError::TypeTwice(*kind));
            }
        }
        if !INTERVAL.contains(&self.interval) {
            return Err(SettingsError::Interval(self.interval));
        }
        if !FAULT_RATE.contains(&self.fault_rate) {
            return Err(SettingsError::FaultRate(self.fault_rate));
        }
        match Timestamp::from_millisecond(self.start_ms) {
            Ok(_) => Ok(()),
            Err(_) => Err(SettingsError::Start(self.start_ms)),
        }
    }
}

/// One labelled fault of the ground truth.
///
/// Every reading of this sensor and type with `first_ms <= event time <= last_ms` is labelled, and no other one. Within
/// a dropout all readings but the one at `last_ms`, the first after the silence, are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The faulty device.
    pub sensor_id: String,
    /// The faulty channel of the device.
    pub sensor_type: SensorType,
    /// What goes wrong.
    pub kind: FaultKind,
    /// Event time of the first affected reading, milliseconds since the epoch.
    pub first_ms: i64,
    /// Event time of the last affected reading, milliseconds since the epoch.
    pub last_ms: i64,
}

/// A fleet of sensors; see the module page.
#[derive(Debug)]
pub struct SensorSimulator {
    start_ms: i64,
    interval_us: u64,
    devices: Vec<(String, String, Device)>,
    channels: Vec<Channel>,
    next_slot: u64,
    faults: VecDeque<Fault>,
    faults_forgotten: u64,
}

#[derive(Debug)]
struct Channel {
    device: usize,
    kind: SensorType,
    schedule: FaultSchedule,
    /// The value a stuck channel repeats.
    held: Option<f64>,
}

impl SensorSimulator {
    /// A fleet whose first reading is due at `settings.start_ms`.
    ///
    /// # Errors
    /// [`SettingsError`] names the first setting that is out of its range.
    pub fn new(settings: &SensorSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let plan = FaultPlan::new(settings.fault_rate, settings.interval);
        let devices = (0..settings.sensors).map(|index| {
            let rng = rng_of(settings.seed, Purpose::Device, index);
            (format!("sensor_{index:03}"), format!("zone_{}", index % ZONES), Device::new(rng))
        });
        let channels = settings.types.iter().flat_map(|kind| {
            let plan = &plan;
            (0..settings.sensors).map(move |device| {
                let rng = rng_of(settings.seed, Purpose::Faults(*kind), device);
                Channel { device, kind: *kind, schedule: FaultSchedule::new(plan.clone(), rng), held: None }
            })
        });
        Ok(Self {
            start_ms: settings.start_ms,
            interval_us: u64::try_from(settings.interval.as_micros()).expect("the longest interval fits"),
            devices: devices.collect(),
            channels: channels.collect(),
            next_slot: 0,
            faults: VecDeque::new(),
            faults_forgotten: 0,
        })
    }

    /// Event time of the next slot, milliseconds since the epoch; nothing is emitted before it.
    #[must_use]
    pub fn next_due_ms(&self) -> i64 {
        self.due_ms(self.next_slot)
    }

    /// Emits every reading due at or before `event_time_ms` that was not emitted yet, in event-time order.
    ///
    /// Cost: about 1 µs a reading, without its JSON.
    pub fn emit_until(&mut self, event_time_ms: i64, emit: &mut impl FnMut(Reading<'_>)) {
        self.emit_slots_until(event_time_ms, u64::MAX, emit);
    }

    /// The same for at most so many slots (a slot has one reading, or none in a dropout); what is left is due next time.
    pub fn emit_slots_until(&mut self, event_time_ms: i64, most: u64, emit: &mut impl FnMut(Reading<'_>)) {
        let last_ms = event_time_ms.min(Timestamp::MAX.as_millisecond());
        for _ in 0..most {
            let due_ms = self.next_due_ms();
            if due_ms > last_ms {
                return;
            }
            self.emit_slot(self.next_slot, due_ms, emit);
            self.next_slot += 1;
        }
    }

    /// Leaves out what was due before `event_time_ms`, so that a caller that was asleep need not catch up; never goes back.
    pub fn skip_to(&mut self, event_time_ms: i64) {
        let slots = self.channels.len() as u64;
        let event_time_ms = event_time_ms.min(Timestamp::MAX.as_millisecond());
        let ahead_ms = u64::try_from(event_time_ms.saturating_sub(self.start_ms)).unwrap_or(0);
        let cycle = ahead_ms.saturating_mul(1000) / self.interval_us;
        let mut slot = cycle.saturating_mul(slots);
        while self.due_ms(slot) < event_time_ms {
            slot += 1;
        }
        self.next_slot = self.next_slot.max(slot);
    }

    /// The ground truth so far: the latest [`MAX_LISTED_FAULTS`] faults that have begun, in order of their beginning.
    pub fn faults(&self) -> impl ExactSizeIterator<Item = &Fault> {
        self.faults.iter()
    }

    /// How many older faults have been dropped from [`Self::faults`].
    #[must_use]
    pub fn faults_forgotten(&self) -> u64 {
        self.faults_forgotten
    }

    fn due_ms(&self, slot: u64) -> i64 {
        let slots = self.channels.len() as u64;
        let (cycle, place) = (slot / slots, slot % slots);
        let ahead_us = cycle.saturating_mul(self.interval_us).saturating_add(place * self.interval_us / slots);
        self.start_ms.saturating_add_unsigned(ahead_us / 1000)
    }

    fn emit_slot(&mut self, slot: u64, due_ms: i64, emit: &mut impl FnMut(Reading<'_>)) {
        let slots = self.channels.len() as u64;
        let (cycle, place) = (slot / slots, slot % slots);
        let channel = &mut self.channels[usize::try_from(place).expect("a place is below the number of channels")];
        let (sensor_id, location, device) = &mut self.devices[channel.device];
        device.advance_to(due_ms);
        let healthy = device.measure(channel.kind);
        let (effect, begun) = channel.schedule.at(cycle);
        let value = match effect {
            Effect::Healthy | Effect::Returned => Some(healthy),
            Effect::Missing => None,
            Effect::Stuck => Some(channel.held.unwrap_or(healthy)),
            Effect::Spike(shape) => Some(channel.kind.spiked(healthy, shape)),
            Effect::Drift(shape) => Some(channel.kind.drifted(healthy, shape)),
        };
        channel.held = value.filter(|_| effect == Effect::Stuck);
        let (kind, device_index) = (channel.kind, channel.device);
        if let Some(value) = value {
            emit(Reading {
                sensor_id,
                sensor_type: kind,
                value,
                event_time_ms: due_ms,
                location,
                anomaly: effect != Effect::Healthy,
                metadata: device.metadata(),
            });
        }
        if let Some(begun) = begun {
            let time_of = |cycle: u64| self.due_ms(cycle.saturating_mul(slots).saturating_add(place));
            self.list(Fault {
                sensor_id: self.devices[device_index].0.clone(),
                sensor_type: kind,
                kind: begun.kind,
                first_ms: time_of(begun.first_cycle),
                last_ms: time_of(begun.last_cycle),
            });
        }
    }

    fn list(&mut self, fault: Fault) {
        if self.faults.len() == MAX_LISTED_FAULTS {
            self.faults.pop_front();
            self.faults_forgotten += 1;
        }
        self.faults.push_back(fault);
    }
}

/// What a stream of random numbers is for; streams are apart, so that faults do not change the healthy values.
#[derive(Clone, Copy)]
enum Purpose {
    Device,
    Faults(SensorType),
}

fn rng_of(seed: u64, purpose: Purpose, device: usize) -> ChaCha8Rng {
    let lane = match purpose {
        Purpose::Device => 0,
        Purpose::Faults(SensorType::Temperature) => 1,
        Purpose::Faults(SensorType::Humidity) => 2,
        Purpose::Faults(SensorType::Pressure) => 3,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(device as u64 * 4 + lane);
    rng
}
