//! Delivery to real servers, and what Flowcept's own consumer makes of it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use flowcept_agent::sinks::Sink;
use flowcept_agent::sinks::outlet::BATCH;
use flowcept_agent::sinks::redis::channel::Channel;
use harness::flowcept::{Flowcept, Mq};
use harness::host::{binary, need, root};
use harness::python::python;
use harness::redis::Server;
use harness::run::{Captured, Helper, said, until};
use harness::server::Lasting;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::queues::{printed, wait_for_lines};

/// A run of the word-frequency pipeline in a store of its own.
pub(crate) fn example() -> (tempfile::TempDir, Captured) {
    let work = tempfile::tempdir().expect("because tests may write temporary files");
    let script = root().join("tests/programs/wordcount.sh").to_string_lossy().into_owned();
    let captured = Captured::preloaded(&["sh", &script, "data"], work.path(), &[]);
    (work, captured)
}

/// `flowcept ship` of a store.
pub(crate) fn command(store: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("--store").arg(store).arg("ship").args(arguments).env_remove("MQ_URI").env_remove("MQ_CHANNEL");
    command
}

pub(crate) fn ship(captured: &Captured, arguments: &[&str]) -> Output {
    command(captured.store.path(), arguments).output().expect("because the binary was just built")
}

pub(crate) fn shipped(captured: &Captured, arguments: &[&str]) -> String {
    let output = ship(captured, arguments);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// `redis-cli` as a subscriber, which writes what it gets to a file.
struct Subscriber {
    _client: Helper,
    file: tempfile::NamedTempFile,
}

impl Subscriber {
    fn to(server: &Server, channel: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("because tests may write temporary files");
        let to = file.reopen().expect("because it was just made");
        let child = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &server.port.to_string(), "--csv", "psubscribe", channel])
            .stdin(Stdio::null())
            .stdout(to)
            .spawn()
            .expect("because redis-tools are there");
        server.wait_for_subscribers(1);
        Self { _client: Helper(child), file }
    }

    /// Messages that have this in them, once there are as many.
    fn wait(&self, wanted: &str, count: usize) -> usize {
        let got = || fs::read_to_string(self.file.path()).expect("because it is ours").matches(wanted).count();
        for _ in 0..1000 {
            if got() >= count {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        // One too many would come just now.
        sleep(Duration::from_millis(100));
        got()
    }
}

/// Flowcept's own consumer takes what we publish into its database, and that is what we sent.
#[test]
fn flowcept_stores_what_is_published() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Server::start(&[]);
    let theirs = Flowcept::new(Some(Mq::Redis(server.port)));
    let consumer = theirs.consumer();
    server.wait_for_subscribers(1);
    let said = shipped(&captured, &["--to", &server.url()]);
    // Its buffer is written within a second.
    sleep(Duration::from_secs(3));
    theirs.stop(consumer);
    let count = theirs.has(&captured);
    assert!(said.contains(&format!("1 workflows in {count} documents")), "{said}");
}

/// Our keeper; it is killed where a test fails.
pub(crate) struct Keeper(pub(crate) Option<Child>);

impl Keeper {
    /// One that writes into this folder; it is subscribed when this returns.
    fn start(server: &Server, folder: &Path, more: &[&str]) -> Self {
        let keeper = Self::of(&server.url(), folder, more);
        server.wait_for_subscribers(1);
        keeper
    }

    /// One that reads a queue.
    pub(crate) fn of_queue(server: &dyn Lasting, folder: &Path, more: &[&str]) -> Self {
        Self::of(&server.url(), folder, &[server.flags(), more].concat())
    }

    /// One of this URL.
    pub(crate) fn of(url: &str, folder: &Path, more: &[&str]) -> Self {
        Self::into(url, &format!("lmdb:{}", folder.display()), more)
    }

    /// One that writes into this database.
    pub(crate) fn into(url: &str, database: &str, more: &[&str]) -> Self {
        let child = Command::new(binary())
            .args(["consume", "--from", url, "--into", database, "--json"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("because the binary was just built");
        Self(Some(child))
    }

    pub(crate) fn stop(&self, signal: Signal) {
        let id = self.0.as_ref().expect("because only its end takes it").id();
        let pid = nix::unistd::Pid::from_raw(id.try_into().expect("because pids are small"));
        nix::sys::signal::kill(pid, signal).expect("because it runs");
    }

    /// What it said at its end.
    pub(crate) fn counts(mut self) -> serde_json::Value {
        let child = self.0.take().expect("because this takes itself");
        let output = child.wait_with_output().expect("because it was started");
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.take().map(Helper);
    }
}

/// Our keeper makes the same of what Flowcept's decorators and we publish as its own consumer does, and stops when it does.
#[test]
fn the_keeper_keeps_what_flowcept_keeps() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Server::start(&[]);
    let (theirs, ours) = (Flowcept::new(Some(Mq::Redis(server.port))), Flowcept::new(None));
    let keeper = Keeper::start(&server, &ours.database(), &[]);
    let consumer = theirs.consumer();
    server.wait_for_subscribers(1);
    until("both to listen", || server.ask(&["client", "list", "type", "pubsub"]).lines().count() >= 2);
    theirs.run(&python(), &[&root().join("tests/programs/produce.py").to_string_lossy()]);
    shipped(&captured, &["--to", &server.url()]);
    sleep(Duration::from_secs(3));
    theirs.stop(consumer);
    let counts = keeper.counts();
    assert_eq!(counts["aside"], 0, "{counts}");
    let documents = ours.equals(&theirs);
    // Of the program: 3 + 3 + 2 calls, 2 iterations, 1 failure, the workflow.
    assert!(documents >= ours.has(&captured) + 12, "{documents}");
}

/// A run that reads so many files.
pub(crate) fn files(count: usize) -> (tempfile::TempDir, Captured) {
    let work = tempfile::tempdir().expect("because tests may write temporary files");
    for i in 0..count {
        fs::write(work.path().join(format!("f{i}")), "x").expect("because there is room");
    }
    let script = "import os\nfor name in sorted(os.listdir()): open(name).read()";
    let captured = Captured::preloaded(&["python3", "-c", script], work.path(), &[]);
    let sent = captured.ask(&["export", "last"]);
    // The first line is the workflow's document, which names the first of its inputs again.
    let folder = format!("\"used_path\":\"{}/f", work.path().display());
    assert_eq!(sent.lines().skip(1).map(|l| l.matches(&folder).count()).sum::<usize>(), count);
    (work, captured)
}

/// A program that reads 20,000 files arrives whole through channel and keeper.
#[test]
fn twenty_thousand_files_arrive() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (_work, captured) = files(20_000);
    let server = Server::start(&[]);
    let ours = Flowcept::new(None);
    let keeper = Keeper::start(&server, &ours.database(), &[]);
    shipped(&captured, &["--to", &server.url()]);
    sleep(Duration::from_secs(1));
    keeper.stop(Signal::SIGINT);
    let kept = keeper.counts()["kept"].as_u64();
    assert_eq!(kept, Some(ours.has(&captured) as u64));
}

/// What cannot be kept is set aside as it came, with the reason, and its neighbours are kept; SIGTERM ends it with all written.
#[test]
fn poison_is_set_aside() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let mut server = Server::start(&[]);
    let ours = Flowcept::new(None);
    let keeper = Keeper::start(&server, &ours.database(), &[]);
    // A server that was gone is subscribed to again.
    server.kill();
    server.restart();
    server.wait_for_subscribers(1);
    let publish = |message| assert_eq!(server.publish("interception", message), ":1\r\n");
    let poison: [&[u8]; 3] = [b"\x81\xa4type\xa4tusk", b"no msgpack", b"\x81\xa7task_id\xc4\x01x"];
    publish(poison[0]);
    shipped(&captured, &["--to", &server.url()]);
    poison[1..].iter().for_each(|message| publish(message));
    sleep(Duration::from_secs(1));
    keeper.stop(Signal::SIGTERM);
    let counts = keeper.counts();
    assert_eq!((counts["kept"].as_u64(), counts["aside"].as_u64()), (Some(ours.has(&captured) as u64), Some(3)));
    let aside = ours.database().join("quarantine");
    let reasons = fs::read_to_string(aside.join("reasons.jsonl")).expect("because it was written");
    let reasons: Vec<serde_json::Value> = reasons.lines().map(|l| l.parse().expect("because it is JSON")).collect();
    for ((reason, message), why) in reasons.iter().zip(poison).zip(["tusk", "follow the message", "is bytes"]) {
        assert!(reason["why"].as_str().is_some_and(|w| w.contains(why)), "{reason}");
        let file = aside.join(reason["file"].as_str().expect("because it is text"));
        assert_eq!(fs::read(&file).expect("because it was written"), message);
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).expect("because it is there").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

/// What cannot be written at the end, for Flowcept has the database open, is set aside and not lost.
#[test]
fn what_cannot_be_written_is_set_aside() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Server::start(&[]);
    let ours = Flowcept::new(None);
    let keeper = Keeper::start(&server, &ours.database(), &["--wait", "0s"]);
    let _holder = ours.holder();
    shipped(&captured, &["--to", &server.url()]);
    sleep(Duration::from_secs(1));
    keeper.stop(Signal::SIGTERM);
    let (counts, sent) = (keeper.counts(), captured.ask(&["export", "last"]).lines().count());
    assert_eq!((counts["kept"].as_u64(), counts["aside"].as_u64()), (Some(0), Some(sent as u64)));
    let reasons = fs::read_to_string(ours.database().join("quarantine/reasons.jsonl")).expect("because it was written");
    assert_eq!(reasons.matches("a program of Flowcept has it open").count(), sent);
}

/// Flowcept's tools answer on the database that we write, also on what comes to one that is there.
#[test]
fn flowcept_reads_our_database() {
    if !need(&["python"]) {
        return;
    }
    let (_work, first) = example();
    let (_work, second) = example();
    let theirs = Flowcept::new(None);
    let to = format!("lmdb:{}", theirs.database().display());
    for captured in [&first, &second] {
        let said = shipped(captured, &["--to", &to, "--json"]);
        let said: serde_json::Value = serde_json::from_str(&said).expect("because it is JSON");
        let count = theirs.has(captured);
        assert_eq!(said, serde_json::json!({"to": to, "workflows": 1, "documents": count}));
        assert!(shipped(captured, &["--to", &to]).starts_with("0 workflows"));
    }
    theirs.has(&first);
}

/// `query` answers on the store what Flowcept answers on the database, for each comparison there is.
#[test]
fn queries_answer_as_flowcept_does() {
    if !need(&["python"]) {
        return;
    }
    let (_work, captured) = example();
    let theirs = Flowcept::new(None);
    shipped(&captured, &["--to", &format!("lmdb:{}", theirs.database().display())]);
    let id = captured.told().workflow.id;
    let sent = captured.ask(&["export", "last"]);
    let times: Vec<f64> = sent
        .lines()
        .filter_map(|l| l.parse::<serde_json::Value>().expect("because it is JSON")["started_at"].as_f64())
        .collect();
    let middle = times[times.len() / 2];
    // How many tasks each must find at least; where there are none, which is certain, too.
    let filters = [
        (r#"{}"#.to_string(), times.len() - 1),
        (format!(r#"{{"workflow_id": "{id}"}}"#), times.len() - 1),
        (r#"{"workflow_id": "11111111-2222-4333-8444-555555555555"}"#.into(), 0),
        (r#"{"activity_id": "sort", "finished": true}"#.into(), 1),
        (r#"{"activity_id": {"$in": ["sort", "uniq"]}}"#.into(), 2),
        (r#"{"activity_id": {"$nin": ["sort", "uniq"]}, "status": {"$eq": "FINISHED"}}"#.into(), 2),
        (r#"{"activity_id": {"$ne": "sort"}}"#.into(), 2),
        (r#"{"activity_id": {"$gte": "sort", "$lt": "uniq"}}"#.into(), 1),
        (format!(r#"{{"started_at": {{"$gt": {middle}}}}}"#), 1),
        (format!(r#"{{"started_at": {{"$lte": {middle}}}}}"#), 1),
        (r#"{"$or": [{"activity_id": "sort"}, {"$and": [{"activity_id": "tr"}, {"status": "FINISHED"}]}]}"#.into(), 3),
        (r#"{"$and": [{"activity_id": "tr"}, {"activity_id": "sort"}]}"#.into(), 0),
        (r#"{"nothing": null, "activity_id": "tr"}"#.into(), 2),
        (r#"{"nothing": {"$gt": 1}}"#.into(), 0),
    ];
    let file = captured.store.path().join("filters");
    let lines: String = filters.iter().map(|(filter, _)| format!("{filter}\n")).collect();
    fs::write(&file, lines).expect("because the folder is ours");
    let script = root().join("tests/programs/ask_database.py");
    let answers = theirs.run(&python(), &[&script.to_string_lossy(), &file.to_string_lossy()]);
    let answers: Vec<Vec<serde_json::Value>> = serde_json::from_str(&answers).expect("because it is JSON");
    let ask = |arguments: &[&str]| -> Vec<serde_json::Value> {
        serde_json::from_str(&captured.ask(&[&["query"], arguments].concat())).expect("because it is JSON")
    };
    let by_id = |mut tasks: Vec<serde_json::Value>| {
        tasks.sort_by_key(|task| task["task_id"].to_string());
        tasks
    };
    for ((filter, least), theirs) in filters.iter().zip(answers) {
        assert!(theirs.len() >= *least && (*least > 0 || theirs.is_empty()), "{filter}: {}", theirs.len());
        assert_eq!(by_id(ask(&[filter])), by_id(theirs), "{filter}");
    }
    // What Flowcept's does not do on LMDB.
    let newest =
        ask(&[r#"{"custom_metadata.process.exit_code": {"$lt": 1}}"#, "--sort", "-started_at", "--limit", "2"]);
    assert_eq!(newest.len(), 2);
    assert!(newest[0]["started_at"].as_f64() >= newest[1]["started_at"].as_f64(), "{newest:?}");
    let largest = times.iter().copied().fold(0.0, f64::max);
    assert_eq!(ask(&["{}", "--sort", "-started_at", "--limit", "1"])[0]["started_at"], largest);
    let names = ask(&[r#"{"activity_id": "sort"}"#, "--project", "activity_id,status"]);
    assert_eq!(names[0], serde_json::json!({"activity_id": "sort", "status": "FINISHED"}));
}

/// Who has it open, or what lies in its place, is told; a database is written once it is closed.
#[test]
fn a_database_that_cannot_be_written() {
    if !need(&["python", "bindfs"]) {
        return;
    }
    let (_work, captured) = example();
    let theirs = Flowcept::new(None);
    let to = format!("lmdb:{}", theirs.database().display());
    let refused = |to: &str, why: &str| {
        let output = ship(&captured, &["--to", to, "--wait", "0s"]);
        assert_eq!(output.status.code(), Some(1), "{to}: {}", said(&output));
        assert!(said(&output).contains(why), "{}", said(&output));
    };
    let mut holder = theirs.holder();
    refused(&to, "a program of Flowcept has it open");
    let mut waiting = command(captured.store.path(), &["--to", &to, "--wait", "60s"]);
    let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("because the binary is there");
    sleep(Duration::from_millis(300));
    drop(holder.0.stdin.take());
    holder.0.wait().expect("because it was started");
    let output = waiting.wait_with_output().expect("because it was started");
    assert!(output.status.success(), "{}", said(&output));
    theirs.has(&captured);
    // Another file.
    let other = tempfile::tempdir().expect("because tests may write temporary files");
    fs::write(other.path().join("data.mdb"), "something else".repeat(1000)).expect("because the folder is ours");
    refused(&format!("lmdb:{}", other.path().display()), "there is another file in the database's place");
    // A filesystem of FUSE, as those of many clusters are.
    let mounted = tempfile::tempdir().expect("because tests may write temporary files");
    let mount = Command::new("bindfs").arg(other.path()).arg(mounted.path()).status();
    assert!(mount.is_ok_and(|s| s.success()), "bindfs mounts");
    let network = ship(&captured, &["--to", &format!("lmdb:{}", mounted.path().display())]);
    let unmounted = Command::new("fusermount").arg("-u").arg(mounted.path()).status();
    assert!(said(&network).contains("is on a network filesystem"), "{}", said(&network));
    assert!(unmounted.is_ok_and(|s| s.success()), "fusermount unmounts");
}

/// A file has a document a line, which Flowcept reads; what was torn there is no line, and who moves the file away gets a new one.
#[test]
fn a_file_grows_by_lines() {
    if !need(&["python"]) {
        return;
    }
    let ((work, first), (_other, second)) = (example(), example());
    let file = work.path().join("buffer.jsonl");
    let to = format!("jsonl:{}", file.display());
    let read = || fs::read_to_string(&file).expect("because it was written");
    let (one, two) = (first.ask(&["export", "last"]), second.ask(&["export", "last"]));
    let told = shipped(&first, &["--to", &to]);
    assert_eq!(told, format!("1 workflows in {} documents to {to}\n", one.lines().count()));
    assert_eq!(read(), one);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).expect("because it is there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let theirs = Flowcept::new(None);
    let script = root().join("tests/programs/check_flowcept.py").to_string_lossy().into_owned();
    let card = work.path().join("card.md");
    theirs.run(&python(), &[&script, &file.to_string_lossy(), &card.to_string_lossy()]);
    fs::write(&file, format!("{one}{{\"type\": \"ta")).expect("because it is ours");
    assert!(shipped(&first, &["--to", &to]).starts_with("0 workflows"));
    shipped(&second, &["--to", &to]);
    assert_eq!(read(), format!("{one}{two}"));
    let (_more, third) = example();
    fs::rename(&file, work.path().join("buffer.jsonl.1")).expect("because it is ours");
    shipped(&third, &["--to", &to]);
    assert_eq!(read(), third.ask(&["export", "last"]));
    for (place, why) in [("/dev/full", "No space left"), ("/nowhere/file", "No such file"), ("/", "Is a directory")] {
        let output = ship(&first, &["--to", &format!("jsonl:{place}"), "--wait", "0s"]);
        assert_eq!(output.status.code(), Some(1));
        let told = said(&output);
        assert!(told.contains(&format!("1 wait: jsonl:{place}: {why}")), "{told}");
    }
}

/// What comes to a channel is printed, but for what is no message.
#[test]
fn a_channel_is_printed() {
    if !need(&["redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Server::start(&[]);
    let (_reader, file) = printed(&[&server.url()]);
    server.wait_for_subscribers(1);
    assert_eq!(server.publish("interception", b"no msgpack"), ":1\r\n");
    shipped(&captured, &["--to", &server.url()]);
    let sent = captured.ask(&["export", "last"]);
    assert_eq!(wait_for_lines(file.path(), sent.lines().count()), sent.lines().collect::<Vec<_>>());
}

/// Redis keeps nothing: what nobody takes stays in the store, is sent when somebody is there, and once.
#[test]
fn what_nobody_takes_waits() {
    if !need(&["redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Server::start(&[]);
    let to = ["--to", &server.url(), "--channel", "provenance", "--wait", "0s"];
    let refused = ship(&captured, &to);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("0 workflows delivered; 1 wait"), "{}", said(&refused));
    assert!(said(&refused).contains("nobody is subscribed to the channel provenance"), "{}", said(&refused));
    let subscriber = Subscriber::to(&server, "provenance");
    let count = captured.ask(&["export", "last"]).lines().count();
    let place = format!("redis://127.0.0.1:{}/0 provenance", server.port);
    assert_eq!(shipped(&captured, &to), format!("1 workflows in {count} documents to {place}\n"));
    assert_eq!(shipped(&captured, &to), format!("0 workflows in 0 documents to {place}\n"));
    assert_eq!(subscriber.wait("workflow_id", count), count);
    // Another channel has taken nothing yet.
    let other = ["--to", &server.url(), "--wait", "0s"];
    assert!(said(&ship(&captured, &other)).contains("subscribed to the channel interception"));
}

/// A server that is killed and comes back: what could not be sent is sent then.
#[test]
fn a_server_that_comes_back() {
    if !need(&["redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let mut server = Server::start(&[]);
    server.kill();
    let url = server.url();
    let down = ship(&captured, &["--to", &url, "--wait", "0s"]);
    assert_eq!(down.status.code(), Some(1));
    assert!(said(&down).contains(&format!("{url}/0 interception: ")), "{}", said(&down));
    let mut waiting = command(captured.store.path(), &["--to", &url, "--wait", "60s"]);
    let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("because the binary is there");
    sleep(Duration::from_millis(300));
    server.restart();
    let subscriber = Subscriber::to(&server, "interception");
    let output = waiting.wait_with_output().expect("because it was started");
    assert!(output.status.success(), "{}", said(&output));
    let count = captured.ask(&["export", "last"]).lines().count();
    assert_eq!(subscriber.wait("workflow_id", count), count);
}

/// Wrong credentials get an error that says so, and no secret is said or kept.
#[test]
fn secrets_stay_secret() {
    if !need(&["redis-cli"]) {
        return;
    }
    const SECRET: &str = "tr0ub4dor-and-3";
    const WRONG: &str = "hunter2-and-more";
    let (_work, captured) = example();
    let server = Server::start(&["--requirepass", SECRET]);
    let host = format!("127.0.0.1:{}", server.port);
    let tries = [
        (format!("redis://{host}"), "it wants a password"),
        (format!("redis://:{WRONG}@{host}"), "it refuses this user and password"),
        (format!("redis://:{WRONG}@{host}:port/x"), "this URL of a Redis server is wrong; it has the form redis://"),
        (format!("http://:{WRONG}@{host}"), "http is nothing that flowcept knows here; there are redis://HOST"),
        (format!("redis://:{SECRET}@{host}"), "nobody is subscribed"),
    ];
    for (url, wanted) in tries {
        let output = command(captured.store.path(), &["--wait", "0s"]).env("MQ_URI", &url).output();
        let output = output.expect("because the binary was just built");
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{}", said(&output));
        assert!(![SECRET, WRONG].iter().any(|s| said(&output).contains(s)), "{}", said(&output));
    }
    // Whatever else speaks to the server.
    let folder = tempfile::tempdir().expect("because tests may write temporary files");
    let into = format!("lmdb:{}", folder.path().display());
    let others = [
        vec!["ship", "--stream", "provenance", "--wait", "0s"],
        vec!["consume", "--into", &into],
        vec!["consume", "--stream", "provenance", "--into", &into],
        vec!["stream"],
        vec!["stream", "--stream", "provenance"],
        vec!["stream", "--stream", "provenance", "--group", "people"],
        vec!["check-services"],
    ];
    for arguments in others {
        let mut command = Command::new(binary());
        command.arg("--store").arg(captured.store.path()).args(&arguments).stdin(Stdio::null());
        let output = command.env("MQ_URI", format!("redis://:{WRONG}@{host}")).output();
        let output = output.expect("because the binary was just built");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("it refuses this user and password"), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).contains(WRONG), "{}", said(&output));
    }
    let kept = fs::read_dir(captured.store.path().join("outlets")).expect("because it was made").flatten();
    for file in kept {
        let text = fs::read_to_string(file.path()).expect("because it is ours");
        let name = file.file_name().to_string_lossy().into_owned();
        assert!(![SECRET, WRONG].iter().any(|s| text.contains(s) || name.contains(s)), "{name}: {text}");
    }
}

/// A subscriber that reads nothing, for whom the kernel takes no more.
fn full(server: &Server) -> TcpStream {
    let mut slow = TcpStream::connect(("127.0.0.1", server.port)).expect("because it listens");
    slow.write_all(b"PSUBSCRIBE interception\r\n").expect("because it listens");
    server.wait_for_subscribers(1);
    let waits = |word: &str| word.starts_with("omem=") && word != "omem=0";
    until("the kernel to take no more", || {
        server.publish("interception", &[b'x'; 64 << 10]);
        server.ask(&["client", "list", "type", "pubsub"]).split(' ').any(waits)
    });
    slow
}

/// All that comes to it until its server ends, without what it was filled with; it pauses each time.
fn read(mut slow: TcpStream, pause: Duration) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut got = vec![0; 64 << 10];
        let mut tail: Vec<u8> = Vec::new();
        while let Ok(count @ 1..) = slow.read(&mut got) {
            tail.extend(got[..count].iter().filter(|b| **b != b'x'));
            sleep(pause);
        }
        tail
    })
}

fn documents(tail: &[u8]) -> usize {
    tail.windows(11).filter(|w| *w == b"workflow_id").count()
}

/// Who takes a while to read gets each document once.
#[test]
fn who_reads_late_gets_each_document_once() {
    if !need(&["redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Server::start(&[]);
    let slow = full(&server);
    let mut ship = command(captured.store.path(), &["--to", &server.url(), "--wait", "60s"]);
    let ship = ship.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("because the binary is there");
    // Longer than one look at it lasts.
    sleep(Duration::from_secs(4));
    let reader = read(slow, Duration::ZERO);
    let output = ship.wait_with_output().expect("because it was started");
    assert!(output.status.success(), "{}", said(&output));
    let count = captured.ask(&["export", "last"]).lines().count();
    drop(server);
    assert_eq!(documents(&reader.join().expect("because it does not panic")), count);
}

/// Who reads more slowly than is sent gets each document once, too, where more is sent together than may wait for it.
#[test]
fn who_reads_slowly_gets_each_document_once() {
    if !need(&["redis-cli"]) {
        return;
    }
    let server = Server::start(&[]);
    let reader = read(full(&server), Duration::from_millis(2));
    let text = "o".repeat(20 << 10);
    let task = |i: usize| json!({"type": "task", "task_id": i.to_string(), "workflow_id": "w", "stdout": text});
    let mut channel = Channel::open(&server.url(), "interception").expect("because the URL is right");
    channel.deliver(&(0..BATCH).map(task).collect::<Vec<_>>()).expect("because it reads");
    assert!(channel.confirm().is_ok_and(|is_sure| is_sure));
    drop(server);
    assert_eq!(documents(&reader.join().expect("because it does not panic")), BATCH);
}

/// What a server has for a subscriber and takes with it when it is killed is sent again once somebody is there again.
#[test]
fn what_dies_in_a_killed_server_is_sent_again() {
    if !need(&["redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let mut server = Server::start(&[]);
    let slow = full(&server);
    let mut ship = command(captured.store.path(), &["--to", &server.url(), "--wait", "60s"]);
    let mut ship = ship.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("because the binary is there");
    sleep(Duration::from_secs(2));
    assert!(ship.try_wait().is_ok_and(|ended| ended.is_none()), "what waits in the server is no delivery");
    server.kill();
    server.restart();
    let subscriber = Subscriber::to(&server, "interception");
    let output = ship.wait_with_output().expect("because it was started");
    assert!(output.status.success(), "{}", said(&output));
    let count = captured.ask(&["export", "last"]).lines().count();
    assert_eq!(said(&output), format!("1 workflows in {count} documents to {}/0 interception\n", server.url()));
    assert!(subscriber.wait("workflow_id", count) >= count);
    drop(slow);
}

/// Nothing is sent to a subscriber that does not keep up: Redis would drop it, with all that waits for it.
#[test]
fn a_slow_subscriber_is_waited_for() {
    if !need(&["redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Server::start(&[]);
    let mut slow = TcpStream::connect(("127.0.0.1", server.port)).expect("because it listens");
    slow.write_all(b"PSUBSCRIBE interception\r\n").expect("because it listens");
    server.wait_for_subscribers(1);
    (0..20).for_each(|_| assert_eq!(server.publish("interception", &vec![b'x'; 1 << 20]), ":1\r\n"));
    let output = ship(&captured, &["--to", &server.url(), "--wait", "0s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("does not keep up"), "{}", said(&output));
    // Once it reads, all comes.
    let reader = read(slow, Duration::ZERO);
    shipped(&captured, &["--to", &server.url(), "--wait", "60s"]);
    let count = captured.ask(&["export", "last"]).lines().count();
    drop(server);
    let tail = reader.join().expect("because it does not panic");
    assert_eq!(documents(&tail), count);
}
