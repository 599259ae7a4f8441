//! What streams of Redis have of their own, and programs that read them.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use flowcept_agent::sinks::{Name, queue};
use harness::flowcept::Flowcept;
use harness::host::{binary, need, root};
use harness::redis::Server;
use harness::run::said;
use nix::sys::signal::Signal;

use crate::queues::{printed, settled, wait_for_lines};
use crate::sinks::{Keeper, example, ship, shipped};

/// A server whose streams outlive it.
pub(crate) fn lasting() -> Server {
    Server::start(&["--appendonly", "yes"])
}

/// What every group has is removed from a stream, with what comes a second later, and a new group begins with what is left; a key of
/// another kind is told.
#[test]
fn a_stream_is_shortened() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let ((_work, first), (_other, second)) = (example(), example());
    let server = lasting();
    let ours = Flowcept::new(None);
    let to = ["--to", &server.url(), "--stream", "provenance"];
    let keeper = Keeper::of_queue(&server, &ours.database(), &[]);
    shipped(&first, &to);
    settled(&server, "flowcept");
    sleep(Duration::from_secs(1));
    shipped(&second, &to);
    settled(&server, "flowcept");
    let left: usize = server.ask(&["xlen", "provenance"]).parse().expect("because it is a number");
    let count = first.ask(&["export", "last"]).lines().count();
    assert!(left < count, "{left} of {count} are left");
    keeper.stop(Signal::SIGTERM);
    assert_eq!(keeper.counts()["aside"], 0);
    let left: usize = server.ask(&["xlen", "provenance"]).parse().expect("because it is a number");
    assert!(left > 0);
    let (_reader, file) = printed(&[&server.url(), "--stream", "provenance", "--group", "late"]);
    assert_eq!(wait_for_lines(file.path(), left).len(), left);
    server.ask(&["set", "text", "x"]);
    let refused = ship(&first, &["--to", &server.url(), "--stream", "text"]);
    let told = said(&refused);
    assert!(told.contains("stream text: there is a key of this name, and it is no stream"), "{told}");
}

/// An entry that others have added is set aside with all that it has.
#[test]
fn an_entry_of_others_is_set_aside() {
    if !need(&["redis-cli"]) {
        return;
    }
    let server = lasting();
    let folder = tempfile::tempdir().expect("because tests may write temporary files");
    server.ask(&["xadd", "provenance", "*", "colour", "red"]);
    let keeper = Keeper::of_queue(&server, folder.path(), &[]);
    settled(&server, "flowcept");
    keeper.stop(Signal::SIGTERM);
    assert_eq!(keeper.counts()["aside"], 1);
    let files = std::fs::read_dir(folder.path().join("quarantine")).expect("because there is poison").flatten();
    let found = files.map(|f| f.path()).find(|p| p.extension().is_some_and(|e| e == "msgpack"));
    let found = std::fs::read(found.expect("because it was set aside")).expect("because it is ours");
    assert_eq!(found, b"colour=red\n");
}

/// A keeper gets along with a user that may read the stream and settle what it has, and no more.
#[test]
fn a_keeper_needs_few_rights() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let ((_work, first), (_other, second)) = (example(), example());
    let server = lasting();
    let rights = ["+xgroup", "+xreadgroup", "+xautoclaim", "+xack"];
    server.ask(&[&["acl", "setuser", "keeper", "on", ">few-rights", "~provenance"], &rights[..]].concat());
    let ours = Flowcept::new(None);
    let url = format!("redis://keeper:few-rights@127.0.0.1:{}", server.port);
    let keeper = Keeper::of(&url, &ours.database(), &["--stream", "provenance"]);
    let to = ["--to", &server.url(), "--stream", "provenance"];
    shipped(&first, &to);
    settled(&server, "flowcept");
    sleep(Duration::from_secs(1));
    shipped(&second, &to);
    settled(&server, "flowcept");
    keeper.stop(Signal::SIGTERM);
    keeper.counts();
    ours.has(&first);
    ours.has(&second);
    // One that may not even that is told so.
    server.ask(&["acl", "setuser", "keeper", "-xack"]);
    shipped(&first, &["--to", &server.url(), "--stream", "another"]);
    let into = format!("lmdb:{}", ours.database().display());
    let mut command = Command::new(binary());
    command.args(["consume", "--from", &url, "--stream", "another", "--into", &into]).stdin(Stdio::null());
    let output = command.output().expect("because the binary was just built");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("it does not allow this to the user"), "{}", said(&output));
    assert!(!said(&output).contains("few-rights"), "{}", said(&output));
}

/// However short or long an entry is to be waited for: where none comes, that is no error.
#[test]
fn nothing_is_waited_for_too_long() {
    if !need(&["redis-cli"]) {
        return;
    }
    let server = lasting();
    let name = Name { channel: "interception", stream: Some("provenance") };
    for group in [Some("flowcept"), None] {
        let mut queue = queue(&server.url(), name, group).expect("because it is one of ours");
        for wait in [Duration::ZERO, Duration::from_secs(3600)] {
            assert!(queue.message(wait).expect("because it listens").is_none(), "{group:?} {wait:?}");
        }
    }
}

/// The consumers that are given as examples get every task once, in Python, shell and Rust.
#[test]
fn consumers_of_ones_own() {
    if !need(&["redis-cli", "python"]) {
        return;
    }
    let (_work, captured) = example();
    let server = lasting();
    shipped(&captured, &["--to", &server.url(), "--stream", "provenance"]);
    let sent = captured.ask(&["export", "last"]);
    let sent = sent.lines().map(|l| l.parse::<serde_json::Value>().expect("because it is JSON"));
    let text = |task: &serde_json::Value, name: &str| task[name].as_str().expect("because it is text").to_string();
    let tasks = sent.filter(|d| d["type"] == "task");
    let tasks: Vec<String> =
        tasks.map(|t| ["status", "activity_id", "task_id"].map(|name| text(&t, name)).join(" ")).collect();
    assert!(tasks.len() > 10, "{tasks:?}");
    let folder = root().join("deployment/consumers");
    let example = binary().with_file_name("examples").join("tasks");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(root()).args(["build", "--quiet", "-p", "flowcept-agent", "--example", "tasks"]);
    assert!(build.status().is_ok_and(|s| s.success()), "the example is built");
    let stream = format!("{} stream --from {} --stream provenance --group", binary().display(), server.url());
    let consumers = [
        format!("{stream} python | python3 {}", folder.join("tasks.py").display()),
        format!("{stream} shell | {}", folder.join("tasks.sh").display()),
        format!("{} {} provenance rust", example.display(), server.url()),
    ];
    for consumer in consumers {
        let file = tempfile::NamedTempFile::new().expect("because tests may write temporary files");
        let mut command = Command::new("sh");
        command.args(["-c", &consumer]).current_dir(root()).stdin(Stdio::null()).process_group(0);
        command.stdout(file.reopen().expect("because it was just made"));
        let mut child = command.spawn().expect("because there is a shell");
        let got = wait_for_lines(file.path(), tasks.len());
        let group = nix::unistd::Pid::from_raw(child.id().try_into().expect("because pids are small"));
        nix::sys::signal::killpg(group, Signal::SIGKILL).expect("because it runs");
        child.wait().expect("because it was started");
        assert_eq!(got, tasks, "{consumer}");
    }
}
