//! A RabbitMQ server of our own on loopback: Debian's package, unpacked and not installed (it would start one for the whole machine).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::host::root;
use crate::server::{Lasting, Process, certificate, free_port, is_process};

/// The programs of the server, fetched on first use.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let folder = root().join("target/rabbitmq");
        let done = folder.join("unpacked");
        if !done.exists() {
            fs::create_dir_all(&folder).expect("because target is ours");
            let script = "apt-get -qq download rabbitmq-server && dpkg-deb -x rabbitmq-server_*.deb .";
            let unpacked = Command::new("sh").args(["-ec", script]).current_dir(&folder).stderr(Stdio::null()).status();
            assert!(unpacked.is_ok_and(|s| s.success()), "apt-get download rabbitmq-server");
            fs::write(&done, "").expect("because the folder is ours");
        }
        let versions = fs::read_dir(folder.join("usr/lib/rabbitmq/lib")).expect("because it was unpacked").flatten();
        let server = versions.map(|v| v.path().join("sbin")).find(|p| p.join("rabbitmq-server").exists());
        server.expect("because the package has it")
    })
}

/// A server that ends with this.
pub struct Server {
    /// Where it listens.
    pub port: u16,
    /// Where it does so with TLS.
    pub tls_port: u16,
    mapper: u16,
    password: String,
    process: Process,
    folder: TempDir,
}

is_process!(Server);

impl Server {
    /// Starts one, whose user is `alice` with this password.
    pub fn start(password: &str) -> Self {
        let folder = tempfile::tempdir().expect("because tests may write temporary files");
        let [port, tls_port, nodes, mapper] = [(); 4].map(|()| free_port());
        let at = |name: &str| folder.path().join(name).display().to_string();
        certificate(folder.path());
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}
listeners.ssl.1 = 127.0.0.1:{tls_port}
ssl_options.cacertfile = {authority}
ssl_options.certfile = {authority}
ssl_options.keyfile = {key}
ssl_options.verify = verify_none
log.console = false
",
            authority = at("authority.pem"),
            key = at("key.pem"),
        );
        fs::write(folder.path().join("rabbitmq.conf"), settings).expect("because the folder is ours");
        let mut command = Command::new(programs().join("rabbitmq-server"));
        command
            .env("RABBITMQ_NODENAME", format!("flowcept{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", nodes.to_string())
            .env("ERL_EPMD_PORT", mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_MNESIA_BASE", at("data"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_DEFAULT_USER", "alice")
            .env("RABBITMQ_DEFAULT_PASS", password)
            // The script becomes the server, instead of waiting for it.
            .env("RUNNING_UNDER_SYSTEMD", "1")
            .env("HOME", folder.path())
            .current_dir(folder.path())
            .stderr(Stdio::null());
        let process = Process::start(command, move || greets(port) && listens(tls_port));
        Self { port, tls_port, mapper, password: password.into(), process, folder }
    }

    /// Who vouches for its certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Asks for something as its operator does.
    fn told(&self, arguments: &[&str]) -> String {
        let output = Command::new(programs().join("rabbitmqctl"))
            .args(["-q", "-n", &format!("flowcept{}@localhost", self.port)])
            .args(arguments)
            .env("ERL_EPMD_PORT", self.mapper.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .output();
        String::from_utf8_lossy(&output.expect("because the package has it").stdout).into_owned()
    }

    /// Has another user, who may configure, write and read what has such names.
    pub fn admits(&self, user: &str, password: &str, rights: [&str; 3]) {
        self.told(&["add_user", user, password]);
        let [configure, write, read] = rights;
        self.told(&["set_permissions", "-p", "/", user, configure, write, read]);
    }

    /// What it says to this of its queues, `Q`, in Erlang: a line each.
    fn says(&self, of_queue: &str) -> Vec<String> {
        let lines = format!("[[{of_queue}, $;] || Q <- rabbit_amqqueue:list(<<\"/\">>)]");
        let said = self.told(&["eval", &format!("lists:flatten(io_lib:format(\"~s\", [{lines}])).")]);
        said.trim().trim_matches('"').split(';').map(str::to_string).collect()
    }

    /// Queues and the messages that each has, with those that are given out and not settled. What `list_queues` says of a quorum queue is
    /// up to five seconds old.
    pub fn queues(&self) -> Vec<(String, u64)> {
        let count = "case amqqueue:get_type(Q) of
            rabbit_quorum_queue ->
                {ok, Total, _} = ra:consistent_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1), Total;
            _ -> proplists:get_value(messages, rabbit_amqqueue:info(Q, [messages]))
        end";
        let lines = self.says(&format!("element(4, amqqueue:get_name(Q)), $ , integer_to_list({count})"));
        let rows = lines.iter().filter_map(|line| line.rsplit_once(' '));
        rows.filter_map(|(name, count)| Some((name.to_string(), count.parse().ok()?))).collect()
    }

    /// What it has given out of its quorum queues that is not settled.
    pub fn given_out(&self) -> u64 {
        let count = "begin
            {ok, Count, _} = ra:consistent_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_checked_out/1), Count
        end";
        self.says(&format!("integer_to_list({count})")).iter().filter_map(|line| line.parse::<u64>().ok()).sum()
    }

    /// What its queues were declared with.
    pub fn arguments(&self) -> String {
        self.says("io_lib:format(\"~0p\", [amqqueue:get_arguments(Q)])").concat()
    }

    /// What Flowcept's consumer has not had, of a queue that it makes for itself.
    pub fn of_theirs(&self) -> Option<u64> {
        self.queues().into_iter().find_map(|(queue, count)| queue.starts_with("amq.gen").then_some(count))
    }

    /// Whether a quorum queue is in the file that says which there are: it is written half a second after one was made, and a server
    /// that is killed before has forgotten it.
    fn has_noted(&self, group: &str) -> bool {
        let node = format!("flowcept{}@localhost", self.port);
        let file = self.folder.path().join("data").join(&node).join("quorum").join(&node).join("names.dets");
        let name = format!("provenance.{group}");
        fs::read(file).is_ok_and(|bytes| bytes.windows(name.len()).any(|part| part == name.as_bytes()))
    }

    fn messages(&self, group: &str) -> Option<u64> {
        let name = format!("provenance.{group}");
        self.queues().into_iter().find_map(|(queue, count)| (queue == name).then_some(count))
    }
}

/// Its exchange, with a queue for each group that has been there.
impl Lasting for Server {
    fn url(&self) -> String {
        format!("amqp://alice:{}@127.0.0.1:{}", self.password, self.port)
    }

    fn flags(&self) -> &'static [&'static str] {
        &["--channel", "provenance"]
    }

    fn place(&self) -> String {
        format!("amqp://127.0.0.1:{}/ provenance", self.port)
    }

    fn knows(&self, group: &str) -> bool {
        self.messages(group).is_some() && self.has_noted(group)
    }

    fn has_settled(&self, group: &str) -> bool {
        self.messages(group) == Some(0)
    }

    fn put(&self, message: &[u8]) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let done: lapin::Result<()> = runtime.expect("because threads can be started").block_on(async {
            let connection = lapin::Connection::connect(&self.url(), lapin::ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let (options, properties) = (Default::default(), Default::default());
            channel.basic_publish("provenance".into(), "".into(), options, message, properties).await?.await?;
            // It is there before it says so.
            connection.close(200, "".into()).await
        });
        done.expect("because it listens");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        // Erlang's mapper of ports outlives its nodes; it ends when it is told to and knows none.
        for _ in 0..50 {
            let port = self.mapper.to_string();
            let told = Command::new("epmd").arg("-kill").env("ERL_EPMD_PORT", port).output();
            if told.is_ok_and(|output| output.status.success()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Whether an AMQP server answers there.
fn greets(port: u16) -> bool {
    let Ok(mut client) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = [0];
    let asked =
        client.set_read_timeout(Some(Duration::from_secs(2))).and_then(|()| client.write_all(b"AMQP\0\0\x09\x01"));
    // The first frame is a method's.
    asked.and_then(|()| client.read_exact(&mut answer)).is_ok() && answer == [1]
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
