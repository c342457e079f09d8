//! `streamward bench`: measurements.

use std::{fmt::Display, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Exit, Failure, client::Server};
use crate::bench::{
    alerts::{self, AlertsBench},
    api::{self, ApiReport},
    broker::{self, BrokerBench, Target},
    cost::{self, CostBench, StoreKind},
    dashboards::{self, DashboardBench},
    pipeline::{self, PipelineBench, PipelineReport},
    rates::{self, RatesBench, Work},
    seed,
    supervision::{self, Outages, SupervisionBench},
};

/// Measure.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// From a load generator through the broker and the pipeline to SQLite and a WebSocket.
    Pipeline(PipelineArgs),
    /// Fill a data folder with rows.
    Seed(SeedArgs),
    /// Many dashboards, some of which never read.
    Websocket(WebsocketArgs),
    /// Ask every route of a running server.
    Api(ApiArgs),
    /// Seeded faults in every role under load: what is lost, and how fast it heals.
    Supervision(SupervisionArgs),
    /// What alerts that fire cost: the same records with and without.
    Alerts(AlertsArgs),
    /// What supervision costs: the same stages called directly, and as actors. With --rates, what a whole server costs.
    Cost(CostArgs),
    /// The embedded broker, alone or beside another broker in the same run.
    Broker(BrokerArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  streamward bench pipeline --rate 10000 --seconds 30 --json")]
struct PipelineArgs {
    /// Records per second, or max.
    #[arg(long, default_value = "max")]
    rate: String,
    /// How long to send.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Different sensors.
    #[arg(long, default_value_t = 1000)]
    keys: u32,
    /// Seed of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure on this data folder, beside what is stored there; without it on a temporary one.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where rows go. PostgreSQL is at --postgres-url, in a database of the measurement's own.
    #[arg(long, value_enum, default_value_t = Storage::Sqlite, requires_if("postgres", "postgres_url"))]
    storage: Storage,
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "STREAMWARD_POSTGRES", value_name = "URL", hide_env_values = true)]
    postgres_url: Option<String>,
    /// Override one key of the built-in configuration; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = crate::config::parse_set)]
    sets: Vec<(String, String)>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// A database to store in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Storage {
    Sqlite,
    Postgres,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  streamward bench seed --rows 10000000 --data-dir ./seeded")]
struct SeedArgs {
    /// Rows to store.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Different sensors.
    #[arg(long, default_value_t = 100)]
    keys: u32,
    /// Folder to fill.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  streamward bench websocket --readers 20 --stuck 200 --rate 2000")]
struct WebsocketArgs {
    /// Clients that read every frame.
    #[arg(long, default_value_t = 20)]
    readers: usize,
    /// Clients that never read.
    #[arg(long, default_value_t = 200)]
    stuck: usize,
    /// Records per second.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Length of each of the two measurements: without and with the stuck clients.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  streamward bench api --url http://127.0.0.1:8000 --requests 100 --concurrency 10")]
struct ApiArgs {
    #[command(flatten)]
    server: Server,
    /// Requests per route.
    #[arg(long, default_value_t = 100)]
    requests: usize,
    /// Requests at a time.
    #[arg(long, default_value_t = 10)]
    concurrency: usize,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  streamward bench supervision --seconds 300 --faults 1000\n\nEnds with 1 if a record was lost, duplicated or reordered, a dead letter is missing or too many, a fault has\nnot healed, or an outage was not named within 10 s."
)]
struct SupervisionArgs {
    /// How long faults strike.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Faults in that time.
    #[arg(long, default_value_t = 200)]
    faults: u32,
    /// Panics of sink, lane and source before that, one by one.
    #[arg(long, default_value_t = 60)]
    panics: u32,
    /// Records per second meanwhile.
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
    /// Different sensors.
    #[arg(long, default_value_t = 1000)]
    keys: u32,
    /// Seed of the load and of the faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of load in each of the eight measurements beside a crash loop and alone; 0 leaves them out.
    #[arg(long, default_value_t = 6)]
    neighbours: u64,
    /// What fails around the actors after that, each on a server of its own: all, none, or some of poison_batch,
    /// refused_row, gap, full_state, database_locked, database_gone, kafka_gone, topic_gone, with commas between.
    #[arg(long, default_value = "all", value_name = "NAMES")]
    outages: Outages,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  streamward bench alerts --keys 200000 --records 2000000")]
struct AlertsArgs {
    /// Different sensors, each of which fires; one rule keeps at most 100,000 of them in a partition.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    keys: u32,
    /// Records of a round.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Rounds of each way, which take turns; the median counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seed of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  streamward bench cost --rounds 9\n  streamward bench cost --rates idle,simulator,2000,10000"
)]
struct CostArgs {
    /// Measure a whole server at these rates instead: idle, simulator (the built-in one, 30 readings a second), records
    /// a second from outside; with commas between.
    #[arg(long, value_name = "RATES", value_delimiter = ',', conflicts_with_all = ["counting", "records", "batch", "rounds"])]
    rates: Vec<Work>,
    /// Length of the measurement of each rate.
    #[arg(long, default_value_t = 20, requires = "rates", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How long the server runs at a rate before that.
    #[arg(long, default_value_t = 8, requires = "rates")]
    settle: u64,
    /// Start this program as the server instead of this one, to compare two builds.
    #[arg(long, value_name = "FILE", requires = "rates")]
    program: Option<PathBuf>,
    /// Commit to a store that only counts instead of SQLite.
    #[arg(long)]
    counting: bool,
    /// Records of a round.
    #[arg(long, default_value_t = 400_000)]
    records: usize,
    /// Records of a batch.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Rounds of each way.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Different sensors.
    #[arg(long, default_value_t = 1000)]
    keys: u32,
    /// Seed of the records.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  streamward bench broker --against 127.0.0.1:9092 --against-pid 4711 --warm-up 30")]
struct BrokerArgs {
    /// Measure this broker too, taking turns.
    #[arg(long, value_name = "HOST:PORT")]
    against: Option<String>,
    /// Process of that broker on this machine, for its CPU time and memory.
    #[arg(long, value_name = "PID", requires = "against")]
    against_pid: Option<u32>,
    /// Length of one measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Measurements of each case; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Seconds of load on each broker before the first measurement.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(9..=1_000_000))]
    value_bytes: u32,
    /// Measure only the cases whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    case: String,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
fn no_folder(error: std::io::Error) -> Failure {
    Failure::usage(format_args!("make a temporary folder: {error}"))
}

pub fn bench(args: &BenchArgs) -> Result<Exit, Failure> {
    match &args.what {
        What::Pipeline(args) => bench_pipeline(args),
        What::Seed(args) => bench_seed(args),
        What::Websocket(args) => bench_websocket(args),
        What::Api(args) => bench_api(args),
        What::Supervision(args) => bench_supervision(args),
        What::Alerts(args) => bench_alerts(args),
        What::Cost(args) => bench_cost(args),
        What::Broker(args) => bench_broker(args),
    }
}

fn bench_pipeline(args: &PipelineArgs) -> Result<Exit, Failure> {
    let rate = match args.rate.as_str() {
        "max" => None,
        rate => Some(
            rate.parse()
                .ok()
                .filter(|rate| *rate > 0.0)
                .ok_or_else(|| Failure::usage("--rate is a number above 0, or max"))?,
        ),
    };
    let url = args.postgres_url.iter().filter(|_| args.storage == Storage::Postgres);
    let storage = url.map(|url| ("storage.postgres.url".to_owned(), url.clone()));
    let bench = PipelineBench {
        rate,
        duration: Duration::from_secs(args.seconds),
        keys: args.keys,
        seed: args.seed,
        sets: storage.chain(args.sets.iter().cloned()).collect(),
    };
    let temporary = tempfile::tempdir().map_err(no_folder)?;
    let folder = args.data_dir.as_deref().unwrap_or(temporary.path());
    let report = actix::System::new().block_on(pipeline::run(folder, &bench)).map_err(Failure::check)?;
    if args.json {
        print_json(&report)?;
    } else {
        print_pipeline(&report)?;
    }
    let exact = report.records_lost == 0 && report.records_duplicated == 0;
    Ok(Exit::of_check(exact))
}

fn print_pipeline(report: &PipelineReport) -> Result<(), Failure> {
    let row = &report.event_to_row_ms;
    let socket = &report.event_to_websocket_ms;
    super::say_line(format_args!(
        "sent {} stored {} lost {} duplicated {}",
        report.records_sent, report.records_stored, report.records_lost, report.records_duplicated
    ))?;
    super::say_line(format_args!(
        "throughput {:.0}/s = {:.2} of the floor of {:.0}/s",
        report.throughput_per_s,
        report.throughput_per_s / report.floor_per_s,
        report.floor_per_s
    ))?;
    super::say_line(format_args!(
        "event → row        p50 {} p95 {} p99 {} max {} ms",
        row.p50, row.p95, row.p99, row.max
    ))?;
    super::say_line(format_args!(
        "event → WebSocket  p50 {} p95 {} p99 {} max {} ms",
        socket.p50, socket.p95, socket.p99, socket.max
    ))?;
    super::say_line(format_args!(
        "CPU {:.2} µs per record, peak memory {:.0} MB, load average before {:.2}",
        report.cpu_us_per_record, report.rss_peak_mb, report.load_average
    ))?;
    Ok(())
}

fn bench_seed(args: &SeedArgs) -> Result<Exit, Failure> {
    let sent =
        actix::System::new().block_on(seed::run(&args.data_dir, args.rows, args.keys)).map_err(Failure::check)?;
    super::say_line(format_args!(
        "{} rows are in {} after {:.0} s",
        sent.acknowledged,
        args.data_dir.display(),
        sent.seconds
    ))?;
    Ok(Exit::Done)
}

fn bench_websocket(args: &WebsocketArgs) -> Result<Exit, Failure> {
    let bench = DashboardBench {
        readers: args.readers,
        stuck: args.stuck,
        rate: args.rate,
        duration: Duration::from_secs(args.seconds),
    };
    let folder = tempfile::tempdir().map_err(no_folder)?;
    let report = actix::System::new().block_on(dashboards::run(folder.path(), &bench)).map_err(Failure::check)?;
    print_json(&report)?;
    Ok(Exit::Done)
}

fn bench_api(args: &ApiArgs) -> Result<Exit, Failure> {
    let report = actix::System::new().block_on(api::run(args.server.url.as_str(), args.requests, args.concurrency));
    if args.json {
        print_json(&report)?;
    } else {
        print_api(&report)?;
    }
    Ok(Exit::of_check(report.failed == 0))
}

fn print_api(report: &ApiReport) -> Result<(), Failure> {
    for route in &report.routes {
        super::say_line(format_args!(
            "{:<60} p50 {:>7.1}  p95 {:>7.1}  max {:>7.1} ms  {} failed",
            route.route, route.p50, route.p95, route.max, route.failed
        ))?;
    }
    super::say_line(format_args!(
        "slowest p95 {:.1} ms, load average before {:.2}",
        report.slowest_p95_ms, report.load_average
    ))?;
    Ok(())
}

fn bench_broker(args: &BrokerArgs) -> Result<Exit, Failure> {
    let folder = tempfile::tempdir().map_err(no_folder)?;
    let mut targets = vec![Target::start(folder.path()).map_err(Failure::check)?];
    targets.extend(args.against.as_ref().map(|address| Target::running(address, args.against_pid)));
    let bench = BrokerBench {
        duration: Duration::from_secs(args.seconds),
        rounds: usize::try_from(args.rounds).unwrap_or(usize::MAX),
        warm_up: Duration::from_secs(args.warm_up),
        case: args.case.clone(),
        value_bytes: usize::try_from(args.value_bytes).unwrap_or(usize::MAX),
    };
    let report = actix::System::new().block_on(broker::run(&targets, &bench)).map_err(Failure::check)?;
    print(&report, args.json)?;
    Ok(Exit::Done)
}

fn bench_supervision(args: &SupervisionArgs) -> Result<Exit, Failure> {
    let bench = SupervisionBench {
        rate: args.rate,
        duration: Duration::from_secs(args.seconds),
        faults: args.faults,
        panics: args.panics,
        keys: args.keys,
        seed: args.seed,
        neighbours: Duration::from_secs(args.neighbours),
        outages: args.outages.clone(),
    };
    let folder = tempfile::tempdir().map_err(no_folder)?;
    let report = actix::System::new().block_on(supervision::run(folder.path(), &bench)).map_err(Failure::check)?;
    print(&report, args.json)?;
    Ok(Exit::of_check(report.is_exact()))
}

fn bench_alerts(args: &AlertsArgs) -> Result<Exit, Failure> {
    let bench = AlertsBench { keys: args.keys, records: args.records, rounds: args.rounds, seed: args.seed };
    let report = actix::System::new().block_on(alerts::run(&bench)).map_err(Failure::check)?;
    print(&report, args.json)?;
    Ok(Exit::Done)
}

fn bench_rates(args: &CostArgs) -> Result<Exit, Failure> {
    let program = args.program.as_ref().map_or_else(std::env::current_exe, std::fs::canonicalize);
    let bench = RatesBench {
        program: program.map_err(|error| Failure::usage(format_args!("--program: {error}")))?,
        rates: args.rates.clone(),
        duration: Duration::from_secs(args.seconds),
        settle: Duration::from_secs(args.settle),
        keys: args.keys,
        seed: args.seed,
    };
    let report = actix::System::new().block_on(rates::run(&bench)).map_err(Failure::check)?;
    print(&report, args.json)?;
    Ok(Exit::Done)
}

fn bench_cost(args: &CostArgs) -> Result<Exit, Failure> {
    if !args.rates.is_empty() {
        return bench_rates(args);
    }
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    if args.records < size(args.batch) {
        return Err(Failure::usage("--records must be at least as many as --batch"));
    }
    let bench = CostBench {
        store: if args.counting { StoreKind::Counting } else { StoreKind::Sqlite },
        records: args.records,
        batch: size(args.batch),
        rounds: size(args.rounds),
        keys: args.keys,
        seed: args.seed,
    };
    let report = actix::System::new().block_on(cost::run(&bench)).map_err(Failure::check)?;
    print(&report, args.json)?;
    Ok(Exit::Done)
}

fn print(report: &(impl Serialize + Display), as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print_json(report);
    }
    super::say_line(format_args!("{report}"))?;
    Ok(())
}

fn print_json(report: &impl Serialize) -> Result<(), Failure> {
    super::say_line(format_args!("{}", serde_json::to_string_pretty(report).map_err(Failure::check)?))?;
    Ok(())
}
