//! A Kafka broker of our own on loopback: Apache's, from Maven's registry, as one node that is its own controller.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;

use crate::maven::class_path;
use crate::server::{Lasting, Process, free_port, is_process};

/// Of Kafka.
pub const VERSION: &str = "4.3.1";
/// Partitions of a topic that is made on first use.
const PARTITIONS: i32 = 3;
const ANSWER: Duration = Duration::from_secs(5);

/// Kafka's libraries.
fn libraries() -> PathBuf {
    class_path("kafka", &[("org.apache.kafka", "kafka_2.13", VERSION), ("org.slf4j", "slf4j-simple", "1.7.36")])
}

/// Its tools.
pub fn tools() -> PathBuf {
    class_path("kafka-tools", &[("org.apache.kafka", "kafka-tools", VERSION)])
}

/// Who may do what there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doors {
    /// Whoever comes.
    Open,
    /// Who has this password as the user `alice`, over TLS.
    Locked(&'static str),
}

/// A broker that ends with this.
pub struct Broker {
    port: u16,
    /// Another, without lock, for those who look.
    inside: u16,
    process: Process,
    folder: TempDir,
    doors: Doors,
}

is_process!(Broker);

impl Broker {
    /// Starts one.
    pub fn start(doors: Doors) -> Self {
        let folder = tempfile::tempdir().expect("because tests may write temporary files");
        let (port, inside, controller) = (free_port(), free_port(), free_port());
        let text = format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=DOOR://127.0.0.1:{port},INSIDE://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=DOOR://127.0.0.1:{port},INSIDE://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=INSIDE
log.dirs={}
num.partitions={PARTITIONS}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=16777216
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=250
controller.quorum.election.timeout.ms=200
controller.quorum.election.backoff.max.ms=100
controller.quorum.fetch.timeout.ms=500
group.min.session.timeout.ms=1000
message.max.bytes=20000000
{}",
            folder.path().join("data").display(),
            locks(doors, folder.path())
        );
        let process = run(&folder, inside, &text);
        Self { port, inside, process, folder, doors }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many of the partitions of `provenance` have messages.
    pub fn filled(&self) -> usize {
        let client = client(self.inside, "nobody");
        let has =
            |partition: &i32| client.fetch_watermarks("provenance", *partition, ANSWER).is_ok_and(|(_, high)| high > 0);
        (0..PARTITIONS).filter(has).count()
    }

    /// What Kafka's own tool says of each batch of messages in the first files of `provenance`.
    pub fn batches(&self) -> Vec<String> {
        let data = self.folder.path().join("data").display().to_string();
        let file = |partition| format!("{data}/provenance-{partition}/00000000000000000000.log");
        let files: Vec<String> = (0..PARTITIONS).map(file).collect();
        let mut tool = Command::new("java");
        tool.arg("-cp").arg(tools()).args(["org.apache.kafka.tools.DumpLogSegments", "--files", &files.join(",")]);
        let output = tool.stdin(Stdio::null()).output().expect("because java is there");
        let said = String::from_utf8_lossy(&output.stdout);
        said.lines().filter(|line| line.starts_with("baseOffset")).map(String::from).collect()
    }

    /// Whether somebody reads as a group.
    pub fn has_readers(&self, group: &str) -> bool {
        let list = client(self.inside, "nobody").fetch_group_list(Some(group), ANSWER);
        list.is_ok_and(|list| list.groups().iter().any(|group| group.state() == "Stable"))
    }

    /// Who vouches for its certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }
}

/// A broker of these settings, which has an open door on the port `inside`.
pub fn run(folder: &TempDir, inside: u16, text: &str) -> Process {
    let settings = folder.path().join("server.properties");
    fs::write(&settings, text).expect("because the folder is ours");
    let java = |class: &str| {
        let mut java = Command::new("java");
        java.args([
            "-Xms256m",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp",
        ]);
        java.arg(libraries()).arg(class).stderr(Stdio::null());
        java
    };
    let mut format = java("kafka.tools.StorageTool");
    format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(&settings);
    if !text.contains("controller.quorum.voters=") {
        format.arg("--standalone");
    }
    let formatted = format.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(formatted.is_ok_and(|s| s.success()), "java formats the broker's folder");
    let mut command = java("kafka.Kafka");
    command.arg(&settings);
    Process::start(command, move || {
        let client: BaseConsumer = client(inside, "nobody");
        client.fetch_metadata(None, Duration::from_secs(1)).is_ok()
    })
}

/// Messages that a topic of so many partitions has, and those of them that a group has settled.
pub fn counts(port: u16, partitions: i32, topic: &str, group: &str) -> (i64, i64) {
    let client = client(port, group);
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_range(topic, 0, partitions - 1);
    let committed = client.committed_offsets(wanted, ANSWER).expect("because it answers");
    let mut counts = (0, 0);
    for partition in committed.elements() {
        // A topic that is being made has no partitions yet.
        let (_, high) = client.fetch_watermarks(topic, partition.partition(), ANSWER).unwrap_or_default();
        counts.0 += high;
        if let Offset::Offset(settled) = partition.offset() {
            counts.1 += settled;
        }
    }
    counts
}

impl Lasting for Broker {
    fn url(&self) -> String {
        let scheme = if self.doors == Doors::Open { "kafka" } else { "kafkas" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    fn flags(&self) -> &'static [&'static str] {
        &["--channel", "provenance"]
    }

    fn place(&self) -> String {
        format!("{} provenance", self.url())
    }

    fn knows(&self, _group: &str) -> bool {
        true
    }

    fn has_settled(&self, group: &str) -> bool {
        let (all, settled) = counts(self.inside, PARTITIONS, "provenance", group);
        all > 0 && settled == all
    }

    fn put(&self, message: &[u8]) {
        let mut settings = ClientConfig::new();
        let producer: BaseProducer = settings
            .set("bootstrap.servers", format!("127.0.0.1:{}", self.inside))
            .set("message.max.bytes", "20000000")
            .create()
            .expect("because librdkafka takes it");
        producer.send(BaseRecord::<(), _>::to("provenance").payload(message)).expect("because there is room");
        producer.flush(ANSWER).expect("because it answers");
    }
}

fn client(port: u16, group: &str) -> BaseConsumer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", format!("127.0.0.1:{port}")).set("group.id", group);
    settings.create().expect("because librdkafka takes it")
}

/// The settings of its doors, with a certificate that is made for it.
fn locks(doors: Doors, folder: &Path) -> String {
    let Doors::Locked(password) = doors else {
        return "listener.security.protocol.map=CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,DOOR:PLAINTEXT\n".into();
    };
    let (store, authority) = (folder.join("broker.p12"), folder.join("authority.pem"));
    let keytool = |arguments: &[&str]| {
        let mut keytool = Command::new("keytool");
        keytool.args(arguments).arg("-keystore").arg(&store).args(["-storepass", "broker-store", "-alias", "broker"]);
        let made = keytool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(made.is_ok_and(|s| s.success()), "keytool {arguments:?}");
    };
    let names = "SAN=dns:localhost,ip:127.0.0.1";
    keytool(&["-genkeypair", "-keyalg", "RSA", "-dname", "CN=localhost", "-ext", names, "-storetype", "PKCS12"]);
    keytool(&["-exportcert", "-rfc", "-file", &authority.to_string_lossy()]);
    format!(
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,DOOR:SASL_SSL
sasl.enabled.mechanisms=PLAIN
listener.name.door.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"{password}\";
ssl.keystore.type=PKCS12
ssl.keystore.location={}
ssl.keystore.password=broker-store
",
        store.display()
    )
}
