//! Faults that come from outside an actor: the broker is gone for a while, a record cannot be read.

use std::{sync::atomic::Ordering, time::Duration};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use streamward_core::ports::{InjectedFault, OpsError};
use streamward_kit::TreeNode;
use tokio::time::sleep;

use super::{Books, DrillReport, Drills, End, LOOK_EVERY, Records};
use crate::{
    adapters::kafka::producer::{Outgoing, Placed},
    clock::now_ms,
};

/// A reading cut short, for records that begin well.
const BEGINNING: &[u8] = br#"{"sensor_id":"drill","sensor_type":"temperature","value":"#;
/// Most bytes of noise in one record.
const MAX_NOISE: usize = 64;

/// Where a drill from outside stands.
#[derive(Default)]
struct Times {
    struck: i64,
    detected: Option<i64>,
    recovered: Option<i64>,
}

impl Drills<'_> {
    /// The embedded broker closes all connections and takes none for a while.
    pub(super) async fn broker_drop(
        &self,
        before: TreeNode,
        fault: InjectedFault,
        mut end: End,
    ) -> Result<DrillReport, OpsError> {
        let broker = self.broker.filter(|_| before.kind.as_ref() == "broker").ok_or_else(|| {
            OpsError::Refused("broker_drop is a fault of the embedded broker, platform/broker".to_owned())
        })?;
        let flows = self.runtime.snapshot().iter().any(|node| &*node.kind == "lane" && node.rate_per_s > Some(0.0));
        let mut books = Books::open(self.pipelines.iter().collect(), self.reads).await?;
        let mut times = Times { struck: now_ms(), ..Times::default() };
        broker.drop_connections(Duration::from_millis(fault.millis));
        let mut passed = None;
        while !end.is_over() {
            sleep(LOOK_EVERY).await;
            books.look();
            if !broker.takes_connections() {
                continue;
            }
            let at_return = *passed.get_or_insert(books.passed());
            if !flows || books.passed() > at_return {
                times.recovered = Some(now_ms());
                break;
            }
        }
        let records = books.close().await?;
        let observed = match (times.recovered, flows) {
            (None, true) => "no record passed after connections were taken again, or none are taken yet",
            (None, false) => "connections are not taken again yet",
            (Some(_), true) => "connections were refused, and records pass again",
            (Some(_), false) => {
                "connections were refused and are taken again; no pipeline had anything to do, so whether records pass was \
                 not seen"
            }
        };
        self.outside_report((before, fault, "connections"), &times, (observed, records))
    }

    /// Records that cannot be decoded are written to the pipeline's topic; each must become a dead letter.
    pub(super) async fn corrupt_record(
        &self,
        before: TreeNode,
        fault: InjectedFault,
        mut end: End,
    ) -> Result<DrillReport, OpsError> {
        let pipeline = self.pipeline_of(&before.path).ok_or_else(|| {
            OpsError::Refused("corrupt_record is a fault of a pipeline: name it or an actor of it".to_owned())
        })?;
        let mut books = Books::open(vec![pipeline], self.reads).await?;
        let dead = || pipeline.slots.totals().dead.load(Ordering::Relaxed);
        let expected = dead() + u64::from(fault.times);
        let mut times = Times { struck: now_ms(), ..Times::default() };
        let placed = self.send_corrupt(&pipeline.topic, &fault).await?;
        let is_passed = |place: &Placed| {
            let slot = pipeline.slots.get(place.partition);
            slot.is_some_and(|slot| slot.committed() > place.offset)
        };
        while !end.is_over() && times.recovered.is_none() {
            sleep(LOOK_EVERY).await;
            books.look();
            if dead() >= expected && times.detected.is_none() {
                times.detected = Some(now_ms());
            }
            if times.detected.is_some() && placed.iter().all(is_passed) {
                times.recovered = Some(now_ms());
            }
        }
        let records = books.close().await?;
        let observed = match (times.detected, times.recovered) {
            (_, Some(_)) => "each record that was written became a dead letter, and what follows it passes",
            (Some(_), None) => "the records became dead letters, and the positions are not behind them yet",
            (None, None) => "not all records that were written are dead letters yet: is the pipeline held?",
        };
        self.outside_report((before, fault, "decode"), &times, (observed, records))
    }

    async fn send_corrupt(&self, topic: &str, fault: &InjectedFault) -> Result<Vec<Placed>, OpsError> {
        let mut rng = ChaCha8Rng::seed_from_u64(fault.seed);
        let mut placed = Vec::new();
        for _ in 0..fault.times {
            let (key, value) = (format!("drill-{}", rng.next_u32()), corrupt(&mut rng));
            let record = Outgoing {
                topic,
                partition: None,
                key: Some(key.as_bytes()),
                value: value.as_deref(),
                headers: Vec::new(),
            };
            let place = self.producer.send(record).await.map_err(|error| OpsError::Unavailable(error.to_string()))?;
            placed.push(place);
        }
        Ok(placed)
    }

    fn outside_report(
        &self,
        (before, fault, point): (TreeNode, InjectedFault, &str),
        times: &Times,
        (observed, records): (&str, Records),
    ) -> Result<DrillReport, OpsError> {
        let now = self.node(&before.path)?;
        let after = |at: Option<i64>| at.map(|at| u64::try_from(at - times.struck).unwrap_or(0));
        Ok(DrillReport {
            path: before.path.to_string(),
            point: Some(point.to_owned()),
            detected_after_ms: after(times.detected),
            recovered_after_ms: after(times.recovered),
            generation_before: before.generation,
            generation: now.generation,
            state: now.state,
            exit: None,
            observed: observed.to_owned(),
            fault,
            records: Some(records),
        })
    }
}

/// A value that no stream's schema accepts: noise, a reading cut short, one of wrong types, or none at all.
fn corrupt(rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    match rng.random_range(0..4) {
        0 => {
            let mut noise = vec![0; rng.random_range(1..=MAX_NOISE)];
            rng.fill_bytes(&mut noise);
            // Neither JSON nor Confluent's framing begins like this.
            noise[0] = 0xff;
            Some(noise)
        }
        1 => Some(BEGINNING[..rng.random_range(1..BEGINNING.len())].to_vec()),
        2 => Some(br#"{"sensor_id":[1],"value":"high"}"#.to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_every_kind_comes() {
        let values = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..100).map(|_| corrupt(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(values(7), values(7));
        assert_ne!(values(7), values(8));
        let (empty, full): (Vec<_>, Vec<_>) = values(7).into_iter().partition(Option::is_none);
        assert!(!empty.is_empty() && full.len() > empty.len());
        let noise = full.iter().flatten().filter(|value| value[0] == 0xff).count();
        assert!(noise > 0 && noise < full.len());
    }
}
