//! Queues and keeper against real brokers: documents a second, acknowledged and read back, with what the broker's own tool reaches
//! beside. It asserts counts and no timing.
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
use harness::kafka::{Broker, Doors};
use harness::maven::class_path;
use harness::python::python;
use harness::redis::Server;
use harness::server::Lasting;
use harness::{kafka, rabbitmq};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Documents that a publisher of a channel sends together, and tools of Redis.
const TOGETHER: usize = 200;
/// Documents of one workflow.
const WORKFLOW: usize = 1000;

/// A kind of document: its name, bytes as Flowcept's have, and how many.
const KINDS: [(&str, usize, usize); 2] = [("small", 275, 400_000), ("with telemetry", 2600, 100_000)];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((binary, rest)) = arguments.split_first() else {
        bail!("usage: bench-queue BINARY [--small] [channel|stream|kafka|rabbitmq]…")
    };
    let binary = fs::canonicalize(binary).with_context(|| format!("find {binary}"))?;
    let (flags, queues): (Vec<_>, Vec<_>) = rest.iter().partition(|a| a.starts_with("--"));
    let small = flags.iter().any(|a| *a == "--small");
    // Where it has to be fetched that is not timed.
    let python = &python();
    let wants = |name: &str| queues.is_empty() || queues.iter().any(|queue| *queue == name);
    println!(
        "{:<16} {:>7} {:<8} {:>12} {:>12} {:>12} {:>12}",
        "documents/s", "bytes", "queue", "published", "its own tool", "kept", "by Flowcept"
    );
    for (kind, bytes, count) in KINDS {
        let documents: Vec<Value> = (0..if small { 2000 } else { count }).map(|i| document(i, bytes)).collect();
        let (count, size) = (documents.len(), packed(&documents[0]).len());
        let told = |queue: &str, published: f64, tool: f64, kept: f64, theirs: &str| {
            println!("{kind:<16} {size:>7} {queue:<8} {published:>12.0} {tool:>12.0} {kept:>12.0} {theirs:>12}");
        };
        let durable = || Server::start(&["--appendonly", "yes"]);
        if wants("channel") {
            let server = durable();
            let published = channel(&server, &documents)?;
            let tool = redis_benchmark(&server, count, size, &["publish", "other"])?;
            let kept = kept_by(&documents, python, |place| ours(&binary, place))?;
            let few = &documents[..count / 10];
            // Which buffer is best depends on how long the disk takes.
            let theirs = [50, 500, 5000].map(|buffer| kept_by(few, python, |place| flowcept(python, buffer, place)));
            let theirs = theirs.into_iter().collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max);
            told("channel", published, tool, kept, &format!("{theirs:.0}"));
        }
        if wants("stream") {
            let server = durable();
            let (published, kept) = lasting(&server, &documents, &binary)?;
            let tool = redis_benchmark(&server, count, size, &["xadd", "other", "*", "message"])?;
            told("stream", published, tool, kept, "");
        }
        if wants("kafka") {
            let server = Broker::start(Doors::Open);
            let (published, kept) = lasting(&server, &documents, &binary)?;
            told("kafka", published, producer_performance(&server, count, size)?, kept, "");
        }
        if wants("rabbitmq") {
            let server = rabbitmq::Server::start("correct-horse");
            let (published, kept) = lasting(&server, &documents, &binary)?;
            told("rabbitmq", published, perf_test(&server, count, size)?, kept, "");
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

/// Delivers all as an outlet does; documents a second.
fn delivered(sink: &mut dyn Sink, documents: &[Value]) -> Result<f64> {
    let begun = Instant::now();
    for batch in documents.chunks(sink.together()) {
        while let Err(why) = sink.deliver(batch) {
            ensure!(matches!(why, Undelivered::Now(_)), "{why}");
            sleep(Duration::from_millis(1));
        }
    }
    Ok(documents.len() as f64 / begun.elapsed().as_secs_f64())
}

fn channel(server: &Server, documents: &[Value]) -> Result<f64> {
    scope(|scope| {
        let reader = scope.spawn(|| {
            let mut subscription = Subscription::open(&server.url(), "interception")?;
            for _ in 0..documents.len() {
                while subscription.message()?.is_none() {}
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
fn lasting(server: &dyn Lasting, documents: &[Value], binary: &Path) -> Result<(f64, f64)> {
    let url = server.url();
    // From now on all is kept for the group.
    sinks::queue(&url, server.name(), Some("flowcept"))?.message()?;
    let published = delivered(&mut *sinks::sink(&url, server.name())?, documents)?;
    let folder = tempfile::tempdir()?;
    let begun = Instant::now();
    let mut keeper = Command::new(binary)
        .args(["consume", "--from", &url])
        .args(server.flags())
        .args(["--group", "flowcept", "--json", "--into"])
        .arg(format!("lmdb:{}", folder.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    while !server.has_settled("flowcept") {
        ensure!(keeper.try_wait()?.is_none(), "the keeper has ended");
        sleep(Duration::from_millis(20));
    }
    let wall = begun.elapsed().as_secs_f64();
    kill(Pid::from_raw(keeper.id().try_into()?), Signal::SIGTERM)?;
    let said: Value = serde_json::from_slice(&keeper.wait_with_output()?.stdout)?;
    ensure!(said["kept"] == documents.len(), "{said}");
    Ok((published, documents.len() as f64 / wall))
}

/// Where a keeper is to keep what comes to a channel.
struct Place<'a> {
    port: u16,
    folder: &'a Path,
}

/// From a channel into LMDB, as soon as it is sent; documents a second until the last is there.
fn kept_by(documents: &[Value], python: &Path, keeper: impl Fn(&Place<'_>) -> Result<Command>) -> Result<f64> {
    // Flowcept loses what it is slower than by more than 32 MB; here its Redis drops nobody.
    let server = Server::start(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
    let folder = tempfile::tempdir()?;
    let mut keeper = keeper(&Place { port: server.port, folder: folder.path() })?;
    let mut keeper = keeper.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let batches: Vec<(usize, Vec<u8>)> = documents.chunks(TOGETHER).map(requests).collect();
    server.wait_for_subscribers(1);
    let begun = Instant::now();
    let script = harness::host::root().join("benches/queue/wait_for_rows.py");
    let mut wait = Command::new(python);
    let mut wait = wait.arg(script).arg(folder.path().join("lmdb")).arg(documents.len().to_string()).spawn()?;
    publish(server.port, &batches)?;
    ensure!(wait.wait()?.success(), "the documents could not be counted");
    let wall = begun.elapsed().as_secs_f64();
    keeper.kill()?;
    keeper.wait()?;
    Ok(documents.len() as f64 / wall)
}

/// PUBLISH of each document, as Redis has it on the wire: what is measured is the keeper, and not who sends.
fn requests(documents: &[Value]) -> (usize, Vec<u8>) {
    let request = |document| {
        let message = packed(document);
        let head = format!("*3\r\n$7\r\nPUBLISH\r\n$12\r\ninterception\r\n${}\r\n", message.len());
        [head.as_bytes(), &message, b"\r\n"].concat()
    };
    (documents.len(), documents.iter().flat_map(request).collect())
}

fn publish(port: u16, batches: &[(usize, Vec<u8>)]) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_nodelay(true)?;
    let mut answers = [0; 4 * TOGETHER];
    for (documents, batch) in batches {
        server.write_all(batch)?;
        server.read_exact(&mut answers[..4 * documents])?;
        ensure!(answers.starts_with(b":1\r\n"), "the server said {}", String::from_utf8_lossy(&answers));
    }
    Ok(())
}

fn ours(binary: &Path, place: &Place<'_>) -> Result<Command> {
    let mut command = Command::new(binary);
    command.args(["consume", "--from", &format!("redis://127.0.0.1:{}", place.port), "--into"]);
    command.arg(format!("lmdb:{}", place.folder.join("lmdb").display()));
    Ok(command)
}

/// Flowcept 1.0.3's consumer, which writes so many together.
fn flowcept(python: &Path, buffer: usize, place: &Place<'_>) -> Result<Command> {
    let port = place.port;
    let settings = place.folder.join("settings.yaml");
    fs::write(
        &settings,
        format!(
            "project: {{db_flush_mode: online}}\nmq: {{enabled: true, host: 127.0.0.1, port: {port}}}\n\
             kv_db: {{enabled: true, host: 127.0.0.1, port: {port}}}\ndb_buffer: {{insertion_buffer_time_secs: 1, buffer_size: {buffer}}}\n\
             databases: {{lmdb: {{enabled: true, path: {}}}}}\n",
            place.folder.join("lmdb").display()
        ),
    )?;
    let mut command = Command::new(python.with_file_name("flowcept"));
    command.arg("--start-consumption-services").env("FLOWCEPT_SETTINGS_PATH", settings).env("HOME", place.folder);
    command.stderr(Stdio::null());
    Ok(command)
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
    let tools = [("org.apache.kafka", "kafka-tools", kafka::VERSION)];
    let mut tool = Command::new("java");
    tool.arg("-cp").arg(class_path("kafka-tools", &tools)).arg("org.apache.kafka.tools.ProducerPerformance");
    tool.args(["--topic", "other", "--throughput", "-1"]);
    tool.args(["--num-records", &count.to_string(), "--record-size", &bytes.to_string(), "--producer-props"]);
    tool.args([&format!("bootstrap.servers=127.0.0.1:{}", server.port()), "acks=all", "compression.type=lz4"]);
    rate(&mut tool, |line| line.split_once(" records sent, ")?.1.split(' ').next()?.parse().ok())
}

/// What RabbitMQ's own reaches, as many unconfirmed.
fn perf_test(server: &rabbitmq::Server, count: usize, bytes: usize) -> Result<f64> {
    let mut tool = Command::new("java");
    tool.arg("-cp").arg(class_path("rabbitmq-perf-test", &[("com.rabbitmq", "perf-test", "2.22.1")]));
    tool.args(["com.rabbitmq.perf.PerfTest", "--uri", &server.url(), "--producers", "1", "--consumers", "0"]);
    tool.args(["--exchange", "other", "--type", "fanout", "--queue", "other", "--auto-delete", "false"]);
    tool.args(["--flag", "persistent", "--flag", "mandatory", "--confirm", &BATCH.to_string()]);
    tool.args(["--size", &bytes.to_string(), "--pmessages", &count.to_string()]);
    rate(&mut tool, |line| line.split_once("sending rate avg: ")?.1.split(' ').next()?.parse().ok())
}

/// What a tool says at last.
fn rate(tool: &mut Command, of: impl Fn(&str) -> Option<f64>) -> Result<f64> {
    let output = tool.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = said.lines().rev().find_map(of);
    rate.with_context(|| format!("{tool:?} said: {said}{}", String::from_utf8_lossy(&output.stderr)))
}
