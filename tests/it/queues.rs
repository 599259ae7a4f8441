//! What holds for every queue that keeps messages until each group of readers has them: a stream of Redis, a topic of Kafka, an
//! exchange of RabbitMQ.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use flowcept_agent::formats::flowcept::packed;
use harness::flowcept::Flowcept;
use harness::host::{binary, need};
use harness::run::{Captured, Helper, said, until};
use harness::server::Lasting;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::sinks::{Keeper, example, files, shipped};

/// Each test with each queue, on a server of its own.
macro_rules! with_each {
    ($($test:ident)*) => {
        mod redis {
            $(#[test]
            fn $test() {
                if super::need(&["python", "redis-cli"]) {
                    super::$test(&mut crate::streams::lasting());
                }
            })*
        }

        mod kafka {
            use harness::kafka::{Broker, Doors};

            $(#[test]
            fn $test() {
                if super::need(&["python", "java", "mvn"]) {
                    super::$test(&mut Broker::start(Doors::Open));
                }
            })*
        }

        mod rabbitmq {
            use harness::rabbitmq::Server;

            $(#[test]
            fn $test() {
                if super::need(&["python", "epmd", "apt-get", "openssl"]) {
                    super::$test(&mut Server::start("correct-horse"));
                }
            })*
        }
    };
}

with_each! { keeps_what_nobody_reads tells_what_waits loses_nothing_with_a_keeper brings_all_but_poison is_printed }

/// Waits until a group has settled all that a queue has had.
pub(crate) fn settled(server: &dyn Lasting, group: &str) {
    let begun = Instant::now();
    while !server.has_settled(group) {
        assert!(begun.elapsed() < Duration::from_secs(300), "{group} does not settle all of {}", server.place());
        sleep(Duration::from_millis(20));
    }
}

/// Waits until messages are kept for groups that have not been there yet.
pub(crate) fn known(server: &dyn Lasting, groups: &[&str]) {
    let url = server.url();
    for group in groups {
        let reader = (!server.knows(group)).then(|| printed(&of(&url, server, &["--group", group])));
        until("the server to know the group", || server.knows(group));
        drop(reader);
    }
}

/// The flags of a queue.
fn of<'a>(url: &'a str, server: &dyn Lasting, more: &[&'a str]) -> Vec<&'a str> {
    [&[url][..], server.flags(), more].concat()
}

fn sent(captured: &Captured) -> Vec<String> {
    captured.ask(&["export", "last"]).lines().map(str::to_string).collect()
}

/// A queue keeps what is sent while nobody is there, also where its server is killed; each group has all of it.
fn keeps_what_nobody_reads(server: &mut dyn Lasting) {
    let (_work, captured) = example();
    let (one, two) = (Flowcept::new(None), Flowcept::new(None));
    let url = server.url();
    let to = of(&url, server, &[]);
    let to = [&["--to"], &to[..]].concat();
    known(server, &["flowcept", "others"]);
    let (count, place) = (sent(&captured).len(), server.place());
    assert_eq!(shipped(&captured, &to), format!("1 workflows in {count} documents to {place}\n"));
    assert_eq!(shipped(&captured, &to), format!("0 workflows in 0 documents to {place}\n"));
    server.kill();
    server.restart();
    let keepers = [("flowcept", &one), ("others", &two)]
        .map(|(group, flowcept)| Keeper::of_queue(server, &flowcept.database(), &["--group", group]));
    ["flowcept", "others"].iter().for_each(|group| settled(server, group));
    for (keeper, flowcept) in keepers.into_iter().zip([one, two]) {
        keeper.stop(Signal::SIGTERM);
        let counts = keeper.counts();
        assert_eq!(counts["kept"].as_u64(), Some(count as u64), "{counts}");
        flowcept.has(&captured);
    }
}

/// What a keeper has read and not written comes to another one, where it ends or is killed.
fn loses_nothing_with_a_keeper(server: &mut dyn Lasting) {
    let (_work, captured) = example();
    let ours = Flowcept::new(None);
    let url = server.url();
    fs::create_dir(ours.database()).expect("because the folder is ours");
    let mut holder = ours.holder();
    known(server, &["flowcept"]);
    shipped(&captured, &[&["--to"], &of(&url, server, &[])[..]].concat());
    // It has read, and says that it cannot write.
    let stuck = || {
        let mut keeper = Keeper::of_queue(server, &ours.database(), &["--wait", "0s"]);
        let says = keeper.0.as_mut().and_then(|child| child.stderr.take()).expect("because it is piped");
        let told = BufReader::new(says).lines().map_while(Result::ok).find(|line| line.contains("has it open"));
        assert!(told.is_some());
        keeper
    };
    let ended = stuck();
    ended.stop(Signal::SIGTERM);
    let counts = ended.counts();
    assert_eq!(counts["kept"], 0, "{counts}");
    assert!(counts["left"].as_u64().is_some_and(|left| left > 0), "{counts}");
    stuck().stop(Signal::SIGKILL);
    assert!(!server.has_settled("flowcept"));
    // What the dead had read waits, too; some servers take a moment to see that they are.
    let all = (Some(0), Some(sent(&captured).len() as u64));
    until("all to wait again", || waits(&captured, server) == all);
    drop(holder.0.stdin.take());
    holder.0.wait().expect("because it was started");
    let last = Keeper::of_queue(server, &ours.database(), &[]);
    settled(server, "flowcept");
    last.stop(Signal::SIGTERM);
    assert_eq!(last.counts()["kept"].as_u64(), Some(sent(&captured).len() as u64));
    ours.has(&captured);
}

/// What `check-services` says that waits: workflows in the store for the queue, and messages in the queue for the keepers.
fn waits(captured: &Captured, server: &dyn Lasting) -> (Option<u64>, Option<u64>) {
    let mut command = Command::new(binary());
    command.arg("--store").arg(captured.store.path()).args(["check-services", "--json"]).env("MQ_URI", server.url());
    command.env(if server.flags()[0] == "--stream" { "MQ_STREAM" } else { "MQ_CHANNEL" }, server.flags()[1]);
    let output = command.output().expect("because the binary was just built");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {}", said(&output)));
    (rows[0]["workflows_waiting"].as_u64(), rows[0]["messages_waiting"].as_u64())
}

/// `check-services` tells what waits: workflows in the store for the queue, and messages in the queue for the keepers.
fn tells_what_waits(server: &mut dyn Lasting) {
    let (_work, captured) = example();
    let count = sent(&captured).len() as u64;
    let waits = |server: &dyn Lasting| waits(&captured, server);
    known(server, &["flowcept"]);
    assert_eq!(waits(server), (Some(1), Some(0)));
    let to = [&["--to"], &of(&server.url(), server, &[])[..]]
        .concat()
        .iter()
        .map(|word| word.to_string())
        .collect::<Vec<_>>();
    shipped(&captured, &to.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(waits(server), (Some(0), Some(count)));
    server.kill();
    server.restart();
    assert_eq!(waits(server), (Some(0), Some(count)));
    let ours = Flowcept::new(None);
    let keeper = Keeper::of_queue(server, &ours.database(), &[]);
    settled(server, "flowcept");
    keeper.stop(Signal::SIGTERM);
    assert_eq!(keeper.counts()["left"].as_u64(), Some(0));
    assert_eq!(waits(server), (Some(0), Some(0)));
    // Beyond what is kept no more is counted.
    (0..3).for_each(|_| server.put(b"\x81\xa4type\xa4mark"));
    assert_eq!(waits(server), (Some(0), Some(3)));
}

/// A program that reads 20,000 files arrives whole; poison is set aside as it came, once, and its neighbours are kept.
fn brings_all_but_poison(server: &mut dyn Lasting) {
    let task = |name: &str, value: Value| {
        let mut task = json!({"type": "task", "task_id": "t"});
        task[name] = value;
        packed(&task)
    };
    let poison = [
        b"\x81\xa4type\xa4tusk".to_vec(),
        b"no msgpack".to_vec(),
        b"\x81\xa7task_id\xc4\x01x".to_vec(),
        b"\x82\xa4type".to_vec(),
        b"\x82\xa7task_id\xa1t\xa4used\x81\xa1a\xcb\x7f\xf8\0\0\0\0\0\0".to_vec(),
        task("task_id", "t".repeat(600).into()),
        task("task_id", 5.into()),
        task("status", Value::Null),
        task("started_at", "now".into()),
        task("stdout", "x".repeat(16_000_000).into()),
    ];
    // No poison here, though it is for Flowcept's MongoDB.
    let good = task("used", json!({"$set": {"a.b": "$HOME"}, "a.b": 1}));
    let (_work, captured) = files(20_000);
    let ours = Flowcept::new(None);
    let url = server.url();
    known(server, &["flowcept"]);
    server.put(&poison[0]);
    server.put(&good);
    shipped(&captured, &[&["--to"], &of(&url, server, &[])[..]].concat());
    poison[1..].iter().for_each(|message| server.put(message));
    let keeper = Keeper::of_queue(server, &ours.database(), &[]);
    settled(server, "flowcept");
    keeper.stop(Signal::SIGTERM);
    let counts = keeper.counts();
    let kept = ours.has(&captured);
    assert_eq!((counts["kept"].as_u64(), counts["aside"].as_u64()), (Some(kept as u64 + 1), Some(10)), "{counts}");
    let aside = fs::read_dir(ours.database().join("quarantine")).expect("because there is poison").flatten();
    let files = aside.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "msgpack"));
    let mut found: Vec<Vec<u8>> = files.map(|file| fs::read(file).expect("because it is ours")).collect();
    found.sort();
    let mut wanted = poison.to_vec();
    wanted.sort();
    assert!(
        found == wanted,
        "{}",
        fs::read_to_string(ours.database().join("quarantine/reasons.jsonl")).unwrap_or_default()
    );
}

/// `flowcept stream`, whose lines go to a file.
pub(crate) fn printed(from: &[&str]) -> (Helper, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().expect("because tests may write temporary files");
    let mut command = Command::new(binary());
    command.args(["stream", "--from"]).args(from).stdin(Stdio::null());
    command.stdout(file.reopen().expect("because it was just made"));
    (command.spawn().map(Helper).expect("because the binary was just built"), file)
}

/// The lines of a file, once there are as many whole ones.
pub(crate) fn wait_for_lines(file: &Path, count: usize) -> Vec<String> {
    let got = || fs::read_to_string(file).expect("because it is ours");
    for _ in 0..1500 {
        if got().matches('\n').count() >= count {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    got().lines().map(str::to_string).collect()
}

/// What is printed is what was sent, letter for letter: of a group from where it was, else from now on.
fn is_printed(server: &mut dyn Lasting) {
    let ((_work, first), (_other, second)) = (example(), example());
    let url = server.url();
    let to = |captured: &Captured| shipped(captured, &[&["--to"], &of(&url, server, &[])[..]].concat());
    known(server, &["people"]);
    to(&first);
    let group = of(&url, server, &["--group", "people"]);
    let (reader, file) = printed(&group);
    assert_eq!(wait_for_lines(file.path(), sent(&first).len()), sent(&first));
    settled(server, "people");
    drop(reader);
    let (_tail, from_now) = printed(&of(&url, server, &[]));
    let marks = || fs::read_to_string(from_now.path()).expect("because it is ours").matches("mark").count();
    until("a mark", || {
        server.put(b"\x81\xa4type\xa4mark");
        marks() > 0
    });
    to(&second);
    let (_reader, file) = printed(&group);
    for file in [&file, &from_now] {
        let is_mark = |line: &String| line == r#"{"type":"mark"}"#;
        let mut lines = Vec::new();
        for _ in 0..1500 {
            lines = wait_for_lines(file.path(), 1);
            lines.retain(|line| !is_mark(line));
            if lines.len() >= sent(&second).len() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        // In their order also where a topic has several partitions: they are of one workflow.
        assert_eq!(lines, sent(&second));
    }
}
