//! `streamward bench api`: how fast the routes of a running server answer.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::Machine;

/// Every GET route that reads.
pub const ROUTES: &[&str] = &[
    "/",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/openapi.json",
    "/api/v1/sensors/latest?limit=100",
    "/api/v1/sensors/latest?limit=100&sensor_id=sensor_000",
    "/api/v1/sensors/latest?limit=100&sensor_type=humidity",
    "/api/v1/sensors/stats?time_window_minutes=1440",
    "/api/v1/sensors/anomalies?limit=100",
    "/api/v1/sensors/anomalies?limit=100&sensor_type=pressure",
    "/api/v1/streams",
    "/api/v1/streams/sensors/latest?limit=100",
    "/api/v1/streams/sensors/stats",
    "/api/v1/streams/sensors/windows?limit=100",
    "/api/v1/streams/sensors/anomalies?limit=100",
    "/api/v1/alerts",
    "/api/v1/dead-letters",
    "/api/v1/supervision/tree",
    "/api/v1/events",
    "/api/v1/topology",
    "/api/v1/topics",
    "/api/v1/lag",
];

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 64 << 20;

/// One route's figures.
#[derive(Debug, Clone, Serialize)]
pub struct RouteReport {
    pub route: String,
    pub requests: usize,
    /// Answers that were not 200.
    pub failed: usize,
    /// Milliseconds, with fractions.
    pub p50: f64,
    pub p95: f64,
    pub max: f64,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct ApiReport {
    pub routes: Vec<RouteReport>,
    pub slowest_p95_ms: f64,
    pub failed: usize,
    pub machine: Machine,
    pub load_average: f64,
}

/// Asks every route `requests` times, `concurrency` at a time.
pub async fn run(url: &str, requests: usize, concurrency: usize) -> ApiReport {
    let load_average = crate::process::load_average();
    let client = awc::Client::builder().timeout(TIMEOUT).finish();
    let mut routes = Vec::new();
    for route in ROUTES {
        let url = format!("{}{route}", url.trim_end_matches('/'));
        let client = &client;
        let ask = |_| {
            let url = url.clone();
            async move {
                let began = Instant::now();
                let ok = match client.get(url).send().await {
                    Ok(mut answer) => answer.status().is_success() && answer.body().limit(MAX_BODY).await.is_ok(),
                    Err(_) => false,
                };
                (ok, began.elapsed().as_secs_f64() * 1000.0)
            }
        };
        let answers: Vec<(bool, f64)> =
            stream::iter(0..requests).map(ask).buffer_unordered(concurrency).collect().await;
        routes.push(report(route, &answers));
    }
    ApiReport {
        slowest_p95_ms: routes.iter().map(|route| route.p95).fold(0.0, f64::max),
        failed: routes.iter().map(|route| route.failed).sum(),
        routes,
        machine: Machine::here(),
        load_average,
    }
}

fn report(route: &str, answers: &[(bool, f64)]) -> RouteReport {
    let mut times: Vec<f64> = answers.iter().map(|(_, ms)| *ms).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (share * times.len() as f64).ceil() as usize;
        times.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    RouteReport {
        route: route.to_owned(),
        requests: answers.len(),
        failed: answers.iter().filter(|(ok, _)| !ok).count(),
        p50: at(0.5),
        p95: at(0.95),
        max: at(1.0),
    }
}
