//! The outages. Each is made while records flow, waited for until it is named, mended, and waited for until it is over.

use std::{io, path::Path, time::Duration};

use serde_json::json;
use streamward_core::ports::{FaultKind, InjectedFault, OpsCommand};
use streamward_kit::ActorPath;
use tokio::time::Instant;

use super::{
    Times,
    site::{Site, healed, named, outcome, reached, stored, without_room},
};
use crate::{
    adapters::{
        kafka::{
            admin::{LogInspector, TopicSpec, delete_records, delete_topics, ensure_topics},
            producer::BulkProducer,
        },
        sqlite::stranger::Stranger,
    },
    bench::{in_thread, server::BenchServer},
    clock::{now_ms, rfc3339},
};

/// Records in a row that cannot be decoded.
const POISON: u64 = 1_000;
/// Rows that the database refuses.
const REFUSED: u64 = 100;
/// Refuses every tenth row of a partition.
const REFUSE_SOME: &str = "CREATE TRIGGER refuses_some BEFORE INSERT ON sensor_readings WHEN NEW.offset % 10 = 3 \
                           BEGIN SELECT RAISE(ABORT, 'refused on purpose'); END";
/// The partition whose log gets a hole.
const HOLED: i32 = 0;
/// Records that the hole takes, at least.
const HOLE: i64 = 100;
const SOURCE: &str = "pipelines/sensors/source";
/// A window step holds 64 MiB of keys in a partition: 4,096 sensors with names of this length fill it.
const LONG_NAME: usize = 16 * 1_024;
/// Sensors with such names.
const LONG_NAMES: u64 = 5_000;
/// Numbers of their records; the load's are below.
const LONG_NAMES_FROM: u64 = 1_000_000_000;
/// How long the broker takes no connections.
const KAFKA_GONE: Duration = Duration::from_secs(12);
/// How long a command or a request may take.
const WITHIN: Duration = Duration::from_secs(60);
/// Who asks the server for drills and commands.
const WHO: &str = "bench";

type Made = Result<(Site, Times), String>;

/// 1,000 records in a row that cannot be decoded: each becomes a dead letter, and the stream goes on.
pub async fn poison_batch(mut site: Site) -> Made {
    let topic = site.topic()?.0;
    let healed_ms = site
        .under_load(async |server| {
            let begun = Instant::now();
            let poison = |number| format!(r#"{{"poison":{number}"#);
            send(server, &topic, ("poison", 0..POISON), poison).await?;
            reached(begun, async || outcome(server, "dead") >= POISON).await;
            Ok(healed(server, stored(server) + 1, begun).await)
        })
        .await?;
    site.acknowledged += POISON;
    Ok((site, Times { named_ms: None, healed_ms }))
}

/// The database refuses some rows: those become dead letters, the others are stored.
pub async fn refused_row(mut site: Site) -> Made {
    let mut stranger = open(&site.database()).await?;
    let healed_ms = site
        .under_load(async |server| {
            let begun = Instant::now();
            stranger.run(REFUSE_SOME).await.map_err(|error| error.to_string())?;
            reached(begun, async || outcome(server, "dead") > 0).await;
            let healed_ms = healed(server, stored(server) + 1, begun).await;
            reached(begun, async || outcome(server, "dead") >= REFUSED).await;
            Ok(healed_ms)
        })
        .await?;
    Ok((site, Times { named_ms: None, healed_ms }))
}

/// Records are deleted from the log before they were read; a start with `on_gap: earliest` goes on without them.
pub async fn gap(mut site: Site) -> Made {
    let topic = site.topic()?.0;
    let named_ms = site
        .under_load(async |server| {
            command(server, OpsCommand::Pause).await?;
            let path = ActorPath::parse(SOURCE).map_err(|error| error.to_string())?;
            let is_held = || {
                let node = server.app.runtime().node(&path);
                node.and_then(|node| node.waiting_on).is_some_and(|wait| wait.on == "resume")
            };
            reached(Instant::now(), async || is_held()).await.ok_or("the source is not held")?;
            let held_at = log_end(server, &topic).await?;
            let is_enough = async || log_end(server, &topic).await.is_ok_and(|end| end >= held_at + HOLE);
            reached(Instant::now(), is_enough).await.ok_or("the load does not reach the log")?;
            let end = log_end(server, &topic).await?;
            delete_records(&server.kafka, &topic, (HOLED, end)).await.map_err(|error| error.to_string())?;
            // A client of its own: what the one before had fetched already is not asked for again.
            command(server, OpsCommand::Restart).await?;
            let begun = Instant::now();
            command(server, OpsCommand::Resume).await?;
            Ok(named(server, "gap", begun).await)
        })
        .await?;
    let (mut site, mended) = site.again(Some(("streams.sensors.on_gap", "earliest"))).await?;
    let healed_ms = site.under_load(async |server| Ok(healed(server, 1, mended).await)).await?;
    Ok((site, Times { named_ms, healed_ms }))
}

/// Sensors with long names fill the state of a window; it has room again once its windows are gone.
pub async fn full_state(mut site: Site) -> Made {
    let topic = site.topic()?.0;
    let times = site
        .under_load(async |server| {
            let reading = |number| {
                let (name, time) = (format!("{number:0>LONG_NAME$}"), rfc3339(now_ms()));
                let metadata = json!({ "battery_level": 90, "signal_strength": -40 });
                json!({ "sensor_id": name, "sensor_type": "humidity", "value": 50.0, "timestamp": time,
                        "location": format!("zone_{number}"), "metadata": metadata })
                .to_string()
            };
            let numbers = LONG_NAMES_FROM..LONG_NAMES_FROM + LONG_NAMES;
            let filling = send(server, &topic, ("long", numbers), reading);
            let naming = async {
                reached(Instant::now(), async || without_room(server) > 0).await?;
                named(server, "full", Instant::now()).await
            };
            let (filled, named_ms) = tokio::join!(filling, naming);
            filled?;
            let mended = Instant::now();
            let healed_ms = healed(server, stored(server) + 1, mended).await;
            Ok(Times { named_ms, healed_ms })
        })
        .await?;
    site.acknowledged += LONG_NAMES;
    Ok((site, times))
}

/// Another program holds the lock on writing until that is named.
pub async fn database_locked(mut site: Site) -> Made {
    let mut stranger = open(&site.database()).await?;
    let times = site
        .under_load(async |server| {
            stranger.run("BEGIN IMMEDIATE").await.map_err(|error| error.to_string())?;
            let named_ms = named(server, "storage", Instant::now()).await;
            stranger.run("ROLLBACK").await.map_err(|error| error.to_string())?;
            let mended = Instant::now();
            Ok(Times { named_ms, healed_ms: healed(server, stored(server) + 1, mended).await })
        })
        .await?;
    Ok((site, times))
}

/// The database's files are deleted; the server is started again and stores the log again.
pub async fn database_gone(mut site: Site) -> Made {
    let database = site.database();
    let named_ms = site
        .under_load(async |server| {
            for ending in ["", "-wal", "-shm"] {
                remove(Path::new(&format!("{}{ending}", database.display())))?;
            }
            Ok(named(server, "storage", Instant::now()).await)
        })
        .await?;
    let (mut site, mended) = site.again(None).await?;
    let before = site.acknowledged;
    let healed_ms = site.under_load(async |server| Ok(healed(server, before, mended).await)).await?;
    Ok((site, Times { named_ms, healed_ms }))
}

/// The broker closes all connections and takes none for a while.
pub async fn kafka_gone(mut site: Site) -> Made {
    let times = site
        .under_load(async |server| {
            let millis = u64::try_from(KAFKA_GONE.as_millis()).map_err(|error| error.to_string())?;
            let fault = InjectedFault { fault: FaultKind::BrokerDrop, times: 1, millis, seed: 0 };
            let begun = Instant::now();
            let drill = server.app.operations().drill("platform/broker", fault, WITHIN, WHO);
            let (drilled, named_ms) = tokio::join!(drill, named(server, "kafka", begun));
            drilled.map_err(|error| error.to_string())?;
            Ok(Times { named_ms, healed_ms: healed(server, stored(server) + 1, begun + KAFKA_GONE).await })
        })
        .await?;
    Ok((site, times))
}

/// The topic is deleted once all of it is stored, and made anew.
pub async fn topic_gone(mut site: Site) -> Made {
    let (topic, partitions) = site.topic()?;
    site.under_load(async |_| Ok(())).await?;
    site.settled().await?;
    let kafka = site.server().kafka.clone();
    let begun = Instant::now();
    delete_topics(&kafka, &[&topic]).await.map_err(|error| error.to_string())?;
    let named_ms = named(site.server(), "topic_gone", begun).await;
    let anew = TopicSpec { name: topic, partitions, configs: Vec::new() };
    ensure_topics(&kafka, &[anew]).await.map_err(|error| error.to_string())?;
    let (mended, enough) = (Instant::now(), stored(site.server()) + 1);
    let healed_ms = site.under_load(async |server| Ok(healed(server, enough, mended).await)).await?;
    Ok((site, Times { named_ms, healed_ms }))
}

async fn open(database: &Path) -> Result<Stranger, String> {
    Stranger::open(database).await.map_err(|error| error.to_string())
}

/// A file of a database that may have none of this kind.
fn remove(file: &Path) -> Result<(), String> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("delete {}: {error}", file.display())),
        _ => Ok(()),
    }
}

async fn command(server: &BenchServer, command: OpsCommand) -> Result<(), String> {
    let done = server.app.operations().command(SOURCE, command, WHO).await;
    done.map(drop).map_err(|error| error.to_string())
}

/// The offset that the next record of the holed partition will get.
async fn log_end(server: &BenchServer, topic: &str) -> Result<i64, String> {
    let (kafka, topic) = (server.kafka.clone(), topic.to_owned());
    let look = move || {
        let inspector = LogInspector::connect(&kafka).map_err(|error| error.to_string())?;
        inspector.bounds(&topic, HOLED, WITHIN).map(|(_, end)| end).map_err(|error| error.to_string())
    };
    in_thread("log-end", look).await
}

/// Sends records of one key, one after the other, and waits until all are acknowledged.
async fn send(
    server: &BenchServer,
    topic: &str,
    (key, numbers): (&'static str, std::ops::Range<u64>),
    value: impl Fn(u64) -> String + Send + 'static,
) -> Result<(), String> {
    let (kafka, topic) = (server.kafka.clone(), topic.to_owned());
    let send = move || {
        let producer = BulkProducer::create(&kafka, "streamward-outage").map_err(|error| error.to_string())?;
        for number in numbers {
            producer.send(&topic, key.as_bytes(), value(number).as_bytes())?;
        }
        producer.flush(WITHIN)
    };
    in_thread("outage", send).await
}
