//! Outages: what goes wrong around the actors. Each is made on a server of its own, with the built-in policies, under a
//! small load, and mended; then the books are compared.
//!
//! [`site`] is the server with its load and its books, [`acts`] are the outages themselves.

mod acts;
mod site;

use std::{fmt, path::Path, str::FromStr};

use serde::Serialize;

use self::site::Site;
use super::SupervisionBench;

/// How soon an outage must be named.
const NAMED_WITHIN_MS: u64 = 10_000;

/// What is made to fail, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutageKind {
    /// Many records in a row that cannot be decoded.
    PoisonBatch,
    /// The database refuses some rows.
    RefusedRow,
    /// The log loses records that were not read yet.
    Gap,
    /// The state of a window has no room for another group.
    FullState,
    /// Another program holds the database's lock.
    DatabaseLocked,
    /// The database's files are deleted.
    DatabaseGone,
    /// The broker takes no connections.
    KafkaGone,
    /// The topic is deleted.
    TopicGone,
}

impl OutageKind {
    const ALL: [Self; 8] = [
        Self::PoisonBatch,
        Self::RefusedRow,
        Self::Gap,
        Self::FullState,
        Self::DatabaseLocked,
        Self::DatabaseGone,
        Self::KafkaGone,
        Self::TopicGone,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::PoisonBatch => "poison_batch",
            Self::RefusedRow => "refused_row",
            Self::Gap => "gap",
            Self::FullState => "full_state",
            Self::DatabaseLocked => "database_locked",
            Self::DatabaseGone => "database_gone",
            Self::KafkaGone => "kafka_gone",
            Self::TopicGone => "topic_gone",
        }
    }

    /// The word of the finding that must name it; none where nothing stands still.
    fn cause(self) -> Option<&'static str> {
        match self {
            Self::PoisonBatch | Self::RefusedRow => None,
            Self::Gap => Some("gap"),
            Self::FullState => Some("full"),
            Self::DatabaseLocked | Self::DatabaseGone => Some("storage"),
            Self::KafkaGone => Some("kafka"),
            Self::TopicGone => Some("topic_gone"),
        }
    }

    /// What differs from the configuration of the other outages.
    fn sets(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // Short windows: their groups go, and make room, while the measurement waits.
            Self::FullState => &[
                ("pipelines.sensors.steps.1.window.tumbling", "10s"),
                ("pipelines.sensors.steps.1.window.allowed_lateness", "10s"),
            ],
            _ => &[],
        }
    }
}

/// The outages to make: `all`, `none`, or their names with commas between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outages(Vec<OutageKind>);

impl FromStr for Outages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self(OutageKind::ALL.to_vec())),
            "none" => return Ok(Self(Vec::new())),
            _ => {}
        }
        let kind = |name: &str| {
            let known = OutageKind::ALL.into_iter().find(|kind| kind.as_str() == name);
            known.ok_or_else(|| {
                let names = OutageKind::ALL.map(OutageKind::as_str).join(", ");
                format!("{name:?} is no outage: all, none, or some of {names}")
            })
        };
        text.split(',').map(kind).collect::<Result<_, _>>().map(Self)
    }
}

/// One outage and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Outage {
    pub fault: OutageKind,
    /// The word of the finding that must name it; none where nothing stands still.
    pub cause: Option<&'static str>,
    /// From the fault to the finding.
    pub named_after_ms: Option<u64>,
    /// From when the cause was mended, or from the fault where nobody mends it, until records are stored again and
    /// nothing is found any more.
    pub healed_after_ms: Option<u64>,
    pub records_acknowledged: u64,
    pub stored: u64,
    pub dead_letters: u64,
    /// Records that the log lost and that the database declares lost.
    pub in_gaps: u64,
    /// Whether every acknowledged record is stored, a dead letter or in a declared gap, once.
    pub exact: bool,
    /// Why it is not exact.
    pub complaint: Option<String>,
}

impl Outage {
    /// Whether it was named in time, healed, and cost no record.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let is_named = self.named_after_ms.is_some_and(|ms| ms <= NAMED_WITHIN_MS);
        (self.cause.is_none() || is_named) && self.healed_after_ms.is_some() && self.exact
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        write!(
            f,
            "{:<16} {:<10} {:>7} {:>7} {:>8} {:>8} {:>6} {:>6}  {}",
            self.fault.as_str(),
            self.cause.unwrap_or("-"),
            ms(self.named_after_ms),
            ms(self.healed_after_ms),
            self.records_acknowledged,
            self.stored,
            self.dead_letters,
            self.in_gaps,
            if self.exact { "exact" } else { self.complaint.as_deref().unwrap_or("not exact") }
        )
    }
}

/// Heading of a table of outages.
pub const HEADING: &str = "outage           cause      named   healed  records   stored   dead   gaps  named: ms after the fault; healed: ms after the mending";

/// Times of an outage, in milliseconds; none if it did not come to that.
#[derive(Debug, Clone, Copy)]
struct Times {
    named_ms: Option<u64>,
    healed_ms: Option<u64>,
}

/// Makes the outages one after the other, each in a folder of its own below `folder`.
///
/// # Errors
/// If a server does not start, or what makes an outage fails; one that is not named or does not heal is a figure.
pub async fn make(folder: &Path, bench: &SupervisionBench) -> Result<Vec<Outage>, String> {
    let mut made = Vec::new();
    for &kind in &bench.outages.0 {
        let fault = |error: String| format!("{}: {error}", kind.as_str());
        made.push(outage(kind, &folder.join(kind.as_str()), bench).await.map_err(fault)?);
    }
    Ok(made)
}

async fn outage(kind: OutageKind, folder: &Path, bench: &SupervisionBench) -> Result<Outage, String> {
    let site = Site::start(folder, bench, kind.sets()).await?;
    let (site, times) = match kind {
        OutageKind::PoisonBatch => acts::poison_batch(site).await?,
        OutageKind::RefusedRow => acts::refused_row(site).await?,
        OutageKind::Gap => acts::gap(site).await?,
        OutageKind::FullState => acts::full_state(site).await?,
        OutageKind::DatabaseLocked => acts::database_locked(site).await?,
        OutageKind::DatabaseGone => acts::database_gone(site).await?,
        OutageKind::KafkaGone => acts::kafka_gone(site).await?,
        OutageKind::TopicGone => acts::topic_gone(site).await?,
    };
    let (books, complaint) = site.close().await?;
    Ok(Outage {
        fault: kind,
        cause: kind.cause(),
        named_after_ms: times.named_ms,
        healed_after_ms: times.healed_ms,
        records_acknowledged: books.acknowledged,
        stored: books.stored,
        dead_letters: books.dead_letters,
        in_gaps: books.in_gaps,
        exact: complaint.is_none(),
        complaint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_chosen_by_name_all_or_none() {
        let of = |text: &str| text.parse::<Outages>().map(|outages| outages.0);
        assert_eq!(of("all").unwrap(), OutageKind::ALL);
        assert_eq!(of("none").unwrap(), []);
        assert_eq!(of("gap,topic_gone").unwrap(), [OutageKind::Gap, OutageKind::TopicGone]);
        let refusal = of("gap,flood").unwrap_err();
        assert!(refusal.contains("\"flood\"") && refusal.contains("database_locked"), "{refusal}");
        for kind in OutageKind::ALL {
            assert_eq!(of(kind.as_str()).unwrap(), [kind]);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn an_outage_is_over_if_it_was_named_in_time_has_healed_and_cost_no_record() {
        let over = Outage {
            fault: OutageKind::Gap,
            cause: Some("gap"),
            named_after_ms: Some(NAMED_WITHIN_MS),
            healed_after_ms: Some(60_000),
            records_acknowledged: 3,
            stored: 2,
            dead_letters: 0,
            in_gaps: 1,
            exact: true,
            complaint: None,
        };
        assert!(over.is_over());
        assert!(Outage { cause: None, named_after_ms: None, ..over.clone() }.is_over());
        for wrong in [
            Outage { named_after_ms: None, ..over.clone() },
            Outage { named_after_ms: Some(NAMED_WITHIN_MS + 1), ..over.clone() },
            Outage { healed_after_ms: None, ..over.clone() },
            Outage { exact: false, ..over },
        ] {
            assert!(!wrong.is_over(), "{wrong:?}");
        }
    }
}
