//! Delivery to real servers, and what Flowcept's own consumer makes of it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use harness::host::{binary, need, root};
use harness::redis::Server;
use harness::run::Captured;

use crate::export::python;

/// A run of the word-frequency pipeline in a store of its own.
fn example() -> (tempfile::TempDir, Captured) {
    let work = tempfile::tempdir().expect("because tests may write temporary files");
    let script = root().join("tests/programs/wordcount.sh").to_string_lossy().into_owned();
    let captured = Captured::preloaded(&["sh", &script, "data"], work.path(), &[]);
    (work, captured)
}

fn command(store: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("--store").arg(store).arg("ship").args(arguments).env_remove("MQ_URI").env_remove("MQ_CHANNEL");
    command
}

fn ship(captured: &Captured, arguments: &[&str]) -> Output {
    command(captured.store.path(), arguments).output().expect("because the binary was just built")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn shipped(captured: &Captured, arguments: &[&str]) -> String {
    let output = ship(captured, arguments);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// A process that ends with this.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
    let (work, captured) = example();
    let server = Server::start(&[]);
    let home = tempfile::tempdir().expect("because tests may write temporary files");
    let settings = home.path().join("settings.yaml");
    let database = home.path().join("lmdb");
    fs::write(
        &settings,
        format!(
            "project: {{db_flush_mode: online, enrich_messages: true, dump_buffer: {{enabled: false}}}}
mq: {{enabled: true, type: redis, host: 127.0.0.1, port: {port}, channel: interception, buffer_size: 50, insertion_buffer_time_secs: 1}}
kv_db: {{enabled: true, host: 127.0.0.1, port: {port}}}
db_buffer: {{insertion_buffer_time_secs: 1, buffer_size: 50}}
databases: {{lmdb: {{enabled: true, path: {}}}, mongodb: {{enabled: false}}}}
telemetry_capture: {{}}
adapters: {{}}
agent: {{}}
",
            database.display(),
            port = server.port
        ),
    )
    .expect("because the folder is ours");
    let theirs = |program: &Path| {
        let mut command = Command::new(program);
        command.env("FLOWCEPT_SETTINGS_PATH", &settings).env("HOME", home.path()).current_dir(home.path());
        command.env("FLOWCEPT_SKIP_START_CLEANUP", "1").stdin(Stdio::null());
        command
    };
    let flowcept = python().with_file_name("flowcept");
    let log = fs::File::create(home.path().join("consumer.log")).expect("because the folder is ours");
    let mut consumer = theirs(&flowcept)
        .arg("--start-consumption-services")
        .stderr(log.try_clone().expect("because it is open"))
        .stdout(log)
        .spawn()
        .map(Helper)
        .expect("because it was just installed");
    server.wait_for_subscribers(1);
    let said = shipped(&captured, &["--to", &server.url()]);
    // Its buffer is written within a second.
    sleep(Duration::from_secs(3));
    let stopped = theirs(&flowcept).arg("--stop-consumption-services").output().expect("because it is there");
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    consumer.0.wait().expect("because it was started");
    let buffer = work.path().join("buffer.jsonl");
    let sent = captured.ask(&["export", "last"]);
    fs::write(&buffer, &sent).expect("because the folder is ours");
    let count = sent.lines().count();
    assert!(said.contains(&format!("1 workflows in {count} messages")), "{said}");
    let check = theirs(&python()).arg(root().join("tests/programs/check_database.py")).arg(&buffer).output();
    let check = check.expect("because the interpreter is there");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    assert!(String::from_utf8_lossy(&check.stdout).contains(&format!("{count} documents are equal")));
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
    assert_eq!(shipped(&captured, &to), format!("1 workflows in {count} messages to {place}\n"));
    assert_eq!(shipped(&captured, &to), format!("0 workflows in 0 messages to {place}\n"));
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
        (format!("http://:{WRONG}@{host}"), "this is no URL of a Redis server that flowcept can use; it has the form"),
        (format!("redis://:{SECRET}@{host}"), "nobody is subscribed"),
    ];
    for (url, wanted) in tries {
        let output = command(captured.store.path(), &["--wait", "0s"]).env("MQ_URI", &url).output();
        let output = output.expect("because the binary was just built");
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{}", said(&output));
        assert!(![SECRET, WRONG].iter().any(|s| said(&output).contains(s)), "{}", said(&output));
    }
    let kept = fs::read_dir(captured.store.path().join("outlets")).expect("because it was made").flatten();
    for file in kept {
        let text = fs::read_to_string(file.path()).expect("because it is ours");
        let name = file.file_name().to_string_lossy().into_owned();
        assert!(![SECRET, WRONG].iter().any(|s| text.contains(s) || name.contains(s)), "{name}: {text}");
    }
}

/// Nothing is sent to a subscriber that does not keep up: Redis would drop it, with all that waits for it.
#[test]
fn a_slow_subscriber_is_waited_for() {
    if !need(&["redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Server::start(&[]);
    let connect = || TcpStream::connect(("127.0.0.1", server.port)).expect("because it listens");
    let mut slow = connect();
    slow.write_all(b"PSUBSCRIBE interception\r\n").expect("because it listens");
    server.wait_for_subscribers(1);
    let mut publisher = connect();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..20 {
        let head = format!("*3\r\n$7\r\nPUBLISH\r\n$12\r\ninterception\r\n${}\r\n", chunk.len());
        let sent = publisher.write_all(head.as_bytes());
        sent.and_then(|()| publisher.write_all(&chunk))
            .and_then(|()| publisher.write_all(b"\r\n"))
            .expect("because it reads");
        publisher.read_exact(&mut [0; 4]).expect("because it answers with how many got it");
    }
    let output = ship(&captured, &["--to", &server.url(), "--wait", "0s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("does not keep up"), "{}", said(&output));
    // Once it reads, all comes.
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 64 << 10];
        let mut tail: Vec<u8> = Vec::new();
        while let Ok(count @ 1..) = slow.read(&mut got) {
            tail.extend(got[..count].iter().filter(|b| **b != b'x'));
        }
        tail
    });
    shipped(&captured, &["--to", &server.url(), "--wait", "60s"]);
    let count = captured.ask(&["export", "last"]).lines().count();
    drop(server);
    let tail = reader.join().expect("because it does not panic");
    let ids = tail.windows(11).filter(|w| *w == b"workflow_id").count();
    assert_eq!(ids, count);
}
