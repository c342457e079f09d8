//! The real binary as a process of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{database::Database, http::Http, wait};

/// The binary under test; `STREAMWARD_BINARY` names another one, such as that of the release profile.
fn binary() -> String {
    std::env::var("STREAMWARD_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_streamward").to_owned())
}

/// Log lines shown when a test fails.
const LINES_SHOWN: usize = 60;

/// Runs a command to its end: exit code, output, complaint.
pub fn run(node: &Node, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = node.command(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The cluster that tests use instead of the embedded broker, if there is one: the address of an Apache Kafka.
pub fn outside() -> Option<String> {
    std::env::var("STREAMWARD_KAFKA").ok()
}

/// A data folder and settings; between two starts of its server it stays the same node.
pub struct Node {
    folder: TempDir,
    settings: Vec<(String, String)>,
    flags: Vec<&'static str>,
    /// Limit of open files; none: that of the test.
    open_files: Option<u32>,
    /// Address of Kafka: a free port at first, then the same at every start, so that clients find the server again.
    kafka: String,
}

impl Node {
    /// A new folder with the built-in configuration, free ports and no simulators.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            settings: Vec::new(),
            flags: vec!["--no-simulators"],
            open_files: None,
            kafka: "127.0.0.1:0".to_owned(),
        }
    }

    /// The same on the cluster of [`outside`], if there is one.
    pub fn somewhere() -> Self {
        match outside() {
            Some(kafka) => Self::new().set("kafka.bootstrap", &kafka),
            None => Self::new(),
        }
    }

    /// Runs the simulators, too.
    pub fn with_simulators(mut self) -> Self {
        self.flags.clear();
        self
    }

    /// Allows faults to be injected.
    pub fn with_drills(self) -> Self {
        self.set("drills.enabled", "true")
    }

    /// Overrides one key of the configuration.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Limits the files that the server may have open.
    pub fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Starts with leave for a change of what stored rows mean.
    pub fn allow(mut self, change: &'static str) -> Self {
        self.flags.extend(["--allow", change]);
        self
    }

    /// Comes back from an outside cluster, `kafka.bootstrap`, to the embedded broker, at another port.
    pub fn come_home(mut self) -> Self {
        self.settings.retain(|(key, _)| key != "kafka.bootstrap");
        self.kafka = "127.0.0.1:0".to_owned();
        self
    }

    /// A file in the working folder of the server and of [`Self::command`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where everything is stored.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The database.
    pub fn database(&self) -> Database {
        Database::at(self.data().join("streamward.db"))
    }

    /// Whether a server has run here.
    pub fn database_exists(&self) -> bool {
        self.data().join("streamward.db").exists()
    }

    /// Starts the server and waits until everything answers.
    pub async fn start(mut self) -> Server {
        let ready_file = self.path("ready.json");
        if ready_file.exists() {
            fs::remove_file(&ready_file).unwrap();
        }
        let mut child = self.server_command(&ready_file).spawn().unwrap();
        let log = self.path("log");
        let ready = wait::until("the server is ready", async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", tail(&log));
            }
            fs::read(&ready_file).map_err(|error| error.to_string())
        });
        let ready: Value = serde_json::from_slice(&ready.await).unwrap();
        let address = |name: &str| ready[name].as_str().unwrap().to_owned();
        assert_eq!(ready["pid"], child.id());
        self.kafka = address("kafka");
        Server { http: Http::new(&address("http")), registry: address("registry"), child, node: Some(self) }
    }

    /// Starts the server and waits until it has said where it answers, which is before it is ready.
    pub async fn start_unready(mut self) -> Server {
        let mut child = self.server_command(&self.path("ready.json")).spawn().unwrap();
        let (log, stdout) = (self.path("log"), self.path("stdout"));
        let printed = wait::until("the server says where it answers", async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", tail(&log));
            }
            let printed = fs::read_to_string(&stdout).unwrap();
            if printed.contains("  data ") { Ok(printed) } else { Err(printed) }
        });
        let printed = printed.await;
        let address = |name: &str| {
            let line = printed.lines().find_map(|line| line.trim_start().strip_prefix(name)).unwrap();
            line.trim().trim_start_matches("http://").trim_end_matches('/').to_owned()
        };
        self.kafka = address("Kafka");
        Server { http: Http::new(&address("console")), registry: address("registry"), child, node: Some(self) }
    }

    /// Starts the server and ends it as [`Server::kill`] does once its broker takes connections, in mid-recovery.
    #[cfg(feature = "crash-tests")]
    pub async fn crash_while_starting(self) -> Self {
        let mut child = self.server_command(&self.path("never-ready.json")).spawn().unwrap();
        wait::until("the broker takes connections", async || {
            std::net::TcpStream::connect(&self.kafka).map_err(|error| error.to_string())
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        self
    }

    /// Starts a server that ends by itself; answers its exit code, and what it said.
    pub fn ends(&self) -> (Option<i32>, String) {
        let status = self.server_command(&self.path("ready.json")).status().unwrap();
        (status.code(), fs::read_to_string(self.path("log")).unwrap())
    }

    /// The same, and fails where the server goes on.
    pub async fn ends_in_time(self) -> (Option<i32>, String) {
        let child = self.server_command(&self.path("ready.json")).spawn().unwrap();
        let server = Server { http: Http::new("nowhere"), registry: String::new(), child, node: Some(self) };
        let (status, node) = server.ended().await;
        (status.code(), fs::read_to_string(node.path("log")).unwrap())
    }

    fn server_command(&self, ready_file: &Path) -> Command {
        let mut command = self.command(&["run"]);
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        command.args(&self.flags).arg("--ready-file").arg(ready_file);
        for listener in ["http.listen", "registry.embedded.listen"] {
            command.args(["--set", &format!("{listener}=127.0.0.1:0")]);
        }
        command.args(["--set", &format!("kafka.embedded.listen={}", self.kafka)]);
        for (key, value) in &self.settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.stdout(File::create(self.path("stdout")).unwrap()).stderr(log);
        command
    }

    /// A command of the binary on this node's folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.open_files {
            None => Command::new(binary()),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\"")).arg(binary());
                shell
            }
        };
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STREAMWARD")) {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path()).stdin(Stdio::null()).args(arguments);
        let takes_no_folder = |command: &&str| {
            matches!(*command, "tree" | "schema" | "topics" | "drill" | "bench" | "completions" | "man")
        };
        if arguments.first().is_some_and(|command| !takes_no_folder(command)) {
            command.arg("--data-dir").arg(self.data());
        }
        command
    }

    /// A line for a shell in this node's folder, where `streamward` is the binary.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let binary = binary();
        let folder = Path::new(&binary).parent().unwrap().display();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("PATH", path).args(["-c", line]);
        command
    }

    /// Recounts the log of a stopped server against its database; asserts that nothing differs.
    pub fn verify(&self) -> Value {
        exact(&self.command(&["verify", "--json"]).output().unwrap())
    }
}

/// A running server; killed when dropped.
pub struct Server {
    pub http: Http,
    /// Address of the embedded registry.
    pub registry: String,
    child: Child,
    node: Option<Node>,
}

impl Server {
    /// Folder and settings.
    pub fn node(&self) -> &Node {
        self.node.as_ref().expect("only the end of the server takes it")
    }

    /// Address of the embedded broker, or of the cluster that it uses instead.
    pub fn kafka(&self) -> &str {
        &self.node().kafka
    }

    /// The database, read beside the server.
    pub fn database(&self) -> Database {
        self.node().database()
    }

    /// Id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server printed.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.node().path("stdout")).unwrap()
    }

    /// Most memory that the process has held so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Whether the process holds a lock on a file.
    pub fn holds_lock_on(&self, file: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let (pid, inode) = (self.child.id().to_string(), fs::metadata(file).unwrap().ino().to_string());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        // `1: POSIX ADVISORY READ 4711 fe:00:10002721 0 EOF`: the process, then device and inode.
        let held = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.contains(&&*pid) && fields.iter().any(|field| field.rsplit(':').next() == Some(&*inode))
        };
        locks.lines().any(held)
    }

    /// Ends the process as a power cut would: nothing in it gets to run again.
    pub fn kill(mut self) -> Node {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.node.take().expect("only the end of the server takes it")
    }

    /// Asks the process to end and waits for it.
    pub async fn terminate(self) -> (ExitStatus, Node) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ended().await
    }

    /// Waits until the process ends by itself.
    pub async fn ended(mut self) -> (ExitStatus, Node) {
        let status = wait::until("the server has ended", async || {
            self.child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        });
        let status = status.await;
        (status, self.node.take().expect("only the end of the server takes it"))
    }

    /// Recounts the log against the database beside the server; asserts that nothing differs.
    pub fn verify(&self) -> Value {
        exact(&self.node().command(&["verify", "--json", "--bootstrap", self.kafka()]).output().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(node) = &self.node else { return };
        let _already_ended = self.child.kill();
        let _already_waited_for = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log ends with:\n{}", tail(&node.path("log")));
        }
    }
}

/// The report of a `verify` that found no difference.
pub fn exact(output: &Output) -> Value {
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "verify: {}\n{printed}\n{complaint}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report:#}");
    report
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}
