//! What the operating system says about a process (Linux; zeros elsewhere, and for one that has ended).

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Clock ticks per second in `/proc/<pid>/stat`: fixed at 100 in Linux' user interface.
const TICKS_PER_SECOND: u64 = 100;

/// A process of this machine.
#[derive(Debug, Clone)]
pub struct Process {
    folder: PathBuf,
}

impl Process {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        Self { folder: PathBuf::from("/proc/self") }
    }

    /// By its id.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { folder: PathBuf::from(format!("/proc/{pid}")) }
    }

    /// Resident memory, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.status_kib("VmRSS:") << 10
    }

    /// Largest resident memory so far, in bytes.
    #[must_use]
    pub fn peak_resident_bytes(&self) -> u64 {
        self.status_kib("VmHWM:") << 10
    }

    /// Its threads at this moment.
    #[must_use]
    pub fn threads(&self) -> Vec<Thread> {
        let tasks = fs::read_dir(self.folder.join("task")).into_iter().flatten().flatten();
        tasks.filter_map(|task| Thread::of(&task.path())).collect()
    }

    fn status_kib(&self, key: &str) -> u64 {
        let status = fs::read_to_string(self.folder.join("status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }

    /// CPU time of all threads, user and system.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(self.folder.join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }
}

/// A thread of a process, with sums since its start.
#[derive(Debug, Clone)]
pub struct Thread {
    pub id: u64,
    /// At most 15 bytes.
    pub name: String,
    pub cpu: Duration,
    /// How often another thread came in its place, because it waited or its time was up.
    pub switches: u64,
}

impl Thread {
    /// From its folder in `/proc/<pid>/task`; none if it has ended.
    fn of(folder: &Path) -> Option<Self> {
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let lines = status.lines().filter(|line| line.contains("voluntary_ctxt_switches:"));
        let counts = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        let schedstat = fs::read_to_string(folder.join("schedstat")).ok()?;
        Some(Self {
            id: folder.file_name()?.to_str()?.parse().ok()?,
            name: fs::read_to_string(folder.join("comm")).ok()?.trim_end().to_owned(),
            cpu: Duration::from_nanos(schedstat.split_whitespace().next()?.parse().ok()?),
            switches: counts.sum(),
        })
    }
}

/// Lets this process open as many files as it may: segments and sockets are many. The limit in force.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, ?current, "the limit of open files stays");
            current
        }
    }
}

/// Load average over the last minute.
#[must_use]
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
