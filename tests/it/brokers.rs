//! Kafka and RabbitMQ: Flowcept's own clients of them, and their doors.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use flowcept_agent::keeper::document;
use flowcept_agent::sinks::{self, Queue};
use harness::flowcept::{Consumer, Flowcept, Mq};
use harness::host::{binary, need, root};
use harness::kafka::{Broker, Doors};
use harness::python::python;
use harness::rabbitmq::Server;
use harness::run::{Captured, said, until};
use harness::server::{Lasting, free_port};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::queues::{known, settled};
use crate::sinks::{Keeper, example, ship, shipped};

/// How long a message is waited for before it is said that there is none.
const WAIT: Duration = Duration::from_millis(100);
const SECRET: &str = "c0rrect-h0rse-battery-staple";
const WRONG: &str = "hunter2-and-more";

#[test]
fn flowcept_shares_kafka() {
    if !need(&["python", "java", "mvn"]) {
        return;
    }
    let server = Broker::start(Doors::Open);
    let theirs = Flowcept::new(Some(Mq::Kafka(server.port())));
    // It begins with all that the topic has.
    flowcept_shares(&server, &theirs, &|| None, &|| settled(&server, "theirs"));
}

/// All documents of a workflow lie in one partition, for only there they have an order.
#[test]
fn a_workflow_lies_in_one_partition() {
    if !need(&["java", "mvn"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Broker::start(Doors::Open);
    // What has no key goes into any of them, at each delivery.
    for _ in 0..8 {
        shipped(&captured, &["--to", &server.url(), "--channel", "provenance"]);
        std::fs::remove_dir_all(captured.store.path().join("outlets")).expect("because it was made");
    }
    assert_eq!(server.filled(), 1);
}

/// Batches are packed, and have the number by which the broker knows what is sent a second time.
#[test]
fn kafka_has_what_is_sent_once() {
    if !need(&["java", "mvn"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Broker::start(Doors::Open);
    shipped(&captured, &["--to", &server.url(), "--channel", "provenance"]);
    let batches = server.batches();
    assert!(!batches.is_empty());
    for batch in batches {
        assert!(batch.contains(" compresscodec: lz4 ") && !batch.contains(" producerId: -1 "), "{batch}");
    }
}

#[test]
fn flowcept_shares_rabbitmq() {
    if !need(&["python", "epmd", "apt-get", "openssl"]) {
        return;
    }
    let server = Server::start(SECRET);
    let theirs = Flowcept::new(Some(Mq::Rabbit(server.port, SECRET)));
    let listen = || {
        let consumer = theirs.consumer();
        until("a queue of theirs", || server.of_theirs().is_some());
        Some(consumer)
    };
    let arrived = || until("them to read all", || server.of_theirs() == Some(0));
    flowcept_shares(&server, &theirs, &listen, &arrived);
}

/// Flowcept's own consumer takes what we publish, and our keeper makes the same as it of that and of what its decorators publish.
fn flowcept_shares(server: &dyn Lasting, theirs: &Flowcept, listen: &dyn Fn() -> Option<Consumer>, arrived: &dyn Fn()) {
    let (_work, captured) = example();
    let ours = Flowcept::new(None);
    known(server, &["flowcept"]);
    let consumer = listen();
    shipped(&captured, &[&["--to", &server.url()], server.flags()].concat());
    theirs.run(&python(), &[&root().join("tests/programs/produce.py").to_string_lossy()]);
    let consumer = consumer.unwrap_or_else(|| theirs.consumer());
    let keeper = Keeper::of_queue(server, &ours.database(), &[]);
    settled(server, "flowcept");
    arrived();
    // Its buffer is written within a second.
    sleep(Duration::from_secs(3));
    theirs.stop(consumer);
    let counts = keeper.counts();
    assert_eq!(counts["aside"], 0, "{counts}");
    theirs.has(&captured);
    // Of the program: 3 + 3 + 2 calls, 2 iterations, 1 failure, the workflow.
    let documents = ours.equals(theirs);
    assert!(documents >= ours.has(&captured) + 12, "{documents}");
}

/// RabbitMQ counts messages and no bytes: a reader has many small ones in hand, and few long ones.
#[test]
fn rabbitmq_gives_few_that_are_long() {
    if !need(&["epmd", "apt-get", "openssl"]) {
        return;
    }
    let server = Server::start(SECRET);
    let mut queue = sinks::queue(&server.url(), server.name(), Some("flowcept")).expect("because it is one of ours");
    let mut sink = sinks::sink(&server.url(), server.name()).expect("because it is one of ours");
    let (mut sent, mut came) = (0, 0);
    let mut send = |count: usize, bytes: usize| {
        let task = |number: usize| json!({"type": "task", "task_id": number.to_string(), "stdout": "x".repeat(bytes)});
        let documents: Vec<_> = (sent..sent + count).map(task).collect();
        documents.chunks(500).for_each(|some| sink.deliver(some).expect("because it listens"));
        sent += count;
    };
    // Takes so many, or all that it gives within some seconds; how many they are.
    let mut take = |queue: &mut dyn Queue, most: usize| {
        let (begin, mut nothing) = (came, 0);
        while came - begin < most && nothing < 50 {
            match queue.message(WAIT).expect("because it listens") {
                Some(message) => {
                    let task = document::decoded(&message).expect("because it is whole");
                    assert_eq!(task["task_id"], came.to_string());
                    (came, nothing) = (came + 1, 0);
                }
                None => nothing += 1,
            }
        }
        came - begin
    };
    // From now on it keeps them.
    assert!(queue.message(WAIT).expect("because it listens").is_none());
    send(9000, 100);
    let in_hand = take(&mut *queue, usize::MAX);
    assert!((5000..7000).contains(&in_hand), "{in_hand}");
    queue.settle(in_hand).expect("because it listens");
    let rest = take(&mut *queue, usize::MAX);
    assert_eq!(in_hand + rest, 9000);
    queue.settle(rest).expect("because it listens");
    send(300, 59_000);
    assert_eq!(take(&mut *queue, 300), 300);
    queue.settle(300).expect("because it listens");
    send(1500, 59_000);
    let in_hand = take(&mut *queue, usize::MAX);
    assert!((200..700).contains(&in_hand), "{in_hand}");
    assert!(server.given_out() < 700, "{}", server.given_out());
    queue.settle(in_hand).expect("because it listens");
    let mut rest = 1500 - in_hand;
    while rest > 0 {
        let some = take(&mut *queue, rest);
        queue.settle(some).expect("because it listens");
        rest -= some;
    }
    until("all to be settled", || server.has_settled("flowcept"));
    // Who does not know yet how long they are.
    drop(queue);
    send(300, 59_000);
    let mut queue = sinks::queue(&server.url(), server.name(), Some("flowcept")).expect("because it is one of ours");
    assert!(queue.message(Duration::from_secs(10)).expect("because it listens").is_some());
    assert!(server.given_out() < 100, "{}", server.given_out());
}

/// Where nobody is, that is what is said, and what was to be sent waits.
#[test]
fn nobody_is_there() {
    let (_work, captured) = example();
    for scheme in ["kafka", "amqp", "mongodb"] {
        let output = ship(&captured, &["--to", &format!("{scheme}://127.0.0.1:{}", free_port()), "--wait", "0s"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains("0 workflows delivered; 1 wait"), "{}", said(&output));
        assert!(said(&output).contains("Connection refused"), "{}", said(&output));
    }
}

/// URLs that are refused, each with what is said.
type Refused<'a> = &'a [(String, &'a str)];

#[test]
fn kafka_has_doors() {
    if !need(&["python", "java", "mvn"]) {
        return;
    }
    let server = Broker::start(Doors::Locked(SECRET));
    let url = |scheme: &str, user: &str, more: &str| format!("{scheme}://{user}127.0.0.1:{}{more}", server.port());
    let authority = format!("?ssl.ca.location={}", server.authority().display());
    let (wrong, right) = (format!("alice:{WRONG}@"), format!("alice:{}@", SECRET.replace('-', "%2D")));
    let refused = [
        (url("kafkas", &wrong, &authority), "it refuses this user and password"),
        (url("kafkas", &right, ""), "its certificate is not trusted"),
        (url("kafka", &wrong, ""), "provenance: "),
        (url("kafkas", &wrong, "?ssl.key.passphrase=hunter2-and-more"), "librdkafka does not take the property"),
        (url("kafkas", &wrong, ":x/y"), "this URL of Kafka is wrong; it has the form kafka://"),
        (url("kafkas", "alice@", ""), "this URL of Kafka has no password"),
    ];
    doors_are_locked(&server, &refused, &url("kafkas", &right, &authority));
}

#[test]
fn redis_has_doors() {
    if !need(&["python", "redis-cli", "openssl"]) {
        return;
    }
    let (server, port) = harness::redis::Server::locked(SECRET);
    let url = |user: &str, more: &str| format!("rediss://{user}127.0.0.1:{port}{more}");
    let authority = |path: &Path| format!("?cacertfile={}", path.display());
    let (trusted, none) = (authority(&server.authority()), authority(Path::new("/nowhere/ca.pem")));
    let (wrong, right) = (format!(":{WRONG}@"), format!(":{}@", SECRET.replace('-', "%2D")));
    let refused = [
        (url(&wrong, &trusted), "it refuses this user and password"),
        (url(&right, ""), "its certificate is not trusted"),
        (url(&right, &none), "/nowhere/ca.pem cannot be read: No such file"),
        (url(&wrong, "?verify=none"), "this URL of a Redis server has a parameter that flowcept does not know"),
        (url(&wrong, "#insecure"), "this URL of a Redis server is wrong; it has the form redis://"),
        (format!("redis://{wrong}127.0.0.1:{}{trusted}", server.port), "cannot be used with this; it has the form"),
    ];
    let good = url(&right, &trusted);
    let captured = refused_everywhere(&refused, &good);
    let count = captured.ask(&["export", "last"]).lines().count();
    let place = format!("1 workflows in {count} documents to rediss://127.0.0.1:{port}/0 stream provenance\n");
    assert_eq!(shipped(&captured, &["--to", &good, "--stream", "provenance"]), place);
    let (_reader, lines) = crate::queues::printed(&[&good, "--stream", "provenance", "--group", "people"]);
    assert_eq!(crate::queues::wait_for_lines(lines.path(), count).len(), count);
}

#[test]
fn rabbitmq_has_doors() {
    if !need(&["python", "epmd", "apt-get", "openssl"]) {
        return;
    }
    let server = Server::start(SECRET);
    let url = |user: &str, more: &str| format!("amqps://{user}localhost:{}{more}", server.tls_port);
    let authority = |path: &Path| format!("?cacertfile={}", path.display());
    let (trusted, none) = (authority(&server.authority()), authority(Path::new("/nowhere/ca.pem")));
    let (wrong, right) = (format!("alice:{WRONG}@"), format!("alice:{}@", SECRET.replace('-', "%2D")));
    let refused = [
        (url(&wrong, &trusted), "it refuses this user and password"),
        (url(&right, ""), "its certificate is not trusted"),
        (url(&right, &none), "/nowhere/ca.pem cannot be read: No such file"),
        (url(&right, &format!("/nowhere{trusted}")), "nowhere"),
        (url(&wrong, "?verify=none"), "this URL of RabbitMQ has a parameter that flowcept does not know"),
        (url(&wrong, ":x/y"), "this URL of RabbitMQ is wrong; it has the form amqp://"),
        (format!("amqp://{wrong}localhost:{}", server.port), "it refuses this user and password"),
    ];
    let good = url(&right, &trusted);
    let nobody = ship(&example().1, &["--to", &good, "--channel", "provenance", "--wait", "0s"]);
    assert!(said(&nobody).contains("no queue is bound to the exchange provenance"), "{}", said(&nobody));
    known(&server, &["flowcept"]);
    // A cluster has it on several servers, and RabbitMQ 4 does not lose what comes again for the twentieth time.
    let arguments = server.arguments();
    assert!(
        ["x-queue-type", "quorum", "x-delivery-limit", "2147483647"].iter().all(|a| arguments.contains(a)),
        "{arguments}"
    );
    doors_are_locked(&server, &refused, &good);
    // Who may publish and not read may ask whether it works.
    server.admits("bob", SECRET, [".*", ".*", ""]);
    let mut command = std::process::Command::new(binary());
    let url = format!("amqp://bob:{SECRET}@localhost:{}", server.port);
    let output = command.arg("check-services").env("MQ_URI", url).env("MQ_CHANNEL", "provenance").output();
    let output = output.expect("because the binary was just built");
    assert!(output.status.success() && said(&output).contains(" works "), "{}", said(&output));
}

/// A server that wants TLS and a password gets both; who is refused is told why, and no secret is said.
fn doors_are_locked(server: &dyn Lasting, refused: Refused<'_>, good: &str) {
    let captured = refused_everywhere(refused, good);
    let ours = Flowcept::new(None);
    shipped(&captured, &["--to", good, "--channel", "provenance"]);
    let keeper = Keeper::of(good, &ours.database(), &["--channel", "provenance"]);
    settled(server, "flowcept");
    keeper.stop(Signal::SIGTERM);
    assert_eq!(keeper.counts()["kept"].as_u64(), Some(ours.has(&captured) as u64));
}

/// What is refused is told by each command, and no secret with it; what works, too. A run that can be shipped.
fn refused_everywhere(refused: Refused<'_>, good: &str) -> Captured {
    let (_work, captured): (_, Captured) = example();
    for (url, wanted) in refused {
        let output = ship(&captured, &["--to", url, "--channel", "provenance", "--wait", "0s"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{wanted}: {}", said(&output));
        assert!(![SECRET, WRONG].iter().any(|s| said(&output).contains(s)), "{}", said(&output));
    }
    // Whether it works is told the same way.
    for (url, wanted) in refused.iter().map(|(url, wanted)| (&**url, Some(*wanted))).chain([(good, None)]) {
        let mut command = std::process::Command::new(binary());
        let output = command.arg("check-services").env("MQ_URI", url).env("MQ_CHANNEL", "provenance").output();
        let output = output.expect("because the binary was just built");
        assert_eq!(output.status.success(), wanted.is_none(), "{}", said(&output));
        assert!(said(&output).contains(wanted.unwrap_or(" works ")), "{wanted:?}: {}", said(&output));
        assert!(![SECRET, WRONG].iter().any(|s| said(&output).contains(s)), "{}", said(&output));
    }
    let ours = Flowcept::new(None);
    let into = format!("lmdb:{}", ours.database().display());
    for arguments in [vec!["consume", "--into", &into], vec!["stream"]] {
        for (url, wanted) in &refused[..2] {
            let mut command = std::process::Command::new(binary());
            command.args(&arguments).args(["--from", url, "--channel", "provenance"]);
            let output = command.output().expect("because the binary was just built");
            assert_eq!(output.status.code(), Some(1), "{}", said(&output));
            assert!(said(&output).contains(wanted), "{wanted}: {}", said(&output));
            assert!(!said(&output).contains(WRONG), "{}", said(&output));
        }
    }
    captured
}
