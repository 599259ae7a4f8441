//! Flowcept's own services, unmodified, on what its own consumer has taken from us.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use harness::flowcept::{Flowcept, Mq, Web, program};
use harness::host::{need, root};
use harness::mongodb;
use harness::python::python;
use harness::redis;
use harness::run::{Captured, said};
use serde_json::{Value, json};

use crate::sinks::shipped;
use crate::telemetry::ALL;

/// Which steps of the word-frequency pipeline read what another one has written, and began after its end: that is what Flowcept's graph
/// can draw. Steps that are joined by pipes run at the same time.
const DERIVED: [(&str, &str); 9] = [
    ("uniq", "rank.py"),
    ("uniq", "sort"),
    ("uniq", "wc"),
    ("uniq", "grep"),
    ("head", "wc"),
    ("wc", "cat"),
    ("grep", "cat"),
    ("rank.py", "rank.py --merge"),
    ("cat", "rank.py --merge"),
];
/// And what there is between tasks besides, through pipes.
const PIPED: [(&str, &str); 5] = [("cat", "tr"), ("tr", "tr"), ("tr", "sort"), ("sort", "uniq"), ("sort", "head")];
/// Its programs, each with how many tasks.
const STEPS: [(&str, usize); 12] = [
    ("cat", 2),
    ("grep", 1),
    ("head", 1),
    ("mkdir", 1),
    ("mv", 1),
    ("rank.py", 2),
    ("rm", 1),
    ("sort", 2),
    ("tr", 2),
    ("uniq", 1),
    ("wc", 1),
    ("wordcount.sh", 1),
];
const TASKS: usize = 16;

/// The pipeline with all telemetry, under the kernel's probes where there are rights for them.
struct Pipeline {
    _work: tempfile::TempDir,
    captured: Captured,
    /// Its documents; the first is the workflow's.
    documents: Vec<Value>,
}

impl Pipeline {
    fn run() -> Self {
        let work = tempfile::tempdir().expect("because tests may write temporary files");
        let settings = work.path().join("settings.yaml");
        fs::write(&settings, ALL).expect("because the folder is ours");
        let script = root().join("tests/programs/wordcount.sh").to_string_lossy().into_owned();
        // Nobody's own python3 of several programs.
        let environment = [("FLOWCEPT_SETTINGS_PATH", &*settings.to_string_lossy()), ("PATH", "/usr/bin:/bin")];
        let captured = Captured::of(&["sh", &script, "data"], work.path(), &environment);
        let told = captured.ask(&["export", "last"]);
        let documents = told.lines().map(|line| serde_json::from_str(line).expect("because it is JSON")).collect();
        Self { _work: work, captured, documents }
    }

    fn workflow(&self) -> &Value {
        &self.documents[0]
    }

    fn id(&self, name: &str) -> &str {
        self.workflow()[name].as_str().expect("because it is text")
    }

    fn tasks(&self) -> &[Value] {
        &self.documents[1..]
    }

    fn task(&self, name: &str) -> &Value {
        self.tasks().iter().find(|task| named(task) == name).unwrap_or_else(|| panic!("{name} ran"))
    }
}

/// A task by its activity; the second use of a script by its option.
fn named(task: &Value) -> String {
    let merges = task["used"]["command"].as_str().is_some_and(|command| command.contains("--merge"));
    format!("{}{}", task["activity_id"].as_str().unwrap_or_default(), if merges { " --merge" } else { "" })
}

/// Flowcept with the queue and this database, after its consumer has taken the pipeline.
fn consumed(pipeline: &Pipeline, queue: &redis::Server, database: Option<(u16, &str)>) -> Flowcept {
    let theirs = Flowcept::of(Some(Mq::Redis(queue.port)), database);
    let consumer = theirs.consumer();
    queue.wait_for_subscribers(1);
    shipped(&pipeline.captured, &["--to", &queue.url()]);
    sleep(Duration::from_secs(3));
    theirs.stop(consumer);
    // Another reader would have to ask for it again.
    fs::remove_dir_all(pipeline.captured.store.path().join("outlets")).expect("because it was made");
    theirs
}

/// The derived edges of its dataflow graph, by the names of their tasks.
fn derived(graph: &Value) -> BTreeSet<(String, String)> {
    let list = |name: &str| graph[name].as_array().cloned().unwrap_or_default();
    let tasks: BTreeMap<String, String> = list("nodes")
        .iter()
        .filter(|node| node["kind"] == "task")
        .map(|node| (node["id"].as_str().unwrap_or_default().into(), named(&node["stats"])))
        .collect();
    let ends = |relation: &str| -> Vec<(String, String)> {
        let of = |edge: &Value, end: &str| edge[end].as_str().unwrap_or_default().to_string();
        list("edges").iter().filter(|e| e["relation"] == relation).map(|e| (of(e, "source"), of(e, "target"))).collect()
    };
    let (used, generated) = (ends("used"), ends("generated"));
    let mut derived = BTreeSet::new();
    for (output, input) in ends("derived") {
        for (maker, _) in generated.iter().filter(|(_, chunk)| *chunk == output) {
            for (_, user) in used.iter().filter(|(chunk, _)| *chunk == input) {
                derived.insert((tasks[maker].clone(), tasks[user].clone()));
            }
        }
    }
    derived
}

fn pairs(list: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    list.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect()
}

/// The REST service, the graph, the cards, the live streams, the command line and the Python interface.
fn answers(pipeline: &Pipeline, theirs: &Flowcept, is_mongo: bool) {
    assert_eq!(theirs.has(&pipeline.captured), TASKS + 1);
    let web = theirs.web();
    let (workflow, campaign) = (pipeline.id("workflow_id"), pipeline.id("campaign_id"));
    assert_eq!(web.get("/health/ready")["status"], "ready");

    // What there is.
    let found = &web.get("/workflows")["items"];
    assert_eq!((found.as_array().map(Vec::len), &found[0]["workflow_id"]), (Some(1), &json!(workflow)), "{found}");
    let document = web.get(&format!("/workflows/{workflow}"));
    for name in ["name", "status", "user", "campaign_id", "used", "generated", "machine_info", "host_os"] {
        assert_eq!(document[name], pipeline.workflow()[name], "{name}");
    }
    let found = web.get(&format!("/tasks/by_workflow/{workflow}?limit=1000"));
    assert_eq!(found["count"], TASKS, "{found}");
    let uniq = pipeline.task("uniq");
    let found = web.get(&format!("/tasks/{}", uniq["task_id"].as_str().unwrap_or_default()));
    for name in ["activity_id", "used", "generated", "custom_metadata", "telemetry_at_end", "parent_task_id"] {
        assert_eq!(found[name], uniq[name], "{name}");
    }
    // Its consumer adds this to what has telemetry.
    assert!(found["telemetry_summary"]["cpu"]["user_time_diff"].is_number(), "{}", found["telemetry_summary"]);
    let asked = json!({"filter": {"activity_id": "rank.py"}, "projection": ["started_at", "task_id"],
        "sort": [{"field": "started_at", "order": 1}], "limit": 10});
    let found = web.post("/query/tasks", &asked);
    let ids: Vec<_> = found["items"].as_array().into_iter().flatten().map(|task| task["task_id"].clone()).collect();
    let expected = ["rank.py", "rank.py --merge"].map(|name| pipeline.task(name)["task_id"].clone());
    assert_eq!(ids, expected, "{found}");

    // Counts, series and charts.
    let summary = web.get(&format!("/stats/tasks/summary?workflow_id={workflow}"));
    let counts = summary["activity_stats"].as_array().into_iter().flatten();
    let counts: BTreeMap<_, _> = counts
        .map(|row| (row["activity_id"].as_str().unwrap_or_default(), row["count"].as_u64().unwrap_or(0) as usize))
        .collect();
    assert_eq!((&summary["count"], counts), (&json!(TASKS), BTreeMap::from(STEPS)), "{summary}");
    let field = "telemetry_at_end.process.cpu_times.user";
    let series = web.post("/stats/timeseries", &json!({"filter": {"workflow_id": workflow}, "fields": [field]}));
    let rows = series["rows"].as_array().cloned().unwrap_or_default();
    assert!(rows.len() == TASKS && rows.iter().all(|row| row[field].is_number()), "{series}");
    let data = json!({"source": "tasks", "filter": {"workflow_id": workflow}, "group_by": "activity_id",
        "metrics": [{"field": "task_id", "agg": "count"}]});
    let chart = web.post("/stats/chart_data", &json!({"data": data}));
    let rows = chart["rows"].as_array().into_iter().flatten();
    let counts: BTreeMap<_, _> = rows
        .map(|row| {
            (row["activity_id"].as_str().unwrap_or_default(), row["count_task_id"].as_u64().unwrap_or(0) as usize)
        })
        .collect();
    assert_eq!(counts, BTreeMap::from(STEPS), "{chart}");

    // The graph, and what it can draw.
    let graph = web.get(&format!("/workflows/{workflow}/dataflow"));
    assert_eq!((derived(&graph), &graph["truncated"]), (pairs(&DERIVED), &json!(false)));

    // Cards.
    for card in [
        web.text(&format!("/api/v1/workflows/{workflow}/workflow_card?format=markdown"), &[]),
        web.text(&format!("/api/v1/campaigns/{campaign}/workflow_card?format=markdown"), &[]),
        {
            let file = pipeline.captured.store.path().join("card.md").to_string_lossy().into_owned();
            let (id, to) = (format!("--workflow-id={workflow}"), format!("--output-path={file}"));
            theirs.run(&program(), &["--generate-report", &id, &to]);
            fs::read_to_string(&file).expect("because it says so")
        },
    ] {
        for name in ["workflow_id", "host_os", "compute_hardware"] {
            assert!(card.contains(pipeline.id(name)), "{name}: {card}");
        }
        assert!(STEPS.iter().all(|(name, _)| card.contains(name)), "{card}");
        let used = ["CPU", "Memory", "Process", "Disk"].iter().filter(|word| card.contains(**word)).count();
        assert_eq!(used, 4, "what was used: {card}");
    }

    // What comes while one looks on.
    for (path, wanted) in [
        (format!("/stream/tasks?workflow_id={workflow}&since=1&poll_interval=0.2"), TASKS),
        ("/stream/workflows?since=1&poll_interval=0.2".into(), 1),
    ] {
        let events = web.watch(&path, Duration::from_secs(3));
        let ids: BTreeSet<_> = pipeline.documents[usize::from(wanted > 1)..]
            .iter()
            .filter_map(|d| d[if wanted > 1 { "task_id" } else { "workflow_id" }].as_str())
            .filter(|id| events.contains(*id))
            .collect();
        assert_eq!(ids.len(), wanted, "{path}: {events}");
    }

    // Its command line and its Python interface.
    let found = theirs.run(&program(), &["--query", &format!("--filter={}", json!({"activity_id": "grep"}))]);
    assert!(found.contains(pipeline.task("grep")["task_id"].as_str().unwrap_or_default()), "{found}");
    let id = uniq["task_id"].as_str().unwrap_or_default();
    let found = theirs.run(&program(), &["--get-task", &format!("--task-id={id}")]);
    assert!(found.contains(id) && found.contains("uniq"), "{found}");
    let script = root().join("tests/programs/ask_flowcept.py").to_string_lossy().into_owned();
    let found = theirs.run(&python(), &[&script, workflow, campaign]);
    let found: Value = serde_json::from_str(found.trim()).unwrap_or_else(|why| panic!("{why}: {found}"));
    assert_eq!(
        (&found["tasks"], &found["frame"], &found["campaigns"]),
        (&json!(TASKS), &json!(TASKS), &json!([campaign]))
    );
    assert_eq!((&found["name"], &found["status"]), (&pipeline.workflow()["name"], &json!("FINISHED")));
    // `head` may leave before `sort` has written all.
    let mut statuses = BTreeMap::new();
    for task in pipeline.tasks() {
        *statuses.entry(task["status"].as_str().unwrap_or_default()).or_insert(0) += 1;
    }
    assert_eq!(found["statuses"], json!(statuses));
    if is_mongo {
        // The whole tree below its root, which only this database can tell.
        assert_eq!((&found["recursive"], &found["depths"]), (&json!(TASKS), &json!([0, 1])));
    }
}

/// On LMDB, where a program of Flowcept's and one of ours never have it open together.
#[test]
fn flowcept_answers_on_lmdb() {
    if !need(&["python", "redis-cli", "curl"]) {
        return;
    }
    let (pipeline, queue) = (Pipeline::run(), redis::Server::start(&[]));
    answers(&pipeline, &consumed(&pipeline, &queue, None), false);
}

/// On MongoDB; and its pages show the workflow, its tasks, graph and telemetry.
#[test]
fn flowcept_answers_on_mongodb() {
    if !need(&["python", "redis-cli", "curl"]) {
        return;
    }
    let (pipeline, queue, server) = (Pipeline::run(), redis::Server::start(&[]), mongodb::Server::start(&python()));
    let theirs = consumed(&pipeline, &queue, Some((server.port, "flowcept")));
    answers(&pipeline, &theirs, true);
    if need(&["chromium", "chromedriver"]) {
        shows(&pipeline, &theirs.web());
    }
}

fn shows(pipeline: &Pipeline, web: &Web) {
    let workflow = pipeline.id("workflow_id");
    let page = |tab: &str| format!("/workflows/{workflow}?tab={tab}");
    let pages = [
        "/workflows".to_string(),
        page("tasks"),
        page("graph"),
        page("graph#Task Graph"),
        page("graph#Provenance Graph"),
        page("timeline"),
        page("telemetry"),
        page("card"),
    ];
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    fs::create_dir_all(&folder).expect("because the build may write there");
    let script = root().join("tests/programs/look.py");
    let mut command = Command::new(python());
    command.arg(script).arg(web.url("")).arg(folder).args(&pages).stdin(Stdio::null());
    let output = command.output().expect("because the interpreter is there");
    assert!(output.status.success(), "{}", said(&output));
    let seen: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {}", said(&output)));
    let [list, tasks, activities, graph, provenance, timeline, telemetry, card] = seen.as_slice() else {
        panic!("{} pages", seen.len())
    };
    let text = |page: &Value| page["text"].as_str().unwrap_or_default().to_string();
    let texts = |page: &Value, name: &str| -> BTreeSet<String> {
        page[name].as_array().into_iter().flatten().filter_map(|t| t.as_str()).map(String::from).collect()
    };
    let name = pipeline.id("name");
    assert!(text(list).lines().any(|line| line == name) && text(list).contains(&workflow[..8]), "{list}");
    assert!(text(tasks).contains(&format!("{TASKS} tasks")), "{tasks}");
    for (step, count) in STEPS {
        let row = |line: &str| line.starts_with(&format!("{step} {count} ")) && line.contains(" ms ");
        assert!(text(tasks).lines().any(row), "{step}: {tasks}");
    }
    for task in pipeline.tasks() {
        let id = &task["task_id"].as_str().unwrap_or_default()[..8];
        assert!(text(tasks).contains(id), "{id}: {tasks}");
    }
    // Its graph of tasks is what we call dependencies: what was read from files and what came through pipes.
    let by_id: BTreeMap<_, _> =
        pipeline.tasks().iter().map(|t| (t["task_id"].as_str().unwrap_or_default(), named(t))).collect();
    let edges: BTreeSet<_> = texts(graph, "edges")
        .iter()
        .filter_map(|edge| edge.split_once("__"))
        .map(|(from, to)| (by_id[from].clone(), by_id[to].clone()))
        .collect();
    assert_eq!((texts(graph, "nodes").len(), edges), (TASKS, pairs(&[&DERIVED[..], &PIPED].concat())));
    let steps: BTreeSet<String> = STEPS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(texts(activities, "nodes"), steps);
    let between = texts(provenance, "edges").into_iter().filter(|edge| edge.starts_with("chunks_from:")).count();
    assert_eq!(between, DERIVED.len(), "{provenance}");
    for chart in [timeline, telemetry] {
        assert!(chart["drawn"].as_u64().is_some_and(|dots| dots > 5_000), "{}", chart["drawn"]);
    }
    for legend in ["CPU %", "Memory used", "Process CPU %", "Disk read bytes", "Net bytes sent"] {
        assert!(text(telemetry).contains(legend), "{telemetry}");
    }
    assert!(text(card).contains(pipeline.id("host_os")) && text(card).contains("Resource Usage"), "{card}");
}

/// Its MCP server has listened to the queue; its tools answer on what came.
#[test]
fn flowcept_s_tools_answer() {
    if !need(&["python", "redis-cli"]) {
        return;
    }
    let (pipeline, queue) = (Pipeline::run(), redis::Server::start(&[]));
    let theirs = consumed(&pipeline, &queue, None);
    let _agent = theirs.agent();
    queue.wait_for_subscribers(1);
    shipped(&pipeline.captured, &["--to", &queue.url()]);
    sleep(Duration::from_secs(2));
    let (workflow, uniq) = (pipeline.id("workflow_id"), &pipeline.task("uniq")["task_id"]);
    let of_workflow = json!({"filter": {"workflow_id": workflow}});
    let questions = json!([
        ["df_get_task_summary", {}],
        ["df_query_tasks", {"code": "result = df[df['activity_id'] == 'rank.py'][['task_id', 'status']]"}],
        ["df_query_workflows", {}],
        ["run_df_query", {"code": "result = df.groupby('activity_id').size().reset_index(name='tasks')"}],
        ["df_highlight_lineage", {"task_ids": [uniq]}],
        ["df_make_chart", {"result_code": "result = df[['activity_id', 'started_at']]", "plot_code": "st.line_chart(result)"}],
        ["df_list_agents", {}],
        ["get_df_schema_context", {}],
        ["db_query_tasks", of_workflow],
        ["db_get_task_summary", of_workflow],
        ["db_query_workflows", of_workflow],
        ["db_highlight_lineage", {"task_ids": [uniq], "workflow_id": workflow}],
        ["generate_workflow_card", {"workflow_id": workflow}],
    ]);
    let script = root().join("tests/programs/ask_agent.py").to_string_lossy().into_owned();
    let said = theirs.run(&python(), &[&script, &questions.to_string()]);
    let answers: Vec<Value> = serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_default();
    let answer = |tool: &str| -> &Value {
        let place = questions.as_array().into_iter().flatten().position(|q| q[0] == tool);
        let answer = place.and_then(|place| answers.get(place)).unwrap_or_else(|| panic!("{tool}: {said}"));
        assert!(answer["code"].as_u64().is_some_and(|code| (200..400).contains(&code)), "{tool}: {answer}");
        &answer["result"]
    };
    let counts: BTreeMap<String, usize> =
        serde_json::from_value(answer("df_get_task_summary")["activity_task_counts"].clone())
            .unwrap_or_else(|why| panic!("{why}: {said}"));
    assert_eq!(counts, STEPS.map(|(name, count)| (name.to_string(), count)).into());
    let ranked = answer("df_query_tasks").to_string();
    assert!(
        ["rank.py", "rank.py --merge"]
            .iter()
            .all(|name| ranked.contains(pipeline.task(name)["task_id"].as_str().unwrap_or_default()))
    );
    assert_eq!(answer("df_query_workflows")["items"][0]["workflow_id"], workflow);
    let table = answer("run_df_query")["result_df"].as_str().unwrap_or_default();
    assert!(STEPS.iter().all(|(name, count)| table.contains(&format!("{name},{count}\n"))), "{table}");
    assert_eq!(answer("df_highlight_lineage")["task_ids"], json!([uniq]));
    assert!(answer("df_make_chart")["result_df"].as_str().is_some_and(|rows| rows.lines().count() == TASKS + 1));
    assert_eq!(answer("df_list_agents"), &json!([]));
    assert!(answer("get_df_schema_context").to_string().contains("uniq"));
    for tool in ["db_query_tasks", "db_get_task_summary", "db_query_workflows"] {
        let text = answer(tool).to_string();
        assert!(text.contains(workflow) || text.contains("uniq"), "{tool}: {text}");
    }
    assert_eq!(answer("db_highlight_lineage")["task_ids"], json!([uniq]));
    assert!(answer("generate_workflow_card").to_string().contains("uniq"));
    // Its own command asks the same.
    let live = theirs.tool("check_liveness", &json!({}));
    assert_eq!(live["code"], 200, "{live}");
}
