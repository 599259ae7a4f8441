//! Queues and keeper against a real Redis: documents a second, acknowledged and read back, with what the server's own tool reaches beside.
//! It asserts counts and no timing.
//!
//! usage: bench-queue BINARY [--small]

use std::io::{Read, Write};
use std::net::TcpStream;
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
use harness::python::python;
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
    let python = &python();
    println!(
        "{:<16} {:>7} {:<8} {:>12} {:>16} {:>12} {:>12}",
        "documents/s", "bytes", "queue", "published", "redis-benchmark", "kept", "by Flowcept"
    );
    for (name, bytes, count) in KINDS {
        let documents: Vec<Value> = (0..if small { 2000 } else { count }).map(|i| document(i, bytes)).collect();
        let size = packed(&documents[0]).len();
        let server = Server::start(&["--appendonly", "yes"]);
        let published = channel(&server, &documents)?;
        let tool = tool(&server, documents.len(), size, &["publish", "other"])?;
        let kept = kept_by(&documents, python, |place| ours(&binary, place))?;
        let few = &documents[..documents.len() / 10];
        // Which buffer is best depends on how long the disk takes.
        let theirs = [50, 500, 5000].map(|buffer| kept_by(few, python, |place| flowcept(python, buffer, place)));
        let theirs = theirs.into_iter().collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max);
        println!("{name:<16} {size:>7} {:<8} {published:>12.0} {tool:>16.0} {kept:>12.0} {theirs:>12.0}", "channel");
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
    let batches: Vec<(usize, Vec<u8>)> = documents.chunks(BATCH).map(requests).collect();
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
    let mut answers = [0; 4 * BATCH];
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
