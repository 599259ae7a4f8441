//! What is delivered of a run while it goes on.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{scope, sleep};
use std::time::Duration;

use harness::flowcept::{Flowcept, Mq, program};
use harness::host::{binary, need};
use harness::redis::Server;
use harness::run::{Captured, until};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tempfile::TempDir;

/// A command that waits, after `sort`, until somebody writes to its fifo.
const WAITS: &str = "sort in > sorted; cat go > got; wc -l got > counted";

/// A folder with what that needs.
fn work() -> TempDir {
    let work = tempfile::tempdir().expect("because tests may write temporary files");
    fs::write(work.path().join("in"), "b\na\n").expect("because the folder is ours");
    mkfifo(&work.path().join("go"), Mode::S_IRWXU).expect("because the folder is ours");
    work
}

/// A run in this folder with these settings.
fn run(work: &Path, store: &Path, settings: &str, arguments: &[&str]) -> Child {
    let file = work.join("settings.yaml");
    fs::write(&file, format!("project:\n  db_flush_mode: online\n{settings}")).expect("because the folder is ours");
    let mut command = Command::new(binary());
    command.arg("--store").arg(store).arg("--settings").arg(file).arg("run").args(arguments).current_dir(work);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("because the binary was just built")
}

fn goes_on(work: &Path) {
    fs::write(work.join("go"), "go\n").expect("because somebody reads it");
}

/// The name and status of each task in Flowcept's database.
fn tasks(theirs: &Flowcept) -> Vec<(String, String)> {
    let answer = theirs.run(&program(), &["--query", "--filter", "{}"]);
    let tasks: Vec<Value> = serde_json::from_str(&answer).unwrap_or_default();
    let text = |task: &Value, name: &str| task[name].as_str().unwrap_or_default().to_string();
    tasks.iter().map(|task| (text(task, "activity_id"), text(task, "status"))).collect()
}

/// Flowcept has the tasks that are such before the run has ended, and at its end what it exports, to the field. A file, which only
/// grows, has all once.
#[test]
fn flowcept_sees_a_run_that_goes_on() {
    if !need(&["bpf", "python", "redis-cli"]) {
        return;
    }
    let (work, store) = (work(), tempfile::tempdir().expect("because tests may write temporary files"));
    let server = Server::start(&[]);
    let theirs = Flowcept::new(Some(Mq::Redis(server.port)));
    let consumer = theirs.consumer();
    server.wait_for_subscribers(1);
    let settings = format!(
        "  dump_buffer:\n    enabled: true\n    path: buffer\nmq:\n  host: 127.0.0.1\n  port: {}\n",
        server.port
    );
    let run = run(work.path(), store.path(), &settings, &["--source", "ebpf", "--", "sh", "-c", WAITS]);
    let wanted =
        [("dash", "RUNNING"), ("sort", "FINISHED")].map(|(name, status)| (name.to_string(), status.to_string()));
    until("both tasks", || {
        let mut tasks = tasks(&theirs);
        tasks.sort();
        // Whether `cat`, which has not read yet, is to be a task is not known.
        tasks == wanted
    });
    assert!(!work.path().join("buffer").exists());
    goes_on(work.path());
    let captured = Captured { store, output: run.wait_with_output().expect("because it was started") };
    assert!(captured.output.status.success(), "{}", captured.stderr());
    let place = format!("redis://127.0.0.1:{}/0 interception", server.port);
    assert!(captured.stderr().contains(&format!("delivered 1 workflows to {place}")), "{}", captured.stderr());
    // Its buffer is written within a second.
    sleep(Duration::from_secs(3));
    theirs.stop(consumer);
    assert_eq!(theirs.has(&captured), 5);
    let buffer = fs::read_to_string(work.path().join("buffer")).expect("because it was delivered to");
    assert_eq!(buffer, captured.ask(&["export", "last"]));
}

/// Where the library watches, the workflow is told while it goes on; and one that goes on in the background to its end.
#[test]
fn a_workflow_is_told_from_its_begin_to_its_end() {
    if !need(&["bpf", "redis-cli"]) {
        return;
    }
    let (work, store) = (work(), tempfile::tempdir().expect("because tests may write temporary files"));
    let server = Server::start(&[]);
    let settings = format!("mq:\n  host: 127.0.0.1\n  port: {}\n  stream: runs\n", server.port);
    let has = |status: &str| server.ask(&["xrange", "runs", "-", "+"]).matches(status).count();
    let inside = run(work.path(), store.path(), &settings, &["--source", "preload", "--", "sh", "-c", WAITS]);
    until("the workflow", || has("RUNNING") == 1);
    assert_eq!(server.ask(&["xlen", "runs"]), "1");
    goes_on(work.path());
    let output = inside.wait_with_output().expect("because it was started");
    assert!(output.status.success());
    assert_eq!((has("RUNNING"), has("FINISHED")), (1, 5));
    let background = format!("({WAITS}) >&- 2>&- &");
    let outside = run(work.path(), store.path(), &settings, &["--source", "ebpf", "--", "sh", "-c", &background]);
    let output = outside.wait_with_output().expect("because it was started");
    assert!(output.status.success());
    until("the workflow and its shells", || has("RUNNING") > 1);
    assert!(has("FINISHED") < 5 + 5, "its end was told before it came");
    goes_on(work.path());
    // The workflow, the command, the subshell and its three programs.
    until("its end", || has("FINISHED") >= 5 + 6);
}

/// A server that stands still, and a file that somebody has locked, keep neither the command nor who waits for it, and are waited for
/// at one time; what they were to have waits.
#[test]
fn nobody_waits_for_a_server_that_stands_still() {
    if !need(&["redis-cli"]) {
        return;
    }
    let (work, store) = (work(), tempfile::tempdir().expect("because tests may write temporary files"));
    let server = Server::start(&[]);
    let settings = format!(
        "  dump_buffer:\n    enabled: true\n    path: {}/buffer\nmq:\n  host: 127.0.0.1\n  port: {}\n  stream: runs\n",
        work.path().display(),
        server.port
    );
    let buffer = fs::File::create(work.path().join("buffer")).expect("because the folder is ours");
    buffer.lock().expect("because nobody else has it");
    let output = scope(|scope| {
        let still = scope.spawn(|| server.pause(Duration::from_secs(9)));
        sleep(Duration::from_millis(500));
        let run = run(work.path(), store.path(), &settings, &["--source", "preload", "--", "sh", "-c", "exit 7"]);
        let output = run.wait_with_output().expect("because it was started");
        assert!(!still.is_finished(), "it was waited for");
        output
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    let places =
        [format!("redis://127.0.0.1:{}/0 stream runs", server.port), format!("jsonl:{}/buffer", work.path().display())];
    for place in &places {
        let wanted = format!("flowcept: {place} has not taken all within 5 seconds; `flowcept ship` goes on there\n");
        assert!(said.contains(&wanted), "{said}");
    }
    drop(buffer);
    let captured = Captured { store, output };
    let file = work.path().join("settings.yaml");
    let told = captured.ask(&["--settings", &file.to_string_lossy(), "ship"]);
    assert_eq!(told, places.map(|place| format!("1 workflows in 2 documents to {place}\n")).concat());
}
