//! `kill -9` at random moments under load: what was acknowledged is stored, once, and windows are what they must be.
//!
//! `STREAMWARD_KILLS` sets the number of kills, `STREAMWARD_SEED` repeats a run.

use std::{cell::Cell, collections::BTreeMap, time::Duration};

use futures_util::future::join;
use sqlx::Row;
use streamward::{config::Sources, plan};
use streamward_core::{
    corpus::SplitMix64,
    schema::Scalar,
    steps::window::reference::{ReferenceRecord, recompute},
    watermark::WatermarkRules,
};
use tokio::time::interval;

use crate::support::{
    database::Database,
    kafka::Producer,
    number,
    readings::{Readings, stored},
    server::{Node, Server},
    wait::{self, at_least, is},
};

const RECORDS_PER_TICK: u64 = 20;
const TICK: Duration = Duration::from_millis(10);
/// Most acknowledgements between a start and the next kill.
const MAX_UNTIL_KILL: usize = 6_000;

/// Sends 2,000 records a second until `done`.
async fn load(producer: &Producer, done: &Cell<bool>) {
    let (mut readings, mut ticks) = (Readings::new(), interval(TICK));
    while !done.get() {
        ticks.tick().await;
        readings.send(producer, RECORDS_PER_TICK);
    }
}

/// Kills and starts the server again and again, each time after a random number of further acknowledgements; every
/// third time or so it is killed once more while it starts.
pub async fn kills(mut server: Server, producer: &Producer, done: &Cell<bool>) -> Server {
    let (kills, seed) = (number("STREAMWARD_KILLS", 3), number("STREAMWARD_SEED", 7));
    eprintln!("seed {seed}, {kills} kills");
    let mut random = SplitMix64::new(seed);
    for _ in 0..kills {
        let wanted = producer.acked().len() + random.below(MAX_UNTIL_KILL);
        wait::until("more is acknowledged", async || at_least(producer.acked().len(), &wanted)).await;
        let mut node = server.kill();
        if random.below(3) == 0 {
            node = node.crash_while_starting().await;
        }
        server = node.start().await;
    }
    let wanted = producer.acked().len() + MAX_UNTIL_KILL;
    wait::until("it goes on after the last kill", async || at_least(producer.acked().len(), &wanted)).await;
    done.set(true);
    server
}

/// A window row: partition, start, sensor and type.
type WindowKey = (i32, i64, String, String);
/// Average, least, greatest, count and standard deviation.
type WindowValues = (f64, f64, f64, i64, Option<f64>);

async fn stored_windows(database: &Database) -> BTreeMap<WindowKey, WindowValues> {
    let rows = database.rows("SELECT * FROM aggregated_metrics").await;
    rows.iter()
        .map(|row| {
            let key = (row.get("partition"), row.get("window_start"), row.get("sensor_id"), row.get("sensor_type"));
            let values = (
                row.get("avg_value"),
                row.get("min_value"),
                row.get("max_value"),
                row.get("count"),
                row.get("std_value"),
            );
            (key, values)
        })
        .collect()
}

/// The windows worked out from the stored rows, in the plainest way.
async fn recomputed_windows(database: &Database) -> BTreeMap<WindowKey, WindowValues> {
    let (_, plan) = plan::load(&Sources::default()).unwrap();
    let pipeline = plan.pipelines.iter().find(|pipeline| &*pipeline.name == "sensors").unwrap();
    let window = pipeline.plan.windows().next().unwrap();
    let rules = WatermarkRules { out_of_orderness_ms: 5_000, max_ahead_ms: 600_000 };
    let mut windows = BTreeMap::new();
    for partition in 0..4 {
        let sql = format!(
            "SELECT timestamp, sensor_id, sensor_type, value FROM sensor_readings \
             WHERE \"partition\" = {partition} ORDER BY \"offset\""
        );
        let rows = database.rows(&sql).await;
        let records: Vec<ReferenceRecord> = rows
            .iter()
            .map(|row| ReferenceRecord {
                event_time_ms: row.get(0),
                log_timestamp_ms: row.get(0),
                group: vec![Scalar::Text(row.get(1)), Scalar::Text(row.get(2))],
                arguments: vec![Scalar::Number(row.get(3)); 5],
            })
            .collect();
        let reference = recompute(window, rules, &records);
        assert_eq!(reference.late, Vec::<usize>::new());
        for row in reference.rows {
            let [Scalar::Text(sensor), Scalar::Text(kind)] = &row.group[..] else { panic!("{row:?}") };
            windows.insert((partition, row.start_ms, sensor.clone(), kind.clone()), values(&row.values));
        }
    }
    windows
}

fn values(values: &[Scalar]) -> WindowValues {
    match values {
        [Scalar::Number(avg), Scalar::Number(min), Scalar::Number(max), Scalar::Integer(count), deviation] => {
            let deviation = match deviation {
                Scalar::Number(deviation) => Some(*deviation),
                _ => None,
            };
            (*avg, *min, *max, *count, deviation)
        }
        other => panic!("{other:?}"),
    }
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
}

fn assert_same(stored: &BTreeMap<WindowKey, WindowValues>, wanted: &BTreeMap<WindowKey, WindowValues>) {
    for (key, wanted) in wanted {
        let found = stored.get(key).unwrap_or_else(|| panic!("window {key:?} is not stored"));
        let same_deviation = match (found.4, wanted.4) {
            (Some(one), Some(other)) => near(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let same = near(found.0, wanted.0) && near(found.1, wanted.1) && near(found.2, wanted.2);
        assert!(same && found.3 == wanted.3 && same_deviation, "window {key:?} is {found:?}, not {wanted:?}");
    }
    assert!(!wanted.is_empty(), "no windows to compare");
    assert_eq!(stored.len(), wanted.len(), "windows that no record made");
}

#[actix_rt::test]
async fn kills_at_random_moments_lose_and_double_nothing_and_windows_stay_right() {
    let server = Node::new().set("streams.sensors.idle_after", "1s").start().await;
    let (producer, done) = (Producer::connect(server.kafka()), Cell::new(false));
    let ((), server) = join(load(&producer, &done), kills(server, &producer, &done)).await;
    let acked = producer.finish();
    let database = server.database();
    database.wait_for_all("sensors", &acked).await;
    let ids = acked.iter().map(|record| record.id).collect();
    assert_eq!(stored(&database).await, ids);
    let report = server.verify();
    assert_eq!((&report["stored"], &report["pending"]), (&acked.len().into(), &0.into()));

    let records = i64::try_from(acked.len()).unwrap();
    wait::until("all windows are closed", async || {
        is(database.number("SELECT coalesce(sum(count), 0) FROM aggregated_metrics").await, &records)
    })
    .await;
    assert_same(&stored_windows(&database).await, &recomputed_windows(&database).await);
}
