//! Telemetry of tasks beside Flowcept's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use harness::host::{binary, need, root};
use harness::python::python;
use harness::run::said;
use serde_json::Value;

pub(crate) const ALL: &str =
    "telemetry_capture: {cpu: true, per_cpu: true, process_info: true, mem: true, disk: true, network: true}";

/// What Flowcept tells of a process that lives, and nobody can of one that has ended; and the clock rate, which costs more to ask for
/// than all the rest.
const NOT_OURS: [&str; 19] = [
    "cpu.frequency",
    "process.cpu_number",
    "process.memory.vms",
    "process.memory.shared",
    "process.memory.text",
    "process.memory.lib",
    "process.memory.data",
    "process.memory.dirty",
    "process.cpu_times.children_user",
    "process.cpu_times.children_system",
    "process.cpu_times.iowait",
    "process.io_counters.read_count",
    "process.io_counters.write_count",
    "process.num_open_file_descriptors",
    "process.num_connections",
    "process.num_open_files",
    "process.num_threads",
    "process.num_ctx_switches.voluntary",
    "process.num_ctx_switches.involuntary",
];

/// The leaves of telemetry by their names; what is told by device or CPU is one leaf.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    fn walk(name: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(map) if !name.contains("_per_") => {
                for (key, value) in map {
                    walk(&format!("{name}{}{key}", if name.is_empty() { "" } else { "." }), value, out);
                }
            }
            leaf => drop(out.insert(name.to_string(), leaf.clone())),
        }
    }
    let mut out = BTreeMap::new();
    walk("", value, &mut out);
    out
}

/// The tasks of a program that runs with these settings and variables, and what it printed.
fn traced(source: &str, settings: &str, variables: &[(&str, &str)], command: &[&str]) -> (Vec<Value>, String) {
    let work = tempfile::tempdir().expect("because tests may write temporary files");
    let file = work.path().join("settings.yaml");
    fs::write(&file, settings).expect("because the folder is ours");
    let store = work.path().join("store");
    let ours = || {
        let mut ours = Command::new(binary());
        ours.arg("--settings").arg(&file).arg("--store").arg(&store).current_dir(work.path()).stdin(Stdio::null());
        ours
    };
    let mut ran = ours();
    let ran = ran.args(["run", "--source", source, "--"]).args(command).envs(variables.iter().copied());
    let ran = ran.env("FLOWCEPT_SETTINGS_PATH", &file).output();
    let ran = ran.expect("because the binary was just built");
    assert!(ran.status.success(), "{}", said(&ran));
    let told = ours().args(["export", "last"]).output().expect("because it ran before");
    assert!(told.status.success(), "{}", said(&told));
    let lines = String::from_utf8_lossy(&told.stdout).into_owned();
    let documents = lines.lines().map(|line| serde_json::from_str(line).expect("because it is JSON"));
    (documents.filter(|d: &Value| d["type"] == "task").collect(), String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// Flowcept's keys and numbers: what it sees itself, from inside a task, lies between what we tell of the task's begin and end.
fn is_flowcept_s(source: &str) {
    let script = root().join("tests/programs/telemetry.py").to_string_lossy().into_owned();
    let (tasks, printed) = traced(source, ALL, &[], &[&python().to_string_lossy(), &script]);
    let theirs: Vec<_> = printed
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(|telemetry: Value| leaves(&telemetry))
        .collect();
    let [their_start, their_end] = theirs.as_slice() else { panic!("{printed}") };
    let task = tasks.iter().find(|t| t["activity_id"] == "telemetry.py").expect("because it ran");
    let [start, end] = ["telemetry_at_start", "telemetry_at_end"].map(|name| leaves(&task[name]));

    let names = |leaves: &BTreeMap<String, Value>| leaves.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&start), names(&end));
    let known: BTreeSet<String> = NOT_OURS.map(String::from).into();
    let missing: Vec<_> =
        names(their_end).difference(&names(&end)).filter(|name| !known.contains(*name)).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    let more: Vec<_> = names(&end).difference(&names(their_end)).cloned().collect();
    let of_its_page = |name: &String| name.starts_with("disk.io.") || name.starts_with("network.netio.");
    assert!(more.iter().all(of_its_page) && more.len() == 9 + 8, "{more:?}");

    let number = |leaves: &BTreeMap<String, Value>, name: &str| {
        leaves[name].as_f64().unwrap_or_else(|| panic!("{name}: {}", leaves[name]))
    };
    let growing =
        ["cpu.times_avg.user", "cpu.times_avg.system", "memory.swap.sin", "memory.swap.sout"].map(String::from);
    let growing = growing.into_iter().chain(
        names(&end)
            .into_iter()
            .filter(|name| name.starts_with("disk.io_sum.") || name.starts_with("network.netio_sum.")),
    );
    for name in growing {
        let values = [&start, their_start, their_end, &end].map(|leaves| number(leaves, &name));
        assert!(values.is_sorted(), "{name}: {values:?}");
    }
    for name in ["memory.virtual.total", "memory.swap.total", "disk.disk_usage.total"] {
        assert_eq!(number(&end, name), number(their_end, name), "{name}");
    }
    for name in ["process.pid", "process.executable", "process.cmd_line"] {
        assert_eq!(end[name], their_end[name], "{name}");
    }
    let lists = ["cpu.times_per_cpu", "cpu.percent_per_cpu"];
    assert!(lists.iter().all(|name| end[*name].as_array().map(Vec::len) == their_end[*name].as_array().map(Vec::len)));
    for name in ["memory.virtual.percent", "disk.disk_usage.percent"] {
        assert!((number(&end, name) - number(their_end, name)).abs() < 10.0, "{name}");
    }
    for name in ["cpu.percent_all", "process.cpu_percent"] {
        assert!((1.0..=400.0).contains(&number(&end, name)), "{name}: {}", end[name]);
    }
    // The task as a whole has cost what it had cost before its end, and a little more; a tick is 10 ms.
    let cpu = |leaves| number(leaves, "process.cpu_times.user") + number(leaves, "process.cpu_times.system");
    assert!(cpu(&end) >= cpu(their_end) - 0.02 && cpu(&end) < cpu(their_end) + 5.0, "{} {}", cpu(&end), cpu(their_end));
    let memory = |leaves| number(leaves, "process.memory.rss");
    assert!(memory(&end) >= memory(their_end) * 0.9, "{} {}", memory(&end), memory(their_end));
    assert!(start.iter().all(|(name, value)| !name.starts_with("process.cpu_times") || value == &Value::from(0.0)));
    assert!(number(&end, "process.io_counters.read_chars") > 1_000_000.0, "{}", end["process.io_counters.read_chars"]);
}

#[test]
fn telemetry_is_flowcept_s_by_the_kernel() {
    if need(&["bpf", "python"]) {
        is_flowcept_s("ebpf");
    }
}

#[test]
fn telemetry_is_flowcept_s_from_inside() {
    if need(&["python"]) {
        is_flowcept_s("preload");
    }
}

/// Nobody gets telemetry who has not asked for it, and each kind by itself.
#[test]
fn telemetry_is_asked_for() {
    let kinds = [
        ("cpu", "cpu"),
        ("per_cpu", "cpu"),
        ("process_info", "process"),
        ("mem", "memory"),
        ("disk", "disk"),
        ("network", "network"),
    ];
    let blocks = |settings: &str, variables: &[(&str, &str)]| {
        let (tasks, _) = traced("preload", settings, variables, &["true"]);
        let [task] = tasks.as_slice() else { panic!("{tasks:?}") };
        let keys = |name: &str| {
            task.get(name)
                .map(|block| block.as_object().expect("because it is a map").keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(keys("telemetry_at_start"), keys("telemetry_at_end"));
        keys("telemetry_at_end")
    };
    assert_eq!(blocks("", &[]), None);
    assert_eq!(blocks(ALL, &[("TELEMETRY_ENABLED", "false")]), None);
    for (kind, block) in kinds {
        assert_eq!(
            blocks(&format!("telemetry_capture: {{{kind}: true}}"), &[]),
            Some(vec![block.to_string()]),
            "{kind}"
        );
    }
}
