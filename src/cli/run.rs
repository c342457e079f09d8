//! `streamward run`: the server.

use std::path::{Path, PathBuf};

use clap::Args;
use streamward_kit::Outcome;

use super::{ConfigSource, Exit, Failure, check::exposure, interrupt::Interrupts};
use crate::{
    app::{App, AppError, Options},
    telemetry,
};

/// Run the server.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  streamward run --data-dir ./data --set http.listen=127.0.0.1:0 --ready-file ready.json"
)]
pub struct RunArgs {
    #[command(flatten)]
    source: ConfigSource,
    /// Write this file once everything answers: addresses and pid, as JSON.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Start no simulators.
    #[arg(long)]
    no_simulators: bool,
    /// Carry out a change of what stored rows mean that is refused otherwise, such as window/NAME; the refusal names it.
    #[arg(long, value_name = "CHANGE")]
    allow: Vec<String>,
    /// Allow listening on other addresses than loopback without authentication.
    #[arg(long)]
    insecure: bool,
}

pub fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let mut source = args.source.clone();
    if args.no_simulators {
        source.sets.push(("simulators.sensors.enabled".to_owned(), "false".to_owned()));
    }
    if let Some(file) = &args.ready_file {
        check_place(file)?;
    }
    let (loaded, plan) = source.compile_for_start(exposure(args.insecure), &args.allow)?;
    telemetry::init(&loaded.config.telemetry.log);
    let options = Options { ready_file: args.ready_file.clone(), observer: None };
    let outcome = actix::System::new().block_on(async {
        let _taken_for_the_whole_process = file_size_signal();
        let mut interrupts = Interrupts::listen()?;
        let app = App::start(&loaded, plan, options).await.map_err(not_started)?;
        let addresses = app.addresses();
        announce(format_args!("Streamward {} is starting", env!("CARGO_PKG_VERSION")));
        announce(format_args!("  console   http://{}/", addresses.http));
        announce(format_args!("  API docs  http://{}/docs/", addresses.http));
        announce(format_args!("  registry  {}", addresses.registry_url()));
        announce(format_args!("  Kafka     {}", addresses.kafka));
        announce(format_args!("  data      {}", loaded.config.node.data_dir.display()));
        let stop = interrupts.next();
        tokio::pin!(stop);
        loop {
            let ready = tokio::select! {
                ready = app.ready() => ready,
                () = &mut stop => return Ok(app.run(std::future::ready(())).await),
            };
            match ready {
                Ok(()) => announce(format_args!("ready")),
                Err(error @ AppError::NotReady(..)) => {
                    tracing::error!(%error, "not ready yet, going on");
                    continue;
                }
                Err(error) => tracing::error!(%error, "ready, and nobody is told by the ready file"),
            }
            break;
        }
        Ok::<_, Failure>(app.run(stop).await)
    })?;
    Ok(match outcome {
        Outcome::Stopped => Exit::Done,
        Outcome::Escalated(_) | Outcome::Crashed => Exit::GaveUp,
    })
}

/// Says something that a server runs on without: nobody reads it, or its disk is full.
fn announce(text: std::fmt::Arguments<'_>) {
    if let Err(failure) = super::say_line(text) {
        tracing::warn!("{failure}");
    }
}

/// A file that cannot be written is told before anything starts: whoever waits for it would wait for ever.
fn check_place(ready_file: &Path) -> Result<(), Failure> {
    let folder = ready_file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if ready_file.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
        let file = ready_file.display();
        return Err(Failure::usage(format_args!("--ready-file {file}: this has to be a file in a folder that exists")));
    }
    Ok(())
}

/// Whether something outside does not answer, which may change by itself, or somebody must change something first.
fn not_started(error: AppError) -> Failure {
    match error {
        AppError::Unreachable(why) => Failure::unreachable(why),
        AppError::Node(_)
        | AppError::Database(_)
        | AppError::Listen { .. }
        | AppError::Open { .. }
        | AppError::Config(_)
        | AppError::NotReady(..) => Failure::usage(error),
    }
}

/// Takes the signal of a file that has reached the process's limit, which would end the process: the write fails then, as
/// on a full disk.
fn file_size_signal() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))
}
