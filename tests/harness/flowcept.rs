//! Flowcept 1.0.3, unmodified: its settings, its command line and its services.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::host::root;
use crate::python::python;
use crate::run::{Captured, Helper, said};
use crate::server::{Process, free_port};

use serde_json::Value;

/// A queue of Flowcept's settings, by its port.
#[derive(Clone, Copy, Debug)]
pub enum Mq {
    /// Redis.
    Redis(u16),
    /// Its consumer is the group `theirs`.
    Kafka(u16),
    /// Its user is `alice`, with this password.
    Rabbit(u16, &'static str),
}

/// Flowcept 1.0.3 with settings of its own.
pub struct Flowcept {
    home: tempfile::TempDir,
    /// Where its MCP server listens.
    agent: u16,
}

impl Flowcept {
    /// With this queue, where it has one, and LMDB.
    pub fn new(queue: Option<Mq>) -> Self {
        Self::of(queue, None)
    }

    /// With this queue, where it has one, and instead of LMDB with MongoDB on this port, in the database of this name.
    pub fn of(queue: Option<Mq>, mongo: Option<(u16, &str)>) -> Self {
        let home = tempfile::tempdir().expect("because tests may write temporary files");
        let (kind, port, channel) = match queue {
            Some(Mq::Redis(port)) => ("redis", port, "interception"),
            Some(Mq::Kafka(port)) => ("kafka", port, "provenance"),
            Some(Mq::Rabbit(port, _)) => ("rabbitmq", port, "provenance"),
            None => ("redis", 6379, "interception"),
        };
        let agent = free_port();
        let password = if let Some(Mq::Rabbit(_, password)) = queue { password } else { "" };
        // What it has for itself in Redis it needs for its own way to stop, not for others.
        let (enabled, kv) = (queue.is_some(), matches!(queue, Some(Mq::Redis(_))));
        let settings = format!(
            "project: {{db_flush_mode: online, enrich_messages: true, dump_buffer: {{enabled: false}}}}
mq: {{enabled: {enabled}, type: {kind}, host: 127.0.0.1, port: {port}, channel: {channel}, group_id: theirs, username: alice, password: {password}, buffer_size: 50, insertion_buffer_time_secs: 1}}
kv_db: {{enabled: {kv}, host: 127.0.0.1, port: {port}}}
db_buffer: {{insertion_buffer_time_secs: 1, buffer_size: 50}}
databases: {{lmdb: {{enabled: {}, path: {}}}, mongodb: {{enabled: {}, host: 127.0.0.1, port: {}, db: {}, create_collection_index: true}}}}
telemetry_capture: {{}}
adapters: {{}}
log: {{log_path: default, log_file_level: disable, log_stream_level: disable}}
agent: {{mcp_host: 127.0.0.1, mcp_port: {agent}}}
",
            mongo.is_none(),
            home.path().join("lmdb").display(),
            mongo.is_some(),
            mongo.map_or(27017, |(port, _)| port),
            mongo.map_or("flowcept", |(_, name)| name),
        );
        fs::write(home.path().join("settings.yaml"), settings).expect("because the folder is ours");
        Self { home, agent }
    }

    /// Its consumer writes so many documents together.
    pub fn buffering(self, size: usize) -> Self {
        let path = self.home.path().join("settings.yaml");
        let settings = fs::read_to_string(&path).expect("because it was written");
        let changed = settings.replace("buffer_size: 50", &format!("buffer_size: {size}"));
        fs::write(path, changed).expect("because the folder is ours");
        self
    }

    /// Its LMDB.
    pub fn database(&self) -> PathBuf {
        self.home.path().join("lmdb")
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("FLOWCEPT_SETTINGS_PATH", self.home.path().join("settings.yaml")).env("HOME", self.home.path());
        command.current_dir(self.home.path()).env("FLOWCEPT_SKIP_START_CLEANUP", "1").stdin(Stdio::null());
        command
    }

    /// Its consumer, which listens some seconds later.
    pub fn consumer(&self) -> Consumer {
        let only = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = self.command(&program());
        command.arg("--start-consumption-services").stdout(Stdio::null()).stderr(Stdio::null());
        Consumer { process: command.spawn().map(Helper).expect("because it was just installed"), _only: only }
    }

    /// Has its consumer stop, by its own command.
    pub fn stop(&self, mut consumer: Consumer) {
        self.run(&program(), &["--stop-consumption-services"]);
        consumer.process.0.wait().expect("because it was started");
    }

    /// Its web service, with its pages.
    pub fn web(&self) -> Web {
        let port = free_port();
        let mut command = self.command(&program());
        command.args(["--start", "--webservice", "--webservice-port", &port.to_string()]).stderr(Stdio::null());
        let process = Process::start(command, move || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Web { port, _process: process }
    }

    /// Its MCP server.
    pub fn agent(&self) -> Process {
        let mut command = self.command(&program());
        command.args(["--start", "--agent"]).stderr(Stdio::null());
        let port = self.agent;
        Process::start(command, move || TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// What a tool of its MCP server answers, through its own client.
    pub fn tool(&self, name: &str, arguments: &Value) -> Value {
        let arguments = format!("--kwargs={arguments}");
        let said = self.run(&program(), &["--agent-client", &format!("--tool-name={name}"), &arguments]);
        let answer = said.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        answer.unwrap_or_else(|| panic!("{name}: {said}"))
    }

    /// A program that has its database open, as its web service and its consumer have it, until its stdin is closed.
    pub fn holder(&self) -> Helper {
        self.try_holder().expect("because nobody else has it open")
    }

    /// The same, unless it is being written just now.
    pub fn try_holder(&self) -> Option<Helper> {
        let script = "import lmdb, sys; e = lmdb.open(sys.argv[1], map_size=10**9, max_dbs=5); print('open', file=sys.stderr, flush=True); sys.stdin.read()";
        let mut command = Command::new(python());
        command.args(["-c", script, &self.database().to_string_lossy()]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map(Helper).expect("because the interpreter is there");
        let says = holder.0.stderr.as_mut().expect("because it is piped");
        let mut said = [0; 4];
        (says.read_exact(&mut said).is_ok() && said == *b"open").then_some(holder)
    }

    /// What a program prints under its settings.
    pub fn run(&self, program: &Path, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().expect("because it was just installed");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Asserts that what the newest run exports, and nothing else, is what it has stored; how many documents.
    pub fn has(&self, captured: &Captured) -> usize {
        let sent = captured.ask(&["export", "last"]);
        let buffer = self.home.path().join("sent.jsonl");
        fs::write(&buffer, &sent).expect("because the folder is ours");
        let script = root().join("tests/programs/check_database.py");
        let count = sent.lines().count();
        let found = self.run(&python(), &[&script.to_string_lossy(), &buffer.to_string_lossy()]);
        assert!(found.contains(&format!("{count} documents are equal")), "{found}");
        let id = captured.told().workflow.id;
        let counted = self.run(&program(), &["--workflow-count", &format!("--workflow-id={id}")]);
        assert!(counted.contains(&format!("\"tasks\": {}", count - 1)), "{counted}");
        count
    }
}

impl Flowcept {
    /// Asserts that its database holds what another's does; how many documents.
    pub fn equals(&self, theirs: &Self) -> usize {
        let compare = root().join("tests/programs/compare_databases.py");
        let databases = [theirs.database(), self.database()].map(|d| d.to_string_lossy().into_owned());
        let equal = self.run(&python(), &[&compare.to_string_lossy(), &databases[0], &databases[1]]);
        equal.split(' ').next().and_then(|n| n.parse().ok()).expect("because it says how many")
    }
}

/// Its command that stops consumers looks for one on the whole machine.
static ONE: Mutex<()> = Mutex::new(());

/// Flowcept's consumer, of which there is one at a time.
pub struct Consumer {
    process: Helper,
    _only: MutexGuard<'static, ()>,
}

/// Flowcept's web service.
pub struct Web {
    port: u16,
    _process: Process,
}

impl Web {
    /// Where one of its pages is.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it answers to this, with such arguments of curl.
    pub fn text(&self, path: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "--max-time", "60"]).args(arguments).arg(self.url(path));
        let output = command.stdin(Stdio::null()).output().expect("because curl is there");
        assert!(output.status.success(), "{path}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Its JSON under `/api/v1`.
    pub fn get(&self, path: &str) -> Value {
        let text = self.text(&format!("/api/v1{path}"), &[]);
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{path}: {why}: {text}"))
    }

    /// What it streams in this time.
    pub fn watch(&self, path: &str, time: Duration) -> String {
        let mut command = Command::new("curl");
        command.args(["-sSN", "--max-time", &time.as_secs().to_string()]).arg(self.url(&format!("/api/v1{path}")));
        // That its time is over is no success to it.
        let output = command.stdin(Stdio::null()).output().expect("because curl is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it answers to this body.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let arguments = ["-H", "Content-Type: application/json", "-d", &body.to_string()];
        let text = self.text(&format!("/api/v1{path}"), &arguments);
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{path}: {why}: {text}"))
    }
}

/// Flowcept's command line.
pub fn program() -> PathBuf {
    python().with_file_name("flowcept")
}
