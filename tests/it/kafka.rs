//! What Kafka has of its own: Flowcept's clients of it, and its doors.

use std::thread::sleep;
use std::time::Duration;

use harness::host::{binary, need, root};
use harness::kafka::{Broker, Doors};
use harness::server::Lasting;
use nix::sys::signal::Signal;

use crate::export::python;
use crate::queues::settled;
use crate::sinks::{Flowcept, Keeper, Mq, example, program, said, ship, shipped};

/// Flowcept's own consumer of a topic takes what we publish, and our keeper makes the same as it of that and of what its decorators
/// publish.
#[test]
fn flowcept_and_our_keeper_share_a_topic() {
    if !need(&["python", "java", "mvn"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Broker::start(Doors::Open);
    let (theirs, ours) = (Flowcept::new(Some(Mq::Kafka(server.port()))), Flowcept::new(None));
    shipped(&captured, &["--to", &server.url(), "--channel", "provenance"]);
    theirs.run(&python(), &[&root().join("tests/programs/produce.py").to_string_lossy()]);
    let mut consumer = theirs.consumer();
    let keeper = Keeper::of_queue(&server, &ours.database(), &[]);
    ["flowcept", "theirs"].iter().for_each(|group| settled(&server, group));
    // Its buffer is written within a second.
    sleep(Duration::from_secs(3));
    theirs.run(&program(), &["--stop-consumption-services"]);
    consumer.0.wait().expect("because it was started");
    let counts = keeper.counts();
    assert_eq!(counts["aside"], 0, "{counts}");
    theirs.has(&captured);
    // Of the program: 3 + 3 + 2 calls, 2 iterations, 1 failure, the workflow.
    let documents = ours.equals(&theirs);
    assert!(documents >= ours.has(&captured) + 12, "{documents}");
}

/// A broker that wants TLS and a password gets both; who is refused is told why, and no secret is said.
#[test]
fn doors_are_locked() {
    const SECRET: &str = "c0rrect-h0rse+battery/staple";
    const WRONG: &str = "hunter2-and-more";
    if !need(&["python", "java", "mvn"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Broker::start(Doors::Locked(SECRET));
    let url = |scheme: &str, user: &str, more: &str| format!("{scheme}://{user}127.0.0.1:{}{more}", server.port());
    let authority = format!("?ssl.ca.location={}", server.authority().display());
    let wrong = format!("alice:{WRONG}@");
    let right = format!("alice:{}@", SECRET.replace('+', "%2B").replace('/', "%2F"));
    let tries = [
        (url("kafkas", &wrong, &authority), "it refuses this user and password"),
        (url("kafkas", &right, ""), "its certificate is not trusted"),
        (url("kafkas", "", &authority), "provenance: "),
        (url("kafka", &wrong, ""), "provenance: "),
        (url("kafkas", &wrong, "?ssl.key.passphrase=hunter2-and-more"), "librdkafka does not take the property"),
        (url("kafkas", &wrong, ":x/y"), "this URL of Kafka is wrong; it has the form kafka://"),
        (url("kafkas", "alice@", ""), "this URL of Kafka has no password"),
    ];
    for (url, wanted) in &tries {
        let output = ship(&captured, &["--to", url, "--channel", "provenance", "--wait", "0s"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{wanted}: {}", said(&output));
        assert!(![SECRET, WRONG].iter().any(|s| said(&output).contains(s)), "{}", said(&output));
    }
    let ours = Flowcept::new(None);
    let into = format!("lmdb:{}", ours.database().display());
    for (arguments, (url, wanted)) in
        [(vec!["consume", "--into", &into], &tries[0]), (vec!["stream"], &tries[0]), (vec!["stream"], &tries[1])]
    {
        let mut command = std::process::Command::new(binary());
        command.args(arguments).args(["--from", url, "--channel", "provenance"]);
        let output = command.output().expect("because the binary was just built");
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{wanted}: {}", said(&output));
        assert!(!said(&output).contains(WRONG), "{}", said(&output));
    }
    let good = url("kafkas", &right, &authority);
    shipped(&captured, &["--to", &good, "--channel", "provenance"]);
    let keeper = Keeper::of(&good, &ours.database(), &["--channel", "provenance"]);
    settled(&server, "flowcept");
    keeper.stop(Signal::SIGTERM);
    assert_eq!(keeper.counts()["kept"].as_u64(), Some(ours.has(&captured) as u64));
}
