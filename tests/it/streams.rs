//! Streams of Redis, which keep what nobody has had yet, and who reads them: keepers, people, programs of one's own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use harness::host::{binary, need, root};
use harness::redis::Server;
use harness::run::Captured;
use nix::sys::signal::Signal;

use crate::sinks::{Flowcept, Helper, Keeper, example, said, ship, shipped};

/// A server whose streams outlive it.
pub(crate) fn lasting() -> Server {
    Server::start(&["--appendonly", "yes"])
}

/// Waits until a keeper has settled all that a stream has.
pub(crate) fn settled(server: &Server, group: &str) {
    let field = |said: &str, name: &str| {
        let value = said.split(&format!("\"{name}\",")).nth(1).and_then(|rest| rest.split([',', '\n']).next());
        value.map(str::to_string)
    };
    for _ in 0..15_000 {
        // Not by its lag: Redis does not know that any more once entries were removed and it was started again.
        let last = field(&server.ask(&["--csv", "xinfo", "stream", "provenance"]), "last-generated-id");
        let groups = server.ask(&["--csv", "xinfo", "groups", "provenance"]);
        let of = groups.split(&format!("\"name\",\"{group}\",")).nth(1).unwrap_or_default();
        if of.contains("\"pending\",0,") && last.is_some() && field(of, "last-delivered-id") == last {
            return;
        }
        sleep(Duration::from_millis(20));
    }
    panic!("{}", server.ask(&["xinfo", "groups", "provenance"]));
}

/// A stream keeps what is published while nobody is there, also where its server is killed; each group has all of it, and then it is
/// removed.
#[test]
fn a_stream_keeps_what_nobody_reads() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let ((_work, first), (_other, second)) = (example(), example());
    let mut server = lasting();
    let (one, two) = (Flowcept::new(None), Flowcept::new(None));
    let to = ["--to", &server.url(), "--stream", "provenance"];
    let count = first.ask(&["export", "last"]).lines().count();
    let place = format!("redis://127.0.0.1:{}/0 stream provenance", server.port);
    assert_eq!(shipped(&first, &to), format!("1 workflows in {count} documents to {place}\n"));
    assert_eq!(shipped(&first, &to), format!("0 workflows in 0 documents to {place}\n"));
    server.kill();
    server.restart();
    assert_eq!(server.ask(&["xlen", "provenance"]), count.to_string());
    let keepers = [("flowcept", &one), ("others", &two)]
        .map(|(group, flowcept)| Keeper::of_stream(&server, &flowcept.database(), &["--group", group]));
    ["flowcept", "others"].iter().for_each(|group| settled(&server, group));
    // What is settled is removed with what comes a second later.
    sleep(Duration::from_secs(1));
    shipped(&second, &to);
    ["flowcept", "others"].iter().for_each(|group| settled(&server, group));
    let left: usize = server.ask(&["xlen", "provenance"]).parse().expect("because it is a number");
    assert!(left < count, "{left} of {count} are left");
    let all = count + second.ask(&["export", "last"]).lines().count();
    for (keeper, flowcept) in keepers.into_iter().zip([one, two]) {
        keeper.stop(Signal::SIGTERM);
        let counts = keeper.counts();
        assert_eq!(counts["kept"].as_u64(), Some(all as u64), "{counts}");
        flowcept.has(&first);
        flowcept.has(&second);
    }
}

/// What a keeper has read of a stream and not written comes to another one, where it ends or is killed; poison does not come again.
#[test]
fn a_keeper_that_dies_loses_nothing() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let server = lasting();
    let ours = Flowcept::new(None);
    let waits = |keeper: &Keeper, count: usize| {
        let pending = || server.ask(&["--csv", "xpending", "provenance", "flowcept"]);
        while !pending().starts_with(&format!("{count},")) {
            assert!(keeper.0.is_some());
            sleep(Duration::from_millis(20));
        }
    };
    Keeper::of_stream(&server, &ours.database(), &[]).stop(Signal::SIGTERM);
    let mut holder = ours.holder();
    shipped(&captured, &["--to", &server.url(), "--stream", "provenance"]);
    server.ask(&["xadd", "provenance", "*", "colour", "red"]);
    let count = captured.ask(&["export", "last"]).lines().count();
    let ended = Keeper::of_stream(&server, &ours.database(), &["--wait", "0s"]);
    waits(&ended, count + 1);
    ended.stop(Signal::SIGTERM);
    let counts = ended.counts();
    assert_eq!(counts["kept"], 0, "{counts}");
    assert!(counts["left"].as_u64().is_some_and(|left| left > 0), "{counts}");
    // It takes over what that one had, and is killed.
    let killed = Keeper::of_stream(&server, &ours.database(), &[]);
    while !server.ask(&["xpending", "provenance", "flowcept", "-", "+", "1"]).ends_with('2') {
        sleep(Duration::from_millis(20));
    }
    killed.stop(Signal::SIGKILL);
    drop(killed);
    drop(holder.0.stdin.take());
    holder.0.wait().expect("because it was started");
    let last = Keeper::of_stream(&server, &ours.database(), &[]);
    settled(&server, "flowcept");
    last.stop(Signal::SIGTERM);
    let counts = last.counts();
    assert_eq!((counts["kept"].as_u64(), counts["aside"].as_u64()), (Some(count as u64), Some(1)), "{counts}");
    ours.has(&captured);
    let aside = fs::read_dir(ours.database().join("quarantine")).expect("because there is poison").flatten();
    let files: Vec<PathBuf> =
        aside.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "msgpack")).collect();
    assert!(
        !files.is_empty() && files.iter().all(|file| fs::read(file).is_ok_and(|bytes| bytes == b"colour=red\n")),
        "{files:?}"
    );
    // A key of another kind is told.
    server.ask(&["set", "text", "x"]);
    let refused = ship(&captured, &["--to", &server.url(), "--stream", "text"]);
    assert!(
        said(&refused).contains("stream text: there is a key of this name, and it is no stream"),
        "{}",
        said(&refused)
    );
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

/// `flowcept stream`, whose lines go to a file.
fn lines(server: &Server, more: &[&str]) -> (Helper, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().expect("because tests may write temporary files");
    let mut command = Command::new(binary());
    command.args(["stream", "--from", &server.url()]).args(more).stdin(Stdio::null());
    command.stdout(file.reopen().expect("because it was just made"));
    (command.spawn().map(Helper).expect("because the binary was just built"), file)
}

/// The lines of a file, once there are as many whole ones.
fn wait_for_lines(file: &Path, count: usize) -> Vec<String> {
    let got = || fs::read_to_string(file).expect("because it is ours");
    for _ in 0..1500 {
        if got().matches('\n').count() >= count {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    got().lines().map(str::to_string).collect()
}

/// What is printed of a channel and of a stream is what was sent, letter for letter; a group goes on where it was.
#[test]
fn a_queue_is_printed() {
    if !need(&["redis-cli"]) {
        return;
    }
    let ((_work, first), (_other, second)) = (example(), example());
    let server = lasting();
    let sent = |captured: &Captured| captured.ask(&["export", "last"]).lines().map(str::to_string).collect::<Vec<_>>();
    let stream = ["--stream", "provenance"];
    let group = [&stream[..], &["--group", "people"]].concat();
    let to = |captured: &Captured| shipped(captured, &[&["--to", &server.url()], &stream[..]].concat());
    to(&first);
    let (reader, file) = lines(&server, &group);
    assert_eq!(wait_for_lines(file.path(), sent(&first).len()), sent(&first));
    settled(&server, "people");
    drop(reader);
    let (_tail, from_now) = lines(&server, &stream);
    // It says that it is there by a command of its own.
    while !server.ask(&["client", "list"]).contains("cmd=xread ") {
        sleep(Duration::from_millis(5));
    }
    to(&second);
    let (_reader, file) = lines(&server, &group);
    for file in [&file, &from_now] {
        assert_eq!(wait_for_lines(file.path(), sent(&second).len()), sent(&second));
    }
    let (_reader, file) = lines(&server, &[]);
    server.wait_for_subscribers(1);
    assert_eq!(server.publish("interception", b"no msgpack"), ":1\r\n");
    shipped(&first, &["--to", &server.url()]);
    assert_eq!(wait_for_lines(file.path(), sent(&first).len()), sent(&first));
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
