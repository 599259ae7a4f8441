//! MongoDB, written by us and read by Flowcept.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use flowcept_agent::formats::flowcept::packed;
use harness::flowcept::{Flowcept, Mq, program};
use harness::host::{binary, need, root};
use harness::mongodb::Server;
use harness::python::python;
use harness::redis;
use harness::run::{Captured, said, until};
use harness::server::Lasting;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::queues::settled;
use crate::sinks::{Keeper, command, example, files, shipped};
use crate::streams::lasting;

/// Our keeper makes the same of what Flowcept's decorators and we publish as its own consumer does, and Flowcept answers on it.
#[test]
fn the_keeper_keeps_what_flowcept_keeps_in_mongodb() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let (queue, server) = (redis::Server::start(&[]), Server::start(&python()));
    let theirs = Flowcept::of(Some(Mq::Redis(queue.port)), Some((server.port, "theirs")));
    let ours = Flowcept::of(None, Some((server.port, "ours")));
    let keeper = Keeper::into(&queue.url(), &server.url("ours"), &[]);
    queue.wait_for_subscribers(1);
    let consumer = theirs.consumer();
    until("both to listen", || queue.ask(&["client", "list", "type", "pubsub"]).lines().count() >= 2);
    theirs.run(&python(), &[&root().join("tests/programs/produce.py").to_string_lossy()]);
    shipped(&captured, &["--to", &queue.url()]);
    sleep(Duration::from_secs(4));
    theirs.stop(consumer);
    let counts = keeper.counts();
    assert_eq!(counts["aside"], 0, "{counts}");
    let count = ours.has(&captured);
    let script = root().join("tests/programs/compare_mongo.py").to_string_lossy().into_owned();
    let equal = theirs.run(&python(), &[&script, &server.url(""), "theirs", "ours"]);
    let documents: usize = equal.split(' ').next().and_then(|n| n.parse().ok()).expect("because it says how many");
    // Of the program: 3 + 3 + 2 calls, 2 iterations, 1 failure, the workflow.
    assert!(documents >= count + 12, "{equal}");
}

/// What is delivered without a queue is there once, also where the server is killed meanwhile and comes back.
#[test]
fn a_database_that_comes_back() {
    if !need(&["python"]) {
        return;
    }
    let (_work, captured) = example();
    let mut server = Server::start(&python());
    let ours = Flowcept::of(None, Some((server.port, "flowcept")));
    server.kill();
    // The database is Flowcept's default.
    let to = server.url("");
    let store = captured.store.path();
    let mut waiting = command(store, &["--to", &to, "--wait", "60s"]);
    let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("because the binary is there");
    sleep(Duration::from_millis(500));
    server.restart();
    let output = waiting.wait_with_output().expect("because it was started");
    assert!(output.status.success(), "{}", said(&output));
    let count = ours.has(&captured);
    assert_eq!(said(&output), format!("1 workflows in {count} documents to {to}flowcept\n"));
    // Without its cursor all is delivered again, to the same documents.
    fs::remove_dir_all(store.join("outlets")).expect("because it was made");
    shipped(&captured, &["--to", &to]);
    assert_eq!(ours.has(&captured), count);
}

/// The data files of tasks are Flowcept's objects, each version one, whether they come to the database by a queue or without: of what
/// kind, called what, and whose.
#[test]
fn files_are_objects() {
    if !need(&["python", "redis-cli", "curl"]) {
        return;
    }
    let (work, captured) = example();
    let (queue, server) = (lasting(), Server::start(&python()));
    let keeper = Keeper::into(&queue.url(), &server.url("kept"), &["--stream", "provenance"]);
    shipped(&captured, &["--to", &queue.url(), "--stream", "provenance"]);
    settled(&queue, "flowcept");
    keeper.stop(Signal::SIGTERM);
    // Twice, to the same objects.
    for _ in 0..2 {
        shipped(&captured, &["--to", &server.url("direct")]);
        fs::remove_dir_all(captured.store.path().join("outlets")).expect("because it was made");
    }
    // What wordcount.sh says: nothing of rank.py, which is no data, nor of the temporary n.tmp. A Python that is found by scripts has
    // files of its own.
    let mut wanted = vec![
        "input_file Apache-2.0 cat",
        "input_file GPL-2 cat",
        "input_file GPL-3 cat",
        "output_file counts.tmp uniq",
        "output_file ranked.txt rank.py",
        "output_file report.txt rank.py",
        "output_file summary.txt cat",
        "output_file summary.txt head",
        "output_file summary.txt wc",
    ];
    wanted.sort_unstable();
    let id = captured.told().workflow.id;
    for database in ["direct", "kept"] {
        let theirs = Flowcept::of(None, Some((server.port, database)));
        let web = theirs.web();
        let objects = &web.get(&format!("/objects?workflow_id={id}&limit=100"))["items"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let told = |object: &Value| {
            let file = &object["custom_metadata"];
            let path = text(if file["made_path"].is_null() { &file["used_path"] } else { &file["made_path"] });
            let folder = ["/usr/share/common-licenses".as_ref(), work.path()];
            let task = web.get(&format!("/tasks/{}", text(&object["task_id"])));
            let name = path.rsplit('/').next().unwrap_or_default();
            let line = format!("{} {name} {}", text(&object["object_type"]), text(&task["activity_id"]));
            folder.iter().any(|folder| Path::new(&path).starts_with(folder)).then_some(line)
        };
        let mut found: Vec<String> = objects.as_array().into_iter().flatten().filter_map(told).collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "{database}: {objects}");
        let one = text(&objects[0]["object_id"]);
        assert_eq!(web.get(&format!("/objects/{one}"))["object_id"], one);
        let card = web.text(&format!("/api/v1/workflows/{id}/workflow_card?format=markdown"), &[]);
        assert!(card.contains("input_file") && card.contains("output_file"), "{card}");
    }
}

/// {"type": "task", "task_id": "p", "used": {"n": 2^64 - 1}}, which MongoDB does not take.
const POISON: &[u8] = b"\x83\xa4type\xa4task\xa7task_id\xa1p\xa4used\x81\xa1n\xcf\xff\xff\xff\xff\xff\xff\xff\xff";

/// Ships while the database is killed: nothing is settled then, and all is once it is back.
fn shipped_meanwhile(captured: &Captured, queue: &redis::Server, database: &mut Server) {
    shipped(captured, &["--to", &queue.url(), "--stream", "provenance"]);
    sleep(Duration::from_secs(2));
    assert!(!queue.has_settled("flowcept"));
    database.restart();
    settled(queue, "flowcept");
}

/// What a keeper cannot write while the server is away it has when it comes back, all of a program that reads 20,000 files; what MongoDB
/// does not take is set aside.
#[test]
fn a_keeper_waits_for_its_database() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (work, captured) = files(20_000);
    let (queue, mut server) = (lasting(), Server::start(&python()));
    let ours = Flowcept::of(None, Some((server.port, "ours")));
    let store = work.path().join("store").display().to_string();
    let keeper = Keeper::into(&queue.url(), &server.url("ours"), &["--store", &store, "--stream", "provenance"]);
    queue.put(POISON);
    settled(&queue, "flowcept");
    server.kill();
    shipped_meanwhile(&captured, &queue, &mut server);
    keeper.stop(Signal::SIGTERM);
    let counts = keeper.counts();
    let kept = ours.has(&captured);
    assert_eq!((counts["kept"].as_u64(), counts["aside"].as_u64()), (Some(kept as u64), Some(1)), "{counts}");
    let reasons =
        fs::read_to_string(work.path().join("store/quarantine/reasons.jsonl")).expect("because it was written");
    assert!(reasons.contains("`n` is 18446744073709551615, and MongoDB has no such integer"), "{reasons}");
}

/// A keeper fills both databases, as Flowcept's consumer does; where one is away nothing is settled until it is back.
#[test]
fn a_keeper_fills_both_databases() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (_work, captured) = example();
    let (queue, mut server) = (lasting(), Server::start(&python()));
    let (in_files, in_mongo) = (Flowcept::new(None), Flowcept::of(None, Some((server.port, "ours"))));
    let keeper = Keeper::of_queue(&queue, &in_files.database(), &["--into", &server.url("ours")]);
    // {"type": "workflow", "workflow_id": "first"}
    queue.put(b"\x82\xa4type\xa8workflow\xabworkflow_id\xa5first");
    // A keeper that shares the queue may be slower with the begin of a task than this one with its end.
    queue.put(&packed(
        &json!({"type": "task", "task_id": "t", "status": "FINISHED", "activity_id": "end", "generated": {"a": 1}}),
    ));
    settled(&queue, "flowcept");
    queue.put(&packed(
        &json!({"type": "task", "task_id": "t", "status": "RUNNING", "activity_id": "begin", "used": {"b": 2},
        "generated": {"a": 0, "c": 3}}),
    ));
    settled(&queue, "flowcept");
    server.kill();
    queue.put(POISON);
    shipped_meanwhile(&captured, &queue, &mut server);
    keeper.stop(Signal::SIGTERM);
    let counts = keeper.counts();
    let kept = in_files.has(&captured);
    assert_eq!(in_mongo.has(&captured), kept);
    assert_eq!((counts["kept"].as_u64(), counts["aside"].as_u64()), (Some(kept as u64 + 3), Some(1)), "{counts}");
    for theirs in [&in_files, &in_mongo] {
        let said = theirs.run(&program(), &["--get-task", "--task-id=t"]);
        let found: Value = serde_json::from_str(&said).unwrap_or_else(|why| panic!("{why}: {said}"));
        let fields = ["status", "activity_id", "used", "generated"].map(|name| found[0][name].clone());
        assert_eq!(fields, [json!("FINISHED"), json!("end"), json!({"b": 2}), json!({"a": 1, "c": 3})], "{said}");
    }
    let into = format!("lmdb:{} and {}", in_files.database().display(), server.url("ours"));
    assert_eq!(counts["into"], into);
    let reasons = fs::read_to_string(in_files.database().join("quarantine/reasons.jsonl"));
    let reasons = reasons.expect("because it was written");
    assert!(reasons.contains("MongoDB has no such integer"), "{reasons}");
}

/// A server that wants TLS and a password gets both; who is refused is told why, and no secret is said.
#[test]
fn mongodb_has_doors() {
    const SECRET: &str = "c0rrect-h0rse-battery-staple";
    const WRONG: &str = "hunter2-and-more";
    if !need(&["python", "openssl"]) {
        return;
    }
    let (_work, captured) = example();
    let server = Server::locked(&python(), SECRET);
    let url = |user: &str, more: &str| format!("mongodb://{user}localhost:{}/?{more}", server.port);
    let tls = format!("tls=true&tlsCAFile={}", server.authority().display());
    let (wrong, right) = (format!("alice:{WRONG}@"), format!("alice:{SECRET}@"));
    let refused = [
        (url(&wrong, &tls), "it refuses this user and password"),
        (url(&right, "tls=true"), "its certificate is not trusted"),
        (url("", &tls), "it does not allow this to the user"),
        (url(&wrong, "tls=true&tlsCAFile=/nowhere/ca.pem"), "open /nowhere/ca.pem: No such file"),
        (url(&wrong, "tsl=true"), "this URL of MongoDB is wrong; it has the form mongodb://"),
    ];
    for (url, wanted) in &refused {
        for arguments in
            [vec!["ship", "--wait", "0s", "--to"], vec!["consume", "--from", "redis://127.0.0.1:1", "--into"]]
        {
            let mut command = Command::new(binary());
            command.arg("--store").arg(captured.store.path()).args(&arguments).arg(url);
            let output = command.stdin(Stdio::null()).output().expect("because the binary was just built");
            assert_eq!(output.status.code(), Some(1), "{arguments:?} {}", said(&output));
            assert!(said(&output).contains(wanted), "{arguments:?} {wanted}: {}", said(&output));
            assert!(![SECRET, WRONG].iter().any(|s| said(&output).contains(s)), "{}", said(&output));
        }
    }
    let to = url(&right, &tls);
    let told = shipped(&captured, &["--to", &to]);
    let count = captured.ask(&["export", "last"]).lines().count();
    assert_eq!(told, format!("1 workflows in {count} documents to mongodb://localhost:{}/flowcept\n", server.port));
    let script = "import pymongo, sys; d = pymongo.MongoClient(sys.argv[1]).flowcept; print(d.tasks.count_documents({}) + d.workflows.count_documents({}))";
    let counted = Command::new(python()).args(["-c", script, &to]).output().expect("because the interpreter is there");
    assert_eq!(said(&counted).trim(), count.to_string());
}
