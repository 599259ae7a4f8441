//! Queues and keeper against a real Redis: documents a second, acknowledged and read back, with what the server's own tool reaches beside.
//! It asserts counts and no timing.
//!
//! usage: bench-queue BINARY [--small]

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use flowcept_agent::formats::flowcept::packed;
use flowcept_agent::sinks::redis::channel::{Channel, Subscription};
use flowcept_agent::sinks::redis::stream::Stream;
use flowcept_agent::sinks::{Queue, Sink, Undelivered};
use harness::redis::Server;
use harness::server::Lasting;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Documents that an outlet delivers together.
const BATCH: usize = 200;

/// A kind of document: its name, bytes as Flowcept's have, and how many.
const KINDS: [(&str, usize, usize); 2] = [("small", 275, 400_000), ("with telemetry", 2600, 100_000)];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some(binary) = arguments.first() else { bail!("usage: bench-queue BINARY [--small]") };
    let binary = fs::canonicalize(binary).with_context(|| format!("find {binary}"))?;
    let small = arguments.iter().any(|a| a == "--small");
    println!(
        "{:<16} {:>7} {:<8} {:>12} {:>16} {:>12}",
        "documents/s", "bytes", "queue", "published", "redis-benchmark", "kept"
    );
    for (name, bytes, count) in KINDS {
        let documents: Vec<Value> = (0..if small { 2000 } else { count }).map(|i| document(i, bytes)).collect();
        let size = packed(&documents[0]).len();
        let server = Server::start(&["--appendonly", "yes"]);
        let published = channel(&server, &documents)?;
        let tool = tool(&server, documents.len(), size, &["publish", "other"])?;
        println!("{name:<16} {size:>7} {:<8} {published:>12.0} {tool:>16.0} {:>12}", "channel", "");
        let (published, kept) = stream(&server, &documents, &binary)?;
        let tool = self::tool(&server, documents.len(), size, &["xadd", "other", "*", "message"])?;
        println!("{name:<16} {size:>7} {:<8} {published:>12.0} {tool:>16.0} {kept:>12.0}", "stream");
    }
    Ok(())
}

/// A task of so many bytes.
fn document(number: usize, bytes: usize) -> Value {
    let mut task = json!({"type": "task", "subtype": "process", "task_id": format!("{number:032}"),
        "workflow_id": "11111111-2222-4333-8444-555555555555", "activity_id": "uniq", "started_at": 1795470003.0,
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
    for batch in documents.chunks(BATCH) {
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

/// Into a stream, and from there into a database.
fn stream(server: &Server, documents: &[Value], binary: &Path) -> Result<(f64, f64)> {
    let published = delivered(&mut Stream::open(&server.url(), "provenance")?, documents)?;
    let folder = tempfile::tempdir()?;
    let begun = Instant::now();
    let keeper = Command::new(binary)
        .args(["consume", "--from", &server.url(), "--stream", "provenance", "--json", "--into"])
        .arg(format!("lmdb:{}", folder.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    while !server.has_settled("flowcept") {
        sleep(Duration::from_millis(20));
    }
    let wall = begun.elapsed().as_secs_f64();
    kill(Pid::from_raw(keeper.id().try_into()?), Signal::SIGTERM)?;
    let said: Value = serde_json::from_slice(&keeper.wait_with_output()?.stdout)?;
    ensure!(said["kept"] == documents.len(), "{said}");
    Ok((published, documents.len() as f64 / wall))
}

/// What the server's own tool reaches, as many requests in flight.
fn tool(server: &Server, count: usize, bytes: usize, request: &[&str]) -> Result<f64> {
    let output = Command::new("redis-benchmark")
        .args(["-p", &server.port.to_string(), "-c", "1", "-P", &BATCH.to_string(), "-n", &count.to_string(), "--csv"])
        .args(request)
        .arg("x".repeat(bytes))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = said.lines().last().and_then(|line| line.rsplit("\",\"").nth(6)?.parse().ok());
    rate.with_context(|| format!("redis-benchmark said: {said}"))
}
