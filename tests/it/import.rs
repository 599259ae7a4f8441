//! Workflows of other nodes, brought by Flowcept's databases and files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use harness::flowcept::{Flowcept, Mq};
use harness::host::{binary, need, root};
use harness::mongodb;
use harness::python::python;
use harness::redis;
use harness::run::{Captured, said};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::sinks::{Keeper, example, shipped};

/// A node that has not traced anything itself.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("because tests may write temporary files"))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.arg("--store").arg(self.0.path()).args(arguments).stdin(Stdio::null());
        command.output().expect("because the binary was just built")
    }

    fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Documents by what they are and their ids, with times to the millisecond, as MongoDB has them.
fn documents(lines: &str) -> BTreeMap<String, Value> {
    let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("because it is JSON"));
    rows.map(|mut row| {
        for name in ["started_at", "ended_at", "utc_timestamp"] {
            if let Some(seconds) = row[name].as_f64() {
                row[name] = json!((seconds * 1000.0).floor() / 1000.0);
            }
        }
        (format!("{} {}", row["type"], row["task_id"]), row)
    })
    .collect()
}

/// What is shown, but for files that documents only count, and in whatever order tasks began together.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.starts_with("and ")).collect();
    lines.sort_unstable();
    lines
}

/// The other node answers as the one that traced it.
fn answers(traced: &Captured, node: &Node, report: &str) {
    assert_eq!(documents(&node.told(&["export", "last"])), documents(&traced.ask(&["export", "last"])));
    assert_eq!(lines(&node.told(&["show", "last"])), lines(&traced.ask(&["show", "last"])));
    let lineage = |text: &str| text.replace('├', "└").lines().map(str::to_string).collect::<Vec<_>>();
    for direction in [&["lineage", report][..], &["lineage", "/usr/share/common-licenses/GPL-3", "--down"]] {
        let (here, there) = (node.told(direction), traced.ask(direction));
        assert_eq!(lineage(&here), lineage(&there), "{direction:?}");
        assert!(here.lines().count() > 8, "{here}");
    }
    for filter in [json!({"activity_id": "rank.py"}), json!({"custom_metadata.process.exit_code": 0}), json!({})] {
        let ids = |text: String| -> Vec<Value> {
            let rows: Vec<Value> = serde_json::from_str(&text).expect("because it is JSON");
            let mut ids: Vec<_> = rows.iter().map(|row| row["task_id"].clone()).collect();
            ids.sort_by_key(Value::to_string);
            ids
        };
        let filter = filter.to_string();
        assert_eq!(ids(node.told(&["query", &filter])), ids(traced.ask(&["query", &filter])), "{filter}");
    }
    let prov: Value =
        serde_json::from_str(&node.told(&["export", "last", "--format", "prov-json"])).expect("because it is JSON");
    let tasks = documents(&traced.ask(&["export", "last"])).len() - 1;
    assert_eq!(prov["activity"].as_object().map(|activities| activities.len() >= tasks), Some(true));
}

#[test]
fn another_node_answers_as_the_one_that_traced_it() {
    if !need(&["python"]) {
        return;
    }
    let (work, traced) = example();
    let report = work.path().join("data/report.txt").to_string_lossy().into_owned();
    let server = mongodb::Server::start(&python());
    let (folder, mongo) = (format!("lmdb:{}", work.path().join("lmdb").display()), server.url("flowcept"));
    shipped(&traced, &["--to", &folder, "--to", &mongo]);
    let file = work.path().join("run.jsonl").to_string_lossy().into_owned();
    let sent = traced.ask(&["export", "last"]);
    fs::write(&file, &sent).expect("because the folder is ours");
    let count = sent.lines().count();
    for place in [&folder, &mongo, &file] {
        let node = Node::new();
        assert_eq!(node.told(&["import", place]), format!("1 workflows in {count} documents taken in\n"), "{place}");
        answers(&traced, &node, &report);
        // From wherever it comes again, it is here.
        let again = node.told(&["import", &folder, &mongo, &file]);
        assert_eq!(again, "0 workflows in 0 documents taken in, 3 were here already\n", "{place}");
        node.told(&["store", "rebuild"]);
        answers(&traced, &node, &report);
    }
    // Whoever traced it has more of it than its documents.
    assert_eq!(traced.ask(&["import", &folder]), "0 workflows in 0 documents taken in, 1 were here already\n");
    // A node that brings together what others have traced can deliver it.
    let node = Node::new();
    node.told(&["import", &file]);
    let further = work.path().join("further.jsonl");
    node.told(&["ship", "--to", &format!("jsonl:{}", further.display())]);
    let delivered = fs::read_to_string(further).expect("because it was delivered");
    assert_eq!(documents(&delivered), documents(&sent));
}

/// What a run of the decorated program is told as: what it called with what, and what came out.
const SHOWN: [&str; 12] = [
    "double x=0 → y=0",
    "double x=1 → y=2",
    "double x=2 → y=4",
    "add a=0 b=0 → total=0",
    "add a=2 b=0 → total=2",
    "add a=4 b=2 → total=6",
    "double x=1 → y=2",
    "double x=1 → y=2",
    "letters_iteration i=0 letter=a",
    "letters_iteration i=1 letter=b",
    "fail x=on purpose  exit 1",
    "coverage: not complete",
];

/// What Flowcept's decorators tell comes through our keeper or as a file of Flowcept's own.
#[test]
fn what_decorators_tell_is_answered() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let queue = redis::Server::start(&[]);
    let (theirs, ours) = (Flowcept::new(Some(Mq::Redis(queue.port))), Flowcept::new(None));
    let keeper = Keeper::of(&queue.url(), &ours.database(), &[]);
    queue.wait_for_subscribers(1);
    let program = root().join("tests/programs/produce.py").to_string_lossy().into_owned();
    let printed = theirs.run(&python(), &[&program]);
    let workflow = printed.lines().last().unwrap_or_default();
    sleep(Duration::from_secs(2));
    keeper.stop(Signal::SIGTERM);
    keeper.counts();
    let node = Node::new();
    let taken = node.told(&["import", &format!("lmdb:{}", ours.database().display()), "--workflow", workflow]);
    assert_eq!(taken, "1 workflows in 12 documents taken in\n");
    is_told(&node, workflow, "decorated");
    // As its own Python has it in the database.
    let file = node.0.path().join("filters");
    fs::write(&file, "{}\n").expect("because the folder is ours");
    let script = root().join("tests/programs/ask_database.py");
    let stored = ours.run(&python(), &[&script.to_string_lossy(), &file.to_string_lossy()]);
    let stored: Vec<Vec<Value>> = serde_json::from_str(&stored).expect("because it is JSON");
    let mut told: Vec<Value> = serde_json::from_str(&node.told(&["query", "{}"])).expect("because it is JSON");
    let mut stored = stored[0].clone();
    [&mut told, &mut stored].into_iter().for_each(|rows| rows.sort_by_key(|row| row["task_id"].to_string()));
    assert_eq!(told, stored);

    // Offline Flowcept leaves a file.
    let work = tempfile::tempdir().expect("because tests may write temporary files");
    let settings = work.path().join("settings.yaml");
    fs::write(&settings, "project: {db_flush_mode: offline, dump_buffer: {enabled: true, path: buffer.jsonl}}\n")
        .expect("because the folder is ours");
    let mut offline = Command::new(python());
    offline.arg(&program).current_dir(work.path()).env("FLOWCEPT_SETTINGS_PATH", settings).env("HOME", work.path());
    let output = offline.stdin(Stdio::null()).output().expect("because the interpreter is there");
    assert!(output.status.success(), "{}", said(&output));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let node = Node::new();
    let taken = node.told(&["import", &work.path().join("buffer.jsonl").to_string_lossy()]);
    assert_eq!(taken, "1 workflows in 12 documents taken in\n");
    is_told(&node, printed.lines().last().unwrap_or_default(), "decorated");
}

fn is_told(node: &Node, workflow: &str, name: &str) {
    let listed: Value = serde_json::from_str(&node.told(&["workflows", "--json"])).expect("because it is JSON");
    assert_eq!((&listed[0]["workflow_id"], &listed[0]["name"]), (&json!(workflow), &json!(name)));
    let shown = node.told(&["show", workflow]);
    for wanted in SHOWN {
        let expected = SHOWN.iter().filter(|other| **other == wanted).count();
        let found = shown.lines().filter(|line| line.trim() == wanted).count();
        assert_eq!(found, expected, "{wanted}: {shown}");
    }
    assert!(shown.contains("instrumented ×1: the program told this itself"), "{shown}");
    assert_eq!(
        node.told(&["show", "--failed", workflow]).lines().filter(|line| line.contains("fail x=on purpose")).count(),
        1
    );
    let found: Vec<Value> =
        serde_json::from_str(&node.told(&["query", r#"{"activity_id": "add"}"#, "--sort", "started_at"]))
            .expect("because it is JSON");
    let totals: Vec<_> = found.iter().map(|task| task["generated"]["total"].clone()).collect();
    assert_eq!(totals, [json!(0), json!(2), json!(6)]);
    // A task by its id, which is no UUID.
    let id = found[0]["task_id"].as_str().unwrap_or_default();
    assert!(node.told(&["show", id]).contains("add a=0 b=0 → total=0"));
    let exported = documents(&node.told(&["export", workflow]));
    assert_eq!(exported.len(), 12);
    let failed = exported.values().find(|d| d["activity_id"] == "fail").expect("because it failed");
    assert_eq!((&failed["status"], &failed["stderr"]), (&json!("ERROR"), &json!("on purpose")));
}

/// What cannot be taken is named, with what to do; the rest is taken.
#[test]
fn what_cannot_be_taken_is_named() {
    let (work, traced) = example();
    let at = |name: &str| work.path().join(name).to_string_lossy().into_owned();
    let sent = traced.ask(&["export", "last"]);
    let count = sent.lines().count();
    let node = Node::new();
    let refused = |arguments: &[&str], wanted: &str| {
        let output = node.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(wanted), "{arguments:?}: {}", said(&output));
    };
    refused(&["import", &at("none.jsonl")], &format!("open {}: No such file", at("none.jsonl")));
    refused(&["import", &format!("lmdb:{}", at("none"))], &format!("there is no database in {}", at("none")));
    assert!(!Path::new(&at("none")).exists());
    refused(
        &["import", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300"],
        "mongodb://127.0.0.1:1/flowcept: no server answers",
    );

    const SECRET: &str = "tr0ub4dor-and-3";
    for (place, wanted) in [
        (format!("redis://:{SECRET}@127.0.0.1"), "redis:// is nothing to import from; there are mongodb://"),
        (format!("mongodb+srv://u:{SECRET}@h"), "mongodb+srv:// is nothing to import from"),
        (format!("mongodb://u:{SECRET}@127.0.0.1:1/?serverSelectionTimeoutMS=300"), "no server answers"),
    ] {
        let output = node.run(&["import", &place, "--workflow", "w"]);
        assert!(said(&output).contains(wanted) && !said(&output).contains(SECRET), "{}", said(&output));
    }

    // Of a file with damaged lines all others are taken.
    let agent = json!({"type": "agent", "agent_id": "a", "name": "n"});
    let nobody = json!({"type": "task", "task_id": "lost", "activity_id": "x"});
    fs::write(at("damaged.jsonl"), format!("{agent}\n{sent}\n{{\"type\": \"tas\n{nobody}\n"))
        .expect("because the folder is ours");
    let output = node.run(&["import", &at("damaged.jsonl")]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for wanted in [
        &format!("{}:{}: EOF while parsing", at("damaged.jsonl"), count + 3),
        "the task \"lost\" names no workflow",
        &format!("1 workflows in {count} documents taken in; 1 documents are of no task and no workflow\n"),
    ] {
        assert!(said(&output).contains(wanted), "{wanted}: {}", said(&output));
    }
    refused(&["import", &at("damaged.jsonl"), "--workflow", "nobody"], "there is no workflow nobody in");

    // Of whom there are only tasks, all of them are tasks.
    let tasks: Vec<&str> = sent.lines().skip(1).collect();
    fs::write(at("tasks.jsonl"), tasks.join("\n")).expect("because the folder is ours");
    let node = Node::new();
    node.told(&["import", &at("tasks.jsonl")]);
    let counted: Value = serde_json::from_str(&node.told(&["workflow-count", "last"])).expect("because it is JSON");
    assert_eq!((&counted["tasks"], &counted["workflows"]), (&json!(count - 1), &json!(0)));
    let shown: Value = serde_json::from_str(&node.told(&["show", "last", "--json"])).expect("because it is JSON");
    assert_eq!((shown["tasks"].as_array().map(Vec::len), &shown["workflow"]), (Some(count - 1), &Value::Null));
    assert!(node.told(&["show", "last"]).contains("no_workflow ×1"));

    // A workflow that has gone on replaces what was there of it, which lineage then knows.
    let first: Vec<&str> = sent.lines().take(3).collect();
    fs::write(at("part.jsonl"), first.join("\n")).expect("because the folder is ours");
    fs::write(at("whole.jsonl"), &sent).expect("because the folder is ours");
    let node = Node::new();
    node.told(&["import", &at("part.jsonl")]);
    assert!(!node.run(&["lineage", &at("data/report.txt")]).status.success());
    let taken = node.told(&["import", &at("whole.jsonl")]);
    assert_eq!(taken, format!("1 workflows in {count} documents taken in, 1 replaced what came before\n"));
    assert!(node.told(&["lineage", &at("data/report.txt")]).contains("rank.py"));
    assert_eq!(documents(&node.told(&["export", "last"])).len(), count);
}

/// While a program of Flowcept's has the database open ours says so, and touches nothing.
#[test]
fn a_database_that_is_open_is_not_read() {
    if !need(&["python"]) {
        return;
    }
    let (_work, traced) = example();
    let theirs = Flowcept::new(None);
    let folder = format!("lmdb:{}", theirs.database().display());
    shipped(&traced, &["--to", &folder]);
    let holder = theirs.holder();
    let node = Node::new();
    let output = node.run(&["import", &folder]);
    assert!(
        said(&output).contains("a program of Flowcept has it open: try again once that has closed it"),
        "{}",
        said(&output)
    );
    drop(holder);
    assert!(node.told(&["import", &folder]).contains("1 workflows"));
}
