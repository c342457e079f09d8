//! When a channel is faulty, and how: a seeded alternation of healthy gaps and faults.
//!
//! Gaps are exponential; their mean is chosen so that in the long run `fault_rate` of the readings sent are labelled.
//! Of the labelled readings about 40 % belong to spikes, 30 % to drifts and 30 % to stuck values. Dropouts are as
//! frequent as stuck values; they label one reading only, the first after the silence.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// What goes wrong with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// One to three readings far off.
    Spike,
    /// An error that grows over minutes; its first readings are hardly wrong, but labelled.
    Drift,
    /// The same value again and again.
    Stuck,
    /// Nothing is sent for a while; the first reading after it is labelled.
    Dropout,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Spike, Self::Drift, Self::Stuck, Self::Dropout];

    /// The word used in ground-truth listings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Drift => "drift",
            Self::Stuck => "stuck",
            Self::Dropout => "dropout",
        }
    }

    /// Shortest and longest fault, in seconds and at least in cycles.
    fn lengths(self) -> ((f64, u64), (f64, u64)) {
        match self {
            Self::Spike => ((0.0, 1), (0.0, 3)),
            Self::Drift => ((120.0, 20), (360.0, 60)),
            Self::Stuck => ((60.0, 10), (180.0, 30)),
            Self::Dropout => ((30.0, 5), (120.0, 20)),
        }
    }
}

/// How a spike looks: `sign` is 1 or -1, `size` 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SpikeShape {
    pub(super) extreme: bool,
    pub(super) sign: f64,
    pub(super) size: f64,
}

/// How a drift looks at one reading: `sign` is 1 or -1, `size` and `progress` 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DriftShape {
    pub(super) sign: f64,
    pub(super) size: f64,
    pub(super) progress: f64,
}

/// What a fault does to the reading of one cycle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Effect {
    Healthy,
    Spike(SpikeShape),
    Drift(DriftShape),
    Stuck,
    Missing,
    /// The first reading after a dropout.
    Returned,
}

/// One fault of one channel, both ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Episode {
    pub(super) kind: FaultKind,
    pub(super) first_cycle: u64,
    pub(super) last_cycle: u64,
    spike: SpikeShape,
    begun: bool,
}

/// How often which fault comes and how long it lasts; the same for all channels.
#[derive(Debug, Clone)]
pub(super) struct FaultPlan {
    /// Mean healthy cycles between two faults; infinite if there are to be none.
    mean_gap_cycles: f64,
    /// Per kind: share of all faults, shortest and longest length in cycles.
    kinds: [(FaultKind, f64, u64, u64); 4],
}

impl FaultPlan {
    pub(super) fn new(fault_rate: f64, interval: Duration) -> Self {
        let cycles = |(seconds, at_least): (f64, u64)| ((seconds / interval.as_secs_f64()) as u64).max(at_least);
        let mut kinds = FaultKind::ALL.map(|kind| {
            let (shortest, longest) = kind.lengths();
            (kind, 0.0, cycles(shortest), cycles(longest))
        });
        let mean = |shortest: u64, longest: u64| (shortest + longest) as f64 / 2.0;
        let stuck = kinds.iter().find(|kind| kind.0 == FaultKind::Stuck).expect("ALL has every kind");
        let stuck_weight = 0.3 / mean(stuck.2, stuck.3);
        for (kind, weight, shortest, longest) in &mut kinds {
            *weight = match kind {
                FaultKind::Spike => 0.4 / mean(*shortest, *longest),
                FaultKind::Drift => 0.3 / mean(*shortest, *longest),
                FaultKind::Stuck | FaultKind::Dropout => stuck_weight,
            };
        }
        let total: f64 = kinds.iter().map(|kind| kind.1).sum();
        let mut mean_labelled = 0.0;
        for (kind, weight, shortest, longest) in &mut kinds {
            *weight /= total;
            mean_labelled += match kind {
                FaultKind::Dropout => *weight,
                FaultKind::Spike | FaultKind::Drift | FaultKind::Stuck => *weight * mean(*shortest, *longest),
            };
        }
        let mean_gap_cycles = match fault_rate {
            0.0 => f64::INFINITY,
            rate => mean_labelled * (1.0 - rate) / rate,
        };
        Self { mean_gap_cycles, kinds }
    }

    fn draw_gap_cycles(&self, rng: &mut ChaCha8Rng) -> u64 {
        let u: f64 = rng.random();
        if self.mean_gap_cycles.is_infinite() {
            return u64::MAX;
        }
        (-(1.0 - u).ln() * self.mean_gap_cycles).ceil().max(1.0) as u64
    }

    fn draw_episode(&self, after_cycle: u64, rng: &mut ChaCha8Rng) -> Episode {
        let first_cycle = after_cycle.saturating_add(self.draw_gap_cycles(rng));
        let mut chosen: f64 = rng.random();
        let mut kind = &self.kinds[0];
        for candidate in &self.kinds {
            kind = candidate;
            chosen -= candidate.1;
            if chosen < 0.0 {
                break;
            }
        }
        let &(kind, _, shortest, longest) = kind;
        let length = rng.random_range(shortest..=longest);
        let further = match kind {
            FaultKind::Spike | FaultKind::Drift | FaultKind::Stuck => length - 1,
            FaultKind::Dropout => length,
        };
        Episode {
            kind,
            first_cycle,
            last_cycle: first_cycle.saturating_add(further),
            spike: SpikeShape {
                extreme: rng.random(),
                sign: if rng.random() { 1.0 } else { -1.0 },
                size: rng.random(),
            },
            begun: false,
        }
    }
}

/// The faults of one channel, drawn one ahead.
#[derive(Debug)]
pub(super) struct FaultSchedule {
    plan: FaultPlan,
    rng: ChaCha8Rng,
    next: Episode,
}

impl FaultSchedule {
    pub(super) fn new(plan: FaultPlan, mut rng: ChaCha8Rng) -> Self {
        let next = plan.draw_episode(0, &mut rng);
        Self { plan, rng, next }
    }

    /// The effect at a cycle, and the fault if this is the first cycle that sees it. Cycles may be left out, not repeated.
    pub(super) fn at(&mut self, cycle: u64) -> (Effect, Option<Episode>) {
        if cycle > self.next.last_cycle {
            self.next = self.plan.draw_episode(cycle, &mut self.rng);
        }
        let episode = &mut self.next;
        if cycle < episode.first_cycle {
            return (Effect::Healthy, None);
        }
        let begun = (!episode.begun).then_some(*episode);
        episode.begun = true;
        let SpikeShape { sign, size, .. } = episode.spike;
        let effect = match episode.kind {
            FaultKind::Spike => Effect::Spike(episode.spike),
            FaultKind::Drift => {
                let length = episode.last_cycle - episode.first_cycle + 1;
                let progress = (cycle - episode.first_cycle + 1) as f64 / length as f64;
                Effect::Drift(DriftShape { sign, size, progress })
            }
            FaultKind::Stuck => Effect::Stuck,
            FaultKind::Dropout if cycle < episode.last_cycle => Effect::Missing,
            FaultKind::Dropout => Effect::Returned,
        };
        (effect, begun)
    }
}
