//! A broker under measurement: this program as a process of its own, or one that runs already.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    adapters::kafka::KafkaSettings,
    process::{Process, Thread},
};

const START_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// A broker, and its process where that is known.
#[derive(Debug)]
pub struct Target {
    pub name: String,
    pub kafka: KafkaSettings,
    process: Option<Process>,
    child: Option<Child>,
}

#[derive(Deserialize)]
struct Ready {
    kafka: String,
    pid: u32,
}

impl Target {
    /// Starts this program on a folder, without simulators, and waits until it answers.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(folder: &Path) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        Self::start_program(&program, folder, &["--no-simulators"])
    }

    /// Likewise, another program with further arguments.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_program(program: &Path, folder: &Path, more: &[&str]) -> Result<Self, String> {
        let ready = folder.join("ready.json");
        let mut command = Command::new(program);
        command.arg("run").args(more).arg("--data-dir").arg(folder.join("data"));
        command.arg("--ready-file").arg(&ready);
        for listener in ["http.listen", "kafka.embedded.listen", "registry.embedded.listen"] {
            command.arg("--set").arg(format!("{listener}=127.0.0.1:0"));
        }
        // Neither a configuration beside the caller nor one in the environment takes part.
        command.current_dir(folder);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STREAMWARD")) {
            command.env_remove(name);
        }
        let log = folder.join("log");
        let stderr = File::create(&log).map_err(|error| format!("create {}: {error}", log.display()))?;
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn();
        let mut target = Self {
            name: "streamward".to_owned(),
            kafka: KafkaSettings { bootstrap: String::new(), extra: Default::default() },
            process: None,
            child: Some(child.map_err(|error| format!("start {}: {error}", folder.display()))?),
        };
        let until = Instant::now() + START_WITHIN;
        while Instant::now() < until {
            let written = fs::read(&ready).ok().and_then(|bytes| serde_json::from_slice::<Ready>(&bytes).ok());
            if let Some(Ready { kafka, pid }) = written {
                target.kafka.bootstrap = kafka;
                target.process = Some(Process::of(pid));
                return Ok(target);
            }
            if let Some(Ok(Some(status))) = target.child.as_mut().map(Child::try_wait) {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("the server ended with {status}: {}", said.trim_end()));
            }
            std::thread::sleep(PAUSE);
        }
        Err(format!("the server did not start within {START_WITHIN:?}"))
    }

    /// A broker that runs; with its process id its CPU time and memory are measured too.
    #[must_use]
    pub fn running(address: &str, pid: Option<u32>) -> Self {
        Self {
            name: address.to_owned(),
            kafka: KafkaSettings { bootstrap: address.to_owned(), extra: Default::default() },
            process: pid.map(Process::of),
            child: None,
        }
    }

    /// The threads of its process.
    #[must_use]
    pub fn threads(&self) -> Vec<Thread> {
        self.process.as_ref().map(Process::threads).unwrap_or_default()
    }

    /// CPU time that the broker has used.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        self.process.as_ref().map(Process::cpu_time)
    }

    /// Resident memory of the broker, in MB.
    #[must_use]
    pub fn resident_mb(&self) -> Option<f64> {
        self.process.as_ref().map(|process| process.resident_bytes() as f64 / 1e6)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _already_gone = child.kill();
            let _status = child.wait();
        }
    }
}
