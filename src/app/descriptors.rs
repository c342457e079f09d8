//! Shares of the limit of open files: each listener has a bound of connections, the embedded broker's logs one of files,
//! and together they leave enough for the server's own files and sockets. A process without a free descriptor accepts nobody.

use std::num::NonZeroUsize;

use super::AppError;
use crate::{config::Config, process};

/// Descriptors of a server without streams: threads, databases, sockets of its own Kafka clients.
const OWN: u64 = 96;
/// Of a stream with its pipeline: threads, sockets of its clients.
const PER_STREAM: u64 = 12;
/// Of a partition of the embedded broker: the newest segment and what is reserved for it.
const PER_PARTITION: u64 = 2;
/// Topics of one partition that the server makes beside the streams': schemas, alerts, dead letters.
const OWN_TOPICS: u64 = 3;
/// Fewest connections of a listener.
const LEAST: usize = 8;
/// Connections of HTTP beside WebSocket sessions, and of the registry, where files are plenty.
const HTTP: usize = 4_096;
const REGISTRY: usize = 1_024;

/// Most connections at a time of each listener, and most files of the embedded broker's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    pub http: usize,
    pub registry: usize,
    pub broker: usize,
    /// Beyond them no partition is added. New segments are made all the same: they have the rest.
    pub log_files: usize,
}

/// Raises the limit of open files as far as it goes and divides it; warns where connections become few. `log_files` is
/// the number of files that the embedded broker's logs have already.
///
/// # Errors
/// If the limit is below what the server needs to answer anybody.
pub fn shares(config: &Config, log_files: usize) -> Result<Shares, AppError> {
    let limit = process::raise_open_files();
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let wanted = Shares {
        http: HTTP.saturating_add(number(config.http.websocket.max_sessions)),
        registry: REGISTRY,
        broker: number(config.kafka.embedded.max_connections),
        log_files: usize::MAX,
    };
    let partitions = OWN_TOPICS + config.streams.values().map(|stream| u64::from(stream.partitions)).sum::<u64>();
    let is_embedded = config.kafka.bootstrap.is_none();
    let own_logs = if is_embedded { (PER_PARTITION * partitions).max(log_files as u64) } else { 0 };
    let own = OWN + PER_STREAM * config.streams.len() as u64 + own_logs;
    let least = own + 3 * LEAST as u64;
    if let Some(limit) = limit.filter(|limit| *limit < least) {
        return Err(AppError::Config(format!(
            "the limit of open files is {limit}, and with these streams and topics the server needs {least} at least: \
             raise it (ulimit -n, LimitNOFILE)"
        )));
    }
    let shares = divide(limit, own, wanted);
    let has_all = shares == wanted;
    let shares = Shares { log_files: most_log_files(limit, own, own_logs, shares), ..shares };
    if !has_all {
        let enough = enough_for(own, wanted);
        tracing::warn!(
            open_files = limit,
            http = shares.http,
            registry = shares.registry,
            kafka = shares.broker,
            enough,
            "the limit of open files allows few connections at a time; raise it with ulimit -n or LimitNOFILE"
        );
    }
    Ok(shares)
}

/// What each listener gets of a limit (none: no limit) of which `own` descriptors are the server's. A quarter of the
/// rest stays free, for segments and clients to come.
fn divide(limit: Option<u64>, own: u64, wanted: Shares) -> Shares {
    let Some(limit) = limit else { return wanted };
    let all = wanted.http.saturating_add(wanted.registry).saturating_add(wanted.broker);
    let usable = usize::try_from(limit.saturating_sub(own) / 4 * 3).unwrap_or(usize::MAX);
    if all <= usable {
        return wanted;
    }
    let all = NonZeroUsize::new(all).map_or(1, NonZeroUsize::get) as u128;
    let share = |wanted: usize| {
        let share = wanted as u128 * usable as u128 / all;
        usize::try_from(share).unwrap_or(usize::MAX).max(LEAST).min(wanted.max(1))
    };
    Shares { http: share(wanted.http), registry: share(wanted.registry), broker: share(wanted.broker), ..wanted }
}

/// Files of logs: those that there are or that the configuration asks for, and three quarters of what the server's own
/// files and all connections leave.
fn most_log_files(limit: Option<u64>, own: u64, own_logs: u64, shares: Shares) -> usize {
    let Some(limit) = limit else { return usize::MAX };
    let connections = (shares.http + shares.registry + shares.broker) as u64;
    let left = limit.saturating_sub(own).saturating_sub(connections);
    usize::try_from(own_logs + left / 4 * 3).unwrap_or(usize::MAX)
}

/// The limit at which every listener gets what it wants.
fn enough_for(own: u64, wanted: Shares) -> u64 {
    let all = wanted.http.saturating_add(wanted.registry).saturating_add(wanted.broker) as u64;
    own.saturating_add(all.saturating_mul(4).div_ceil(3)).saturating_add(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Shares = Shares { http: 5_000, registry: 1_000, broker: 1_000, log_files: usize::MAX };

    #[test]
    fn each_listener_gets_what_it_wants_where_files_are_plenty() {
        assert_eq!(divide(None, 200, WANTED), WANTED);
        let enough = enough_for(200, WANTED);
        assert_eq!(divide(Some(enough), 200, WANTED), WANTED);
        assert_ne!(divide(Some(enough - 8), 200, WANTED), WANTED);
    }

    #[test]
    fn few_files_are_divided_and_some_stay_free() {
        for limit in 256..4_096 {
            let shares = divide(Some(limit), 150, WANTED);
            let all = 150 + shares.http + shares.registry + shares.broker;
            assert!((all as u64) < limit, "{limit}: {shares:?}");
            assert!(shares.http >= shares.broker && shares.broker >= LEAST, "{limit}: {shares:?}");
        }
    }

    #[test]
    fn a_limit_below_the_servers_own_files_leaves_the_least_and_no_more_than_wanted() {
        let wanted = Shares { broker: 2, ..WANTED };
        assert_eq!(divide(Some(10), 150, wanted), Shares { http: LEAST, registry: LEAST, broker: 2, ..wanted });
    }

    #[test]
    fn logs_have_their_own_files_at_least_and_leave_some_free_for_further_segments() {
        assert_eq!(most_log_files(None, 150, 20, WANTED), usize::MAX);
        for limit in 0..20_000 {
            let shares = divide(Some(limit), 150, WANTED);
            let files = most_log_files(Some(limit), 150, 20, shares) as u64;
            assert!(files >= 20, "{limit}: {files}");
            let all = 130 + files + (shares.http + shares.registry + shares.broker) as u64;
            assert!(limit < 256 || all < limit - limit / 100, "{limit}: {shares:?}, {files}");
        }
    }
}
