//! The command line: one file per command.

mod bench;
mod check;
mod client;
mod drill;
mod exit;
mod interrupt;
mod output;
mod replay;
mod run;
mod schema;
mod shell;
mod table;
mod topics;
mod tree;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, FromArgMatches as _, Parser, Subcommand};

use self::{
    exit::{Exit, Failure},
    output::{remark, say, say_bytes, say_line},
};
use crate::{
    config::{Exposure, Loaded, Sources, parse_set},
    plan::{self, Plan},
};

/// A self-healing streaming server.
#[derive(Debug, Parser)]
#[command(
    name = "streamward",
    version,
    about = "A self-healing streaming server: Kafka in, SQL, REST and WebSockets out",
    long_about = "Streamward reads event streams from Kafka (or its embedded broker), decodes them by schema, windows \
                  and checks them, stores the results exactly once in SQL and pushes them live to dashboards. Every \
                  part is a supervised actor.\n\nWithout a command it runs the server.",
    after_help = "Example:\n  streamward run --data-dir ./data\n  open http://127.0.0.1:8000/"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default).
    Run(run::RunArgs),
    /// Check the configuration and report every fault at once.
    Check(check::CheckArgs),
    /// Print the merged configuration or its JSON Schema.
    Config(check::ConfigArgs),
    /// Write the records of a file into a stream.
    Replay(replay::ReplayArgs),
    /// Recount the log against the database.
    Verify(verify::VerifyArgs),
    /// Measure.
    Bench(bench::BenchArgs),
    /// List, register, compare and delete schemas.
    Schema(schema::SchemaArgs),
    /// List, describe, create, alter, delete and tail topics of a running server.
    Topics(topics::TopicsArgs),
    /// Show the supervision tree of a running server.
    Tree(tree::TreeArgs),
    /// Make an actor of a running server fail and see it heal.
    Drill(drill::DrillArgs),
    /// Print completions for a shell.
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write one for each command.
    Man(shell::ManArgs),
}

/// Where the configuration comes from; shared by every command that reads it.
#[derive(Debug, Clone, Args)]
pub struct ConfigSource {
    /// Configuration file; without it ./config.yaml, else the built-in one.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one key, such as http.listen=127.0.0.1:0; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_set)]
    pub sets: Vec<(String, String)>,
    /// Folder for everything that is stored; overrides node.data_dir.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl ConfigSource {
    /// The file, if there is one, and all overrides.
    fn sources(&self, exposure: Exposure) -> Sources {
        let default = PathBuf::from("config.yaml");
        let file = self.config.clone().or_else(|| default.is_file().then_some(default));
        let mut sets = self.sets.clone();
        if let Some(folder) = &self.data_dir {
            sets.push(("node.data_dir".to_owned(), folder.display().to_string()));
        }
        let mut sources = Sources::from_process(file, sets);
        sources.exposure = exposure;
        sources
    }

    /// Likewise, for a start on the data folder: refuses what would harm stored rows, unless it is allowed.
    fn compile_for_start(&self, exposure: Exposure, allowed: &[String]) -> Result<(Loaded, Plan), Failure> {
        plan::load_for_start(&self.sources(exposure), allowed, true).map_err(Failure::usage)
    }

    /// Reads the configuration and compiles its streams and pipelines; the message lists every fault.
    fn compile(&self, exposure: Exposure) -> Result<(Loaded, Plan), Failure> {
        plan::load(&self.sources(exposure)).map_err(Failure::usage)
    }
}

/// A command and those below it, whose `--help` ends with the exit codes.
fn documented(command: clap::Command) -> clap::Command {
    let examples = command.get_after_help().map(|examples| format!("{examples}\n\n")).unwrap_or_default();
    command.after_long_help(format!("{examples}{}", Exit::HELP)).mut_subcommands(documented)
}

/// The whole command line.
fn command_line() -> clap::Command {
    documented(Cli::command())
}

/// Runs the command line; returns the process's exit code.
pub fn main() -> ExitCode {
    let given = command_line().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match given {
        Ok(cli) => cli,
        Err(answer) => return output::answer(&answer).into(),
    };
    let command = cli.command.unwrap_or(Command::Run(cli.run));
    let done = match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Config(args) => check::config(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Schema(args) => schema::schema(&args),
        Command::Topics(args) => topics::topics(&args),
        Command::Tree(args) => tree::tree(&args),
        Command::Drill(args) => drill::drill(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    };
    let exit = done.unwrap_or_else(|failure| {
        if failure.exit() != Exit::Done {
            remark(format_args!("streamward: {failure}"));
        }
        failure.exit()
    });
    exit.into()
}
