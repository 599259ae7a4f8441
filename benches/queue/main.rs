//! Queues and keeper against real brokers: documents a second, acknowledged and read back, with what the broker's own tools reach
//! beside: one that sends as many bytes, and one that reads those and does nothing with them. It asserts counts and no timing.
//!
//! usage: bench-queue BINARY [--small] [channel|stream|kafka|rabbitmq]…

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use flowcept_agent::formats::flowcept::packed;
use flowcept_agent::sinks::outlet::BATCH;
use flowcept_agent::sinks::redis::channel::{Channel, Subscription};
use flowcept_agent::sinks::{self, Queue, Sink, Undelivered};
use harness::flowcept::{Flowcept, Mq};
use harness::host::root;
use harness::kafka::{Broker, Doors};
use harness::maven::class_path;
use harness::python::python;
use harness::redis::Server;
use harness::run::{Helper, until};
use harness::server::Lasting;
use harness::{kafka, rabbitmq};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Requests to Redis in flight, of ours and of its tools.
const TOGETHER: usize = 200;
/// RabbitMQ's password.
const SECRET: &str = "correct-horse";
/// How long a batch is attempted.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a message is waited for before there is said to be none.
const WAIT: Duration = Duration::from_millis(100);
/// Documents that are made before they are sent: with telemetry, some 1.3 GB.
const MADE: usize = 50_000;
/// That wait in RabbitMQ at most, as fewer do for Flowcept's consumer: it is slower the more there are (of those with telemetry, 250,000
/// were read at 46,000 a second and 60,000 at 57,000).
const WAITING: usize = 60_000;
/// Documents of one workflow.
const WORKFLOW: usize = 1000;

/// A kind of document: its name, bytes as Flowcept's have, how many for us, and for Flowcept's consumer: of two batches the second would
/// be read while the first is written, and seem to take half as long.
const KINDS: [(&str, usize, usize, usize); 2] =
    [("small", 275, 400_000, 40_000), ("with telemetry", 2600, 250_000, 30_000)];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((binary, rest)) = arguments.split_first() else {
        bail!("usage: bench-queue BINARY [--small] [channel|stream|kafka|rabbitmq]…")
    };
    let binary = fs::canonicalize(binary).with_context(|| format!("find {binary}"))?;
    let (flags, queues): (Vec<_>, Vec<_>) = rest.iter().partition(|a| a.starts_with("--"));
    let small = flags.iter().any(|a| *a == "--small");
    // Where it has to be fetched that is not timed.
    python();
    let wants = |name: &str| queues.is_empty() || queues.iter().any(|queue| *queue == name);
    println!(
        "{:<16} {:>7} {:<8} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "documents/s", "bytes", "queue", "published", "its own tool", "kept", "its own tool", "by Flowcept"
    );
    for (kind, bytes, count, few) in KINDS {
        let documents = Documents { bytes, count: if small { 2000 } else { count } };
        let few = Documents { count: if small { 200 } else { few }, ..documents };
        let (count, size) = (documents.count, packed(&document(0, bytes)).len());
        let told = |queue: &str, published: f64, sent: f64, kept: f64, read: Option<f64>, theirs: Option<f64>| {
            let [read, theirs] = [read, theirs].map(|rate| rate.map(|rate| format!("{rate:.0}")).unwrap_or_default());
            println!(
                "{kind:<16} {size:>7} {queue:<8} {published:>12.0} {sent:>12.0} {kept:>12.0} {read:>12} {theirs:>12}"
            );
        };
        let durable = || Server::start(&["--appendonly", "yes"]);
        if wants("channel") {
            let server = durable();
            let published = channel(&server, documents)?;
            let tool = redis_benchmark(&server, count, size, &["publish", "other"])?;
            let theirs = best(small, |buffer| {
                let server = roomy();
                let (batches, listens) = (requests(few), || server.wait_for_subscribers(1));
                theirs(Mq::Redis(server.port), buffer, few, listens, || publish(&server, &batches))
            })?;
            told("channel", published, tool, ours(&binary, documents)?, None, theirs);
        }
        if wants("stream") {
            let server = durable();
            let (published, kept) = lasting(&server, documents, &binary)?;
            let tool = redis_benchmark(&server, count, size, &["xadd", "other", "*", "message"])?;
            told("stream", published, tool, kept, None, None);
        }
        if wants("kafka") {
            let server = Broker::start(Doors::Open);
            let (published, kept) = lasting(&server, documents, &binary)?;
            let sent = producer_performance(&server, count, size)?;
            let read = consumer_performance(&server, count)?;
            let theirs = best(small, |buffer| {
                let server = Broker::start(Doors::Open);
                let mut sink = known(&server)?;
                // It begins only where the topic is.
                delivered(&mut *sink, Documents { count: 1, ..few })?;
                let listens = || until("Flowcept's consumer", || server.has_readers("theirs"));
                theirs(Mq::Kafka(server.port()), buffer, few, listens, || delivered(&mut *sink, few).map(drop))
            })?;
            told("kafka", published, sent, kept, Some(read), theirs);
        }
        if wants("rabbitmq") {
            let server = rabbitmq::Server::start(SECRET);
            let documents = Documents { count: count.min(WAITING), ..documents };
            let (published, kept) = lasting(&server, documents, &binary)?;
            let (sent, read) = perf_test(&server, documents.count, size)?;
            let theirs = best(small, |buffer| {
                let server = rabbitmq::Server::start(SECRET);
                let mut sink = known(&server)?;
                let listens = || until("Flowcept's consumer", || server.of_theirs().is_some());
                theirs(Mq::Rabbit(server.port, SECRET), buffer, few, listens, || delivered(&mut *sink, few).map(drop))
            })?;
            told("rabbitmq", published, sent, kept, Some(read), theirs);
        }
    }
    Ok(())
}

/// A task of so many bytes.
fn document(number: usize, bytes: usize) -> Value {
    let mut task = json!({"type": "task", "subtype": "process", "task_id": format!("{number:032}"),
        "workflow_id": format!("11111111-2222-4333-8444-{:012}", number / WORKFLOW), "activity_id": "uniq", "started_at": 1795470003.0,
        "ended_at": 1795470004.0, "status": "FINISHED", "hostname": "node1", "used": {"file": "/data/sorted.txt"}});
    let mut more = serde_json::Map::new();
    for i in 0..bytes.saturating_sub(packed(&task).len() + 20) / 20 {
        more.insert(format!("counter_{i:03}"), (number as f64 + 0.5).into());
    }
    task["telemetry_at_end"] = more.into();
    task
}

/// Documents, of which [`MADE`] are in memory at a time.
#[derive(Clone, Copy)]
struct Documents {
    /// Of each.
    bytes: usize,
    count: usize,
}

impl Documents {
    /// So many together, at most.
    fn batches(self, most: usize) -> impl Iterator<Item = Vec<Value>> {
        let numbers = move |from| from..self.count.min(from + most);
        (0..self.count).step_by(most).map(move |from| numbers(from).map(|i| document(i, self.bytes)).collect())
    }
}

/// Delivers all as an outlet does; documents a second while it delivers.
fn delivered(sink: &mut dyn Sink, documents: Documents) -> Result<f64> {
    let mut took = Duration::ZERO;
    for documents in documents.batches(MADE) {
        let begun = Instant::now();
        for batch in documents.chunks(BATCH) {
            let tried = Instant::now();
            while let Err(why) = sink.deliver(batch) {
                ensure!(matches!(why, Undelivered::Now(_)) && tried.elapsed() < PATIENCE, "{why}");
                sleep(Duration::from_millis(1));
            }
        }
        took += begun.elapsed();
    }
    Ok(documents.count as f64 / took.as_secs_f64())
}

fn channel(server: &Server, documents: Documents) -> Result<f64> {
    scope(|scope| {
        let reader = scope.spawn(|| {
            let mut subscription = Subscription::open(&server.url(), "interception")?;
            for _ in 0..documents.count {
                while subscription.message(WAIT)?.is_none() {}
            }
            Ok::<_, anyhow::Error>(())
        });
        server.wait_for_subscribers(1);
        let rate = delivered(&mut Channel::open(&server.url(), "interception")?, documents)?;
        reader.join().expect("because nothing in it panics")?;
        Ok(rate)
    })
}

/// Into a queue that keeps them, and from there into a database; documents a second of each.
fn lasting(server: &dyn Lasting, documents: Documents, binary: &Path) -> Result<(f64, f64)> {
    let published = delivered(&mut *known(server)?, documents)?;
    let folder = tempfile::tempdir()?;
    let mut keeper = Command::new(binary);
    keeper.args(["consume", "--from", &server.url()]).args(server.flags());
    keeper.args(["--group", "flowcept", "--json", "--into"]).arg(format!("lmdb:{}", folder.path().display()));
    keeper.stdin(Stdio::null()).stdout(Stdio::piped());
    let (kept, keeper) = kept(folder.path(), documents, || Ok(keeper.spawn()?))?;
    until("the keeper to settle all", || server.has_settled("flowcept"));
    kill(Pid::from_raw(keeper.id().try_into()?), Signal::SIGTERM)?;
    let said: Value = serde_json::from_slice(&keeper.wait_with_output()?.stdout)?;
    ensure!(said["kept"] == documents.count, "{said}");
    Ok((published, kept))
}

/// A sink of a queue which, from now on, keeps all for our group.
fn known(server: &dyn Lasting) -> Result<Box<dyn Sink>> {
    sinks::queue(&server.url(), server.name(), Some("flowcept"))?.message(WAIT)?;
    sinks::sink(&server.url(), server.name())
}

/// One that drops no subscriber: Flowcept loses what it is slower than by more than 32 MB.
fn roomy() -> Server {
    Server::start(&["--client-output-buffer-limit", "pubsub 0 0 0"])
}

/// Our keeper of a channel; documents a second.
fn ours(binary: &Path, documents: Documents) -> Result<f64> {
    let (server, folder) = (roomy(), tempfile::tempdir()?);
    let mut keeper = Command::new(binary);
    keeper.args(["consume", "--from", &server.url(), "--into"]).arg(format!("lmdb:{}", folder.path().display()));
    let _keeper = Helper(keeper.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    let batches = requests(documents);
    server.wait_for_subscribers(1);
    kept(folder.path(), documents, || publish(&server, &batches)).map(|(rate, ())| rate)
}

/// Flowcept 1.0.3's consumer of a queue, which writes so many together; documents a second.
fn theirs(
    queue: Mq,
    buffer: usize,
    documents: Documents,
    listens: impl FnOnce(),
    send: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    let flowcept = Flowcept::new(Some(queue)).buffering(buffer);
    let _consumer = flowcept.consumer();
    listens();
    kept(&flowcept.database(), documents, send).map(|(rate, ())| rate)
}

/// Which buffer is best depends on how long the disk takes.
fn best(small: bool, rate: impl Fn(usize) -> Result<f64>) -> Result<Option<f64>> {
    let buffers: &[usize] = if small { &[500] } else { &[50, 500, 5000] };
    let rates = buffers.iter().map(|buffer| rate(*buffer)).collect::<Result<Vec<_>>>()?;
    Ok(rates.into_iter().reduce(f64::max))
}

/// Documents a second from when the first that are written together are in LMDB until the last are; and what this gives. Where all are
/// written together, from when this begins.
fn kept<T>(database: &Path, documents: Documents, begin: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let begun = Instant::now();
    let mut wait = Command::new(python());
    wait.arg(root().join("benches/queue/wait_for_rows.py")).arg(database).arg(documents.count.to_string());
    let wait = wait.stdout(Stdio::piped()).spawn()?;
    let begun_with = begin()?;
    let waited = wait.wait_with_output()?;
    ensure!(waited.status.success(), "the documents could not be counted");
    let said = String::from_utf8(waited.stdout)?;
    let (first, seconds) = said.trim().split_once(' ').context("it says two numbers")?;
    let rate = match documents.count - first.parse::<usize>()? {
        0 => documents.count as f64 / begun.elapsed().as_secs_f64(),
        rest => rest as f64 / seconds.parse::<f64>()?,
    };
    Ok((rate, begun_with))
}

/// A request to publish each document, as Redis has it on the wire, and how many there are together: what is measured is the keeper,
/// and not who sends.
fn requests(documents: Documents) -> Vec<(usize, Vec<u8>)> {
    let request = |document: Value| {
        let message = packed(&document);
        let head = format!("*3\r\n$7\r\nPUBLISH\r\n$12\r\ninterception\r\n${}\r\n", message.len());
        [head.as_bytes(), &message, b"\r\n"].concat()
    };
    documents.batches(TOGETHER).map(|batch| (batch.len(), batch.into_iter().flat_map(request).collect())).collect()
}

fn publish(server: &Server, batches: &[(usize, Vec<u8>)]) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server.port))?;
    server.set_nodelay(true)?;
    let mut answers = [0; 4 * TOGETHER];
    for (documents, batch) in batches {
        server.write_all(batch)?;
        server.read_exact(&mut answers[..4 * documents])?;
        ensure!(answers.starts_with(b":1\r\n"), "the server said {}", String::from_utf8_lossy(&answers));
    }
    Ok(())
}

/// What Redis' own tool reaches, as many requests in flight.
fn redis_benchmark(server: &Server, count: usize, bytes: usize, request: &[&str]) -> Result<f64> {
    let (port, count, flight) = (server.port.to_string(), count.to_string(), TOGETHER.to_string());
    let mut tool = Command::new("redis-benchmark");
    tool.args(["-p", &port, "-c", "1", "-P", &flight, "-n", &count, "--csv"]).args(request).arg("x".repeat(bytes));
    rate(&mut tool, |line| line.rsplit("\",\"").nth(6)?.parse().ok())
}

/// What Kafka's own reaches with the same settings; it sends to all partitions.
fn producer_performance(server: &Broker, count: usize, bytes: usize) -> Result<f64> {
    let mut tool = Command::new("java");
    tool.arg("-cp").arg(kafka::tools()).arg("org.apache.kafka.tools.ProducerPerformance");
    tool.args(["--topic", "other", "--throughput", "-1"]);
    tool.args(["--num-records", &count.to_string(), "--record-size", &bytes.to_string(), "--producer-props"]);
    tool.args([&format!("bootstrap.servers=127.0.0.1:{}", server.port()), "acks=all", "compression.type=lz4"]);
    rate(&mut tool, |line| line.split_once(" records sent, ")?.1.split(' ').next()?.parse().ok())
}

/// And what reads those.
fn consumer_performance(server: &Broker, count: usize) -> Result<f64> {
    let mut tool = Command::new("java");
    tool.arg("-cp").arg(kafka::tools()).arg("org.apache.kafka.tools.ConsumerPerformance");
    tool.args(["--bootstrap-server", &format!("127.0.0.1:{}", server.port()), "--topic", "other", "--hide-header"]);
    tool.args(["--messages", &count.to_string()]);
    // Without the time in which it joined its group.
    rate(&mut tool, |line| line.split(", ").nth(9)?.parse().ok())
}

/// What RabbitMQ's own reaches, as many unconfirmed; and what reads those, with 8000 in hand: with 4000, with 20,000 and where nothing
/// is settled it was within a tenth of that.
fn perf_test(server: &rabbitmq::Server, count: usize, bytes: usize) -> Result<(f64, f64)> {
    let tool = || {
        let mut tool = Command::new("java");
        tool.arg("-cp").arg(class_path("rabbitmq-perf-test", &[("com.rabbitmq", "perf-test", "2.22.1")]));
        tool.args(["com.rabbitmq.perf.PerfTest", "--uri", &server.url(), "--queue", "other"]);
        tool
    };
    let average = |tool: &mut Command, of: &str| {
        rate(tool, |line| line.split_once(&format!("{of} rate avg: "))?.1.split(' ').next()?.parse().ok())
    };
    let (mut sends, mut reads) = (tool(), tool());
    sends.args(["--producers", "1", "--consumers", "0", "--exchange", "other", "--type", "fanout", "--quorum-queue"]);
    sends.args(["--flag", "persistent", "--flag", "mandatory", "--confirm", &BATCH.to_string()]);
    sends.args(["--size", &bytes.to_string(), "--pmessages", &count.to_string()]);
    reads.args(["--producers", "0", "--consumers", "1", "--predeclared", "--qos", "8000", "--multi-ack-every", "1000"]);
    reads.args(["--cmessages", &count.to_string()]);
    Ok((average(&mut sends, "sending")?, average(&mut reads, "receiving")?))
}

/// What a tool says at last.
fn rate(tool: &mut Command, of: impl Fn(&str) -> Option<f64>) -> Result<f64> {
    let output = tool.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = said.lines().rev().find_map(of);
    rate.with_context(|| format!("{tool:?} said: {said}{}", String::from_utf8_lossy(&output.stderr)))
}
